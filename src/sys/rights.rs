//! What this process may do beside the rights of its user: capabilities, privileges of programs that it runs, modes
//! of new files, core dumps. Every function here takes rights away; none gives them back.
//!
//! Each call concerns the calling thread and the threads that it starts later, so all calls are made before the first
//! thread. They fail only on kernels older than this program supports.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::io;

/// For every process that serves, also as root: programs that it runs gain no rights from set-id bits or file
/// capabilities, and new files are readable only by their owner. Modes that others need are set explicitly.
///
/// # Errors
/// The kernel is older than 3.5.
pub fn restrain() -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    Ok(set_no_new_privs(true)?)
}

/// Gives up every capability for good, including those that a service manager gives to a user other than root.
///
/// # Errors
/// No cause is known.
pub fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    // The ambient set is always a subset of these, and becomes empty with them.
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Keeps, of root's capabilities, those that the delivery agent needs, and drops all others for good. In effect are only
/// those to act as another user; see [`super::identity`].
///
/// # Errors
/// The process does not have these capabilities.
pub fn keep_for_delivery() -> io::Result<()> {
    put_into_effect(CapabilitySet::empty())
}

/// Puts `rights` of the delivery agent into effect for the calling thread, beside those to act as another user.
pub(super) fn put_into_effect(rights: CapabilitySet) -> io::Result<()> {
    let to_act = CapabilitySet::SETUID | CapabilitySet::SETGID;
    let kept = to_act | CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(
        None,
        CapabilitySets { effective: to_act | rights, permitted: kept, inheritable: none },
    )?)
}

/// Removes all capabilities from the bounding set of programs that this process runs. Does nothing where that is not
/// allowed: after [`restrain`] they cannot gain capabilities either.
pub fn empty_bounding_set() {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if remove_capability_from_bounding_set(capability).is_err() {
            // Beyond the last capability of this kernel, or without CAP_SETPCAP.
            return;
        }
    }
}

/// Forbids core dumps, and access to the memory by other processes of the same user: the memory has held passwords.
///
/// # Errors
/// No cause is known.
pub fn close_memory() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

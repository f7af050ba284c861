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

/// Keeps the capabilities to write into directories of other users and to give them what is made there, and drops all
/// other capabilities of root.
///
/// # Errors
/// The process does not have these capabilities.
pub fn keep_those_over_files() -> io::Result<()> {
    let kept = CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?)
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

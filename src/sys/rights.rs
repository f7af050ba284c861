//! What this process may do beside the rights of its user: capabilities, privileges of programs that it runs, modes of
//! new files, core dumps. Everything here takes rights away, and nothing gives them back.
//!
//! Each call is about the calling thread and those that it starts later, so all are made before the first thread.
//! A call may fail only on a kernel that lacks it, and no kernel that can run this program does.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::io;

/// For every command that serves, as root too: programs that it runs gain no rights by a set-id bit or file capabilities, and
/// new files are for their owner only. Wider modes are set file by file.
///
/// # Errors
/// The kernel is older than 3.5.
pub fn restrain() -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    Ok(set_no_new_privs(true)?)
}

/// Gives up every capability, for good: also those that a service manager gives to a user other than root.
///
/// # Errors
/// An error of the operating system; no cause is known.
pub fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    // The ambient set is always a part of these, and becomes empty with them.
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Keeps what it takes to write into directories of others and to give them what is made there, and nothing else of
/// what root may do.
///
/// # Errors
/// The process has not got them.
pub fn keep_those_over_files() -> io::Result<()> {
    let kept = CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?)
}

/// Takes all capabilities out of what programs run by this process could ever get. Does nothing where that is not
/// allowed: after [`restrain`] they get none, either.
pub fn empty_bounding_set() {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if remove_capability_from_bounding_set(capability).is_err() {
            // Beyond the last capability of this kernel, or without CAP_SETPCAP.
            return;
        }
    }
}

/// No core dump, and no look into the memory by other processes of the same user: it has seen passwords.
///
/// # Errors
/// An error of the operating system; no cause is known.
pub fn close_memory() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

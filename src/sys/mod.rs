//! The operating system: clock, users, rights, signals, memory, sockets and the service manager. The only folder that
//! may use `unsafe`, and only where no safe wrapper exists; each block gives its reason.
//!
//! | module | unsafe, because |
//! | --- | --- |
//! | [`clock`] | localtime_r: no safe wrapper works with several threads |
//! | [`landlock`], [`seccomp`] | their calls: no crate wraps them for all processors |
//! | [`fold`] | an instruction that only some processors have |
//! | [`identity`] | setfsuid and setfsgid: no crate wraps them |
//! | [`memory`] | mallopt and mmap: no crate wraps the first; the second asks without allocating |
//! | [`process`] | fork and exec, in processes without threads |
//! | [`signals`] | ignoring SIGXFSZ |
//! | [`sockets`] | descriptors that the service manager passes by number |
//! | [`user`] | passwd and group look-ups, initgroups, setuid for all threads, SO_PEERGROUPS |
//! | the others | no unsafe code |
//!
//! A daemon calls these before its first thread, in this order: [`sockets::inherited`], [`process::start`],
//! [`signals::Signals::register`], [`user::become_user`], [`rights::restrain`], [`confinement::confine`].

pub mod clock;
pub mod confinement;
pub mod descriptors;
pub mod file;
pub mod fold;
pub mod identity;
pub mod journal;
pub mod landlock;
pub mod lock;
pub mod memory;
pub mod notify;
pub mod packet;
pub mod process;
pub mod rights;
pub mod seccomp;
pub mod signals;
pub mod sockets;
pub mod thread;
pub mod user;
pub mod watch;

/// A random number from the system, for ids, jitter and names that are hard to guess. A system without random numbers
/// falls back to its clock: nothing here is a secret.
#[must_use]
pub fn random() -> u64 {
    let mut octets = [0; 8];
    match rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(octets),
        _ => clock::Clock::boot(&clock::SystemClock).as_nanos() as u64,
    }
}

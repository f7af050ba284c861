//! The operating system: clock, users, rights, signals, memory, processes, and service managers.
//!
//! The only folder with `unsafe`, and only where no safe wrapper exists; each block gives its reason. It knows nothing of
//! mail: the other floors could use it in any daemon.

pub mod clock;
pub mod descriptors;
pub mod memory;
pub mod notify;
pub mod process;
pub mod rights;
pub mod signals;
pub mod sockets;
pub mod thread;
pub mod user;
pub mod watch;

/// A random number from the system, for ids, jitter and names that are hard to guess. A system without one gives what
/// the clock gives: nothing here is a secret.
#[must_use]
pub fn random() -> u64 {
    let mut octets = [0; 8];
    match rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(octets),
        _ => clock::Clock::boot(&clock::SystemClock).as_nanos() as u64,
    }
}

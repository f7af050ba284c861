//! What may happen to a mail server, done to the real binary: kills, failing system calls, power cuts, full disks, clocks,
//! damaged files, limits, crowds, hostile peers. After each fault the oracle asks for every message that a client was
//! promised: nothing may be lost, nothing may reach another recipient, no thread may have panicked. Duplicates are counted.
//!
//! `PILLARBOX_FAULTS=full`, as `make faults` sets it, takes about an hour; without it a sample of each kind takes a minute or
//! two. `PILLARBOX_FAULTS_SEED` repeats the random choices of a run, which prints its seed. Every kind prints a line
//! of figures (`-- --nocapture`). What needs root, `mount` or strace and cannot have it is skipped, and says so.

// Lints allow these within tests, but not in the functions that tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice
)]

/// An SMTP client that does exactly what a test says.
#[path = "../interop/client.rs"]
#[allow(dead_code)]
mod client;
/// A place for each test, the daemon, and the programs that it talks to.
#[path = "../interop/harness.rs"]
#[allow(dead_code)]
mod harness;
/// A directory for each test: that of the library's tests.
#[path = "../../src/test_directory.rs"]
#[allow(dead_code)]
mod test_directory;
/// Reads the traces of strace.
#[path = "../interop/trace.rs"]
#[allow(dead_code)]
mod trace;

/// The messages of a test, their recipients, and the question after the fault: where are they?
mod oracle;
/// What a trace tells about the disk: changes, and from when they are durable.
mod recorder;
/// An SMTP server within the test, as polite or as hostile as the test says.
mod sink;

/// Each system call on files, sockets and threads fails once; then all of a kind from some call on.
mod calls;
/// Wall clocks in 1970 and after 2038, and steps under load.
mod clocks;
/// Thousands of connections, slow octets and floods.
mod crowd;
/// Full disks, disks without inodes, and disks that turn read-only.
mod disk;
/// Damaged files and files of others in the queue and in the drop directory.
mod foreign;
/// `kill -9` at random moments under load.
mod kill;
/// The limits of the system: memory, descriptors, threads, file sizes.
mod limits;
/// Hostile DNS servers and hostile MX hosts.
mod peers;
/// Power cuts at every system call, in four models of what the disk keeps.
mod power;
/// Two daemons on one state, and storms of signals.
mod process;

/// How often a fault happens: `full` times under `make faults`, else `short` times.
fn times(full: usize, short: usize) -> usize {
    if is_full() { full } else { short }
}

fn is_full() -> bool {
    std::env::var("PILLARBOX_FAULTS").is_ok_and(|size| size == "full")
}

/// Random numbers for a test; the seed is printed, and can be given again.
fn random(test: &str) -> harness::Random {
    let given = std::env::var("PILLARBOX_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()) + 1);
    println!("{test}: PILLARBOX_FAULTS_SEED={seed}");
    harness::Random(seed)
}

/// Whether this test may run as it needs root; says so if not.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("{test}: skipped, needs root");
    }
    is_root
}

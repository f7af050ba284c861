use super::harness::{Daemon, alone, program, signal};
use super::oracle::{Figures, World, by_sendmail};
use super::trace::joined;
use super::{random, times};
use std::collections::HashMap;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// System calls, and the errors with which they fail: each call of the scripted run once, and all from each call on.
const FAULTS: [(&str, &str); 27] = [
    ("write", "ENOSPC"),
    ("write", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("renameat2", "EIO"),
    ("renameat", "ENOSPC"),
    ("openat", "EMFILE"),
    ("openat", "EIO"),
    ("openat", "EROFS"),
    ("unlinkat", "EIO"),
    ("mkdirat", "ENOSPC"),
    ("read", "EIO"),
    ("pread64", "EIO"),
    ("getdents64", "EIO"),
    ("statx", "EIO"),
    ("statfs", "EIO"),
    ("flock", "ENOLCK"),
    ("fchmod", "EPERM"),
    ("accept4", "EMFILE"),
    ("accept4", "ECONNABORTED"),
    ("socket", "ENFILE"),
    ("connect", "ENETUNREACH"),
    ("recvfrom", "ECONNRESET"),
    ("sendto", "EPIPE"),
    ("getsockopt", "ENOBUFS"),
    ("ppoll", "EINTR"),
    ("clone3", "EAGAIN"),
];
const MESSAGES: usize = 7;
/// With these the signal itself comes to the daemon's main thread: a signal that is lost is no fault of the daemon.
const CARRY_SIGNALS: [&str; 4] = ["read", "recvfrom", "sendto", "ppoll"];
/// The daemon must end within 10 s of SIGTERM (INTERFACE section 1); strace and a busy machine may add to it.
const END: Duration = Duration::from_secs(40);

/// A fault: the system call, its error, its number in each thread, and whether all later ones fail, too.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: &'static str,
    error: &'static str,
    number: usize,
    persists: bool,
}

#[test]
fn no_system_call_that_fails_loses_a_message() {
    let _alone = alone();
    let mut random = random("failing system calls");
    let counts = counts();
    let mut faults = Vec::new();
    for (call, error) in FAULTS {
        let count = counts.get(call).copied().unwrap_or(0);
        println!("{call}: {count} calls by one thread");
        for persists in [false, true] {
            faults.extend((1..=count).map(|number| Fault { call, error, number, persists }));
        }
    }
    let count = times(faults.len(), 16);
    while faults.len() > count {
        faults.swap_remove(random.below(faults.len() as u64) as usize);
    }
    let (mut figures, mut early) = (Figures::default(), 0);
    for fault in faults {
        let (of_one, was_up) = suffer(fault);
        early += usize::from(!was_up);
        figures.add(of_one);
    }
    figures.judge(&format!(
        "failing system calls, {early} of them at the start of the daemon, which then ended"
    ));
}

/// How many calls of each name one thread makes at most during the scripted run.
fn counts() -> HashMap<String, usize> {
    let world = World::new("");
    let mut strace = program("strace", "strace");
    strace.args(["-f", "-o"]).arg(world.place.path("trace"));
    script(&world, world.place.run(world.command_by(&mut strace).process_group(0)), None);
    let mut of_threads = HashMap::<(u32, String), usize>::new();
    for call in joined(&fs::read_to_string(world.place.path("trace")).unwrap()) {
        *of_threads.entry((call.thread, call.name)).or_default() += 1;
    }
    let mut counts = HashMap::new();
    for ((_, name), count) in of_threads {
        let most = counts.entry(name).or_insert(count);
        *most = count.max(*most);
    }
    counts
}

/// Mail of each kind, and the end of the daemon.
fn script(world: &World, mut daemon: Daemon, fault: Option<Fault>) -> ExitStatus {
    for _ in 0..MESSAGES {
        if !world.greets() {
            // A daemon that can't accept: sendmail alone gets rid of its mail.
            world.sendmail(by_sendmail(0));
            break;
        }
        // What is refused is offered once more.
        let _ = world.try_next() || world.try_next();
    }
    let pid = daemon.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let child: Option<u32> = children.trim().parse().ok();
    child.iter().for_each(|child| signal(*child, "TERM"));
    let begun = Instant::now();
    while daemon.is_running() {
        let is_deaf = fault.is_some_and(|fault| CARRY_SIGNALS.contains(&fault.call));
        if is_deaf && begun.elapsed() > END / 10 {
            child.iter().for_each(|child| signal(*child, "KILL"));
            daemon.wait();
            return ExitStatus::default();
        }
        assert!(begun.elapsed() < END, "SIGTERM does not end it: {fault:?}\n{}", world.place.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    daemon.wait()
}

/// Runs the script with this fault, then without; whether the daemon came up with it.
fn suffer(fault: Fault) -> (Figures, bool) {
    let world = World::new("");
    let Fault { call, error, number, persists } = fault;
    let more = if persists { "+" } else { "" };
    let mut strace = program("strace", "strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:error={error}:when={number}{more}")]);
    let mut command: Command = world.command_by(&mut strace);
    let daemon = world.try_start(command.process_group(0));
    let was_up = daemon.is_some();
    if let Some(daemon) = daemon {
        let status = script(&world, daemon, Some(fault));
        assert_eq!(status.signal(), None, "{fault:?}:\n{}", world.place.log());
        assert!(![Some(70), Some(101)].contains(&status.code()), "{fault:?}: {status}");
    }
    let figures = world.settle(1);
    let is_good = figures.lost.is_empty() && figures.wrong_party.is_empty() && figures.crashes == 0;
    assert!(is_good, "{fault:?}: {figures:?}\n{}", world.place.log());
    (figures, was_up)
}

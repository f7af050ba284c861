//! The logger: `simple_logger` to standard error, or the system's log, behind a wrapper that cannot block and cannot
//! panic.
//!
//! | target | a line is written | a line is dropped |
//! | --- | --- | --- |
//! | standard error | if `poll` reports room, one line at a time | a full pipe, a closed descriptor, a panic while printing |
//! | standard error that is `/dev/null`, as under OpenRC: `/dev/log` in its place | see there | see there |
//! | standard error that is systemd's journal | the same, with `<3>` to `<7>` for its level in place of date, level and target, which the journal keeps itself | the same |
//! | `/dev/log` | by a non-blocking datagram; one new connection if the old one fails | a full socket, no log daemon |
//!
//! Dropped lines are counted. The next line that gets through is followed by `event=log_lines_dropped count=N`.
//!
//! A panic of any thread is logged as `event=panic`, directly to standard error, and to the system's log if that is the target:
//! the logger itself may be what panicked.

use crate::config::LogTarget;
use crate::mail::date::{WallTime, names};
use crate::sys::clock::{Clock, SystemClock, utc_offset_seconds};
use crate::sys::journal;
use crate::sys::lock::Lock;
use crate::sys::process;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_logger::SimpleLogger;
use std::cell::Cell;
use std::os::unix::net::UnixDatagram;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The socket of the system's log, for lines in the format of RFC 3164.
const SYSLOG_SOCKET: &str = "/dev/log";
/// Syslog's facility "mail", shifted to its place in the priority.
const FACILITY_MAIL: u8 = 2 << 3;
/// The longest line in octets: a pipe takes it in one piece (POSIX PIPE_BUF on Linux).
const LINE_MAX_OCTETS: usize = 4096;

/// The logger of the program.
pub struct Logger {
    level: LevelFilter,
    sink: Sink,
    dropped: AtomicUsize,
}

enum Sink {
    Stderr { logger: SimpleLogger, turn: Lock<()> },
    Journal { turn: Lock<()> },
    Syslog(Lock<Option<UnixDatagram>>),
}

/// The lines that this process has lost. Static, like the logger of the `log` crate.
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// The number of lines that were dropped since this process started.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed) as u64
}

thread_local! {
    /// Set while a line is printed: a panic is then one of printing, and must not be logged.
    static PRINTING: Cell<bool> = const { Cell::new(false) };
}

impl Logger {
    /// A logger that is not installed yet.
    #[must_use]
    pub fn new(target: LogTarget, level: LevelFilter) -> Self {
        let sink = match target {
            _ if is_syslog(target) => Sink::Syslog(Lock::new(None)),
            LogTarget::Stderr if journal::is_stderr() => Sink::Journal { turn: Lock::new(()) },
            _ => {
                let logger = SimpleLogger::new().with_level(level).with_utc_timestamps();
                Sink::Stderr { logger, turn: Lock::new(()) }
            }
        };
        Self { level, sink, dropped: AtomicUsize::new(0) }
    }

    /// Installs it as the logger of the process, with a hook that logs panics: only their text and place, because a
    /// backtrace would cost a small box 30 MiB of memory for good. Keeps a logger that was installed before.
    pub fn install(self) {
        log::set_max_level(self.level);
        // Processes that this one forks later have the same standard error.
        let mark = journal::mark(journal::ERROR);
        let is_syslog = matches!(self.sink, Sink::Syslog(_));
        let _ = log::set_boxed_logger(Box::new(self));
        panic::set_hook(Box::new(move |info| {
            if !PRINTING.get() {
                let place =
                    info.location().map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line()));
                let payload = info.payload();
                let text = payload.downcast_ref::<&str>().copied();
                let text =
                    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("-");
                // Not by eprintln!, which may panic: a panic in a panic hook ends the process.
                let line = format!("event=panic place={place} text={text:?}");
                raw_line(&format!("{mark}{line}\n"));
                if is_syslog {
                    // By a socket of its own, whose lock no thread holds.
                    send_to_syslog(&mut None, Level::Error, &printable(line));
                }
            }
        }));
    }

    fn try_print(&self, record: &Record<'_>) -> bool {
        let text = printable(record.args().to_string());
        match &self.sink {
            Sink::Stderr { logger, turn } => {
                // One line at a time: if poll reports room, there is room for the whole line.
                let _turn = turn.lock();
                if !stderr_takes_a_line() {
                    return false;
                }
                PRINTING.set(true);
                let printed = panic::catch_unwind(AssertUnwindSafe(|| {
                    let mut plain = Record::builder();
                    plain.level(record.level()).target(record.target());
                    logger.log(&plain.args(format_args!("{text}")).build());
                }));
                PRINTING.set(false);
                printed.is_ok()
            }
            Sink::Journal { turn } => {
                let _turn = turn.lock();
                raw_line(&format!("<{}>{text}\n", severity(record.level())))
            }
            Sink::Syslog(socket) => {
                let mut socket = socket.lock();
                send_to_syslog(&mut socket, record.level(), &text)
            }
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if !self.try_print(record) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        } else if self.dropped.load(Ordering::Relaxed) > 0 {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            let text = format!("event=log_lines_dropped count={dropped}");
            let printed = self.try_print(
                &Record::builder()
                    .level(Level::Warn)
                    .target("pillarbox")
                    .args(format_args!("{text}"))
                    .build(),
            );
            if !printed {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
    }

    fn flush(&self) {}
}

/// Whether this target is the system's log: also where standard error is `/dev/null`, and the log would be lost there.
fn is_syslog(target: LogTarget) -> bool {
    target == LogTarget::Syslog || journal::is_stderr_null()
}

/// Tells the system's log why the daemon does not start, where that is its log: whoever started it may not read standard
/// error.
pub fn tell_syslog(target: LogTarget, lines: &[String]) {
    if is_syslog(target) {
        let mut socket = None;
        lines.iter().for_each(|line| {
            send_to_syslog(&mut socket, Level::Error, &printable(line.clone()));
        });
    }
}

/// Whether standard error is open and has room for a line, so that a write does not block.
fn stderr_takes_a_line() -> bool {
    let mut fds = [PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::OUT)];
    let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count == 1);
    let [fd] = fds;
    ready && fd.revents() == PollFlags::OUT
}

/// Writes a line to standard error; can neither block nor panic. False if it could not be written.
fn raw_line(line: &str) -> bool {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let written =
            if stderr_takes_a_line() { rustix::io::write(rustix::stdio::stderr(), rest) } else { Ok(0) };
        match written {
            Ok(length) if length > 0 => rest = rest.get(length..).unwrap_or_default(),
            _ => return false,
        }
    }
    true
}

/// The level of syslog(3).
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => journal::ERROR,
        Level::Warn => journal::WARNING,
        Level::Info => journal::INFO,
        Level::Debug | Level::Trace => journal::DEBUG,
    }
}

/// The text as one line of at most [`LINE_MAX_OCTETS`]: libraries log too, and may use control characters.
fn printable(mut text: String) -> String {
    // The rest is for the prefix of the logger.
    let limit = LINE_MAX_OCTETS - 128;
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    if text.chars().any(char::is_control) {
        text = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    }
    text
}

/// Sends a text as a line of syslog. False if the line was dropped.
fn send_to_syslog(socket: &mut Option<UnixDatagram>, level: Level, text: &str) -> bool {
    let line = format!(
        "<{}>{} pillarbox[{}]: {text}",
        FACILITY_MAIL | severity(level),
        syslog_date(WallTime(SystemClock.wall_micros())),
        process::own_id()
    );
    send(socket, &line, &connect_syslog)
}

/// Sends a line; connects again if the log daemon was restarted. False if the line was dropped.
fn send(socket: &mut Option<UnixDatagram>, line: &str, connect: &dyn Fn() -> Option<UnixDatagram>) -> bool {
    for _ in 0..2 {
        if socket.is_none() {
            *socket = connect();
        }
        match socket.as_ref().map(|socket| socket.send(line.as_bytes())) {
            Some(Ok(_)) => return true,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            _ => *socket = None,
        }
    }
    false
}

fn connect_syslog() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(SYSLOG_SOCKET).ok()?;
    Some(socket)
}

/// `Nov  3 06:53:30`, in local time as RFC 3164 §4.1.2 has it.
fn syslog_date(now: WallTime) -> String {
    let date = now.to_local(utc_offset_seconds(now.seconds()));
    let (_, month) = names(date);
    format!("{month} {:2} {:02}:{:02}:{:02}", date.day(), date.hour(), date.minute(), date.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_short() {
        assert_eq!(printable("a\nb\u{7}".into()), "a?b?");
        assert!(printable("é".repeat(10_000)).len() <= LINE_MAX_OCTETS);
    }

    #[test]
    fn a_line_is_sent_once_also_to_a_log_daemon_that_was_restarted() {
        let (first, second) = (UnixDatagram::pair().unwrap(), UnixDatagram::pair().unwrap());
        let connect = || Some(second.0.try_clone().unwrap());
        let mut socket = Some(first.0);
        assert!(send(&mut socket, "one", &connect));
        let received = |from: &UnixDatagram| {
            from.set_nonblocking(true).unwrap();
            let mut octets = [0; 99];
            std::iter::from_fn(|| from.recv(&mut octets).ok()).count()
        };
        assert_eq!(received(&first.1), 1);
        drop(first.1);
        assert!(send(&mut socket, "two", &connect));
        assert_eq!(received(&second.1), 1);
        // Full: the line is dropped, and nothing waits.
        second.0.set_nonblocking(true).unwrap();
        assert!((0..100_000).any(|_| !send(&mut socket, "more", &connect)));
        assert!(!send(&mut None, "none", &|| None));
    }

    #[test]
    fn dates_of_syslog_have_their_width() {
        assert_eq!(syslog_date(WallTime(1_795_416_810_000_000)).len(), 15);
    }
}

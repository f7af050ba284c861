//! The real message of `probe --send`: it goes through the queue, in this process, and is followed to its outcome, or to what it
//! waits for.
//!
//! ```text
//! submit ─▶ one pass over its routes ─▶ delivered, refused: told with the answer of the host
//!                                   └─▶ still in the queue: told what it waits for (75), and left to the daemon
//! ```
//!
//! The queue's locks keep this process and a running daemon apart. This process knows the link as the daemon knows it, and the
//! schedule, so that a message that the daemon would not send now is not sent by the probe either. If the pass is cut off, a
//! daemon goes on with the message.

use super::daemon::DaemonText;
use super::screen::{OnCut, StepScreen};
use crate::engine::daemon::Daemon;
use crate::engine::host::advice::advice;
use crate::engine::host::mda::DeliveryAgent;
use crate::engine::host::site::Site;
use crate::engine::probe::test_message;
use crate::engine::probe::walk::{Mark, ProbeNews};
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::{Class, EnhancedStatus};
use crate::program::privileges;
use crate::program::remote::client::ask;
use crate::protocol::request::{Change, Request, Selection};
use crate::rules::advice::step::Stage;
use crate::rules::pacing::downtime::Uplink;
use crate::smtp::reply::is_reply;
use crate::store::StoreError;
use crate::store::drop::DropDirectory;
use crate::sys::lock::Lock;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sends a test message, and shows what became of it.
pub(super) fn send(
    site: Site,
    agent: Option<Arc<DeliveryAgent>>,
    link: Uplink,
    address: &str,
    screen: &mut StepScreen,
) {
    screen.news(ProbeNews::Begins(Stage::Send));
    let control = site.settings.control.clone();
    let log = Log::default();
    let lines = Arc::clone(&log.0);
    log.install();
    let daemon = match open(site, agent) {
        Ok(daemon) => daemon,
        Err(error) => return screen.step(Stage::Send, Mark::Fail, error.to_string(), Some(Class::Transient)),
    };
    let site = daemon.site();
    let manager = &daemon.services.manager;
    manager.index.set_link(link, manager.clock.now().running);
    let id = match test_message::submit(&daemon.intake, &site, address) {
        Ok(id) => id,
        Err(text) => return screen.step(Stage::Send, Mark::Fail, text, Some(Class::Transient)),
    };
    screen.on_cut(id, left_to(&control, vec![id]));
    daemon.forwarder.pass();
    let lines = lines.lock().clone();
    let ended = lines.iter().filter_map(|line| Ended::read(line, id));
    for Ended { mark, text, class, reason } in ended.filter(|ended| ended.class != Some(Class::Transient)) {
        let hint = if mark == Mark::Ok { None } else { advice(&site, &reason) };
        screen.explained(Stage::Send, mark, text, class, hint);
    }
    for (to, reason) in test_message::waiting(manager, id) {
        let text = format!("{to}: the message {id} waits: {}", reason.line());
        screen.explained(Stage::Send, Mark::Fail, text, Some(Class::Transient), advice(&site, &reason));
    }
    // What stays in the queue, a running daemon does not know yet; a notice about the message, too.
    let accepted = lines.iter().filter_map(|line| QueueId::parse(value(line, "event=accepted id=")?));
    let left: Vec<QueueId> = accepted.filter(|id| manager.queue.contains(*id)).collect();
    left_to(&control, left)();
}

fn open(site: Site, agent: Option<Arc<DeliveryAgent>>) -> Result<Daemon, StoreError> {
    let queue = privileges::open_queue(&site.settings, None)?;
    let drops = DropDirectory::open(&site.settings.state, None)?;
    Ok(Daemon::new(site, queue, drops, agent))
}

/// Leaves messages to a running daemon.
fn left_to(control: &Path, ids: Vec<QueueId>) -> OnCut {
    let control: PathBuf = control.to_owned();
    Box::new(move || {
        if !ids.is_empty() {
            let release = Request::Change(Change::Release, Selection::These(ids));
            // Without a daemon the message waits in the queue for the next one.
            let _ = ask(&control, &release, &mut DaemonText::default());
        }
    })
}

/// The end of an attempt at one recipient, in a sentence.
struct Ended {
    mark: Mark,
    text: String,
    class: Option<Class>,
    reason: Diagnostic,
}

impl Ended {
    /// Reads a log line about the message.
    fn read(line: &str, id: QueueId) -> Option<Self> {
        let (what, rest) = line.strip_prefix("event=")?.split_once(&format!(" id={id} "))?;
        let (to, relay) = (value(rest, "to=")?, value(rest, " relay=")?);
        let (_, reply) = rest.split_once(" reply=")?;
        let reply = unquoted(reply);
        let host = relay.split('[').next().unwrap_or_default();
        let by = match relay {
            "-" => String::new(),
            "local" => " (on this host)".to_owned(),
            relay => format!(" ({relay})"),
        };
        let (mark, class, words) = match what {
            "delivered" => (Mark::Ok, None, "delivered"),
            "deferred" => (Mark::Fail, Some(Class::Transient), "not yet delivered"),
            "held" => (Mark::Fail, Some(Class::Permanent), "refused, and kept in the queue for admin"),
            "bounced" => (Mark::Fail, Some(Class::Permanent), "refused for good"),
            "expired" => (Mark::Fail, Some(Class::Permanent), "given up"),
            _ => return None,
        };
        let is_reply = is_reply(&reply);
        let local = Diagnostic::local(EnhancedStatus::DELAYED, if is_reply { "" } else { &reply });
        let remote = (relay != "-" && relay != "local").then(|| host.to_owned());
        let reason = Diagnostic { remote, reply: is_reply.then(|| reply.clone()), ..local };
        Some(Self { mark, class, text: format!("{to}: {words}{by}: {reply}"), reason })
    }
}

/// The value that follows a key, up to the next blank.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(key)?;
    rest.split(' ').next()
}

/// A value of the log without its quotes and escapes.
fn unquoted(value: &str) -> String {
    let value = value.strip_prefix('"').map_or(value, |value| value.strip_suffix('"').unwrap_or(value));
    value.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// A logger that keeps the lines, from which the outcome is read.
#[derive(Default)]
struct Log(Arc<Lock<Vec<String>>>);

impl Log {
    fn install(self) {
        log::set_max_level(log::LevelFilter::Info);
        let _ = log::set_boxed_logger(Box::new(self));
    }
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No line of the log, but a sentence: who, what, where, and the words of the host.
    #[test]
    fn an_outcome_is_told_in_a_sentence() {
        let id = QueueId::new(1_795_416_810_000_000, 1);
        let line = |what: &str, relay: &str, reply: &str| {
            format!(
                "event={what} id={id} to=joe@far.example relay={relay} attempt=1 delay=0.001 status=5.1.1 reply={reply:?}"
            )
        };
        for (what, relay, reply, text) in [
            (
                "delivered",
                "mx.far.example[192.0.2.1]:25",
                "250 2.0.0 Ok: \"queued\"",
                "joe@far.example: delivered (mx.far.example[192.0.2.1]:25): 250 2.0.0 Ok: \"queued\"",
            ),
            (
                "bounced",
                "mx.far.example[192.0.2.1]:25",
                "550 5.1.1 no",
                "joe@far.example: refused for good (mx.far.example[192.0.2.1]:25): 550 5.1.1 no",
            ),
            ("delivered", "local", "Maildir", "joe@far.example: delivered (on this host): Maildir"),
            (
                "held",
                "-",
                "far.example does not exist (NXDOMAIN)",
                "joe@far.example: refused, and kept in the queue for admin: far.example does not exist (NXDOMAIN)",
            ),
        ] {
            assert_eq!(Ended::read(&line(what, relay, reply), id).unwrap().text, text);
        }
        let bounced = Ended::read(&line("bounced", "mx.far.example[192.0.2.1]:25", "550 no"), id).unwrap();
        assert_eq!(bounced.reason.remote.as_deref(), Some("mx.far.example"));
        assert_eq!(bounced.reason.reply.as_deref(), Some("550 no"));
        // A notice about the message is another message.
        assert!(Ended::read(&line("delivered", "local", "Maildir"), QueueId::new(1, 1)).is_none());
        assert!(Ended::read("event=connected relay=mx", id).is_none());
    }
}

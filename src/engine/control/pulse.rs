//! The dead man's switch (`heartbeat.url`): when it is asked, with which path, and what came of it.
//!
//! | state | the switch is asked |
//! | --- | --- |
//! | the daemon runs, `queue/` can be written and has room, no alarm is on | the path of the URL |
//! | an alarm is on, or `queue/` cannot be written | that path with `/fail` behind it |
//! | the link is down | nothing: no mail flows, and the question could not leave either |
//!
//! It is asked each `heartbeat.interval`; at once when the state changes; and after a failure again in [`AGAIN`]. Between two questions,
//! and between the start and the first one, lie at least [`LEAST_GAP`]: a daemon that is started again and again does not count as
//! well. All times are running times, which no jump of the wall clock changes. An answer counts if its status is 2xx; redirects are
//! not followed.
//!
//! A failure is logged once, and so is the end of failures; `pillarbox status` shows it. The path of the URL is a secret, and is
//! in no line.

use crate::config::Heartbeat;
use crate::engine::log::event::{Event, trouble};
use crate::engine::outbound::web::{WebWorld, request};
use crate::net::https::HttpsRequest;
use crate::rules::accounts::oauth::url::HttpsUrl;
use crate::sys::lock::Lock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The least time between two questions.
pub(super) const LEAST_GAP: Duration = Duration::from_secs(10);
/// The time to the next question after one that failed.
const AGAIN: Duration = Duration::from_secs(300);
/// How long a question and its answer may take, with all look-ups.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest status line that is shown, in characters.
const STATUS_LINE_CHARS: usize = 80;

/// What this daemon knows of its signs of life.
#[derive(Debug, Default)]
pub struct Pulse {
    last: Lock<Option<Asked>>,
    /// The running time before which no mail is written again, after a failure.
    pub(super) mail_after: Lock<Duration>,
    is_busy: AtomicBool,
}

/// The last question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When, in running time.
    pub at: Duration,
    /// Whom.
    pub url: HttpsUrl,
    /// What it said of this host.
    pub is_well: bool,
    /// Since when, in running time, and why no question has been answered.
    pub failing: Option<(Duration, String)>,
}

/// Marks the pulse as busy until it is dropped: also by a panic, or because no thread could be started.
#[derive(Debug)]
pub struct Busy<'a>(&'a Pulse);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::SeqCst);
    }
}

impl Pulse {
    /// The last question.
    #[must_use]
    pub fn last(&self) -> Option<Asked> {
        self.last.lock().clone()
    }

    /// Whether the thread of the heartbeat works.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::SeqCst)
    }

    /// The thread of the heartbeat begins its work, which the caller ends by [`Self::working`].
    pub fn begin(&self) {
        self.is_busy.store(true, Ordering::SeqCst);
    }

    /// Ends the work when it is dropped.
    pub fn working(&self) -> Busy<'_> {
        Busy(self)
    }

    /// Whether a question is due; `started` and `now` are running times.
    pub(super) fn is_due(
        &self,
        settings: &Heartbeat,
        is_well: bool,
        started: Duration,
        now: Duration,
    ) -> bool {
        let Some(url) = &settings.url else { return false };
        let has_passed = |since: Duration, span: Duration| now.saturating_sub(since) >= span;
        match &*self.last.lock() {
            Some(last) if last.url == *url => {
                let has_changed = last.is_well != is_well;
                let again =
                    if last.failing.is_some() { AGAIN.min(settings.interval) } else { settings.interval };
                has_passed(last.at, if has_changed { LEAST_GAP } else { again })
            }
            _ => has_passed(started, LEAST_GAP),
        }
    }

    /// Asks, and notes what came of it; `now` is the running time.
    pub(super) fn ask(&self, world: &WebWorld<'_>, is_well: bool, now: Duration) {
        let Some(url) = &world.site.settings.heartbeat.url else { return };
        let path = if is_well { url.path.clone() } else { failure_path(&url.path) };
        let question = HttpsRequest {
            host: &url.host,
            port: url.port,
            path: &path,
            accept: "*/*",
            body: None,
            body_max_octets: 0,
        };
        let error = match request(world, url, &question, PATIENCE) {
            Ok(reply) if (200..300).contains(&reply.status) => None,
            Ok(reply) => {
                let line: String = reply.status_line.chars().take(STATUS_LINE_CHARS).collect();
                Some(format!("{} answers {line:?}", url.host))
            }
            Err(error) => Some(error),
        };
        let mut last = self.last.lock();
        let before = last.take().filter(|last| last.url == *url).and_then(|last| last.failing);
        match (&before, &error) {
            (None, Some(error)) => trouble("asking heartbeat.url", error),
            (Some(_), None) => Event::Notice("heartbeat.url is reached again").log(),
            _ => {}
        }
        let failing = error.map(|error| (before.map_or(now, |(since, _)| since), error));
        *last = Some(Asked { at: now, url: url.clone(), is_well, failing });
    }
}

/// The path that tells a failure: `/fail` behind the path, in front of a query.
fn failure_path(path: &str) -> String {
    let (path, query) = path.split_at_checked(path.find('?').unwrap_or(path.len())).unwrap_or((path, ""));
    format!("{}/fail{query}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_behind_the_path() {
        for (path, expected) in [
            ("/5e-cd", "/5e-cd/fail"),
            ("/ping/5e-cd/", "/ping/5e-cd/fail"),
            ("/ping/key/box?create=1", "/ping/key/box/fail?create=1"),
            ("/", "/fail"),
            ("/?x=a/b", "/fail?x=a/b"),
        ] {
            assert_eq!(failure_path(path), expected);
        }
    }
}

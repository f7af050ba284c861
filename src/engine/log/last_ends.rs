//! The last recipient that got its message, and the last one that did not: `pillarbox status` shows both.
//!
//! They are saved with the totals of the counters, and therefore whenever those are. An attempt that is deferred is no end.

use super::event::AttemptEnd;
use crate::mail::address::Mailbox;
use crate::mail::date::WallTime;
use crate::mail::id::QueueId;
use crate::mail::text::is_hostile;
use crate::sys::lock::Lock;

/// The most characters of a reply that are kept.
const REPLY_CHARS: usize = 300;

/// How a recipient of a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEnd {
    /// The message.
    pub id: QueueId,
    /// The recipient.
    pub to: Mailbox,
    /// When.
    pub at: WallTime,
    /// The reply, or the reason of this host.
    pub reply: String,
}

/// The last ends of both kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// The last delivery.
    pub delivered: Option<LastEnd>,
    /// The last failure.
    pub failed: Option<LastEnd>,
}

/// The last ends of a running daemon.
#[derive(Debug, Default)]
pub struct LastEnds(Lock<Ends>);

impl LastEnds {
    /// Continues with those that were saved.
    #[must_use]
    pub fn resume(ends: Ends) -> Self {
        Self(Lock::new(ends))
    }

    /// Notes the end of an attempt.
    pub fn note(&self, end: AttemptEnd, id: QueueId, to: &Mailbox, at: WallTime, reply: &str) {
        let mut ends = self.0.lock();
        let slot = match end {
            AttemptEnd::Deferred => return,
            AttemptEnd::Delivered => &mut ends.delivered,
            AttemptEnd::Bounced | AttemptEnd::Expired | AttemptEnd::Held | AttemptEnd::GivenUp => {
                &mut ends.failed
            }
        };
        let reply = reply.chars().take(REPLY_CHARS).map(|c| if is_hostile(c) { '?' } else { c }).collect();
        *slot = Some(LastEnd { id, to: to.clone(), at, reply });
    }

    /// The last ends so far.
    #[must_use]
    pub fn so_far(&self) -> Ends {
        self.0.lock().clone()
    }
}

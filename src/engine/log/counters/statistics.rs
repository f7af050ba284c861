//! The form of the file `statistics` below `state`: what a restart goes on with.
//!
//! ```text
//! CRC pillarbox-statistics 1<TAB>N N N …      one number for each Count, in its order
//! <TAB>delivered<TAB>ID<TAB>MICROSECONDS<TAB>RECIPIENT<TAB>REPLY      the last delivery
//! <TAB>failed<TAB>ID<TAB>MICROSECONDS<TAB>RECIPIENT<TAB>REPLY         the last failure
//! <TAB>heartbeat<TAB>RECORD                   the last mail of heartbeat.every
//! ```
//!
//! All of it is one line. An older version reads the numbers alone, and saves them alone.
//!
//! | the file has | the counters begin with |
//! | --- | --- |
//! | fewer numbers, from an older version | 0 for the rest |
//! | more numbers, from a newer version | the known ones; the others are lost at the next save |
//! | a word that is not a number | 0 in its place |
//! | a part that is missing or cannot be read | none of it, and none of the parts behind it |
//! | a wrong checksum, or is missing | 0 everywhere |

use super::{COUNTS, Numbers};
use crate::engine::log::last_ends::{Ends, LastEnd};
use crate::mail::address::Mailbox;
use crate::mail::date::WallTime;
use crate::mail::id::QueueId;
use crate::rules::pacing::heartbeat::LastBeat;
use std::fmt::Write;

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// The totals.
    pub totals: Numbers,
    /// The last delivery and the last failure.
    pub ends: Ends,
    /// The last mail of `heartbeat.every`.
    pub beat: Option<LastBeat>,
}

impl Statistics {
    /// The line for the file.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        for number in &self.totals {
            // Writing to a String can't fail, here and below.
            let _ = write!(text, "{number} ");
        }
        push_end(&mut text, "delivered", self.ends.delivered.as_ref());
        push_end(&mut text, "failed", self.ends.failed.as_ref());
        if let Some(beat) = &self.beat {
            let _ = write!(text, "\theartbeat\t{beat}");
        }
        text
    }

    /// See the table at the top of this file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split('\t');
        let mut totals = [0; COUNTS];
        for (slot, word) in totals.iter_mut().zip(parts.next().unwrap_or_default().split(' ')) {
            *slot = word.parse().unwrap_or(0);
        }
        let mut read = Self { totals, ends: Ends::default(), beat: None };
        while let Some(name) = parts.next() {
            let is_read = match name {
                "delivered" => set(&mut read.ends.delivered, end(&mut parts)),
                "failed" => set(&mut read.ends.failed, end(&mut parts)),
                "heartbeat" => set(&mut read.beat, parts.next().and_then(LastBeat::parse)),
                _ => false,
            };
            if !is_read {
                break;
            }
        }
        read
    }
}

/// Stores a part; returns whether there is one.
fn set<T>(slot: &mut Option<T>, part: Option<T>) -> bool {
    *slot = part;
    slot.is_some()
}

fn push_end(text: &mut String, name: &str, end: Option<&LastEnd>) {
    if let Some(LastEnd { id, to, at, reply }) = end {
        let _ = write!(text, "\t{name}\t{id}\t{}\t{to}\t{reply}", at.0);
    }
}

fn end<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<LastEnd> {
    let mut next = || parts.next();
    Some(LastEnd {
        id: QueueId::parse(next()?)?,
        at: WallTime(next()?.parse().ok()?),
        to: Mailbox::parse(next()?).ok()?,
        reply: next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::date::Now;
    use crate::rules::message::heartbeat::Totals;
    use std::time::Duration;

    fn statistics() -> Statistics {
        let mut totals = [0; COUNTS];
        for (i, slot) in totals.iter_mut().enumerate() {
            *slot = u64::MAX - i as u64;
        }
        let end = |to: &str, reply: &str| LastEnd {
            id: QueueId::new(1_795_416_810_000_000, 3),
            to: Mailbox::parse(to).unwrap(),
            at: WallTime(1_795_416_810_000_000),
            reply: reply.to_owned(),
        };
        let ends = Ends {
            delivered: Some(end("joe@far.example", "250 2.0.0 ok")),
            failed: Some(end("\"a b\"@far.example", &"é".repeat(300))),
        };
        let at = Now { wall: WallTime(1_795_416_810_000_000), running: Duration::from_secs(9) };
        let totals_of_beat = Totals { accepted: 4, ..Totals::default() };
        Statistics { totals, ends, beat: Some(LastBeat { at, id: None, totals: totals_of_beat }) }
    }

    #[test]
    fn what_was_printed_is_read() {
        let all = statistics();
        assert_eq!(Statistics::parse(&all.print()), all);
        assert!(all.print().len() < 4000 && !all.print().contains('\n'), "the file has room for 128 KiB");
        let (totals, ends) = (all.totals, Ends { delivered: None, ..all.ends.clone() });
        for part in [
            Statistics { totals, ends: Ends::default(), beat: None },
            Statistics { totals, ends, beat: None },
            Statistics { totals, ends: Ends::default(), beat: all.beat },
        ] {
            assert_eq!(Statistics::parse(&part.print()), part);
        }
    }

    #[test]
    fn numbers_of_other_versions_are_read_as_far_as_they_are_known() {
        let all = statistics();
        // The next version: more numbers, and another part.
        let newer = all.print().replacen('\t', "7 8 \t", 1) + "\tnew\t1";
        assert_eq!(Statistics::parse(&newer), all);
        let older = Statistics::parse("5 6");
        assert_eq!((older.totals[0], older.totals[1], older.totals[2]), (5, 6, 0));
        assert_eq!((older.ends, older.beat), (Ends::default(), None));
        assert_eq!(Statistics::parse("").totals, [0; COUNTS]);
        // The version before reads words between blanks, as many as it has counters.
        let words: Vec<u64> = all.print().split(' ').take(COUNTS).map(|word| word.parse().unwrap()).collect();
        assert_eq!(words, all.totals);
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_none() {
        let all = statistics();
        for (from, to) in [("\tdelivered\t", "\tdelivered\tX"), ("joe@far.example", "joe")] {
            let read = Statistics::parse(&all.print().replacen(from, to, 1));
            assert_eq!((read.totals, read.ends), (all.totals, Ends::default()), "{to}");
        }
    }
}

//! How long this host had no way out: the spans between `link down` and `link up`, in running time (see
//! [`super::running_clock`]). A second record is for ordinary mail, for which `link metered` closes the way, too.
//! These spans do not count towards the lifetime of a message.
//!
//! At most [`SPANS_MAX`] spans are remembered. When there are more, the two oldest become one that includes the time
//! between them: mail then lives longer, never shorter.

use crate::mail::date::micros;
use std::fmt;
use std::time::Duration;

/// The number of spans that are remembered.
const SPANS_MAX: usize = 64;

/// Whether the network can be reached, as `pillarbox link` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uplink {
    /// It can.
    #[default]
    Up,
    /// It cannot: nothing is tried, and lifetimes stand still.
    Down,
    /// It can, but costs: only urgent mail is tried, and the lifetimes of all other mail stand still.
    Metered,
}

/// The word of each.
const UPLINKS: [(&str, Uplink); 3] =
    [("up", Uplink::Up), ("down", Uplink::Down), ("metered", Uplink::Metered)];

impl Uplink {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        UPLINKS.iter().find(|(_, uplink)| *uplink == self).map_or("", |(word, _)| word)
    }

    /// Reads its word; `None` for any other.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        UPLINKS.iter().find(|(known, _)| *known == word).map(|(_, uplink)| *uplink)
    }
}

/// The spans without a way out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Downtime {
    /// Start and end, the oldest first.
    spans: Vec<(Duration, Duration)>,
    /// The start of the current span.
    since: Option<Duration>,
}

impl Downtime {
    /// The way out is closed. Returns false if it was before.
    pub fn begin(&mut self, now: Duration) -> bool {
        let was_closed = self.since.is_some();
        self.since.get_or_insert(now);
        !was_closed
    }

    /// The way out is open again. Returns false if it was before.
    pub fn end(&mut self, now: Duration) -> bool {
        let Some(since) = self.since.take() else { return false };
        self.spans.push((since, now));
        if self.spans.len() > SPANS_MAX {
            let (from, _) = self.spans.remove(0);
            if let Some(oldest) = self.spans.first_mut() {
                oldest.0 = from;
            }
        }
        true
    }

    /// How much of the time from `from` to `now` had no way out.
    #[must_use]
    pub fn within(&self, from: Duration, now: Duration) -> Duration {
        let open = self.since.map(|since| (since, now));
        let spans = self.spans.iter().copied().chain(open);
        spans.map(|(begin, end)| end.min(now).saturating_sub(begin.max(from))).sum()
    }

    /// Reads what `Display` printed; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut downtime = Self::default();
        let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
        for word in text.split_ascii_whitespace() {
            match word.split_once('-')? {
                (since, "") => drop(downtime.begin(micros(since)?)),
                (from, to) => {
                    downtime.begin(micros(from)?);
                    downtime.end(micros(to)?);
                }
            }
        }
        Some(downtime)
    }
}

/// `FROM-TO FROM-TO SINCE-`, in microseconds.
impl fmt::Display for Downtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, to) in &self.spans {
            write!(f, " {}-{}", micros(*from), micros(*to))?;
        }
        self.since.map_or(Ok(()), |since| write!(f, " {}-", micros(since)))
    }
}

/// The spans for all mail, and for mail that is not urgent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Downtimes {
    all: Downtime,
    ordinary: Downtime,
}

impl Downtimes {
    /// Records the state of the link from now on. Returns false if that was known.
    pub fn note(&mut self, link: Uplink, now: Duration) -> bool {
        let closed = [(&mut self.all, link == Uplink::Down), (&mut self.ordinary, link != Uplink::Up)];
        let changes = closed
            .map(|(downtime, is_closed)| if is_closed { downtime.begin(now) } else { downtime.end(now) });
        changes.contains(&true)
    }

    /// The spans without a way out for a message.
    #[must_use]
    pub fn of(&self, is_urgent: bool) -> &Downtime {
        if is_urgent { &self.all } else { &self.ordinary }
    }

    /// Reads what `Display` printed, or what `Downtime` printed in versions without a metered link.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (all, ordinary) = text.split_once(';').unwrap_or((text, text));
        Some(Self { all: Downtime::parse(all)?, ordinary: Downtime::parse(ordinary)? })
    }
}

impl fmt::Display for Downtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.all, self.ordinary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_what_overlaps_counts() {
        let mut downtime = Downtime::default();
        downtime.begin(secs(10));
        downtime.begin(secs(15));
        downtime.end(secs(20));
        downtime.end(secs(25));
        downtime.begin(secs(50));
        let within = |from, now| downtime.within(secs(from), secs(now)).as_secs();
        assert_eq!(
            [within(0, 5), within(0, 15), within(0, 30), within(12, 30), within(30, 40)],
            [0, 5, 10, 8, 0]
        );
        assert_eq!([within(0, 60), within(55, 60), within(70, 60)], [20, 5, 0]);
    }

    #[test]
    fn too_many_spans_make_mail_live_longer() {
        let mut downtime = Downtime::default();
        for i in 0..100 {
            downtime.begin(secs(10 * i));
            downtime.end(secs(10 * i + 1));
        }
        assert_eq!(downtime.spans.len(), SPANS_MAX);
        assert_eq!(downtime.within(secs(0), secs(2000)), secs((10 * 36 + 1) + 63));
        assert_eq!(downtime.within(secs(900), secs(2000)), secs(10));
    }

    #[test]
    fn a_metered_link_is_one_for_what_is_urgent() {
        let mut both = Downtimes::default();
        for (at, link) in [
            (10, Uplink::Metered),
            (20, Uplink::Down),
            (30, Uplink::Metered),
            (40, Uplink::Metered),
            (50, Uplink::Up),
        ] {
            both.note(link, secs(at));
            assert_eq!(Downtimes::parse(&both.to_string()), Some(both.clone()));
        }
        let lost = |is_urgent| both.of(is_urgent).within(secs(0), secs(100));
        assert_eq!((lost(true), lost(false)), (secs(10), secs(40)));
        both.note(Uplink::Down, secs(90));
        assert_eq!(both.of(true).within(secs(0), secs(100)), secs(20));
        // As it was kept before there were two.
        let old = Downtimes::parse(" 10000000-20000000 30000000-").unwrap();
        assert_eq!([true, false].map(|it| old.of(it).within(secs(0), secs(35))), [secs(15); 2]);
    }

    #[test]
    fn it_is_read_as_it_was_printed() {
        let mut downtime = Downtime::default();
        for step in 0..5 {
            assert_eq!(Downtime::parse(&downtime.to_string()), Some(downtime.clone()));
            assert!(if step % 2 == 0 { downtime.begin(secs(step)) } else { downtime.end(secs(step)) });
        }
        for text in ["1", "a-b", "-1", "1-2-3", "1--2"] {
            assert_eq!(Downtime::parse(text), None, "{text}");
        }
    }
}

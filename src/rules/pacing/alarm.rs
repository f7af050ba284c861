//! When people are told that mail is stuck, and when that it moves again.
//!
//! A reason is told once when it comes, and once when it is over. What there is to tell is found by comparing what has
//! been told with how things are: nothing that waits for its turn behind the limit an hour is lost, and what came and
//! went meanwhile is not told at all. Time comes as an argument, and nothing here fails.

use std::time::Duration;

/// Events an hour, ends included: a route that works now and then must not wear out a phone.
const EVENTS_AN_HOUR: usize = 12;
const HOUR: Duration = Duration::from_secs(3600);

/// Why there is an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A message is too old.
    Stuck,
    /// Mail to admin can't be delivered, and is held.
    Held,
    /// This route has not worked for too long.
    Route(String),
}

impl Reason {
    /// Its word, for the log and the environment.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Held => "held",
            Self::Route(_) => "route",
        }
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An alarm.
    Raised(Reason),
    /// It is over.
    Over(Reason),
}

/// The alarms that have been told and are not over.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: Vec<Reason>,
    /// When something was told within the last hour, in running time.
    recent: Vec<Duration>,
}

impl Alarms {
    /// What to tell now, by the `reasons` that there are.
    pub fn next(&mut self, now: Duration, reasons: &[Reason]) -> Option<Told> {
        self.recent.retain(|&at| now.saturating_sub(at) < HOUR);
        if self.recent.len() >= EVENTS_AN_HOUR {
            return None;
        }
        let told = if let Some(new) = reasons.iter().find(|reason| !self.standing.contains(reason)) {
            self.standing.push(new.clone());
            Told::Raised(new.clone())
        } else {
            let over = self.standing.iter().position(|reason| !reasons.contains(reason))?;
            Told::Over(self.standing.remove(over))
        };
        self.recent.push(now);
        Some(told)
    }

    /// The alarms that have been told and are not over.
    #[must_use]
    pub fn standing(&self) -> &[Reason] {
        &self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str) -> Reason {
        Reason::Route(name.into())
    }

    #[test]
    fn each_reason_is_told_once_and_so_is_its_end() {
        let mut alarms = Alarms::default();
        let now = HOUR;
        assert_eq!(alarms.next(now, &[]), None);
        let both = [Reason::Stuck, route("a")];
        assert_eq!(alarms.next(now, &both), Some(Told::Raised(Reason::Stuck)));
        assert_eq!(alarms.next(now, &both), Some(Told::Raised(route("a"))));
        assert_eq!(alarms.next(now, &both), None);
        let other = [route("b")];
        assert_eq!(alarms.next(now, &other), Some(Told::Raised(route("b"))));
        assert_eq!(alarms.next(now, &other), Some(Told::Over(Reason::Stuck)));
        assert_eq!(alarms.next(now, &other), Some(Told::Over(route("a"))));
        assert_eq!((alarms.next(now, &other), alarms.standing()), (None, &other[..]));
        assert_eq!(alarms.next(now, &[]), Some(Told::Over(route("b"))));
        assert_eq!((alarms.next(now, &[]), alarms.standing()), (None, &[][..]));
    }

    #[test]
    fn an_hour_has_so_many_events_and_the_end_of_an_alarm_comes_in_the_next_one() {
        let mut alarms = Alarms::default();
        let mut told = 0;
        for minute in 0..59 {
            let reasons: &[Reason] = if minute % 2 == 0 { &[Reason::Stuck] } else { &[] };
            told += usize::from(alarms.next(minute * HOUR / 60, reasons).is_some());
        }
        assert_eq!(told, EVENTS_AN_HOUR);
        assert_eq!(alarms.next(HOUR, &[Reason::Stuck]), Some(Told::Raised(Reason::Stuck)));
        assert_eq!(alarms.next(HOUR, &[]), None, "the limit");
        assert_eq!(alarms.next(2 * HOUR, &[]), Some(Told::Over(Reason::Stuck)));
    }
}

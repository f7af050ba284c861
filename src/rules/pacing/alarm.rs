//! When people are alerted that mail is stuck, and when that it moves again.
//!
//! Each reason is reported once when it appears and once when it is over. The events are found by comparing the
//! reported alarms with the current reasons. So an event that has to wait for the hourly limit is not lost, and a
//! reason that came and went meanwhile is not reported at all. Time comes as an argument.

use std::time::Duration;

/// The events in an hour, ends included: a route that works only now and then must not wear out a phone.
const EVENTS_AN_HOUR: usize = 12;
const HOUR: Duration = Duration::from_secs(3600);

/// Why an alarm is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A message is too old.
    Stuck,
    /// Mail to `admin` cannot be delivered and is held.
    Held,
    /// This route has not worked for too long.
    Route(String),
    /// Messages that lie in memory cannot be saved.
    Memory,
    /// The token of this login is missing, or refused for good.
    Token(String),
}

impl Reason {
    /// The word for the log and the environment.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Held => "held",
            Self::Route(_) => "route",
            Self::Memory => "memory",
            Self::Token(_) => "token",
        }
    }
}

/// An event to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlarmEvent {
    /// An alarm.
    Raised(Reason),
    /// The reason is gone.
    Over(Reason),
}

/// The alarms that were reported and are not over.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: Vec<Reason>,
    /// The running times of the events within the last hour.
    recent: Vec<Duration>,
}

impl Alarms {
    /// The next event to report, given the current `reasons`.
    pub fn next(&mut self, now: Duration, reasons: &[Reason]) -> Option<AlarmEvent> {
        self.recent.retain(|&at| now.saturating_sub(at) < HOUR);
        if self.recent.len() >= EVENTS_AN_HOUR {
            return None;
        }
        let told = if let Some(new) = reasons.iter().find(|reason| !self.standing.contains(reason)) {
            self.standing.push(new.clone());
            AlarmEvent::Raised(new.clone())
        } else {
            let over = self.standing.iter().position(|reason| !reasons.contains(reason))?;
            AlarmEvent::Over(self.standing.remove(over))
        };
        self.recent.push(now);
        Some(told)
    }

    /// The alarms that were reported and are not over.
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
        assert_eq!(alarms.next(now, &both), Some(AlarmEvent::Raised(Reason::Stuck)));
        assert_eq!(alarms.next(now, &both), Some(AlarmEvent::Raised(route("a"))));
        assert_eq!(alarms.next(now, &both), None);
        let other = [route("b")];
        assert_eq!(alarms.next(now, &other), Some(AlarmEvent::Raised(route("b"))));
        assert_eq!(alarms.next(now, &other), Some(AlarmEvent::Over(Reason::Stuck)));
        assert_eq!(alarms.next(now, &other), Some(AlarmEvent::Over(route("a"))));
        assert_eq!((alarms.next(now, &other), alarms.standing()), (None, &other[..]));
        assert_eq!(alarms.next(now, &[]), Some(AlarmEvent::Over(route("b"))));
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
        assert_eq!(alarms.next(HOUR, &[Reason::Stuck]), Some(AlarmEvent::Raised(Reason::Stuck)));
        assert_eq!(alarms.next(HOUR, &[]), None, "the limit");
        assert_eq!(alarms.next(2 * HOUR, &[]), Some(AlarmEvent::Over(Reason::Stuck)));
    }
}

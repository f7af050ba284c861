//! The pause of one route, with back-off.
//!
//! Failures of DNS, connect, TLS, EHLO and AUTH, and 421, are failures of the route: they pause it and leave its
//! messages as they are. So do the refusals of a smarthost that `rules::advice::refusal` counts to the route.
//!
//! | state | `admit` | leaves it by |
//! | --- | --- | --- |
//! | closed | yes | `failed`: to open |
//! | open until a time | no, until then | the time, or `clear` |
//! | trying, until a deadline | once, then no | `failed`: to open again; `succeeded` or `resume`: to closed; `put_off`: the next `admit` may try |
//!
//! So a dead or hostile next hop sees one connection for each step of the back-off, however many messages wait. All
//! times are running times ([`crate::mail::date::Now::running`]).

use super::retry::ATTEMPTS_BEFORE_EXPIRY;
use crate::mail::outcome::Diagnostic;
use crate::rules::advice::row::About;
use std::time::Duration;

/// A try that was not reported within this time is given up, and the next one starts: its worker has died. Twice the
/// longest session (30 min).
const TRY_DEADLINE: Duration = Duration::from_secs(3600);

/// The state of one route.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// Failures of one kind in a row.
    failures: u32,
    /// Whether these failures are refusals.
    are_refusals: bool,
    /// The time of the first failure since the route last worked.
    failing_since: Option<Duration>,
    pause: Option<Pause>,
    /// The latest failures, in a ring: as many as expiry counts.
    recent: [Option<Duration>; ATTEMPTS_BEFORE_EXPIRY as usize],
}

/// Why a route pauses.
#[derive(Debug, Clone)]
pub struct RouteFailure {
    /// What failed.
    pub reason: Diagnostic,
    /// What the smarthost's refusal is about, if other messages would be refused as well: the operator has to act.
    pub refusal: Option<About>,
}

impl From<Diagnostic> for RouteFailure {
    fn from(reason: Diagnostic) -> Self {
        Self { reason, refusal: None }
    }
}

/// Why nothing is tried, and until when.
#[derive(Debug, Clone)]
pub struct Pause {
    /// The running time at which the next try may start.
    pub until: Duration,
    /// The latest failure.
    pub reason: Diagnostic,
    /// What the smarthost's refusal is about.
    pub refusal: Option<About>,
    /// A try was let through, and `until` is its deadline.
    pub trying: bool,
}

impl Breaker {
    /// Whether a connection may start now. The first `true` after a pause is the one try: report it by
    /// [`Self::failed`] or [`Self::clear`].
    pub fn admit(&mut self, now: Duration) -> bool {
        let Some(pause) = &mut self.pause else { return true };
        if now < pause.until {
            return false;
        }
        (pause.trying, pause.until) = (true, now.saturating_add(TRY_DEADLINE));
        true
    }

    /// Whether the route is paused, or its one try is under way.
    #[must_use]
    pub fn is_open(&self, now: Duration) -> bool {
        self.pause.as_ref().is_some_and(|pause| now < pause.until)
    }

    /// The route has failed and pauses for `step`, the step for `self.failures_with(…)`. A connection that started
    /// before the pause and fails during it is no news and does not lengthen the back-off: false.
    pub fn failed(&mut self, now: Duration, step: Duration, failure: RouteFailure) -> bool {
        if self.pause.as_ref().is_some_and(|pause| !pause.trying && now < pause.until) {
            return false;
        }
        let RouteFailure { reason, refusal } = failure;
        self.failures = self.failures_with(refusal.is_some());
        self.are_refusals = refusal.is_some();
        self.failing_since.get_or_insert(now);
        self.recent.rotate_right(1);
        if let Some(latest) = self.recent.first_mut() {
            *latest = Some(now);
        }
        self.pause = Some(Pause { until: now.saturating_add(step), reason, refusal, trying: false });
        true
    }

    /// The one try was postponed without a result: it may start again.
    pub fn put_off(&mut self, now: Duration) {
        if let Some(pause) = self.pause.as_mut().filter(|pause| pause.trying) {
            (pause.trying, pause.until) = (false, now);
        }
    }

    /// The route works.
    pub fn succeeded(&mut self) {
        self.failing_since = None;
        self.clear();
    }

    /// The time at which the route began to fail, if it has not worked since. A manual retry does not reset it.
    #[must_use]
    pub fn failing_since(&self) -> Option<Duration> {
        self.failing_since
    }

    /// Ends the pause and the back-off: after a change of configuration, `link up`, or a request of the operator.
    pub fn clear(&mut self) {
        self.failures = 0;
        self.pause = None;
    }

    /// Whether the one try after a pause is under way.
    #[must_use]
    pub fn is_trying(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.trying)
    }

    /// The one try has shown that one message had failed, not the route: ends the pause and keeps the back-off. A pause that
    /// began since, by the failure of another connection, goes on.
    pub fn resume(&mut self) {
        self.pause.take_if(|pause| pause.trying);
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The number of failures in a row, the next one included. Refusals and other failures are counted separately,
    /// because their pauses differ.
    #[must_use]
    pub fn failures_with(&self, is_refusal: bool) -> u32 {
        if self.are_refusals == is_refusal { self.failures.saturating_add(1) } else { 1 }
    }

    /// The pause, if the route has failed and not worked since; it may be over.
    #[must_use]
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// Failures at or after the running time `since`, at most [`ATTEMPTS_BEFORE_EXPIRY`]. They count as attempts of
    /// the messages that waited for the route.
    #[must_use]
    pub fn failures_since(&self, since: Duration) -> u32 {
        self.recent.iter().flatten().filter(|&&at| at >= since).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::status::EnhancedStatus;

    const STEP: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn refused() -> RouteFailure {
        Diagnostic::local(EnhancedStatus::NO_ANSWER, "connection refused").into()
    }

    fn paused_at_zero() -> Breaker {
        let mut breaker = Breaker::default();
        assert!(breaker.admit(at(0)));
        breaker.failed(at(0), STEP, refused());
        breaker
    }

    #[test]
    fn a_well_route_takes_all() {
        let mut breaker = Breaker::default();
        assert!(breaker.admit(at(0)) && breaker.admit(at(0)) && !breaker.is_open(at(0)));
        assert!(breaker.pause().is_none());
    }

    #[test]
    fn a_pause_lets_one_try_through_when_it_ends() {
        let mut breaker = paused_at_zero();
        assert!(breaker.is_open(at(59)) && !breaker.admit(at(59)));
        assert_eq!(
            breaker.pause().map(|p| (p.until, p.reason.text.as_str())),
            Some((STEP, "connection refused"))
        );
        assert!(!breaker.is_open(at(60)));
        assert!(breaker.admit(at(60)));
        assert!(breaker.is_open(at(61)) && !breaker.admit(at(61)), "one try at a time");
        breaker.failed(at(90), 5 * STEP, refused());
        assert_eq!((breaker.failures, breaker.pause().map(|p| p.until)), (2, Some(at(390))));
        assert!(!breaker.admit(at(389)) && breaker.admit(at(390)));
        breaker.clear();
        assert!(breaker.admit(at(391)) && breaker.admit(at(391)));
        assert_eq!(breaker.failures, 0);
    }

    #[test]
    fn a_try_that_is_never_reported_does_not_freeze_the_route() {
        let mut breaker = paused_at_zero();
        assert!(breaker.admit(at(60)));
        assert!(!breaker.admit(at(60 + 3599)));
        assert!(breaker.admit(at(60 + 3600)));
    }

    #[test]
    fn connections_that_fail_together_count_once() {
        let mut breaker = paused_at_zero();
        breaker.failed(at(1), 5 * STEP, refused());
        assert_eq!((breaker.failures, breaker.pause().map(|p| p.until)), (1, Some(STEP)));
    }

    #[test]
    fn the_last_three_failures_are_remembered_beyond_a_success() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failures_since(at(0)), 0);
        for (i, expected) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
            breaker.failed(at(i * 100), STEP, refused());
            assert_eq!(breaker.failures_since(at(0)), expected);
        }
        breaker.clear();
        assert_eq!([200, 300, 301, 401].map(|s| breaker.failures_since(at(s))), [3, 2, 1, 0]);
    }

    /// The first refusal pauses for its own first step, however often the route could not be reached before.
    #[test]
    fn refusals_are_counted_apart() {
        let mut breaker = Breaker::default();
        let over_limit = RouteFailure { refusal: Some(About::Limit), ..refused() };
        let mut fail = |seconds: u64, failure: &RouteFailure| {
            assert!(breaker.admit(at(seconds)));
            let count = breaker.failures_with(failure.refusal.is_some());
            breaker.failed(at(seconds), Duration::from_secs(1), failure.clone());
            assert_eq!(breaker.failures, count);
            count
        };
        let counts = [fail(1, &refused()), fail(2, &refused()), fail(3, &over_limit), fail(4, &over_limit)];
        assert_eq!((counts, fail(5, &refused())), ([1, 2, 1, 2], 1));
        breaker.resume();
        assert!(breaker.pause().is_some(), "the pause of another connection goes on");
        assert!(breaker.admit(at(6)));
        breaker.resume();
        assert!(breaker.pause().is_none() && breaker.failing_since().is_some());
        assert_eq!(breaker.failures_with(false), 2, "the back-off is kept");
    }
}

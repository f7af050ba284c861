//! The answer for monitoring plugins (`pillarbox status --check`): one line with figures after a bar, and an exit
//! code.
//!
//! The form follows the Monitoring Plugins guidelines: `PILLARBOX OK - text|label=value;warn;crit;min`.
//!
//! | level | exit code | when |
//! | --- | --- | --- |
//! | OK | 0 | otherwise |
//! | WARNING | 1 | more messages or an older one than the warning thresholds, a route that has not worked for `alarm.stuck_after`, a token that has ended or will, the link is down, the disk is nearly full, half of `queue.max_size`, the switch of `heartbeat.url` is not reached for an interval, a certificate ends within 10 days or can't be read |
//! | CRITICAL | 2 | more messages or an older one than the critical thresholds, mail to `admin` that cannot be delivered, a mailbox that does not answer, a login without a token, a full disk, nine tenths of `queue.max_size`, a certificate that ends within 3 days or has ended |
//! | UNKNOWN | 3 | the daemon does not answer |
//!
//! Default thresholds are half and nine tenths of `queue.max_messages`, and once and twice `alarm.stuck_after`. The
//! module does no I/O; only the thresholds, which a person has typed, can be invalid.
//!
//! An example:
//!
//! ```text
//! PILLARBOX WARNING - 12 queued, the oldest for 5h 2m, next hops that pause: 1|queue=12;5000;9000;0;10000 age=18120s;14400;28800;0 size=48211B;;;0 paused=1;;;0
//! ```

use std::time::Duration;

/// The health of the queue, as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Exit code 0.
    Ok,
    /// Exit code 1.
    Warning,
    /// Exit code 2.
    Critical,
    /// Exit code 3: unknown.
    Unknown,
}

impl Level {
    /// The line for this level, with its line end.
    #[must_use]
    pub fn line(self, text: &str) -> String {
        let word = match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        };
        format!("PILLARBOX {word} - {text}\n")
    }
}

/// The thresholds. `None`: the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// More messages than this are a warning.
    pub warning: Option<u64>,
    /// More messages than this are critical.
    pub critical: Option<u64>,
    /// A higher age of the oldest message, in seconds, is a warning.
    pub warning_age: Option<u64>,
    /// A higher age of the oldest message, in seconds, is critical.
    pub critical_age: Option<u64>,
}

/// The options, and whether the value is an age.
const OPTIONS: [(&str, bool); 4] =
    [("--warning", false), ("--critical", false), ("--warning-age", true), ("--critical-age", true)];

impl Thresholds {
    fn slots(&mut self) -> [&mut Option<u64>; 4] {
        [&mut self.warning, &mut self.critical, &mut self.warning_age, &mut self.critical_age]
    }

    /// Parses options and their values.
    ///
    /// # Errors
    /// An unknown option, or an invalid value; in words.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut thresholds = Self::default();
        for pair in words.chunks(2) {
            let &[option, value] = pair else { return Err(format!("{} wants a value", pair.concat())) };
            let mut rows = OPTIONS.iter().zip(thresholds.slots());
            let Some(((_, is_age), slot)) = rows.find(|((name, _), _)| *name == option) else {
                return Err(format!("{option} is not known here"));
            };
            *slot = if *is_age { parse_age(value) } else { value.parse().ok() };
            if slot.is_none() {
                let wanted = if *is_age { "an age such as 30m or 4h" } else { "a number" };
                return Err(format!("{option} wants {wanted}, not {value:?}"));
            }
        }
        Ok(thresholds)
    }

    /// The options, each after a blank.
    #[must_use]
    pub fn print(&self) -> String {
        let mut copy = self.clone();
        let rows = OPTIONS.iter().zip(copy.slots());
        rows.filter_map(|((name, _), slot)| slot.map(|value| format!(" {name} {value}"))).collect()
    }
}

/// Parses seconds, or a number with a unit.
fn parse_age(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let units = [("", 1), ("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The figures to judge.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Messages in the queue.
    pub messages: u64,
    /// Their size in octets.
    pub octets: u64,
    /// The number of messages to `admin` that cannot be delivered: the operator has to act.
    pub kept: u64,
    /// The number of users whose mailbox does not answer: it hangs, or the delivery agent does.
    pub hanging: u64,
    /// The age of the oldest message that is not held, in seconds.
    pub age: u64,
    /// The number of routes that pause.
    pub paused: u64,
    /// The number of routes that have not worked for `stuck_after`, or whose host refuses.
    pub failing: u64,
    /// Logins whose token is missing, or refused for good: a person has to log in.
    pub tokenless: u64,
    /// Logins whose token has ended, or will soon.
    pub ending: u64,
    /// The reason of the first pausing route, if the asker may know it.
    pub why: Option<String>,
    /// `queue.max_messages`.
    pub max_messages: u64,
    /// `alarm.stuck_after`.
    pub stuck_after: Duration,
    /// What has no figure here, such as a link that is down or a certificate that ends: its level, and a sentence.
    pub others: Vec<(Level, String)>,
}

/// Judges the figures: the line, and the exit code. See the table above.
#[must_use]
pub fn judge(figures: &Figures, thresholds: &Thresholds) -> (String, u8) {
    let &Figures { messages, octets, kept, hanging, age, paused, failing, max_messages, stuck_after, .. } =
        figures;
    let stuck = stuck_after.as_secs();
    let warning = thresholds.warning.unwrap_or(max_messages / 2);
    let critical = thresholds.critical.unwrap_or(max_messages.saturating_mul(9) / 10);
    let warning_age = thresholds.warning_age.unwrap_or(stuck);
    let critical_age = thresholds.critical_age.unwrap_or(stuck.saturating_mul(2));
    let of_figures =
        if messages > critical || age > critical_age || kept > 0 || hanging > 0 || figures.tokenless > 0 {
            Level::Critical
        } else if messages > warning || age > warning_age || failing > 0 || figures.ending > 0 {
            Level::Warning
        } else {
            Level::Ok
        };
    let level = figures.others.iter().map(|(level, _)| *level).fold(of_figures, Level::max);
    let mut text = format!("{messages} queued");
    if messages > 0 {
        text.push_str(&format!(", the oldest for {}", span(age)));
    }
    if kept > 0 {
        text.push_str(&format!(", held because they cannot be delivered to admin: {kept}"));
    }
    if hanging > 0 {
        text.push_str(&format!(", mailboxes that do not answer: {hanging}"));
    }
    if paused > 0 {
        text.push_str(&format!(", next hops that pause: {paused}"));
    }
    if failing > 0 {
        text.push_str(&format!(", that have not worked for {}, or refuse: {failing}", span(stuck)));
    }
    if figures.tokenless > 0 {
        text.push_str(&format!(", logins without a token (run pillarbox login): {}", figures.tokenless));
    }
    if figures.ending > 0 {
        text.push_str(&format!(", tokens that have ended or will soon: {}", figures.ending));
    }
    if let Some(why) = &figures.why {
        // Text after a bar would count as figures.
        text.push_str(&format!(" ({})", why.replace('|', "/")));
    }
    for (_, other) in figures.others.iter().filter(|(level, _)| *level > Level::Ok) {
        text.push_str(&format!("; {}", other.replace('|', "/")));
    }
    text.push_str(&format!(
        "|queue={messages};{warning};{critical};0;{max_messages} age={age}s;{warning_age};{critical_age};0 \
         size={octets}B;;;0 paused={paused};;;0"
    ));
    (level.line(&text), level as u8)
}

/// A span of time in its two largest units: `3d 4h`.
#[must_use]
pub fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, unit)| seconds >= *unit) else { return "0s".to_owned() };
    let (mut rest, mut words) = (seconds, Vec::new());
    for (name, unit) in units.iter().skip(first).take(2) {
        if rest >= *unit {
            words.push(format!("{}{name}", rest / unit));
        }
        rest %= unit;
    }
    words.join(" ")
}

/// How long something has lasted: `long` with the time behind it, or `just` for what has begun within this second.
#[must_use]
pub fn lasting(seconds: u64, long: &str, just: &str) -> String {
    if seconds == 0 { just.to_owned() } else { format!("{long} for {}", span(seconds)) }
}

/// When something happens: `in 3h`, or `now`.
#[must_use]
pub fn coming(seconds: u64) -> String {
    if seconds == 0 { "now".to_owned() } else { format!("in {}", span(seconds)) }
}

/// A size in the unit that suits it: `12 KiB`.
#[must_use]
pub fn size(octets: u64) -> String {
    match octets {
        0..1024 => format!("{octets} octets"),
        1024..1_048_576 => format!("{} KiB", octets / 1024),
        1_048_576..1_073_741_824 => format!("{}.{} MiB", octets >> 20, (octets >> 10) % 1024 * 10 / 1024),
        _ => format!("{}.{} GiB", octets >> 30, (octets >> 20) % 1024 * 10 / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn thresholds_are_read_and_what_is_none_is_told() {
        let words = ["--warning", "5", "--critical-age", "2h", "--critical", "10", "--warning-age", "90"];
        let thresholds = Thresholds::parse(&words).unwrap();
        let expected = Thresholds {
            warning: Some(5),
            critical: Some(10),
            warning_age: Some(90),
            critical_age: Some(7200),
        };
        assert_eq!(thresholds, expected);
        for bad in [
            &["--warning"][..],
            &["--warning", "4h"],
            &["--warning", "-1"],
            &["--warning-age", "h"],
            &["--warning-age", "4 h"],
            &["--critical-age", "99999999999999999d"],
            &["--loud", "1"],
            &["5"],
        ] {
            assert!(Thresholds::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_level_follows_the_thresholds() {
        let figures = |messages, age, failing| Figures {
            messages,
            age,
            failing,
            max_messages: 100,
            stuck_after: Duration::from_secs(3600),
            ..Figures::default()
        };
        let defaults = Thresholds::default();
        for (messages, age, failing, code) in [
            (0, 0, 0, 0),
            (50, 3600, 0, 0),
            (51, 0, 0, 1),
            (1, 3601, 0, 1),
            (1, 0, 1, 1),
            (91, 0, 0, 2),
            (1, 7201, 0, 2),
        ] {
            assert_eq!(
                judge(&figures(messages, age, failing), &defaults).1,
                code,
                "{messages} {age} {failing}"
            );
        }
        // However few they are: somebody has to look.
        let kept = Figures { kept: 1, ..figures(1, 0, 0) };
        assert_eq!(judge(&kept, &defaults).1, 2);
        let (line, code) = judge(&Figures { hanging: 1, ..figures(0, 0, 0) }, &defaults);
        assert!(code == 2 && line.contains("0 queued, mailboxes that do not answer: 1|"), "{line}");
        let (line, code) = judge(&Figures { tokenless: 1, ..figures(0, 0, 0) }, &defaults);
        assert!(code == 2 && line.contains("run pillarbox login): 1|"), "{line}");
        assert_eq!(judge(&Figures { ending: 1, ..figures(0, 0, 0) }, &defaults).1, 1);
        let others =
            vec![(Level::Ok, "fine".to_owned()), (Level::Warning, "The link is down|now.".to_owned())];
        let (line, code) = judge(&Figures { others: others.clone(), ..figures(0, 0, 0) }, &defaults);
        assert!(
            code == 1 && line.starts_with("PILLARBOX WARNING - 0 queued; The link is down/now.|queue=0;"),
            "{line}"
        );
        assert_eq!(judge(&Figures { others, ..figures(91, 0, 0) }, &defaults).1, 2, "the worst counts");
        let own = Thresholds { warning: Some(1), critical_age: Some(5), ..defaults };
        assert_eq!((judge(&figures(2, 0, 0), &own).1, judge(&figures(1, 6, 0), &own).1), (1, 2));
        assert_eq!(
            judge(&figures(2, 5, 0), &own).0,
            "PILLARBOX WARNING - 2 queued, the oldest for 5s|queue=2;1;90;0;100 age=5s;3600;5;0 size=0B;;;0 paused=0;;;0\n"
        );
    }

    #[test]
    fn spans_are_told_by_two_units() {
        let told = [0, 59, 60, 3661, 86_400, 90_000, 200_000].map(span);
        assert_eq!(told, ["0s", "59s", "1m", "1h 1m", "1d", "1d 1h", "2d 7h"]);
    }

    proptest! {
        #[test]
        fn thresholds_are_read_as_they_are_printed(
            warning: Option<u64>, critical: Option<u64>, warning_age: Option<u64>, critical_age: Option<u64>
        ) {
            let thresholds = Thresholds { warning, critical, warning_age, critical_age };
            let printed = thresholds.print();
            let words: Vec<&str> = printed.split_ascii_whitespace().collect();
            prop_assert_eq!(Thresholds::parse(&words), Ok(thresholds));
        }
    }
}

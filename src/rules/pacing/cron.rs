//! The cron expression of `queue.schedule`: when the forwarder may work.
//!
//! Five fields (minute, hour, day of month, month, weekday) as in crontab(5), matched against local time. Time and
//! time zone come as arguments. Only parsing can fail.

use crate::mail::date::WallTime;
use time::{Date, OffsetDateTime};

/// The Gregorian calendar, with its weekdays and leap years, repeats after this many days: an expression that matches
/// on none of them never matches.
const CALENDAR_CYCLE_DAYS: u32 = 146_097;
const MINUTES_OF_A_DAY: u32 = 24 * 60;

/// Names for a whole expression.
const NICKNAMES: [(&str, &str); 4] =
    [("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@weekly", "0 0 * * 0"), ("@monthly", "0 0 1 * *")];

const MINUTE: CronField = CronField { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: CronField = CronField { name: "hour", first: 0, last: 23, names: &[] };
const DAY: CronField = CronField { name: "day of month", first: 1, last: 31, names: &[] };
const MONTH: CronField = CronField {
    name: "month",
    first: 1,
    last: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Sunday is 0 and 7.
const WEEKDAY: CronField = CronField {
    name: "weekday",
    first: 0,
    last: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// A cron expression that matches at some time. Bit `n` of a set stands for the value `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpression {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day of month and weekday both begin without `*`: then one of them is enough (crontab(5)).
    either_day: bool,
}

impl CronExpression {
    /// Parses five fields with `*`, lists, ranges, steps and names, or one of `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`.
    ///
    /// # Errors
    /// A sentence that names the field and says what to write; also for an expression that never matches.
    pub fn parse(text: &str) -> Result<Self, String> {
        let nickname = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        let fields: Vec<&str> =
            nickname.map_or(text, |(_, fields)| fields).split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            let nicknames = NICKNAMES.map(|(name, _)| name).join(", ");
            return Err(format!(
                "\"{text}\" is not a schedule; write five fields, \"minute hour day-of-month month weekday\", \
                 or one of {nicknames}"
            ));
        };
        let weekdays = WEEKDAY.parse(weekday)?;
        let expression = Self {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: weekdays | weekdays >> 7,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        match expression.next_after(WallTime(0), 0) {
            Some(_) => Ok(expression),
            None => Err(format!(
                "\"{text}\" never comes: no {} \"{day}\" is in {} \"{month}\"; write * for one of them",
                DAY.name, MONTH.name
            )),
        }
    }

    /// Whether it matches the minute of `wall`, at a place where local time is `utc_offset` seconds ahead of UTC.
    #[must_use]
    pub fn matches(&self, wall: WallTime, utc_offset: i32) -> bool {
        civil(wall, utc_offset, 0).is_some_and(|civil| {
            let minute = minute_of_day(civil);
            self.matches_day(civil.date()) && self.minute_from(minute) == Some(minute)
        })
    }

    /// The start of the first matching minute after the minute of `wall`, by the current offset in seconds. A change
    /// of summer time in between moves the result by an hour, so the caller keeps it only until that change. `None`
    /// only for a clock near the year 9999.
    #[must_use]
    pub fn next_after(&self, wall: WallTime, utc_offset: i32) -> Option<WallTime> {
        let start = civil(wall, utc_offset, 1)?;
        let (mut date, mut from) = (start.date(), minute_of_day(start));
        for _ in 0..=CALENDAR_CYCLE_DAYS {
            if self.matches_day(date)
                && let Some(minute) = self.minute_from(from)
            {
                let midnight = date.midnight().assume_utc().unix_timestamp();
                let seconds = midnight + i64::from(minute) * 60 - i64::from(utc_offset);
                return u64::try_from(seconds).ok()?.checked_mul(1_000_000).map(WallTime);
            }
            (date, from) = (date.next_day()?, 0);
        }
        None
    }

    fn matches_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day().into());
        let weekday = has(self.weekdays, date.weekday().number_days_from_sunday().into());
        has(self.months, u8::from(date.month()).into())
            && if self.either_day { day || weekday } else { day && weekday }
    }

    fn minute_from(&self, first: u32) -> Option<u32> {
        (first..MINUTES_OF_A_DAY)
            .find(|minute| has(self.hours, minute / 60) && has(self.minutes, minute % 60))
    }
}

fn has(set: u64, value: u32) -> bool {
    set >> value & 1 == 1
}

/// Local civil time `later` minutes on, stored as if it were UTC.
fn civil(wall: WallTime, utc_offset: i32, later: i64) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(wall.seconds()).ok()?.checked_add(utc_offset.into())?;
    OffsetDateTime::from_unix_timestamp(seconds.checked_add(later * 60)?).ok()
}

fn minute_of_day(civil: OffsetDateTime) -> u32 {
    u32::from(civil.hour()) * 60 + u32::from(civil.minute())
}

/// One of the five fields: its values, and the names of the first of them.
struct CronField {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

impl CronField {
    fn parse(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        for item in text.split(',') {
            let (range, step) =
                item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
            let (first, mut last) = self.range(range)?;
            if step.is_some() && !range.contains('-') {
                // "5/15" means "5-59/15", as in other crons.
                last = self.last;
            }
            let step = match step.map(str::parse::<usize>) {
                None => 1,
                Some(Ok(step)) if step > 0 => step,
                Some(_) => {
                    return Err(format!("the step in the {} \"{item}\" must be a number from 1", self.name));
                }
            };
            set |= (first..=last).step_by(step).fold(0, |set, value| set | 1 << value);
        }
        Ok(set)
    }

    fn range(&self, text: &str) -> Result<(u32, u32), String> {
        if text == "*" {
            return Ok((self.first, self.last));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, mut last) = (self.value(first)?, self.value(last)?);
        if last == 0 && first > 0 && self.last == WEEKDAY.last {
            // "fri-sun" ends with the Sunday after Friday.
            last = WEEKDAY.last;
        }
        if first > last {
            let (name, min, max) = (self.name, self.first, self.last);
            return Err(format!("the {name} \"{text}\" runs backwards; write {first}-{max},{min}-{last}"));
        }
        Ok((first, last))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let by_name = self.names.iter().zip(self.first..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        by_name
            .map(|(_, value)| value)
            .or_else(|| text.parse().ok())
            .filter(|value| (self.first..=self.last).contains(value))
            .ok_or_else(|| {
                let names = match (self.names.first(), self.names.last()) {
                    (Some(first), Some(last)) => format!(", {first} to {last}"),
                    _ => String::new(),
                };
                let (name, min, max) = (self.name, self.first, self.last);
                format!("the {name} \"{text}\" is not known; write {min} to {max}{names}, or *")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::{Month, PrimitiveDateTime, Time};

    fn wall(year: i32, month: u8, day: u8, hour: u8, minute: u8) -> WallTime {
        let date = Date::from_calendar_date(year, Month::try_from(month).unwrap(), day).unwrap();
        let civil = PrimitiveDateTime::new(date, Time::from_hms(hour, minute, 0).unwrap());
        WallTime(civil.assume_utc().unix_timestamp().cast_unsigned() * 1_000_000)
    }

    fn next(expression: &str, from: WallTime, utc_offset: i32) -> String {
        let next = CronExpression::parse(expression).unwrap().next_after(from, utc_offset).unwrap();
        let shown = next.to_utc();
        format!("{} {:02}:{:02}", shown.date(), shown.hour(), shown.minute())
    }

    #[test]
    fn the_next_time_is_the_one_that_a_person_expects() {
        // 2026-11-23 is a Monday.
        let monday = wall(2026, 11, 23, 6, 53);
        for (expression, expected) in [
            ("* * * * *", "2026-11-23 06:54"),
            ("53 6 * * *", "2026-11-24 06:53"),
            ("*/15 * * * *", "2026-11-23 07:00"),
            ("0,30 8-18/2 * * mon-fri", "2026-11-23 08:00"),
            ("5/20 * * * *", "2026-11-23 07:05"),
            ("0 3 * * 0", "2026-11-29 03:00"),
            ("0 3 * * 7", "2026-11-29 03:00"),
            ("0 3 * * Sun", "2026-11-29 03:00"),
            ("0 3 * * sat-sun", "2026-11-28 03:00"),
            ("0 3 * * 5-7", "2026-11-27 03:00"),
            ("0 0 1 JAN *", "2027-01-01 00:00"),
            ("0 0 29 2 *", "2028-02-29 00:00"),
            ("59 23 31 12 *", "2026-12-31 23:59"),
            ("@hourly", "2026-11-23 07:00"),
            ("@daily", "2026-11-24 00:00"),
            ("@Weekly", "2026-11-29 00:00"),
            (" @monthly ", "2026-12-01 00:00"),
        ] {
            assert_eq!(next(expression, monday, 0), expected, "{expression}");
        }
    }

    #[test]
    fn day_of_month_and_weekday_are_joined_as_in_crontab_5() {
        let monday = wall(2026, 11, 23, 6, 53);
        // Both restricted: either is enough.
        assert_eq!(next("0 0 25 * fri", monday, 0), "2026-11-25 00:00");
        assert_eq!(next("0 0 30 * fri", monday, 0), "2026-11-27 00:00");
        // One begins with a star: both must hold. Of 1, 8, 15, 22, 29 the first Friday is 2027-01-01.
        assert_eq!(next("0 0 */7 * fri", monday, 0), "2027-01-01 00:00");
        // A leap day on a Sunday comes after 2100, which has none.
        assert_eq!(next("0 0 29 2 */7", wall(2080, 1, 1, 0, 0), 0), "2088-02-29 00:00");
        assert_eq!(next("0 0 29 2 */7", wall(2089, 1, 1, 0, 0), 0), "2128-02-29 00:00");
    }

    #[test]
    fn local_time_counts() {
        // 23:30 UTC on the 23rd is 00:30 on the 24th at +01:00, and 18:30 at −05:00.
        let late = wall(2026, 11, 23, 23, 30);
        assert_eq!(next("0 1 * * *", late, 3600), "2026-11-24 00:00");
        assert_eq!(next("0 19 * * *", late, -5 * 3600), "2026-11-24 00:00");
        assert_eq!(next("0 0 * * tue", late, 3600), "2026-11-30 23:00");
        assert!(CronExpression::parse("30 0 24 * *").unwrap().matches(late, 3600));
        assert!(!CronExpression::parse("30 0 24 * *").unwrap().matches(late, 0));
        // A clock that stands at 1970 west of Greenwich is before 1970 there.
        assert_eq!(next("0 20 * * *", WallTime(0), -5 * 3600), "1970-01-01 01:00");
        let hourly = CronExpression::parse("@hourly").unwrap();
        assert_eq!(hourly.next_after(WallTime(u64::MAX), 0), None);
    }

    #[test]
    fn a_bad_expression_says_what_to_write() {
        for (expression, hint) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("* * * * * *", "@hourly"),
            ("@reboot", "@hourly, @daily"),
            ("60 * * * *", "the minute \"60\" is not known; write 0 to 59, or *"),
            ("* 24 * * *", "the hour \"24\""),
            ("* * 0 * *", "the day of month \"0\" is not known; write 1 to 31, or *"),
            ("* * * 13 *", "the month \"13\" is not known; write 1 to 12, jan to dec, or *"),
            ("* * * * 8", "the weekday \"8\""),
            ("* * * jna *", "jan to dec"),
            ("-1 * * * *", "the minute \"\""),
            ("1, * * * *", "the minute \"\""),
            ("* 22-2 * * *", "write 22-23,0-2"),
            ("*/0 * * * *", "the step in the minute"),
            ("*/x * * * *", "must be a number from 1"),
            ("0 0 30 2 *", "never comes"),
            ("0 0 31 4,6,9,11 *", "never comes"),
        ] {
            let error = CronExpression::parse(expression).unwrap_err();
            assert!(error.contains(hint), "{expression}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_next_time_is_the_first_minute_that_matches(
            minute in "(\\*|[0-5]?[0-9]|\\*/(7|20)|1-9)", hour in "(\\*|1?[0-9]|\\*/5)",
            day in "(\\*|[12][0-8]|\\*/2)", weekday in "(\\*|[0-7]|mon-wed)",
            start in 0u64..4_000_000_000, utc_offset in -50_000i32..50_000,
        ) {
            let expression = CronExpression::parse(&format!("{minute} {hour} {day} * {weekday}")).unwrap();
            let start = WallTime(start * 1_000_000);
            let next = expression.next_after(start, utc_offset).unwrap();
            prop_assert!(next > start);
            prop_assert!(expression.matches(next, utc_offset));
            let local = next.seconds().cast_signed() + i64::from(utc_offset);
            prop_assert_eq!(local.rem_euclid(60), 0);
            // None of the 2,000 minutes before it matches, as far back as the start.
            for back in 1..2000u64 {
                let earlier = WallTime(next.0.saturating_sub(back * 60_000_000));
                if earlier <= start { break }
                prop_assert!(!expression.matches(earlier, utc_offset));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-*/,0-9a-z@ ]{0,30}|\\PC{0,30}") {
            let _ = CronExpression::parse(&text);
        }
    }
}

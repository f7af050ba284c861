//! The kinds of values: how a TOML value becomes a Rust value, and the complaint if it can't.
//!
//! A *reader* (`boolean`, `count(1, 9)`, `path`) turns one TOML value into a Rust value, or returns a sentence of the form
//! "what is wrong; what to write instead". A *wrapper* makes a row of `keys` from a reader and adds the place of the value:
//!
//! | wrapper | takes | gives |
//! | --- | --- | --- |
//! | `one` | one value | it |
//! | `optional` | empty text, or what it wraps | `None`, or that |
//! | `list` | an array, or one value | all of them |
//! | `some` | the same, not empty | all of them |
//! | `each` | an array, or one value, of what it wraps | all of them |
//! | `pairs` | a table with names of the user's choice | an element for each |
//! | `named` | the same, with tables as values | an element for each |
//!
//! Readers for addresses, hosts and other nouns of mail are in `mail_kinds`. Nothing here touches the disk.

use super::strange::blank_around;
use super::values::Choice;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// A TOML value and where it stands.
pub type TomlValue<'a> = Spanned<DeValue<'a>>;
/// Complaints: an offset into the text, and the sentence.
pub type Complaints = Vec<(usize, String)>;
/// The result of a reader.
pub type Read<T> = Result<T, String>;

/// Units of time, in seconds.
const SECONDS: [(&str, u64); 5] = [("d", DAY), ("h", 3600), ("m", 60), ("s", 1), ("", 1)];
/// Units of size, in octets.
const OCTETS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];
/// A day in seconds.
pub const DAY: u64 = 86_400;
/// The largest size that can be written: more than any disk holds, and safe from overflow.
const SIZE_MAX_OCTETS: u64 = 1 << 50;
/// Longest name of a Unix socket in octets: `sun_path` without its NUL.
const SOCKET_PATH_MAX_OCTETS: usize = 107;

/// Exactly one value.
pub fn one<T>(
    read: impl Fn(&DeValue<'_>) -> Read<T>,
) -> impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<T> {
    move |value, complaints| match read(value.get_ref()) {
        Ok(good) => Some(good),
        Err(text) => {
            complain(value, text, complaints);
            None
        }
    }
}

/// Adds a complaint about a value.
#[cold]
pub fn complain(value: &TomlValue<'_>, text: String, complaints: &mut Complaints) {
    complaints.push((value.span().start, text));
}

/// The value that `read` gives, or `None` for empty text.
pub fn optional<T>(
    read: impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<T>,
) -> impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<Option<T>> {
    move |value, complaints| match value.get_ref().as_str() {
        Some("") => Some(None),
        _ => read(value, complaints).map(Some),
    }
}

/// Any number of values; a single value stands for a list of one. Every bad value gets its complaint.
pub fn list<T>(
    read: impl Fn(&DeValue<'_>) -> Read<T>,
) -> impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<Vec<T>> {
    each(one(read))
}

/// The same of what it wraps.
pub fn each<T>(
    read: impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<T>,
) -> impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<Vec<T>> {
    move |value, complaints| match value.get_ref() {
        DeValue::Array(values) => {
            let good: Vec<T> = values.iter().filter_map(|value| read(value, complaints)).collect();
            (good.len() == values.len()).then_some(good)
        }
        _ => read(value, complaints).map(|value| vec![value]),
    }
}

/// A list that can't be empty.
pub fn some<T>(
    read: impl Fn(&DeValue<'_>) -> Read<T>,
) -> impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<Vec<T>> {
    let list = list(read);
    move |value, complaints| {
        let values = list(value, complaints)?;
        if values.is_empty() {
            complain(value, "the list is empty; write at least one value".into(), complaints);
        }
        (!values.is_empty()).then_some(values)
    }
}

/// A table whose keys the user chooses, and whose values are no tables.
pub fn pairs<T>(
    read: impl Fn(&str, &TomlValue<'_>, &mut Complaints) -> Option<T>,
) -> impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<Vec<T>> {
    move |value, complaints| table_of(value, complaints, false, &read)
}

/// A table whose keys the user chooses.
pub fn named<T>(
    read: impl Fn(&str, &TomlValue<'_>, &mut Complaints) -> Option<T>,
) -> impl Fn(&TomlValue<'_>, &mut Complaints) -> Option<Vec<T>> {
    move |value, complaints| table_of(value, complaints, true, &read)
}

fn table_of<T>(
    value: &TomlValue<'_>,
    complaints: &mut Complaints,
    takes_tables: bool,
    read: &dyn Fn(&str, &TomlValue<'_>, &mut Complaints) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(table) = value.get_ref().as_table() else {
        complain(value, wrong(value.get_ref(), "a table such as { \"name\" = \"value\" }"), complaints);
        return None;
    };
    let good: Vec<T> = table
        .iter()
        .filter_map(|(key, value)| {
            if value.get_ref().is_table() && !takes_tables {
                let text = "a name with a dot splits; write it in quotes: \"example.org\"";
                complaints.push((key.span().start, text.into()));
                return None;
            }
            read(key.get_ref(), value, complaints)
        })
        .collect();
    (good.len() == table.len()).then_some(good)
}

fn wrong(value: &DeValue<'_>, expected: &str) -> String {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    format!("{article} {} is not allowed here; write {expected}", value.type_str())
}

/// The text of a value; `expected` says what to write where a value is no text.
pub fn text<'a>(value: &'a DeValue<'_>, expected: &str) -> Read<&'a str> {
    let text = value.as_str().ok_or_else(|| wrong(value, expected))?;
    if text.contains(char::is_control) {
        return Err("a control character is not allowed here; remove it".into());
    }
    blank_around(text).map_or(Ok(text), Err)
}

/// A truth value.
pub fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| wrong(value, "true or false"))
}

/// A whole number within bounds.
pub fn count(least: u32, most: u32) -> impl Fn(&DeValue<'_>) -> Read<u32> {
    move |value| {
        let expected = || format!("a whole number from {least} to {most}");
        let DeValue::Integer(number) = value else { return Err(wrong(value, &expected())) };
        let number = u32::from_str_radix(number.as_str(), number.radix()).ok();
        number
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| format!("the number is out of range; write {}", expected()))
    }
}

/// A TCP port.
pub fn port(value: &DeValue<'_>) -> Read<u16> {
    count(1, u16::MAX.into())(value).map(|port| u16::try_from(port).unwrap_or(u16::MAX))
}

/// A span of time within bounds, which are in seconds.
pub fn duration(least: u64, most: u64) -> impl Fn(&DeValue<'_>) -> Read<Duration> {
    move |value| {
        amount(value, &SECONDS, least..=most, "a duration such as \"90s\", \"15m\", \"4h\" or \"5d\"")
            .map(Duration::from_secs)
    }
}

/// A size of at least `least` octets.
pub fn size(least: u64) -> impl Fn(&DeValue<'_>) -> Read<u64> {
    move |value| {
        amount(
            value,
            &OCTETS,
            least..=SIZE_MAX_OCTETS,
            "a size such as \"64KiB\", \"25MiB\" or 4096 (octets)",
        )
    }
}

/// A bare number, or a number with a unit.
fn amount(
    value: &DeValue<'_>,
    units: &[(&str, u64)],
    range: std::ops::RangeInclusive<u64>,
    expected: &str,
) -> Read<u64> {
    let amount = match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => {
            let text = text(value, expected)?;
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
            let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()));
            let factor = factor.map(|&(_, factor)| factor).filter(|_| !number.is_empty());
            let Some(factor) = factor else {
                return Err(format!("{text:?} is not understood; write {expected}"));
            };
            number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor))
        }
    };
    amount.filter(|n| range.contains(n)).ok_or_else(|| {
        let (least, most) = (in_units(*range.start(), units), in_units(*range.end(), units));
        format!("the value is out of range; write one from {least} to {most}")
    })
}

/// The number in the largest unit that divides it, as the user would write it.
fn in_units(number: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(*factor));
    unit.map_or_else(|| number.to_string(), |(name, factor)| format!("\"{}{name}\"", number / factor))
}

/// Text that pillarbox only passes on.
pub fn string(value: &DeValue<'_>) -> Read<String> {
    text(value, "text in quotes").map(str::to_owned)
}

/// One of some words.
pub fn word(words: &'static [&'static str]) -> impl Fn(&DeValue<'_>) -> Read<&'static str> {
    move |value| {
        let known = value.as_str().and_then(|text| words.iter().find(|word| **word == text));
        known.copied().ok_or_else(|| not_one_of(value, &mut words.iter().copied()))
    }
}

/// One of some words, each with its meaning.
pub fn choice<T: Copy>(choices: &'static [Choice<T>]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let known = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        known
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| not_one_of(value, &mut choices.iter().map(|(word, _)| *word)))
    }
}

/// The complaint about a value other than `words`.
fn not_one_of(value: &DeValue<'_>, words: &mut dyn Iterator<Item = &'static str>) -> String {
    let quoted: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
    let expected = format!("one of {}", quoted.join(", "));
    match text(value, &expected) {
        Ok(text) => format!("{text:?} is not known here; write {expected}"),
        Err(problem) => problem,
    }
}

/// An absolute path.
pub fn path(value: &DeValue<'_>) -> Read<PathBuf> {
    let text = text(value, "a path in quotes")?;
    if text.starts_with('/') {
        Ok(PathBuf::from(text))
    } else {
        Err(format!("{text:?} is not an absolute path; write one that begins with \"/\""))
    }
}

/// The path of a Unix socket.
pub fn socket_path(value: &DeValue<'_>) -> Read<PathBuf> {
    let path = path(value)?;
    if path.as_os_str().len() > SOCKET_PATH_MAX_OCTETS {
        return Err(format!(
            "the path is too long for a socket; write at most {SOCKET_PATH_MAX_OCTETS} octets"
        ));
    }
    Ok(path)
}

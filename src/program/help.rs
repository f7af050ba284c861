//! Words, options and flags of the commands, a row each: the help is made from them, the parser of the command line knows its
//! options by them, and so do the completions in `etc/completions/`.
//!
//! The rows of a command are one text, because a slice of strings would need a pointer and a relocation for each:
//!
//! ```text
//! --warning NUMBER<TAB>of waiting messages for WARNING
//! A line without a tab is shown as it is.
//! ```

/// A word, an option or a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// As it is typed: `hold`, `--json`, `-s`.
    pub name: &'static str,
    /// What follows it, if anything: `FILE`; in brackets if it may be left out, with `…` if there may be several.
    pub value: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// The rows of such a text.
pub fn rows(text: &'static str) -> impl Iterator<Item = Row> {
    text.lines().filter_map(|line| {
        let (call, about) = line.split_once('\t')?;
        let (name, value) = call.split_once(' ').unwrap_or((call, ""));
        Some(Row { name, value, about })
    })
}

/// The row of an option, by its name without the dashes.
pub fn option(text: &'static str, name: &str) -> Option<Row> {
    rows(text).find(|row| row.name.strip_prefix("--") == Some(name))
}

/// The lines of such a text, for people.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        match line.split_once('\t') {
            Some((call, about)) => shown += &format!("  {call:27} {about}\n"),
            None => shown += &format!("{line}\n"),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_name_perhaps_a_value_and_what_it_does() {
        const TEXT: &str =
            "--age DURATION\tof a message\nFree text.\nhold ID…\tkeeps messages back\n--all\tall";
        let found: Vec<_> = rows(TEXT).map(|row| (row.name, row.value, row.about)).collect();
        let expected = [
            ("--age", "DURATION", "of a message"),
            ("hold", "ID…", "keeps messages back"),
            ("--all", "", "all"),
        ];
        assert_eq!(found, expected);
        assert_eq!(option(TEXT, "all").map(|row| row.about), Some("all"));
        assert_eq!((option(TEXT, "hold"), option(TEXT, "ag")), (None, None));
        let shown = shown(TEXT);
        assert!(
            shown.contains("\nFree text.\n") && shown.starts_with("  --age DURATION              of a"),
            "{shown}"
        );
    }
}

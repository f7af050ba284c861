//! Walks the rows: defaults and types; and compares them with INTERFACE and with the file we install.

use super::*;
use crate::config::parse;
use crate::config::walk::path;
use std::fmt::Write;
use toml::de::DeTable;

fn rows() -> impl Iterator<Item = (&'static Table, &'static KeyRow)> {
    TABLES.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)))
}

/// A file that sets one key.
fn setting(table: &Table, row: &KeyRow, value: &str) -> String {
    match (table.name, table.repeat.is_some()) {
        ("", _) => format!("{} = {value}\n", row.key),
        (name, true) => format!("[[{name}]]\n{} = {value}\n", row.key),
        (name, false) => format!("{name}.{} = {value}\n", row.key),
    }
}

/// The defaults, with an entry in each table that may be repeated.
fn with_entries() -> Settings {
    let mut settings = Settings::default();
    TABLES.iter().for_each(|table| table.add_entry(&mut settings));
    settings
}

fn messages(text: &str) -> Vec<String> {
    parse(text, "f").err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn every_default_is_readable_and_may_be_written() {
    for (table, row) in rows() {
        let text = setting(table, row, row.default);
        let value = DeValue::parse(row.default).unwrap();
        let mut complaints = Complaints::new();
        let mut settings = with_entries();
        (row.set)(&mut settings, &value, &mut complaints);
        assert_eq!((settings, complaints), (with_entries(), Vec::new()), "{text}");
        // One key alone makes no [[dkim]].
        if table.name != "dkim" {
            assert_eq!(parse(&text, "f"), Ok(Settings::default()), "{text}");
        }
    }
}

#[test]
fn the_rows_are_those_of_the_interface() {
    let text = include_str!("interface.toml");
    let file = DeTable::parse(text).unwrap();
    let mut found = Vec::new();
    let mut settings = with_entries();
    let mut compare = |table: &str, key: &str, value: &TomlValue<'_>| {
        let path = format!("{table}.{key}");
        let row = rows().find(|(t, r)| t.name == table && r.key == key);
        let (_, row) = row.unwrap_or_else(|| panic!("no row for {path}"));
        let mut complaints = Complaints::new();
        let before = settings.clone();
        (row.set)(&mut settings, value, &mut complaints);
        let changed = settings != before;
        assert_eq!(complaints, [], "{path}");
        let example = matches!(path.as_str(), ".hostname" | ".admin" | "local.domains") || table == "dkim";
        assert_eq!(changed, example, "the default of {path}");
        found.push(path);
    };
    for (name, value) in file.get_ref() {
        let entry = value.get_ref().as_array().and_then(|entries| entries.first()).unwrap_or(value);
        match entry.get_ref().as_table() {
            Some(table) => {
                table.iter().for_each(|(key, value)| compare(name.get_ref(), key.get_ref(), value))
            }
            None => compare("", name.get_ref(), value),
        }
    }
    let mut expected: Vec<_> = rows().map(|(table, row)| format!("{}.{}", table.name, row.key)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_wrong_type_is_told_with_its_place() {
    for (table, row) in rows() {
        for wrong in ["1979-05-27", "1.5", "[[1]]"] {
            let text = setting(table, row, wrong);
            let (line, column) = match table.repeat {
                Some(_) => (2, row.key.len() + 4),
                None => (1, text.find(wrong).unwrap() + 1),
            };
            let column = if wrong == "[[1]]" { column..=column + 1 } else { column..=column };
            let messages = messages(&text);
            assert_eq!(messages.len(), 1, "{text}: {messages:?}");
            let fits = |column| messages[0].starts_with(&format!("f:{line}:{column}: "));
            assert!(column.clone().any(fits), "{text}: {messages:?}");
            assert!(messages[0].contains("is not allowed here; write "), "{messages:?}");
        }
    }
}

#[test]
fn a_dkim_key_needs_all_of_its_keys() {
    let lines = ["domain = \"a.example\"\n", "selector = \"s\"\n", "key = \"/k\"\n"];
    let whole = format!("[[dkim]]\n{}", lines.concat());
    let settings = parse(&whole.repeat(2), "f").unwrap();
    assert_eq!((settings.dkim.len(), parse("dkim = []\n", "f")), (2, Ok(Settings::default())));
    for line in lines {
        let told = messages(&format!("{whole}{}", whole.replace(line, "")));
        assert_eq!(told, [format!("f:5:1: {DKIM_NEEDS}")], "{line}");
        let told = messages(&whole.replace(line, &format!("{} = \"\"\n", line.split(' ').next().unwrap())));
        assert_eq!(told, [format!("f:1:1: {DKIM_NEEDS}")], "{line}");
    }
}

const DKIM_NEEDS: &str = "[[dkim]] needs all of domain, selector and key; write them";

/// The text at the top of the installed file.
const HEAD: &str = "\
# The configuration of pillarbox. Every key has a default, and shows it here behind a \"# \": to change a key, take
# the \"# \" away and write another value. `pillarbox check` tells what is wrong, and where.
#
# Durations are \"90s\", \"15m\", \"4h\", \"5d\" or bare seconds; sizes \"64KiB\", \"25MiB\" or bare octets.
# One value may stand for a list of one. No secret needs to be in this file.
";

/// The installed file, made from the rows. Its keys carry the names of their tables, so that each can be used
/// without a `[table]` above it; only the tables that may be repeated have their headers, at the end.
fn installed() -> String {
    let mut file = HEAD.to_owned();
    for (table, chapter) in TABLES.iter().zip(MANUAL) {
        if !table.name.is_empty() {
            writeln!(file, "\n\n## {}:{}", table.name, chapter.about.replace('\n', "")).unwrap();
        }
        if table.repeat.is_some() {
            writeln!(file, "\n# [[{}]]", table.name).unwrap();
        }
        for (row, about) in table.rows.iter().zip(chapter.rows) {
            file.push('\n');
            about.lines().for_each(|line| writeln!(file, "#{line}").unwrap());
            writeln!(file, "{}", commented(table, row)).unwrap();
        }
    }
    file
}

fn commented(table: &Table, row: &KeyRow) -> String {
    let name = if table.repeat.is_some() { row.key.to_owned() } else { path(table, row) };
    format!("# {name} = {}", row.default)
}

/// Run with UPDATE_EXPECT=1 after a row was changed.
#[test]
fn the_installed_file_shows_every_row() {
    expect_test::expect_file!["../../../etc/pillarbox/pillarbox.toml"].assert_eq(&installed());
}

#[test]
fn each_key_of_the_installed_file_can_be_uncommented() {
    let file = include_str!("../../../etc/pillarbox/pillarbox.toml");
    assert_eq!(parse(file, "f"), Ok(Settings::default()));
    for (table, row) in rows() {
        let header = format!("# [[{}]]", table.name);
        let (before, below) = match table.repeat {
            Some(_) => file.split_once(&header).unwrap(),
            None => ("", file),
        };
        let wanted = commented(table, row);
        assert!(below.contains(&format!("\n{wanted}\n")), "{wanted}");
        let header = if table.repeat.is_some() { header.trim_start_matches("# ") } else { "" };
        let below = below.replacen(&wanted, wanted.trim_start_matches("# "), 1);
        let told = messages(&format!("{before}{header}{below}"));
        let needs_others = table.name == "dkim" && told.len() == 1 && told[0].contains(DKIM_NEEDS);
        assert!(told.is_empty() || needs_others, "{told:?}");
    }
}

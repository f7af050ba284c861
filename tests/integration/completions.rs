//! `etc/completions/`: what bash and zsh offer behind `pillarbox`, written from the rows of the help by
//! `UPDATE_EXPECT=1 cargo test --test integration completions`. Whether the shells take them is asked of the shells, in
//! `tests/interop/completions.rs`.

use expect_test::expect_file;
use pillarbox::program::help::{Row, rows};
use pillarbox::program::sendmail::flags::{FLAGS, Takes};
use pillarbox::program::{COMMANDS, COMMON, CommandRow};
use std::fmt::Write;

const BASH: &str = include_str!("completions/bash");
const ZSH: &str = include_str!("completions/zsh");

/// What completes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Files,
    Commands,
    /// Nothing: only a person knows it.
    Free,
}

impl Kind {
    fn of(row: &Row) -> Self {
        match row.value.trim_matches(['[', ']']) {
            "FILE" => Self::Files,
            "COMMAND" => Self::Commands,
            _ => Self::Free,
        }
    }

    /// The function of the file for bash.
    const fn bash(self) -> &'static str {
        match self {
            Self::Files => "_pillarbox_files",
            Self::Commands => "_pillarbox_words \"$(compgen -c -- \"$current\")\"",
            Self::Free => ":",
        }
    }

    /// The action of `_arguments`.
    const fn zsh(self) -> &'static str {
        match self {
            Self::Files => "_files",
            Self::Commands => "_command_names -e",
            Self::Free => " ",
        }
    }
}

/// The options of a command.
fn options(command: &CommandRow) -> Vec<Row> {
    if command.name != "sendmail" {
        return rows(command.rows).filter(|row| row.name.starts_with('-')).collect();
    }
    let told = FLAGS.iter().filter(|flag| !flag.about.is_empty());
    let row = |flag: &'static pillarbox::program::sendmail::flags::Flag| {
        let tells_value = matches!(flag.takes, Takes::Value | Takes::Glued);
        let (value, about) = flag.about.split_once(' ').filter(|_| tells_value).unwrap_or(("", flag.about));
        // A glued value is part of the word, which no shell can complete.
        let value = if flag.takes == Takes::Glued { "" } else { value };
        Row { name: format!("-{}", flag.letter).leak(), value, about: about.trim_start() }
    };
    told.map(row).collect()
}

/// The words that may come first behind a command.
fn words(command: &CommandRow) -> Vec<Row> {
    rows(command.rows).filter(|row| !row.name.starts_with('-')).collect()
}

/// Whether queue ids stand behind a word.
fn takes_ids(word: &Row) -> bool {
    word.value.trim_start_matches('[').starts_with("ID")
}

/// Whether a command has [`COMMON`]: the others read their own flags.
fn has_common(command: &CommandRow) -> bool {
    !["sendmail", "mail"].contains(&command.name)
}

/// The long options of most commands.
fn common() -> Vec<Row> {
    let long = |row: Row| Row { name: row.value.split(' ').next().unwrap(), value: "", about: row.about };
    rows(COMMON).map(long).collect()
}

fn names(rows: &[Row]) -> String {
    rows.iter().map(|row| row.name).collect::<Vec<_>>().join(" ")
}

#[test]
fn bash_completes_what_the_help_tells() {
    let (mut values, mut offers, mut flags) = (String::new(), String::new(), String::new());
    for kind in [Kind::Files, Kind::Commands, Kind::Free] {
        let patterns = COMMANDS.iter().flat_map(|command| {
            let valued = options(command)
                .into_iter()
                .filter(move |row| !row.value.is_empty() && Kind::of(row) == kind);
            valued.map(move |row| format!("{}:{}", command.name, row.name))
        });
        let patterns: Vec<String> = patterns.collect();
        writeln!(values, "        {}) {} ;;", patterns.join(" | "), kind.bash()).unwrap();
    }
    for command in &COMMANDS {
        let (name, words, mut all) = (command.name, words(command), options(command));
        if !words.is_empty() {
            writeln!(offers, "        {name}:) _pillarbox_words '{}' ;;", names(&words)).unwrap();
        }
        let with_ids: Vec<String> =
            words.iter().filter(|row| takes_ids(row)).map(|row| format!("{name}:{}", row.name)).collect();
        if !with_ids.is_empty() {
            let pattern = with_ids.join(" | ");
            writeln!(offers, "        {pattern}) _pillarbox_words \"all $(_pillarbox_ids)\" ;;").unwrap();
        }
        all.extend(has_common(command).then(common).unwrap_or_default());
        writeln!(flags, "        {name}) _pillarbox_words '{}' ;;", names(&all)).unwrap();
    }
    let commands: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
    let text = BASH
        .replace("@COMMANDS@", &commands.join(" "))
        .replace("@COMMON@", &names(&common()))
        .replace("        @VALUES@\n", &values)
        .replace("        @OFFERS@\n", &offers)
        .replace("        @FLAGS@\n", &flags);
    expect_file!["../../etc/completions/bash"].assert_eq(&text);
}

/// Text in quotes of the shell, within a specification of `_arguments` or `_describe`.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("'\\''"),
            '[' | ']' | ':' | '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted
}

#[test]
fn zsh_completes_what_the_help_tells() {
    let describe = |rows: &mut dyn Iterator<Item = (&str, &str)>| {
        rows.map(|(name, about)| format!(" '{name}:{}'", quoted(about))).collect::<String>()
    };
    let mut arguments = String::new();
    for command in &COMMANDS {
        let (name, words) = (command.name, words(command));
        write!(arguments, "        {name})\n            _arguments -s").unwrap();
        if has_common(command) {
            arguments.push_str(" $common");
        }
        for row in options(command) {
            let value = row.value.trim_matches(['[', ']', '\'']);
            let value = if value.is_empty() {
                String::new()
            } else {
                let optional = if row.value.starts_with('[') { ":" } else { "" };
                format!(":{optional}{}:{}", quoted(value), Kind::of(&row).zsh())
            };
            write!(arguments, " \\\n                '*{}[{}]{value}'", row.name, quoted(row.about)).unwrap();
        }
        if words.is_empty() {
            // Values that only a person knows.
            writeln!(arguments, " \\\n                '*: : '\n            ;;").unwrap();
            continue;
        }
        arguments.push_str(" \\\n                '1:word:->word' '*:of the word:->rest'\n");
        let mut about = words.iter().map(|row| (row.name, row.about));
        writeln!(arguments, "            words_of=({} )", describe(&mut about)).unwrap();
        let with_ids: Vec<&str> = words.iter().filter(|row| takes_ids(row)).map(|row| row.name).collect();
        writeln!(arguments, "            ids_of=({})\n            ;;", with_ids.join(" ")).unwrap();
    }
    let mut commands = COMMANDS.iter().map(|command| (command.name, command.about));
    let mut text = ZSH.replace("@COMMANDS@", &describe(&mut commands));
    for row in common() {
        let key = format!("@{}@", row.name.trim_start_matches('-').to_uppercase());
        text = text.replace(&key, &quoted(row.about));
    }
    expect_file!["../../etc/completions/zsh"].assert_eq(&text.replace("        @ARGUMENTS@\n", &arguments));
}

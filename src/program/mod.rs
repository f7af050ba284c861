//! The commands, and the command line that picks one.
//!
//! | file | command |
//! | --- | --- |
//! | `serve`, `check`, `setup`, `login`, `queue`, `probe`, `status`, `link`, `passwd` | `pillarbox` and that word |
//! | `sendmail/` | sendmail(8) and `mail`, with command lines of their own; it also starts `queue` and `serve` for its old flags |
//!
//! Shared by commands, and using none of them: `privileges` (from root to `user`), `remote` (the client of the control
//! socket), `findings` (problems of a configuration), `steps` (how a probe is shown), `help` (rows of options), `terminal`, `exit`. Apart from
//! sendmail, and from setup, which ends with `login`, no command uses another. A command returns a [`CommandFailure`] instead of
//! ending the process, so tests can run it. [`run`] makes the exit code of it.
//!
//! ```text
//! argv[0] ─┬─ pillarbox [-c FILE] COMMAND … ─▶ row of COMMANDS ─▶ its `run`
//!          └─ mailq, sendmail, msmtp, … ────▶ row of NAMES ────▶ row of COMMANDS
//! configuration: -c FILE, else $PILLARBOX_CONFIG, else /etc/pillarbox/pillarbox.toml
//! ```
//!
//! The environment does not count for a set-id program, whose caller could otherwise choose the configuration. Failures are
//! lines on standard error; output that a reader has stopped reading is no failure.

pub mod check;
pub mod confinement;
pub mod exit;
pub mod findings;
pub mod help;
pub mod link;
pub mod login;
mod memory_queue;
pub mod passwd;
pub mod privileges;
pub mod probe;
pub mod queue;
pub mod remote;
pub mod sendmail;
pub mod serve;
pub mod setup;
pub mod status;
pub mod steps;
pub mod terminal;

use crate::sys::{journal, signals, user};
use exit::CommandFailure;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The configuration file unless another is named.
const CONFIG: &str = "/etc/pillarbox/pillarbox.toml";

/// A command.
pub struct CommandRow {
    /// The word of the command line.
    pub name: &'static str,
    /// The operands, for the help; if empty, the command takes none.
    pub operands: &'static str,
    /// Whose flags follow the name.
    arguments: ArgumentStyle,
    /// Its words, and options of its own, which [`parse`] puts among the operands: see [`help::rows`].
    pub rows: &'static str,
    /// One line for the help.
    pub about: &'static str,
    /// Runs it, with the configuration and the operands.
    run: fn(&Path, &[OsString]) -> Result<(), CommandFailure>,
}

/// The parser of the arguments after the name of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ArgumentStyle {
    /// [`parse`]: the flags that all commands have, and [`CommandRow::rows`].
    Common,
    /// The command itself.
    Own,
}

/// Every command.
pub const COMMANDS: [CommandRow; 12] = [
    CommandRow {
        name: "serve",
        operands: "",
        arguments: ArgumentStyle::Common,
        rows: "",
        about: "run the daemon, in the foreground",
        run: |config, _| serve::run(config),
    },
    CommandRow {
        name: "check",
        operands: "",
        arguments: ArgumentStyle::Common,
        rows: "",
        about: "find mistakes in the configuration and in the files that it names",
        run: |config, _| check::run(config),
    },
    CommandRow {
        name: "setup",
        operands: "[OPTION…]",
        arguments: ArgumentStyle::Common,
        rows: setup::ROWS,
        about: "ask three questions, test the answers, write the configuration",
        run: setup::run,
    },
    CommandRow {
        name: "login",
        operands: "[NAME]",
        arguments: ArgumentStyle::Common,
        rows: login::ROWS,
        about: "get a token (OAuth 2.0) for a smarthost's login; --status",
        run: login::run,
    },
    CommandRow {
        name: "queue",
        operands: "[WORD…]",
        arguments: ArgumentStyle::Common,
        rows: queue::ROWS,
        about: "list what is queued; show, flush, hold, release, remove, bounce ID…; run",
        run: queue::run,
    },
    CommandRow {
        name: "probe",
        operands: "ADDRESS",
        arguments: ArgumentStyle::Common,
        rows: probe::ROWS,
        about: "try each step of a delivery without sending: what fails, and what to change",
        run: probe::run,
    },
    CommandRow {
        name: "status",
        operands: "[--json|…]",
        arguments: ArgumentStyle::Common,
        rows: status::ROWS,
        about: "say how things are, and what to do; also for monitors and as a page",
        run: status::run,
    },
    CommandRow {
        name: "link",
        operands: "up|down|metered",
        arguments: ArgumentStyle::Common,
        rows: link::ROWS,
        about: "tell the daemon whether the network can be reached",
        run: link::run,
    },
    CommandRow {
        name: "passwd",
        operands: "NAME",
        arguments: ArgumentStyle::Common,
        rows: "",
        about: "read a password, print a line for the users file",
        run: |_, operands| passwd::run(operands),
    },
    CommandRow {
        name: "newaliases",
        operands: "",
        arguments: ArgumentStyle::Common,
        rows: "",
        about: "do nothing: the aliases are read as they are",
        run: |_, _| Ok(()),
    },
    CommandRow {
        name: "sendmail",
        operands: "[flags] [ADDRESS…]",
        arguments: ArgumentStyle::Own,
        rows: "",
        about: "take a message from standard input, as sendmail(8)",
        run: |config, arguments| sendmail::run(arguments, config),
    },
    CommandRow {
        name: "mail",
        operands: "[flags] ADDRESS…",
        arguments: ArgumentStyle::Own,
        rows: sendmail::mail::ROWS,
        about: "send standard input as a message, as scripts call mail(1)",
        run: |config, arguments| sendmail::mail::run(arguments, config),
    },
];

/// Names by which the program is called, the command that each stands for, and a flag for it.
const NAMES: [(&str, &str, Option<&str>); 8] = [
    ("mail", "mail", None),
    ("mailx", "mail", None),
    ("mailq", "queue", None),
    ("sendmail", "sendmail", None),
    ("send-mail", "sendmail", None),
    ("msmtp", "sendmail", None),
    ("ssmtp", "sendmail", None),
    ("newaliases", "sendmail", Some("-bi")),
];

/// Runs the command that the arguments name, the first of them being the name by which the program is called; gives the
/// exit code. `environment`: the configuration that it names, if the caller may choose one.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>, environment: Option<OsString>) -> u8 {
    // Nearly every command writes files below `state`.
    signals::survive_file_size_limit();
    let environment = environment.filter(|_| !user::has_raised_rights());
    let done = parse_program(arguments).and_then(|parsed| match parsed {
        Parsed::Print(text) => {
            // A reader that closed the pipe has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(())
        }
        Parsed::Run(row, config, operands) => (row.run)(&config_file(config, environment), &operands),
    });
    match done {
        Ok(()) => exit::OK,
        Err(failure) => {
            let mark = journal::mark(journal::ERROR);
            let lines: String = failure.lines.iter().map(|line| format!("{mark}{line}\n")).collect();
            let _ = std::io::stderr().write_all(lines.as_bytes());
            failure.code
        }
    }
}

/// The configuration that the option names, else the environment unless empty, else the default.
fn config_file(option: Option<PathBuf>, environment: Option<OsString>) -> PathBuf {
    let environment = environment.filter(|name| !name.is_empty()).map(PathBuf::from);
    option.or(environment).unwrap_or_else(|| PathBuf::from(CONFIG))
}

/// The name of the program may stand for a command.
fn parse_program(mut arguments: impl Iterator<Item = OsString>) -> Result<Parsed, CommandFailure> {
    let called = arguments.next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default();
    let Some((_, command, flag)) = NAMES.iter().find(|(name, ..)| called == *name) else {
        return parse(None, arguments);
    };
    // The mailq of other mailers is their sendmail, and monitors call `mailq -v` and `mailq -Ac`.
    let is_of_sendmail = |word: &OsString| {
        let word = word.as_encoded_bytes();
        called == "mailq" && word.starts_with(b"-") && !word.get(1).is_none_or(|flag| b"-chV".contains(flag))
    };
    let arguments = flag.iter().map(OsString::from).chain(arguments).filter(|word| !is_of_sendmail(word));
    match row(command) {
        Some(row) if row.arguments == ArgumentStyle::Own => Ok(Parsed::Run(row, None, arguments.collect())),
        row => parse(row, arguments),
    }
}

/// A parsed command line.
enum Parsed {
    /// The help or the version.
    Print(String),
    /// A command, the configuration that the option names, and the operands.
    Run(&'static CommandRow, Option<PathBuf>, Vec<OsString>),
}

fn row(name: &str) -> Option<&'static CommandRow> {
    COMMANDS.iter().find(|row| row.name == name)
}

/// Reads the common command line. `command` is known already where the program's name stands for one.
fn parse(
    command: Option<&'static CommandRow>,
    arguments: impl Iterator<Item = OsString>,
) -> Result<Parsed, CommandFailure> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut command, mut config, mut operands) = (command, None, Vec::new());
    while let Some(argument) = parser.next().map_err(|error| unread(command, &error))? {
        match argument {
            Short('h') | Long("help") => {
                return Ok(Parsed::Print(command.map_or_else(help, help_of)));
            }
            Short('V') | Long("version") => return Ok(Parsed::Print(version())),
            Short('c') | Long("config") => {
                config = Some(PathBuf::from(parser.value().map_err(|error| unread(command, &error))?));
            }
            Value(name) if command.is_none() && name == "help" => return Ok(Parsed::Print(help())),
            Value(name) if command.is_none() => {
                let row = name.to_str().and_then(row);
                let row = row.ok_or_else(|| usage(None, &format!("there is no command {name:?}")))?;
                if row.arguments == ArgumentStyle::Own {
                    let rest = parser.raw_args().map_err(|error| unread(command, &error))?;
                    return Ok(Parsed::Run(row, config, rest.collect()));
                }
                command = Some(row);
            }
            Value(operand) if command.is_some_and(|row| !row.operands.is_empty()) => operands.push(operand),
            Long(option) if command.is_some_and(|row| help::option(row.rows, option).is_some()) => {
                operands.push(format!("--{option}").into());
                operands.extend(parser.optional_value());
            }
            argument => return Err(unread(command, &argument.unexpected())),
        }
    }
    match command {
        Some(row) => Ok(Parsed::Run(row, config, operands)),
        None => Err(usage(None, "name a command")),
    }
}

fn unread(command: Option<&CommandRow>, error: &lexopt::Error) -> CommandFailure {
    usage(command, &error.to_string())
}

/// A command line that can't be read, and where to look.
fn usage(command: Option<&CommandRow>, error: &str) -> CommandFailure {
    let (space, name) = command.map_or(("", ""), |row| (" ", row.name));
    let lines = vec![format!("pillarbox: {error}"), format!("try: pillarbox{space}{name} --help")];
    CommandFailure { code: exit::USAGE, lines }
}

/// The version, and what decides about most reports of mistakes: the library for TLS and the target.
fn version() -> String {
    let (version, tls) = (env!("CARGO_PKG_VERSION"), openssl::version::version());
    let (os, libc) = (std::env::consts::OS, if cfg!(target_env = "musl") { "-musl" } else { "" });
    format!("pillarbox {version}\nTLS: {tls}\ntarget: {}-{os}{libc}\n", std::env::consts::ARCH)
}

/// What all commands take.
pub const COMMON: &str = "\
-c, --config FILE\tthe configuration (default: /etc/pillarbox/pillarbox.toml)
-h, --help\tthis text; behind a command: its words and options
-V, --version\tthe version";

fn help() -> String {
    let mut text = String::from("usage: pillarbox [--config FILE] COMMAND\n\n");
    for row in &COMMANDS {
        text.push_str(&format!("  {:10} {:19} {}\n", row.name, row.operands, row.about));
    }
    text + "\n" + &help::shown(COMMON)
}

fn help_of(row: &CommandRow) -> String {
    let CommandRow { name, operands, about, rows, .. } = row;
    let usage = format!("pillarbox [--config FILE] {name} {operands}");
    format!("usage: {}\n\n{name}: {about}\n\n", usage.trim_end()) + &help::shown(rows) + &help::shown(COMMON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(&'static str, Option<PathBuf>), u8> {
        parsed_with_operands(line).map(|(name, config, _)| (name, config))
    }

    fn parsed_with_operands(line: &str) -> Result<(&'static str, Option<PathBuf>, Vec<OsString>), u8> {
        let arguments = line.split_ascii_whitespace().map(OsString::from);
        match parse(None, arguments).map_err(|failure| failure.code)? {
            Parsed::Run(row, config, operands) => Ok((row.name, config, operands)),
            Parsed::Print(_) => Err(exit::OK),
        }
    }

    #[test]
    fn the_configuration_stands_before_or_after_the_command() {
        assert_eq!(parsed("serve"), Ok(("serve", None)));
        assert_eq!(parsed("-c x check"), Ok(("check", Some("x".into()))));
        assert_eq!(parsed("check --config=y"), Ok(("check", Some("y".into()))));
    }

    #[test]
    fn the_option_comes_before_the_environment_and_that_before_the_default() {
        let file = |option: Option<&str>, environment: &str| {
            config_file(option.map(PathBuf::from), Some(environment.into()))
        };
        assert_eq!(file(Some("x"), "y"), Path::new("x"));
        assert_eq!(file(None, "y"), Path::new("y"));
        assert_eq!(file(None, ""), Path::new(CONFIG));
        assert_eq!(config_file(None, None), Path::new(CONFIG));
    }

    #[test]
    fn only_commands_that_want_operands_get_some() {
        let passwd = |operands: &[&str]| Ok(("passwd", None, operands.iter().map(OsString::from).collect()));
        assert_eq!(parsed_with_operands("passwd tim"), passwd(&["tim"]));
        assert_eq!(parsed_with_operands("passwd -- -x --help"), passwd(&["-x", "--help"]));
        assert_eq!(parsed_with_operands("passwd"), passwd(&[]));
        let queue = |operands: &[&str]| Ok(("queue", None, operands.iter().map(OsString::from).collect()));
        assert_eq!(parsed_with_operands("queue list --json"), queue(&["list", "--json"]));
        let status = |operands: &[&str]| Ok(("status", None, operands.iter().map(OsString::from).collect()));
        let words = ["--check", "--warning", "5", "--critical-age", "4h"];
        assert_eq!(parsed_with_operands("status --check --warning=5 --critical-age 4h"), status(&words));
        assert_eq!(parsed("check now"), Err(exit::USAGE));
    }

    #[test]
    fn sendmail_reads_its_own_flags_and_goes_by_its_names() {
        let read = |line: &str| match parse_program(line.split(' ').map(OsString::from)) {
            Ok(Parsed::Run(row, config, rest)) => {
                let rest: Vec<String> = rest.into_iter().map(|rest| rest.into_string().unwrap()).collect();
                (row.name, config, rest.join(" "))
            }
            _ => ("", None, String::new()),
        };
        for (line, expected) in [
            ("/usr/sbin/sendmail -t -C x", ("sendmail", None, "-t -C x".to_owned())),
            ("send-mail -h 3 --help a", ("sendmail", None, "-h 3 --help a".to_owned())),
            ("/usr/bin/msmtp -a x -t", ("sendmail", None, "-a x -t".to_owned())),
            ("ssmtp -ap x a", ("sendmail", None, "-ap x a".to_owned())),
            ("mailq --json", ("queue", None, "--json".to_owned())),
            ("newaliases -v", ("sendmail", None, "-bi -v".to_owned())),
            ("pillarbox -c y sendmail -V x a", ("sendmail", Some("y".into()), "-V x a".to_owned())),
            ("pillarbox check", ("check", None, String::new())),
            ("sendmail-test -t", ("", None, String::new())),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn the_version_names_the_library_for_tls_and_the_target() {
        let version = version();
        let lines: Vec<&str> = version.lines().collect();
        let [first, tls, target] = lines.as_slice() else { panic!("{version}") };
        assert_eq!(*first, format!("pillarbox {}", env!("CARGO_PKG_VERSION")));
        assert!(tls.starts_with("TLS: ") && tls.contains("SSL ") && tls.contains('.'), "{tls}");
        let expected = format!("target: {}-{}", std::env::consts::ARCH, std::env::consts::OS);
        assert!(target.starts_with(&expected), "{target}");
    }

    #[test]
    fn a_wrong_command_line_is_usage() {
        for line in ["", "frobnicate", "serve now", "serve --fast", "serve --json", "-c"] {
            assert_eq!(parsed(line), Err(exit::USAGE), "{line}");
        }
        let told = |line: &str| {
            parse(None, line.split(' ').map(OsString::from)).err().map(|failure| failure.lines.concat())
        };
        assert!(told("serve --fast").is_some_and(|told| told.ends_with("try: pillarbox serve --help")));
        assert_eq!(parsed("--help"), Err(exit::OK));
        assert_eq!(parsed("help"), Err(exit::OK));
        let printed = |line: &str| match parse(None, line.split(' ').map(OsString::from)) {
            Ok(Parsed::Print(text)) => text,
            _ => String::new(),
        };
        for row in COMMANDS.iter().filter(|row| row.arguments == ArgumentStyle::Common) {
            let name = row.name;
            for line in [format!("{name} --help"), format!("{name} -h")] {
                let text = printed(&line);
                assert!(
                    text.starts_with("usage: ") && text.contains(&format!("\n{name}: {}\n", row.about)),
                    "{text}"
                );
                for row in help::rows(row.rows) {
                    assert!(text.contains(&format!("\n  {} ", row.name)), "{name} {}", row.name);
                }
            }
            assert_eq!(printed(&format!("{name} --version")), version());
        }
        assert!(printed("setup --admin a@b.example --help").contains("\n  --admin ADDRESS "));
        assert!(COMMANDS.iter().all(|row| help().contains(row.name)));
    }
}

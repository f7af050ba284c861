//! The options of `setup`, their help, and their values.

use super::usage;
use crate::program::exit::CommandFailure;
use crate::smtp::sasl::Secret;
use std::ffi::OsString;

/// The options: name, value, and what it is for. An option without a value is a flag; a value in brackets may be left out.
const ROWS: [(&str, &str, &str); 11] = [
    ("admin", "ADDRESS", "gets the alerts: mail for root and postmaster; several with commas between them"),
    (
        "smarthost",
        "HOST",
        "or LOGIN@HOST, or a URL such as smtps://HOST; mx: none; auto: that of your provider",
    ),
    ("username", "LOGIN", "login at the smarthost (default: the address for alerts); \"\": none"),
    ("sender", "ADDRESS", "sender of all mail, if the login is no address"),
    ("password-file", "FILE", "has the password (default: asked for, or the first line of standard input)"),
    ("password-command", "COMMAND", "prints the password"),
    (
        "client-id",
        "ID",
        "of the application, where the smarthost takes tokens (OAuth 2.0) in place of passwords",
    ),
    (
        "from",
        "[FILE]",
        "takes the answers from msmtp, ssmtp, dma, nullmailer, Exim or Postfix: FILE, or what is found",
    ),
    ("set", "'KEY = VALUE'", "adds a line to the configuration; may be repeated"),
    ("force", "", "replaces a configuration, and keeps it as FILE.old"),
    ("no-test", "", "writes the configuration without a test"),
];

/// The names of [`ROWS`], for the parser of the command line.
pub const OPTIONS: &[&str] = &[
    "admin",
    "smarthost",
    "username",
    "sender",
    "password-file",
    "password-command",
    "client-id",
    "from",
    "set",
    "force",
    "no-test",
];

/// The help: what the command does, and its options.
pub fn help() -> String {
    let mut text = String::from(
        "usage: pillarbox [--config FILE] setup [OPTION…]\n\n\
         Asks for the address that gets the alerts, the smarthost and the password there, tests them, and writes the\n\
         configuration. An option gives an answer, which is then not asked for.\n\n",
    );
    for (name, value, about) in ROWS {
        text.push_str(&format!("  {:32} {about}\n", format!("--{name} {value}").trim_end()));
    }
    text
}

/// The options of the command line, with their values.
pub struct Options {
    said: Vec<(&'static str, String)>,
    /// A password that another mailer has.
    pub taken_password: Option<Secret>,
}

impl Options {
    /// Reads the operands.
    ///
    /// # Errors
    /// An option is unknown, or lacks its value.
    pub fn read(operands: &[OsString]) -> Result<Self, CommandFailure> {
        let mut words = operands.iter().map(|word| word.to_str()).peekable();
        let mut said = Vec::new();
        while let Some(word) = words.next() {
            let word = word.ok_or_else(|| usage("an option has to be UTF-8"))?;
            let row = ROWS.iter().find(|(name, ..)| word.strip_prefix("--") == Some(name));
            let (name, wanted, _) = *row.ok_or_else(|| {
                usage(&format!("unknown option {word:?}; the options are --{}", OPTIONS.join(", --")))
            })?;
            let is_next = |next: &Option<&str>| next.is_none_or(|next| !next.starts_with("--"));
            let value = match wanted {
                "" => Some(""),
                wanted if wanted.starts_with('[') => words.next_if(is_next).unwrap_or(Some("")),
                _ => words.next().flatten(),
            };
            let value = value.ok_or_else(|| usage(&format!("--{name} wants a value, as UTF-8")))?;
            said.push((name, value.to_owned()));
        }
        Ok(Self { said, taken_password: None })
    }

    /// Adds answers, which count where the command line has none.
    pub fn add(&mut self, answers: Vec<(&'static str, String)>) {
        self.said.splice(0..0, answers);
    }

    /// All values of an option, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.said.iter().filter(move |(said, _)| *said == name).map(|(_, value)| value.as_str())
    }

    /// The value of an option; the last one counts.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Whether an option is given.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

//! The options of `setup`, and their values.

use super::usage;
use crate::program::exit::CommandFailure;
use crate::program::help;
use crate::smtp::sasl::Secret;
use std::ffi::OsString;

/// The options: see [`crate::program::help::rows`]. One without a value is a flag; a value in brackets may be left out.
pub const ROWS: &str = "\
Asks for the address that gets the alerts, the smarthost and the password there, tests them, and writes the
configuration. An option gives an answer, which is then not asked for.

--admin ADDRESS\tgets the alerts: mail for root and postmaster; several with commas between them
--smarthost HOST\tor LOGIN@HOST, or a URL such as smtps://HOST; mx: none; auto: that of your provider
--username LOGIN\tlogin at the smarthost (default: the address for alerts); \"\": none
--sender ADDRESS\tsender of all mail, if the login is no address
--password-file FILE\thas the password (default: asked for, or the first line of standard input)
--password-command COMMAND\tprints the password
--client-id ID\tof the application, where the smarthost takes tokens (OAuth 2.0) in place of passwords
--from [FILE]\ttakes the answers from msmtp, ssmtp, dma, nullmailer, Exim or Postfix: FILE, or what is found
--set 'KEY = VALUE'\tadds a line to the configuration; may be repeated
--force\treplaces a configuration, and keeps it as FILE.old
--no-test\twrites the configuration without a test
";

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
            let row = word.strip_prefix("--").and_then(|name| help::option(ROWS, name));
            let row = row.ok_or_else(|| {
                usage(&format!("unknown option {word:?}; pillarbox setup --help shows the options"))
            })?;
            let is_next = |next: &Option<&str>| next.is_none_or(|next| !next.starts_with("--"));
            let value = match row.value {
                "" => Some(""),
                wanted if wanted.starts_with('[') => words.next_if(is_next).unwrap_or(Some("")),
                _ => words.next().flatten(),
            };
            let value = value.ok_or_else(|| usage(&format!("{} wants a value, as UTF-8", row.name)))?;
            said.push((row.name.trim_start_matches("--"), value.to_owned()));
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

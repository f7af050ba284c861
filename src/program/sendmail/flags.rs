//! The command line of sendmail(8): thirty years of flags, a row each.
//!
//! Nothing fails: an alert is never lost over a flag. What is not understood becomes a line for standard error.

use crate::mail::envelope::{Body, Notify, Ret};
use crate::smtp::command::Parameter;
use crate::smtp::extension::{self, Offer};
use std::ffi::OsString;
use std::path::PathBuf;

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: the next letter is another flag.
    Nothing,
    /// What is glued to it, if anything. Versions of sendmail differ about these; the next argument may be a recipient.
    Glued,
    /// What is glued to it, or else the next argument.
    Value,
}

/// What a flag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing here.
    Ignored,
    /// Recipients are read from the header section.
    HeaderRecipients,
    /// A lone dot is text on a terminal, too.
    DotsAreText,
    /// Names the sender.
    Sender,
    /// Names the sender's person, for From.
    FullName,
    /// Picks what is done.
    Mode,
    /// Runs the queue.
    RunQueue,
    /// NOTIFY of DSN.
    Notify,
    /// RET of DSN.
    Return,
    /// ENVID of DSN.
    EnvelopeId,
    /// BODY of 8BITMIME.
    Body,
    /// Names the configuration.
    Config,
    /// One of the old options, of which `i` counts.
    Option,
}

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// Its letter.
    pub letter: char,
    /// What follows it.
    pub takes: Takes,
    /// What it does.
    pub effect: Effect,
    /// For the help.
    pub about: &'static str,
}

const fn flag(letter: char, takes: Takes, effect: Effect, about: &'static str) -> Flag {
    Flag { letter, takes, effect, about }
}

const fn ignored(letter: char, takes: Takes) -> Flag {
    flag(letter, takes, Effect::Ignored, "")
}

/// Every flag. Those without words are accepted and ignored.
pub const FLAGS: [Flag; 34] = [
    flag('t', Takes::Nothing, Effect::HeaderRecipients, "recipients from To, Cc and Bcc, too"),
    flag('i', Takes::Nothing, Effect::DotsAreText, "a lone dot does not end the message"),
    flag('f', Takes::Value, Effect::Sender, "ADDRESS  the envelope sender; \"\" or \"<>\" for none"),
    flag('r', Takes::Value, Effect::Sender, "ADDRESS  the same"),
    flag('F', Takes::Value, Effect::FullName, "NAME     of the sender, if there is no From"),
    flag(
        'b',
        Takes::Value,
        Effect::Mode,
        "MODE     m: send (default); s: SMTP on standard input; p: print the queue; v: verify recipients; d: pillarbox serve; i: nothing",
    ),
    flag('q', Takes::Glued, Effect::RunQueue, "[TIME]   run the queue"),
    flag('N', Takes::Value, Effect::Notify, "WHEN     never, or of success, failure, delay"),
    flag('R', Takes::Value, Effect::Return, "WHAT     a bounce returns: full or hdrs"),
    flag('V', Takes::Value, Effect::EnvelopeId, "ID       of the message in notices"),
    flag('B', Takes::Value, Effect::Body, "TYPE     7BIT or 8BITMIME"),
    flag('C', Takes::Value, Effect::Config, "FILE     the configuration"),
    flag('o', Takes::Value, Effect::Option, "i        as -i; other options are ignored"),
    ignored('A', Takes::Value),
    ignored('D', Takes::Value),
    ignored('E', Takes::Glued),
    ignored('G', Takes::Nothing),
    ignored('I', Takes::Nothing),
    ignored('J', Takes::Glued),
    ignored('L', Takes::Value),
    ignored('M', Takes::Value),
    ignored('O', Takes::Value),
    ignored('U', Takes::Nothing),
    ignored('X', Takes::Value),
    ignored('4', Takes::Nothing),
    ignored('6', Takes::Nothing),
    ignored('d', Takes::Glued),
    ignored('e', Takes::Value),
    ignored('h', Takes::Value),
    ignored('m', Takes::Nothing),
    ignored('n', Takes::Nothing),
    ignored('p', Takes::Value),
    ignored('v', Takes::Nothing),
    ignored('x', Takes::Glued),
];

/// What the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// `-bm`: takes a message.
    #[default]
    Send,
    /// `-bs`: speaks SMTP.
    Smtp,
    /// `-bp`, mailq: prints the queue.
    PrintQueue,
    /// `-bi`, newaliases: aliases are text here, and there is nothing to be made of them.
    MakeAliases,
    /// `-bv`: tells what would become of recipients.
    Verify,
    /// `-bd`: the daemon.
    Serve,
    /// `-q` alone: tries the queue now.
    RunQueue,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// A command line that has been read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// What is to be done.
    pub mode: Mode,
    /// `-t`.
    pub header_recipients: bool,
    /// `-i`.
    pub dots_are_text: bool,
    /// `-f`, as it was given.
    pub sender: Option<String>,
    /// `-F`.
    pub full_name: Option<String>,
    /// `-B`.
    pub body: Body,
    /// `-N`.
    pub notify: Option<Notify>,
    /// `-R`.
    pub ret: Option<Ret>,
    /// `-V`.
    pub envid: Option<String>,
    /// `-C`.
    pub config: Option<PathBuf>,
    /// The recipients, as they were given.
    pub recipients: Vec<String>,
    /// What was not understood.
    pub complaints: Vec<String>,
}

/// Reads the arguments that follow the program's name. Flags end at the first recipient: what an application puts
/// behind it, perhaps from a form of a web page, is no flag of ours.
#[must_use]
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Call {
    let mut call = Call::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        match text.strip_prefix('-') {
            Some("-") => break,
            Some("") => call.complaints.push("a lone \"-\" is ignored".into()),
            Some(rest) => match rest.strip_prefix('-') {
                Some(long) => call.long(long, &mut arguments),
                None => call.cluster(rest, &mut arguments),
            },
            None => {
                call.recipients.push(text);
                break;
            }
        }
    }
    call.recipients.extend(arguments.map(|argument| argument.to_string_lossy().into_owned()));
    call
}

impl Call {
    fn long(&mut self, long: &str, arguments: &mut dyn Iterator<Item = OsString>) {
        match long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value))) {
            ("help", None) => self.mode = Mode::Help,
            ("version", None) => self.mode = Mode::Version,
            ("config", Some(file)) => self.config = Some(file.into()),
            ("config", None) => self.config = arguments.next().map(PathBuf::from),
            _ => self.complaints.push(format!("the flag --{long} is not known, and ignored")),
        }
    }

    fn cluster(&mut self, cluster: &str, arguments: &mut dyn Iterator<Item = OsString>) {
        let mut letters = cluster.chars();
        while let Some(letter) = letters.next() {
            let Some(flag) = FLAGS.iter().find(|flag| flag.letter == letter) else {
                self.complaints.push(format!("the flag -{letter} is not known, and ignored"));
                continue;
            };
            let glued = letters.as_str();
            let value = match flag.takes {
                Takes::Nothing => String::new(),
                Takes::Glued => glued.to_owned(),
                Takes::Value if !glued.is_empty() => glued.to_owned(),
                Takes::Value => match arguments.next() {
                    Some(value) => value.to_string_lossy().into_owned(),
                    None => return self.complaints.push(format!("nothing follows the flag -{letter}")),
                },
            };
            self.apply(flag, value);
            if flag.takes != Takes::Nothing {
                return;
            }
        }
    }

    fn apply(&mut self, flag: &Flag, value: String) {
        match flag.effect {
            Effect::Ignored => {}
            Effect::HeaderRecipients => self.header_recipients = true,
            Effect::DotsAreText => self.dots_are_text = true,
            Effect::Option => self.dots_are_text |= value.starts_with('i'),
            Effect::Sender => self.sender = Some(value),
            Effect::FullName => self.full_name = Some(value),
            Effect::Config => self.config = Some(value.into()),
            Effect::Body if value.eq_ignore_ascii_case("8BITMIME") => self.body = Body::EightBitMime,
            Effect::Body => {}
            // As in `-bd -q30m`: the daemon runs its queue by itself.
            Effect::RunQueue if self.mode == Mode::Send => self.mode = Mode::RunQueue,
            Effect::RunQueue => {}
            Effect::Mode => self.set_mode(&value),
            Effect::Notify => self.dsn("NOTIFY", flag, value),
            Effect::Return => self.dsn("RET", flag, value),
            Effect::EnvelopeId => self.dsn("ENVID", flag, value),
        }
    }

    fn set_mode(&mut self, value: &str) {
        self.mode = match value {
            "m" => Mode::Send,
            "s" => Mode::Smtp,
            "p" => Mode::PrintQueue,
            "i" => Mode::MakeAliases,
            "v" => Mode::Verify,
            "d" | "D" => Mode::Serve,
            _ => return self.complaints.push(format!("the mode -b{value} is not known, and ignored")),
        };
    }

    /// By the grammar of the SMTP parameter that it becomes.
    fn dsn(&mut self, keyword: &str, flag: &Flag, value: String) {
        let parameters = [Parameter { keyword: keyword.to_owned(), value: Some(value) }];
        let offer = Offer::default();
        let read = if flag.effect == Effect::Notify {
            extension::rcpt_parameters(&parameters, &offer).map(|read| self.notify = read.notify)
        } else {
            extension::mail_parameters(&parameters, &offer).map(|read| {
                self.ret = read.ret.or(self.ret);
                self.envid = read.envid.or(self.envid.take());
            })
        };
        if let Err(reply) = read {
            self.complaints.push(format!("-{} is ignored: {}", flag.letter, reply.lines.concat()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Call {
        parse(line.split_ascii_whitespace().map(OsString::from))
    }

    /// The flags that INTERFACE names: done, and accepted.
    const DONE: &str = "tifrFbqNRVBC";
    const ACCEPTED: &str = "AdDEeGhJLMmnOopUXx46";

    #[test]
    fn every_flag_has_one_row_and_no_promised_one_is_missing() {
        for letter in DONE.chars().chain(ACCEPTED.chars()) {
            let rows: Vec<&Flag> = FLAGS.iter().filter(|flag| flag.letter == letter).collect();
            assert_eq!(rows.len(), 1, "-{letter}");
            assert_eq!(
                rows[0].effect == Effect::Ignored,
                ACCEPTED.contains(letter) && letter != 'o',
                "-{letter}"
            );
        }
        for (i, flag) in FLAGS.iter().enumerate() {
            assert!(FLAGS[..i].iter().all(|other| other.letter != flag.letter), "-{} twice", flag.letter);
            assert_eq!(flag.about.is_empty(), flag.effect == Effect::Ignored, "-{}", flag.letter);
        }
    }

    #[test]
    fn every_flag_takes_its_value_and_no_more() {
        for Flag { letter, takes, effect, .. } in &FLAGS {
            let good = match effect {
                Effect::Mode => "m",
                Effect::Notify => "never",
                Effect::Return => "hdrs",
                _ => "7bit",
            };
            let attached = if *takes == Takes::Nothing { String::new() } else { good.to_owned() };
            let separate = if *takes == Takes::Value { good } else { "" };
            for line in [
                format!("-{letter}{attached} to"),
                format!("-{letter} {separate} to"),
                format!("-n{letter}{attached} -n -- to"),
            ] {
                let call = call(&line);
                assert_eq!(
                    (&call.recipients[..], &call.complaints[..]),
                    (&["to".to_owned()][..], &[][..]),
                    "{line}"
                );
            }
            let alone = call(&format!("-{letter}"));
            assert_eq!(alone.complaints.is_empty(), *takes != Takes::Value, "-{letter}");
        }
    }

    #[test]
    fn flags_end_at_the_first_recipient() {
        for line in ["a -t b", "-- a -t b"] {
            assert_eq!(
                (call(line).recipients, call(line).header_recipients),
                (vec!["a".into(), "-t".into(), "b".into()], false)
            );
        }
    }

    #[test]
    fn modes_come_from_flags_and_the_last_one_counts() {
        for (line, mode) in [
            ("a", Mode::Send),
            ("-bm -t", Mode::Send),
            ("-bs -odb -oem", Mode::Smtp),
            ("-b s", Mode::Smtp),
            ("-bp", Mode::PrintQueue),
            ("-bi", Mode::MakeAliases),
            ("-bv a", Mode::Verify),
            ("-bd -q30m", Mode::Serve),
            ("-q30m -bd", Mode::Serve),
            ("-q", Mode::RunQueue),
            ("-bz a", Mode::Send),
            ("--help", Mode::Help),
            ("--version", Mode::Version),
        ] {
            assert_eq!(call(line).mode, mode, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told_and_changes_nothing() {
        for line in ["-z a", "-tz a", "--fast a", "- a", "-bz a", "-Nsome a", "-Rsome a", "-Va=b a"] {
            let call = call(line);
            assert_eq!((call.complaints.len(), &call.recipients[..]), (1, &["a".to_owned()][..]), "{line}");
        }
        let read = call("-N failure,DELAY -Rhdrs -V x -R full -B 8bitmime --config=x -F Me -oi a");
        let notify = Notify { failure: true, delay: true, success: false };
        assert_eq!(
            read,
            Call {
                notify: Some(notify),
                ret: Some(Ret::Full),
                envid: Some("x".into()),
                body: Body::EightBitMime,
                config: Some("x".into()),
                full_name: Some("Me".into()),
                dots_are_text: true,
                recipients: vec!["a".into()],
                ..Call::default()
            }
        );
    }
}

//! The command line of sendmail(8): the flags of sendmail, Postfix, Exim, msmtp, ssmtp, dma and mailx, a row each.
//!
//! [`parse`] accepts every command line: an alert is never lost over a flag. An unknown flag becomes a complaint on standard
//! error, and the message is sent. The grammar:
//!
//! | argument | means |
//! | --- | --- |
//! | `-t` | a flag of one letter |
//! | `-tif me@a.example` | several letters; the first one with a value ends the cluster |
//! | `-fme@a.example` | a value glued to its letter |
//! | `--from=me@a.example`, `--from me@a.example` | a long flag; it may be shortened while it is unmistakable |
//! | `--` | the end of the flags |
//! | any other | the first recipient: flags end here |
//!
//! Flags end at the first recipient because applications append recipients from web forms: a "recipient" such as `-C/tmp/x`
//! must not become a flag. The word behind an *unknown* flag may be the value of that flag or a recipient. It counts as a
//! recipient only if the command line has no better one, which is an address with `@`, or `-t`.
//!
//! | modes | |
//! | --- | --- |
//! | `-bm` (default) | sends the message on standard input |
//! | `-bs` | speaks SMTP on standard input and output |
//! | `-bv`, `-bp`, `-q`, `-bd`, `-bi` | verify recipients, print or run the queue, run the daemon, do nothing |
//! | flags of msmtp that ask about a server | end with an error, since no mail would be sent |

use crate::mail::envelope::{Body, Notify, Ret};
use crate::smtp::command::Parameter;
use crate::smtp::extension::{self, Offer};
use std::ffi::OsString;
use std::path::PathBuf;

/// The value of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: the next letter is another flag.
    Nothing,
    /// Only text glued to the flag, if any. Versions of sendmail differ here; the next argument may be a recipient.
    Glued,
    /// Text glued to the flag, else the next argument.
    Value,
    /// The same, but the last argument of all is a recipient, and a flag is a flag: dma's flag has no value.
    ValueOrNothing,
}

/// The effect of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: accepted and ignored.
    Ignored,
    /// Nothing: names an account, or with `u`, `p` or `m` glued to it the user, password or method for a smarthost.
    Login,
    /// Recipients are read from the header section.
    HeaderRecipients,
    /// A lone dot is text on a terminal, too.
    DotsAreText,
    /// Names the sender.
    Sender,
    /// The sender is the author whom the header section names.
    SenderFromHeader,
    /// Names the sender's person, for From.
    FullName,
    /// The Subject, if the message has no Subject field.
    Subject,
    /// Names another recipient.
    Recipient,
    /// Picks what is done; an address is one that gets a blind copy, as mailx has it.
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
    /// Names the configuration; an address is one that gets a copy, as mailx has it.
    ConfigOrCopy,
    /// One of the old options, of which `i` counts.
    Option,
    /// Asks msmtp about itself or a server: it would not send mail.
    Question,
    /// Prints the help.
    Help,
    /// Prints the version.
    Version,
}

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// Its letter.
    pub letter: char,
    /// Its value.
    pub takes: Takes,
    /// Its effect.
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

/// Every flag. Those without words are accepted and ignored. Where others use a letter of sendmail's for something else,
/// sendmail's meaning counts.
pub const FLAGS: [Flag; 43] = [
    flag('t', Takes::Nothing, Effect::HeaderRecipients, "recipients from To, Cc and Bcc, too"),
    flag('i', Takes::Nothing, Effect::DotsAreText, "a lone dot does not end the message"),
    flag('f', Takes::Value, Effect::Sender, "ADDRESS  the envelope sender; \"\" or \"<>\" for none"),
    flag('r', Takes::Value, Effect::Sender, "ADDRESS  the same"),
    flag('F', Takes::Value, Effect::FullName, "NAME     of the sender, if there is no From"),
    flag('s', Takes::Value, Effect::Subject, "SUBJECT  of a message without one"),
    flag(
        'b',
        Takes::Value,
        Effect::Mode,
        "MODE     m: send (default); s: SMTP on standard input; p: print the queue; v: verify recipients; d: pillarbox serve; i: nothing; or the ADDRESS of a blind copy",
    ),
    flag('q', Takes::Glued, Effect::RunQueue, "[TIME]   run the queue"),
    flag('N', Takes::Value, Effect::Notify, "WHEN     never, or of success, failure, delay"),
    flag('R', Takes::Value, Effect::Return, "WHAT     a bounce returns: full or hdrs"),
    flag('V', Takes::Value, Effect::EnvelopeId, "ID       of the message in notices"),
    flag('B', Takes::Value, Effect::Body, "TYPE     7BIT or 8BITMIME"),
    flag('C', Takes::Value, Effect::Config, "FILE     the configuration"),
    flag('c', Takes::Value, Effect::ConfigOrCopy, "FILE     the same; or the ADDRESS of a copy"),
    flag('o', Takes::Value, Effect::Option, "i        as -i; other options are ignored"),
    ignored('A', Takes::Value),
    ignored('D', Takes::ValueOrNothing),
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
    // A word glued to it means nothing; but `-xu USER -xp PASSWORD` are other programs'.
    flag('x', Takes::Glued, Effect::Login, ""),
    // Flags without a meaning in sendmail: of msmtp, mailx and ssmtp; of busybox; of mailx and msmtp.
    flag('a', Takes::Value, Effect::Login, ""),
    ignored('H', Takes::Value),
    ignored('S', Takes::Value),
    ignored('w', Takes::Value),
    ignored('T', Takes::Value),
    ignored('u', Takes::Value),
    flag('P', Takes::Nothing, Effect::Question, ""),
];

/// Every flag with two dashes, parted by blanks. A value follows behind `=` or, where there has to be one, as the next
/// argument. They may be shortened as far as they are unmistakable.
pub const LONG_FLAGS: [(Takes, Effect, &str); 14] = [
    (Takes::Nothing, Effect::Help, "help"),
    (Takes::Nothing, Effect::Version, "version"),
    (Takes::Value, Effect::Config, "config"),
    // msmtp(1), and mailx below where it has the same.
    (Takes::Value, Effect::Sender, "from from-address return-address"),
    (Takes::Nothing, Effect::SenderFromHeader, "read-envelope-from"),
    (Takes::Nothing, Effect::HeaderRecipients, "read-recipients template to"),
    (Takes::Value, Effect::Notify, "dsn-notify"),
    (Takes::Value, Effect::Return, "dsn-return"),
    (
        Takes::Value,
        Effect::Ignored,
        "file account host port source-ip proxy-host proxy-port socket timeout protocol domain user passwordeval tls-trust-file \
         tls-crl-file tls-fingerprint tls-key-file tls-cert-file tls-priorities tls-host-override \
         tls-min-dh-prime-bits logfile logfile-time-format aliases maildomain",
    ),
    (
        Takes::Glued,
        Effect::Ignored,
        "auth tls tls-starttls tls-certcheck set-from-header set-date-header set-msgid-header remove-bcc-headers \
         undisclosed-recipients syslog auto-from keepbcc debug verbose",
    ),
    (Takes::Nothing, Effect::Question, "pretend serverinfo configure rmqs"),
    // mailx of s-nail and of mailutils.
    (Takes::Value, Effect::Subject, "subject"),
    (Takes::Value, Effect::Recipient, "cc bcc"),
    (
        Takes::Value,
        Effect::Ignored,
        "append attach cmd content-filename content-name content-type custom-header encoding exec inbox-of quote-file \
         resource-files search set startup-cmd target",
    ),
];

/// The row of a flag with two dashes.
fn long_flag(name: &str) -> Option<(Takes, Effect)> {
    let names = || LONG_FLAGS.iter().flat_map(|row| row.2.split(' ').map(move |name| (name, row.0, row.1)));
    let mut like = names().filter(|row| row.0.starts_with(name));
    let exact = names().find(|row| row.0 == name);
    let row = exact.or_else(|| like.next().filter(|_| like.next().is_none()));
    // A word that is a password must not be taken for anything else, and never be shown.
    let is_secret = name.to_ascii_lowercase().contains("pass");
    row.map(|row| (row.1, row.2)).or_else(|| is_secret.then_some((Takes::Value, Effect::Ignored)))
}

/// The mode of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendmailMode {
    /// `-bm`: takes a message.
    #[default]
    Send,
    /// `-bs`: speaks SMTP.
    Smtp,
    /// `-bp`, mailq: prints the queue.
    PrintQueue,
    /// `-bi`, newaliases: aliases are text here, and there is nothing to be made of them.
    MakeAliases,
    /// `-bv`: reports where mail for the recipients would go.
    Verify,
    /// `-bd`: the daemon.
    Serve,
    /// `-q` alone: tries the queue now.
    RunQueue,
    /// `--serverinfo` and others of msmtp: no mail is sent.
    Question,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The mode.
    pub mode: SendmailMode,
    /// `-t`.
    pub header_recipients: bool,
    /// `-i`.
    pub dots_are_text: bool,
    /// `-f`, as it was given.
    pub sender: Option<String>,
    /// `--read-envelope-from`.
    pub sender_from_header: bool,
    /// `-F`.
    pub full_name: Option<String>,
    /// `-s`.
    pub subject: Option<String>,
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
    /// Complaints for standard error.
    pub complaints: Vec<String>,
}

/// Reads the arguments that follow the program's name, by the grammar at the top of this file.
#[must_use]
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Call {
    let arguments: Vec<String> =
        arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let (mut call, mut arguments) = (Call::default(), arguments.into_iter());
    let (mut doubtful, mut may_have_value) = (Vec::new(), false);
    while let Some(text) = arguments.next() {
        let is_doubtful = std::mem::take(&mut may_have_value) && !text.contains('@');
        match text.strip_prefix('-') {
            Some("-") => break,
            Some("") => call.complaints.push("a single \"-\" is ignored".into()),
            Some(rest) => {
                may_have_value = match rest.strip_prefix('-') {
                    Some(long) => call.long(long, &mut arguments),
                    None => call.cluster(rest, &mut arguments),
                }
            }
            None if is_doubtful => doubtful.push(text),
            None => {
                call.recipients.push(text);
                break;
            }
        }
    }
    call.recipients.extend(arguments);
    if call.header_recipients || call.recipients.iter().any(|recipient| recipient.contains('@')) {
        let complaint = || "the word behind it is taken for its value, and not for a recipient".to_owned();
        call.complaints.extend(doubtful.into_iter().map(|_| complaint()));
    } else {
        call.recipients.splice(..0, doubtful);
    }
    if call.mode == SendmailMode::RunQueue && (call.header_recipients || !call.recipients.is_empty()) {
        // There is a message; the daemon runs its queue by itself.
        call.mode = SendmailMode::Send;
    }
    call
}

type Arguments = std::vec::IntoIter<String>;

impl Call {
    /// Applies a long flag. True if the next argument may be its value.
    fn long(&mut self, long: &str, arguments: &mut Arguments) -> bool {
        let (name, glued) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let Some((takes, effect)) = long_flag(name) else {
            self.complaints.push(format!("the flag --{name} is not known, and ignored"));
            return glued.is_none();
        };
        let value = match (glued, takes) {
            (Some(value), _) => Some(value.to_owned()),
            (None, Takes::Nothing | Takes::Glued) => Some(String::new()),
            (None, Takes::Value | Takes::ValueOrNothing) => arguments.next(),
        };
        match value {
            Some(value) => self.apply(effect, &format!("--{name}"), value),
            None => self.complaints.push(format!("nothing follows the flag --{name}")),
        }
        takes == Takes::Glued && glued.is_none()
    }

    /// Applies a cluster of letters. True if the next argument may be the value of the last one.
    fn cluster(&mut self, cluster: &str, arguments: &mut Arguments) -> bool {
        let find = |letter| FLAGS.iter().find(|flag| flag.letter == letter);
        let mut letters = cluster.chars();
        while let Some(letter) = letters.next() {
            let glued = letters.as_str();
            let Some(flag) = find(letter) else {
                self.complaints.push(format!("the flag -{letter} is not known, and ignored"));
                // The rest of the cluster is either more flags, or the value of this one.
                if !glued.chars().all(|next| find(next).is_some_and(|flag| flag.takes == Takes::Nothing)) {
                    return false;
                }
                if glued.is_empty() {
                    return true;
                }
                continue;
            };
            let value = match flag.takes {
                Takes::Nothing => Some(String::new()),
                Takes::Glued => Some(glued.to_owned()),
                Takes::Value | Takes::ValueOrNothing if !glued.is_empty() => Some(glued.to_owned()),
                Takes::Value => arguments.next(),
                Takes::ValueOrNothing => match arguments.as_slice() {
                    [] => Some(String::new()),
                    [next, ..] if next.starts_with('-') => Some(String::new()),
                    [_] if !self.header_recipients => Some(String::new()),
                    _ => arguments.next(),
                },
            };
            let Some(value) = value else {
                self.complaints.push(format!("nothing follows the flag -{letter}"));
                return false;
            };
            if flag.effect == Effect::Login && matches!(glued, "u" | "p" | "m") {
                arguments.next();
            }
            self.apply(flag.effect, &format!("-{letter}"), value);
            if flag.takes != Takes::Nothing {
                return false;
            }
        }
        false
    }

    fn apply(&mut self, effect: Effect, flag: &str, value: String) {
        match effect {
            Effect::Ignored | Effect::Login => {}
            Effect::HeaderRecipients => self.header_recipients = true,
            Effect::DotsAreText => self.dots_are_text = true,
            Effect::Option => self.dots_are_text |= value.starts_with('i'),
            Effect::Sender => self.sender = Some(value),
            Effect::SenderFromHeader => self.sender_from_header = true,
            Effect::FullName => self.full_name = Some(value),
            Effect::Subject => self.subject = Some(value),
            Effect::Mode | Effect::Recipient if value.contains('@') => self.recipients.push(value),
            Effect::ConfigOrCopy if value.contains('@') && !value.contains('/') => {
                self.recipients.push(value)
            }
            Effect::Recipient => self.recipients.push(value),
            Effect::Config | Effect::ConfigOrCopy => self.config = Some(value.into()),
            Effect::Body if value.eq_ignore_ascii_case("8BITMIME") => self.body = Body::EightBitMime,
            Effect::Body => {}
            // As in `-bd -q30m`: the daemon runs its queue by itself.
            Effect::RunQueue if self.mode == SendmailMode::Send => self.mode = SendmailMode::RunQueue,
            Effect::RunQueue => {}
            Effect::Mode => self.set_mode(&value),
            Effect::Question => self.mode = SendmailMode::Question,
            Effect::Help => self.mode = SendmailMode::Help,
            Effect::Version => self.mode = SendmailMode::Version,
            Effect::Notify => self.dsn("NOTIFY", flag, value),
            Effect::Return if value == "headers" => self.dsn("RET", flag, "hdrs".into()),
            Effect::Return => self.dsn("RET", flag, value),
            Effect::EnvelopeId => self.dsn("ENVID", flag, value),
        }
    }

    fn set_mode(&mut self, value: &str) {
        self.mode = match value {
            "m" => SendmailMode::Send,
            "s" => SendmailMode::Smtp,
            "p" => SendmailMode::PrintQueue,
            "i" => SendmailMode::MakeAliases,
            "v" => SendmailMode::Verify,
            "d" | "D" => SendmailMode::Serve,
            _ => return self.complaints.push(format!("the mode -b{value} is not known, and ignored")),
        };
    }

    /// Reads a value by the grammar of the SMTP parameter that it becomes (RFC 3461); msmtp's "off" stands for none.
    fn dsn(&mut self, keyword: &str, flag: &str, value: String) {
        if value == "off" {
            return;
        }
        let parameters = [Parameter { keyword: keyword.to_owned(), value: Some(value) }];
        let offer = Offer { dsn: true, ..Offer::default() };
        let read = if keyword == "NOTIFY" {
            extension::rcpt_parameters(&parameters, &offer).map(|read| self.notify = read.notify)
        } else {
            extension::mail_parameters(&parameters, &offer).map(|read| {
                self.ret = read.ret.or(self.ret);
                self.envid = read.envid.or(self.envid.take());
            })
        };
        if let Err(reply) = read {
            self.complaints.push(format!("{flag} is ignored: {}", reply.lines.concat()));
        }
    }
}

#[cfg(test)]
mod tests;

//! `pillarbox mail`, also by the names mail and mailx: what scripts want of mail(1). It makes a message of standard input and
//! the arguments, and sends it as sendmail does. It reads no mailbox.
//!
//! The flags are those that bsd-mailx, mailutils and s-nail agree upon, or a script can mean only one way:
//!
//! | flag | means |
//! | --- | --- |
//! | `-s SUBJECT` | the Subject |
//! | `-r FROM` | the sender, of the envelope and in From; so does `-S from=FROM` |
//! | `-a ARGUMENT` | a header field such as `X-Priority: 1`; otherwise a file to attach, as s-nail has it |
//! | `-A FILE` | a file to attach |
//! | `-c LIST`, `-b LIST` | more recipients, shown in Cc or hidden |
//! | `-E` | sends nothing if standard input is empty; with a command of mailutils behind it (`set escape`): ignored |
//! | `-t` | the message begins with its header section, which names recipients, too |
//! | `-q FILE` | a file whose text comes first |
//! | `-S KEY=VALUE` | `from` and `replyto` count; all others, such as a smarthost and its password, are ignored |
//! | `-v` | tells the id of the message |
//! | `-h`, `--help`, `-V`, `--version` | the help, the version |
//! | `-i -n -N -d -I -B -F -R -~`, `-M TYPE`, `-X COMMAND` | accepted and ignored |
//! | `-f -u -e -H -L -p -T` | refused: they read a mailbox |
//!
//! Behind `--`, `-f`, `-r` and `-F` are those of sendmail, as bsd-mailx has it. Flags may follow the addresses, as scripts write `mail root -s text`; but not those that read a file: an address that a web
//! form gave must not send a file away.

mod attachment;

use super::addresses::{read_list, read_sender};
use super::content::{MessageFilter, from_field, subject_field};
use super::handover::Handover;
use super::{read_input, settings};
use crate::mail::address_list;
use crate::mail::envelope::Body;
use crate::program::exit::{self, CommandFailure};
use crate::program::{self, help};
use crate::store::drop::{DropEnvelope, Sender};
use crate::sys::journal;
use attachment::Parts;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// The flags, for the help: see [`help::rows`].
pub const ROWS: &str = "\
-s SUBJECT\tthe Subject
-r FROM\tthe sender
-a FIELD\ta header field, such as \"X-Priority: 1\"; or a file to attach
-A FILE\tattaches a file
-c ADDRESS\tgets a copy
-b ADDRESS\tgets a copy that the others don't see
-E\tsends nothing if standard input is empty
-t\ttakes addresses from the header section that the text begins with
-q FILE\thas the text that comes first
-S KEY=VALUE\tfrom and replyto count, others are ignored
-v\ttells the id
--help\tthis text
--version\tthe version
";
const USAGE: &str = "usage: mail [-s SUBJECT] [flags] ADDRESS... <TEXT; mail --help shows the flags";
/// Flags that want a value.
const VALUED: &str = "sraAcbqSMX";
/// Flags that read a mailbox.
const READERS: &str = "fueHLpT";
/// Flags without an effect.
const IGNORED: &str = "inNdIBFR~";
/// Flags that may stand behind an address: none of them reads a file.
const BEHIND_ADDRESSES: &str = "srcbvESinNt";
/// Long names of mailutils and s-nail, and their letters.
const LONG: [(&str, char); 12] = [
    ("help", 'h'),
    ("version", 'V'),
    ("subject", 's'),
    ("return-address", 'r'),
    ("append", 'a'),
    ("attach", 'A'),
    ("cc", 'c'),
    ("bcc", 'b'),
    ("quote-file", 'q'),
    ("set", 'S'),
    ("template", 't'),
    ("verbose", 'v'),
];

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct MailCall {
    subject: Option<String>,
    from: Option<String>,
    reply_to: Option<String>,
    /// Whole fields, without line ends.
    fields: Vec<String>,
    attachments: Vec<PathBuf>,
    first: Option<PathBuf>,
    to: Vec<String>,
    cc: Vec<String>,
    bcc: Vec<String>,
    /// Shown in place of sending.
    shows: Option<String>,
    is_headed: bool,
    skips_empty: bool,
    is_verbose: bool,
}

/// Sends standard input as a message.
///
/// # Errors
/// The command line names nobody or wants a mailbox read (64), a file can't be read (66), or those of sendmail.
pub fn run(arguments: &[OsString], config: &Path) -> Result<(), CommandFailure> {
    send(arguments, config).inspect_err(|_| {
        // A writer whose pipe breaks may die of it, and with it the script.
        if !io::stdin().is_terminal() {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        }
    })
}

fn send(arguments: &[OsString], config: &Path) -> Result<(), CommandFailure> {
    let call = parse(arguments.iter().map(|argument| argument.to_string_lossy().into_owned()))?;
    if let Some(text) = &call.shows {
        return super::print(text);
    }
    let mut complaints = Vec::new();
    let settings = settings(config, &mut complaints);
    let mut recipients = Vec::new();
    for list in call.to.iter().chain(&call.cc).chain(&call.bcc) {
        read_list(list.as_bytes(), &mut recipients, &mut complaints);
    }
    if recipients.is_empty() && !call.is_headed {
        return Err(usage("name an address; mailboxes are not read here"));
    }
    if call.is_headed && !call.attachments.is_empty() {
        return Err(usage("-t and -A do not go together; name the addresses"));
    }
    let sender = sender(&call, &mut complaints);
    let mut text = first_text(&call)?;
    let has_more = read_first(&mut text)?;
    if call.skips_empty && text.trim_ascii().is_empty() {
        return Ok(());
    }
    let parts = Parts::open(&call.attachments, &text)?;
    let mut handover = Handover::new(&settings);
    let (mut content, mut out) = (MessageFilter::new(Vec::new()), Vec::new());
    let mut take = |octets: &[u8]| {
        content.feed(octets, &mut out);
        handover.write(&out, content.wire_octets());
        out.clear();
    };
    take(header(&call, parts.as_ref()).as_bytes());
    take(&text);
    let read = match has_more {
        true => read_input(&mut io::stdin().lock(), io::stdin().is_terminal(), &mut take),
        false => Ok(()),
    };
    let attached = parts.map_or(Ok(()), |parts| parts.write(&mut take));
    content.finish(&mut out);
    handover.write(&out, content.wire_octets());
    let body = if content.is_eight_bit() { Body::EightBitMime } else { Body::default() };
    let named = content.into_recipients();
    if call.is_headed {
        named.finish(&mut recipients, &mut complaints);
    }
    for complaint in &complaints {
        let _ = writeln!(io::stderr(), "{}mail: {complaint}", journal::mark(journal::WARNING));
    }
    // Half a message would look complete to its recipient.
    read.map_err(|error| failure(exit::IO, &format!("can't read the message: {error}")))?;
    attached?;
    let envelope = DropEnvelope { sender, recipients, body, ret: None, envid: None, notify: None };
    let id = handover.commit(&envelope)?;
    if call.is_verbose {
        let told = id.map_or_else(|| "left for the daemon".to_owned(), |id| format!("queued as {id}"));
        let _ = writeln!(io::stdout(), "{told}");
    }
    Ok(())
}

fn failure(code: u8, text: &str) -> CommandFailure {
    CommandFailure { code, lines: vec![format!("mail: {text}")] }
}

fn usage(text: &str) -> CommandFailure {
    CommandFailure { code: exit::USAGE, lines: vec![format!("mail: {text}"), USAGE.to_owned()] }
}

/// Reads the command line, by the table at the top of this file.
fn parse(arguments: impl Iterator<Item = String>) -> Result<MailCall, CommandFailure> {
    let (mut call, mut arguments) = (MailCall::default(), arguments.peekable());
    while let Some(argument) = arguments.next() {
        let Some(flags) = argument.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            call.to.push(argument);
            continue;
        };
        if flags == "-" {
            call.flags_of_sendmail(&mut arguments)?;
            call.to.extend(arguments);
            break;
        }
        let (letters, mut glued) = match flags.strip_prefix('-') {
            Some(long) => {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                let row = LONG.iter().find(|(known, _)| *known == name);
                let (_, letter) = row.ok_or_else(|| usage(&format!("--{name} is not known")))?;
                (letter.to_string(), value.map(str::to_owned))
            }
            None => (flags.to_owned(), None),
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            if !call.to.is_empty() && !BEHIND_ADDRESSES.contains(letter) {
                return Err(usage(&format!("write -{letter} in front of the addresses")));
            }
            let value = if VALUED.contains(letter) {
                let rest = glued
                    .take()
                    .or_else(|| Some(letters.as_str().to_owned()).filter(|rest| !rest.is_empty()));
                letters = "".chars();
                let value = rest.or_else(|| arguments.next());
                value.ok_or_else(|| usage(&format!("nothing follows -{letter}")))?
            } else {
                String::new()
            };
            // mailutils takes a command of its own behind -E.
            let is_command = |next: &String| next.starts_with("set ") || next.starts_with("unset ");
            if letter == 'E' && arguments.next_if(is_command).is_some() {
                continue;
            }
            call.apply(letter, value)?;
        }
    }
    Ok(call)
}

impl MailCall {
    /// The sender and his name, as scripts for the mailx of BSD give them behind two hyphens: `-- -F NAME -f ADDRESS`.
    fn flags_of_sendmail(
        &mut self,
        arguments: &mut std::iter::Peekable<impl Iterator<Item = String>>,
    ) -> Result<(), CommandFailure> {
        let mut name = None;
        let is_flag = |next: &String| ["-f", "-r", "-F"].iter().any(|flag| next.starts_with(flag));
        while let Some(flag) = arguments.next_if(is_flag) {
            let (flag, glued) = flag.split_at(2);
            let value = if glued.is_empty() { arguments.next() } else { Some(glued.to_owned()) };
            let value = value.ok_or_else(|| usage(&format!("nothing follows {flag}")))?;
            *(if flag == "-F" { &mut name } else { &mut self.from }) = Some(value);
        }
        if let (Some(name), Some(from)) = (name, &self.from) {
            self.from =
                from_field(&name, from).strip_prefix("From: ").map(|field| field.trim_end().to_owned());
        }
        Ok(())
    }

    fn apply(&mut self, letter: char, value: String) -> Result<(), CommandFailure> {
        match letter {
            's' => self.subject = Some(value),
            'r' => self.from = Some(value),
            'a' if is_field(&value) => self.fields.push(value),
            'a' | 'A' => self.attachments.push(value.into()),
            'c' => self.cc.push(value),
            'b' => self.bcc.push(value),
            'q' => self.first = Some(value.into()),
            't' => self.is_headed = true,
            'E' => self.skips_empty = true,
            'v' => self.is_verbose = true,
            'S' => match value.split_once('=') {
                Some(("from", from)) => self.from = self.from.take().or_else(|| Some(from.to_owned())),
                Some(("replyto" | "reply-to", to)) => self.reply_to = Some(to.to_owned()),
                // Others may hold a password, which is shown nowhere.
                _ => {}
            },
            'h' => self.shows = Some(format!("{USAGE}\n\n{}", help::shown(ROWS))),
            'V' => self.shows = Some(program::version()),
            'M' | 'X' => {}
            _ if IGNORED.contains(letter) => {}
            _ if READERS.contains(letter) => {
                return Err(usage(&format!("-{letter} reads a mailbox, which is not done here")));
            }
            _ => return Err(usage(&format!("-{letter} is not known"))),
        }
        Ok(())
    }
}

/// Whether the argument of `-a` is a header field: a name that can be one, a colon, and text. A path is no name.
fn is_field(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
    };
    text.split_once(':').is_some_and(|(name, _)| is_name(name))
}

fn sender(call: &MailCall, complaints: &mut Vec<String>) -> Sender {
    let Some(from) = &call.from else { return Sender::Owner };
    read_sender(from).unwrap_or_else(|| {
        complaints.push(format!("the sender {from:?} is not an address; yours is used"));
        Sender::Owner
    })
}

/// The text of `-q`.
fn first_text(call: &MailCall) -> Result<Vec<u8>, CommandFailure> {
    let Some(path) = &call.first else { return Ok(Vec::new()) };
    let mut text = Vec::new();
    attachment::open(path)?.read_to_end(&mut text).map_err(|error| attachment::unreadable(path, &error))?;
    Ok(text)
}

/// Reads the beginning of standard input: whether it is empty decides about `-E`, and its octets about the charset. Returns
/// whether more may follow.
fn read_first(text: &mut Vec<u8>) -> Result<bool, CommandFailure> {
    if io::stdin().is_terminal() {
        return Ok(true);
    }
    let before = text.len();
    let read = io::stdin().lock().take(super::PIECE_OCTETS as u64).read_to_end(text);
    read.map_err(|error| failure(exit::IO, &format!("can't read the message: {error}")))?;
    Ok(text.len() - before == super::PIECE_OCTETS)
}

/// The header section with its empty line, unless the message has its own; and what begins the text of several parts.
fn header(call: &MailCall, parts: Option<&Parts>) -> String {
    let mut header = String::new();
    let mut field = |name: &str, value: &str| {
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        header.push_str(&format!("{name}: {}\n", value.trim()));
    };
    if let Some(from) = call.from.as_deref().filter(|from| names_somebody(from)) {
        field("From", from);
    }
    for (name, lists) in [("To", &call.to), ("Cc", &call.cc)] {
        if !lists.is_empty() {
            field(name, &lists.join(", "));
        }
    }
    if let Some(to) = &call.reply_to {
        field("Reply-To", to);
    }
    for given in &call.fields {
        if let Some((name, value)) = given.split_once(':') {
            field(name, value);
        }
    }
    header.extend(call.subject.as_deref().and_then(subject_field));
    match parts {
        Some(parts) => header += &parts.begin(),
        None if call.is_headed => {}
        None => header.push('\n'),
    }
    header
}

/// Whether a text holds an address, so that From can be made of it.
fn names_somebody(text: &str) -> bool {
    let spans = address_list::spans(text.as_bytes()).unwrap_or_default();
    spans.first().is_some_and(|span| span.read(text.as_bytes()).is_some())
}

#[cfg(test)]
mod tests;

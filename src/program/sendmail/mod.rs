//! sendmail(8): takes a message from a program of this host and hands it over to the daemon, or leaves it in the drop
//! directory.
//!
//! ```text
//! arguments ─▶ flags ─▶ Call ─┬─▶ queue, serve: the other commands
//!                             └─▶ standard input ─▶ content, addresses ─▶ handover ─┬─▶ control socket ─▶ daemon
//!                                 (-bs: smtp; mail)                                 └─▶ drop/, if no daemon takes it
//! ```
//!
//! Exit code 0 means that the message is on stable storage; every other code means that the caller keeps it. Input
//! is read to its end even after an error, since a writer whose pipe breaks may die of SIGPIPE. sendmail
//! uses no DNS and no network, and needs no rights: no set-id bit, no environment. It does not say who sends: the daemon
//! asks the kernel.
//!
//! | code | means for the caller |
//! | --- | --- |
//! | 0 | the message is safe |
//! | 64, 65, 67 | it will never be accepted: no recipients, too large or malformed, no recipient that can be reached |
//! | 74 | the input could not be read to its end; nothing was sent |
//! | 75 | neither the daemon nor the drop directory takes it now: try again |
//!
//! A mistake in the configuration never stops a message: bad values count as their defaults, and the file of another mailer
//! (`-C` of msmtp) is ignored.

mod addresses;
mod content;
pub mod flags;
mod handover;
pub mod mail;
mod smtp;

use super::exit::{self, CommandFailure};
use super::remote::client::{self, DaemonAnswer};
use super::remote::screen::Screen;
use super::{queue, serve};
use crate::config::{Settings, is_configuration, load_leniently};
use crate::mail::envelope::Body;
use crate::mail::unqualified::Unqualified;
use crate::protocol::request::{BadRequest, Request};
use crate::store::drop::{DropEnvelope, Sender};
use crate::sys::{journal, user};
use addresses::{read_list, read_sender};
use content::{MessageFilter, from_field, subject_field};
use flags::{Call, FLAGS, SendmailMode, parse};
use handover::Handover;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;

/// Octets read from standard input at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// Carries out the arguments. `config` is the configuration unless they name another, and may.
///
/// # Errors
/// The message is not on stable storage, or the command failed.
pub fn run(arguments: &[OsString], config: &Path) -> Result<(), CommandFailure> {
    let mut call = parse(arguments.iter().cloned());
    let chosen = call.config.take().filter(|_| !user::has_raised_rights());
    let config = chosen.as_deref().filter(|chosen| counts(chosen, &mut call)).unwrap_or(config);
    // As Postfix does.
    call.full_name =
        call.full_name.or_else(|| std::env::var("NAME").ok().filter(|name| !name.trim().is_empty()));
    let done = perform(&mut call, config);
    for complaint in &call.complaints {
        let _ = writeln!(io::stderr(), "{}sendmail: {complaint}", journal::mark(journal::WARNING));
    }
    done
}

/// Whether the file that a flag names is a configuration of pillarbox. One of msmtp or ssmtp is ignored, and stops no message.
fn counts(chosen: &Path, call: &mut Call) -> bool {
    if !matches!(call.mode, SendmailMode::Send | SendmailMode::Smtp) || is_configuration(chosen) {
        return true;
    }
    if chosen.exists() {
        call.complaints.push(format!("{} is no configuration of pillarbox, and ignored", chosen.display()));
    }
    false
}

/// Does what the mode of the call says.
fn perform(call: &mut Call, config: &Path) -> Result<(), CommandFailure> {
    match call.mode {
        SendmailMode::Send => send(call, config),
        SendmailMode::Smtp => smtp::serve(&settings(config, &mut call.complaints)),
        SendmailMode::MakeAliases => Ok(()),
        SendmailMode::Serve => serve::run(config),
        SendmailMode::Help => print(&help()),
        SendmailMode::Version => print(&super::version()),
        SendmailMode::Question => {
            let text = "no mail is sent with this flag; try: pillarbox check, pillarbox probe ADDRESS";
            Err(failure(exit::USAGE, text))
        }
        SendmailMode::PrintQueue => queue::run(config, &[]),
        SendmailMode::RunQueue => queue::run(config, &["run".into(), "--all".into()]),
        SendmailMode::Verify => verify(call, config),
    }
}

fn print(text: &str) -> Result<(), CommandFailure> {
    // A reader that closed the pipe has read enough.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn help() -> String {
    let mut text = String::from("usage: sendmail [flags] [recipient...]  < message\n\n");
    for flag in FLAGS.iter().filter(|flag| !flag.about.is_empty()) {
        text.push_str(&format!("  -{} {}\n", flag.letter, flag.about));
    }
    let rest: String = FLAGS.iter().filter(|flag| flag.about.is_empty()).map(|flag| flag.letter).collect();
    text + &format!(
        "\nAccepted and ignored: -{rest}, and -o with other options. So are the flags of msmtp, ssmtp and mailx; see \
         sendmail(8).\n"
    )
}

fn failure(code: u8, text: &str) -> CommandFailure {
    CommandFailure { code, lines: vec![format!("sendmail: {text}")] }
}

/// The settings, with defaults for all that can't be read: a mistake in the file must not stop an alert.
fn settings(config: &Path, complaints: &mut Vec<String>) -> Settings {
    load_leniently(config).unwrap_or_else(|error| {
        if error.kind() != ErrorKind::NotFound {
            complaints.push(format!("{}: {error}; the defaults are taken", config.display()));
        }
        Settings::default()
    })
}

/// Reads a message from standard input, and hands it over.
fn send(call: &mut Call, config: &Path) -> Result<(), CommandFailure> {
    let settings = settings(config, &mut call.complaints);
    let mut sender = sender(call);
    let from = call.full_name.as_ref().and_then(|name| from(name, &sender));
    let subject = call.subject.as_ref().and_then(|text| subject_field(text));
    let missing =
        from.map(|field| ("From", field)).into_iter().chain(subject.map(|field| ("Subject", field)));
    let mut handover = Handover::new(&settings);
    let (mut content, mut out) = (MessageFilter::new(missing.collect()), Vec::new());
    let dot_ends = !call.dots_are_text && io::stdin().is_terminal();
    let read = read_input(&mut io::stdin().lock(), dot_ends, &mut |octets| {
        content.feed(octets, &mut out);
        handover.write(&out, content.wire_octets());
        out.clear();
    });
    content.finish(&mut out);
    handover.write(&out, content.wire_octets());
    let body = if content.is_eight_bit() { Body::EightBitMime } else { call.body };
    let (mut recipients, mut named) = (recipients(call), content.into_recipients());
    if let (true, Sender::Owner, Some(author)) = (call.sender_from_header, &sender, named.author()) {
        sender = Sender::Address(author);
    }
    if call.header_recipients {
        named.finish(&mut recipients, &mut call.complaints);
    }
    // Half a message would look complete to its recipient.
    read.map_err(|error| failure(exit::IO, &format!("can't read the message: {error}")))?;
    let (ret, envid, notify) = (call.ret, call.envid.take(), call.notify);
    handover.commit(&DropEnvelope { sender, recipients, body, ret, envid, notify }).map(drop)
}

/// Those of the arguments.
fn recipients(call: &mut Call) -> Vec<Unqualified> {
    let mut recipients = Vec::new();
    for recipient in std::mem::take(&mut call.recipients) {
        read_list(recipient.as_bytes(), &mut recipients, &mut call.complaints);
    }
    recipients
}

fn verify(call: &mut Call, config: &Path) -> Result<(), CommandFailure> {
    let settings = settings(config, &mut call.complaints);
    let mut words: Vec<String> = recipients(call).iter().map(ToString::to_string).collect();
    if words.is_empty() {
        return Err(failure(exit::USAGE, "there is no address to verify"));
    }
    words.insert(0, "verify".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let request = Request::parse(&words).map_err(|BadRequest { code, text }| failure(code, &text))?;
    match client::ask(&settings.control, &request, &mut Screen::new())? {
        DaemonAnswer::Answered(code) => exit::finish(code),
        DaemonAnswer::NoDaemon(why) => Err(failure(exit::UNAVAILABLE, &format!("no daemon answers: {why}"))),
    }
}

fn sender(call: &mut Call) -> Sender {
    let Some(text) = call.sender.take() else { return Sender::Owner };
    read_sender(&text).unwrap_or_else(|| {
        call.complaints.push(format!("the sender {text:?} is not an address; yours is used"));
        Sender::Owner
    })
}

/// From with a full name. The daemon adds the domain to a bare name.
fn from(name: &str, sender: &Sender) -> Option<String> {
    let address = match sender {
        Sender::Address(address) => address.to_string(),
        Sender::Owner => {
            let uid = rustix::process::geteuid().as_raw();
            user::find_uid(uid).ok()??.name
        }
        Sender::Null => return None,
    };
    // Readers would not take a local-part in quotes for an address.
    Some(from_field(name, &Unqualified::parse(&address).ok()?.to_string()))
}

/// Reads to the end of the input, or to a line with a single dot if that ends the message.
fn read_input(input: &mut dyn Read, dot_ends: bool, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_OCTETS];
    let mut at_line_start = true;
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if !dot_ends {
            take(read);
            continue;
        }
        for line in read.split_inclusive(|&octet| octet == b'\n') {
            if at_line_start && line == b".\n" {
                return Ok(());
            }
            at_line_start = line.ends_with(b"\n");
            take(line);
        }
    }
}

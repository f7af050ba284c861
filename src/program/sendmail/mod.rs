//! sendmail(8): takes a message from a program of this host and hands it over to the daemon, or leaves it where the daemon
//! finds it.
//!
//! Exit code 0 means that the message is on stable storage. Until then nothing is promised, and the program that wrote
//! it is told so by another code (INTERFACE section 5). Input is read to its end whatever is wrong: a program whose pipe
//! breaks may die of it. Asks no DNS and no network, and needs no right: no set-id bit, no environment. Who sends is not
//! said here: the kernel tells the daemon.

mod addresses;
mod content;
pub mod flags;
mod handover;
mod smtp;

use super::exit::{self, Failure};
use super::remote::client::{self, Asked};
use super::remote::screen::Screen;
use super::{queue, serve};
use crate::config::{Settings, is_configuration, load_leniently};
use crate::mail::envelope::Body;
use crate::mail::unqualified::Unqualified;
use crate::protocol::request::{BadRequest, Request};
use crate::store::drop::{DropEnvelope, Sender};
use crate::sys::user;
use addresses::{read_list, read_sender};
use content::{Content, from_field, subject_field};
use flags::{Call, FLAGS, Mode, parse};
use handover::Handover;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;

/// Read at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// Does what the arguments say. `config` is the file that counts if they name none, or may not name one.
///
/// # Errors
/// The message is not safe; or why the command can't be done.
pub fn run(arguments: &[OsString], config: &Path) -> Result<(), Failure> {
    let mut call = parse(arguments.iter().cloned());
    let chosen = call.config.take().filter(|_| !user::has_raised_rights());
    let config = chosen.as_deref().filter(|chosen| counts(chosen, &mut call)).unwrap_or(config);
    // As Postfix has it.
    call.full_name =
        call.full_name.or_else(|| std::env::var("NAME").ok().filter(|name| !name.trim().is_empty()));
    let done = perform(&mut call, config);
    for complaint in &call.complaints {
        let _ = writeln!(io::stderr(), "sendmail: {complaint}");
    }
    done
}

/// Whether the file that a flag names is the configuration. That of msmtp or ssmtp is none, and stops no message.
fn counts(chosen: &Path, call: &mut Call) -> bool {
    if !matches!(call.mode, Mode::Send | Mode::Smtp) || is_configuration(chosen) {
        return true;
    }
    if chosen.exists() {
        call.complaints.push(format!("{} is no configuration of pillarbox, and ignored", chosen.display()));
    }
    false
}

fn perform(call: &mut Call, config: &Path) -> Result<(), Failure> {
    match call.mode {
        Mode::Send => send(call, config),
        Mode::Smtp => smtp::serve(&settings(config, &mut call.complaints)),
        Mode::MakeAliases => Ok(()),
        Mode::Serve => serve::run(config),
        Mode::Help => print(&help()),
        Mode::Version => print(&super::version()),
        Mode::Question => {
            let text = "no mail is sent with this flag; try: pillarbox check, pillarbox probe ADDRESS";
            Err(failure(exit::USAGE, text))
        }
        Mode::PrintQueue => queue::run(config, &[]),
        Mode::RunQueue => queue::run(config, &["run".into(), "--all".into()]),
        Mode::Verify => verify(call, config),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    // Whoever closed the pipe has read enough.
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
        "\nAccepted and ignored: -{rest}, and -o with other options. So are the flags of msmtp, ssmtp and mailx; sendmail(8) \
         tells more.\n"
    )
}

fn failure(code: u8, text: &str) -> Failure {
    Failure { code, lines: vec![format!("sendmail: {text}")] }
}

/// The settings, as far as they can be read: a mistake in the file must not stop an alert.
fn settings(config: &Path, complaints: &mut Vec<String>) -> Settings {
    load_leniently(config).unwrap_or_else(|error| {
        if error.kind() != ErrorKind::NotFound {
            complaints.push(format!("{}: {error}; the defaults are taken", config.display()));
        }
        Settings::default()
    })
}

fn send(call: &mut Call, config: &Path) -> Result<(), Failure> {
    let settings = settings(config, &mut call.complaints);
    let mut sender = sender(call);
    let from = call.full_name.as_ref().and_then(|name| from(name, &sender));
    let subject = call.subject.as_ref().and_then(|text| subject_field(text));
    let missing =
        from.map(|field| ("From", field)).into_iter().chain(subject.map(|field| ("Subject", field)));
    let mut handover = Handover::new(&settings);
    let (mut content, mut out) = (Content::new(missing.collect()), Vec::new());
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
    // Half a message would look like a whole one.
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

fn verify(call: &mut Call, config: &Path) -> Result<(), Failure> {
    let settings = settings(config, &mut call.complaints);
    let words: Vec<String> = recipients(call).iter().map(ToString::to_string).collect();
    if words.is_empty() {
        return Err(failure(exit::USAGE, "there is no address to verify"));
    }
    let words: Vec<&str> = std::iter::once("verify").chain(words.iter().map(String::as_str)).collect();
    let request = Request::parse(&words).map_err(|BadRequest { code, text }| failure(code, &text))?;
    match client::ask(&settings.control, &request, &mut Screen::new())? {
        Asked::Answered(code) => client::finish(code),
        Asked::NoDaemon(why) => Err(failure(exit::UNAVAILABLE, &format!("no daemon answers: {why}"))),
    }
}

fn sender(call: &mut Call) -> Sender {
    let Some(text) = call.sender.take() else { return Sender::Owner };
    read_sender(&text).unwrap_or_else(|| {
        call.complaints.push(format!("the sender {text:?} is no address; it is you"));
        Sender::Owner
    })
}

/// From with a full name. The daemon puts the domain behind a bare name.
fn from(name: &str, sender: &Sender) -> Option<String> {
    let address = match sender {
        Sender::Address(address) => address.to_string(),
        Sender::Owner => {
            let uid = rustix::process::geteuid().as_raw();
            user::find_uid(uid).ok()??.name
        }
        Sender::Null => return None,
    };
    // A name that needs quotes would not be taken for an address.
    Some(from_field(name, &Unqualified::parse(&address).ok()?.to_string()))
}

/// Reads to the end, or to a lone dot if that is one.
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

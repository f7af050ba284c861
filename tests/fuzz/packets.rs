//! Targets for what the processes of the daemon tell each other, and for the parameters of notices (RFC 3461), which come
//! in by SMTP, by the drop directory and by the control socket, and go out in a command line.

use super::{assert_harmless, print_description, print_queue_file};
use pillarbox::engine::host::commands;
use pillarbox::engine::host::mda::wire;
use pillarbox::mail::address::{Mailbox, ReversePath};
use pillarbox::mail::date::{Now, WallTime};
use pillarbox::mail::envelope::{Envelope, Recipient};
use pillarbox::mail::unqualified::Unqualified;
use pillarbox::mail::xtext::{is_envid, is_orcpt};
use pillarbox::smtp::client::{self, ClientStep};
use pillarbox::smtp::command::{ClientName, Command};
use pillarbox::smtp::extension::{MailParameters, Offer, RcptParameters, mail_parameters, rcpt_parameters};
use pillarbox::store::drop::{DropEnvelope, Sender};
use pillarbox::store::maildir::{Errand, MaildirPath, is_composed, is_safe_component};
use pillarbox::store::queue::{Description, parse_file};
use std::fs::File;
use std::path::{Component, Path};
use std::sync::OnceLock;
use std::time::Duration;

/// A packet to the delivery agent, and one from it.
pub fn agent_packet(octets: &[u8]) {
    static SENT: OnceLock<File> = OnceLock::new();
    let sent = SENT.get_or_init(|| File::open("/dev/null").unwrap());
    // A packet that is no text counts as empty.
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if let Some((number, answer)) = wire::parse_answer(text) {
        let printed = wire::print_answer(number, &answer.map_err(std::io::Error::from_raw_os_error));
        assert_harmless(&printed);
        assert_eq!(wire::parse_answer(&printed), Some((number, answer)));
    }
    let Some(request) = wire::Request::parse(text) else { return };
    assert!(!request.user.contains('\0'));
    assert_eq!(wire::Request::parse(&request.print()), Some(request), "printed and read, it differs");
    let words: Vec<&str> = request.words.split('\0').collect();
    let (domain, words) = words.split_first().unwrap();
    for sent in [None, Some(sent)] {
        let Some(errand) = wire::errand(words, sent) else { continue };
        let (again, file) = wire::words_of(errand);
        assert_eq!(again, words, "another errand");
        assert!(file.is_none() || sent.is_some());
        let names: &[&str] = match errand {
            Errand::Store(name, _) | Errand::Discard(name) | Errand::Commit(name, _) => &[name],
            Errand::Append(..) | Errand::Sweep | Errand::Measure => &[],
        };
        for name in names.iter().filter(|name| is_composed(name)) {
            assert!(is_safe_component(name) && name.is_ascii(), "{name:?} leads out of its directory");
        }
    }
    let templates = [
        ("{home}/Maildir", "/home/tim", 1),
        ("/var/mail/{user}", "/var/mail", 1),
        ("/var/mail/{domain}/{user}", "/var/mail", 2),
        ("/srv/{user}.{domain}", "/srv", 1),
    ];
    for (template, base, depth) in templates {
        let home = Some(Path::new("/home/tim"));
        let Ok(path) = MaildirPath::expand(template, request.user, domain, home, None) else { continue };
        let path = path.path();
        let below: Vec<Component<'_>> = path.strip_prefix(base).unwrap().components().collect();
        assert!(below.iter().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        assert_eq!(below.len(), depth, "{path:?}");
    }
}

/// A packet to the command process.
pub fn command_packet(octets: &[u8]) {
    let Some(request) = commands::Request::parse(octets) else { return };
    let printed = request.print();
    assert_eq!(commands::Request::parse(printed.as_bytes()), Some(request.clone()));
    let variables = request.variables();
    assert!(variables.is_empty() || matches!(request, commands::Request::Alarm(_)));
    let mut names: Vec<&str> = Vec::new();
    for variable in &variables {
        let (name, value) = variable.split_once('=').unwrap();
        assert!(name.starts_with("PILLARBOX_") && !names.contains(&name), "{name:?}");
        assert!(!value.contains('\0'), "{value:?}");
        names.push(name);
    }
    assert!(names.len() <= 5);
}

/// The values of ENVID, ORCPT, RET and NOTIFY, a line each: by every way in, and out again to a host that knows them.
pub fn dsn(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let mut values = text.splitn(4, '\n');
    let mut next = || values.next().unwrap_or_default();
    let (envid, orcpt, ret, notify) = (next(), next(), next(), next());
    // Not two parameters.
    let is_one = |value: &str| !value.contains(|c: char| c.is_ascii_whitespace());
    let of_mail =
        |key: &str, value: &str| is_one(value).then(|| of_mail(&format!(" {key}={value}"))).flatten();
    let of_rcpt =
        |key: &str, value: &str| is_one(value).then(|| of_rcpt(&format!(" {key}={value}"))).flatten();
    let by_smtp = of_mail("ENVID", envid).and_then(|read| read.envid);
    assert_eq!(by_smtp.as_deref(), is_envid(envid).then_some(envid));
    let by_smtp = of_rcpt("ORCPT", orcpt).and_then(|read| read.orcpt);
    assert_eq!(by_smtp.as_deref(), is_orcpt(orcpt).then_some(orcpt));
    let ret = of_mail("RET", ret).and_then(|read| read.ret);
    let notify = of_rcpt("NOTIFY", notify).and_then(|read| read.notify);

    let dropped = DropEnvelope {
        sender: Sender::Null,
        recipients: vec![Unqualified::parse("root").unwrap()],
        body: Default::default(),
        ret,
        envid: Some(envid.to_owned()),
        notify,
    };
    let expected = DropEnvelope { envid: is_envid(envid).then(|| envid.to_owned()), ..dropped.clone() };
    assert_eq!(DropEnvelope::parse(dropped.print().as_bytes()), Some(expected), "dropped");

    let mut envelope = Envelope::new(ReversePath::Mailbox(longest()));
    (envelope.ret, envelope.envid) = (ret, Some(envid.to_owned()));
    let recipient = Recipient { orcpt: Some(orcpt.to_owned()), notify, ..Recipient::new(longest()) };
    envelope.recipients.push(recipient.clone());
    let arrival = Now { wall: WallTime(7), running: Duration::ZERO };
    let description =
        Description { envelope: envelope.clone(), arrival, origin: "smtp".into(), digest: None, dated: None };
    let file = print_queue_file(&print_description(&description), b"text\n", b"");
    assert_eq!(parse_file(&file).map(|(description, _)| description).as_ref(), Ok(&description), "queued");

    let (mail, rcpt) = sent(&envelope, &recipient);
    assert_eq!((mail.ret, rcpt.notify), (ret, notify), "sent");
    assert!(mail.envid.is_none_or(|sent| sent == envid && is_envid(envid)));
    assert!(rcpt.orcpt.is_none_or(|sent| sent == orcpt && is_orcpt(orcpt)));
}

fn offer() -> Offer {
    Offer { dsn: true, ..Offer::default() }
}

fn of_mail(parameters: &str) -> Option<MailParameters> {
    match Command::parse(format!("MAIL FROM:<>{parameters}").as_bytes()) {
        Ok(Command::Mail(_, parameters)) => mail_parameters(&parameters, &offer()).ok(),
        _ => None,
    }
}

fn of_rcpt(parameters: &str) -> Option<RcptParameters> {
    match Command::parse(format!("RCPT TO:<root>{parameters}").as_bytes()) {
        Ok(Command::Rcpt(_, parameters)) => rcpt_parameters(&parameters, &offer()).ok(),
        _ => None,
    }
}

/// The longest mailbox that there is.
fn longest() -> Mailbox {
    let labels = [63, 63, 63, 61].map(|octets| "d".repeat(octets)).join(".");
    Mailbox::parse(&format!("{}@{labels}", "l".repeat(64))).unwrap()
}

/// What a client says about the message to a host with DSN.
fn sent(envelope: &Envelope, recipient: &Recipient) -> (MailParameters, RcptParameters) {
    let options = client::SessionOptions::default();
    let mut session =
        client::ClientSession::new("mx.example", ClientName::parse("box.example").unwrap(), options);
    let mut mail = None;
    let mut reply: &[u8] = b"220 mx.example\r\n";
    loop {
        match session.next_step() {
            ClientStep::Read { .. } => session.received(reply),
            ClientStep::Ready => session.begin(&client::ClientTransaction {
                envelope,
                recipients: &[recipient],
                size_octets: 500,
                is_trial: false,
            }),
            ClientStep::Send(octets) => {
                assert!(octets.len() <= 1000, "a command line of {} octets", octets.len());
                let line = octets.strip_suffix(b"\r\n").unwrap();
                reply = match Command::parse(line).unwrap() {
                    Command::Ehlo(_) => b"250-mx.example\r\n250 DSN\r\n",
                    Command::Mail(_, parameters) => {
                        mail = Some(mail_parameters(&parameters, &offer()).unwrap());
                        b"250 2.1.0 Ok\r\n"
                    }
                    Command::Rcpt(_, parameters) => {
                        return (mail.unwrap(), rcpt_parameters(&parameters, &offer()).unwrap());
                    }
                    command => panic!("{command}"),
                };
            }
            step => panic!("{step:?}"),
        }
    }
}

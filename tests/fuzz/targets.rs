//! The bodies of the fuzz targets: properties that must hold for any octets.
//!
//! The fuzz crate beside this file runs them under libFuzzer; `tests/integration/fuzz.rs` runs them over the stored
//! corpus with each `make test`. A target fails by panicking. Each one claims more than that nothing panics: what is
//! printed is read back the same, the split of the input does not matter, the end of the data is where a simpler
//! program finds it. Only the public interface of the library is used, so a target outlives what is behind it.

/// Targets for packets between processes, and for the parameters of notices.
#[path = "packets.rs"]
mod packets;
/// Targets for small texts.
#[path = "parsers.rs"]
mod parsers;

use pillarbox::config;
use pillarbox::mail::address::{self, Domain, ForwardPath, LocalPart, Mailbox, ReversePath};
use pillarbox::mail::address_list;
use pillarbox::mail::date::WallTime;
use pillarbox::mail::envelope::{Body, Envelope, Notify, Recipient, Ret};
use pillarbox::mail::header;
use pillarbox::mail::id::QueueId;
use pillarbox::mail::outcome::Outcome;
use pillarbox::mail::status::EnhancedStatus;
use pillarbox::mail::unqualified::Unqualified;
use pillarbox::net::proxy::{Announced, read_header};
use pillarbox::net::resolver::{self, AnswerContent, DnsName, DnsRecord, Rtype, ServerFault, parse_answer};
use pillarbox::net::transport::{Deadline, Transport, WireError};
use pillarbox::rules::message::dkim::{DkimKey, RSA_BITS_MIN, Signer};
use pillarbox::rules::routing::aliases::{AliasTable, AliasTarget, parse_list};
use pillarbox::rules::routing::expansion::{Expansion, Files, Sources, expand};

use pillarbox::rules::message::recode::{HopSupport, Recoder, Survey};
use pillarbox::rules::message::repair::{HELD_MAX_OCTETS, Repair, RepairFacts};
use pillarbox::rules::message::rewrite::{Others, RewritePolicy};
use pillarbox::rules::routing::next_hop::NextHops;
use pillarbox::rules::routing::route::{Accounts, LocalUsers, LookupFailed, RoutePolicy, SystemAccount};
use pillarbox::smtp::command::{ClientName, Command};
use pillarbox::smtp::data::{DotDecoder, DotEncoder};
use pillarbox::smtp::extension::Offer;
use pillarbox::smtp::limits::REPLY_MAX_LINES;
use pillarbox::smtp::line::{Line, LineCutter};
use pillarbox::smtp::reply::{Reply, ReplyParser};
use pillarbox::smtp::sasl;
use pillarbox::smtp::server::{Action, ClientAccess, LoginPolicy, Service};
use pillarbox::smtp::{client, server};
use pillarbox::store::queue::{Description, RecipientState, parse_file};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// A target.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 32] = [
    ("address", address),
    ("address_list", parsers::address_list),
    ("agent_packet", packets::agent_packet),
    ("aliases", aliases),
    ("client_session", client_session),
    ("command", command),
    ("command_packet", packets::command_packet),
    ("configuration", configuration),
    ("control", parsers::control),
    ("cron", parsers::cron),
    ("data", data),
    ("date", parsers::date),
    ("dkim", dkim),
    ("dns_answer", dns_answer),
    ("drop_file", parsers::drop_file),
    ("dsn", packets::dsn),
    ("encoded_word", parsers::encoded_word),
    ("header", parsers::header),
    ("pem", parsers::pem),
    ("policy_reply", parsers::policy_reply),
    ("proxy_header", proxy_header),
    ("queue_file", queue_file),
    ("recode", recode),
    ("repair", repair),
    ("reply", reply),
    ("rewrite", rewrite),
    ("sasl", parsers::sasl),
    ("server_session", server_session),
    ("state_file", parsers::state_file),
    ("sts_policy", parsers::sts_policy),
    ("system_file", parsers::system_file),
    ("users_file", parsers::users_file),
];

/// The sizes of the pieces in which an input is fed, besides all at once.
const PIECES: [usize; 2] = [1, 5];

/// An address in each of its roles.
pub fn address(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Ok(domain) = Domain::parse(&text) {
        let printed = domain.to_string();
        assert_harmless(&printed);
        assert!(printed.len() <= address::DOMAIN_MAX_OCTETS, "a domain of {} octets", printed.len());
        assert_eq!(Domain::parse(&printed).as_ref(), Ok(&domain));
        assert_eq!(Domain::parse(&domain.key()), Ok(domain), "the key is another domain");
    }
    if let Ok(local_part) = LocalPart::parse(&text) {
        assert_harmless(local_part.as_str());
        assert!(local_part.as_str().len() <= address::LOCAL_PART_MAX_OCTETS);
        assert_eq!(LocalPart::parse(&local_part.to_string()), Ok(local_part));
    }
    if let Ok(mailbox) = Mailbox::parse(&text) {
        let printed = mailbox.to_string();
        assert_harmless(&printed);
        assert_eq!(Mailbox::parse(&printed).as_ref(), Ok(&mailbox));
        // A mailbox parses within angle brackets, too.
        for form in [printed.as_str(), &text] {
            assert_eq!(address::split_path(&format!("<{form}> X=1")), Ok((form, "X=1")));
            assert_eq!(ForwardPath::parse(form), Ok(ForwardPath::Mailbox(mailbox.clone())));
            assert_eq!(ReversePath::parse(form), Ok(ReversePath::Mailbox(mailbox.clone())));
        }
    }
    if let Ok(path) = ForwardPath::parse(&text) {
        assert_eq!(ForwardPath::parse(&path.to_string()), Ok(path));
    }
    if let Ok(path) = ReversePath::parse(&text) {
        assert_eq!(ReversePath::parse(&path.to_string()), Ok(path));
    }
    if let Ok((path, rest)) = address::split_path(&text) {
        assert!(text.contains(path) && text.ends_with(rest));
    }
}

/// An aliases file, which also stands for every file that it includes; and the expansion of its names.
pub fn aliases(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let (table, problems) = AliasTable::parse(&text, false);
    let (_, list_problems) = parse_list(&text, false);
    for problem in problems.iter().chain(&list_problems) {
        assert!((1..=text.lines().count()).contains(&problem.line) && problem.column >= 1, "{problem:?}");
        assert_harmless(&problem.text);
    }
    let policy = RoutePolicy {
        hostname: Domain::parse("box.lan").unwrap(),
        local_domains: vec![Domain::parse("box.lan").unwrap(), Domain::parse("localhost").unwrap()],
        own_addresses: Vec::new(),
        users: LocalUsers::System,
        in_homes: false,
        separator: Some('+'),
        catch_all: None,
        admin: Mailbox::parse("joe@localhost").into_iter().collect(),
        identities: Vec::new(),
        written: Vec::new(),
        next_hops: NextHops::default(),
    };
    let everything = Everything(&text);
    let sources = Sources { policy: &policy, aliases: &table, accounts: &everything, files: &everything };
    for name in ["root", "joe", "postmaster", "a", "b+x", "tim"] {
        let mailbox = Mailbox::parse(&format!("{name}@box.lan")).unwrap();
        let expanded = expand(&sources, &mailbox);
        assert!(expanded.is_ok() || name != "postmaster", "{expanded:?}");
        let Ok(Expansion { members, .. }) = expanded else { continue };
        assert!(members.iter().any(|member| member.route.is_ok()), "{name}");
        for (i, member) in members.iter().enumerate() {
            assert!(!members[..i].iter().any(|other| other.mailbox == member.mailbox), "{member:?} twice");
        }
    }
}

/// Each file has this text, and the system has all users but tim.
struct Everything<'a>(&'a str);

impl Files for Everything<'_> {
    fn include(&self, _: &str) -> Result<Vec<AliasTarget>, LookupFailed> {
        Ok(parse_list(self.0, false).0)
    }

    fn forward(&self, _: &SystemAccount) -> Option<Vec<AliasTarget>> {
        Some(parse_list(self.0, false).0)
    }
}

impl Accounts for Everything<'_> {
    fn find(&self, name: &str) -> Result<Option<SystemAccount>, LookupFailed> {
        let account = || SystemAccount { name: name.into(), uid: 1000, gid: 1000, home: "/".into() };
        Ok((name != "tim").then(account))
    }
}

/// One command line.
pub fn command(octets: &[u8]) {
    match Command::parse(octets) {
        Ok(command) => {
            let printed = command.to_string();
            assert_harmless(&printed);
            assert_eq!(Command::parse(printed.as_bytes()), Ok(command));
            let wire = format!("{printed}\r\n");
            let (used, line) = LineCutter::default().cut(wire.as_bytes(), wire.len());
            assert_eq!((used, line), (wire.len(), Some(Line::Text(printed.as_bytes()))));
        }
        Err(error) => {
            let mut wire = Vec::new();
            error.reply().print(&mut wire);
            assert_eq!(replies(&wire), [error.reply()]);
        }
    }
}

/// A message that is submitted.
pub fn repair(octets: &[u8]) {
    let whole = repaired(octets, true, octets.len().max(1));
    let without_bcc = repaired(octets, false, octets.len().max(1));
    for piece in PIECES {
        assert_eq!(shown(&repaired(octets, true, piece)), shown(&whole), "in pieces of {piece}");
        assert_eq!(shown(&repaired(octets, false, piece)), shown(&without_bcc), "in pieces of {piece}");
    }
    // The line that mbox puts in front of a message is the section filter's.
    if octets.len() < HELD_MAX_OCTETS && !octets.starts_with(b"From ") {
        assert_eq!(shown(&repaired(&whole, true, whole.len())), shown(&whole), "repaired twice, it differs");
        let (before, body) = fields(octets);
        let kept: Vec<&[u8]> = before.into_iter().filter(|field| !is_bcc(field)).collect();
        let mut expected = kept.concat();
        if !expected.is_empty() && !expected.ends_with(b"\n") {
            expected.push(b'\n');
        }
        expected.push(b'\n');
        expected.extend_from_slice(body);
        assert_eq!(shown(&without_bcc), shown(&expected), "more than Bcc was changed");
        let (after, new_body) = fields(&whole);
        assert_eq!(shown(new_body), shown(body), "the body was changed");
        assert!(!after.iter().any(|field| is_bcc(field)), "a Bcc is left");
        for name in
            ["Date", "Message-ID", "From", "Sender", "Reply-To", "To", "Cc", "Subject", "Content-Type"]
        {
            let is_one = |field: &&&[u8]| header::value_of(field, name).is_some();
            assert!(after.iter().filter(is_one).count() <= 1, "{name} is there twice");
        }
    }
}

fn repaired(octets: &[u8], is_on: bool, piece: usize) -> Vec<u8> {
    let facts = RepairFacts {
        is_on,
        domain: "added.example".into(),
        id: QueueId::new(1, 2),
        date: WallTime(0),
        reverse_path: ReversePath::Null,
    };
    let (mut repair, mut out) = (Repair::new(facts), Vec::new());
    octets.chunks(piece).for_each(|piece| repair.feed(piece, &mut out));
    repair.finish(&mut out);
    out
}

/// The fields of a message, each with its line ends, and its body.
fn fields(octets: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut section, body) = octets.split_at(header::section(octets).len());
    let mut fields = Vec::new();
    while !section.is_empty() {
        let is_end = |pair: &[u8]| pair[0] == b'\n' && !matches!(pair[1], b' ' | b'\t');
        let end = section.windows(2).position(is_end).map_or(section.len(), |at| at + 1);
        let (field, rest) = section.split_at(end);
        fields.push(field);
        section = rest;
    }
    (fields, body.strip_prefix(b"\n").unwrap_or(body))
}

fn is_bcc(field: &[u8]) -> bool {
    let name = field.split(|&b| b == b':').next().unwrap_or_default().trim_ascii_end();
    name.eq_ignore_ascii_case(b"Bcc") || name.eq_ignore_ascii_case(b"Resent-Bcc")
}

/// An outgoing message with any From.
pub fn rewrite(octets: &[u8]) {
    let domain = |text| Domain::parse(text).unwrap();
    let identity = Mailbox::parse("alerts@far.example").unwrap();
    for others in [Others::Become(identity), Others::MoveTo(domain("new.example")), Others::Stay] {
        let replaces_all = matches!(others, Others::Become(_));
        let senders = [("root", "root@far.example"), ("joe@new.example", "joe@far.example")];
        let senders =
            senders.map(|(old, new)| (Unqualified::parse(old).unwrap(), Mailbox::parse(new).unwrap()));
        let (hostname, local_domains) = (domain("box.lan"), vec![domain("here.example")]);
        let policy = RewritePolicy {
            hostname,
            local_domains,
            senders: senders.to_vec(),
            others,
            subject_prefix: String::new(),
        };
        let once = rewritten(&policy, octets);
        assert_eq!(shown(&rewritten(&policy, &once)), shown(&once), "rewritten twice, it differs");
        let ((before, body), (after, new_body)) = (fields(octets), fields(&once));
        assert_eq!(shown(new_body), shown(body), "the body was changed");
        let is_touched = |field: &&&[u8]| {
            let name = header::split_field(field).map(|(name, _)| name.to_ascii_lowercase());
            let touched = [&b"from"[..], b"sender", b"resent-from", b"x-original-from"];
            name.is_some_and(|name| touched.contains(&name.as_slice()))
        };
        let trim = |field: &&[u8]| shown(field.strip_suffix(b"\n").unwrap_or(field));
        let kept = |fields: &[&[u8]]| -> Vec<String> {
            fields.iter().filter(|field| !is_touched(field)).map(trim).collect()
        };
        assert_eq!(kept(&after), kept(&before), "another field was changed");
        let from = |field: &&&[u8]| {
            header::split_field(field).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"From"))
        };
        let all: Vec<_> = after.iter().filter(from).collect();
        if replaces_all {
            let [from] = all.as_slice() else { panic!("{} From fields", all.len()) };
            let (_, value) = header::split_field(from).unwrap();
            let spans = address_list::spans(value).unwrap();
            for span in &spans {
                let domain = span.domain.clone().map(|range| value[range].to_ascii_lowercase());
                assert_eq!(domain.as_deref(), Some(&b"far.example"[..]), "{}", shown(from));
            }
            assert!(!spans.is_empty());
        }
    }
}

fn rewritten(policy: &RewritePolicy, octets: &[u8]) -> Vec<u8> {
    let sender = ReversePath::parse("root@box.lan").unwrap();
    match policy.header(octets, &sender) {
        Some((header, used)) => [&header, octets.get(used..).unwrap()].concat(),
        None => octets.to_vec(),
    }
}

/// A PROXY header and any octets behind it.
pub fn proxy_header(octets: &[u8]) {
    let read = |piece| {
        let mut wire = Wire { rest: octets, piece };
        let read = read_header(&mut wire, Deadline::after(Duration::MAX)).map_err(|error| error.to_string());
        (read, octets.len() - wire.rest.len())
    };
    let (whole, used) = read(octets.len().max(1));
    for piece in PIECES {
        let in_pieces = read(piece);
        assert_eq!(in_pieces.0.is_ok(), whole.is_ok(), "in pieces of {piece}");
        if whole.is_ok() {
            assert_eq!(in_pieces, (whole.clone(), used), "in pieces of {piece}");
        }
    }
    if let Ok(announced) = whole {
        let length = match octets.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
            Some(rest) => 16 + usize::from(rest[2]) * 256 + usize::from(rest[3]),
            None => octets.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2,
        };
        assert_eq!(used, length, "what follows the header is not the header's");
        if let Announced::Client(client) = announced {
            assert_eq!(client.ip(), client.ip().to_canonical());
        }
    }
}

/// A connection whose peer has sent everything.
struct Wire<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Transport for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        let length = self.rest.len().min(self.piece).min(buffer.len());
        if length == 0 {
            return Err(WireError::Closed);
        }
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        Ok(length)
    }

    fn write_all(&mut self, _: &[u8], _: Deadline) -> Result<(), WireError> {
        Err(WireError::Closed)
    }

    fn has_input(&mut self) -> bool {
        !self.rest.is_empty()
    }
}

/// The lines that a server sent, up to the first that is no reply line.
pub fn reply(octets: &[u8]) {
    let mut parser = ReplyParser::default();
    for line in octets.split(|&b| b == b'\n') {
        match parser.line(line) {
            Ok(Some(reply)) => {
                assert!(!parser.is_within_reply());
                assert!((200..600).contains(&reply.code));
                assert!((1..=REPLY_MAX_LINES).contains(&reply.lines.len()));
                let mut wire = Vec::new();
                reply.print(&mut wire);
                let again = replies(&wire);
                let [again] = again.as_slice() else { panic!("one reply became {again:?}") };
                assert_eq!((again.code, again.status), (reply.code, reply.status));
                let mut wire_again = Vec::new();
                again.print(&mut wire_again);
                assert_eq!(shown(&wire_again), shown(&wire), "printed twice, it differs");
            }
            Ok(None) => assert!(parser.is_within_reply()),
            Err(_) => return,
        }
    }
}

/// Mail data from the wire, and content to the wire.
pub fn data(octets: &[u8]) {
    let whole = decode(octets, octets.len().max(1));
    for piece in PIECES {
        assert_eq!(decode(octets, piece), whole, "in pieces of {piece}");
    }
    assert_eq!(whole.end, end_of_data(octets), "the end is not at the first CRLF . CRLF");
    if let Some(end) = whole.end {
        // All lines but the lone dot.
        let lines: Vec<&[u8]> = octets[..end - 3].split_inclusive(|&b| b == b'\n').collect();
        let texts: Option<Vec<&[u8]>> = lines.iter().map(|line| line.strip_suffix(b"\r\n")).collect();
        match texts.filter(|texts| !texts.iter().any(|text| text.contains(&b'\r'))) {
            Some(texts) => {
                let plain = |text: &&[u8]| [text.strip_prefix(b".").unwrap_or(text), b"\n"].concat();
                let content: Vec<u8> = texts.iter().flat_map(plain).collect();
                assert!(!whole.malformed);
                assert_eq!(whole.octets, (content.len() + lines.len()) as u64, "RFC 1870 counts CRLF");
                assert_eq!(shown(&whole.content), shown(&content));
            }
            None => assert!(whole.malformed, "a bare CR or LF has passed"),
        }
    }

    let content: Vec<u8> = octets.iter().copied().filter(|&b| b != b'\r').collect();
    let wire = encode(&content, content.len().max(1));
    for piece in PIECES {
        assert_eq!(shown(&encode(&content, piece)), shown(&wire), "in pieces of {piece}");
    }
    let back = decode(&wire, wire.len());
    assert_eq!(back.end, Some(wire.len()), "the data ends before its end");
    assert!(!back.malformed);
    let line_end: &[u8] = if content.is_empty() || content.ends_with(b"\n") { b"" } else { b"\n" };
    assert_eq!(shown(&back.content), shown(&[&content, line_end].concat()));
}

/// The answer of a DNS server to a question for `example.org`.
pub fn dns_answer(octets: &[u8]) {
    let name = |wire: &[u8]| DnsName::from_octets(wire.to_vec()).unwrap();
    let asked = name(b"\x07example\x03org\0");
    for rtype in [Rtype::MX, Rtype::A, Rtype::AAAA, Rtype::TXT, Rtype::TLSA, Rtype::SRV] {
        let whole = parse_answer(octets, &asked, rtype);
        // The upper bits of the code stand in the OPT record, which may lie beyond the cut (RFC 6891 §6.1.3).
        let is_refusal = matches!(whole, Err(ServerFault::Code(_)));
        let whole = whole.ok();
        // An Alias is the asked name as it was written, so only the rest can be compared as it is.
        let other_case = parse_answer(octets, &name(b"\x07EXAMPLE\x03oRg\0"), rtype).ok();
        assert_eq!(other_case, whole, "the case of the name matters");
        for eighth in (0..8).filter(|_| !is_refusal) {
            // A truncated answer is an error or the same answer: never a different one.
            if let Ok(part) = parse_answer(&octets[..octets.len() * eighth / 8], &asked, rtype) {
                assert_eq!(Some(part), whole, "cut at {eighth}/8");
            }
        }
        let Some(answer) = whole else { continue };
        let is_cut = octets.get(2).is_some_and(|flags| flags & 2 != 0);
        assert!(!is_cut, "a truncated answer (TC, RFC 1035 §4.1.1) is believed");
        assert!(answer.ttl <= Duration::from_secs(24 * 3600));
        assert!(answer.cnames <= resolver::CNAMES_MAX + 1);
        match answer.found {
            AnswerContent::Records(records) => {
                assert!((1..=256).contains(&records.len()));
                for record in records {
                    match (rtype, record) {
                        (Rtype::A, DnsRecord::Address(ip)) => assert!(ip.is_ipv4()),
                        (Rtype::AAAA, DnsRecord::Address(ip)) => assert!(ip.is_ipv6()),
                        (Rtype::MX, DnsRecord::Mx(mx)) => {
                            let printable = |b: u8| b.is_ascii_graphic() || b == b' ';
                            assert!(mx.exchange.bytes().all(printable), "{:?}", mx.exchange);
                            assert_eq!(mx.exchange, mx.exchange.to_ascii_lowercase());
                        }
                        (Rtype::TXT | Rtype::TLSA | Rtype::SRV, DnsRecord::Data(_)) => {}
                        (_, record) => panic!("{record:?} was not asked for"),
                    }
                }
            }
            AnswerContent::NoData | AnswerContent::NoSuchDomain(_) => {
                assert!(answer.ttl <= Duration::from_secs(15 * 60))
            }
            AnswerContent::Alias(_) => assert!(answer.cnames > 0),
        }
    }
}

/// A queue file as it is, and with corrected checksums, which random changes never hit.
pub fn queue_file(octets: &[u8]) {
    for file in [octets.to_vec(), mended(octets)] {
        let Ok((description, progress)) = parse_file(&file) else { continue };
        assert_eq!(progress.len(), description.envelope.recipients.len());
        for progress in &progress {
            let attempts = usize::try_from(progress.attempts).unwrap();
            assert_eq!(progress.recent_attempts.iter().flatten().count(), attempts.min(3));
            assert_eq!(progress.diagnostic.is_some(), attempts > 0);
            assert!(attempts > 0 || progress.state == RecipientState::Pending);
        }
        let printed = print_queue_file(&print_description(&description), b"text\n", b"");
        let again = parse_file(&printed).map(|(description, _)| description);
        assert_eq!(again.as_ref(), Ok(&description), "printed and parsed, it differs");
        if file.ends_with(b"\n") {
            // A last record that only lacks its line end is completed when the file is opened.
            let record = "delivered\tto=0\tat=1 1\tstatus=2.0.0";
            let torn = format!("\n{:08x} {record}", crc_32(record.as_bytes()));
            let torn = [&file, torn.as_bytes()].concat();
            assert_eq!(parse_file(&torn), Ok((description, progress)), "a torn record tells something");
            let (_, progress) = parse_file(&[&torn, &b"\n"[..]].concat()).unwrap();
            assert!(progress.first().is_none_or(|first| first.state != RecipientState::Pending));
        }
    }
}

/// A configuration file.
pub fn configuration(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let parsed = config::parse(text, "f");
    assert_eq!(config::parse(text, "f"), parsed);
    match parsed {
        Ok(settings) => {
            assert!(!settings.listeners.is_empty());
            assert!(settings.relay.trusted_networks.iter().all(|n| n.prefix > 0), "an open relay");
            let with_comment = format!("{text}\n# the end\n");
            assert_eq!(config::parse(&with_comment, "f"), Ok(settings), "a comment says something");
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                assert_harmless(&problem.to_string());
                let place = problem.place.unwrap();
                let line = text.split('\n').nth(place.line - 1);
                let columns = line.unwrap_or_else(|| panic!("no line {}", place.line)).chars().count() + 1;
                assert!((1..=columns).contains(&place.column), "{problem}");
            }
        }
    }
}

/// A message in canonical form.
pub fn recode(octets: &[u8]) {
    let content: Vec<u8> = octets.iter().copied().filter(|&octet| octet != b'\r').collect();
    for support in [HopSupport::Utf8, HopSupport::EightBit, HopSupport::SevenBit] {
        let recoded = |content: &[u8], size: usize| {
            let mut survey = Survey::new(support);
            content.chunks(size).for_each(|piece| survey.feed(piece));
            let mut recoder = Recoder::new(survey.finish().plan?);
            let mut out = Vec::new();
            content.chunks(size).for_each(|piece| recoder.feed(piece, &mut out));
            recoder.finish(&mut out);
            Some(out)
        };
        let whole = recoded(&content, usize::MAX);
        for piece in PIECES {
            assert_eq!(recoded(&content, piece), whole, "in pieces of {piece}");
        }
        if let Some(whole) = whole {
            assert!(!whole.contains(&b'\r'));
            // Text that cannot become ASCII is tried again.
            let again = recoded(&whole, usize::MAX);
            let again = again.filter(|_| whole.is_ascii());
            assert_eq!(again.map(|again| shown(&again)), None, "once is not enough: {}", shown(&whole));
        }
    }
}

/// Ed25519, of RFC 8463 §A.2.
const DKIM_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

/// A domain and a selector, a line each; then a private key, or a message.
pub fn dkim(octets: &[u8]) {
    let mut parts = octets.splitn(3, |&octet| octet == b'\n');
    let mut name = || Domain::parse(std::str::from_utf8(parts.next()?).ok()?).ok();
    let (Some(domain), Some(selector)) = (name(), name()) else { return };
    let rest = parts.next().unwrap_or_default();
    match DkimKey::from_pem(rest, &domain, &selector) {
        Ok(key) => {
            assert!(key.rsa_bits().is_none_or(|bits| bits >= RSA_BITS_MIN));
            let signed = signatures(&[key], format!("From: <a@{domain}>\n\nx\n").as_bytes(), usize::MAX);
            // A damaged key cannot sign, or makes signatures that do not verify.
            assert_ne!(signed.as_deref(), Some(""), "it does not serve its own domain");
        }
        Err(problem) => assert_harmless(&problem.to_string()),
    }
    let Ok(key) = DkimKey::from_pem(DKIM_KEY.as_bytes(), &domain, &selector) else { return };
    let keys = [key];
    let signed = |message: &[u8]| signatures(&keys, message, usize::MAX);
    let whole = signed(rest);
    for piece in PIECES {
        assert_eq!(signatures(&keys, rest, piece), whole, "in pieces of {piece}");
    }
    assert_eq!(signed(&[rest, b"\n\n"].concat()), whole, "empty lines at the end count");
    let Some(whole) = whole.filter(|field| !field.is_empty()) else { return };
    assert_eq!(
        signed(&[b"X-Added: 1\n", rest].concat()).as_ref(),
        Some(&whole),
        "a field that nobody signs counts"
    );
    assert_ne!(signed(&[b"Subject: added\n", rest].concat()).as_ref(), Some(&whole), "a field can be added");
    if rest.windows(2).any(|pair| pair == b"\n\n") {
        assert_ne!(signed(&[rest, b"."].concat()).as_ref(), Some(&whole), "the body can be added to");
    }
    assert!(
        whole.starts_with("DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;")
            && whole.ends_with('\n')
    );
    for (i, line) in whole.lines().enumerate() {
        assert!(line.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic()), "{line:?}");
        assert!((i == 0 || line.starts_with('\t')) && !line.trim().is_empty(), "{line:?}");
    }
}

fn signatures(keys: &[DkimKey], message: &[u8], piece: usize) -> Option<String> {
    let mut signer = Signer::new(keys, WallTime(7));
    message.chunks(piece).for_each(|piece| signer.feed(piece));
    signer.finish().ok()
}

/// Everything that a client sends.
pub fn server_session(octets: &[u8]) {
    let service = [Service::Smtp, Service::Smtp, Service::Submission, Service::Lmtp][octets.len() % 4];
    let mut whole = Server::new(service);
    whole.feed(octets);
    if let Some((_, wire, _)) = &whole.data {
        assert_eq!(end_of_data(wire), None, "the end of the data was passed over");
    }
    for piece in PIECES {
        let mut other = Server::new(service);
        octets.chunks(piece).for_each(|piece| other.feed(piece));
        assert_eq!(shown(&other.output), shown(&whole.output), "in pieces of {piece}");
        assert_eq!((other.messages, other.is_closed), (whole.messages.clone(), whole.is_closed));
    }
    for reply in replies(&whole.output) {
        assert!(!reply.lines.iter().any(|line| line.contains(char::is_control)));
    }
}

/// Everything that a server sends, in blocks with a NUL between them: a block arrives while the client waits once. An empty
/// block is silence; after the last one the server closes.
pub fn client_session(octets: &[u8]) {
    let whole = play_client(octets, octets.len().max(1));
    for piece in PIECES {
        assert_eq!(play_client(octets, piece), whole, "in pieces of {piece}");
    }
}

fn assert_harmless(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?} holds a control character");
}

/// Octets that a failed assertion can show.
fn shown(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

/// Reads what this program has printed: all of it must be replies.
fn replies(wire: &[u8]) -> Vec<Reply> {
    let mut parser = ReplyParser::default();
    let lines = wire.split_inclusive(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r\n").unwrap());
    assert!(!lines.clone().any(|line| line.iter().any(u8::is_ascii_control)), "{:?}", shown(wire));
    let found = lines.filter_map(|line| parser.line(line).unwrap()).collect();
    assert!(!parser.is_within_reply(), "a reply has no end");
    found
}

/// The end of data, found by a simpler program than the decoder.
fn end_of_data(wire: &[u8]) -> Option<usize> {
    let after_line_end = [b"\r\n", wire].concat();
    after_line_end.windows(5).position(|octets| octets == b"\r\n.\r\n").map(|at| at + 3)
}

#[derive(Debug, PartialEq)]
struct Decoded {
    content: Vec<u8>,
    malformed: bool,
    octets: u64,
    /// How much of the wire was data, if its end was there.
    end: Option<usize>,
}

fn decode(wire: &[u8], piece: usize) -> Decoded {
    let (mut decoder, mut content, mut used) = (DotDecoder::default(), Vec::new(), 0);
    for piece in wire.chunks(piece) {
        if decoder.is_at_end() {
            break;
        }
        let now = decoder.decode(piece, &mut content);
        assert!(now == piece.len() || decoder.is_at_end(), "octets are left without an end");
        used += now;
    }
    let (malformed, octets) = (decoder.is_malformed(), decoder.octets());
    Decoded { content, malformed, octets, end: decoder.is_at_end().then_some(used) }
}

fn encode(content: &[u8], piece: usize) -> Vec<u8> {
    let (mut encoder, mut wire) = (DotEncoder::default(), Vec::new());
    content.chunks(piece).for_each(|piece| encoder.encode(piece, &mut wire));
    encoder.finish(&mut wire);
    wire
}

/// CRC-32 as IEEE 802.3 defines it, bit by bit.
fn crc_32(octets: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !octets.iter().fold(!0, |crc, &octet| (0..8).fold(crc ^ u32::from(octet), step))
}

/// The format of a queue file after its documentation, independent of the code that prints it.
fn print_queue_file(envelope: &[u8], message: &[u8], journal: &[u8]) -> Vec<u8> {
    let lines = message.iter().filter(|&&b| b == b'\n').count();
    let (envelope_crc, message_crc) = (crc_32(envelope), crc_32(message));
    let first_line = format!(
        "pillarbox-queue 1 {:010} {:020} {lines:020} {envelope_crc:08x} {message_crc:08x} ",
        envelope.len(),
        message.len()
    );
    let crc = format!("{:08x}\n", crc_32(first_line.as_bytes()));
    [first_line.as_bytes(), crc.as_bytes(), envelope, message, journal].concat()
}

fn print_description(description: &Description) -> Vec<u8> {
    let envelope = &description.envelope;
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        text.push_str(key);
        text.push('=');
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                c if c.is_control() => {
                    c.to_string().bytes().for_each(|octet| write!(text, "\\x{octet:02x}").unwrap());
                }
                c => text.push(c),
            }
        }
        text.push('\n');
    };
    let flags = [
        ("body", "8bitmime", envelope.body == Body::EightBitMime),
        ("smtputf8", "yes", envelope.smtputf8),
        ("requiretls", "yes", envelope.require_tls),
        ("own", "yes", envelope.is_own),
        ("urgent", "yes", envelope.is_urgent),
        ("ret", "full", envelope.ret == Some(Ret::Full)),
        ("ret", "hdrs", envelope.ret == Some(Ret::Headers)),
    ];
    flags.iter().filter(|(.., set)| *set).for_each(|(key, value, _)| line(key, value));
    line("sender", &envelope.reverse_path.to_string());
    let arrival = description.arrival;
    line("arrival", &format!("{} {}", arrival.wall.0, arrival.running.as_micros()));
    line("origin", &description.origin);
    envelope.envid.iter().for_each(|envid| line("envid", envid));
    for recipient in &envelope.recipients {
        line("to", &recipient.mailbox.to_string());
        recipient.orcpt.iter().for_each(|orcpt| line("orcpt", orcpt));
        if let Some(Notify { success, failure, delay }) = recipient.notify {
            let words = [(success, "success"), (failure, "failure"), (delay, "delay")];
            let words: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|&(_, word)| word).collect();
            line("notify", if words.is_empty() { "never".into() } else { words.join(",") }.as_str());
        }
    }
    text.into_bytes()
}

/// Makes a queue file of damaged octets, with correct lengths and checksums.
fn mended(octets: &[u8]) -> Vec<u8> {
    let end = octets.iter().position(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    let (first_line, rest) = octets.split_at(end);
    let numbers = String::from_utf8_lossy(first_line);
    let mut numbers = numbers.split(' ').skip(2).map(|number| number.parse().unwrap_or(usize::MAX));
    let mut next = |left: usize| numbers.next().unwrap_or(usize::MAX).min(left);
    let (envelope, rest) = rest.split_at(next(rest.len()));
    let (message, journal) = rest.split_at(next(rest.len()));
    let with_checksum = |line: &[u8]| {
        let text = line.splitn(2, |&b| b == b' ').nth(1).unwrap_or(line);
        let line_end: &[u8] = if text.ends_with(b"\n") { b"\n" } else { b"" };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        [format!("{:08x} ", crc_32(text)).as_bytes(), text, line_end].concat()
    };
    let journal: Vec<u8> = journal.split_inclusive(|&b| b == b'\n').flat_map(with_checksum).collect();
    print_queue_file(envelope, message, &journal)
}

/// A server without a socket: octets in, octets and messages out.
struct Server {
    session: server::ServerSession<ForwardPath>,
    cutter: LineCutter,
    /// In the data phase: the decoder, and what it was given and gave.
    data: Option<(DotDecoder, Vec<u8>, Vec<u8>)>,
    /// The chunk that is being received: its remaining octets, and the action at its end.
    chunk: Option<(u64, ChunkEnd)>,
    input: Vec<u8>,
    output: Vec<u8>,
    messages: Vec<Vec<u8>>,
    is_closed: bool,
}

/// The action at the end of a chunk.
enum ChunkEnd {
    Verdict(server::Chunk),
    Reply(Reply),
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

impl Server {
    const RECIPIENTS: usize = 3;
    const SIZE_OCTETS: u64 = 1000;

    fn new(service: Service) -> Self {
        let terms = server::ServerTerms {
            hostname: "mx.example".into(),
            home: server::Home { of_senders: domain("mx.example"), of_recipients: domain("mx.example") },
            offer: Offer {
                message_size_octets: Self::SIZE_OCTETS,
                recipients: Self::RECIPIENTS,
                starttls: true,
                ..Offer::default()
            },
            recipients: Self::RECIPIENTS,
            errors: 10,
        };
        let mut session = server::ServerSession::new(Arc::new(terms));
        let logins = if service == Service::Submission { LoginPolicy::Always } else { LoginPolicy::Never };
        session.serve(service, ClientAccess { logins, ..ClientAccess::DEFAULT });
        session.trust(true);
        let mut output = Vec::new();
        session.greeting().print(&mut output);
        let (cutter, data, input, messages) = (LineCutter::default(), None, Vec::new(), Vec::new());
        Self { session, cutter, data, chunk: None, input, output, messages, is_closed: false }
    }

    fn feed(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        while !self.is_closed && !self.input.is_empty() {
            let mut input = std::mem::take(&mut self.input);
            let used = match (&self.data, &self.chunk) {
                (Some(_), _) => self.data(&input),
                (None, Some(_)) => self.chunk(&input),
                (None, None) => self.line(&input),
            };
            input.drain(..used);
            self.input = input;
            if used == 0 {
                break;
            }
        }
        assert!(
            self.is_closed || self.input.len() < self.session.line_max_octets(&self.input),
            "an endless line is kept"
        );
    }

    fn line(&mut self, input: &[u8]) -> usize {
        let (used, line) = self.cutter.cut(input, self.session.line_max_octets(input));
        if let Some(line) = line {
            let action = self.session.line(&line);
            self.act(action);
        }
        used
    }

    fn data(&mut self, input: &[u8]) -> usize {
        let (mut decoder, mut wire, mut content) = self.data.take().unwrap();
        assert!(self.session.is_in_transaction());
        let used = decoder.decode(input, &mut content);
        wire.extend_from_slice(&input[..used]);
        if !decoder.is_at_end() {
            self.data = Some((decoder, wire, content));
            return used;
        }
        assert_eq!(end_of_data(&wire), Some(wire.len()), "mail is smuggled in {:?}", shown(&wire));
        let verdict = if decoder.is_malformed() {
            Err(Reply::new(550, EnhancedStatus::SYNTAX_ERROR, "bare CR or LF"))
        } else {
            self.messages.push(content);
            Ok(QueueId::new(0, 1))
        };
        let action = self.session.end_of_data(verdict);
        assert!(!self.session.is_in_transaction());
        self.act(action);
        used
    }

    fn end_empty_chunk(&mut self) {
        if self.chunk.as_ref().is_some_and(|(left, _)| *left == 0) {
            self.chunk(b"");
        }
    }

    /// The octets of a chunk are never taken for commands.
    fn chunk(&mut self, input: &[u8]) -> usize {
        let Some((left, end)) = self.chunk.take() else { return 0 };
        let used = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let left = left - used as u64;
        if left > 0 {
            self.chunk = Some((left, end));
            return used;
        }
        match end {
            ChunkEnd::Reply(reply) => reply.print(&mut self.output),
            ChunkEnd::Verdict(chunk) => {
                assert!(self.session.is_chunking());
                let id = chunk.is_last.then(|| QueueId::new(0, 1));
                let action = self.session.chunk_verdict(Ok(id), chunk);
                assert_eq!(self.session.is_chunking(), !chunk.is_last);
                self.act(action);
            }
        }
        used
    }

    fn act(&mut self, action: Action<ForwardPath>) {
        let refused = |text: String| text.ends_with("@refused.example");
        let reply = || Reply::new(550, EnhancedStatus::NO_SUCH_USER, "no such user");
        let next = match action {
            Action::Reply(reply) => {
                if reply.code == 354 {
                    self.data = Some((DotDecoder::default(), Vec::new(), Vec::new()));
                }
                return reply.print(&mut self.output);
            }
            Action::Close(reply) => {
                self.is_closed = true;
                return reply.print(&mut self.output);
            }
            Action::ReplyEach(reply, times) => {
                assert!((1..=Self::RECIPIENTS).contains(&times));
                return (0..times).for_each(|_| reply.print(&mut self.output));
            }
            Action::AskLogin(credentials, _) => {
                assert!(!self.session.is_in_transaction() || self.session.login().is_none());
                let is_right = credentials.password.octets().first() != Some(&b'x');
                self.session.login_verdict(if is_right { Ok(()) } else { Err(sasl::refused()) })
            }
            Action::AskTls => self.session.tls_verdict(true),
            Action::StartTls(reply) => {
                assert_eq!(self.session.client_name(), None);
                return reply.print(&mut self.output);
            }
            Action::AskSender(path, parameters) => {
                assert!(parameters.size_octets.is_none_or(|size| size <= Self::SIZE_OCTETS));
                let refused = refused(path.to_string());
                self.session.sender_verdict(if refused { Err(reply()) } else { Ok(()) })
            }
            Action::AskRecipient(path, _) => {
                let refused = refused(path.to_string());
                self.session.recipient_verdict(if refused { Err(reply()) } else { Ok(path) })
            }
            Action::ReadChunk(transaction, chunk) => {
                assert!(transaction.is_none_or(|t| (1..=Self::RECIPIENTS).contains(&t.recipients.len())));
                self.chunk = Some((chunk.octets, ChunkEnd::Verdict(chunk)));
                return self.end_empty_chunk();
            }
            Action::SkipChunk(octets, reply) => {
                self.chunk = Some((octets, ChunkEnd::Reply(reply)));
                return self.end_empty_chunk();
            }
            Action::AskData(transaction) => {
                assert!((1..=Self::RECIPIENTS).contains(&transaction.recipients.len()));
                self.session.data_verdict(Ok(()))
            }
        };
        self.act(next);
    }
}

/// A variant of the client session.
fn conduct(number: usize) -> client::SessionOptions {
    let login = client::Login {
        name: "tim".into(),
        password: Some(sasl::Secret::new(b"tanstaaf".to_vec())),
        has_certificate: number.is_multiple_of(2),
        choice: "auto",
        port: 587,
        nonce: "nonce".into(),
        renews: false,
    };
    let token = client::Login { choice: "xoauth2", renews: true, ..login.clone() };
    let plain = client::SessionOptions::default();
    match number % 5 {
        0 => client::SessionOptions { tls: client::TlsUse::WhereOffered, ..plain },
        1 => client::SessionOptions { tls: client::TlsUse::Required, login: Some(login), ..plain },
        2 => client::SessionOptions { is_lmtp: true, ..plain },
        3 => client::SessionOptions { is_loopback: true, login: Some(token), ..plain },
        _ => plain,
    }
}

/// Lets a client with two messages talk to a server that sends `blocks`, and tells each step.
fn play_client(blocks: &[u8], piece: usize) -> Vec<String> {
    let mut session = client::ClientSession::new(
        "mx.example",
        ClientName::parse("box.example").unwrap(),
        conduct(blocks.len()),
    );
    let mut envelope = Envelope::new(ReversePath::Mailbox(Mailbox::parse("a@box.example").unwrap()));
    envelope.body = Body::EightBitMime;
    let recipient = |name: &str| Recipient::new(Mailbox::parse(&format!("{name}@b.example")).unwrap());
    let recipients = ["r1", "r2", "r3"].map(recipient);
    let mut messages: Vec<Vec<&Recipient>> =
        vec![recipients[..1].iter().collect(), recipients.iter().collect()];
    let mut blocks = blocks.split(|&b| b == 0);
    let mut was_stuck = false;
    let (mut was_sent, mut is_content_sent, mut waiting_for_outcome, mut log) =
        (false, false, Vec::new(), Vec::new());
    let mut is_logging_in = false;
    loop {
        let step = session.next_step();
        // Input that arrives before a command is sent is no reply to it (RFC 5321 §2.1, DESIGN section 4).
        assert!(!was_sent || matches!(step, client::ClientStep::Read { .. }), "{step:?} before a reply");
        was_sent = matches!(step, client::ClientStep::Send(_));
        is_logging_in |= matches!(&step, client::ClientStep::Send(octets) if octets.starts_with(b"AUTH "));
        is_logging_in &= !matches!(step, client::ClientStep::Ready | client::ClientStep::Close(_));
        log.push(format!("{step:?}"));
        assert!(log.len() < 100_000, "the session never ends");
        match step {
            // The lines of an AUTH exchange are no commands.
            client::ClientStep::Send(_) if is_logging_in => {}
            client::ClientStep::Send(octets) => assert_commands(&octets),
            client::ClientStep::RenewToken if log.len() % 3 == 0 => session.token_renewed(None),
            client::ClientStep::RenewToken => {
                session.token_renewed(Some(sasl::Secret::new(b"other".to_vec())));
            }
            client::ClientStep::StartTls if log.len() % 5 == 0 => session.tls_failed("no"),
            client::ClientStep::StartTls => session.tls_established(client::Security::Verified, None),
            client::ClientStep::Read { .. } => match blocks.next() {
                None => session.lost(&client::Lost::Closed),
                Some([]) => session.lost(&client::Lost::TimedOut),
                Some(block) => block.chunks(piece).for_each(|piece| session.received(piece)),
            },
            client::ClientStep::SendContent | client::ClientStep::SendChunk => {
                assert!(!waiting_for_outcome.is_empty(), "a message nobody gave");
                is_content_sent = true;
                session.content_sent();
            }
            client::ClientStep::Finished(outcomes) => {
                assert_eq!(outcomes.len(), waiting_for_outcome.len());
                let is_delivered = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Delivered(_)));
                assert!(is_content_sent || !outcomes.iter().any(is_delivered), "delivered without content");
                let asked = std::mem::take(&mut waiting_for_outcome).into_iter();
                let rest: Vec<_> =
                    asked.zip(&outcomes).filter(|(_, o)| o.is_none()).map(|(r, _)| r).collect();
                let is_stuck = rest.len() == outcomes.len();
                if session.next_step() == client::ClientStep::Ready && !rest.is_empty() {
                    // Once, when the peer turns out not to know the BDAT that it offers.
                    assert!(!(is_stuck && was_stuck), "the same recipients for ever");
                    was_stuck |= is_stuck;
                    messages.push(rest);
                }
            }
            client::ClientStep::Ready => {
                assert!(waiting_for_outcome.is_empty(), "a message without outcome");
                match messages.pop() {
                    None => session.quit(),
                    Some(recipients) => {
                        is_content_sent = false;
                        let (envelope, recipients) = (&envelope, recipients.as_slice());
                        session.begin(&client::ClientTransaction {
                            envelope,
                            recipients,
                            size_octets: 500,
                            is_trial: false,
                        });
                        waiting_for_outcome = recipients.to_vec();
                    }
                }
            }
            client::ClientStep::Close(_) => {
                assert!(waiting_for_outcome.is_empty(), "a message without outcome");
                return log;
            }
        }
    }
}

/// Whole lines: each is a command as the server parses it, or the lone dot that ends an empty message.
fn assert_commands(octets: &[u8]) {
    assert!(octets.ends_with(b"\r\n"), "{:?}", shown(octets));
    for line in octets.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap();
        if line != b"." {
            assert_eq!(shown(Command::parse(line).unwrap().to_string().as_bytes()), shown(line));
        }
    }
}

//! Plays the transcripts of `tests/transcripts/server`: each rule of RFC 5321 §4.1.4 and §4.3.2 has its file.
//!
//! | line | means |
//! | --- | --- |
//! | `C: ` | a line of the client; within data it is data. `\r`, `\n`, `\0`, `\t` stand for these octets, `{N*x}` for N times x |
//! | `C- ` | the same, sent without CRLF |
//! | `S: ` | the start of a line that the server must send, in full wire form |
//! | `with TLS`, later `no TLS now` | TLS is offered, and is then unavailable; the handshake itself is left out |
//! | `requires TLS`, `TLS is off`, `any login` | options of the listener |
//! | `submission`, `submissions`, `lmtp` | the protocol; otherwise SMTP |
//! | `on loopback`, `trusted` | the client is this host, or one of its own; otherwise a stranger |
//! | `no users now` | from here on logins cannot be checked |
//!
//! The server of the transcripts is `mx.example`. It accepts mail for `known@local.example` and the postmaster from
//! everyone, and knows `full@local.example`, which has no room, and no other user. MAIL from `<full@disk.example>`
//! finds no space. The limits: 3 recipients, 4 errors, 1000 octets. `tim` has the password `tanstaaftanstaaf`.

use super::*;
use crate::mail::id::QueueId;
use crate::smtp::data::{ChunkDecoder, DotDecoder};
use crate::smtp::line::LineCutter;
use std::path::Path;

/// Lines that describe the server.
const SETTINGS: [&str; 9] = [
    "trusted",
    "with TLS",
    "requires TLS",
    "TLS is off",
    "submission",
    "submissions",
    "lmtp",
    "on loopback",
    "any login",
];

/// A server without a socket: octets in, octets out.
struct Server {
    session: ServerSession<String>,
    cutter: LineCutter,
    decoder: Option<DotDecoder>,
    /// Octets of a chunk that are still to come, and the action after them.
    chunk: Option<(u64, Result<Chunk, Reply>)>,
    chunks: ChunkDecoder,
    input: Vec<u8>,
    output: Vec<u8>,
    closed: bool,
    tls_works: bool,
    users_work: bool,
    /// Octets fed in one call have arrived together.
    is_in_one_segment: bool,
}

fn domain(text: &str) -> crate::mail::address::Domain {
    crate::mail::address::Domain::parse(text).unwrap()
}

impl Server {
    fn new(script: &str) -> Self {
        let says = |word: &str| script.lines().any(|line| line == word);
        let terms = ServerTerms {
            hostname: "mx.example".into(),
            home: Home { of_senders: domain("mx.example"), of_recipients: domain("local.example") },
            offer: Offer {
                message_size_octets: 1000,
                recipients: 3,
                starttls: says("with TLS"),
                auth: false,
                within_tls: false,
                dsn: false,
            },
            recipients: 3,
            errors: 4,
        };
        let mut session = ServerSession::new(Arc::new(terms));
        let service = match () {
            () if says("submission") || says("submissions") => Service::Submission,
            () if says("lmtp") => Service::Lmtp,
            () => Service::Smtp,
        };
        let logins = match (service, says("any login")) {
            (_, true) => LoginPolicy::Always,
            (Service::Submission, _) if says("on loopback") => LoginPolicy::Always,
            (Service::Submission, _) => LoginPolicy::WithinTls,
            _ => LoginPolicy::Never,
        };
        let starttls = match () {
            () if says("requires TLS") => StartTls::Required,
            () if says("TLS is off") => StartTls::Never,
            () => StartTls::Offered,
        };
        session.serve(service, ClientAccess { starttls, logins });
        session.trust(says("trusted"));
        if says("submissions") {
            session.within_tls();
        }
        let mut output = Vec::new();
        session.greeting().print(&mut output);
        Self {
            session,
            cutter: LineCutter::default(),
            decoder: None,
            chunk: None,
            chunks: ChunkDecoder::default(),
            input: Vec::new(),
            output,
            closed: false,
            tls_works: true,
            users_work: true,
            is_in_one_segment: false,
        }
    }

    fn feed(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        while !self.closed {
            if let Some((left, _)) = &self.chunk {
                let length = usize::try_from(*left).unwrap().min(self.input.len());
                let octets: Vec<u8> = self.input.drain(..length).collect();
                if !self.read_chunk(&octets) && length == 0 {
                    break;
                }
                continue;
            }
            let used = if self.decoder.is_some() { self.data() } else { self.command() };
            if used == 0 {
                break;
            }
            self.input.drain(..used);
        }
    }

    /// Takes octets of a chunk; true if they completed it.
    fn read_chunk(&mut self, octets: &[u8]) -> bool {
        let Some((left, end)) = self.chunk.take() else { return false };
        let left = left - octets.len() as u64;
        if end.is_ok() {
            self.chunks.decode(octets, &mut Vec::new());
        }
        if left > 0 {
            self.chunk = Some((left, end));
            return false;
        }
        match end {
            Err(reply) => reply.print(&mut self.output),
            Ok(chunk) => {
                let verdict = if self.chunks.is_malformed(chunk.is_last) {
                    Err(Reply::new(550, EnhancedStatus::SYNTAX_ERROR, "bare CR or LF"))
                } else if self.chunks.octets() > 1000 {
                    Err(extension::size::too_big(1000))
                } else {
                    Ok(chunk.is_last.then(|| QueueId::new(0, 1)))
                };
                let action = self.session.chunk_verdict(verdict, chunk);
                self.act(action);
            }
        }
        true
    }

    fn command(&mut self) -> usize {
        let input = std::mem::take(&mut self.input);
        let (used, line) = self.cutter.cut(&input, self.session.line_max_octets(&input));
        if let Some(line) = line {
            self.session.follow(self.is_in_one_segment && used < input.len());
            let action = self.session.line(&line);
            self.act(action);
        }
        self.input = input;
        used
    }

    fn data(&mut self) -> usize {
        let mut decoder = self.decoder.take().unwrap();
        let used = decoder.decode(&self.input, &mut Vec::new());
        if decoder.is_at_end() {
            let verdict = if decoder.is_malformed() {
                Err(Reply::new(550, EnhancedStatus::SYNTAX_ERROR, "bare CR or LF"))
            } else if decoder.octets() > 1000 {
                Err(extension::size::too_big(1000))
            } else {
                Ok(QueueId::new(0, 1))
            };
            let action = self.session.end_of_data(verdict);
            self.act(action);
        } else {
            self.decoder = Some(decoder);
        }
        used
    }

    fn act(&mut self, action: Action<String>) {
        match action {
            Action::Reply(reply) => {
                if reply.code == 354 {
                    self.decoder = Some(DotDecoder::default());
                }
                reply.print(&mut self.output);
            }
            Action::Close(reply) => {
                reply.print(&mut self.output);
                self.closed = true;
            }
            Action::ReplyEach(reply, times) => (0..times).for_each(|_| reply.print(&mut self.output)),
            Action::AskLogin(credentials, _) => {
                let verdict = match (credentials.name.as_str(), credentials.password.octets()) {
                    _ if !self.users_work => Err(crate::smtp::sasl::unavailable()),
                    ("tim", b"tanstaaftanstaaf") => Ok(()),
                    _ => Err(crate::smtp::sasl::refused()),
                };
                let next = self.session.login_verdict(verdict);
                self.act(next);
            }
            Action::StartTls(reply) => reply.print(&mut self.output),
            Action::AskTls => {
                let next = self.session.tls_verdict(self.tls_works);
                self.act(next);
            }
            Action::AskSender(path, _) => {
                let full = path.to_string() == "full@disk.example";
                let verdict =
                    if full { Err(Reply::new(452, EnhancedStatus::SYSTEM_FULL, "full")) } else { Ok(()) };
                let next = self.session.sender_verdict(verdict);
                self.act(next);
            }
            Action::ReadChunk(transaction, chunk) => {
                if transaction.is_some() {
                    self.chunks = ChunkDecoder::default();
                }
                self.chunk = Some((chunk.octets, Ok(chunk)));
            }
            Action::SkipChunk(octets, reply) => {
                self.chunk = Some((octets, Err(reply)));
            }
            Action::AskRecipient(path, _) => {
                let verdict = match path.to_string().as_str() {
                    known @ ("known@local.example" | "\"k..n.\"@local.example" | "postmaster") => {
                        Ok(known.to_owned())
                    }
                    "full@local.example" => Err(Reply::new(452, EnhancedStatus::MAILBOX_FULL_NOW, "full")),
                    local if local.ends_with("@local.example") => {
                        Err(Reply::new(550, EnhancedStatus::NO_SUCH_USER, "no such user"))
                    }
                    _ => Err(Reply::new(550, EnhancedStatus::NOT_AUTHORIZED, "relay not permitted")),
                };
                let next = self.session.recipient_verdict(verdict);
                self.act(next);
            }
            Action::AskData(_) => {
                let next = self.session.data_verdict(Ok(()));
                self.act(next);
            }
        }
    }
}

/// `\r`, `\n`, `\0`, `\t` and `{N*x}`.
fn unescape(line: &str) -> Vec<u8> {
    let line = line.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").replace("\\t", "\t");
    match line.split_once('{').and_then(|(a, rest)| Some((a, rest.split_once('}')?))) {
        Some((before, (repeat, after))) if repeat.contains('*') => {
            let (count, text) = repeat.split_once('*').unwrap();
            format!("{before}{}{after}", text.repeat(count.parse().unwrap())).into_bytes()
        }
        _ => line.into_bytes(),
    }
}

/// The octets of the client and the expected starts of the server's lines, in order.
fn play(name: &str, script: &str, piece: usize) {
    let mut server = Server::new(script);
    let mut seen = 0;
    for (number, line) in script.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        match line.get(..2) {
            Some("S:") => {
                let expected = line.get(3..).unwrap_or_default();
                let rest = server.output[seen..].split_inclusive(|&b| b == b'\n').next().unwrap_or_default();
                let actual = String::from_utf8_lossy(rest).into_owned();
                assert!(
                    actual.starts_with(expected) && actual.ends_with("\r\n"),
                    "{place}: {expected} ≠ {actual:?}"
                );
                seen += rest.len();
            }
            Some(kind @ ("C:" | "C-")) => {
                assert_eq!(seen, server.output.len(), "{place}: an answer more than expected");
                let mut octets = unescape(line.get(3..).unwrap_or_default());
                if kind == "C:" {
                    octets.extend_from_slice(b"\r\n");
                }
                octets.chunks(piece).for_each(|piece| server.feed(piece));
            }
            Some("P:") => {
                // Pipelined: sent although replies are due.
                let octets = [unescape(line.get(3..).unwrap_or_default()), b"\r\n".to_vec()].concat();
                octets.chunks(piece).for_each(|piece| server.feed(piece));
            }
            _ if SETTINGS.contains(&line) => {}
            _ if line == "no users now" => server.users_work = false,
            _ if line == "no TLS now" => server.tls_works = false,
            _ if line == "closed" => assert!(server.closed, "{place}: still open"),
            _ => assert!(line.is_empty() || line.starts_with('#'), "{place}: what is {line:?}?"),
        }
    }
    let rest = String::from_utf8_lossy(&server.output[seen..]).into_owned();
    assert_eq!(rest, "", "{name}: answers that nobody expected");
}

#[test]
fn every_transcript_is_followed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/server");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "transcripts are missing: {}", files.len());
    for file in files {
        let script = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(script.starts_with("# RFC") || script.starts_with("# INTERFACE"), "{name} cites no rule");
        for piece in [4096, 1, 7] {
            play(&name, &script, piece);
        }
    }
}

/// Commands in one segment are answered in order; returns the replies of the second and later lines.
#[test]
fn mail_that_did_not_wait_for_the_reply_to_ehlo_ends_the_session() {
    for (segments, last, is_closed) in [
        (&["EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<known@local.example>\r\n"][..], "503 5.5.1 wait", true),
        (&["HELO c\r\nMAIL FROM:<a@b>\r\n"], "503 5.5.1 wait", true),
        (&["NOOP\r\nEHLO c\r\nNOOP\r\nmail from:<a@b>\r\nNOOP\r\n"], "503 5.5.1 wait", true),
        (&["EHLO c\r\nMA", "IL FROM:<a@b>\r\n"], "503 5.5.1 wait", true),
        (&["EHLO c\r\n", "MAIL FROM:<a@b>\r\nRCPT TO:<known@local.example>\r\n"], "250 2.1.5", false),
        (&["EHLO c\r\nNOOP\r\n", "MAIL FROM:<a@b>\r\nRSET\r\n"], "250 2.0.0", false),
        (&["EHLO c\r\nFOO\r\n", "MAIL FROM:<a@b>\r\n"], "250 2.1.0", false),
        (&["EHLO c\r\nEHLO c\r\n", "MAIL FROM:<a@b>\r\n"], "250 2.1.0", false),
        (&["NOOP\r\nEHLO c\r\n", "MAIL FROM:<a@b>\r\n"], "250 2.1.0", false),
    ] {
        let mut server = Server::new("");
        server.is_in_one_segment = true;
        segments.iter().for_each(|segment| server.feed(segment.as_bytes()));
        let output = String::from_utf8(server.output).unwrap();
        assert!(output.lines().next_back().unwrap().starts_with(last), "{segments:?}: {output}");
        assert_eq!(server.closed, is_closed, "{segments:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_input_makes_it_panic_and_every_reply_is_a_reply(
        input in "((EHLO a|HELO b|MAIL FROM:<(a@b)?>|RCPT TO:<known@local.example>|DATA|RSET|\\.|QUIT|NOOP|x{0,9})(\r\n|\n|\r)){0,30}",
        piece in 1usize..50,
    ) {
        let mut server = Server::new("");
        input.as_bytes().chunks(piece).for_each(|piece| server.feed(piece));
        let mut whole = Server::new("");
        whole.feed(input.as_bytes());
        proptest::prop_assert_eq!(&server.output, &whole.output);
        let mut parser = crate::smtp::reply::ReplyParser::default();
        for line in server.output.split_inclusive(|&b| b == b'\n') {
            proptest::prop_assert!(parser.line(line.strip_suffix(b"\r\n").unwrap()).is_ok());
        }
        proptest::prop_assert!(!parser.is_within_reply());
    }
}

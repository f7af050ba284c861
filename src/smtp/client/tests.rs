//! Plays the transcripts of `tests/transcripts/client`, walks the card of all replies, and tries arbitrary replies.
//!
//! The first line of a transcript cites its rule.
//!
//! | line | means |
//! | --- | --- |
//! | `C: ` | a line that the client must send; `C: <content>` is the message with its final dot, `C: <chunk>` without |
//! | `S: ` | a line of the server; such lines in a row arrive together. `{N*x}` stands for N times x |
//! | `S: <closed>`, `<silence>`, `<closed early>`, `<broken: WORDS>` | what may happen instead of a reply; `early`: while the content is sent |
//! | `S: <tls>`, `<tls unverified>`, `<tls fails: WORDS>` | the result of a handshake |
//! | `> SENDER RECIPIENT… [size=N] [8bit] [utf8] [requiretls] [trial] [dsn]` | hands the client a message once it is ready; without such a line it quits. `3*@b.example` stands for three recipients; `dsn` adds RET=HDRS ENVID=e1, and NOTIFY=FAILURE ORCPT=rfc822;o for each recipient, `dsn=N` the same with N times `e` and `o` |
//! | `= RECIPIENT OUTCOME`, last `= session END` | the required results |
//! | `= in clear it may serve` | TLS caused the end |
//! | `# conduct: WORDS` | options of the session: `lmtp`, `tls=wanted`, `tls=required`, `smtps`, `loopback`, `login=NAME:PASSWORD`, `login=NAME`, `certificate`, `auth=WORD` |

use super::*;
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::envelope::{Body, Envelope, Notify, Recipient, Ret};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

/// A message, as a `> ` line describes it.
struct Message {
    envelope: Envelope,
    recipients: Vec<Recipient>,
    size_octets: u64,
    is_trial: bool,
}

impl Message {
    fn parse(words: &str) -> Self {
        let mut words = words.split_whitespace();
        let sender = words.next().unwrap().trim_matches(['<', '>']);
        let mut envelope = Envelope::new(ReversePath::parse(sender).unwrap());
        let (mut recipients, mut size_octets): (Vec<Recipient>, u64) = (Vec::new(), 1000);
        let mut is_trial = false;
        for word in words {
            if word == "8bit" {
                envelope.body = Body::EightBitMime;
            } else if word == "utf8" {
                envelope.smtputf8 = true;
            } else if word == "requiretls" {
                envelope.require_tls = true;
            } else if word == "trial" {
                is_trial = true;
            } else if let Some(octets) = word.strip_prefix("dsn") {
                let octets = octets.strip_prefix('=').map(|octets| octets.parse().unwrap());
                let envid = octets.map_or_else(|| "e1".to_owned(), |octets| "e".repeat(octets));
                (envelope.ret, envelope.envid) = (Some(Ret::Headers), Some(envid));
                for recipient in &mut recipients {
                    recipient.notify = Some(Notify { failure: true, ..Notify::default() });
                    recipient.orcpt = Some(format!("rfc822;{}", "o".repeat(octets.unwrap_or(1))));
                }
            } else if let Some(size) = word.strip_prefix("size=") {
                size_octets = size.parse().unwrap();
            } else if let Some((count, domain)) = word.split_once("*@") {
                let mailbox = |i| Mailbox::parse(&format!("r{i}@{domain}")).unwrap();
                recipients.extend((0..count.parse().unwrap()).map(|i: u32| Recipient::new(mailbox(i))));
            } else {
                recipients.push(Recipient::new(Mailbox::parse(word).unwrap()));
            }
        }
        Self { envelope, recipients, size_octets, is_trial }
    }

    fn begin(&self, session: &mut ClientSession) {
        let recipients: Vec<&Recipient> = self.recipients.iter().collect();
        session.begin(&ClientTransaction {
            envelope: &self.envelope,
            recipients: &recipients,
            size_octets: self.size_octets,
            is_trial: self.is_trial,
        });
    }
}

fn session() -> ClientSession {
    session_with("")
}

/// A session with the options that these words name.
fn session_with(words: &str) -> ClientSession {
    let mut conduct = SessionOptions::default();
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("lmtp", _) => conduct.is_lmtp = true,
            ("tls", "wanted") => conduct.tls = TlsUse::WhereOffered,
            ("tls", "required") => conduct.tls = TlsUse::Required,
            ("smtps", _) => conduct.security = Security::Verified,
            ("loopback", _) => conduct.is_loopback = true,
            ("login", account) => {
                let (name, password) = account.split_once(':').unwrap_or((account, ""));
                let password = Some(password).filter(|password| !password.is_empty());
                conduct.login = Some(Login {
                    name: name.to_owned(),
                    password: password.map(|it| crate::smtp::sasl::Secret::new(it.as_bytes().to_vec())),
                    has_certificate: false,
                    choice: "auto",
                    port: 587,
                    nonce: "nonce".to_owned(),
                    renews: false,
                });
            }
            ("renews", _) => conduct.login.as_mut().unwrap().renews = true,
            ("certificate", _) => conduct.login.as_mut().unwrap().has_certificate = true,
            ("auth", word) => {
                let choices = crate::smtp::sasl::client::CHOICES;
                conduct.login.as_mut().unwrap().choice = choices.iter().find(|it| it.0 == word).unwrap().0;
            }
            _ => panic!("what is {word}?"),
        }
    }
    ClientSession::new("mx.example", ClientName::parse("box.example").unwrap(), conduct)
}

fn shown(outcome: Option<&Outcome>) -> String {
    let word = match outcome {
        None => return "untried".to_owned(),
        Some(Outcome::Delivered(_)) => "delivered",
        Some(Outcome::Deferred(_)) => "deferred",
        Some(Outcome::Failed(_)) => "failed",
    };
    outcome.map(|o| format!("{word} {}", reason(o.diagnostic()))).unwrap()
}

fn reason(diagnostic: &Diagnostic) -> String {
    assert_eq!(diagnostic.remote.as_deref(), Some("mx.example"));
    match &diagnostic.reply {
        Some(reply) => format!("{} \"{reply}\" to {}", diagnostic.status, diagnostic.text),
        None => format!("{} {}", diagnostic.status, diagnostic.text),
    }
}

fn shown_end(end: &SessionEnd) -> String {
    match end {
        SessionEnd::Quit => "quit".to_owned(),
        SessionEnd::Reconnect(d) => format!("reconnect {}", reason(d)),
        SessionEnd::Dropped(d) => format!("dropped {}", reason(d)),
        SessionEnd::Route(d) => format!("route {}", reason(d)),
    }
}

/// Expands `{N*x}` in a line of the server.
fn unfold(line: &str) -> String {
    match line.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (repeat, after))) => {
            let (count, text) = repeat.split_once('*').unwrap();
            format!("{before}{}{after}", text.repeat(count.parse().unwrap()))
        }
        None => line.to_owned(),
    }
}

/// Lets a session talk to the server's lines of a transcript, which arrive in pieces, and writes down the results.
fn play(transcript: &str, piece: usize) -> String {
    let conduct = transcript.lines().find_map(|line| line.strip_prefix("# conduct: "));
    let mut session = session_with(conduct.unwrap_or_default());
    let mut server = transcript.lines().skip_while(|line| !line.starts_with("S: ")).peekable();
    let mut messages: std::collections::VecDeque<Message> =
        transcript.lines().filter_map(|line| line.strip_prefix("> ")).map(Message::parse).collect();
    let mut intros = transcript.lines().filter(|line| line.starts_with("> "));
    let mut running: Option<Message> = None;
    let mut played: Vec<String> =
        transcript.lines().take_while(|line| line.starts_with('#')).map(str::to_owned).collect();
    let mut other_tokens =
        conduct.unwrap_or_default().split(' ').filter_map(|word| word.strip_prefix("renews="));
    loop {
        match session.next_step() {
            ClientStep::RenewToken => {
                assert!(session.refused_token().is_some());
                let other = other_tokens.next().filter(|token| !token.is_empty());
                played.push(format!(
                    "(the client fetches {})",
                    other.map_or("no other token", |_| "another token")
                ));
                let other = other.map(|token| crate::smtp::sasl::Secret::new(token.as_bytes().to_vec()));
                session.token_renewed(other);
            }
            ClientStep::Send(octets) => {
                let text = String::from_utf8(octets).unwrap();
                assert!(text.ends_with("\r\n"), "{text:?}");
                played.extend(text.split_terminator("\r\n").map(|line| format!("C: {line}")));
            }
            ClientStep::Read { .. } => {
                while server.peek().is_some_and(|line| !line.starts_with("S: ")) {
                    server.next();
                }
                let mut block = Vec::new();
                let is_next =
                    |line: &&str, first| line.starts_with("S: ") && (first || !line.starts_with("S: <"));
                while let Some(line) = server.next_if(|line| is_next(line, block.is_empty())) {
                    played.push(line.to_owned());
                    block.push(line.trim_start_matches("S: "));
                    if line.starts_with("S: <") {
                        break;
                    }
                }
                match block[..] {
                    [] => {
                        played
                            .push("(the client waits for a reply that the transcript does not have)".into());
                        return played.join("\n");
                    }
                    ["<closed>"] => session.lost(&Lost::Closed),
                    ["<silence>"] => session.lost(&Lost::TimedOut),
                    [what] if what.starts_with("<broken: ") => {
                        let words = what.trim_start_matches("<broken: ").trim_end_matches('>');
                        session.lost(&Lost::Broken(words.to_owned()));
                    }
                    _ => {
                        let octets: String = block.iter().map(|line| unfold(line) + "\r\n").collect();
                        octets.as_bytes().chunks(piece).for_each(|octets| session.received(octets));
                    }
                }
            }
            ClientStep::StartTls => {
                let line = server.next().unwrap_or_default();
                played.push(line.to_owned());
                match line.trim_start_matches("S: ") {
                    "<tls>" => session.tls_established(Security::Verified, None),
                    "<tls unverified>" => session.tls_established(Security::Unverified, None),
                    other => {
                        session.tls_failed(other.trim_start_matches("<tls fails: ").trim_end_matches('>'))
                    }
                }
            }
            step @ (ClientStep::SendContent | ClientStep::SendChunk) => {
                let line = if step == ClientStep::SendChunk { "C: <chunk>" } else { "C: <content>" };
                played.push(line.into());
                server.next_if_eq(&line);
                match server.next_if_eq(&"S: <closed early>") {
                    Some(line) => {
                        played.push(line.to_owned());
                        session.lost(&Lost::Closed);
                    }
                    None => session.content_sent(),
                }
            }
            ClientStep::Finished(outcomes) => {
                let message = running.take().unwrap();
                assert_eq!(outcomes.len(), message.recipients.len());
                for (recipient, outcome) in message.recipients.iter().zip(&outcomes) {
                    played.push(format!("= {} {}", recipient.mailbox, shown(outcome.as_ref())));
                }
            }
            ClientStep::Ready => match messages.pop_front() {
                Some(message) => {
                    played.push(intros.next().unwrap().to_owned());
                    message.begin(&mut session);
                    running = Some(message);
                }
                None => session.quit(),
            },
            ClientStep::Close(end) => {
                played.push(format!("= session {}", shown_end(&end)));
                if session.has_tls_failed() {
                    played.push("= in clear it may serve".into());
                }
                return played.join("\n");
            }
        }
    }
}

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/client");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let transcript = std::fs::read_to_string(&path).unwrap();
        assert!(transcript.starts_with("# RFC ") || transcript.starts_with("# INTERFACE "), "{path:?}");
        for piece in [1, 7, usize::MAX] {
            let played = play(&transcript, piece);
            let at = played.lines().zip(transcript.lines()).take_while(|(a, b)| a == b).count() + 1;
            assert!(
                played == transcript.trim_end(),
                "{path:?}:{at}: in pieces of {piece}, what happens is:\n{played}"
            );
        }
        count += 1;
    }
    assert!(count >= 20, "the transcripts are missing");
}

/// A server that answers by a rule. Records the commands and the replies in their order.
struct Peer {
    session: ClientSession,
    asked: Vec<Waiting>,
    answered: Vec<u16>,
    pending: String,
}

/// What the peer does instead of a reply.
const CLOSED: &str = "<closed>";
const SILENCE: &str = "<silence>";

impl Peer {
    fn new() -> Self {
        let asked = vec![Waiting::Greeting];
        Self { session: session(), asked, answered: Vec::new(), pending: String::new() }
    }

    /// Runs until a step that is neither sending nor reading. `answer` is asked for each command, in order, and may
    /// return any text; `together` says how many commands are answered before the client reads.
    fn run(&mut self, together: usize, mut answer: impl FnMut(Waiting) -> String) -> ClientStep {
        for _ in 0..10_000 {
            match self.session.next_step() {
                ClientStep::Send(octets) => {
                    let text = String::from_utf8(octets).unwrap();
                    self.asked.extend(text.lines().map(kind));
                }
                ClientStep::SendContent | ClientStep::SendChunk => {
                    self.asked.push(Waiting::FinalDot);
                    self.session.content_sent();
                }
                ClientStep::Read { waiting, .. } => {
                    assert!(waiting.deadline() > Duration::ZERO);
                    if self.pending.is_empty() {
                        let from = self.answered.len();
                        for asked in self.asked.iter().skip(from).take(together) {
                            self.pending.push_str(&answer(*asked));
                        }
                    }
                    self.answer();
                }
                step => return step,
            }
        }
        panic!("the session does not come to an end");
    }

    fn answer(&mut self) {
        let pending = mem::take(&mut self.pending);
        let (text, what) = match pending.find('<').map(|at| pending.split_at(at)) {
            Some(("", what)) => ("", what),
            Some((text, what)) => {
                self.pending = what.to_owned();
                (text, "")
            }
            None => (pending.as_str(), ""),
        };
        // A line with a hyphen is not the end of its reply.
        let ends = text.lines().filter(|line| line.as_bytes().get(3) != Some(&b'-'));
        self.answered.extend(ends.map(|line| line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)));
        self.session.received(text.as_bytes());
        match what {
            "" if text.is_empty() => self.session.lost(&Lost::Closed),
            "" => {}
            what if what.starts_with(CLOSED) => self.session.lost(&Lost::Closed),
            _ => self.session.lost(&Lost::TimedOut),
        }
    }
}

fn kind(line: &str) -> Waiting {
    match line.split(' ').next().unwrap() {
        "EHLO" => Waiting::Ehlo,
        "HELO" => Waiting::Helo,
        "RSET" => Waiting::Rset,
        "MAIL" => Waiting::Mail,
        "RCPT" => Waiting::Rcpt,
        "DATA" => Waiting::Data,
        "." => Waiting::FinalDot,
        "QUIT" => Waiting::Quit,
        other => panic!("no command: {other}"),
    }
}

/// The card of the module, filled in: the result of one message for one recipient when the first `stage` gets the
/// reply that heads the column. A message that follows on a session that has served is in the rows `next …`. First
/// sign: d delivered, t deferred, f failed, u untried, - never begun. Second: q quit, c reconnect, x dropped, r
/// route.
const CARD: &str = "
    stage     250  354  450  552  550  554  421  530  nonsense  <closed>  <silence>
    greeting  dq   -r   -r   -r   -r   -r   -r   -r   -r        -r        -r
    EHLO      dq   -r   -r   -r   dq   -r   -r   -r   -r        -r        -r
    HELO      dq   -r   -r   -r   -r   -r   -r   -r   -r        -r        -r
    MAIL      dq   tr   tq   fq   fq   fq   ur   ur   tr        tx        tr
    RCPT      dq   tr   tq   fq   fq   fq   ur   ur   tr        tx        tr
    DATA      tr   dq   tq   fq   fq   fq   ur   ur   tr        tx        tr
    dot       dq   tr   tq   fq   fq   fq   tr   tr   tr        tx        tr
    RSET      dq   uc   uc   uc   uc   uc   uc   uc   uc        uc        uc
    next-MAIL dq   uc   tq   fq   fq   fq   uc   uc   uc        uc        uc
    next-RCPT dq   tr   tq   fq   fq   fq   ur   ur   tr        tx        tr
    QUIT      dq   dq   dq   dq   dq   dq   dq   dq   dq        dq        dq
";

/// One cell of the card.
fn cell(stage: &str, text: &str, is_pipelining: bool, together: usize) -> String {
    let (is_next, stage) = match stage.strip_prefix("next-") {
        Some(stage) => (true, stage),
        None => (stage == "RSET", stage),
    };
    let target = match stage {
        "greeting" => Waiting::Greeting,
        "dot" => Waiting::FinalDot,
        verb => kind(verb),
    };
    let mut peer = Peer::new();
    let (mut begun, mut last, mut is_sane) = (0, "-".to_owned(), true);
    loop {
        let step = peer.run(together, |asked| {
            let is_now = asked == target && (!is_next || begun == 2);
            if asked == Waiting::Mail {
                is_sane = true;
            }
            let reply = match asked {
                _ if is_now && text.starts_with('<') => return text.to_owned(),
                _ if is_now => format!("{text} no"),
                // The first message leaves the transaction open, so that RSET follows.
                Waiting::Rcpt if target == Waiting::Rset && begun == 1 => "550 no".to_owned(),
                Waiting::Rcpt | Waiting::Data if !is_sane => "503 no".to_owned(),
                Waiting::Ehlo if target == Waiting::Helo => "500 what".to_owned(),
                Waiting::Ehlo if is_pipelining => "250-hi\r\n250 PIPELINING".to_owned(),
                Waiting::Data => "354 go".to_owned(),
                _ => "250 ok".to_owned(),
            };
            is_sane &= reply.starts_with('2') || !matches!(asked, Waiting::Mail | Waiting::Rcpt);
            reply + "\r\n"
        });
        match step {
            ClientStep::Ready if begun < 1 + usize::from(is_next) => {
                begun += 1;
                Message::parse("s@a.example x@b.example").begin(&mut peer.session);
            }
            ClientStep::Ready => peer.session.quit(),
            ClientStep::Finished(outcomes) => {
                assert_eq!(outcomes.len(), 1);
                last = match &outcomes[0] {
                    None => "u",
                    Some(Outcome::Delivered(_)) => "d",
                    Some(Outcome::Deferred(_)) => "t",
                    Some(Outcome::Failed(_)) => "f",
                }
                .to_owned();
            }
            ClientStep::Close(end) => {
                return last
                    + match end {
                        SessionEnd::Quit => "q",
                        SessionEnd::Reconnect(_) => "c",
                        SessionEnd::Dropped(_) => "x",
                        SessionEnd::Route(_) => "r",
                    };
            }
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn every_answer_at_every_stage() {
    let mut rows =
        CARD.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()).filter(|r| !r.is_empty());
    let head = rows.next().unwrap();
    for row in rows {
        for (text, expected) in head.iter().zip(&row).skip(1) {
            for (is_pipelining, together) in [(false, 1), (true, 1), (true, 9)] {
                let actual = cell(row[0], text, is_pipelining, together);
                assert_eq!(
                    actual, *expected,
                    "{text} to {}, pipelining: {is_pipelining}, {together} together",
                    row[0]
                );
            }
        }
    }
}

#[test]
fn statuses_agree_with_outcomes() {
    let reply = |code, status| Reply { status, ..Reply::new(code, EnhancedStatus::OK, "x") };
    let given = EnhancedStatus::new(Class::Permanent, 2, 2);
    for (status, unless, expected) in [
        (None, EnhancedStatus::NOT_ACCEPTING, EnhancedStatus::NOT_ACCEPTING),
        (Some(given), EnhancedStatus::NOT_ACCEPTING, EnhancedStatus::MAILBOX_FULL_NOW),
        (Some(given), given, given),
    ] {
        assert_eq!(answer("mx", &reply(552, status), Waiting::Rcpt, unless).status, expected);
    }
}

#[test]
fn each_step_is_found_by_its_name() {
    for waiting in Waiting::ALL {
        assert_eq!(Waiting::named(waiting.to()), Some(waiting));
    }
    assert_eq!(Waiting::named("STATUS"), None);
}

#[test]
fn long_replies_are_kept_short() {
    let mut reply = Reply::plain(550, "é".repeat(2000));
    reply.lines = vec![reply.lines[0].clone(); 100];
    let kept = answer("mx", &reply, Waiting::Rcpt, EnhancedStatus::OK).reply.unwrap();
    assert_eq!(kept.chars().count(), limits::REPLY_KEPT_MAX_CHARACTERS);
}

/// RFC 5321 §4.5.3.1.8: a server need not accept more than 100 recipients; the others wait for the next transaction.
#[test]
fn more_recipients_than_a_transaction_holds() {
    let mut peer = Peer::new();
    let answer = |asked| match asked {
        Waiting::Ehlo => "250-hi\r\n250 PIPELINING\r\n".to_owned(),
        Waiting::Data => "354 go\r\n".to_owned(),
        _ => "250 ok\r\n".to_owned(),
    };
    assert_eq!(peer.run(1, answer), ClientStep::Ready);
    Message::parse("s@a.example 130*@b.example").begin(&mut peer.session);
    let ClientStep::Finished(outcomes) = peer.run(1000, answer) else { panic!() };
    assert_eq!(outcomes.len(), 130);
    assert!(outcomes[..100].iter().all(|o| matches!(o, Some(Outcome::Delivered(_)))));
    assert!(outcomes[100..].iter().all(Option::is_none));
    let recipients = peer.asked.iter().filter(|kind| **kind == Waiting::Rcpt).count();
    assert_eq!(recipients, 100);
}

/// Calls at the wrong time neither crash nor deliver anything.
#[test]
fn a_session_that_is_not_ready_tries_nothing() {
    let message = Message::parse("s@a.example x@b.example");
    let mut session = session();
    session.content_sent();
    session.quit();
    message.begin(&mut session);
    assert_eq!(session.next_step(), ClientStep::Finished(vec![None]));
    session.lost(&Lost::Closed);
    let ClientStep::Close(SessionEnd::Route(_)) = session.next_step() else { panic!() };
    session.received(b"250 ok\r\n");
    message.begin(&mut session);
    assert_eq!(session.next_step(), ClientStep::Finished(vec![None]));
    assert!(matches!(session.next_step(), ClientStep::Close(SessionEnd::Route(_))));
}

#[test]
fn the_deadline_starts_again_with_each_reply_and_not_before() {
    let mut session = session();
    let greeting = ClientStep::Read { waiting: Waiting::Greeting, reply: 0 };
    assert_eq!(session.next_step(), greeting);
    session.received(b"220-one\r\n220 tw");
    assert_eq!(session.next_step(), greeting);
    session.received(b"o\r\n");
    assert!(matches!(session.next_step(), ClientStep::Send(_)));
    assert_eq!(session.next_step(), ClientStep::Read { waiting: Waiting::Ehlo, reply: 1 });
}

fn arbitrary_answer() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => Just("250 ok\r\n".to_owned()),
        6 => Just("354 go\r\n".to_owned()),
        6 => (200u16..600).prop_map(|code| format!("{code} x\r\n")),
        2 => prop_oneof![Just("452 4.5.3 enough\r\n"), Just("552 enough\r\n"), Just("550 5.1.1 no\r\n")]
            .prop_map(str::to_owned),
        1 => Just("250 ok\r\n354 go\r\n250 ok\r\n".to_owned()),
        1 => prop_oneof![Just(CLOSED), Just(SILENCE), Just("what?\r\n"), Just("250\n"), Just("")].prop_map(str::to_owned),
    ]
}

proptest! {
    /// Whatever a server sends: the session ends, each recipient has at most one outcome, and "delivered" only if
    /// MAIL, its RCPT, DATA and the final dot were accepted, each by its own reply.
    #[test]
    fn any_server(
        answers in proptest::collection::vec(arbitrary_answer(), 0..40),
        is_pipelining: bool, is_polite: bool, together in 1usize..9,
    ) {
        let mut peer = Peer::new();
        let mut answers = answers.into_iter();
        let mut starts = Vec::new();
        loop {
            let step = peer.run(together, |asked| match asked {
                Waiting::Greeting if is_polite => "220 hi\r\n".to_owned(),
                Waiting::Ehlo if is_polite && is_pipelining => "250-hi\r\n250 PIPELINING\r\n".to_owned(),
                _ => answers.next().unwrap_or_else(|| CLOSED.to_owned()),
            });
            match step {
                ClientStep::Ready if starts.len() < 4 => {
                    starts.push(peer.asked.len());
                    Message::parse("s@a.example 3*@b.example").begin(&mut peer.session);
                }
                ClientStep::Ready => peer.session.quit(),
                ClientStep::Finished(outcomes) => {
                    prop_assert_eq!(outcomes.len(), 3);
                    let is_ready = !matches!(peer.session.next_step(), ClientStep::Close(_));
                    prop_assert!(!is_ready || outcomes.iter().any(Option::is_some));
                    let start = *starts.last().unwrap();
                    let talk: Vec<(Waiting, u16)> = peer.asked[start..].iter().copied()
                        .zip(peer.answered[start..].iter().copied()).collect();
                    let codes = |kind| talk.iter().filter(move |(k, _)| *k == kind).map(|(_, code)| code / 100);
                    for (outcome, rcpt) in outcomes.iter().zip(codes(Waiting::Rcpt)) {
                        let is_delivered = rcpt == 2 && codes(Waiting::Mail).eq([2])
                            && codes(Waiting::Data).eq([3]) && codes(Waiting::FinalDot).eq([2]);
                        prop_assert_eq!(is_delivered, matches!(outcome, Some(Outcome::Delivered(_))), "{:?}", talk);
                        let is_refused = |kind| codes(kind).any(|severity| severity == 5);
                        if let Some(Outcome::Failed(diagnostic)) = outcome {
                            prop_assert_eq!(diagnostic.status.class, Class::Permanent);
                            prop_assert!(rcpt == 5 || [Waiting::Mail, Waiting::Data, Waiting::FinalDot].into_iter().any(is_refused));
                        }
                    }
                }
                ClientStep::Close(_) => break,
                step => panic!("{step:?}"),
            }
        }
    }
}

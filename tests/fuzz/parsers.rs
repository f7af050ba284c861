//! Targets for the parsers of small texts: what users, files of the state, DNS and web servers, and programs of this host
//! hand over.

use super::{PIECES, Wire, assert_harmless, replies, shown};
use pillarbox::mail::date::WallTime;
use pillarbox::mail::header::{self, TraceScanner};
use pillarbox::mail::section_filter::SectionFilter;
use pillarbox::mail::{address_list, base64, encoded_word};
use pillarbox::net::https::read_reply;
use pillarbox::net::policy_fetch::POLICY_MAX_OCTETS;
use pillarbox::net::resolver::{hosts_in, name_servers_in};
use pillarbox::net::tls::{Acceptor, IdentityError};
use pillarbox::net::transport::Deadline;
use pillarbox::protocol::piece::{self, Piece};
use pillarbox::protocol::question::Question;
use pillarbox::rules::accounts::password::PasswordHash;
use pillarbox::rules::accounts::secret_shape::{first_line, flaw};
use pillarbox::rules::accounts::users::{UserTable, check_name};
use pillarbox::rules::message::digest::Windows;
use pillarbox::rules::pacing::cron::CronExpression;
use pillarbox::rules::pacing::running_clock::{RunningClock, SavedClock};
use pillarbox::rules::tls::tls_policy::mta_sts::{FetchTime, Kept, Policy, find_id};
use pillarbox::smtp::line::Line;
use pillarbox::smtp::sasl::client::{ChannelBinding, Client, ClientMechanism, LoginAccount};
use pillarbox::smtp::sasl::{Credentials, ExchangeStep, Secret, ServerExchange, ServerMechanism};
use pillarbox::store::drop::{DropEnvelope, ENVELOPE_MAX_OCTETS, RECIPIENTS_MAX};
use std::time::Duration;

/// The value of a header field with addresses.
pub fn address_list(octets: &[u8]) {
    let list = address_list::read(octets);
    assert!(list.end <= octets.len());
    assert!(list.addresses.len() <= address_list::ADDRESSES_MAX + 1, "{} addresses", list.addresses.len());
    let mut before = 0;
    for (number, span) in list.addresses.iter().enumerate() {
        let whole = span.whole();
        assert!(before <= whole.start && whole.start <= whole.end && whole.end <= octets.len(), "{span:?}");
        assert!(span.name.end <= octets.len() && span.name.start <= span.name.end, "{span:?}");
        before = whole.end;
        // Some are enough, and leave the fuzzer time for others.
        let Some(address) = span.read(octets).filter(|_| number < 20) else { continue };
        let printed = address.to_string();
        assert_harmless(&printed);
        // Quotes that people put around an address are read away, so one within it may go the second time.
        if !printed.is_ascii() || printed.contains(['\'', '`']) {
            continue;
        }
        let again = address_list::read(printed.as_bytes());
        let [same] = again.addresses.as_slice() else { panic!("{printed:?} became {again:?}") };
        assert_eq!(same.read(printed.as_bytes()).as_ref(), Some(&address), "printed and read, it differs");
    }
    let is_clear = list.unreadable.is_empty()
        && !list.lacks_commas
        && list.addresses.len() <= address_list::ADDRESSES_MAX;
    assert_eq!(address_list::spans(octets), is_clear.then_some(list.addresses));
}

/// A header section and what follows it.
pub fn header(octets: &[u8]) {
    let section = header::section(octets);
    assert!(octets.starts_with(section));
    let fields: Vec<&[u8]> = header::fields(section).collect();
    assert_eq!(shown(&fields.concat()), shown(section), "fields are not all of the section");
    for field in &fields {
        let (name, value) = header::split_field(field).unwrap_or_else(|| panic!("{:?}", shown(field)));
        assert!(name.iter().all(u8::is_ascii_graphic) && !name.contains(&b':'));
        assert_eq!(header::value_of(field, &String::from_utf8_lossy(name).to_lowercase()), Some(value));
    }
    let scanned = |piece: usize| {
        let mut scanner = TraceScanner::default();
        octets.chunks(piece).for_each(|piece| scanner.feed(piece));
        (scanner.is_urgent(), scanner.has_looped(), scanner.was_delivered_to("u@box.test"))
    };
    let filtered = |octets: &[u8], piece: usize| {
        let (mut filter, mut out) = (SectionFilter::without("Bcc"), Vec::new());
        octets.chunks(piece).for_each(|piece| filter.feed(piece, &mut out));
        filter.finish(&mut out);
        out
    };
    let whole = (scanned(octets.len().max(1)), filtered(octets, octets.len().max(1)));
    for piece in PIECES {
        assert_eq!((scanned(piece), filtered(octets, piece)), whole, "in pieces of {piece}");
    }
    let is_bcc = |field: &&[u8]| header::value_of(field, "Bcc").is_some();
    assert!(!header::fields(header::section(&whole.1)).any(|field| is_bcc(&field)), "a Bcc is left");
}

/// The envelope of a dropped message, which any user may write.
pub fn drop_file(octets: &[u8]) {
    let Some(envelope) = DropEnvelope::parse(octets) else { return };
    let printed = envelope.print();
    assert_eq!(DropEnvelope::parse(printed.as_bytes()).as_ref(), Some(&envelope));
    // A bad envelope id is left out.
    if envelope.envid.is_some()
        || !octets.split(|&octet| octet == b'\n').any(|line| line.starts_with(b"envid="))
    {
        assert_eq!(shown(printed.as_bytes()), shown(octets), "two texts mean the same");
    }
    assert!((1..=RECIPIENTS_MAX).contains(&envelope.recipients.len()) && octets.len() <= ENVELOPE_MAX_OCTETS);
    envelope.recipients.iter().for_each(|recipient| assert_harmless(&recipient.to_string()));
    if let Some(envid) = &envelope.envid {
        // It goes into a MAIL command as it is.
        assert!(envid.bytes().all(|octet| octet.is_ascii_graphic()), "{envid:?}");
    }
    for cut in 0..octets.len().min(200) {
        let part = DropEnvelope::parse(&octets[..cut]);
        assert!(part.is_none_or(|part| part.recipients.len() < envelope.recipients.len()), "cut at {cut}");
    }
}

/// The files of the state: running clock, windows of storm control.
pub fn state_file(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Some(saved) = SavedClock::parse(&text) {
        assert_eq!(SavedClock::parse(&saved.to_string()), Some(saved));
        for boot_id in [saved.boot_id, saved.boot_id ^ 1] {
            for wall in [0, saved.wall.0, u64::MAX] {
                let mut clock = RunningClock::resume(Some(saved), WallTime(wall), Duration::ZERO, boot_id);
                for boot in [Duration::ZERO, Duration::from_secs(5), saved.boot] {
                    let (now, _) = clock.look(WallTime(wall), boot);
                    assert!(now.running >= saved.running, "time goes back");
                    assert!(clock.last_jump() <= now.running || clock.last_jump() == saved.last_jump);
                }
            }
        }
    }
    let printed = Windows::parse(&text).print(Duration::ZERO);
    assert_eq!(Windows::parse(&printed).print(Duration::ZERO), printed);
    assert!(printed.len() <= 1 << 20, "{} octets", printed.len());
}

/// A cron expression.
pub fn cron(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let expression = match CronExpression::parse(text) {
        Ok(expression) => expression,
        Err(_) => return,
    };
    assert_eq!(CronExpression::parse(&text.to_uppercase()).as_ref(), Ok(&expression), "case matters");
    let minute = 60_000_000;
    let wall = octets
        .iter()
        .fold(1_790_000_000_000_000_u64, |wall, &octet| wall + u64::from(octet) * 7_777 * minute);
    for offset in [0, 19_800, -12_600] {
        let next = expression.next_after(WallTime(wall), offset).unwrap();
        assert!(next.0 > wall && expression.matches(next, offset), "{next:?}");
        // No minute before it matches, as far as a test has time to look.
        let mut between = wall / minute * minute + minute;
        for _ in 0..200 {
            if between >= next.0 {
                break;
            }
            assert!(!expression.matches(WallTime(between), offset), "{between} comes before {next:?}");
            between += minute;
        }
    }
}

/// An MTA-STS policy; its lines are the TXT records of a domain, too.
pub fn sts_policy(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let records: Vec<Vec<u8>> = octets.split(|&octet| octet == b'\n').map(<[u8]>::to_vec).collect();
    if let Some(id) = find_id(&records) {
        assert!(
            (1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric()),
            "{id:?}"
        );
        assert!(records.iter().filter(|record| record.starts_with(b"v=STSv1;")).count() == 1);
    }
    if let Some(kept) = Kept::parse(&text) {
        let (_, policy) = text.split_once('\n').unwrap();
        assert_eq!(Kept::parse(&Kept::print(&kept.id, kept.fetched, policy)), Some(kept.clone()));
        // A clock that is wrong expires nothing.
        assert!(kept.policy.max_age.is_zero() || kept.holds(FetchTime { wall: 0, running: 0 }));
        // Either clock ends it.
        let FetchTime { wall, running } = kept.fetched;
        for (now, fetched) in
            [(FetchTime { wall: u64::MAX, running }, wall), (FetchTime { wall, running: u64::MAX }, running)]
        {
            assert!(!kept.holds(now) || fetched > u64::MAX - (1 << 40));
        }
    }
    let Some(policy) = Policy::parse(&text) else { return };
    if !text.contains('\r') {
        assert_eq!(
            Policy::parse(&text.replace('\n', "\r\n")).as_ref(),
            Some(&policy),
            "the line end matters"
        );
    }
    assert!(policy.max_age <= Duration::from_secs(31_557_600));
    for pattern in &policy.mx {
        assert_eq!(*pattern, pattern.to_ascii_lowercase());
        let host = pattern.replace('*', "mx");
        assert!(
            policy.names(&host)
                && policy.names(&host.to_ascii_uppercase())
                && policy.names(&format!("{host}."))
        );
    }
    if let [pattern] = policy.mx.as_slice() {
        let above = pattern.trim_start_matches("*.");
        assert!(!policy.names(&format!("a.b.{above}")), "a wildcard stands for one label");
        assert!(!policy.names(&format!("evil{above}")) || pattern.starts_with("*.") && above.contains('.'));
    }
}

/// The reply of a web server, with all that follows until it closes.
pub fn policy_reply(octets: &[u8]) {
    let read = |octets: &[u8], piece| {
        let mut wire = Wire { rest: octets, piece };
        read_reply(&mut wire, POLICY_MAX_OCTETS, Deadline::after(Duration::MAX))
    };
    let whole = read(octets, octets.len().max(1));
    for piece in PIECES {
        // Which mistake is found first may differ.
        assert_eq!(read(octets, piece).ok(), whole.clone().ok(), "in pieces of {piece}");
    }
    let Ok(reply) = whole else { return };
    assert!(reply.body.len() <= 2 * POLICY_MAX_OCTETS);
    for eighth in 0..8 {
        // Whoever cuts the connection must not shorten a policy.
        let part = read(&octets[..octets.len() * eighth / 8], usize::MAX);
        assert!(part.is_err() || part.as_ref() == Ok(&reply), "cut at {eighth}/8: {part:?}");
    }
}

/// The control socket: the line that a client sends, and the pieces that a daemon answers.
pub fn control(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let line = text.split('\n').next().unwrap_or_default();
    match Question::parse(&line.split(' ').collect::<Vec<_>>()) {
        Ok(question) => {
            let printed = match &question {
                Question::Ask(request) => request.print(),
                Question::Submit(sizes) => sizes.print(),
            };
            assert_harmless(&printed);
            assert_eq!(Question::parse(&printed.split(' ').collect::<Vec<_>>()), Ok(question));
        }
        Err(bad) => assert!([64, 66].contains(&bad.code) && !bad.text.is_empty()),
    }
    let mut stream = octets;
    while let Ok((piece, content)) = piece::read(&mut stream) {
        assert!(content.len() <= piece::PIECE_MAX_OCTETS);
        let mut again = Vec::new();
        piece::write(&mut again, piece, &content).unwrap();
        assert_eq!(piece::read(&mut again.as_slice()).unwrap(), (piece, content));
        assert_eq!(Piece::parse(&piece.print()), Some(piece));
    }
}

/// Both sides of AUTH: lines of a client, the first of them its initial response; then lines of a server.
pub fn sasl(octets: &[u8]) {
    let lines: Vec<&[u8]> = octets.split(|&octet| octet == b'\n').collect();
    for mechanism in ServerMechanism::ALL {
        for initial in [None, Some(lines[0])] {
            let mut rest = lines.iter().skip(usize::from(initial.is_some()));
            let mut step = ServerExchange::begin(mechanism, initial);
            loop {
                match step {
                    ExchangeStep::Challenge(reply, exchange) => {
                        assert_eq!(reply.code, 334);
                        let Some(line) = rest.next() else { break };
                        step = exchange.line(&Line::Text(line));
                    }
                    ExchangeStep::Done(credentials) => {
                        is_read_again(&credentials);
                        break;
                    }
                    ExchangeStep::Malformed(reply, _) | ExchangeStep::Failed(reply) => {
                        let mut wire = Vec::new();
                        reply.print(&mut wire);
                        assert!(reply.code >= 500 && replies(&wire).len() == 1);
                        break;
                    }
                }
            }
        }
    }
    lines.iter().for_each(|line| {
        if let Some(decoded) = base64::decode(line) {
            assert_eq!(base64::encode(&decoded).as_bytes(), *line, "two texts mean the same octets");
        }
    });
    log_in(&lines);
}

fn is_read_again(credentials: &Credentials) {
    assert!(!credentials.name.is_empty() && !credentials.name.contains('\0'));
    let response = credentials.to_plain_response();
    let again = ServerExchange::begin(ServerMechanism::Plain, Some(response.octets()));
    let ExchangeStep::Done(again) = again else { panic!("{again:?}") };
    assert!(again.name == credentials.name && again.password == credentials.password);
}

/// A client that logs in at a server which sends these lines.
fn log_in(lines: &[&[u8]]) {
    let password = Secret::new(b"tanstaaf".to_vec());
    let account = LoginAccount { name: "tim", password: Some(&password), host: "mx.example", port: 587 };
    let channel = Some(ChannelBinding { name: "tls-exporter", octets: b"0123" });
    let offered = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "LOGIN", "PLAIN", "XOAUTH2"];
    let (wanted, is_private) = ("auto", true);
    let client =
        Client { offered: &offered, wanted, is_private, channel, has_certificate: false, has_password: true };
    // A million rounds of SCRAM are allowed, and would take the fuzzer's time.
    let is_slow = |line: &&[u8]| {
        base64::decode(line.trim_ascii()).is_some_and(|text| {
            text.windows(6)
                .any(|w| w.starts_with(b"i=") && w[2..].iter().all(u8::is_ascii_digit) && w != b"i=4096")
        })
    };
    if lines.iter().any(is_slow) {
        return;
    }
    let all = [
        ClientMechanism::ScramSha256Plus,
        ClientMechanism::ScramSha256,
        ClientMechanism::CramMd5,
        ClientMechanism::Plain,
        ClientMechanism::Login,
        ClientMechanism::XOauth2,
        ClientMechanism::OauthBearer,
    ];
    for mechanism in all {
        let (mut exchange, command) = client.start(mechanism, &account, "nonce").unwrap();
        assert!(!command.octets().contains(&b'\n') && command.octets().starts_with(b"AUTH "));
        let is_scram = matches!(mechanism, ClientMechanism::ScramSha256Plus | ClientMechanism::ScramSha256);
        for line in lines {
            match exchange.answer(line) {
                Ok(answer) => assert!(!answer.octets().iter().any(|octet| b"\r\n".contains(octet))),
                Err(_) => break,
            }
            // Nobody who does not know the password can make the proof.
            assert!(!is_scram || exchange.success(&String::from_utf8_lossy(line)).is_err(), "{mechanism:?}");
        }
    }
}

/// A users file, and a file with one secret.
pub fn users_file(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let (table, problems) = UserTable::parse(&text);
    let lines = text.lines().count();
    let has_user = text.lines().any(|line| line.contains("$6$") || line.contains("$5$"));
    assert!(table.is_empty() || has_user, "a user without a hash");
    for problem in &problems {
        assert!((1..=lines).contains(&problem.line), "{problem:?}");
        assert_harmless(&problem.text);
        // A line may be a password in clear that lacks its name.
        let line = text.lines().nth(problem.line - 1).unwrap();
        let mut parts = line.split(':');
        let (name, secret) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // A name is told, whatever it holds.
        let is_told = problem.text.contains(secret) && !name.contains(secret);
        assert!(secret.len() < 30 || !is_told, "a hash is told: {problem:?}");
    }
    for line in text.lines() {
        let _ = (check_name(line), PasswordHash::parse(line));
    }
    let first = first_line(octets);
    assert!(!first.contains(&b'\n'));
    let is_fatal = flaw(octets).is_some_and(|flaw| flaw.is_fatal);
    assert!(is_fatal || !first.trim_ascii().is_empty(), "an empty secret passes");
}

/// Encoded words and the octets of names.
pub fn encoded_word(octets: &[u8]) {
    let text = encoded_word::text_of(octets).into_owned();
    if let Some(decoded) = encoded_word::decode(&text) {
        let mut words = Vec::new();
        encoded_word::encode(&decoded, 60, &mut words);
        let again: String = words.iter().map(|word| encoded_word::decode(word).unwrap()).collect();
        assert_eq!(again, decoded);
    }
    let mut words = Vec::new();
    encoded_word::encode(&text, 40, &mut words);
    for word in &words {
        assert!(word.is_ascii() && word.len() <= 75, "{word}");
        assert_harmless(word);
    }
    let again: Option<String> = words.iter().map(|word| encoded_word::decode(word)).collect();
    assert_eq!(again.as_ref(), Some(&text));
}

/// The name servers of a resolv.conf, and the addresses of a hosts file.
pub fn system_file(octets: &[u8]) {
    let servers = name_servers_in(octets);
    assert!((1..=3).contains(&servers.len()), "{servers:?}");
    assert!(servers.iter().all(|server| server.port() == 53), "{servers:?}");
    let printed: String = servers.iter().map(|server| format!("nameserver {}\n", server.ip())).collect();
    let is_scoped = |line: &&[u8]| line.contains(&b'%');
    if !octets.split(|&octet| octet == b'\n').any(|line| is_scoped(&line)) {
        assert_eq!(name_servers_in(printed.as_bytes()), servers, "printed and read, they differ");
    }
    let found = hosts_in(octets, "nas");
    assert_eq!(hosts_in(octets, "NAS"), found, "case matters");
    assert!(found.len() <= octets.iter().filter(|&&octet| octet == b'\n').count() + 1);
    let printed: String = found.iter().map(|address| format!("{address} nas\n")).collect();
    assert_eq!(hosts_in(printed.as_bytes(), "nas"), found);
    assert_eq!(hosts_in(octets, "#"), [] as [std::net::IpAddr; 0], "a comment is no name");
}

/// A certificate chain and its key in PEM, with a NUL between them; each also beside the right other one.
pub fn pem(octets: &[u8]) {
    let (chain, key) = octets.split_at(octets.iter().position(|&octet| octet == 0).unwrap_or(octets.len()));
    let key = key.strip_prefix(b"\0").unwrap_or(key);
    let (good_chain, good_key) = GOOD_PEM.split_once('\0').unwrap();
    for identity in
        [(chain, key), (chain, good_key.as_bytes()), (good_chain.as_bytes(), key), (octets, octets)]
    {
        match Acceptor::new(&[identity], WallTime(0)) {
            Ok(acceptor) => {
                let has = |octets: &[u8], word: &str| String::from_utf8_lossy(octets).contains(word);
                assert!(has(identity.0, "CERTIFICATE-----") && has(identity.1, "PRIVATE KEY-----"));
                let after = WallTime(acceptor.ends().0.saturating_add(2_000_000));
                let late = Acceptor::new(&[identity], after);
                assert!(matches!(late, Err(IdentityError::Expired(_))), "{late:?}");
            }
            Err(error) => assert_harmless(&error.to_string()),
        }
    }
}

/// A certificate for `box.example` until 2126 and its key, which are used for nothing else.
const GOOD_PEM: &str = include_str!("corpus/pem/both");

/// Eight octets of a time, four of an offset, and the rest in the date of a line `From `.
pub fn date(octets: &[u8]) {
    let (time, rest) = octets.split_at(octets.len().min(8));
    let (offset, words) = rest.split_at(rest.len().min(4));
    let number = |octets: &[u8]| octets.iter().fold(0u64, |sum, &octet| sum << 8 | u64::from(octet));
    let wall = WallTime(number(time));
    let offset = i32::try_from(number(offset) % 200_000).unwrap() - 100_000;
    let seconds = if wall.seconds() < 253_402_300_800 { wall.seconds() } else { 0 };
    // Days since 1 March of the year 0, counted in eras of 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let expected = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    assert_eq!(wall.to_generalized(), expected);
    let weekday =
        ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(seconds / 86_400 % 7).unwrap()];
    let written = wall.to_rfc5322();
    assert!(written.starts_with(&format!("{weekday}, {day:02} ")), "{written}");
    assert!(written.ends_with(&format!(" {year:04} {hour:02}:{minute:02}:{second:02} +0000")), "{written}");
    let local = wall.to_local(offset).unix_timestamp();
    let shifted = i64::try_from(wall.seconds()).unwrap() + i64::from(offset);
    assert!(
        local == shifted.max(0) || !(0..253_402_300_800).contains(&shifted) && local == 0,
        "{local} {shifted}"
    );
    let line = [b"From x ", words, b"\nSubject: x\n\nx\n"].concat();
    let filtered = |piece: usize| {
        let (mut filter, mut out) = (SectionFilter::without("Bcc"), Vec::new());
        line.chunks(piece).for_each(|piece| filter.feed(piece, &mut out));
        filter.finish(&mut out);
        out
    };
    for piece in PIECES {
        assert_eq!(shown(&filtered(piece)), shown(&filtered(line.len())), "in pieces of {piece}");
    }
    let of_mbox = [format!("From x {weekday} Nov 3 1:2:3\n").as_bytes(), b"Subject: x\n\nx\n"].concat();
    let (mut filter, mut out) = (SectionFilter::without("Bcc"), Vec::new());
    filter.feed(&of_mbox, &mut out);
    filter.finish(&mut out);
    assert!(out.starts_with(b"Subject: x"), "{}", shown(&out));
}

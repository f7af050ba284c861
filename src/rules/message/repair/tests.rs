//! Input and output of repairs. The split of the input does not matter, a second repair changes nothing, no Bcc survives,
//! no octet of the body is lost, and another parser reads the result as intended.

use super::*;
use crate::mail::address::Mailbox;
use crate::mail::header;
use mail_parser::{HeaderName, MessageParser};
use proptest::prelude::*;

const DATE: &str = "Date: Mon, 23 Nov 2026 06:53:30 +0000\n";
const ID: &str = "Message-ID: <CR7D4E9DEKBP3@box.example>\n";
const FROM: &str = "From: joe@far.example\n";
const TO: &str = "To: undisclosed-recipients:;\n";
const MIME: &str = "MIME-Version: 1.0\n";
const TYPE: &str = "Content-Type: text/plain; charset=utf-8\n";
const ENCODING: &str = "Content-Transfer-Encoding: 8bit\n";
const ALL: &[&str] = &[DATE, ID, FROM, TO, MIME, TYPE, ENCODING];
/// A header section that is complete otherwise.
const WHOLE: &str = "Date: x\nMessage-ID: <x>\nFrom: a@b\nTo: a@b\nMIME-Version: 1.0\n";

fn facts() -> RepairFacts {
    RepairFacts {
        is_on: true,
        domain: "box.example".into(),
        id: QueueId::parse("CR7D4E9DEKBP3").unwrap(),
        date: WallTime(1_795_416_810_000_000),
        reverse_path: ReversePath::Mailbox(Mailbox::parse("joe@far.example").unwrap()),
    }
}

fn run(facts: RepairFacts, content: &[u8], piece: usize) -> Vec<u8> {
    let (mut repair, mut out) = (Repair::new(facts), Vec::new());
    for piece in content.chunks(piece.max(1)) {
        repair.feed(piece, &mut out);
    }
    repair.finish(&mut out);
    out
}

fn repaired(content: &str) -> String {
    String::from_utf8(run(facts(), content.as_bytes(), usize::MAX)).unwrap()
}

fn bcc_removed(content: &str) -> String {
    String::from_utf8(run(RepairFacts { is_on: false, ..facts() }, content.as_bytes(), usize::MAX)).unwrap()
}

#[test]
fn what_is_missing_is_added_at_the_end_of_the_header_section() {
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("", "", ALL, ""),
        ("\n", "", ALL, ""),
        ("\nbody\n", "", ALL, "body\n"),
        ("\n\n\nbody", "", ALL, "\n\nbody"),
        ("Subject: x\n\nbody\n", "Subject: x\n", ALL, "body\n"),
        // No empty line, and not even a line end.
        ("Subject: x\n", "Subject: x\n", ALL, ""),
        ("Subject: x", "Subject: x\n", ALL, ""),
        ("Subject: x\n y", "Subject: x\n y\n", ALL, ""),
        ("Subject:", "", &[DATE, ID, FROM, TO, MIME, TYPE, ENCODING, "Subject:\n"], ""),
        // No header section.
        ("The disk is full.\n", "", ALL, "The disk is full.\n"),
        ("body", "", ALL, "body"),
        (" A: x\n\nbody\n", "", ALL, " A: x\n\nbody\n"),
        ("A: x\nFrom joe 06:53\n", "A: x\n", ALL, "From joe 06:53\n"),
        // It ends with a line that is no field.
        ("Subject: x\ngarbage\nTo: a@b\n\nz\n", "Subject: x\n", ALL, "garbage\nTo: a@b\n\nz\n"),
        ("Subject: x\ngarbage", "Subject: x\n", ALL, "garbage"),
        ("Subject: x\nJürgen: y\n", "Subject: x\n", ALL, "Jürgen: y\n"),
        // Existing fields stay.
        ("Date: x\n\n", "Date: x\n", &[ID, FROM, TO, MIME, TYPE, ENCODING], ""),
        // An empty field counts as missing.
        ("Date:\nMessage-ID: <>\nFrom: \nTo: ,\nMIME-Version:\n \t\n\nz\n", "", ALL, "z\n"),
        // So does one that hosts refuse as missing.
        ("Date:\nMessage-ID: backup@nas\nMESSAGE-ID: <\n\nz\n", "", ALL, "z\n"),
        // Fields that occur twice.
        (
            "Subject: a\nDate: x\nSubject: b\ndate: y\n\n",
            "Subject: a\nDate: x\n",
            &[ID, FROM, TO, MIME, TYPE, ENCODING],
            "",
        ),
        ("Subject:\nSubject: b\n\n", "Subject: b\n", ALL, ""),
        ("X: a\nX: a\n\n", "X: a\nX: a\n", ALL, ""),
        ("MESSAGE-id : <x>\n\n", "MESSAGE-id: <x>\n", &[DATE, FROM, TO, MIME, TYPE, ENCODING], ""),
        ("cc: a@b\n\n", "cc: a@b\n", &[DATE, ID, FROM, MIME, TYPE, ENCODING], ""),
        ("To: a@b\n\n", "To: a@b\n", &[DATE, ID, FROM, MIME, TYPE, ENCODING], ""),
        ("From:\n a@b\n\n", "From:\n a@b\n", &[DATE, ID, TO, MIME, TYPE, ENCODING], ""),
        ("Mime-Version: 1.0\n\nä\n", "Mime-Version: 1.0\n", &[DATE, ID, FROM, TO], "ä\n"),
        (
            "Content-Type: text/html\n\n",
            "Content-Type: text/html\n",
            &[DATE, ID, FROM, TO, MIME, ENCODING],
            "",
        ),
        (
            "Content-Transfer-Encoding: base64\n\n",
            "Content-Transfer-Encoding: base64\n",
            &[DATE, ID, FROM, TO, MIME, TYPE],
            "",
        ),
        // Bcc names no recipient that may be shown.
        ("Bcc: a@b\n\n", "", ALL, ""),
        ("Resent-Bcc: a@b\n\n", "", ALL, ""),
        // A message of another author.
        ("Resent-To: a@b\nSubject: x\n\nz\n", "Resent-To: a@b\nSubject: x\n", &[], "z\n"),
        ("Resent-Date: x\nResent-Bcc: a@b\n\nz\n", "Resent-Date: x\n", &[], "z\n"),
    ];
    for (content, kept, added, body) in cases {
        assert_eq!(repaired(content), format!("{kept}{}\n{body}", added.concat()), "{content:?}");
    }
}

#[test]
fn who_sent_it_is_told_by_the_envelope() {
    for (reverse_path, from) in [
        ("", "From: MAILER-DAEMON@box.example\n"),
        ("\"a b\"@[192.0.2.1]", "From: \"a b\"@[192.0.2.1]\n"),
        ("jürgen@bücher.example", "From: jürgen@bücher.example\n"),
    ] {
        let facts = RepairFacts { reverse_path: ReversePath::parse(reverse_path).unwrap(), ..facts() };
        let out = String::from_utf8(run(facts, b"\n", 1)).unwrap();
        assert!(out.contains(from), "{out}");
    }
}

#[test]
fn bcc_is_taken_out_however_it_is_written() {
    for bcc in [
        "Bcc: a@b\n",
        "bcc:a@b\n",
        "BCC:\n",
        "Bcc : a@b\n",
        "Bcc\t \t: a@b\n",
        "Bcc:\n a@b,\n\t\n  c@d\n",
        "Bcc: undisclosed-recipients:;\n",
        "Bcc: \"not closed\n",
        "Bcc: a@b\n y\nResent-Bcc: c@d\nBcc:\n",
        "Resent-bcc: a@b\n",
    ] {
        for before in ["", "A: x\n y\n"] {
            for (after, expected) in [
                ("", "\n"),
                ("\nBcc: body\n", "\nBcc: body\n"),
                ("B: x\n\nz", "B: x\n\nz"),
                ("no field\n", "\nno field\n"),
            ] {
                let content = format!("{WHOLE}{before}{bcc}{after}");
                let expected = format!("{WHOLE}{before}{expected}");
                assert_eq!(repaired(&content), expected, "{content:?}");
                assert_eq!(bcc_removed(&content), expected, "{content:?}");
            }
        }
    }
    for cut in ["Bcc:", "Bcc: a@b", "Bcc: a@b\n c"] {
        assert_eq!(repaired(&format!("{WHOLE}{cut}")), format!("{WHOLE}\n"));
    }
    // Similar names.
    for field in ["Bccs: x\n", "X-Bcc: x\n", "Subject: x\n Bcc: y\n", "Bc: x\n c: y\n"] {
        let content = format!("{WHOLE}{field}\nz\n");
        assert_eq!(repaired(&content), content);
    }
}

#[test]
fn bare_addresses_get_the_domain_of_this_host() {
    for (field, expected) in [
        ("To: root\n", "To: root@box.example\n"),
        ("to : root\n", "to: root@box.example\n"),
        ("To:root\n", "To:root@box.example\n"),
        ("To: root (Cron Daemon)\n", "To: root@box.example (Cron Daemon)\n"),
        (
            "To: \"Daemon, Cron\" <root>,\n\tjoe,\n a@b\n",
            "To: \"Daemon, Cron\" <root@box.example>,\n\tjoe@box.example,\n a@b\n",
        ),
        ("To:\n root\n", "To:\n root@box.example\n"),
        ("To: all: root, \"a b\";\n", "To: all: root@box.example, \"a b\"@box.example;\n"),
        ("To: undisclosed-recipients:;\n", "To: undisclosed-recipients:;\n"),
        ("To: =?utf-8?Q?J=C3=BCrgen?= <j>\n", "To: =?utf-8?Q?J=C3=BCrgen?= <j@box.example>\n"),
        ("To: =?utf-8?Q?J=C3=BCrgen?=\n", "To: =?utf-8?Q?J=C3=BCrgen?=\n"),
        ("To: jürgen\n", "To: jürgen@box.example\n"),
        // An invalid address does not stop the others from getting a domain; a malformed list stays.
        ("To: a..b, root\n", "To: a..b, root@box.example\n"),
        ("To: John Doe, root\n", "To: John Doe, root\n"),
        ("To: root, (open\n", "To: root, (open\n"),
        ("To: <>, root\n", "To: <>, root@box.example\n"),
        ("To: root\n\nTo: root\n", "To: root@box.example\n\nTo: root\n"),
        (
            "To: root\nX: y\nCc: b@c\nTo: joe,\n a@b\n",
            "To: root@box.example,\n joe@box.example,\n a@b\nX: y\nCc: b@c\n",
        ),
        (
            "Cc: a@b\nTo: b@c (x)\ncc:\n c@d\nTo: e\nCc: f\n",
            "Cc: a@b,\n c@d,\n f@box.example\nTo: b@c (x),\n e@box.example\n",
        ),
        ("To: all: a@b;\nTo: c@d\n", "To: all: a@b;,\n c@d\n"),
        ("To:\nTo: c@d\nTo:\n", "To: c@d\n"),
        // A malformed list is neither merged nor merged into.
        ("To: (open\nTo: c@d\n", "To: (open\n"),
        ("To: c@d\nTo: (open\n", "To: c@d\n"),
        ("Resent-To: root\nResent-To: root\n", "Resent-To: root@box.example\nResent-To: root\n"),
        ("X-To: root\n", "X-To: root\n"),
        ("Subject: root\n", "Subject: root\n"),
    ] {
        // All that is missing goes elsewhere: a Resent- field keeps it out.
        let (content, expected) = (format!("Resent-Date: x\n{field}"), format!("Resent-Date: x\n{expected}"));
        let expected = if expected.contains("\n\n") { expected } else { expected + "\n" };
        assert_eq!(repaired(&content), expected, "{field:?}");
        let untouched = if content.contains("\n\n") { content.clone() } else { format!("{content}\n") };
        assert_eq!(bcc_removed(&content), untouched);
    }
    for name in ["From", "sender", "Reply-To", "CC", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc"]
    {
        assert!(
            repaired(&format!("{name}: root\n")).starts_with(&format!("{name}: root@box.example\n")),
            "{name}"
        );
    }
}

/// A comma in a name is the most frequent mistake in From.
#[test]
fn a_name_with_a_comma_is_one_author() {
    for (field, expected) in [
        ("From: Doe, Joe <joe@x>\n", "From: \"Doe, Joe\" <joe@x>\n"),
        ("Sender:van der Doe,\n Joe <joe@x>\n", "Sender: \"van der Doe, Joe\" <joe@x>\n"),
        ("From: Müller, Hans <h@x>\n", "From: =?utf-8?Q?M=C3=BCller=2C_Hans?= <h@x>\n"),
        // Two authors, a list, and what is right.
        ("From: a@b, Joe <joe@x>\n", "From: a@b, Joe <joe@x>\n"),
        ("From: \"a\", Joe <joe@x>\n", "From: \"a\"@box.example, Joe <joe@x>\n"),
        ("From: \"Doe, Joe\" <joe@x>\n", "From: \"Doe, Joe\" <joe@x>\n"),
        // The last address is not the one in brackets.
        ("From: Doe, Joe <joe@x>, root@y\n", "From: Doe@box.example, Joe <joe@x>, root@y\n"),
        ("From: root, <joe@x>\n", "From: root@box.example, <joe@x>\n"),
        ("Reply-To: root, Joe <joe@x>\n", "Reply-To: root@box.example, Joe <joe@x>\n"),
        // Readers decode no encoded word in quotes.
        ("From: =?utf-8?Q?Doe,_J=C3=B6e?= <j@x>\n", "From: =?utf-8?Q?Doe,_J=C3=B6e?= <j@x>\n"),
        ("To: =?utf-8?Q?[NAS]_L=C3=A4uft?= <a@x>\n", "To: =?utf-8?Q?[NAS]_L=C3=A4uft?= <a@x>\n"),
        ("To: root, Joe <joe@x>\n", "To: root@box.example, Joe <joe@x>\n"),
    ] {
        assert!(repaired(field).starts_with(expected), "{field:?}: {}", repaired(field));
    }
}

/// Strict readers would find no address, or other ones.
#[test]
fn names_in_lists_are_quoted_where_they_must_be() {
    for (field, expected) in [
        ("To: [NAS] Ops <ops@x>\n", "To: \"[NAS] Ops\" <ops@x>\n"),
        ("Cc: root@nas <a@x>, b@x\n", "Cc: \"root@nas\" <a@x>,\n b@x\n"),
        ("To: \"never closed <a@x>\n", "To: \"never closed\" <a@x>\n"),
        ("To: Joe Q. (the (1st)) Public <a@x>\n", "To: Joe Q. (the (1st)) Public <a@x>\n"),
        ("To: a@x (Joe [ops], (x@y))\n", "To: a@x (Joe [ops], (x@y))\n"),
        ("To: \"a\\\"[b]\" <a@x>\n", "To: \"a\\\"[b]\" <a@x>\n"),
    ] {
        assert!(repaired(field).starts_with(expected), "{field:?}: {}", repaired(field));
    }
}

#[test]
fn long_fields_pass_and_long_lists_of_bcc_do_not() {
    let name = "a@b.example,\n ";
    let long = |field: &str| format!("{field}: {}root\n", name.repeat(HELD_MAX_OCTETS / name.len() + 1));
    let whole = format!("{WHOLE}Subject: {}\n", "x".repeat(200_000));
    let content = format!("{}{whole}{}{}\nbody\n", long("Bcc"), long("Resent-Bcc"), long("Sender"));
    for piece in [1, 4096, HELD_MAX_OCTETS, usize::MAX] {
        let out = run(facts(), content.as_bytes(), piece);
        assert!(out == format!("{whole}{}\nbody\n", long("Sender")).as_bytes(), "in pieces of {piece}");
    }
    // Exactly as much as is held, and one more.
    for (more, is_qualified) in [(0, true), (1, false)] {
        let field =
            format!("Sender: ({}) root\n", "x".repeat(HELD_MAX_OCTETS + more - "Sender: () root\n".len()));
        assert_eq!(field.len(), HELD_MAX_OCTETS + more);
        for piece in [1, 1000, usize::MAX] {
            let out = run(facts(), format!("{WHOLE}{field}\n").as_bytes(), piece);
            assert_eq!(out.ends_with(b") root@box.example\n\n"), is_qualified, "{more} in pieces of {piece}");
        }
    }
}

#[test]
fn a_line_without_end_is_no_field_and_little_of_it_is_held() {
    let line = "x".repeat(HELD_MAX_OCTETS + 1000);
    for piece in [1, 999, usize::MAX] {
        let (mut repair, mut out) = (Repair::new(facts()), Vec::new());
        for piece in line.as_bytes().chunks(piece) {
            repair.feed(piece, &mut out);
            assert!(repair.held.len() <= HELD_MAX_OCTETS);
        }
        assert!(repair.is_in_body());
        repair.feed(b": x\nBcc: y\n", &mut out);
        repair.finish(&mut out);
        assert!(out == format!("{}\n{line}: x\nBcc: y\n", ALL.concat()).as_bytes(), "in pieces of {piece}");
    }
}

#[test]
fn nothing_is_held_of_what_passes() {
    let (mut repair, mut out) = (Repair::new(facts()), Vec::new());
    let start = b"Subject: x\n y\nBcc: a,\n b";
    repair.feed(start, &mut out);
    assert_eq!((out.as_slice(), repair.held.len()), (&b"Subject: x\n y\n"[..], 0));
    repair.feed(b"\nTo: root", &mut out);
    assert_eq!((out.len(), repair.held.as_slice()), (14, &b"To: root"[..]));
    repair.feed(b"\n\nbo", &mut out);
    assert!(repair.is_in_body() && repair.held.capacity() == 0);
    repair.feed(b"dy", &mut out);
    assert!(out.ends_with(b"\n\nbody"));
}

/// The fields of a header section, each with its line ends.
fn fields(section: &str) -> Vec<&str> {
    let starts: Vec<usize> = section
        .split_inclusive('\n')
        .scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some((start, line))
        })
        .filter(|(_, line)| !line.starts_with([' ', '\t']))
        .map(|(start, _)| start)
        .chain([section.len()])
        .collect();
    starts.windows(2).map(|pair| section.get(pair[0]..pair[1]).unwrap()).collect()
}

fn is_bcc(field: &str) -> bool {
    let name = field.split(':').next().unwrap().trim_end();
    name.eq_ignore_ascii_case("Bcc") || name.eq_ignore_ascii_case("Resent-Bcc")
}

/// Header section and body, as the scanner on pillarbox's sending side divides them.
fn divide(content: &str) -> (&str, &str) {
    let (header, body) = content.split_at(header::section(content.as_bytes()).len());
    (header, body.strip_prefix('\n').unwrap_or(body))
}

fn field() -> impl Strategy<Value = String> {
    let name = "(Resent-)?(Bcc|bCC|To|Cc|From|Sender|Date|Message-ID)|MIME-Version|Content-Type|Subject|X";
    (name, "[ \t]{0,2}:", "([ a-z<>@,:;()\"\\\\.é]{0,12}\n[ \t]){0,2}[ a-z<>@,:;()\"\\\\.]{0,20}\n")
        .prop_map(|(name, colon, value)| name + &colon + &value)
}

fn content() -> impl Strategy<Value = String> {
    (proptest::collection::vec(field(), 0..8), "(\n|garbage\n|)", "([a-zBbc: \n\0é]{0,30})")
        .prop_map(|(fields, end, body)| fields.concat() + &end + &body)
}

proptest! {
    #[test]
    fn the_split_of_the_input_does_not_matter(content in content(), piece in 1usize..9) {
        let whole = run(facts(), content.as_bytes(), usize::MAX);
        prop_assert_eq!(run(facts(), content.as_bytes(), piece), whole);
    }

    #[test]
    fn a_second_repair_changes_nothing(content in content()) {
        let once = repaired(&content);
        prop_assert_eq!(repaired(&once), once.clone());
        prop_assert_eq!(bcc_removed(&once), once);
    }

    /// But for Bcc, every field stays in its place.
    #[test]
    fn bcc_alone_is_lost(content in content()) {
        let (header, body) = divide(&content);
        let kept: Vec<&str> = fields(header).into_iter().filter(|field| !is_bcc(field)).collect();
        let line_end = if kept.last().is_none_or(|last| last.ends_with('\n')) { "" } else { "\n" };
        prop_assert_eq!(bcc_removed(&content), format!("{}{line_end}\n{body}", kept.concat()));
    }

    /// A field that may occur once occurs once: the first that is not empty, with its added domains; To and Cc include the
    /// later ones. Everything else stays in its place, and the body unchanged.
    #[test]
    fn fields_that_may_be_there_once_are_there_once(content in content()) {
        let (header, body) = divide(&content);
        let name = |field: &str| field.split(':').next().unwrap().trim_end().to_ascii_lowercase();
        let says = |field: &&str| {
            let value = field.split_once(':').unwrap().1;
            let is_id = name(field) != "message-id" || value.contains('<') && value.contains('>');
            value.trim() != "<>" && value.contains(|c: char| c != ',' && !c.is_ascii_whitespace()) && is_id
        };
        let once = ["date", "message-id", "from", "sender", "to", "cc", "mime-version", "content-type", "subject"];
        let is_free = |field: &str| !once.contains(&name(field).as_str());
        let mut kept: Vec<&str> = Vec::new();
        let mut has_empty_subject = false;
        for field in fields(header).into_iter().filter(|field| !is_bcc(field)) {
            has_empty_subject |= name(field) == "subject" && !says(&field);
            let is_known = kept.iter().any(|known| name(known) == name(field));
            if is_free(field) || says(&field) && !is_known {
                kept.push(field);
            }
        }
        let out = repaired(&content);
        let (new_header, new_body) = divide(&out);
        prop_assert_eq!(new_body, body);
        let new_fields = fields(new_header);
        prop_assert!(new_fields.len() >= kept.len());
        for (new, old) in new_fields.iter().zip(&kept) {
            let value = old.split_once(':').unwrap().1;
            let old = format!("{}:{value}", old.split(':').next().unwrap().trim_end());
            let (new, old) = (new.replace("@box.example", ""), old.trim_end());
            let is_list = ["to", "cc"].contains(&name(old).as_str());
            // The tables above cover these.
            let is_named = ["from", "sender"].contains(&name(old).as_str()) && named(old.as_bytes()).is_some();
            let is_tidied = is_named || is_list && address_list::read(value.as_bytes()).is_sloppy;
            let rest = new.trim_end().strip_prefix(old);
            prop_assert!(is_tidied || rest.is_some_and(|rest| rest.is_empty() || is_list && rest.starts_with(",\n ")), "{}", out);
        }
        let rest = &new_fields[kept.len()..];
        let has_subject = kept.iter().any(|field| name(field) == "subject");
        prop_assert!(rest.iter().all(|field| ALL.contains(field) || *field == "Subject:\n"), "{}", out);
        prop_assert_eq!(rest.contains(&"Subject:\n"), has_empty_subject && !has_subject);
    }

    /// Another parser reads the same addresses, with the domain where there was none, and never a Bcc.
    #[test]
    fn others_read_the_same_addresses(
        names in proptest::collection::vec("[a-z]{1,5}(@[a-z]{1,4}\\.example)?", 1..5),
        form in 0..4,
        bcc in "[a-z]{1,5}@hidden\\.example",
    ) {
        let written: Vec<String> = names
            .iter()
            .map(|name| match form {
                0 => name.clone(),
                1 => format!("<{name}>"),
                2 => format!("\"Doe, John\"\n <{name}>"),
                _ => format!("{name} (a <comment>)"),
            })
            .collect();
        let content = format!("Bcc: {bcc}\nTo: {}\nBCC :\n {bcc}\n\nbody\n", written.join(",\n\t"));
        let out = repaired(&content);
        prop_assert!(!out.contains("hidden"));
        let message = MessageParser::default().parse(out.as_bytes()).unwrap();
        prop_assert!(message.bcc().is_none() && message.header(HeaderName::Bcc).is_none());
        let whole: Vec<String> = names
            .iter()
            .map(|name| if name.contains('@') { name.clone() } else { format!("{name}@box.example") })
            .collect();
        let read: Vec<&str> = message.to().unwrap().iter().map(|to| to.address.as_deref().unwrap()).collect();
        prop_assert_eq!(read, whole);
        prop_assert_eq!(message.from().unwrap().first().unwrap().address.as_deref(), Some("joe@far.example"));
        prop_assert_eq!(message.message_id(), Some("CR7D4E9DEKBP3@box.example"));
        prop_assert_eq!(message.date().unwrap().to_timestamp(), 1_795_416_810);
        let body = message.body_text(0).unwrap();
        prop_assert_eq!(body.as_ref(), "body\n");
    }
}

#[test]
fn lists_that_strict_readers_do_not_understand_are_tidied() {
    for (list, expected) in [
        ("a@x; b@y", "a@x,\n b@y"),
        ("a@x;", "a@x"),
        ("a@x; root", "a@x,\n root@box.example"),
        ("a@x b@y", "a@x,\n b@y"),
        ("<a@x><b@y>", "a@x,\n b@y"),
        ("Joe Doe <a@x> Bob <b@y>", "\"Joe Doe\" <a@x>,\n \"Bob\" <b@y>"),
        ("a@x (Joe (me)) b@y", "\"Joe (me)\" <a@x>,\n b@y"),
        ("=?utf-8?Q?J=C3=B6?= <a@x>; b@y", "=?utf-8?Q?J=C3=B6?= <a@x>,\n b@y"),
        ("Jö <a@x>; b@y", "=?utf-8?Q?J=C3=B6?= <a@x>,\n b@y"),
        ("A: a@x; B: b@y;", "a@x,\n b@y"),
        ("A: a@x; b@y", "a@x,\n b@y"),
        ("A: a@x", "a@x"),
        ("mailto:a@x", "a@x"),
        ("<mailto:a@x>, b@y", "a@x,\n b@y"),
        ("'a@x'", "a@x"),
        ("'a@x', 'b@y'", "a@x,\n b@y"),
        ("\"a@x, b@y\"", "a@x,\n b@y"),
        ("a@x\u{a0}", "a@x"),
        ("\u{200b}a@x, b@y\u{feff}", "a@x,\n b@y"),
    ] {
        let whole = format!("To: {list}\nCc: {list}\n\nx\n");
        let out = repaired(&whole);
        assert!(out.starts_with(&format!("To: {expected}\nCc: {expected}\n")), "{list:?}: {out}");
        assert_eq!(repaired(&out), out);
    }
    // These are correct, or their meaning is unclear.
    for list in [
        "a@x, \"Doe; J\" <b@y> (c; d)",
        "A: a@x, b@y; , C: c@z;",
        "undisclosed-recipients:;",
        "undisclosed-recipients: ;",
        "A: a@x; (done)",
        "System Administrator",
        "a@x and root@y",
        "a@x; b@@y",
        "Jö <a@x>, \"Ä\" <b@y>",
        "a@x,, b@y,",
        "John O'Hara <o'hara@x>",
    ] {
        let out = repaired(&format!("To: {list}\nSubject: x\n\nx\n"));
        assert!(out.starts_with(&format!("To: {list}\n")), "{list:?}: {out}");
    }
    let merged = repaired("To: a@x; b@y\nSubject: x\nTO: c@z;\n\nx\n");
    assert!(repaired("Cc: a:\nCc: t@x\nSubject: x\n\n").starts_with("Cc: a:\nSubject: x\n"));
    assert!(merged.starts_with("To: a@x,\n b@y,\n c@z\nSubject: x\n"), "{merged}");
}

#[test]
fn blanks_in_front_of_a_colon_go() {
    let out = repaired("From : a@b\nX-A \t: b : c\nBcc : z@x\nSubject\t: x\n\nA : b\n");
    assert!(out.starts_with("From: a@b\nX-A: b : c\nSubject: x\n") && out.ends_with("\n\nA : b\n"), "{out}");
    assert!(bcc_removed("X : b\nBcc : z@x\n\n").starts_with("X : b\n\n"));
}

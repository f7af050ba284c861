//! Each notice is compared octet for octet with its file in `tests/bounces/`, and parsed by another library.

use super::*;
use crate::mail::envelope::Notify;
use crate::mail::header;
use crate::mail::status::EnhancedStatus;
use expect_test::{ExpectFile, expect_file};
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;

const CONTENT: &str = "Received: from nas.lan ([192.0.2.7])\n\tby router.example.net (pillarbox) with ESMTP;\n\
                       \tMon, 23 Nov 2026 06:53:30 +0000\nFrom: root@example.net\nSubject: disk\n\n\
                       --=_not a boundary\nDisk sda is failing.\n";
const EIGHT_BIT: &str = "From: root@example.net\nSubject: disk\n\nDie Platte ist müde.\n";
const ARRIVAL: WallTime = WallTime(1_795_416_810_000_000);
const LATER: WallTime = WallTime(ARRIVAL.0 + 5 * 86_400_000_000);

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn recipient(text: &str) -> Recipient {
    Recipient::new(mailbox(text))
}

fn envelope(reverse_path: &str) -> Envelope {
    Envelope::new(ReversePath::parse(reverse_path).unwrap())
}

fn report<'a>(envelope: &'a Envelope, recipients: &'a [Reported<'a>]) -> NoticeReport<'a> {
    NoticeReport {
        hostname: "router.example.net",
        id: QueueId::new(ARRIVAL.0, 7),
        envelope,
        admin: None,
        arrival: ARRIVAL,
        age: Duration::from_secs(5 * 86_400 + 60),
        size_octets: CONTENT.len() as u64,
        content: Body::SevenBit,
        recipients,
        now: LATER,
        random: 0x0123_4567_89ab_cdef,
    }
}

fn answered(status: EnhancedStatus, reply: &str) -> Diagnostic {
    let remote = Some("mx.example.org".to_owned());
    Diagnostic { status, remote, reply: Some(reply.to_owned()), text: "RCPT".to_owned() }
}

fn refused() -> Diagnostic {
    answered(EnhancedStatus::NO_SUCH_USER, "550 5.1.1 <user@example.org>: no such user here")
}

fn reported<'a>(
    recipient: &'a Recipient,
    verdict: RecipientVerdict,
    diagnostic: &'a Diagnostic,
) -> Reported<'a> {
    Reported { recipient, verdict, diagnostic, last_attempt: Some(LATER), advice: None }
}

/// The whole notice, as the caller puts it together.
fn assemble(notice: &Notice, content: &str) -> String {
    let returned = match notice.returned {
        Returned::Full => content.as_bytes(),
        Returned::Headers => header::section(content.as_bytes()),
    };
    format!("{}{}{}", notice.prologue, std::str::from_utf8(returned).unwrap(), notice.epilogue)
}

/// Compares with the file, and checks what another parser reads against RFC 3464 and 6522. Returns the fields of part two.
fn check(notice: &Notice, content: &str, golden: ExpectFile) -> String {
    let text = assemble(notice, content);
    golden.assert_eq(&text);
    assert!(text.lines().all(|line| line.len() <= 998) && !text.contains('\r'));
    let message = MessageParser::default().parse(text.as_bytes()).unwrap();
    let root = message.content_type().unwrap();
    assert_eq!((root.ctype(), root.subtype()), ("multipart", Some("report")));
    let report_type = root.attribute("report-type").unwrap();
    let global = report_type.strip_suffix("delivery-status").unwrap();
    assert!(["", "global-"].contains(&global), "{global}");
    assert_eq!(message.header_raw("Auto-Submitted").map(str::trim), Some("auto-replied"));
    assert!(message.date().is_some() && message.message_id().is_some() && message.subject().is_some());
    let to = message.to().unwrap().first().unwrap().address().unwrap();
    assert_eq!(notice.envelope.recipients, [recipient(to)]);
    assert_eq!(notice.envelope.reverse_path, ReversePath::Null);
    assert_eq!(notice.envelope.body == Body::EightBitMime, !text.is_ascii());
    check_parts(&message, notice, content, global)
}

fn check_parts(message: &Message, notice: &Notice, content: &str, global: &str) -> String {
    let PartType::Multipart(ids) = &message.root_part().body else { panic!("no multipart") };
    let [words, status, returned] = [0, 1, 2].map(|i| message.part(ids[i]).unwrap());
    assert_eq!(ids.len(), 3);
    let kind = |part: &mail_parser::MessagePart| {
        let kind = part.content_type().unwrap();
        format!("{}/{}", kind.ctype(), kind.subtype().unwrap())
    };
    let status_kind = format!("message/{global}delivery-status");
    assert_eq!([kind(words), kind(status)], ["text/plain", &status_kind]);
    match (&returned.body, notice.returned) {
        // The parser does not recognise this type as a message.
        (_, Returned::Full) if global == "global-" => {
            assert_eq!(kind(returned), "message/global");
            assert_eq!(returned.contents(), content.as_bytes());
        }
        (PartType::Message(inner), Returned::Full) => {
            assert_eq!(kind(returned), "message/rfc822");
            assert_eq!(inner.subject(), Some("disk"));
            assert_eq!(inner.raw_message(), content.as_bytes());
        }
        (_, Returned::Headers) => {
            let headers = if global.is_empty() { "text/rfc822-headers" } else { "message/global-headers" };
            assert_eq!(kind(returned), headers);
            assert_eq!(returned.contents(), header::section(content.as_bytes()));
        }
        other => panic!("{other:?}"),
    }
    String::from_utf8(status.contents().to_vec()).unwrap()
}

#[test]
fn a_refusal_returns_the_message() {
    let (envelope, to, why) = (envelope("root@example.net"), recipient("user@example.org"), refused());
    let notice = compose(&report(&envelope, &[reported(&to, RecipientVerdict::Refused, &why)])).unwrap();
    let fields = check(&notice, CONTENT, expect_file!["../../../../tests/bounces/refused.txt"]);
    assert!(fields.contains("Action: failed\nStatus: 5.1.1\nRemote-MTA: dns; mx.example.org\n"));
}

#[test]
fn one_notice_tells_of_all_recipients_and_follows_rfc_3461() {
    let mut envelope = envelope("root@example.net");
    envelope.ret = Some(Ret::Headers);
    envelope.envid = Some("Q2B+2B7+3D".into());
    let mut first = recipient("user@example.org");
    first.orcpt = Some("rfc822;ro+2Bot@Router.Example.net".into());
    let (second, third) = (recipient("other@example.com"), recipient("third@example.com"));
    let full = answered(EnhancedStatus::MAILBOX_FULL_NOW, "452 4.2.2 Mailbox full");
    let timeout =
        Diagnostic::local(EnhancedStatus::DIRECTORY_FAILURE, "DNS: no server answered for example.com");
    let loops = Diagnostic::local(EnhancedStatus::ROUTING_LOOP, "the MX of example.com is this host");
    let mut recipients = [
        reported(&first, RecipientVerdict::Expired, &full),
        reported(&second, RecipientVerdict::Expired, &timeout),
        reported(&third, RecipientVerdict::Refused, &loops),
    ];
    recipients[2].last_attempt = None;
    let notice = compose(&report(&envelope, &recipients)).unwrap();
    let fields = check(&notice, CONTENT, expect_file!["../../../../tests/bounces/expired.txt"]);
    assert!(fields.starts_with("Original-Envelope-Id: Q2B+7=\n"));
    assert!(fields.contains("\n\nOriginal-Recipient: rfc822;ro+ot@Router.Example.net\n"));
    // A temporary status became permanent.
    assert_eq!(fields.matches("Status: 5.").count(), 3);
}

#[test]
fn a_delay_notice_says_that_nothing_is_to_be_done() {
    let (envelope, to) = (envelope("root@example.net"), recipient("user@example.org"));
    let why = Diagnostic {
        status: EnhancedStatus::NO_ANSWER,
        remote: Some("mx.example.org".into()),
        reply: None,
        text: "timed out connecting to 192.0.2.25 port 25".into(),
    };
    let delayed = [reported(&to, RecipientVerdict::Delayed, &why)];
    let report = NoticeReport { age: Duration::from_secs(4 * 3600), ..report(&envelope, &delayed) };
    let notice = compose(&report).unwrap();
    let fields = check(&notice, CONTENT, expect_file!["../../../../tests/bounces/delayed.txt"]);
    assert!(fields.contains("Action: delayed\nStatus: 4.4.1\n"));
}

#[test]
fn a_hostile_reply_adds_no_field_and_no_part() {
    let (envelope, to) = (envelope("root@example.net"), recipient("\"x y\"@example.org"));
    let attack = "550 no\r\n\r\nAction: delivered\r\n--=_0_0\r\nContent-Type: text/html\0\u{1b}[2J\u{7f} \u{202e}müde ";
    let why = Diagnostic {
        remote: Some("mx\r\nX-Evil: 1".into()),
        text: "RCPT\nX-Evil: 2".into(),
        ..answered(EnhancedStatus::NO_SUCH_USER, &format!("{attack}{}", "x".repeat(5000)))
    };
    let refused = [reported(&to, RecipientVerdict::Refused, &why)];
    let report = NoticeReport { content: Body::EightBitMime, ..report(&envelope, &refused) };
    let notice = compose(&report).unwrap();
    let fields = check(&notice, EIGHT_BIT, expect_file!["../../../../tests/bounces/hostile.txt"]);
    assert!(!fields.contains("\nX-Evil") && !fields.contains("\nAction: delivered"));
    assert!(fields.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
}

#[test]
fn addresses_beyond_ascii_are_written_as_rfc_6533_says() {
    let (envelope, to, why) = (envelope("jürgen@bücher.example"), recipient("a+b=ü@example.org"), refused());
    let refused = [reported(&to, RecipientVerdict::Refused, &why)];
    let report = NoticeReport { content: Body::EightBitMime, ..report(&envelope, &refused) };
    let notice = compose(&report).unwrap();
    let fields = check(&notice, EIGHT_BIT, expect_file!["../../../../tests/bounces/utf8.txt"]);
    assert!(fields.contains("Final-Recipient: utf-8; a\\x{2B}b\\x{3D}\\x{FC}@example.org\n"));
    assert!(notice.envelope.smtputf8);
}

/// A notice about mail by SMTPUTF8 is in UTF-8: the second and the third part have types of their own.
#[test]
fn a_message_by_smtputf8_gets_the_form_of_rfc_6533() {
    let mut envelope = envelope("jürgen@bücher.example");
    envelope.smtputf8 = true;
    let (mut first, second, why) = (recipient("a+b=ü@example.org"), recipient("user@example.org"), refused());
    first.orcpt = Some("utf-8;grüße@\\x{FC}.example".into());
    let recipients = [
        reported(&first, RecipientVerdict::Refused, &why),
        reported(&second, RecipientVerdict::Delayed, &why),
    ];
    let report = NoticeReport { content: Body::EightBitMime, ..report(&envelope, &recipients) };
    let notice = compose(&report).unwrap();
    let fields = check(&notice, EIGHT_BIT, expect_file!["../../../../tests/bounces/global.txt"]);
    assert!(fields.contains("Original-Recipient: utf-8;grüße@\\x{FC}.example\n"));
    assert!(fields.contains("Final-Recipient: utf-8; a\\x{2B}b\\x{3D}ü@example.org\n"));
    assert!(fields.contains("Final-Recipient: rfc822; user@example.org\n"));
    assert!(notice.envelope.smtputf8);
    // An ASCII sender may be behind a host without SMTPUTF8: the parts are 8-bit MIME, the header section is ASCII.
    let envelope =
        Envelope { reverse_path: ReversePath::Mailbox(mailbox("root@example.net")), ..envelope.clone() };
    let notice = compose(&NoticeReport { envelope: &envelope, ..report }).unwrap();
    assert!(!notice.envelope.smtputf8 && notice.envelope.body == Body::EightBitMime);
    let (head, _) = notice.prologue.split_once("\n\n").unwrap();
    assert!(head.is_ascii(), "{head}");
    // A recipient without SMTPUTF8 gets no UTF-8.
    let plain = Envelope { smtputf8: false, ..envelope.clone() };
    let notice = compose(&NoticeReport { envelope: &plain, ..report }).unwrap();
    let fields = "Original-Recipient: utf-8;gr\\x{FC}\\x{DF}e@\\x{FC}.example\n";
    assert!(notice.prologue.contains(fields), "{}", notice.prologue);
}

#[test]
fn a_success_is_told_where_it_was_asked_for() {
    let mut envelope = envelope("root@example.net");
    envelope.ret = Some(Ret::Full);
    let notify = Some(Notify { success: true, failure: true, ..Notify::default() });
    let here = Recipient { notify, ..recipient("tim@router.example.net") };
    let there = Recipient { notify, ..recipient("user@example.org") };
    let (local, remote) = (
        Diagnostic::local(EnhancedStatus::OK, "delivered to the Maildir"),
        Diagnostic {
            text: "the final dot".into(),
            ..answered(EnhancedStatus::MESSAGE_OK, "250 2.6.0 taken over")
        },
    );
    let recipients = [
        reported(&there, RecipientVerdict::Relayed, &remote),
        reported(&here, RecipientVerdict::Delivered, &local),
    ];
    let notice = compose(&report(&envelope, &recipients)).unwrap();
    let fields = check(&notice, CONTENT, expect_file!["../../../../tests/bounces/success.txt"]);
    assert_eq!(notice.returned, Returned::Headers, "RET is about failures");
    assert!(fields.contains("Action: delivered\nStatus: 2.0.0\n"));
    assert!(fields.contains("Action: relayed\nStatus: 2.6.0\nRemote-MTA: dns; mx.example.org\n"));
}

/// One pass, one notice: bad news first.
#[test]
fn a_notice_may_have_several_kinds_of_news() {
    let envelope = envelope("root@example.net");
    let notify = Some(Notify { success: true, failure: true, delay: true });
    let [a, b, c] =
        ["a@example.org", "b@example.org", "c@example.org"].map(|to| Recipient { notify, ..recipient(to) });
    let (taken, busy, no) = (
        answered(EnhancedStatus::OK, "250 2.0.0 ok"),
        answered(EnhancedStatus::MAILBOX_FULL_NOW, "452 4.2.2 Mailbox full"),
        refused(),
    );
    let recipients = [
        reported(&a, RecipientVerdict::Relayed, &taken),
        reported(&b, RecipientVerdict::Delayed, &busy),
        reported(&c, RecipientVerdict::Refused, &no),
    ];
    let report = NoticeReport { age: Duration::from_secs(4 * 3600), ..report(&envelope, &recipients) };
    let notice = compose(&report).unwrap();
    check(&notice, CONTENT, expect_file!["../../../../tests/bounces/mixed.txt"]);
    assert!(notice.prologue.contains("\nSubject: Undelivered mail: c@example.org and 2 more\n"));
    assert_eq!(notice.returned, Returned::Full);
}

#[test]
fn the_administrator_hears_of_a_bounce_that_does_not_arrive() {
    let (envelope, to, why) = (envelope(""), recipient("stranger@example.org"), refused());
    let recipients = [reported(&to, RecipientVerdict::Refused, &why)];
    let admin = mailbox("admin@example.net");
    let report = NoticeReport { admin: Some(&admin), ..report(&envelope, &recipients) };
    let notice = compose(&report).unwrap();
    check(&notice, CONTENT, expect_file!["../../../../tests/bounces/double.txt"]);
    assert_eq!(compose(&NoticeReport { admin: None, ..report }), None);
}

#[test]
fn nobody_is_told_who_did_not_ask() {
    let (from, why) = (envelope("root@example.net"), refused());
    let never = Some(Notify::default());
    let (success, failure, delay) = (
        Some(Notify { success: true, ..Notify::default() }),
        Some(Notify { failure: true, ..Notify::default() }),
        Some(Notify { delay: true, ..Notify::default() }),
    );
    for (notify, verdict, is_told) in [
        (None, RecipientVerdict::Refused, true),
        (None, RecipientVerdict::Delayed, true),
        (never, RecipientVerdict::Refused, false),
        (never, RecipientVerdict::Expired, false),
        (never, RecipientVerdict::Delayed, false),
        (failure, RecipientVerdict::Expired, true),
        (failure, RecipientVerdict::Delayed, false),
        (delay, RecipientVerdict::Refused, false),
        (delay, RecipientVerdict::Delayed, true),
        (delay, RecipientVerdict::Relayed, false),
        (None, RecipientVerdict::Relayed, false),
        (never, RecipientVerdict::Delivered, false),
        (success, RecipientVerdict::Delivered, true),
        (success, RecipientVerdict::Relayed, true),
        (success, RecipientVerdict::Delayed, false),
        (success, RecipientVerdict::Refused, false),
    ] {
        let to = Recipient { notify, ..recipient("user@example.org") };
        let recipients = [reported(&to, verdict, &why)];
        assert_eq!(compose(&report(&from, &recipients)).is_some(), is_told, "{notify:?} {verdict:?}");
        assert_eq!(compose(&report(&envelope(""), &recipients)), None);
    }
    assert_eq!(compose(&report(&from, &[])), None);
    // Of two recipients the silent one is not named.
    let (silent, loud) =
        (Recipient { notify: never, ..recipient("silent@example.org") }, recipient("loud@example.org"));
    let recipients = [
        reported(&silent, RecipientVerdict::Refused, &why),
        reported(&loud, RecipientVerdict::Refused, &why),
    ];
    let notice = compose(&report(&from, &recipients)).unwrap();
    assert!(
        !notice.prologue.contains("silent@")
            && notice.prologue.contains("Undelivered mail: loud@example.org\n")
    );
}

#[test]
fn large_messages_come_back_as_headers() {
    let (to, why) = (recipient("user@example.org"), refused());
    let refused = [reported(&to, RecipientVerdict::Refused, &why)];
    for (ret, size_octets, expected) in [
        (None, RETURN_FULL_MAX_OCTETS, Returned::Full),
        (None, RETURN_FULL_MAX_OCTETS + 1, Returned::Headers),
        (Some(Ret::Full), RETURN_FULL_MAX_OCTETS + 1, Returned::Headers),
        (Some(Ret::Headers), 1, Returned::Headers),
    ] {
        let envelope = Envelope { ret, ..envelope("root@example.net") };
        let notice = compose(&NoticeReport { size_octets, ..report(&envelope, &refused) }).unwrap();
        assert_eq!(notice.returned, expected, "{ret:?} {size_octets}");
    }
}

#[test]
fn a_field_has_as_many_words_in_a_line_as_fit() {
    let folded = |octets: usize| {
        let mut out = String::new();
        push_folded(&mut out, "Text:", "  ", &format!("ab c {}", "d".repeat(octets)));
        out
    };
    let fits = LINE_COLUMNS - "Text: ab c ".len();
    assert_eq!(folded(fits), format!("Text: ab c {}\n", "d".repeat(fits)));
    assert_eq!(folded(fits + 1), format!("Text: ab c\n  {}\n", "d".repeat(fits + 1)));
}

#[test]
fn ages_are_told_in_words() {
    let words =
        [0, 60, 119 * 60, 7200, 47 * 3600, 48 * 3600, 5 * 86_400].map(|s| in_words(Duration::from_secs(s)));
    assert_eq!(words, ["0 minutes", "1 minute", "119 minutes", "2 hours", "47 hours", "2 days", "5 days"]);
}

#[test]
fn xtext_is_undone_and_other_text_kept() {
    for (text, decoded) in
        [("a+2Bb", "a+b"), ("+", "+"), ("a+2", "a+2"), ("a+zzb", "a+zzb"), ("+é", "+é"), ("", "")]
    {
        assert_eq!(delivery_status::decode_xtext(text), decoded);
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_structure(
        reply in "\\PC{0,300}|[\\x00-\\x7f]{0,1200}", remote in "[\\x00-\\x7f]{0,30}", orcpt in "[\\x00-\\x7f]{0,40}",
    ) {
        let (envelope, mut to) = (envelope("root@example.net"), recipient("user@example.org"));
        to.orcpt = Some(orcpt);
        let why = Diagnostic { remote: Some(remote), ..answered(EnhancedStatus::NO_SUCH_USER, &reply) };
        let notice = compose(&report(&envelope, &[reported(&to, RecipientVerdict::Refused, &why)])).unwrap();
        let text = assemble(&notice, CONTENT);
        prop_assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998));
        let message = MessageParser::default().parse(text.as_bytes()).unwrap();
        let fields = check_parts(&message, &notice, CONTENT, "");
        let names: Vec<&str> = fields.lines().filter(|l| !l.starts_with(' ')).filter_map(|l| l.split(':').next()).collect();
        prop_assert_eq!(names, [
            "Reporting-MTA", "X-Pillarbox-Queue-ID", "Arrival-Date", "", "Original-Recipient", "Final-Recipient",
            "Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date",
        ]);
    }
}

/// The notice goes through the same hosts: with the same content it would meet the same refusal.
#[test]
fn content_that_was_refused_is_not_returned() {
    let (sender, to) = (envelope("root@example.net"), recipient("user@example.org"));
    for (step, reply, expected) in [
        (
            "the final dot",
            "552-5.7.0 This message was blocked because its content presents a potential",
            false,
        ),
        ("the final dot", "554 5.6.0 unreadable", false),
        ("the final dot", "550 5.7.1 spam", false),
        ("the final dot", "554 Transaction failed", false),
        ("BDAT", "550 5.7.26 unauthenticated", false),
        // Of the recipient.
        ("the final dot", "552 5.2.2 mailbox full", true),
        ("the final dot", "550 5.1.1 no such user", true),
        ("RCPT", "550 5.7.1 not wanted", true),
        ("MAIL", "550 5.7.1 not wanted", true),
    ] {
        let status = reply.get(4..9).and_then(EnhancedStatus::parse);
        let status = status.unwrap_or(EnhancedStatus::new(Class::Permanent, 0, 0));
        let diagnostic = Diagnostic { text: step.into(), ..answered(status, reply) };
        for (verdict, expected) in [(RecipientVerdict::Refused, expected), (RecipientVerdict::Expired, true)]
        {
            let notice = compose(&report(&sender, &[reported(&to, verdict, &diagnostic)])).unwrap();
            assert_eq!(notice.returned == Returned::Full, expected, "{step} {reply} {verdict:?}");
        }
        // This host's own: no other host has seen the message.
        let ours = Diagnostic { reply: None, ..diagnostic };
        let notice = compose(&report(&sender, &[reported(&to, RecipientVerdict::Refused, &ours)])).unwrap();
        assert_eq!(notice.returned, Returned::Full, "{step}");
    }
}

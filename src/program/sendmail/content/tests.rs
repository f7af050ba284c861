//! Input of programs, and the canonical message that it becomes.

use super::*;
use crate::mail::header::section;
use proptest::prelude::*;

fn passed(input: &[u8], cut: usize, from: Option<&str>) -> (String, MessageFilter) {
    let mut content = MessageFilter::new(from.map(|from| ("From", from.to_owned())).into_iter().collect());
    let mut out = Vec::new();
    input.chunks(cut).for_each(|piece| content.feed(piece, &mut out));
    content.finish(&mut out);
    (String::from_utf8_lossy(&out).into_owned(), content)
}

#[test]
fn messages_become_canonical() {
    for (input, expected) in [
        ("", ""),
        ("A: 1\n\nbody\n", "A: 1\n\nbody\n"),
        ("A: 1\r\n\r\nbody\r\n", "A: 1\n\nbody\n"),
        ("A: 1\r\r\n\nbody", "A: 1\n\nbody\n"),
        ("A: 1", "A: 1\n"),
        ("text\n", "\ntext\n"),
        ("text\nB: 1\n", "\ntext\nB: 1\n"),
        ("\nA: 1\n", "\nA: 1\n"),
        (" A: 1\n", "\n A: 1\n"),
        ("\tx\n", "\n\tx\n"),
        ("A: 1\ntext\nB: 2\n", "A: 1\n\ntext\nB: 2\n"),
        ("From root Mon Nov 23\nA: 1\n\nb\n", "A: 1\n\nb\n"),
        ("From root Mon Nov 23\ntext\n", "\ntext\n"),
        ("From : joe@a.test\nA: 1\n\nb\n", "From : joe@a.test\nA: 1\n\nb\n"),
        ("From root Mon Nov 23\nFrom : joe@a.test\n\nb\n", "From : joe@a.test\n\nb\n"),
        ("From joe@a.test Mon Nov 23 06:53:30 2026\nA: 1\n", "A: 1\n"),
        ("A: 1\nFrom root\n", "A: 1\n\nFrom root\n"),
        ("A: 1\n\nFrom here on\n.\nend\n", "A: 1\n\nFrom here on\n.\nend\n"),
        ("A: 1\rBcc: x\n\na\rb\r\rc\r", "A: 1 Bcc: x\n\na\nb\nc\n"),
        ("A: 1\0\n\n\0b\0\n", "A: 1\n\n\0b\0\n"),
        ("A: 1\n\tb\n\n", "A: 1\n\tb\n\n"),
        ("\r\n\r\n", "\n\n"),
        ("\u{feff}A: 1\n\nb\n", "A: 1\n\nb\n"),
        ("\u{feff}text\n", "\ntext\n"),
    ] {
        for cut in [1, 2, 3, 1000] {
            let (out, content) = passed(input.as_bytes(), cut, None);
            assert_eq!(out, expected, "{input:?} in pieces of {cut}");
            let wire = expected.replace('\n', "\r\n").len() as u64;
            assert_eq!((content.wire_octets(), content.is_eight_bit()), (wire, false), "{input:?}");
        }
    }
    assert!(passed("\nü".as_bytes(), 1, None).1.is_eight_bit());
}

#[test]
fn a_message_without_from_gets_the_one_that_is_given() {
    for (input, expected) in [
        ("A: 1\n\nb\n", "A: 1\nFrom: x\n\nb\n"),
        ("from: y\n\nb\n", "from: y\n\nb\n"),
        ("text\n", "From: x\n\ntext\n"),
        ("A: 1", "A: 1\nFrom: x\n"),
    ] {
        assert_eq!(passed(input.as_bytes(), 1, Some("From: x\n")).0, expected);
    }
    for (input, expected) in [
        ("ERROR: disk\nx: y\n", "Subject: s\n\nERROR: disk\nx: y\n"),
        ("X-Mailer: y\nERROR: disk\n\nx\n", "X-Mailer: y\nERROR: disk\nSubject: s\n\nx\n"),
        ("subject: t\n\nx\n", "subject: t\n\nx\n"),
        ("", "Subject: s\n"),
    ] {
        let (mut content, mut out) =
            (MessageFilter::new(vec![("Subject", "Subject: s\n".into())]), Vec::new());
        content.feed(input.as_bytes(), &mut out);
        content.finish(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
    assert_eq!(from_field("Cron \"D\"", "root"), "From: \"Cron \\\"D\\\"\" <root>\n");
    assert_eq!(from_field("J\nörg", "j"), "From: =?utf-8?B?SsO2cmc=?= <j>\n");
    for (text, expected) in [
        ("Disk full", Some("Subject: Disk full\n".to_owned())),
        (" a\r\nBcc: x\n", Some("Subject: a  Bcc: x\n".to_owned())),
        ("J\u{f6}rg", Some("Subject: =?utf-8?B?SsO2cmc=?=\n".to_owned())),
        (" ", None),
    ] {
        assert_eq!(subject_field(text), expected);
    }
    let long = subject_field(&"x".repeat(5000)).unwrap();
    assert!(long.lines().count() > 100 && long.lines().all(|line| line.len() < 90), "{long}");
    let long = from_field(&"ü".repeat(30), "j");
    assert!(long.lines().count() == 2 && long.lines().all(|line| line.len() < 80), "{long}");
}

#[test]
fn endless_headers_are_not_kept() {
    for unit in ["x", "x: y", "A: 1\n b\n", "A: 1\n", "text "] {
        let input = unit.repeat(3_000_000 / unit.len());
        let (mut content, mut out, mut sum) = (MessageFilter::new(Vec::new()), Vec::new(), 0);
        for piece in input.as_bytes().chunks(10_000) {
            content.feed(piece, &mut out);
            sum += out.len();
            out.clear();
            assert!(content.line.len() + content.field.len() < HELD_MAX_OCTETS + 20_000);
        }
        content.finish(&mut out);
        sum += out.len();
        assert!(sum >= input.len() && sum <= input.len() + 2, "{unit}");
    }
}

proptest! {
    #[test]
    fn the_split_of_the_input_does_not_matter(input in "(From |To: a|[ a:\r\n\0é]){0,30}", cut in 1usize..9) {
        let (whole, _) = passed(input.as_bytes(), 1000, None);
        prop_assert_eq!(&passed(input.as_bytes(), cut, None).0, &whole);
        prop_assert!(!section(whole.as_bytes()).contains(&0) && !whole.contains('\r') && (whole.is_empty() || whole.ends_with('\n')));
    }
}

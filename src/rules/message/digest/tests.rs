use super::*;
use crate::mail::address::Mailbox;
use crate::mail::header;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const TERMS: DigestTerms =
    DigestTerms { after: 2, window: Duration::from_secs(600), members: 5, octets: 1000 };

fn id(number: u64) -> QueueId {
    QueueId::new(number, 0)
}

fn wait(windows: &mut Windows, number: u64, octets: u64, now: Duration) -> Option<QueueId> {
    let end = windows.decide(7, now, &TERMS).unwrap();
    windows.add(7, DigestMember { id: id(number), octets }, end, now);
    windows.overdue(7, &TERMS)
}

#[test]
fn groups_are_of_sender_recipients_and_subject() {
    assert_eq!(group("a", "b"), group("a", "b"));
    assert_ne!(group("a", "b"), group("a", "c"));
    assert_ne!(group("a", "b"), group("c", "b"));
    assert_ne!(group("ab", "c"), group("a", "bc"));
}

#[test]
fn a_window_lets_the_first_pass_and_ends() {
    let mut windows = Windows::default();
    let all: Vec<_> = (0..4).map(|minute| windows.decide(7, MINUTE * minute, &TERMS)).collect();
    assert_eq!(all, [None, None, Some(MINUTE * 10), Some(MINUTE * 10)]);
    assert_eq!(windows.decide(8, MINUTE, &TERMS), None);
    // The messages were refused later: nothing waits.
    assert_eq!(windows.decide(7, MINUTE * 10 - Duration::from_nanos(1), &TERMS), Some(MINUTE * 10));
    assert_eq!(windows.decide(7, MINUTE * 10, &TERMS), None);
}

#[test]
fn who_comes_while_the_digest_is_late_waits_for_it_or_for_the_next_one() {
    let mut windows = Windows::default();
    for number in 0..3 {
        if number < 2 {
            assert_eq!(windows.decide(7, MINUTE, &TERMS), None);
        } else {
            assert_eq!(wait(&mut windows, number, 1, MINUTE), None);
        }
    }
    assert_eq!(windows.decide(7, MINUTE * 12, &TERMS), Some(MINUTE * 22));
}

#[test]
fn a_storm_ends_with_a_window_that_is_none() {
    let mut windows = Windows::default();
    for count in [1, 2] {
        assert_eq!(windows.decide(7, MINUTE * count, &TERMS), None);
    }
    wait(&mut windows, 1, 1, MINUTE * 3);
    windows.forget(id(1));
    windows.left(7, 1, MINUTE * 11, &TERMS);
    // Three were too many.
    assert_eq!(wait(&mut windows, 2, 1, MINUTE * 12), None);
    assert_eq!(wait(&mut windows, 3, 1, MINUTE * 13), None);
    assert_eq!(windows.decide(7, MINUTE * 14, &TERMS), Some(MINUTE * 21));
    (2..4).for_each(|number| windows.forget(id(number)));
    windows.left(7, 2, MINUTE * 21, &TERMS);
    // Two are not.
    let all: Vec<_> = (0..3).map(|_| windows.decide(7, MINUTE * 21, &TERMS)).collect();
    assert_eq!(all, [None, None, Some(MINUTE * 31)]);
}

#[test]
fn what_fills_a_digest_waits_no_longer() {
    for (octets, full) in [(1, 5), (200, 6), (201, 5), (333, 4), (334, 3), (1001, 1)] {
        let full = full.min(TERMS.members as u64);
        let mut windows = Windows::default();
        windows.add(7, DigestMember { id: id(1), octets }, MINUTE, Duration::ZERO);
        for number in 2..=full {
            assert_eq!(windows.overdue(7, &TERMS), None, "{octets}");
            // The same message twice counts once.
            for _ in 0..2 {
                wait(&mut windows, number, octets, Duration::ZERO);
            }
        }
        assert_eq!(windows.overdue(7, &TERMS), Some(id(1)), "{octets}");
    }
}

#[test]
fn members_are_found_and_forgotten() {
    let mut windows = Windows::default();
    for number in 0..4 {
        let group = u128::from(number % 2);
        windows.add(group, DigestMember { id: id(number), octets: 1 }, MINUTE, Duration::ZERO);
    }
    assert_eq!((windows.group_of(id(3)), windows.group_of(id(4))), (Some(1), None));
    assert_eq!((windows.members(Some(1)).count(), windows.members(None).count()), (2, 4));
    windows.forget(id(3));
    assert_eq!(windows.members(Some(1)).collect::<Vec<_>>(), [id(1)]);
    windows.forget_members();
    assert_eq!(windows.members(None).count(), 0);
}

#[test]
fn a_flood_of_kinds_takes_little_memory_and_forgets_nothing_that_waits() {
    let mut windows = Windows::default();
    for number in 0..5000 {
        windows.decide(u128::from(number), Duration::from_millis(number), &TERMS);
        if number % 100 == 0 {
            windows.add(u128::from(number), DigestMember { id: id(number), octets: 1 }, MINUTE, MINUTE);
        }
    }
    assert!(windows.0.len() <= WINDOWS_MAX + 1);
    assert_eq!(windows.members(None).count(), 50);
}

#[test]
fn windows_that_have_not_ended_outlive_a_restart() {
    let mut windows = Windows::default();
    windows.decide(7, MINUTE, &TERMS);
    windows.decide(8, Duration::ZERO, &TERMS);
    windows.left(9, 3, MINUTE, &TERMS);
    let text = windows.print(MINUTE * 10);
    assert_eq!(text.lines().count(), 2);
    let mut windows = Windows::parse(&format!("rubbish\n{text}x 1\n\n"));
    assert_eq!(windows.print(MINUTE * 10), text);
    assert_eq!(windows.decide(7, MINUTE * 2, &TERMS), None);
    assert_eq!(windows.decide(7, MINUTE * 2, &TERMS), Some(MINUTE * 11));
    assert_eq!(windows.decide(9, MINUTE * 2, &TERMS), Some(MINUTE * 11));
    assert_eq!(windows.decide(8, MINUTE * 10, &TERMS), None);
}

fn facts(sender: &ReversePath) -> Facts<'_> {
    Facts {
        hostname: "box.example",
        domain: "box.example",
        reverse_path: sender,
        smtputf8: false,
        now: WallTime(0),
        random: 1,
    }
}

#[test]
fn a_frame_looks_as_rfc_2046_draws_it() {
    let mut summary = DigestSummary::default();
    for (number, section) in
        ["From: a@b\nSubject: x 1\n", "Subject: x 2\n", "Subject: x 1\n"].iter().enumerate()
    {
        summary.add(id(number as u64), section.as_bytes(), WallTime(number as u64 * 60_000_000), false);
    }
    let Frame { head, separator, end } = Frame::new(&summary, &facts(&ReversePath::Null));
    let first = id(0);
    let head = String::from_utf8(head).unwrap();
    let expected = format!(
        "From: a@b\nTo: undisclosed-recipients:;\nSubject: [3 similar] x 1\nDate: Thu, 01 Jan 1970 00:00:00 +0000\n\
         Message-ID: <{first}.3@box.example>\nMIME-Version: 1.0\n\
         Content-Type: multipart/digest; boundary=\"=_{first}_0000000000000001\"\n\n\
         --=_{first}_0000000000000001\nContent-Type: text/plain; charset=utf-8\n\n\
         3 similar messages arrived in a short time: from the same sender, for the same\n\
         recipients, with subjects that differ only in numbers, dates or names.\n\
         box.example has collected them; all of them are attached.\n\n\
         First: Thu, 01 Jan 1970 00:00:00 +0000\nLast:  Thu, 01 Jan 1970 00:02:00 +0000\n\n\
         \x20    2  x 1\n     1  x 2\n"
    );
    assert_eq!(head, expected);
    assert_eq!(separator, format!("\n--=_{first}_0000000000000001\n\n"));
    assert_eq!(end, format!("\n--=_{first}_0000000000000001--\n"));
}

#[test]
fn each_level_says_that_a_member_is_eight_bit_or_internationalized() {
    let mut summary = DigestSummary::default();
    summary.add(id(1), b"Subject: x\n", WallTime(0), true);
    let sender = ReversePath::Mailbox(Mailbox::parse("a@b.example").unwrap());
    let frame = Frame::new(&summary, &Facts { smtputf8: true, ..facts(&sender) });
    let head = String::from_utf8(frame.head).unwrap();
    assert_eq!(head.matches("\nContent-Transfer-Encoding: 8bit\n").count(), 1);
    assert!(head.starts_with("From: a@b.example\n"));
    assert!(frame.separator.ends_with("\nContent-Type: message/global\nContent-Transfer-Encoding: 8bit\n\n"));
}

#[test]
fn subjects_are_one_line_and_short() {
    for (section, expected) in [
        ("Subject: a b\n", "a b"),
        ("SUBJECT:\ta\n  b\nSubject: c\n", "a b"),
        ("X: y\n", ""),
        ("Subject:\n", ""),
        ("X-Subject: y\n z: 1\nSubject: \u{1b}[2Jx\n", "[2Jx"),
    ] {
        assert_eq!(subject(section.as_bytes()), expected, "{section}");
    }
    for word in ["x", "ü ", "=?utf-8?q?x?= "] {
        let long = subject(format!("Subject: {}\n", word.repeat(10_000)).as_bytes());
        assert!(!long.is_empty() && long.len() <= SUBJECT_MAX_OCTETS && !long.ends_with(' '), "{long}");
    }
    assert_eq!(subject(b"Subject: \xff\n"), "\u{fffd}");
}

#[test]
fn only_so_many_subjects_are_told_of() {
    let mut summary = DigestSummary::default();
    for number in 0..100 {
        let section = format!("Subject: x {number}\n");
        summary.add(id(number), section.as_bytes(), WallTime(0), false);
    }
    let words = summary.words("h");
    assert!(words.contains("     1  x 19\n    80  with other subjects\n"), "{words}");
}

proptest! {
    #[test]
    fn no_header_section_forges_a_field_of_the_digest(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let section = [b"Subject: x".as_slice(), &octets].concat();
        let mut summary = DigestSummary::default();
        summary.add(id(1), header::section(&section), WallTime(0), false);
        let head = Frame::new(&summary, &facts(&ReversePath::Null)).head;
        let section = header::section(&head);
        let count = |name: &[u8]| {
            section.split(|&b| b == b'\n').filter(|line| line.starts_with(name)).count()
        };
        for name in ["From:", "To:", "Subject:", "Date:", "Message-ID:", "MIME-Version:", "Content-Type:"] {
            prop_assert_eq!(count(name.as_bytes()), 1, "{}", name);
        }
    }
}

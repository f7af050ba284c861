use super::*;
use crate::mail::date::WallTime;
use crate::mail::status::Class;
use proptest::prelude::*;
use std::time::Duration;

pub fn at(seconds: u64) -> Now {
    Now { wall: WallTime(seconds * 1_000_000), running: Duration::from_secs(seconds) }
}

pub fn record(recipient: usize, seconds: u64, event: JournalEvent) -> JournalRecord {
    JournalRecord { recipients: vec![recipient], at: at(seconds), event }
}

pub fn deferred() -> JournalEvent {
    JournalEvent::Attempted(Outcome::Deferred(Diagnostic::local(
        EnhancedStatus::NO_ANSWER,
        "connect: timed out",
    )))
}

pub fn delivered() -> JournalEvent {
    JournalEvent::Attempted(Outcome::Delivered(Diagnostic::local(EnhancedStatus::OK, "end of data")))
}

pub fn failed() -> JournalEvent {
    JournalEvent::Attempted(Outcome::Failed(Diagnostic::local(EnhancedStatus::NO_SUCH_USER, "RCPT")))
}

fn journal(records: &[JournalRecord]) -> String {
    let mut text = String::new();
    for record in records {
        text.push('\n');
        record.print(&mut text);
    }
    text
}

fn replayed(journal: &[u8]) -> (Vec<Progress>, usize) {
    let mut progress = vec![Progress::default(); 2];
    let damaged = replay(journal, &mut progress);
    (progress, damaged)
}

#[test]
fn records_say_how_far_each_recipient_has_come() {
    let records = [
        JournalRecord { recipients: vec![0, 1], at: at(1), event: deferred() },
        record(0, 2, JournalEvent::Notified),
        record(0, 3, deferred()),
        record(0, 4, deferred()),
        record(0, 5, deferred()),
        record(1, 6, failed()),
        record(7, 6, failed()),
    ];
    let (progress, damaged) = replayed(journal(&records).as_bytes());
    assert_eq!(damaged, 0);
    assert_eq!(
        (progress[0].state, progress[0].notified, progress[0].attempts),
        (RecipientState::Pending, true, 4)
    );
    assert_eq!(progress[0].recent_attempts, [Some(at(5)), Some(at(4)), Some(at(3))]);
    assert_eq!(
        (progress[1].state, progress[1].notified, progress[1].attempts),
        (RecipientState::Failed, false, 2)
    );
    assert_eq!(progress[1].diagnostic.as_ref().unwrap().status, EnhancedStatus::NO_SUCH_USER);
    assert!(!progress[0].is_finished() && !progress[1].is_finished());
}

#[test]
fn a_delivery_is_finished_when_the_sender_who_asked_knows() {
    let records = [record(0, 1, delivered()), record(0, 1, JournalEvent::Owed), record(1, 1, delivered())];
    let (progress, _) = replayed(journal(&records).as_bytes());
    assert_eq!((progress[0].state, progress[0].is_finished()), (RecipientState::Delivered, false));
    assert!(progress[1].is_finished());
    let records = [records.as_slice(), &[record(0, 2, JournalEvent::Notified)]].concat();
    let (progress, _) = replayed(journal(&records).as_bytes());
    assert!(progress[0].is_finished());
}

#[test]
fn the_last_word_about_holding_counts() {
    let held = |records: &[JournalRecord]| {
        let (progress, damaged) = replayed(journal(records).as_bytes());
        assert_eq!((damaged, super::records(journal(records).as_bytes())), (0, records.to_vec()));
        (progress[0].held, progress[0].is_due(), progress[1].is_due())
    };
    let (hold, release) = (record(0, 1, JournalEvent::Held), record(0, 3, JournalEvent::Released));
    assert_eq!(held(&[]), (false, true, true));
    assert_eq!(held(&[hold.clone(), record(0, 2, deferred())]), (true, false, true));
    assert_eq!(held(&[hold.clone(), record(0, 2, deferred()), release.clone()]), (false, true, true));
    assert_eq!(held(&[hold, release, record(0, 4, failed())]), (false, false, true));
}

#[test]
fn what_is_settled_stays_so() {
    let records = [record(0, 1, JournalEvent::Notified), record(0, 2, failed())];
    let (progress, _) = replayed(journal(&records).as_bytes());
    assert!(!progress[0].notified, "the notice was about the delay");
    let records = [
        record(0, 1, failed()),
        record(0, 2, JournalEvent::Notified),
        record(0, 3, delivered()),
        record(0, 3, failed()),
    ];
    let (progress, _) = replayed(journal(&records).as_bytes());
    assert_eq!((progress[0].state, progress[0].attempts), (RecipientState::Failed, 1));
    assert!(progress[0].is_finished());
    let (progress, _) = replayed(journal(&[record(1, 1, delivered()), record(1, 2, deferred())]).as_bytes());
    assert!(progress[1].is_finished() && !progress[0].is_finished());
}

#[test]
fn a_tear_at_any_octet_spares_the_records_around_it() {
    let first = journal(&[record(0, 1, delivered())]);
    let torn = journal(&[record(1, 2, deferred())]);
    let last = journal(&[record(1, 3, delivered())]);
    for cut in 0..torn.len() {
        let text = format!("{first}{}", torn.get(..cut).unwrap());
        let (progress, damaged) = replayed(text.as_bytes());
        assert_eq!(
            (progress[0].state, progress[1].attempts, damaged),
            (RecipientState::Delivered, 0, 0),
            "cut {cut}"
        );
        let (progress, damaged) = replayed(format!("{text}{last}").as_bytes());
        assert_eq!(
            (progress[0].state, progress[1].state),
            (RecipientState::Delivered, RecipientState::Delivered),
            "cut {cut}"
        );
        // With everything but its line end the line is whole again; with only its first line end there is nothing to
        // damage.
        assert_eq!(damaged, usize::from(cut > 1 && cut + 1 < torn.len()), "cut {cut}");
        let zeros = [text.as_bytes(), &[0; 100], last.as_bytes()].concat();
        assert_eq!(replayed(&zeros).0[1].state, RecipientState::Delivered, "cut {cut}");
    }
}

#[test]
fn a_flipped_bit_costs_no_more_than_the_lines_it_touches() {
    let text =
        journal(&[record(0, 1, delivered()), record(1, 2, failed()), record(1, 3, JournalEvent::Notified)]);
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone().into_bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (progress, _) = replayed(&flipped);
        let told = [
            progress[0].state == RecipientState::Delivered,
            progress[1].state == RecipientState::Failed,
            progress[1].notified,
        ];
        assert!(told.iter().filter(|&&told| !told).count() <= 1, "bit {bit}");
    }
}

#[test]
fn kinds_and_fields_of_later_versions_are_passed_over() {
    let mut text = String::from("\n");
    print_checked("held\tto=0\tat=1 1", &mut text);
    print_checked("no tab at all", &mut text);
    print_checked("delivered\tto=1\tcolour=red\tat=1 1\tstatus=2.0.0\ttext=x", &mut text);
    let (progress, damaged) = replayed(text.as_bytes());
    assert_eq!(
        (progress[0].state, progress[1].state, damaged),
        (RecipientState::Pending, RecipientState::Delivered, 0)
    );
}

#[test]
fn long_replies_are_cut_between_characters() {
    let reply = Some("ü".repeat(3000));
    let diagnostic = Diagnostic { reply, ..Diagnostic::local(EnhancedStatus::OK, "") };
    let text = journal(&[record(0, 1, JournalEvent::Attempted(Outcome::Deferred(diagnostic)))]);
    let reply = replayed(text.as_bytes()).0[0].diagnostic.as_ref().unwrap().reply.clone().unwrap();
    assert_eq!(reply, "ü".repeat(VALUE_MAX_OCTETS / 2));
}

fn any_diagnostic() -> impl Strategy<Value = Diagnostic> {
    let status = (0..1000u16, 0..1000u16).prop_map(|(s, d)| EnhancedStatus::new(Class::Permanent, s, d));
    let value = || prop::option::of(any::<String>());
    (status, value(), value(), any::<String>()).prop_map(|(status, remote, reply, text)| Diagnostic {
        status,
        remote,
        reply,
        text,
    })
}

fn any_record() -> impl Strategy<Value = JournalRecord> {
    let event = (0..8, any_diagnostic()).prop_map(|(kind, diagnostic)| match kind {
        0 => JournalEvent::Attempted(Outcome::Delivered(diagnostic)),
        1 => JournalEvent::Attempted(Outcome::Deferred(diagnostic)),
        2 => JournalEvent::Attempted(Outcome::Failed(diagnostic)),
        3 => JournalEvent::Notified,
        4 => JournalEvent::Held,
        5 => JournalEvent::Kept,
        6 => JournalEvent::Waited(diagnostic),
        _ => JournalEvent::Released,
    });
    (prop::collection::vec(any::<usize>(), 1..5), any::<u64>(), any::<u64>(), event).prop_map(
        |(recipients, wall, running, event)| JournalRecord {
            recipients,
            at: Now { wall: WallTime(wall), running: Duration::from_micros(running) },
            event,
        },
    )
}

proptest! {
    #[test]
    fn parse_is_the_inverse_of_print(record in any_record()) {
        let mut line = String::new();
        record.print(&mut line);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let text = parse_checked(line.trim_end_matches('\n').as_bytes()).unwrap();
        prop_assert_eq!(JournalRecord::parse(text), Some(record));
    }

    #[test]
    fn nothing_makes_it_panic(octets: Vec<u8>, text: String) {
        let mut line = String::new();
        print_checked(&text.replace('\n', "\t"), &mut line);
        let _ = (replayed(&octets), replayed(line.as_bytes()), JournalRecord::parse(&text));
    }
}

use super::*;
use crate::mail::date::WallTime;
use proptest::prelude::*;
use std::time::Duration;

fn any_mailbox() -> impl Strategy<Value = Mailbox> {
    let local =
        prop_oneof!["[a-z0-9=+-]{1,20}", "\"[a-z @<>.]{0,20}\"", "\"(\\\\[\"\\\\]){1,3}\"", "[ä-ü]{1,5}"];
    (local, "[a-z0-9]{1,9}\\.[a-z]{2,5}|\\[192\\.0\\.2\\.[1-9]\\]")
        .prop_map(|(local, domain)| Mailbox::parse(&format!("{local}@{domain}")).unwrap())
}

prop_compose! {
    fn any_recipient()(
        mailbox in any_mailbox(),
        orcpt in any::<Option<String>>(),
        notify in prop::option::of(any::<(bool, bool, bool)>()),
        leaves: bool,
    ) -> Recipient {
        let notify = notify.map(|(success, failure, delay)| Notify { success, failure, delay });
        Recipient { mailbox, orcpt, notify, leaves }
    }
}

prop_compose! {
    fn any_description()(
        sender in prop::option::of(any_mailbox()),
        recipients in prop::collection::vec(any_recipient(), 0..5),
        (eight_bit, smtputf8, require_tls, is_own, is_urgent) in any::<(bool, bool, bool, bool, bool)>(),
        ret in prop::option::of(prop::bool::ANY),
        envid in any::<Option<String>>(),
        origin: String,
        (wall, running) in any::<(u64, u64)>(),
        digest in prop::option::of(any::<(u64, u128)>()),
        dated in prop::option::of(any::<(u64, u64)>()),
    ) -> Description {
        Description {
            envelope: Envelope {
                reverse_path: sender.map_or(ReversePath::Null, ReversePath::Mailbox),
                recipients,
                body: if eight_bit { Body::EightBitMime } else { Body::SevenBit },
                smtputf8,
                require_tls,
                is_own,
                is_urgent,
                ret: ret.map(|full| if full { Ret::Full } else { Ret::Headers }),
                envid,
            },
            origin,
            arrival: Now { wall: WallTime(wall), running: Duration::from_micros(running) },
            digest: digest.map(|(until, group)| Collected { until: Duration::from_micros(until), group }),
            dated: dated.map(|(wall, running)| Now { wall: WallTime(wall), running: Duration::from_micros(running) }),
        }
    }
}

/// A whole file without a journal.
fn file(description: &Description, message: &[u8]) -> Vec<u8> {
    let envelope = description.print();
    let header = Header {
        envelope_octets: envelope.len(),
        message_octets: message.len() as u64,
        message_lines: 0,
        envelope_crc: crate::store::crc::hash(envelope.as_bytes()),
        message_crc: crate::store::crc::hash(message),
    };
    [header.print().as_bytes(), envelope.as_bytes(), message].concat()
}

fn description() -> Description {
    let mut envelope = Envelope::new(ReversePath::Null);
    envelope.recipients.push(Recipient::new(Mailbox::parse("bob@example.net").unwrap()));
    let arrival = Now { wall: WallTime(7), running: Duration::from_micros(5) };
    Description { envelope, origin: "[192.0.2.7]".into(), arrival, digest: None, dated: None }
}

#[test]
fn the_file_can_be_read_by_people() {
    let text = String::from_utf8(file(&description(), b"Subject: x\n")).unwrap();
    assert_eq!(
        text,
        "pillarbox-queue 1 0000000058 00000000000000000011 00000000000000000000 aa0c926f 52514d38 4e6e200a\n\
         sender=\narrival=7 5\norigin=[192.0.2.7]\nto=bob@example.net\nSubject: x\n"
    );
}

#[test]
fn each_bit_of_the_first_line_and_the_envelope_counts() {
    let sound = file(&description(), b"");
    assert!(parse_file(&sound).is_ok());
    for bit in 0..sound.len() * 8 {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(parse_file(&flipped).is_err(), "bit {bit}");
    }
    for cut in 0..sound.len() {
        assert!(parse_file(&sound[..cut]).is_err(), "cut {cut}");
    }
}

#[test]
fn the_reason_is_told() {
    let sound = file(&description(), b"text");
    let other_version = [b"pillarbox-queue 2", &sound[17..]].concat();
    assert_eq!(parse_file(&other_version), Err("its format version is not 1"));
    assert_eq!(parse_file(b"MZ"), Err("its first line is damaged"));
    assert_eq!(parse_file(&[0; 4096]), Err("its first line is damaged"));
    assert_eq!(parse_file(&sound[..sound.len() - 1]), Err("its message is truncated"));
    let huge = Header {
        envelope_octets: ENVELOPE_MAX_OCTETS + 1,
        message_octets: u64::MAX,
        message_lines: u64::MAX,
        envelope_crc: 0,
        message_crc: 0,
    };
    assert_eq!(parse_file(huge.print().as_bytes()), Err("its envelope is too long"));
    let huge = Header { envelope_octets: ENVELOPE_MAX_OCTETS, ..huge };
    assert_eq!(parse_file(huge.print().as_bytes()), Err("its envelope is damaged"));
    let huge = Header { envelope_octets: 0, envelope_crc: crate::store::crc::hash(b""), ..huge };
    assert_eq!(parse_file(huge.print().as_bytes()), Err("its envelope is damaged"));
}

#[test]
fn a_message_cut_short_is_found_at_any_size() {
    for size in [1, 7_000, 9_000, 20_000] {
        let sound = file(&description(), &vec![b'x'; size]);
        assert!(parse_file(&sound).is_ok(), "{size}");
        assert_eq!(parse_file(&sound[..sound.len() - 1]), Err("its message is truncated"), "{size}");
    }
}

#[test]
fn a_file_system_that_answers_in_pieces_damages_nothing() {
    let octets = file(&description(), &[b'x'; 20_000]);
    let read_at = |buffer: &mut [u8], offset: u64| {
        let rest = octets.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let size = rest.len().min(buffer.len()).min(7);
        buffer[..size].copy_from_slice(&rest[..size]);
        Ok(size)
    };
    assert_eq!(load(&read_at, octets.len() as u64).unwrap().description, description());
    assert!(matches!(load(&|_, _| Err(io::Error::other("EIO")), 1000), Err(LoadError::Io(_))));
}

proptest! {
    #[test]
    fn parse_is_the_inverse_of_print(description in any_description()) {
        prop_assert_eq!(Description::parse(description.print().as_bytes()), Some(description));
    }

    #[test]
    fn the_file_is_the_same_at_any_size(description in any_description(), size in 0..40_000usize) {
        let octets = file(&description, &vec![b'\n'; size]);
        let count = description.envelope.recipients.len();
        prop_assert_eq!(parse_file(&octets), Ok((description, vec![Progress::default(); count])));
    }

    #[test]
    fn nothing_makes_it_panic(octets: Vec<u8>, envelope: Vec<u8>, message_octets: u64, crc: u32) {
        let _ = parse_file(&octets);
        let header = Header {
            envelope_octets: envelope.len(),
            message_octets,
            message_lines: 0,
            envelope_crc: crate::store::crc::hash(&envelope),
            message_crc: crc,
        };
        prop_assert_eq!(header.print().len(), HEADER_OCTETS);
        let _ = parse_file(&[header.print().as_bytes(), &envelope, &octets].concat());
    }
}

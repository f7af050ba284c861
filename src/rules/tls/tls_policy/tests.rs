use super::dane::Tlsa;
use super::mta_sts::{FetchTime, Kept, Policy, StsMode, find_id};
use super::{TlsPolicy, of_host};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sha::{sha256, sha512};
use openssl::x509::{X509, X509NameBuilder};
use proptest::prelude::*;
use std::time::Duration;

const DAY: u64 = 86_400;

fn id(records: &[&str]) -> Option<String> {
    find_id(&records.iter().map(|record| record.as_bytes().to_vec()).collect::<Vec<_>>())
}

#[test]
fn the_record_is_read_as_rfc_8461_section_3_1_has_it() {
    for record in [
        "v=STSv1; id=20160831085700Z;",
        "v=STSv1;id=20160831085700Z",
        "v=STSv1;\t id=20160831085700Z \t; \tx-1.y_z=!:<>~",
        "v=STSv1; a=b; id=20160831085700Z; id=other",
    ] {
        assert_eq!(id(&[record]).as_deref(), Some("20160831085700Z"), "{record}");
        assert_eq!(id(&["v=spf1 -all", record, "v=STSv2; id=x"]).as_deref(), Some("20160831085700Z"));
        assert_eq!(id(&[record, record]), None, "two of them");
    }
    for record in [
        "",
        "v=STSv1;",
        "v=STSv1",
        "v=STSv1 ; id=a",
        " v=STSv1; id=a",
        "V=STSv1; id=a",
        "v=STSv1; ID=a",
        "v=STSv1; id=",
        "v=STSv1; id=a-b",
        "v=STSv1; id= a",
        "v=STSv1; id=123456789012345678901234567890123",
        "v=STSv1; id=a;;",
        "v=STSv1;; id=a",
        "v=STSv1; id=a; b",
        "v=STSv1; id=a; b=",
        "v=STSv1; id=a; b=c d",
        "v=STSv1; id=a; b=c=d",
        "v=STSv1; id=a; -b=c",
        "v=STSv1; id=a; ",
        "v=STSv1; id=ä",
    ] {
        assert_eq!(id(&[record]), None, "{record:?}");
    }
    assert_eq!(find_id(&[b"v=STSv1; id=a; b=\xff".to_vec()]), None);
}

const POLICY: &str =
    "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.Example.net\nmax_age: 604800\n";

#[test]
fn a_policy_is_read_as_rfc_8461_section_3_2_has_it() {
    let policy = Policy {
        mode: StsMode::Enforce,
        max_age: Duration::from_secs(604_800),
        mx: vec!["mail.example.com".into(), "*.example.net".into()],
    };
    for text in [
        POLICY.to_owned(),
        POLICY.replace('\n', "\r\n"),
        POLICY.replace('\n', " \t\n"),
        POLICY.replace(": ", ":"),
        POLICY.trim_end().to_owned(),
        format!("{POLICY}mode: testing\nmax_age: 1\nX-other.one_2: anything: at all, ü\n"),
    ] {
        assert_eq!(Policy::parse(&text).as_ref(), Some(&policy), "{text:?}");
    }
    for (from, to) in [
        ("version: STSv1\n", ""),
        ("version: STSv1", "version: STSv2"),
        ("version", "Version"),
        ("mode: enforce\n", ""),
        ("enforce", "Enforce"),
        ("enforce", ""),
        ("max_age: 604800\n", ""),
        ("604800", "-1"),
        ("604800", "+1"),
        ("604800", "12345678901"),
        ("604800", "1 week"),
        ("*.Example.net", "*"),
        ("*.Example.net", "*.*.net"),
        ("*.Example.net", "a.*.net"),
        ("*.Example.net", ".example.net"),
        ("*.Example.net", "-a.net"),
        ("*.Example.net", "a_b.net"),
        ("*.Example.net", "example.net."),
        ("mode: enforce\n", "mode: enforce\n\n"),
        ("mode: enforce\n", "mode : enforce\n"),
        ("mode: enforce\n", "mode enforce\n"),
        ("mode: enforce\n", "mode: enforce\nx: \u{7}\n"),
        ("mode: enforce\n", "mode: enforce\nx:\n"),
        ("\nmode", "\n mode"),
        ("604800\n", "604800\n\n"),
    ] {
        let text = POLICY.replace(from, to);
        assert_ne!(text, POLICY);
        assert_eq!(Policy::parse(&text), None, "{text:?}");
    }
    assert_eq!(Policy::parse(""), None);
    assert_eq!(Policy::parse("version: STSv1\nmode: testing\nmax_age: 1\n"), None, "no host");
    let none = Policy::parse("version: STSv1\nmode: none\nmax_age: 9999999999\n").unwrap();
    assert_eq!((none.mode, none.max_age.as_secs()), (StsMode::None, 31_557_600));
}

#[test]
fn a_pattern_names_one_label_more_and_no_others() {
    let policy = Policy::parse(POLICY).unwrap();
    for (host, is_named) in [
        ("mail.example.com", true),
        ("MAIL.example.com.", true),
        ("a.example.net", true),
        ("example.net", false),
        ("a.b.example.net", false),
        ("xexample.net", false),
        ("other.example.com", false),
        ("", false),
    ] {
        assert_eq!(policy.names(host), is_named, "{host}");
    }
}

#[test]
fn a_kept_policy_ends_in_its_time_and_is_refreshed_before() {
    // A wall clock that goes and a running clock that stands, as while the host is off; and the other way round.
    let at = |wall, running| FetchTime { wall, running };
    let kept = Kept::parse(&Kept::print("a1", at(1_000_000, 500), POLICY)).unwrap();
    assert_eq!((kept.id.as_str(), kept.fetched), ("a1", at(1_000_000, 500)));
    for (age, holds, wants_refresh) in [
        (0, true, false),
        (DAY as i64 - 1, true, false),
        (DAY as i64, true, true),
        (604_799, true, true),
        (604_800, false, true),
        // A clock that was set back expires nothing.
        (-5, true, true),
    ] {
        let now = at(1_000_000_u64.checked_add_signed(age).unwrap(), 500);
        assert_eq!((kept.holds(now), kept.wants_refresh(now)), (holds, wants_refresh), "{age}");
        let Some(running) = u64::try_from(age).ok() else { continue };
        for wall in [1_000_000, 999_000] {
            let now = at(wall, 500 + running);
            let is_set_back = wall < 1_000_000;
            let expected = (holds, wants_refresh || is_set_back);
            assert_eq!((kept.holds(now), kept.wants_refresh(now)), expected, "{age} by the running clock");
        }
    }
    // Running time that is unknown or was lost ends nothing.
    let old = Kept::parse(&format!("mta-sts 1 a1 1000000\n{POLICY}")).unwrap();
    assert!(old.holds(at(1_000_000, 9_999_999)) && !old.holds(at(1_604_800, 0)));
    assert!(kept.holds(at(1_000_000, 0)));
    let brief = Kept::parse(&Kept::print("a1", at(0, 0), &POLICY.replace("604800", "600"))).unwrap();
    assert!(!brief.wants_refresh(at(299, 0)) && brief.wants_refresh(at(300, 0)));
    for text in [
        "",
        "mta-sts 1 a 1",
        "mta-sts 2 a 1\n",
        "mta-sts 1 a x\n",
        "mta-sts 1 a 1 x\n",
        "mta-sts 1 - 1\n",
        "mta-sts 1 a 1\nx",
    ] {
        assert_eq!(Kept::parse(text), None, "{text:?}");
        let text = format!("{text}{POLICY}");
        assert!(!text.contains("\nversion") || Kept::parse(&text).is_none(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read(
        id in "[A-Za-z0-9]{1,32}",
        mode in prop_oneof![Just(("enforce", StsMode::Enforce)), Just(("testing", StsMode::Testing)), Just(("none", StsMode::None))],
        seconds in 0_u64..=31_557_600,
        mx in prop::collection::vec("(\\*\\.)?[a-z0-9]{1,9}(\\.[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?){0,4}", 1..5),
        end in "(\r?\n)?",
        blank in "[ \t]{0,3}",
    ) {
        let hosts: String = mx.iter().map(|mx| format!("mx:{blank}{mx}{blank}\r\n")).collect();
        let text = format!("{hosts}mode:{blank}{}\nmax_age:{seconds}\nversion:{blank}STSv1{end}", mode.0);
        let policy = Policy { mode: mode.1, max_age: Duration::from_secs(seconds), mx };
        prop_assert_eq!(Policy::parse(&text), Some(policy.clone()));
        let fetched = FetchTime { wall: seconds, running: seconds / 2 };
        let kept = Kept::parse(&Kept::print(&id, fetched, &text));
        prop_assert_eq!(kept, Some(Kept { id: id.clone(), fetched, policy }));
        let record = format!("v=STSv1;{blank}id={id}{blank};{blank}x=y");
        prop_assert_eq!(find_id(&[record.into_bytes()]), Some(id));
    }

    #[test]
    fn no_text_breaks_the_readers(text in "(version|mode|max_age|mx|[a-z])?:? ?(STSv1|[0-9*.a-z-]*)(\n|\r|;|=)?.{0,40}", octets in any::<Vec<u8>>()) {
        if let Some(policy) = Policy::parse(&text) {
            prop_assert!(policy.mode == StsMode::None || !policy.mx.is_empty());
        }
        let _ = (Kept::parse(&text), find_id(&[text.into_bytes()]), find_id(std::slice::from_ref(&octets)));
        if let Some(record) = Tlsa::parse(&octets) {
            prop_assert!(!record.matches(&octets) || record.is_usable());
        }
        let spki = Tlsa::parse(&[&[3, 1, 1], [0; 32].as_slice()].concat()).unwrap();
        prop_assert!(!spki.matches(&octets));
    }
}

/// A certificate, with a serial number and a subject of these lengths.
fn certificate(key: &PKey<Private>, version: i32, subject: &str) -> X509 {
    let mut name = X509NameBuilder::new().unwrap();
    for part in subject.split(' ') {
        name.append_entry_by_text("OU", part).unwrap();
    }
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(version).unwrap();
    builder.set_serial_number(&BigNum::from_u32(77).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    // Expired since 1970.
    builder.set_not_before(&Asn1Time::from_str_x509("19700101000000Z").unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_str_x509("19700101000001Z").unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build()
}

fn tlsa(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
    Tlsa::parse(&[&[usage, selector, matching], data].concat()).unwrap()
}

#[test]
fn a_record_is_for_its_certificate_alone() {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let other = PKey::ec_gen("prime256v1").unwrap();
    for (version, subject) in [(0, "a"), (2, "mx"), (2, ["x"; 40].join(" ").as_str())] {
        let der = certificate(&key, version, subject).to_der().unwrap();
        let foreign = certificate(&other, version, subject).to_der().unwrap();
        let spki = key.public_key_to_der().unwrap();
        for record in [
            tlsa(3, 0, 0, &der),
            tlsa(3, 0, 1, &sha256(&der)),
            tlsa(3, 0, 2, &sha512(&der)),
            tlsa(3, 1, 0, &spki),
            tlsa(3, 1, 1, &sha256(&spki)),
            tlsa(3, 1, 2, &sha512(&spki)),
        ] {
            assert!(record.is_usable() && record.matches(&der), "{record:?}");
            assert!(!record.matches(&foreign), "{record:?}");
            for cut in [0, 1, 2, 3, 10, der.len() / 2] {
                assert!(!record.matches(&der[..cut]), "{record:?}");
            }
        }
        for record in [tlsa(2, 1, 1, &sha256(&spki)), tlsa(1, 1, 1, &sha256(&spki)), tlsa(0, 0, 0, &der)] {
            assert!(!record.is_usable() && !record.matches(&der), "{record:?}");
        }
    }
    for (usage, selector, matching, length) in
        [(3, 2, 1, 32), (3, 1, 3, 32), (3, 1, 1, 31), (3, 1, 2, 32), (3, 0, 0, 0), (255, 255, 255, 0)]
    {
        let record = tlsa(usage, selector, matching, &vec![0; length]);
        assert!(!record.is_usable(), "{record:?}");
    }
    assert_eq!(Tlsa::parse(&[3, 1]), None);
}

#[test]
fn dane_goes_before_mta_sts_and_both_before_nothing() {
    let usable = || Some(vec![tlsa(2, 0, 1, &[0; 32]), tlsa(3, 1, 1, &[0; 32])]);
    let unusable = || Some(vec![tlsa(2, 0, 1, &[0; 32])]);
    let policy = |mode| Policy { mode, max_age: Duration::ZERO, mx: vec!["mx.a".into()] };
    let (enforce, testing, none) =
        (policy(StsMode::Enforce), policy(StsMode::Testing), policy(StsMode::None));
    let dane = || Ok(TlsPolicy::Dane(usable().unwrap()));
    for (tlsa, sts, named, other) in [
        (None, None, Ok(TlsPolicy::None), Some(TlsPolicy::None)),
        (None, Some(&none), Ok(TlsPolicy::None), Some(TlsPolicy::None)),
        (None, Some(&testing), Ok(TlsPolicy::StsTesting), None),
        (None, Some(&enforce), Ok(TlsPolicy::Sts), None),
        (unusable(), None, Ok(TlsPolicy::Encrypted), Some(TlsPolicy::Encrypted)),
        (unusable(), Some(&none), Ok(TlsPolicy::Encrypted), Some(TlsPolicy::Encrypted)),
        (unusable(), Some(&testing), Ok(TlsPolicy::Encrypted), None),
        (unusable(), Some(&enforce), Ok(TlsPolicy::Sts), None),
        (usable(), None, dane(), dane().ok()),
        (usable(), Some(&enforce), dane(), dane().ok()),
        (Some(vec![]), None, Ok(TlsPolicy::Encrypted), Some(TlsPolicy::Encrypted)),
    ] {
        assert_eq!(of_host("mx.a", tlsa.clone(), sts), named, "{tlsa:?} {sts:?}");
        assert_eq!(of_host("mx.b", tlsa.clone(), sts).ok(), other, "{tlsa:?} {sts:?}");
    }
}

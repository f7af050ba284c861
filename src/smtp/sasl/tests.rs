use super::*;
use proptest::prelude::*;

/// Plays an exchange: the argument of AUTH, then the client's lines (`\0` and other escapes as in Rust; the text
/// after `b64:` is encoded first). Returns the server's lines, and the result.
fn play(argument: &str, lines: &[&str]) -> Vec<String> {
    let octets = |text: &str| match text.strip_prefix("b64:") {
        Some(plain) => base64::encode(plain.as_bytes()).into_bytes(),
        None => text.as_bytes().to_vec(),
    };
    let (mechanism, initial) = argument.split_once(' ').map_or((argument, None), |(m, i)| (m, Some(i)));
    let mut step =
        ServerExchange::begin(ServerMechanism::parse(mechanism).unwrap(), initial.map(octets).as_deref());
    let (mut said, mut lines) = (Vec::new(), lines.iter());
    loop {
        match step {
            ExchangeStep::Challenge(reply, exchange) => {
                said.push(reply.to_string());
                let Some(line) = lines.next() else { return said };
                step = exchange.line(&Line::Text(&octets(line)));
            }
            ExchangeStep::Done(c) => {
                let password = std::str::from_utf8(c.password.octets()).unwrap();
                said.push(format!("{} / {password}", c.name));
                break;
            }
            ExchangeStep::Malformed(reply, _) | ExchangeStep::Failed(reply) => {
                said.push(reply.to_string());
                break;
            }
        }
    }
    assert_eq!(lines.next(), None, "lines are left");
    said
}

const MALFORMED: &str = "501 5.5.2 malformed name or password";
const NO_BASE64: &str = "501 5.5.2 invalid base64";
const CANCELLED: &str = "501 5.7.0 authentication cancelled";
const NAME: &str = "334 VXNlcm5hbWU6";
const PASSWORD: &str = "334 UGFzc3dvcmQ6";

#[test]
fn plain() {
    for (argument, lines, expected) in [
        // RFC 4954 §4.1 and RFC 4616 §4.
        ("PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", &[][..], &["tim / tanstaaftanstaaf"][..]),
        ("PLAIN dGVzdAB0ZXN0ADEyMzQ=", &[], &["test / 1234"]),
        ("plain", &["AHRpbQB0YW5zdGFhZnRhbnN0YWFm"], &["334", "tim / tanstaaftanstaaf"]),
        ("PLAIN", &["b64:\0ü@b\0pä ss"], &["334", "ü@b / pä ss"]),
        ("PLAIN =", &[], &[MALFORMED]),
        ("PLAIN", &[""], &["334", MALFORMED]),
        ("PLAIN", &["="], &["334", NO_BASE64]),
        ("PLAIN *", &[], &[NO_BASE64]),
        ("PLAIN", &["*"], &["334", CANCELLED]),
        ("PLAIN", &["**"], &["334", NO_BASE64]),
        ("PLAIN", &["AHRpbQ"], &["334", NO_BASE64]),
        // Another authorization identity; too few, too many and empty parts.
        ("PLAIN b64:root\0tim\0x", &[], &[MALFORMED]),
        ("PLAIN b64:tim\0x", &[], &[MALFORMED]),
        ("PLAIN b64:tim", &[], &[MALFORMED]),
        ("PLAIN b64:\0tim\0x\0", &[], &[MALFORMED]),
        ("PLAIN b64:\0tim\0x\0y", &[], &[MALFORMED]),
        ("PLAIN b64:\0tim\0", &[], &[MALFORMED]),
        ("PLAIN b64:\0\0x", &[], &[MALFORMED]),
        ("PLAIN b64:\0\0", &[], &[MALFORMED]),
        // Latin-1: octets 00 fc 00 78.
        ("PLAIN APwAeA==", &[], &[MALFORMED]),
    ] {
        assert_eq!(play(argument, lines), expected, "{argument} {lines:?}");
    }
}

#[test]
fn login() {
    for (argument, lines, expected) in [
        ("LOGIN", &["b64:tim", "b64:secret"][..], &[NAME, PASSWORD, "tim / secret"][..]),
        ("login b64:tim", &["b64:secret"], &[PASSWORD, "tim / secret"]),
        ("LOGIN", &["*"], &[NAME, CANCELLED]),
        ("LOGIN b64:tim", &["*"], &[PASSWORD, CANCELLED]),
        ("LOGIN", &["b64:tim", "tim"], &[NAME, PASSWORD, NO_BASE64]),
        ("LOGIN", &["?"], &[NAME, NO_BASE64]),
        ("LOGIN", &["b64:tim", ""], &[NAME, PASSWORD, MALFORMED]),
        ("LOGIN =", &["b64:secret"], &[PASSWORD, MALFORMED]),
        ("LOGIN b64:t\0m", &["b64:secret"], &[PASSWORD, MALFORMED]),
        ("LOGIN b64:tim", &["b64:sec\0ret"], &[PASSWORD, MALFORMED]),
    ] {
        assert_eq!(play(argument, lines), expected, "{argument} {lines:?}");
    }
}

#[test]
fn what_is_no_line_ends_the_exchange() {
    for (line, expected) in [(Line::Malformed, MALFORMED), (Line::TooLong, "500 5.5.6 line too long")] {
        for mechanism in ServerMechanism::ALL {
            let ExchangeStep::Challenge(_, exchange) = ServerExchange::begin(mechanism, None) else {
                panic!()
            };
            let (ExchangeStep::Malformed(reply, _) | ExchangeStep::Failed(reply)) = exchange.line(&line)
            else {
                panic!()
            };
            assert_eq!(reply.to_string(), expected);
        }
    }
    assert_eq!(accepted().to_string(), "235 2.7.0 authentication succeeded");
    assert_eq!(refused().to_string(), "535 5.7.8 wrong name or password");
    assert_eq!(ServerMechanism::parse("CRAM-MD5"), None);
}

#[test]
fn lengths_end_at_255_octets() {
    for (octets, fits) in [(254, true), (255, true), (256, false)] {
        let long = "x".repeat(octets);
        assert_eq!(Credentials::new(long.as_bytes(), b"x").is_some(), fits, "{octets}");
        assert_eq!(Credentials::new(b"x", long.as_bytes()).is_some(), fits, "{octets}");
        let with_all = format!("b64:{long}\0{long}\0{long}");
        assert_eq!(play(&format!("PLAIN {with_all}"), &[]) != [MALFORMED], fits);
        // An AUTH line has room for the longest credentials.
        assert!("AUTH PLAIN \r\n".len() + with_all.len().div_ceil(3) * 4 < 12288);
    }
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials::new(b"tim", b"hunter2").unwrap();
    assert_eq!(format!("{credentials:?}"), "Credentials { name: \"tim\", password: Secret }");
    let step = ServerExchange::begin(ServerMechanism::Login, Some(b"aHVudGVyMg=="));
    assert!(!format!("{step:?}").contains("unter"), "{step:?}");
}

proptest! {
    #[test]
    fn the_server_reads_what_the_client_prints(name in "[^\0]{1,63}", password in "[^\0]{1,63}") {
        let credentials = Credentials::new(name.as_bytes(), password.as_bytes()).unwrap();
        let response = credentials.to_plain_response();
        for with_initial in [true, false] {
            let mut step = ServerExchange::begin(ServerMechanism::Plain, with_initial.then_some(response.octets()));
            if let ExchangeStep::Challenge(_, exchange) = step {
                step = exchange.line(&Line::Text(response.octets()));
            }
            let ExchangeStep::Done(read) = step else { panic!("{step:?}") };
            prop_assert_eq!(&read, &credentials);
        }
    }

    #[test]
    fn no_lines_make_it_panic_or_go_on_for_ever(
        is_login: bool,
        lines in proptest::collection::vec((any::<bool>(), any::<Vec<u8>>()), 4),
    ) {
        let mechanism = if is_login { ServerMechanism::Login } else { ServerMechanism::Plain };
        let mut step = ServerExchange::begin(mechanism, None);
        for (i, (encode, octets)) in lines.into_iter().enumerate() {
            let line = if encode { base64::encode(&octets).into_bytes() } else { octets };
            step = match step {
                ExchangeStep::Challenge(reply, exchange) => {
                    prop_assert!(reply.code == 334 && i < 2);
                    exchange.line(&Line::Text(&line))
                }
                ExchangeStep::Done(c) => {
                    prop_assert!(!c.name.is_empty() && c.name.len() <= CREDENTIAL_MAX_OCTETS);
                    prop_assert!(!c.password.octets().contains(&0));
                    return Ok(());
                }
                ExchangeStep::Malformed(reply, _) | ExchangeStep::Failed(reply) => {
                    prop_assert!(reply.code == 501);
                    return Ok(());
                }
            };
        }
        prop_assert!(false, "it goes on");
    }
}

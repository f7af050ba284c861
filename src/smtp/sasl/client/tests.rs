use super::*;
use crate::smtp::line::Line;
use crate::smtp::sasl::{self, ExchangeStep};
use openssl::sha::sha256;
use proptest::prelude::*;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const EXPORTER: ChannelBinding<'_> = ChannelBinding { name: "tls-exporter", octets: b"\x01\x02\xff" };
const ALL: [&str; 8] = [
    "LOGIN",
    "PLAIN",
    "CRAM-MD5",
    "scram-sha-256",
    "SCRAM-SHA-256-PLUS",
    "XOAUTH2",
    "OAUTHBEARER",
    "external",
];
const WITHOUT_PLUS: [&str; 1] = ["SCRAM-SHA-256"];

fn client(channel: Option<ChannelBinding<'static>>) -> Client<'static> {
    Client {
        offered: &ALL,
        wanted: "auto",
        is_private: true,
        channel,
        has_certificate: false,
        has_password: true,
    }
}

/// Begins an exchange, and returns the command as text.
fn start(
    client: &Client<'_>,
    mechanism: ClientMechanism,
    name: &str,
    password: &str,
) -> (ClientExchange, String) {
    let password = Secret::new(password.into());
    let account = LoginAccount { name, password: Some(&password), host: "server.example.com", port: 587 };
    let (exchange, command) = client.start(mechanism, &account, NONCE).unwrap();
    (exchange, text(&command))
}

fn text(secret: &Secret) -> String {
    String::from_utf8(secret.octets().to_vec()).unwrap()
}

/// The answer to a challenge; both without their base64.
fn answer(exchange: &mut ClientExchange, challenge: &str) -> Result<String, Failed> {
    let line = exchange.answer(base64::encode(challenge.as_bytes()).as_bytes())?;
    Ok(String::from_utf8(base64::decode(line.octets()).unwrap()).unwrap())
}

/// The initial response of a command, without its base64.
fn response(command: &str) -> String {
    let (_, response) = command.rsplit_once(' ').unwrap();
    String::from_utf8(base64::decode(response.as_bytes()).unwrap()).unwrap()
}

#[test]
fn the_strongest_mechanism_is_taken_and_after_a_refusal_the_next() {
    let mut refused = Vec::new();
    while let Some(mechanism) = client(Some(EXPORTER)).choose(&refused) {
        refused.push(mechanism);
    }
    assert_eq!(refused, [ScramSha256Plus, ScramSha256, CramMd5, Plain, Login], "without a certificate");
    assert_eq!(client(None).choose(&[]), Some(ScramSha256), "no channel is known");
    for (word, choice) in CHOICES {
        let client = |is_private| Client { wanted: word, is_private, ..client(Some(EXPORTER)) };
        let first = choice.iter().find(|it| word != "auto" || **it != External);
        assert_eq!(client(true).choose(&[]), first.copied(), "{word}");
        assert_eq!(client(true).choose(choice), None, "{word}");
        assert_eq!(client(false).choose(&[]), None, "{word}: somebody listens");
        assert_eq!(Client { offered: &[], ..client(true) }.choose(&[]), None, "{word}: not offered");
    }
    assert_eq!(Client { wanted: "xoauth", ..client(None) }.choose(&[]), None);
}

#[test]
fn plain_and_login() {
    // RFC 4954 §4.1 and RFC 4616 §4.
    let (mut exchange, command) = start(&client(None), Plain, "tim", "tanstaaftanstaaf");
    assert_eq!(command, "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
    assert_eq!(exchange.success("2.7.0 ok"), Ok(()));
    assert_eq!(answer(&mut exchange, ""), Err(TOO_MUCH));

    let (mut exchange, command) = start(&client(None), Login, "tim", "secret");
    assert_eq!((command.as_str(), exchange.success("ok")), ("AUTH LOGIN", Err(TOO_EARLY)));
    assert_eq!(answer(&mut exchange, "Username:").unwrap(), "tim");
    assert_eq!(exchange.success("ok"), Err(TOO_EARLY));
    // Not all servers encode their prompts.
    assert_eq!(text(&exchange.answer(b"Password:").unwrap()), base64::encode(b"secret"));
    assert_eq!(exchange.success("ok"), Ok(()));
    assert_eq!(answer(&mut exchange, "Password:"), Err(TOO_MUCH));
}

#[test]
fn external_names_the_account_or_leaves_it_to_the_certificate() {
    // RFC 4422 appendix A.2 in the form of RFC 4954 §4.
    for (name, expected) in
        [("", "AUTH EXTERNAL ="), ("fred@example.com", "AUTH EXTERNAL ZnJlZEBleGFtcGxlLmNvbQ==")]
    {
        let account = LoginAccount { name, password: None, host: "h", port: 25 };
        let (mut exchange, command) = client(None).start(External, &account, NONCE).unwrap();
        assert_eq!((text(&command).as_str(), exchange.success("ok")), (expected, Ok(())));
        assert_eq!(answer(&mut exchange, ""), Err(TOO_MUCH));
    }
    let no_name = LoginAccount { name: "", password: None, host: "h", port: 25 };
    for mechanism in [Plain, Login, CramMd5, ScramSha256, XOauth2, OauthBearer] {
        assert!(client(None).start(mechanism, &no_name, NONCE).is_err(), "{mechanism:?}");
    }
}

#[test]
fn external_comes_first_where_there_is_a_certificate() {
    let with = Client { has_certificate: true, ..client(Some(EXPORTER)) };
    assert_eq!(with.choose(&[]), Some(External));
    assert_eq!(with.choose(&[External]), Some(ScramSha256Plus), "refused: the password is next");
    assert_eq!(Client { offered: &WITHOUT_PLUS, ..with }.choose(&[]), Some(ScramSha256), "not offered");
    assert_eq!(Client { is_private: false, ..with }.choose(&[]), None);
    let alone = Client { has_password: false, ..with };
    assert_eq!((alone.choose(&[]), alone.choose(&[External])), (Some(External), None));
    assert_eq!(Client { has_certificate: false, ..alone }.choose(&[]), None);
    // By another layer than TLS, such as IPsec: the operator asks for it.
    let asked = Client { wanted: "external", has_certificate: false, ..alone };
    assert_eq!(asked.choose(&[]), Some(External));
}

#[test]
fn an_initial_response_that_is_too_long_waits_for_a_challenge() {
    // The command has 13 octets besides, and 372 octets take 496 in base64.
    for (octets, fits) in [(1, true), (369, true), (370, false), (2000, false)] {
        let password = "x".repeat(octets);
        let (mut exchange, command) = start(&client(None), Plain, "t", &password);
        let expected = format!("\0t\0{password}");
        if fits {
            assert!(command.len() + 2 <= 512);
            assert_eq!(response(&command), expected, "{octets}");
        } else {
            assert_eq!((command.as_str(), exchange.success("ok")), ("AUTH PLAIN", Err(TOO_EARLY)));
            assert_eq!(answer(&mut exchange, "").unwrap(), expected);
        }
        assert_eq!(exchange.success("ok"), Ok(()));
    }
}

/// RFC 2195 §2.
#[test]
fn cram_md5() {
    let (mut exchange, command) = start(&client(None), CramMd5, "tim", "tanstaaftanstaaf");
    assert_eq!((command.as_str(), exchange.success("ok")), ("AUTH CRAM-MD5", Err(TOO_EARLY)));
    let line = exchange.answer(b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+").unwrap();
    assert_eq!(text(&line), "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw");
    assert_eq!(exchange.success("ok"), Ok(()));
    let (mut exchange, _) = start(&client(None), CramMd5, "tim", "x");
    assert_eq!(exchange.answer(b"<no base64>").unwrap_err(), MALFORMED);
}

#[test]
fn tokens() {
    // RFC 7628 §4.2, without the line breaks.
    let token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
    let (mut exchange, command) = start(&client(None), OauthBearer, "user@example.com", token);
    assert_eq!(
        command,
        "AUTH OAUTHBEARER bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    );
    assert_eq!(exchange.success("ok"), Ok(()));
    let (_, command) = start(&client(None), OauthBearer, "a,b=c", token);
    assert!(response(&command).starts_with("n,a=a=2Cb=3Dc,\x01"));
    // §4.3: the error is answered by ^A; afterwards no reply is a success.
    let error = r#"{"status":"invalid_token","scope":"example_scope"}"#;
    assert_eq!(answer(&mut exchange, error).unwrap(), "\x01");
    assert_eq!((exchange.success("ok"), answer(&mut exchange, "")), (Err(TOO_EARLY), Err(TOO_MUCH)));

    let (mut exchange, command) =
        start(&client(None), XOauth2, "someuser@example.com", "vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg");
    assert_eq!(
        command,
        "AUTH XOAUTH2 dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB2RjlkZnQ0cW1UYzJOdmIzUmxja0JoZEhSaGRtbHpkR0V1WTI5dENnAQE="
    );
    assert_eq!(exchange.success("ok"), Ok(()));
    assert_eq!((answer(&mut exchange, error).unwrap(), exchange.success("ok")), ("".into(), Err(TOO_EARLY)));
}

const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// RFC 7677 §3, up to the client's proof.
fn proven() -> ClientExchange {
    let (mut exchange, command) = start(&client(None), ScramSha256, "user", "pencil");
    assert_eq!(response(&command), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    assert_eq!(answer(&mut exchange, SERVER_FIRST).unwrap(), CLIENT_FINAL);
    exchange
}

#[test]
fn scram_believes_who_proves_that_it_knows_the_password() {
    let mut exchange = proven();
    assert_eq!(answer(&mut exchange, SERVER_FINAL).unwrap(), "");
    assert_eq!((exchange.success("ok"), answer(&mut exchange, "")), (Ok(()), Err(TOO_MUCH)));
    // The proof stands in the text of the 235.
    let text = |message: &str| format!("2.7.0 {} welcome", base64::encode(message.as_bytes()));
    assert_eq!(proven().success(&text(SERVER_FINAL)), Ok(()));
    assert_eq!(proven().success(&text(&format!("{SERVER_FINAL},x=y"))), Ok(()));

    for message in
        ["", "v=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=", "6rriTRBi", "v=6rriTRBi", "V=", "x=y"]
    {
        let mut exchange = proven();
        assert_eq!(answer(&mut exchange, message), Err(FALSE), "{message}");
        assert_eq!(exchange.success(&text(SERVER_FINAL)), Err(TOO_EARLY), "{message}");
        assert_eq!(proven().success(&text(message)), Err(FALSE), "{message}");
    }
    for text in ["", "2.7.0 authentication succeeded", SERVER_FINAL] {
        assert_eq!(proven().success(text), Err(FALSE), "{text}");
    }
    let (exchange, _) = start(&client(None), ScramSha256, "user", "pencil");
    assert_eq!(exchange.success(&text(SERVER_FINAL)), Err(TOO_EARLY));

    // A refusal within the exchange: 535 follows, and no other reply is believed.
    let mut exchange = proven();
    assert_eq!(answer(&mut exchange, "e=invalid-proof").unwrap(), "");
    assert_eq!(
        (exchange.success(&text(SERVER_FINAL)), answer(&mut exchange, "")),
        (Err(TOO_EARLY), Err(TOO_MUCH))
    );
}

#[test]
fn scram_takes_no_challenge_that_was_tampered_with() {
    let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
    for (challenge, expected) in [
        (format!("r={NONCE}x,{salt},i=4095"), ROUNDS),
        (format!("r={NONCE}x,{salt},i=1"), ROUNDS),
        (format!("r={NONCE}x,{salt},i=1000001"), ROUNDS),
        (format!("r={NONCE}x,{salt},i=99999999999999999999999"), MALFORMED),
        (format!("r={NONCE}x,{salt},i=-4096"), MALFORMED),
        (format!("r={NONCE}x,{salt},i="), MALFORMED),
        (format!("r={NONCE}x,{salt}"), MALFORMED),
        (format!("r={NONCE}x,s=?,i=4096"), MALFORMED),
        (format!("r={NONCE}x,i=4096"), MALFORMED),
        (format!("{salt},i=4096"), MALFORMED),
        (format!("m=x,r={NONCE}x,{salt},i=4096"), MALFORMED),
        (format!("r={NONCE},{salt},i=4096"), NOT_OURS),
        (format!("r=x{NONCE},{salt},i=4096"), NOT_OURS),
        (format!("r=,{salt},i=4096"), NOT_OURS),
        (String::new(), MALFORMED),
        ("e=other-error".into(), MALFORMED),
    ] {
        let (mut exchange, _) = start(&client(None), ScramSha256, "user", "pencil");
        assert_eq!(answer(&mut exchange, &challenge), Err(expected), "{challenge}");
        assert_eq!(exchange.success("ok"), Err(TOO_EARLY), "{challenge}");
    }
    // Optional extensions are skipped, and are part of what is proven.
    let (mut exchange, _) = start(&client(None), ScramSha256, "user", "pencil");
    let with = answer(&mut exchange, &format!("{SERVER_FIRST},x=y")).unwrap();
    assert!(with.starts_with("c=biws,r=rOpr") && with != CLIENT_FINAL, "{with}");
    for octets in [&b"?"[..], b"/w=="] {
        let (mut exchange, _) = start(&client(None), ScramSha256, "user", "pencil");
        assert_eq!(exchange.answer(octets).unwrap_err(), MALFORMED);
    }
}

#[test]
fn what_can_not_be_sent_is_not() {
    for (name, password) in
        [("", "x"), ("x", ""), ("a\0b", "x"), ("x", "a\nb"), ("x", "a\x01b"), ("a\rb", "x")]
    {
        let password = Secret::new(password.into());
        let account = LoginAccount { name, password: Some(&password), host: "h", port: 25 };
        for mechanism in CHOICES.iter().flat_map(|(_, choice)| *choice) {
            if *mechanism == External && (name.is_empty() || password.octets().is_empty()) {
                continue;
            }
            let failed = client(Some(EXPORTER)).start(*mechanism, &account, NONCE).map(drop);
            assert_eq!(failed, Err(UNFIT), "{mechanism:?} {name:?}");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    for mechanism in CHOICES.iter().flat_map(|(_, choice)| *choice) {
        let (exchange, _) = start(&client(Some(EXPORTER)), *mechanism, "tim", "hunter2");
        let shown = format!("{exchange:?}");
        assert!(!shown.contains("unter") && !shown.contains("dW50ZX"), "{shown}");
    }
}

/// A server of SCRAM by RFC 5802 §3, written independently of the client. Returns the name that the client claims,
/// and the server's final message; panics if the proof is wrong.
fn scram_server(
    exchange: &mut ClientExchange,
    client_first: &str,
    password: &str,
    salt: &[u8],
    rounds: usize,
    binding: &[u8],
) -> (String, String) {
    let mac = |key: &[u8], text: &[u8]| -> Vec<u8> {
        let key = PKey::hmac(key).unwrap();
        Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(text).unwrap()
    };
    let mut parts = client_first.splitn(3, ',');
    let gs2_header = format!("{},{},", parts.next().unwrap(), parts.next().unwrap());
    let bare = parts.next().unwrap();
    let (name, nonce) = bare.strip_prefix("n=").unwrap().split_once(",r=").unwrap();
    let server_first = format!("r={nonce}+more,s={},i={rounds}", base64::encode(salt));
    let client_final = answer(exchange, &server_first).unwrap();
    let (unproven, proof) = client_final.rsplit_once(",p=").unwrap();
    let channel = base64::encode(&[gs2_header.as_bytes(), binding].concat());
    assert_eq!(unproven, format!("c={channel},r={nonce}+more"));
    // Hi() of RFC 5802 §2.2.
    let mut block = mac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
    let mut salted = block.clone();
    for _ in 1..rounds {
        block = mac(password.as_bytes(), &block);
        salted.iter_mut().zip(&block).for_each(|(octet, other)| *octet ^= other);
    }
    let auth_message = format!("{bare},{server_first},{unproven}");
    let stored_key = sha256(&mac(&salted, b"Client Key"));
    let signature = mac(&stored_key, auth_message.as_bytes());
    let proof = base64::decode(proof.as_bytes()).unwrap();
    let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(octet, other)| octet ^ other).collect();
    assert_eq!(sha256(&client_key), stored_key, "the proof is wrong");
    let server_final =
        format!("v={}", base64::encode(&mac(&mac(&salted, b"Server Key"), auth_message.as_bytes())));
    let name = name.replace("=2C", ",").replace("=3D", "=");
    (name, server_final)
}

#[test]
fn the_channel_is_bound_where_both_can() {
    let plain = Client { offered: &WITHOUT_PLUS, ..client(Some(EXPORTER)) };
    for (client, mechanism, header, binding) in [
        (client(Some(EXPORTER)), ScramSha256Plus, "p=tls-exporter,,", EXPORTER.octets),
        // Offered and refused: the server detects it.
        (client(Some(EXPORTER)), ScramSha256, "n,,", b""),
        (plain, ScramSha256, "y,,", b""),
        (Client { channel: None, ..plain }, ScramSha256, "n,,", b""),
    ] {
        let (mut exchange, command) = start(&client, mechanism, "tim", "secret");
        let first = response(&command);
        assert_eq!(first, format!("{header}n=tim,r={NONCE}"));
        let (_, server_final) = scram_server(&mut exchange, &first, "secret", b"salt", 4096, binding);
        assert_eq!(answer(&mut exchange, &server_final).unwrap(), "");
        assert_eq!(exchange.success("ok"), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn scram_logs_in_whatever_the_name(
        name in "[ -~ä€]{1,30}|[=,]{1,5}",
        password in "[ -~ä€]{1,100}",
        salt in proptest::collection::vec(any::<u8>(), 1..40),
        rounds in 4096..4200_usize,
    ) {
        let (mut exchange, command) = start(&client(None), ScramSha256, &name, &password);
        let first = response(&command);
        let (claimed, server_final) = scram_server(&mut exchange, &first, &password, &salt, rounds, b"");
        prop_assert_eq!(claimed, name);
        prop_assert_eq!(answer(&mut exchange, &server_final), Ok(String::new()));
        prop_assert_eq!(exchange.success("ok"), Ok(()));
    }
}

proptest! {
    #[test]
    fn our_server_reads_what_our_client_says(name in "[ -~ä€]{1,60}", password in "[ -~ä€]{1,60}") {
        for (mechanism, ours) in [(Plain, sasl::ServerMechanism::Plain), (Login, sasl::ServerMechanism::Login)] {
            let (mut exchange, command) = start(&client(None), mechanism, &name, &password);
            let initial = command.split(' ').nth(2).map(str::as_bytes);
            let mut step = sasl::ServerExchange::begin(ours, initial);
            let credentials = loop {
                step = match step {
                    ExchangeStep::Challenge(reply, server) => {
                        let line = exchange.answer(reply.lines[0].as_bytes()).unwrap();
                        server.line(&Line::Text(line.octets()))
                    }
                    ExchangeStep::Done(credentials) => break credentials,
                    ExchangeStep::Malformed(reply, _) | ExchangeStep::Failed(reply) => panic!("{reply}"),
                };
            };
            prop_assert_eq!((&credentials.name, credentials.password.octets()), (&name, password.as_bytes()));
            prop_assert_eq!(exchange.success("ok"), Ok(()));
        }
    }

    #[test]
    fn no_challenges_make_it_panic_or_believe(challenges in proptest::collection::vec("[rsiv=,0-9a-z]{0,30}", 4)) {
        for mechanism in [ScramSha256, CramMd5, Login, Plain, OauthBearer] {
            let (mut exchange, _) = start(&client(None), mechanism, "tim", "secret");
            let answers = challenges.iter().take_while(|challenge| answer(&mut exchange, challenge).is_ok()).count();
            prop_assert!(answers <= 2, "it goes on");
            prop_assert!(mechanism != ScramSha256 || exchange.success("ok").is_err());
        }
    }
}

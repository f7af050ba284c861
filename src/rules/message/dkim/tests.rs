use super::*;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use openssl::symm::Cipher;
use proptest::prelude::*;

/// Keys of RFC 8463 §A.2 and RFC 6376 §C.
const RSA: &str = "-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
";
const ED25519: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

/// RFC 8463 §A.3.
const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";
const NOW: WallTime = WallTime(1_795_416_810_000_000);

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn rsa(name: &str) -> DkimKey {
    DkimKey::from_pem(RSA.as_bytes(), &domain(name), &domain("test")).unwrap()
}

fn ed25519(name: &str) -> DkimKey {
    let octets = base64::decode(ED25519.as_bytes()).unwrap();
    let key = PKey::private_key_from_raw_bytes(&octets, Id::ED25519).unwrap();
    let pem = key.private_key_to_pem_pkcs8().unwrap();
    DkimKey::from_pem(&pem, &domain(name), &domain("brisbane")).unwrap()
}

fn sign_in(keys: &[DkimKey], pieces: &[&[u8]]) -> Result<String, SigningProblem> {
    let mut signer = Signer::new(keys, NOW);
    pieces.iter().for_each(|piece| signer.feed(piece));
    signer.finish()
}

fn sign(keys: &[DkimKey], message: &str) -> Result<String, SigningProblem> {
    sign_in(keys, &[message.as_bytes()])
}

/// The value of a tag, without folding.
fn tag(field: &str, name: &str) -> String {
    let (_, value) = field.split_once(':').unwrap();
    let value: String = value.split_ascii_whitespace().collect();
    let found = value.split(';').find_map(|tag| tag.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    found.unwrap_or_else(|| panic!("no {name}= in {field}"))
}

/// Verifies a field by RFC 6376 §3.7 and §6.1.3, independently of the code that signs: the relaxed form is computed from
/// the whole text. The message has LF line ends.
fn verify(field: &str, message: &str, key: &DkimKey) -> Result<(), &'static str> {
    let (header, body) = message.split_once("\n\n").unwrap_or((message, ""));
    let squeeze =
        |line: &str| line.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let body: Vec<String> = body
        .split('\n')
        .map(|line| format!("{}{}\r\n", if line.starts_with([' ', '\t']) { " " } else { "" }, squeeze(line)))
        .map(|line| if line == " \r\n" { "\r\n".into() } else { line })
        .collect();
    let last = body.iter().rposition(|line| line != "\r\n").map_or(0, |at| at + 1);
    if tag(field, "bh") != base64::encode(&sha256(body[..last].concat().as_bytes())) {
        return Err("body");
    }
    let unfolded = header.replace("\n ", " ").replace("\n\t", " ");
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in unfolded.lines() {
        let (name, value) = line.split_once(':').unwrap();
        fields.push((name.trim_end().to_ascii_lowercase(), squeeze(value)));
    }
    let mut text = String::new();
    for name in tag(field, "h").split(':') {
        if let Some(at) = fields.iter().rposition(|field| field.0 == name) {
            let (name, value) = fields.remove(at);
            text += &format!("{name}:{value}\r\n");
        }
    }
    let (unsigned, _) = field.split_once(" b=").or_else(|| field.split_once("\tb=")).unwrap();
    let unsigned = unsigned.strip_prefix("DKIM-Signature:").unwrap().replace('\n', " ");
    text += &format!("dkim-signature:{} b=", squeeze(&unsigned));
    let signature = base64::decode(tag(field, "b").as_bytes()).unwrap();
    let is_right = match tag(field, "a").as_str() {
        "rsa-sha256" => Verifier::new(MessageDigest::sha256(), &key.key)
            .unwrap()
            .verify_oneshot(&signature, text.as_bytes()),
        "ed25519-sha256" => Verifier::new_without_digest(&key.key)
            .unwrap()
            .verify_oneshot(&signature, &sha256(text.as_bytes())),
        other => panic!("{other}"),
    };
    if is_right.unwrap() { Ok(()) } else { Err("header") }
}

/// The signatures in what was made for a message.
fn split(signatures: &str) -> Vec<String> {
    signatures
        .split("DKIM-Signature:")
        .skip(1)
        .map(|field| format!("DKIM-Signature:{}", field.strip_suffix('\n').unwrap()))
        .collect()
}

/// RFC 8463 §A.3: the same keys, message and fields give the same signatures.
#[test]
fn the_signatures_of_rfc_8463() {
    let (header, body) = MESSAGE.split_once("\n\n").unwrap();
    let mut hash = BodyHash::default();
    hash.feed(body.as_bytes());
    let hash = base64::encode(&hash.finish());
    assert_eq!(hash, "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
    let mut all = fields(format!("{header}\n").as_bytes()).unwrap();
    // The example has another order of names.
    all.iter_mut().enumerate().for_each(|(i, field)| field.row = i);
    for (key, template, signature) in [
        (
            ed25519("football.example.com"),
            "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=",
            "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==",
        ),
        (
            rsa("football.example.com"),
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=",
            "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=",
        ),
    ] {
        assert_eq!(base64::encode(&key.sign(&signed_text(&all, template)).unwrap()), signature);
    }
}

/// RFC 6376 §3.4.5, and the empty body of §3.4.4.
#[test]
fn the_relaxed_forms() {
    assert_eq!(relaxed(b"A", b" X\n"), b"a:X");
    assert_eq!(relaxed(b"B", b" Y\t\n\tZ  \n"), b"b:Y Z");
    for (body, form) in [
        (" C \nD \t E\n\n\n", " C\r\nD E\r\n"),
        ("", ""),
        ("\n", ""),
        (" \t\n\n \n", ""),
        ("a", "a\r\n"),
        ("a\n", "a\r\n"),
        ("a\n \n\t", "a\r\n"),
        ("\n\na", "\r\n\r\na\r\n"),
        ("a \t b\t\n \tc", "a b\r\n c\r\n"),
        ("\0\u{e4} \x0b", "\0\u{e4} \x0b\r\n"),
    ] {
        let mut hash = BodyHash::default();
        hash.feed(body.as_bytes());
        assert_eq!(hash.finish(), sha256(form.as_bytes()), "{body:?}");
    }
    assert_eq!(base64::encode(&BodyHash::default().finish()), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

#[test]
fn a_signature_is_a_field_that_verifies() {
    let keys = [rsa("example.com"), ed25519("football.example.com"), rsa("football.example.com")];
    let signatures = split(&sign(&keys, MESSAGE).unwrap());
    assert_eq!(signatures.len(), 2, "the keys of the nearest domain: {signatures:?}");
    for (field, key) in signatures.iter().zip(&keys[1..]) {
        assert_eq!(verify(field, MESSAGE, key), Ok(()), "{field}");
        assert!(field.lines().all(|line| line.len() <= 78) && !field.contains('\r'), "{field}");
        assert!(field.lines().skip(1).all(|line| line.starts_with('\t') && line.len() > 1), "{field}");
        assert_eq!((tag(field, "v"), tag(field, "t")), ("1".into(), "1795416810".into()));
        assert_eq!((tag(field, "c"), tag(field, "d")), ("relaxed/relaxed".into(), key.domain.clone()));
        assert_eq!(
            tag(field, "h"),
            "from:from:reply-to:subject:subject:cc:to:to:date:date:message-id:message-id"
        );
    }
    assert_eq!((tag(&signatures[0], "s"), tag(&signatures[1], "s")), ("brisbane".into(), "test".into()));
}

#[test]
fn what_was_tampered_with_does_not_verify() {
    let key = [ed25519("football.example.com")];
    let field = sign(&key, MESSAGE).unwrap();
    let field = field.trim_end();
    for (from, to, expected) in [
        ("Joe.\n", "Joe!\n", Err("body")),
        ("Hi.\n", "Hi.\n\n", Err("body")),
        ("Joe.\n", "Joe.\nP.S.\n", Err("body")),
        ("dinner", "lunch", Err("header")),
        ("Date:", "From: a@b.example\nDate:", Err("header")),
        ("From:", "From: a@b.example\nFrom:", Err("header")),
        ("Date:", "Subject: x\nDate:", Err("header")),
        ("Date:", "Reply-To: a@b.example\nDate:", Err("header")),
        ("Date:", "Cc: a@b.example\nDate:", Err("header")),
        ("Date:", "To: a@b.example\nDate:", Err("header")),
        // Changes that relays may make.
        ("Date:", "Received: by x\nX-Spam: no\nDate:", Ok(())),
        ("Subject: Is ", "SUBJECT:   Is\n\t", Ok(())),
        ("Joe.\n", "Joe. \t\n\n\n", Ok(())),
        ("  Are", " Are", Ok(())),
    ] {
        let message = MESSAGE.replacen(from, to, 1);
        assert_ne!(message, MESSAGE);
        assert_eq!(verify(field, &message, &key[0]), expected, "{to:?}");
    }
}

#[test]
fn each_signed_field_is_named_once_more_than_it_is_there() {
    let all: String = SIGNED.iter().map(|(name, _)| format!("{name}: <a@football.example.com>\n")).collect();
    let key = [ed25519("football.example.com")];
    for message in [format!("{all}X-Other: 1\n\nbody\n"), all.replace("\nto:", "\nTo: b\nTO: c\nto:")] {
        let field = sign(&key, &message).unwrap();
        assert_eq!(verify(field.trim_end(), &message, &key[0]), Ok(()), "{field}");
        let listed = tag(&field, "h");
        for (name, _) in SIGNED {
            let count = |text: &str, end: char| {
                text.split(end)
                    .filter(|word| word.split(':').next().unwrap().eq_ignore_ascii_case(name))
                    .count()
            };
            let names = listed.split(':').filter(|listed| *listed == name).count();
            assert_eq!(names, count(&message, '\n') + 1, "{name}");
        }
    }
    let least = "From: <a@football.example.com>\n\n";
    let field = sign(&key, least).unwrap();
    assert_eq!(tag(&field, "h"), "from:from:reply-to:subject:cc");
    assert_eq!(verify(field.trim_end(), least, &key[0]), Ok(()));
}

#[test]
fn the_keys_of_the_nearest_domain_sign() {
    let keys = [rsa("example.com"), ed25519("Sub.example.com"), rsa("example.org"), ed25519("example.com")];
    for (domain, expected) in [
        ("example.com", &[0, 3][..]),
        ("a.b.example.com", &[0, 3]),
        ("sub.example.com", &[1]),
        ("x.sub.example.com", &[1]),
        ("example.org", &[2]),
        ("badexample.com", &[]),
        ("com", &[]),
        ("", &[]),
    ] {
        let chosen: Vec<usize> = choose(&keys, domain)
            .iter()
            .map(|key| keys.iter().position(|k| std::ptr::eq(k, *key)).unwrap())
            .collect();
        assert_eq!(chosen, expected, "{domain}");
    }
}

#[test]
fn a_line_of_a_signature_holds_what_fits() {
    let mut field = "DKIM-Signature:".to_owned();
    let rest = LINE_MAX - field.len() - 1;
    fold(&mut field, &format!(" {}", "a".repeat(rest)));
    fold(&mut field, " b");
    fold(&mut field, " c");
    let rest = format!(" {}", "d".repeat(LINE_MAX - "\tb c ".len()));
    fold(&mut field, &rest);
    fold(&mut field, " e");
    let lines: Vec<&str> = field.split('\n').collect();
    assert_eq!(lines[1..], [&format!("\tb c{rest}"), "\te"]);
    assert_eq!([lines[0].len(), lines[1].len()], [LINE_MAX; 2]);
}

#[test]
fn the_author_is_who_an_address_says() {
    for (from, expected) in [
        ("a@example.com", Some("example.com")),
        ("A <a@Example.COM>", Some("example.com")),
        ("\"x@evil.example\" <a@example.com>", Some("example.com")),
        ("\"x\\\" <x@evil.example>\" <a@example.com>", Some("example.com")),
        ("x@evil.example <a@example.com>", Some("example.com")),
        ("(x@evil.example) a@example.com (<x@evil.example>)", Some("example.com")),
        ("(a (nested\\) one) x@evil.example) a@example.com", Some("example.com")),
        ("\"a b\"@example.com", Some("example.com")),
        ("\"a@b\"@example.com", Some("example.com")),
        ("a @ example.com", Some("example.com")),
        ("a\\@example.com", Some("example.com")),
        ("a@example.com, b@other.example", Some("example.com")),
        ("A, B <a@example.com>", Some("example.com")),
        ("friends: a@example.com, b@other.example;", Some("example.com")),
        ("=?utf-8?q?x?= <a@b\u{fc}cher.example>", Some("xn--bcher-kva.example")),
        ("root", None),
        ("", None),
        ("a@", None),
        ("a@[192.0.2.1]", None),
        ("a@[IPv6:2001:db8::1]", None),
        ("undisclosed:;", None),
        ("\"unclosed <a@example.com>", None),
        ("(unclosed a@example.com", None),
    ] {
        assert_eq!(author_domain(format!("from:{from}").as_bytes()).as_deref(), expected, "{from}");
    }
}

#[test]
fn what_can_not_be_signed_says_why() {
    let keys = [ed25519("example.com")];
    let long = |octets: usize| format!("From: a@example.com\nX: {}\n\n", "x".repeat(octets - 25));
    let many = |to: usize| format!("From: a@example.com\n{}\n", "To: b@example.com\n".repeat(to));
    for (message, expected) in [
        ("".to_owned(), Err(SigningProblem::From)),
        ("\nFrom: a@example.com\n".into(), Err(SigningProblem::From)),
        ("Subject: x\n\nFrom: a@example.com\n".into(), Err(SigningProblem::From)),
        ("From: a@example.com\nfrom : a@example.com\n\n".into(), Err(SigningProblem::From)),
        ("From: root\n\n".into(), Err(SigningProblem::From)),
        ("From: a@example.com\nno field\n\n".into(), Err(SigningProblem::MalformedHeader)),
        (" From: a@example.com\n\n".into(), Err(SigningProblem::MalformedHeader)),
        ("From: a@example.com\nb\u{f6}se: x\n\n".into(), Err(SigningProblem::MalformedHeader)),
        (long(HEADER_MAX_OCTETS + 1), Err(SigningProblem::LongHeader)),
        (long(HEADER_MAX_OCTETS), Ok(true)),
        (many(FIELDS_MAX), Err(SigningProblem::LongHeader)),
        (many(FIELDS_MAX - 1), Ok(true)),
        ("From: a@other.example\n\nbody".into(), Ok(false)),
        ("From: a@example.com".into(), Ok(true)),
        ("From: a@example.com\n".into(), Ok(true)),
        ("From: a@example.com\n\n".into(), Ok(true)),
    ] {
        let shown = message.get(..60).unwrap_or(&message);
        let signed = sign(&keys, &message).map(|fields| fields.starts_with("DKIM-Signature: v=1; "));
        assert_eq!(signed, expected, "{shown:?}");
        let mut signer = Signer::new(&keys, NOW);
        assert!(signer.wants_more());
        signer.feed(format!("{message}\n\n").as_bytes());
        assert_eq!(signer.wants_more(), expected == Ok(true), "{shown:?}");
        signer.feed(b"more");
    }
    assert_eq!(sign(&[], MESSAGE), Ok(String::new()));
}

#[test]
fn keys_of_no_use_are_told() {
    let read = |pem: &[u8], name: &str| {
        DkimKey::from_pem(pem, &domain(name), &domain("s")).map(drop).map_err(|problem| problem.to_string())
    };
    let short = Rsa::generate(1023).unwrap().private_key_to_pem().unwrap();
    assert_eq!(read(&short, "example.com"), Err("has 1023 bits; make one of 2048".into()));
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let curve = EcKey::generate(&group).unwrap().private_key_to_pem().unwrap();
    assert!(read(&curve, "example.com").unwrap_err().contains("neither"));
    let key = PKey::private_key_from_pem(RSA.as_bytes()).unwrap();
    let locked = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"x").unwrap();
    for pem in [&locked[..], b"", b"x", &key.public_key_to_pem().unwrap()] {
        assert!(read(pem, "example.com").unwrap_err().contains("no private key"));
    }
    assert!(read(RSA.as_bytes(), "[192.0.2.1]").unwrap_err().contains("DNS"));
    assert_eq!(read(RSA.as_bytes(), "b\u{fc}cher.example"), Ok(()));
    let key = rsa("b\u{fc}cher.example");
    assert_eq!(key.domain, "xn--bcher-kva.example");
    assert!(!format!("{key:?}").contains("MIIC"), "{key:?}");
}

proptest! {
    #[test]
    fn the_split_of_the_input_does_not_matter(
        header in "((From|To|X|subject ?|DATE): ?[a-c@. ]{0,8}\n([ \t][a-c ]{0,5}\n)?){0,4}",
        body in "\n?[a-c \t\n]{0,40}",
        cuts in proptest::collection::vec(0_usize..120, 0..8),
    ) {
        let message = format!("From: a@example.com\n{header}{body}");
        let keys = [ed25519("example.com")];
        let whole = sign(&keys, &message);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
        cuts.extend([0, message.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &message.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&sign_in(&keys, &pieces), &whole);
        let octets: Vec<&[u8]> = message.as_bytes().chunks(1).collect();
        prop_assert_eq!(&sign_in(&keys, &octets), &whole);
    }

    #[test]
    fn whatever_is_signed_verifies(
        header in "((To|X-Y|Subject ?|DATE|List-Id): ?[ -~ä]{0,90}\n([ \t][!-~]{1,90}\n)?){0,6}",
        body in "[a-c \t\n]{0,60}|[ -~ä\n]{0,200}",
    ) {
        let message = format!("{header}From: a@example.com\n\n{body}");
        for key in [[ed25519("example.com")], [rsa("example.com")]] {
            let field = sign(&key, &message).unwrap();
            prop_assert_eq!(verify(field.trim_end(), &message, &key[0]), Ok(()), "{}", field);
        }
    }

    #[test]
    fn nothing_makes_it_panic(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let _ = sign_in(&[ed25519("example.com")], &pieces);
        let _ = author_domain(&pieces.concat());
    }
}

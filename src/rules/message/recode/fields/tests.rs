use super::*;
use crate::mail::base64;
use mail_parser::{HeaderName, HeaderValue, MessageParser, MimeHeaders};
use proptest::prelude::*;

fn fit(field: &[u8], manner: FieldEncoding) -> String {
    let mut out = Vec::new();
    put(field, manner, &mut out);
    let mut again = Vec::new();
    put(&out, manner, &mut again);
    assert_eq!(again, out, "once is not enough");
    assert_eq!(is_changed(field, manner), out != field);
    String::from_utf8(out).unwrap()
}

fn ascii(field: &str) -> String {
    fit(field.as_bytes(), FieldEncoding::Ascii)
}

#[test]
fn what_is_fit_stays_as_it_is() {
    for field in [
        "Subject: x\n",
        "Subject:\n \n  x \n",
        "Subject: =?utf-8?Q?=C3=BC?=   x\n",
        "To: \"a, b\" <c@d>,e@f;;\n",
        "X:",
        "no field\n",
        "no field, and ü\n",
        "ü: x\n",
        &format!("Subject: {}\n y\n", "x".repeat(989)),
    ] {
        for manner in [FieldEncoding::Fold, FieldEncoding::KeepUtf8, FieldEncoding::Ascii] {
            assert_eq!(fit(field.as_bytes(), manner), field);
        }
    }
    for field in ["Subject: ü\n", "To: ü <ü@ü.example>\n"] {
        assert_eq!(fit(field.as_bytes(), FieldEncoding::KeepUtf8), field);
        assert_eq!(fit(field.as_bytes(), FieldEncoding::Fold), field);
    }
}

#[test]
fn text_becomes_encoded_words() {
    for (field, expected) in [
        ("Subject: Sicherung läuft nicht\n", "Subject: Sicherung =?utf-8?Q?l=C3=A4uft?= nicht\n"),
        ("Subject:ü\n", "Subject:=?utf-8?Q?=C3=BC?=\n"),
        ("Subject :  ü ö  x \n", "Subject :  =?utf-8?Q?=C3=BC_=C3=B6?=  x \n"),
        ("Subject: a\n ü\n", "Subject: a =?utf-8?Q?=C3=BC?=\n"),
        // Blanks between encoded words are not displayed.
        (
            "Subject: =?utf-8?Q?a?= ü  =?utf-8?Q?b?=\n",
            "Subject: =?utf-8?Q?a?= =?utf-8?Q?_=C3=BC__?=  =?utf-8?Q?b?=\n",
        ),
        ("X-Host: Büro", "X-Host: =?utf-8?Q?B=C3=BCro?="),
        ("X-Path: \"c:\\ü\"\n", "X-Path: =?utf-8?Q?=22c=3A=5C=C3=BC=22?=\n"),
    ] {
        assert_eq!(ascii(field), expected);
    }
    assert_eq!(fit(b"Subject: L\xfcfter\n", FieldEncoding::Ascii), "Subject: =?utf-8?Q?L=C3=BCfter?=\n");
    assert_eq!(fit(b"Subject: L\xfcfter\n", FieldEncoding::KeepUtf8), "Subject: =?utf-8?Q?L=C3=BCfter?=\n");
}

#[test]
fn of_structured_fields_names_and_comments_are_encoded() {
    for (field, expected) in [
        ("To: Jürgen <j@x>\n", "To: =?utf-8?Q?J=C3=BCrgen?= <j@x>\n"),
        ("To: Jürgen<j@x>,a\n", "To: =?utf-8?Q?J=C3=BCrgen?= <j@x>,a\n"),
        ("To: \"Müller, J\\\"\" X <j@x>\n", "To: =?utf-8?Q?M=C3=BCller=2C_J=22?= X <j@x>\n"),
        ("To: A\n \"ü\" ö <j@x>\n", "To: A =?utf-8?Q?=C3=BC_=C3=B6?= <j@x>\n"),
        ("To: j@x (Jürgen (\\(ü) x)\n", "To: j@x (=?utf-8?Q?J=C3=BCrgen?= (=?utf-8?Q?=28=C3=BC?=) x)\n"),
        ("To: Büro: a@b, ü <c@d>;\n", "To: =?utf-8?Q?B=C3=BCro?= : a@b, =?utf-8?Q?=C3=BC?= <c@d>;\n"),
        ("To: ü@nas <root@nas>\n", "To: =?utf-8?Q?=C3=BC=40nas?= <root@nas>\n"),
        // Addresses stay; a domain has a form in ASCII.
        (
            "To: ü <j@bücher.example>, k@bücher.example\n",
            "To: =?utf-8?Q?=C3=BC?= <j@xn--bcher-kva.example>, k@xn--bcher-kva.example\n",
        ),
        ("To: jürgen@x\n", "To: jürgen@x\n"),
        (
            "Date: Mon, 23 Nov 2026 06:53:30 +0100 (MÄZ)\n",
            "Date: Mon, 23 Nov 2026 06:53:30 +0100 (=?utf-8?Q?M=C3=84Z?=)\n",
        ),
        (
            "Received: from MÜLLER ([192.0.2.1])\n\tby b with ESMTP;\n\tx\n",
            "Received: from =?utf-8?Q?M=C3=9CLLER?= ([192.0.2.1])\tby b with ESMTP;\tx\n",
        ),
        // No structure: text.
        ("To: \"ü <j@x>\n", "To: =?utf-8?Q?=22=C3=BC?= <j@x>\n"),
        ("To: (ü\n", "To: =?utf-8?Q?=28=C3=BC?=\n"),
    ] {
        assert_eq!(ascii(field), expected, "{field}");
    }
}

#[test]
fn parameters_become_extended_ones() {
    for (field, expected) in [
        (
            "Content-Disposition: attachment; filename=\"ü 1.txt\"; size=3\n",
            "Content-Disposition: attachment; filename*=utf-8''%C3%BC%201.txt; size=3\n",
        ),
        (
            "Content-Disposition: attachment; filename=ü 1.txt\n",
            "Content-Disposition: attachment; filename*=utf-8''%C3%BC%201.txt\n",
        ),
        (
            "Content-Type: text/plain; x=\"a;b\"; name=\"\\\"ü\"\n",
            "Content-Type: text/plain; x=\"a;b\"; name*=utf-8''%22%C3%BC\n",
        ),
        ("Content-Type: a/b; name*=utf-8''ü%20\n", "Content-Type: a/b; name*=utf-8''%C3%BC%20\n"),
        (
            "Content-Type: multipart/mixed; boundary=\"ü\"\n",
            "Content-Type: multipart/mixed; boundary=\"ü\"\n",
        ),
        ("Content-Type: a/b (ü);\n", "Content-Type: a/b (=?utf-8?Q?=C3=BC?=);\n"),
        ("Content-Type: multipart/ü; boundary=b\n", "Content-Type: multipart/__; boundary=b\n"),
        ("Content-Disposition: name=ü/x\n", "Content-Disposition: =?utf-8?Q?name=3D=C3=BC/x?=\n"),
    ] {
        assert_eq!(ascii(field), expected, "{field}");
    }
    let long = format!("Content-Disposition: attachment; filename=\"{}\"\n", "ü".repeat(500));
    let sent = ascii(&long);
    assert!(sent.contains(";\n filename*0*=utf-8''%C3%BC") && sent.contains(";\n filename*1*=%C3"), "{sent}");
    let message = format!("MIME-Version: 1.0\n{sent}\nx\n");
    let parsed = MessageParser::default().parse(message.as_bytes()).unwrap();
    assert_eq!(parsed.attachment_name().unwrap(), "ü".repeat(500));
}

#[test]
fn long_lines_are_folded_where_that_changes_nothing() {
    for (name, unit) in [
        ("Subject", " word"),
        ("Subject", " wörd"),
        ("X-Log", "\tw"),
        ("References", " <a@b.example>"),
        ("To", " \"a, b\" <a@b.example>,"),
        ("Received", " (x)"),
    ] {
        let field = format!("{name}:{}\n", unit.repeat(600));
        for manner in [FieldEncoding::Fold, FieldEncoding::KeepUtf8, FieldEncoding::Ascii] {
            let sent = fit(field.as_bytes(), manner);
            assert!(sent.lines().all(|line| line.len() <= LINE_COLUMNS + 2), "{sent}");
            if manner != FieldEncoding::Ascii || unit.is_ascii() {
                assert_eq!(sent.replace("\n ", " ").replace("\n\t", "\t"), field);
            }
        }
    }
    // Without a blank.
    for (name, unit, printed) in [
        ("References", "<a@b.example>", " <a@b.example>"),
        ("To", "a@b.example,", " a@b.example,"),
        ("DKIM-Signature", "a=b;", "a=b;"),
        ("DKIM-Signature", "base64+/", "base64+/"),
    ] {
        let field = format!("{name}: {}\n", unit.repeat(400));
        let sent = ascii(&field);
        assert!(sent.lines().all(|line| line.len() <= LINE_COLUMNS + 10), "{sent}");
        let without_blanks = |text: &str| text.replace([' ', '\n'], "");
        assert_eq!(without_blanks(&sent), without_blanks(&field), "{printed}");
    }
    for field in [
        format!("Subject: {}\n", "x".repeat(3000)),
        format!("X-Y: a {} b\n", "x".repeat(3000)),
        format!("To: \"{}\" <a@b>\n", "x".repeat(3000)),
        format!("To: a@b ({})\n", "x".repeat(3000)),
        format!("Message-ID: <{}>\n", "x".repeat(3000)),
        format!("Subject: a{}b\n", " ".repeat(3000)),
        format!("To: a@b{}\n", ",".repeat(3000)),
        format!("Content-Type: a/b; name=\"{}\"\n", "x".repeat(3000)),
        format!("Content-Type: a/b; name*=utf-8''{}\n", "x".repeat(3000)),
        format!("Content-Type: {}\n", "x".repeat(3000)),
    ] {
        let sent = ascii(&field);
        assert!(sent.lines().all(|line| line.len() <= LINE_MAX_OCTETS), "{sent}");
    }
}

/// Programs put a long Subject into one encoded word, which readers display.
#[test]
fn a_long_encoded_word_keeps_its_meaning() {
    let text = "Sicherung läuft nicht. ".repeat(60);
    let encoded = base64::encode(text.as_bytes());
    let sent = ascii(&format!("Subject: [nas] =?UTF-8?B?{encoded}?=\n"));
    assert!(sent.lines().all(|line| line.len() <= LINE_COLUMNS), "{sent}");
    assert_eq!(seen(sent.as_bytes()).0.unwrap(), format!("[nas] {}", text.trim_end()));
    // The blank between encoded words is not displayed.
    let word = format!("=?UTF-8?B?{}?=", base64::encode("a".repeat(800).as_bytes()));
    for (words, displayed) in [
        (format!("{word} =?utf-8?Q?KURZ?="), "a".repeat(800) + "KURZ"),
        (format!("=?utf-8?Q?KURZ?= {word} {word}"), "KURZ".to_owned() + &"a".repeat(1600)),
        // No word: a question mark too many.
        ("=?utf-8?Q?Backup_läuft?_Prüfen?=".to_owned(), "=?utf-8?Q?Backup_läuft?_Prüfen?=".to_owned()),
    ] {
        let sent = ascii(&format!("Subject: {words}\n"));
        assert_eq!(seen(sent.as_bytes()).0.unwrap(), displayed, "{sent}");
    }
}

/// A name and an address.
type Seen = (Option<String>, Option<String>);

/// The text and the addresses as another library reads them.
fn seen(field: &[u8]) -> (Option<String>, Vec<Seen>) {
    let message = [field, b"\nx\n"].concat();
    let parsed = MessageParser::default().parse(&message).unwrap();
    let squeezed = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let subject = parsed.subject().map(squeezed);
    let to = parsed.header(HeaderName::To).cloned().unwrap_or(HeaderValue::Empty);
    let to = to.as_address().map(|to| {
        to.iter()
            .map(|to| (to.name.as_deref().map(squeezed), to.address.as_deref().map(str::to_owned)))
            .collect()
    });
    (subject, to.unwrap_or_default())
}

proptest! {
    #[test]
    fn another_reader_sees_the_same_text(words in prop::collection::vec("[a-zü€=?_\"(,;:.]{1,12}|[a-z]{1,1100}", 1..30)) {
        let field = format!("Subject: {}\n", words.join(" "));
        let sent = ascii(&field);
        prop_assert!(sent.is_ascii() && sent.lines().all(|line| line.len() <= LINE_MAX_OCTETS), "{}", sent);
        if !words.iter().any(|word| word.contains("=?")) {
            prop_assert_eq!(seen(sent.as_bytes()).0, Some(words.join(" ")), "{}", sent);
        }
    }

    #[test]
    fn another_reader_sees_the_same_addresses(
        list in prop::collection::vec(("([a-zü]{1,8} ?){0,3}|\"[a-zü ,<>@]{1,9}[a-z]\" ?", "[a-z]{1,8}@[a-z]{1,5}\\.example"), 1..60)
    ) {
        let one = |(name, address): &(String, String)| format!("{name}<{address}>");
        let field = format!("To: {}\n", list.iter().map(one).collect::<Vec<_>>().join(", "));
        let sent = ascii(&field);
        prop_assert!(sent.is_ascii() && sent.lines().all(|line| line.len() <= LINE_MAX_OCTETS), "{}", sent);
        prop_assert_eq!(seen(sent.as_bytes()).1, seen(field.as_bytes()).1, "{}", sent);
    }

    /// No octets make it panic, add a field, or leave a long line.
    #[test]
    fn whatever_a_field_holds_it_stays_one_field(
        name in "Subject|To|Content-Type|DKIM-Signature|Received|X",
        value in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\"\\()<>@,;:= \t\xc3\xbc".to_vec())], 0..1500),
        manner in prop::sample::select(vec![FieldEncoding::Fold, FieldEncoding::KeepUtf8, FieldEncoding::Ascii]),
    ) {
        let value: Vec<u8> = value.into_iter().filter(|octet| !b"\n\r".contains(octet)).collect();
        let field = [name.as_bytes(), b":", &value, b"\n"].concat();
        let mut out = Vec::new();
        put(&field, manner, &mut out);
        let lines: Vec<&[u8]> = out.split(|&octet| octet == b'\n').collect();
        prop_assert!(manner == FieldEncoding::Fold || lines.iter().all(|line| line.len() <= LINE_MAX_OCTETS));
        let (last, lines) = lines.split_last().unwrap();
        prop_assert!(last.is_empty());
        prop_assert!(lines.iter().skip(1).all(|line| line.starts_with(b" ") || line.starts_with(b"\t")));
        prop_assert!(lines.len() == 1 || lines.iter().all(|line| !line.trim_ascii().is_empty()));
        let mut again = Vec::new();
        put(&out, manner, &mut again);
        prop_assert!(again == out || !out.is_ascii(), "once is not enough: {:?} {:?}", out, again);
    }
}

#[test]
fn a_long_list_of_tags_is_split_between_tags() {
    let tag = |name: &str, octets: usize| format!("{name}={};", "x".repeat(octets));
    let value = [tag("a", 30), tag("b", 30), tag("c", 1000)].concat();
    let found = tags(value.as_bytes(), Needs { beyond_ascii: true, long: true });
    let pieces: Vec<&[u8]> = found.iter().map(|token| token.text.as_slice()).collect();
    assert_eq!(pieces.concat(), value.as_bytes());
    assert_eq!(pieces[0], [tag("a", 30), tag("b", 30)].concat().as_bytes());
    assert!(pieces[1..].iter().all(|piece| piece.len() <= TAG_OCTETS), "{found:?}");
}

use super::*;
use crate::mail::base64;
use proptest::prelude::*;

/// The encoded form of `content`, fed in pieces of `size`. `None`: it is sent unchanged.
fn recode(content: &[u8], support: HopSupport, size: usize) -> Option<Vec<u8>> {
    let mut survey = Survey::new(support);
    content.chunks(size).for_each(|piece| survey.feed(piece));
    let mut recoder = Recoder::new(survey.finish().plan?);
    let mut out = Vec::new();
    content.chunks(size).for_each(|piece| recoder.feed(piece, &mut out));
    recoder.finish(&mut out);
    Some(out)
}

fn text(content: &str, support: HopSupport) -> Option<String> {
    let whole = recode(content.as_bytes(), support, content.len().max(1))?;
    for size in [1, 7, 100] {
        assert_eq!(recode(content.as_bytes(), support, size).as_ref(), Some(&whole), "in pieces of {size}");
    }
    Some(String::from_utf8(whole).unwrap())
}

#[test]
fn what_may_go_goes_as_it_is() {
    let long = "x".repeat(998);
    for content in [
        "",
        "\n",
        "MIME-Version: 1.0\n",
        "MIME-Version: 1.0\n\nplain\n",
        &format!("MIME-Version: 1.0\n\n{long}\n{long}\n"),
        // No type is declared.
        "Subject: x\n\nfür\n",
        "MIME-Version: 1.0\nDKIM-Signature: v=1\n\nfür\n",
        "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b\n\n--b\n\nfür\n--b--\n",
        "MIME-Version: 1.0\nContent-Type: multipart/signed (by me);  boundary=b\n\n--b\n\nfür\n--b--\n",
        "MIME-Version: 1.0\nContent-Type: (by me) multipart/signed; boundary=b\n\n--b\n\nfür\n--b--\n",
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nfür\n--b\nContent-Type: message/partial\n\nfür\n--b--\n",
        "MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\nZsO8cg==\n",
        // No reader shows the text before, between and after the parts.
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\nfür\n--b\n\nx\n--b--\nfür\n",
    ] {
        assert_eq!(text(content, HopSupport::SevenBit), None, "{content}");
    }
    assert_eq!(text("MIME-Version: 1.0\n\nfür\n", HopSupport::EightBit), None);
}

#[test]
fn text_becomes_quoted_printable() {
    assert_eq!(
        text(
            "MIME-Version: 1.0\nContent-Transfer-Encoding:\n 8bit\nSubject: x\n\nfür = 1 \n.\nFrom me\ttab\t\n\n.x",
            HopSupport::SevenBit
        )
        .unwrap(),
        "MIME-Version: 1.0\nSubject: x\nContent-Transfer-Encoding: quoted-printable\n\n\
         f=C3=BCr =3D 1=20\n=2E\n=46rom me\ttab=09\n\n=2Ex"
    );
    let long =
        text(&format!("MIME-Version: 1.0\n\n{}\nend\n", "x".repeat(999)), HopSupport::EightBit).unwrap();
    let (header, body) = long.split_once("\n\n").unwrap();
    assert_eq!(header, "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable");
    assert!(body.lines().all(|line| line.len() <= 76), "{body}");
    assert_eq!(body.replace("=\n", ""), format!("{}\nend\n", "x".repeat(999)));
}

#[test]
fn only_the_parts_that_need_it_are_changed() {
    let before = "MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"a \\\"b\"\nContent-Transfer-Encoding: 8bit\n\n\
        pre\n--a \"b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nfür\n\
        --a \"b  \n\nascii\n\
        --a \"b\nContent-Type: application/x; name=\"ü\"\nContent-Transfer-Encoding: binary\n\nfür\ndich\n\n\
        --a \"b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: y\nContent-Type: text/html\n\nfür\n\
        --a \"b--\npost\n";
    let after = "MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"a \\\"b\"\n\n\
        pre\n--a \"b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nf=C3=BCr\n\
        --a \"b  \n\nascii\n\
        --a \"b\nContent-Type: application/x; name*=utf-8''%C3%BC\nContent-Transfer-Encoding: base64\n\nZsO8cg0KZGljaA0K\n\
        --a \"b\nContent-Type: message/rfc822\n\nSubject: y\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\nf=C3=BCr\n\
        --a \"b--\npost\n";
    assert_eq!(text(before, HopSupport::SevenBit).unwrap(), after);
}

#[test]
fn nuls_become_base64_wherever_they_stand() {
    let before =
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nf\0r\n--b\n\nx\n--b--\n";
    let after = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: base64\n\n\
        ZgBy\n--b\n\nx\n--b--\n";
    for support in [HopSupport::Utf8, HopSupport::EightBit, HopSupport::SevenBit] {
        assert_eq!(text(before, support).unwrap(), after);
        assert_eq!(text(after, support), None);
    }
}

#[test]
fn what_a_bounce_says_in_utf8_is_encoded_as_a_whole() {
    for media in ["message/global", "message/global-headers", "message/global-delivery-status"] {
        let head = format!(
            "MIME-Version: 1.0\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: {media}\n"
        );
        let before = format!("{head}Content-Transfer-Encoding: 8bit\n\nTo: jürgen@x\n\nfür\n\n--b--\n");
        let after = format!(
            "{head}Content-Transfer-Encoding: quoted-printable\n\nTo: j=C3=BCrgen@x\n\nf=C3=BCr\n\n--b--\n"
        );
        assert_eq!(text(&before, HopSupport::SevenBit).unwrap(), after);
        assert_eq!(text(&before, HopSupport::EightBit), None);
    }
}

#[test]
fn fields_are_encoded_where_they_stand() {
    let before = "Subject: ü\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\nü: ü\n--b\n\
        Content-Disposition: attachment; filename=\"ü.txt\"\n\nx\n--b\nContent-Type: message/rfc822\n\nSubject: ü\n\nx\n\
        --b\nContent-Description: ü\nContent-Type: multipart/signed; boundary=c\n\n--c\nX: ü\n\nx\n--c--\n--b--\n";
    let eight = before
        .replace("Subject: ü\nMIME", "Subject: =?utf-8?Q?=C3=BC?=\nMIME")
        .replace("Description: ü", "Description: =?utf-8?Q?=C3=BC?=")
        .replace("filename=\"ü.txt\"", "filename*=utf-8''%C3%BC.txt");
    assert_eq!(text(before, HopSupport::EightBit).unwrap(), eight);
    assert_eq!(text(before, HopSupport::Utf8), None);
    // Not in a structure that cannot be followed, or is signed.
    assert_eq!(
        text("Subject: ü\n\nx\n", HopSupport::EightBit).unwrap(),
        "Subject: =?utf-8?Q?=C3=BC?=\n\nx\n"
    );
    let signed = "DKIM-Signature: v=1\nSubject: ü\nMIME-Version: 1.0\n\nx\n";
    assert_eq!(text(signed, HopSupport::EightBit), None);
    let signed = format!("DKIM-Signature: v=1\nSubject: {}\nMIME-Version: 1.0\n\nü\n", "ü x ".repeat(300));
    let folded = text(&signed, HopSupport::SevenBit).unwrap();
    assert_eq!(folded.replace("\n ", " "), signed);
    assert!(folded.lines().all(|line| line.len() <= LINE_MAX_OCTETS));
    // A part that must not be encoded: the parts stay, the message's own fields change.
    let partial = "Subject: ü\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nX: ü\n\
        Content-Type: message/partial\n\nfür\n--b--\n";
    let sent = text(partial, HopSupport::SevenBit).unwrap();
    assert_eq!(sent, partial.replace("Subject: ü", "Subject: =?utf-8?Q?=C3=BC?="));
    let mut survey = Survey::new(HopSupport::Utf8);
    survey.feed("Subject: ü\n\n".as_bytes());
    assert!(survey.finish().has_utf8_fields);
}

#[test]
fn no_line_becomes_a_boundary() {
    let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b=C3=BC\"\n\n--b=C3=BC\n\n";
    let end = "\n--b=C3=BC--\n";
    for body in [
        // Cut behind as many columns as a line holds.
        &format!("{}--bü\n{}", "x".repeat(75), "y".repeat(999)),
        &format!("--bü--\n{}", "y".repeat(999)),
    ] {
        let sent = text(&format!("{head}{body}{end}"), HopSupport::SevenBit).unwrap();
        assert_eq!(sent.matches("\n--b=C3=BC").count(), 2, "{sent}");
    }
}

#[test]
fn a_digest_holds_messages() {
    let before =
        "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: y\n\nfür\n--b--\n";
    let after = "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: y\n\
        Content-Transfer-Encoding: quoted-printable\n\nf=C3=BCr\n--b--\n";
    assert_eq!(text(before, HopSupport::SevenBit).unwrap(), after);
}

#[test]
fn what_is_signed_keeps_its_long_lines_beside_others_that_lose_theirs() {
    let long = "x".repeat(2000);
    let content = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\n{long}\n--a\n\
         Content-Type: multipart/signed; boundary=b\n\n--b\n\n{long}\n--b--\n--a--\n"
    );
    let sent = text(&content, HopSupport::EightBit).unwrap();
    assert!(sent.ends_with(&format!("\n--b\n\n{long}\n--b--\n--a--\n")), "{sent}");
    assert_eq!(sent.matches(&long).count(), 1);
}

#[test]
fn who_nests_without_end_is_left_alone() {
    let mut deep = String::from("MIME-Version: 1.0\n");
    for level in 0..200 {
        deep.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"));
    }
    assert_eq!(text(&format!("{deep}\nfür\n"), HopSupport::SevenBit), None);
    let many = "--b\n\nfür\n".repeat(2000);
    let many = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{many}--b--\n");
    assert_eq!(text(&many, HopSupport::SevenBit), None);
    let header = format!("MIME-Version: 1.0\nX: {}\n\nfür\n", "x".repeat(300_000));
    assert_eq!(text(&header, HopSupport::SevenBit), None);
}

/// A body, or parts.
#[derive(Debug, Clone)]
enum Tree {
    Body { media: &'static str, content: Vec<u8> },
    Parts(Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let line = prop_oneof![
        prop::collection::vec(any::<u8>().prop_filter("canonical", |o| !b"\r\n\0".contains(o)), 0..90),
        Just(b"x".repeat(1200)),
        Just(b"--no boundary".to_vec()),
        Just(b" = \t ".to_vec()),
    ];
    let content = prop::collection::vec(line, 0..6).prop_map(|lines| lines.join(&b'\n'));
    let media =
        prop_oneof![Just("text/plain"), Just("text/html"), Just("application/x-log"), Just("image/png")];
    let body = (media, content).prop_map(|(media, content)| Tree::Body { media, content });
    body.prop_recursive(3, 12, 4, |inner| prop::collection::vec(inner, 1..4).prop_map(Tree::Parts))
}

/// Writes a tree down, with its bodies in order as they are to be read.
fn write(tree: &Tree, depth: usize, out: &mut Vec<u8>, bodies: &mut Vec<Vec<u8>>) {
    match tree {
        Tree::Body { media, content } => {
            out.extend_from_slice(
                format!("Content-Type: {media}\nContent-Transfer-Encoding: 8bit\n\n").as_bytes(),
            );
            out.extend_from_slice(content);
            bodies.push(content.clone());
        }
        Tree::Parts(parts) => {
            let boundary = format!("b{depth}");
            out.extend_from_slice(
                format!("Content-Type: multipart/mixed; boundary={boundary}\n\n").as_bytes(),
            );
            for part in parts {
                out.extend_from_slice(format!("--{boundary}\n").as_bytes());
                write(part, depth + 1, out, bodies);
                out.push(b'\n');
            }
            out.extend_from_slice(format!("--{boundary}--").as_bytes());
        }
    }
}

proptest! {
    #[test]
    fn a_long_line_is_found_whatever_the_pieces(
        lines in proptest::collection::vec(prop_oneof![995_usize..1001, 0_usize..3, Just(400)], 0..9),
        piece in 1_usize..3000,
        ends: bool,
    ) {
        let mut text = lines.iter().map(|&octets| "x".repeat(octets)).collect::<Vec<_>>().join("\n");
        if ends {
            text.push('\n');
        }
        let mut survey = Survey::new(HopSupport::Utf8).findings;
        let found = text.as_bytes().chunks(piece).fold(false, |found, piece| survey.has_long_line(piece) | found);
        prop_assert_eq!(found, lines.iter().any(|&octets| octets > LINE_MAX_OCTETS));
        prop_assert_eq!(survey.line_octets, text.len() - text.rfind('\n').map_or(0, |at| at + 1));
    }

    #[test]
    fn a_reader_sees_the_same(tree in tree(), size in 1_usize..300, seven in any::<bool>()) {
        let support = if seven { HopSupport::SevenBit } else { HopSupport::EightBit };
        let (mut content, mut bodies) = (b"MIME-Version: 1.0\n".to_vec(), Vec::new());
        write(&tree, 0, &mut content, &mut bodies);
        let sent = recode(&content, support, size);
        prop_assert_eq!(&recode(&content, support, content.len()), &sent);
        let sent = sent.unwrap_or_else(|| content.clone());
        // Once is enough.
        prop_assert_eq!(recode(&sent, support, size), None);
        prop_assert!(sent.split(|&o| o == b'\n').all(|line| line.len() <= LINE_MAX_OCTETS));
        prop_assert!(!seven || sent.is_ascii());
        let mut found = Vec::new();
        read(&sent, &mut found);
        prop_assert_eq!(found, bodies);
    }

    #[test]
    fn no_octets_make_it_panic(content: Vec<u8>, size in 1_usize..50) {
        let mut content = content;
        content.splice(..0, *b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n");
        recode(&content, HopSupport::SevenBit, size);
    }
}

/// The decoded bodies of a message, found without the walk; only for the trees above.
fn read(content: &[u8], bodies: &mut Vec<Vec<u8>>) {
    let position = |needle: &[u8], from: usize| {
        content[from..].windows(needle.len()).position(|window| window == needle).map(|i| from + i)
    };
    let end = position(b"\n\n", 0).unwrap();
    let (header, body) = (String::from_utf8_lossy(&content[..end]).into_owned(), &content[end + 2..]);
    if let Some((_, boundary)) = header.split_once("boundary=") {
        let boundary = boundary.lines().next().unwrap();
        let delimiter = format!("\n--{boundary}");
        let mut rest = [b"\n", body].concat();
        let mut parts = Vec::new();
        while let Some(at) = rest.windows(delimiter.len()).position(|window| window == delimiter.as_bytes()) {
            parts.push(rest[..at].to_vec());
            rest = rest[at + delimiter.len()..].to_vec();
        }
        parts[1..].iter().for_each(|part| read(&part[1..], bodies));
        return;
    }
    let crlf = |octets: Vec<u8>| {
        let mut lines = octets.split(|&o| o == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = lines.next().unwrap_or_default().to_vec();
        lines.fold(first, |all, line| [all, line.to_vec()].join(&b'\n'))
    };
    bodies.push(if header.contains("Encoding: base64") {
        let joined: Vec<u8> = body.iter().copied().filter(|&o| o != b'\n').collect();
        crlf(base64::decode(&joined).unwrap())
    } else if header.contains("quoted-printable") {
        let mut out = Vec::new();
        let mut octets = body.iter();
        while let Some(&octet) = octets.next() {
            match (octet, octet == b'=') {
                (_, true) => match *octets.next().unwrap() {
                    b'\n' => {}
                    high => {
                        let hex = [high, *octets.next().unwrap()];
                        out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                    }
                },
                (octet, false) => out.push(octet),
            }
        }
        out
    } else {
        body.to_vec()
    });
}

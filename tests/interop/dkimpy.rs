//! Verifies signatures with dkimpy; the records of the keys come from a table in place of DNS.

use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use pillarbox::mail::address::Domain;
use pillarbox::mail::base64;
use pillarbox::mail::date::WallTime;
use pillarbox::rules::message::dkim::{DkimKey, Signer};
use std::io::Write;
use std::process::{Command, Stdio};

/// Debian's own Python, because the packages python3-dkim and python3-nacl belong to it.
const PYTHON: &str = "/usr/bin/python3";

/// Reads a message from standard input; each argument is the record of a selector `s0`, `s1` and so on. Prints the result
/// of each signature from the top.
const VERIFY: &str = "
import dkim, sys
records = {b's%d._domainkey.example.com.' % i: r.encode() for i, r in enumerate(sys.argv[1:])}
message = sys.stdin.buffer.read()
for i in range(len(records)):
    try:
        print(dkim.DKIM(message).verify(i, dnsfunc=lambda name, timeout=5: records[name]))
    except Exception as e:
        print(repr(e))
";

/// Whether dkimpy is installed; prints a note if not.
pub fn has_dkimpy() -> bool {
    let imported = Command::new(PYTHON).args(["-c", "import dkim, nacl"]).stderr(Stdio::null()).status();
    let has = imported.is_ok_and(|status| status.success());
    if !has {
        eprintln!("left out: {PYTHON} has no dkimpy; apt-get install python3-dkim python3-nacl");
    }
    has
}

/// The results of dkimpy for the signatures of a message with LF line ends, for `SELECTOR._domainkey.example.com`.
pub fn verify(message: &str, records: &[String]) -> Vec<String> {
    let mut child = Command::new(PYTHON)
        .args(["-c", VERIFY])
        .args(records)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(message.replace('\n', "\r\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn sign(keys: &[DkimKey], message: &str) -> String {
    let mut signer = Signer::new(keys, WallTime(1_700_000_000_000_000));
    message.as_bytes().chunks(7).for_each(|piece| signer.feed(piece));
    signer.finish().unwrap()
}

/// The keys and their records.
fn keys() -> (Vec<DkimKey>, Vec<String>) {
    let rsa = |bits| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
    let made: [(PKey<Private>, &str); 3] =
        [(rsa(1024), "rsa"), (PKey::generate_ed25519().unwrap(), "ed25519"), (rsa(2048), "rsa")];
    let domain = |name: &str| Domain::parse(name).unwrap();
    let key = |(i, (key, _)): (usize, &(PKey<Private>, &str))| {
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        DkimKey::from_pem(&pem, &domain("Example.com"), &domain(&format!("s{i}"))).unwrap()
    };
    let record = |(key, kind): &(PKey<Private>, &str)| {
        let public = key.raw_public_key().or_else(|_| key.public_key_to_der()).unwrap();
        format!("v=DKIM1; k={kind}; p={}", base64::encode(&public))
    };
    (made.iter().enumerate().map(key).collect(), made.iter().map(record).collect())
}

const MESSAGE: &str = "Received: from a by b;\n\tMon, 1 Jan 2024 00:00:00 +0000
From: \"root  on router\" <root@box.example.com>
To:me@example.net,
 you@example.net
Subject: =?utf-8?q?x?=  alert \t
Date: Mon, 1 Jan 2024 00:00:00 +0000
Message-ID: <1@box.example.com>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Sm\u{f6}rg\u{e5}s  \t of\tthe day \n
 indented
.
..dots

";

#[test]
fn dkimpy_takes_our_signatures() {
    if !has_dkimpy() {
        return;
    }
    let (keys, records) = keys();
    let least = "From: a@example.com\n\n";
    for message in
        [MESSAGE, least, "From: a@example.com\n\n\n \n", "From: a@example.com\n\n x", &MESSAGE.repeat(50)]
    {
        let signed = sign(&keys, message) + message;
        assert_eq!(verify(&signed, &records), ["True"; 3], "{signed}");
    }
}

#[test]
fn dkimpy_refuses_what_was_tampered_with() {
    if !has_dkimpy() {
        return;
    }
    let (keys, records) = keys();
    let signed = sign(&keys, MESSAGE) + MESSAGE;
    assert_eq!(verify(&signed, &records), ["True"; 3]);
    for (from, to) in [
        ("of\tthe", "of my"),
        ("..dots\n", "..dots\nmore\n"),
        ("alert", "alarm"),
        ("Date:", "From: other@example.com\nDate:"),
        ("Date:", "Reply-To: other@example.com\nDate:"),
        ("MIME-Version:", "Subject: other\nMIME-Version:"),
        ("t=1700000000", "t=1700000001"),
    ] {
        assert!(signed.contains(from), "{from:?}");
        let answers = verify(&signed.replace(from, to), &records);
        assert_eq!(answers.len(), 3, "{to:?}");
        assert!(answers.iter().all(|answer| answer != "True"), "{to:?}: {answers:?}");
    }
    let mut others = records.clone();
    others.rotate_left(1);
    let answers = verify(&signed, &others);
    assert!(answers.len() == 3 && answers.iter().all(|answer| answer != "True"), "{answers:?}");
}

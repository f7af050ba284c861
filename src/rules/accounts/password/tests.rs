use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

/// The vectors of the specification.
const VECTORS: [(&str, &str); 14] = [
    ("Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
    ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    ("This is just a test", "$5$rounds=5000$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"),
    (
        "a very much longer text to encrypt.  This one even stretches over morethan one line.",
        "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
    ),
    (
        "we have a short salt string but not a short password",
        "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/",
    ),
    ("a short string", "$5$rounds=123456$asaltof16chars..$gP3VQ/6X7UUEW3HkBn2w1/Ptq2jxPyzV/cZKmF/wJvD"),
    (
        "the minimum number is still observed",
        "$5$rounds=1000$roundstoolow$yfvwcWrQ8l/K0DAWyuPMDNHpIVlTQebY9l/gL972bIC",
    ),
    (
        "Hello world!",
        "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
    ),
    (
        "Hello world!",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "This is just a test",
        "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
    ),
    (
        "a very much longer text to encrypt.  This one even stretches over morethan one line.",
        "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
    ),
    (
        "we have a short salt string but not a short password",
        "$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0",
    ),
    (
        "a short string",
        "$6$rounds=123456$asaltof16chars..$BtCwjqMJGx5hrJhZywWvt0RLE8uZ4oPwcelCjmw2kSYu.Ec6ycULevoBK25fs2xXgMNrCzIMVcgEJAstJeonj1",
    ),
    (
        "the minimum number is still observed",
        "$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX.",
    ),
];

fn hash(text: &str) -> PasswordHash {
    PasswordHash::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_vectors_of_the_specification() {
    for (password, text) in VECTORS {
        let hash = hash(text);
        assert_eq!(hash.to_string(), text);
        assert!(hash.verify(password.as_bytes()), "{text}");
        assert!(!hash.verify(password.to_uppercase().as_bytes()), "{text}");
    }
}

#[test]
fn salts_and_rounds_are_taken_as_the_specification_says() {
    for (password, text) in VECTORS {
        let long = text.replace("saltst$", "saltstring$").replace("ltstrin$", "ltstring$");
        let few = long.replace("rounds=1000$", "rounds=10$");
        assert_eq!(hash(&few), hash(text));
        assert!(hash(&few).verify(password.as_bytes()));
    }
}

#[test]
fn prefixes_of_dovecot_are_understood() {
    let (five, six) = (VECTORS[1].1, VECTORS[8].1);
    for text in [
        format!("{{SHA256-CRYPT}}{five}"),
        format!("{{sha256-crypt}}{five}"),
        format!("{{CRYPT}}{five}"),
        format!("{{SHA512-CRYPT}}{six}"),
        format!("{{CRYPT}}{six}"),
    ] {
        assert!(hash(&text).verify(b"Hello world!"), "{text}");
    }
    for text in [
        format!("{{SHA512-CRYPT}}{five}"),
        format!("{{SHA256-CRYPT}}{six}"),
        format!("{{CRYPT}}{{CRYPT}}{six}"),
        format!("{{PLAIN}}{six}"),
    ] {
        assert!(PasswordHash::parse(&text).unwrap_err().starts_with("not a hash"), "{text}");
    }
}

#[test]
fn what_can_not_be_used_is_told() {
    let six = VECTORS[8].1;
    let hash = six.strip_prefix("$6$saltstring").unwrap();
    for (text, expected) in [
        ("", "not a hash"),
        ("hunter2", "not a hash"),
        ("!", "not a hash"),
        ("{CRYPT}", "not a hash"),
        ("{CRYPT}é", "not a hash"),
        ("$1$salt$qJH7.N4xYta3aEG/dfqo/0", "not a hash"),
        ("$y$j9T$x$y", "not a hash"),
        ("$6$", "the hash is cut off"),
        ("$6$salt", "the hash is cut off"),
        ("$6$salt$", "the hash is cut off"),
        (six.strip_suffix('1').unwrap(), "the hash is cut off"),
        (&format!("{six}."), "the hash is cut off"),
        (&six.replace("$svn", "$sv:"), "the hash is cut off"),
        (&format!("$6$sält{hash}"), "the hash is cut off"),
        (&format!("$5$saltstring{hash}"), "the hash is cut off"),
        ("$6$rounds=5000", "the hash is cut off"),
        (&format!("$6$rounds=x$salt{hash}"), "rounds= has no number"),
        (&format!("$6$rounds=+5000$salt{hash}"), "rounds= has no number"),
        (&format!("$6$rounds=$salt{hash}"), "rounds= has no number"),
        (&format!("$6$rounds=9999999999$salt{hash}"), "rounds= has no number"),
        (&format!("$6$rounds=1000001$salt{hash}"), "the hash has more than 1000000 rounds"),
    ] {
        let error = PasswordHash::parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    assert!(PasswordHash::parse(&format!("$6$rounds=1000000$salt{hash}")).is_ok());
}

#[test]
fn a_made_hash_is_one_of_its_password() {
    let made = PasswordHash::make("pä ss".as_bytes(), "0123456789abcdef");
    assert!(made.to_string().starts_with("$6$0123456789abcdef$"));
    assert_eq!(hash(&made.to_string()), made);
    assert!(made.verify("pä ss".as_bytes()) && !made.verify(b"pa ss") && !made.verify(b""));
    let longest = [b'x'; 255];
    assert!(PasswordHash::make(&longest, "a").verify(&longest));
    assert!(!PasswordHash::make(&[b'x'; 256], "a").verify(&[b'x'; 256]), "too long");
    assert_eq!(format!("{made:?}"), "PasswordHash");
}

/// Passwords of all lengths around the digest sizes, compared with OpenSSL's program if it is installed.
#[test]
fn openssl_passwd_makes_the_same() {
    for (option, begin) in [("-5", "$5$"), ("-6", "$6$")] {
        let passwords: Vec<String> = [1, 2, 15, 31, 32, 33, 63, 64, 65, 127, 200]
            .iter()
            .map(|n| "pass wort ".chars().cycle().take(*n).collect::<String>() + "ä")
            .collect();
        let started = Command::new("openssl")
            .args(["passwd", option, "-salt", "./09AZazsalt", "-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = started else { return };
        let mut input = child.stdin.take().unwrap();
        input.write_all(passwords.join("\n").as_bytes()).unwrap();
        drop(input);
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(output.lines().count(), passwords.len(), "{output}");
        for (line, password) in output.lines().zip(&passwords) {
            assert!(line.starts_with(begin) && hash(line).verify(password.as_bytes()), "{password}: {line}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\{CRYPT\\})?\\$[56]\\$(rounds=[0-9]{0,10}\\$)?[./a-zé]{0,20}\\$?[./0-9A-Za-zé]{40,90}|\\PC*") {
        if let Ok(hash) = PasswordHash::parse(&text) {
            prop_assert_eq!(PasswordHash::parse(&hash.to_string()), Ok(hash));
        }
    }
}

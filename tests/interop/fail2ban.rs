//! The filter of fail2ban, matched by Python's `re` as in fail2ban.

use std::io::Write;
use std::process::{Command, Stdio};

const FILTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/fail2ban/filter.d/pillarbox.conf");

/// Prints the address that each line of standard input names, or `-`. The filter is parsed as in fail2ban, and `<ADDR>` is
/// replaced by a short form of fail2ban's pattern: an address of either family.
const MATCH: &str = r#"
import configparser, re, sys
filter = configparser.ConfigParser(interpolation=None)
filter.read(sys.argv[1], encoding="utf-8")
text = filter["Definition"]["failregex"]
assert text.count("<ADDR>") == 1
pattern = re.compile(text.replace("<ADDR>", r"(?P<addr>(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4})"))
for line in sys.stdin.buffer.read().decode().split("\n")[:-1]:
    found = pattern.search(line)
    print(found["addr"] if found else "-")
"#;

/// Log lines without their time, which fail2ban removes, and the address that it finds in each.
const LINES: [(&str, &str); 19] = [
    (r#"event=auth_failed client=192.0.2.1 name="tim" mechanism=PLAIN"#, "192.0.2.1"),
    (r#"<4>event=auth_failed client=192.0.2.1 name="" mechanism=LOGIN"#, "192.0.2.1"),
    (
        r#" WARN  [pillarbox] event=auth_failed client=2001:db8::1 name="a \"b\\" mechanism=SCRAM-SHA-256"#,
        "2001:db8::1",
    ),
    (
        r#" box pillarbox[12]: event=auth_failed client=192.0.2.1 name="x\" mechanism=PLAIN event=auth_failed client=198.51.100.7 name=\"y" mechanism=PLAIN"#,
        "192.0.2.1",
    ),
    (r#"event=auth_failed client=192.0.2.1 name="\\" mechanism=PLAIN"#, "192.0.2.1"),
    (
        r#"event=closed client=192.0.2.1 reason="event=auth_failed client=198.51.100.7 name=\"x\" mechanism=PLAIN""#,
        "-",
    ),
    (
        r#"event=accepted from=x client=192.0.2.1 event=auth_failed client=198.51.100.7 name="x" mechanism=PLAIN"#,
        "-",
    ),
    (r#"event=auth_failed client=192.0.2.1 name="x" mechanism=PLAIN name="y""#, "-"),
    (r#"event=auth_failed client=unknown name="x" mechanism=PLAIN"#, "-"),
    (
        r#"event=refused client=192.0.2.1 helo=my?pc from=- to=- reply="502 5.5.1 there is no AUTH here; submission has a port of its own""#,
        "192.0.2.1",
    ),
    (
        r#"<6>event=refused client=2001:db8::1 helo=- from=- to=- reply="538 5.7.11 no password in clear; say STARTTLS first""#,
        "2001:db8::1",
    ),
    // A wrong password has a line of its own, and other refusals are no attack.
    (
        r#"event=refused client=192.0.2.1 helo=c from=- to=- reply="535 5.7.8 authentication credentials invalid""#,
        "-",
    ),
    (r#"event=refused client=192.0.2.1 helo=c from=- to=- reply="503 5.5.1 say EHLO first""#, "-"),
    (
        r#"event=refused client=192.0.2.1 helo=c from=a@b to=c@d reply="550 5.7.1 relaying is not permitted""#,
        "-",
    ),
    (
        r#"event=refused client=192.0.2.1 helo=c from="- to=- reply=\"538 5.7.11 x\"" to=- reply="501 5.1.7 x""#,
        "-",
    ),
    (
        r#"event=refused client=192.0.2.1 helo=c from=- to=- reply="538 5.7.11 x" event=refused client=198.51.100.7"#,
        "-",
    ),
    (r#"event=accepted from=x event=refused client=192.0.2.1 helo=c from=- to=- reply="538 5.7.11 x""#, "-"),
    (r#"event=refused client=192.0.2.1 name="x" mechanism=PLAIN"#, "-"),
    (r#"event=authenticated client=192.0.2.1 name="x" mechanism=PLAIN"#, "-"),
];

/// The address that the filter finds in each line, or `-`; `None` without Python, which `make test` installs.
pub fn found(lines: &[&str]) -> Option<Vec<String>> {
    let child = Command::new("python3")
        .args(["-c", MATCH, FILTER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    for line in lines {
        writeln!(child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn the_filter_finds_the_client_and_nobody_else() {
    if let Some(found) = found(&LINES.map(|(line, _)| line)) {
        assert_eq!(found, LINES.map(|(_, address)| address));
    }
}

#[test]
fn fail2ban_itself_takes_the_filter() {
    let line = format!("2026-11-23T06:53:30Z {}", LINES[2].0);
    let Ok(output) = Command::new("fail2ban-regex").args([&line, FILTER]).output() else { return };
    let reported = String::from_utf8_lossy(&output.stdout);
    assert!(reported.contains("1 matched"), "{reported}");
}

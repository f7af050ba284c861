use super::*;

fn parsed(line: &str) -> Result<MailCall, u8> {
    parse(line.split(' ').map(|word| word.replace('_', " "))).map_err(|failure| failure.code)
}

#[test]
fn the_flags_of_scripts_are_read() {
    let call = |line: &str| parsed(line).unwrap();
    let plain = MailCall { subject: Some("a b".into()), to: vec!["root".into()], ..MailCall::default() };
    for line in [
        "-s a_b root",
        "-sa_b root",
        "--subject=a_b root",
        "-vs a_b root",
        "root -s a_b",
        "-n -i -s a_b -- root",
    ] {
        let found = call(line);
        assert_eq!(MailCall { is_verbose: false, ..found }, plain, "{line}");
    }
    let found = call(
        "-r_me@a.example -a X-Priority:_1 -a /etc/hosts -A b.txt -c joe -b jim,tim -E -S replyto=x@y -S smtp-auth-password=p a b",
    );
    assert_eq!(found.from.as_deref(), Some(" me@a.example"));
    assert_eq!(found.fields, ["X-Priority: 1"]);
    assert_eq!(found.attachments, [PathBuf::from("/etc/hosts"), "b.txt".into()]);
    assert_eq!(
        (found.cc, found.bcc, found.to),
        (vec!["joe".into()], vec!["jim,tim".into()], vec!["a".into(), "b".into()])
    );
    assert!(found.skips_empty && found.reply_to.as_deref() == Some("x@y"));
    assert_eq!(call("-S from=a@b -r c@d x").from.as_deref(), Some("c@d"));
    assert_eq!(call("-- -s").to, ["-s"]);
}

/// A web form's "address" must not send a file away, and no mailbox is read.
#[test]
fn what_would_surprise_is_refused() {
    for line in [
        "root -A /etc/shadow",
        "root -a /etc/shadow",
        "root -q x",
        "root --attach=/etc/shadow",
        "-f",
        "-u joe",
        "-H",
        "-s",
        "-Z root",
        "--frobnicate root",
    ] {
        assert_eq!(parsed(line), Err(exit::USAGE), "{line}");
    }
}

#[test]
fn a_field_is_told_from_a_file() {
    for (text, expected) in [
        ("X-A: b", true),
        ("Content-Type:text/html", true),
        ("/tmp/a:b", false),
        ("a.txt", false),
        (": x", false),
    ] {
        assert_eq!(is_field(text), expected, "{text}");
    }
}

#[test]
fn values_add_no_line_to_the_header_section() {
    let call = MailCall {
        fields: vec!["X-A: 1\nBcc: them@far.example".into()],
        from: Some("me@a.example\r\nX: y".into()),
        to: vec!["joe\n@far.example".into()],
        subject: Some("a\nb".into()),
        ..MailCall::default()
    };
    let header = header(&call, None);
    let names: Vec<&str> =
        header.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| ["From", "To", "X-A", "Subject"].contains(name)), "{header}");
    assert!(header.ends_with("\n\n"));
}

#[test]
fn the_help_has_a_row_for_each_flag_with_an_effect() {
    let told: String =
        help::rows(ROWS).filter_map(|row| row.name.strip_prefix('-')?.chars().next()).collect();
    for letter in VALUED.chars().filter(|letter| !"MX".contains(*letter)).chain("Etv".chars()) {
        assert!(told.contains(letter), "no row for -{letter}");
    }
    for (line, text) in [("--help", "-s SUBJECT"), ("--version", env!("CARGO_PKG_VERSION"))] {
        assert!(parsed(line).unwrap().shows.is_some_and(|shown| shown.contains(text)), "{line}");
    }
}

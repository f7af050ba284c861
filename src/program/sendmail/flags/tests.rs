//! Command lines of programs that call sendmail, and what is made of them.

use super::*;

fn call(line: &str) -> Call {
    parse(line.split_ascii_whitespace().map(OsString::from))
}

/// The flags that INTERFACE names: done, and accepted.
const DONE: &str = "tifrFsbqNRVBCcP";
const ACCEPTED: &str = "AdDEeGhJLMmnOopUXx46aHSwTu";

#[test]
fn every_flag_has_one_row_and_no_promised_one_is_missing() {
    for letter in DONE.chars().chain(ACCEPTED.chars()) {
        let rows: Vec<&Flag> = FLAGS.iter().filter(|flag| flag.letter == letter).collect();
        assert_eq!(rows.len(), 1, "-{letter}");
        let is_ignored = matches!(rows[0].effect, Effect::Ignored | Effect::Login);
        assert_eq!(is_ignored, ACCEPTED.contains(letter) && letter != 'o', "-{letter}");
    }
    for (i, flag) in FLAGS.iter().enumerate() {
        assert!(FLAGS[..i].iter().all(|other| other.letter != flag.letter), "-{} twice", flag.letter);
        let is_silent = matches!(flag.effect, Effect::Ignored | Effect::Login | Effect::Question);
        assert_eq!(flag.about.is_empty(), is_silent, "-{}", flag.letter);
    }
}

#[test]
fn every_flag_takes_its_value_and_no_more() {
    for Flag { letter, takes, effect, .. } in &FLAGS {
        let good = match effect {
            Effect::Mode => "m",
            Effect::Notify => "never",
            Effect::Return => "hdrs",
            _ => "7bit",
        };
        let attached = if *takes == Takes::Nothing { String::new() } else { good.to_owned() };
        let has_value = matches!(takes, Takes::Value | Takes::ValueOrNothing);
        let separate = if has_value { good } else { "" };
        for line in [
            format!("-{letter}{attached} to"),
            format!("-{letter} {separate} to"),
            format!("-n{letter}{attached} -n -- to"),
        ] {
            let call = call(&line);
            assert_eq!(
                (&call.recipients[..], &call.complaints[..]),
                (&["to".to_owned()][..], &[][..]),
                "{line}"
            );
        }
        let alone = call(&format!("-{letter}"));
        assert_eq!(alone.complaints.is_empty(), *takes != Takes::Value, "-{letter}");
    }
}

/// Argument by argument, as `|` parts them: the recipients, and the number of complaints.
fn recipients(line: &str) -> (String, usize) {
    let call = parse(line.split('|').map(OsString::from));
    let reported = format!("{call:?}");
    assert!(!reported.contains("SECRET"), "{reported}");
    (call.recipients.join(" "), call.complaints.len())
}

#[test]
fn values_of_flags_of_others_are_no_recipients() {
    for line in [
        "-a|default|TO",
        "-adefault|TO",
        "--account|default|TO",
        "--account=default|TO",
        "--acc|default|TO",
        "-s|Disk full|TO",
        "-sDisk full|TO",
        "--subject=Disk full|TO",
        "--from|x@y|TO",
        "-au|USER@x|-ap|SECRET|-am|LOGIN|TO",
        "-auUSER@x|-apSECRET|-amLOGIN|TO",
        "-tap|SECRET|TO",
        "-xu|joe|-xp|SECRET|TO",
        "--password|SECRET|TO",
        "--passwordeval=cat SECRET|TO",
        "--auth-password|SECRET|TO",
        "--host|h|--port=25|--tls|--tls-trust-file|f|--timeout=off|--auth=plain|--user=|TO",
        "-H|openssl s_client|-S|h:25|-w|30|-T|5|-u|joe|TO",
        "-A|acc|-D|log|-h|3|TO",
        "-C|f|-c|g|--file|h|TO",
        "--read-recipients|--read-envelope-from|--syslog=on|--logfile|f|-X|f|TO",
        "--dsn-notify=off|--dsn-return|headers|-N|off|TO",
    ] {
        for to in ["joe@far.example", "root"] {
            assert_eq!(recipients(&line.replace("TO", to)), (to.to_owned(), 0), "{line}");
        }
    }
    for (line, expected) in [
        // A word behind what is not known.
        ("-z|word|-t", ("", 2)),
        ("-z|word|a@b", ("a@b", 2)),
        ("--fast|word|a@b", ("a@b", 2)),
        ("--fast=word|a@b", ("a@b", 1)),
        ("--tls|on|a@b", ("a@b", 1)),
        ("--fast|a@b|root", ("a@b root", 1)),
        ("-z|root|joe", ("root joe", 1)),
        ("-tz|root|-i", ("", 2)),
        ("-kfoo|root", ("root", 1)),
        ("-zi|root", ("root", 1)),
        // dma's -D has no value.
        ("-D|root", ("root", 0)),
        ("-D|-i|root", ("root", 0)),
        // Copies of mailx.
        ("-b|a@b|-c|c@d|root", ("a@b c@d root", 0)),
        ("--cc=joe|--bcc|a@b|root", ("joe a@b root", 0)),
    ] {
        let (to, complaints) = recipients(line);
        assert_eq!((to.as_str(), complaints), expected, "{line}");
    }
}

#[test]
fn flags_of_others_do_what_they_say() {
    let call = call(
        "--from=a@b -s Hot --read-recipients --read-envelope-from -c x/y@z --dsn-return=headers -N off a",
    );
    assert_eq!(
        call,
        Call {
            sender: Some("a@b".into()),
            subject: Some("Hot".into()),
            header_recipients: true,
            sender_from_header: true,
            config: Some("x/y@z".into()),
            ret: Some(Ret::Headers),
            recipients: vec!["a".into()],
            ..Call::default()
        }
    );
}

#[test]
fn long_flags_are_there_once() {
    let names: Vec<&str> = LONG_FLAGS.iter().flat_map(|row| row.2.split(' ')).collect();
    for (i, name) in names.iter().enumerate() {
        assert!(!name.is_empty() && !names[..i].contains(name), "--{name}");
    }
    assert!(long_flag("t").is_none() && long_flag("tls-f").is_some() && long_flag("PassWord").is_some());
}

#[test]
fn flags_end_at_the_first_recipient() {
    for line in ["a -t b", "-- a -t b"] {
        assert_eq!(
            (call(line).recipients, call(line).header_recipients),
            (vec!["a".into(), "-t".into(), "b".into()], false)
        );
    }
}

#[test]
fn modes_come_from_flags_and_the_last_one_counts() {
    for (line, mode) in [
        ("a", SendmailMode::Send),
        ("-bm -t", SendmailMode::Send),
        ("-bs -odb -oem", SendmailMode::Smtp),
        ("-b s", SendmailMode::Smtp),
        ("-bp", SendmailMode::PrintQueue),
        ("-bi", SendmailMode::MakeAliases),
        ("-bv a", SendmailMode::Verify),
        ("-bd -q30m", SendmailMode::Serve),
        ("-q30m -bd", SendmailMode::Serve),
        ("-q", SendmailMode::RunQueue),
        // Here a message waits on standard input.
        ("-q a@b", SendmailMode::Send),
        ("-q -t", SendmailMode::Send),
        ("-bz a", SendmailMode::Send),
        ("--help", SendmailMode::Help),
        ("--version", SendmailMode::Version),
        ("-P a", SendmailMode::Question),
        ("--serverinfo --host=x", SendmailMode::Question),
    ] {
        assert_eq!(call(line).mode, mode, "{line}");
    }
}

#[test]
fn what_is_not_understood_is_told_and_changes_nothing() {
    for line in ["-z a", "-iz a", "--fast a", "- a", "-bz a", "-Nsome a", "-Rsome a", "-Va=b a"] {
        let call = call(line);
        assert_eq!((call.complaints.len(), &call.recipients[..]), (1, &["a".to_owned()][..]), "{line}");
    }
    let read = call("-N failure,DELAY -Rhdrs -V x -R full -B 8bitmime --config=x -F Me -oi a");
    let notify = Notify { failure: true, delay: true, success: false };
    assert_eq!(
        read,
        Call {
            notify: Some(notify),
            ret: Some(Ret::Full),
            envid: Some("x".into()),
            body: Body::EightBitMime,
            config: Some("x".into()),
            full_name: Some("Me".into()),
            dots_are_text: true,
            recipients: vec!["a".into()],
            ..Call::default()
        }
    );
}

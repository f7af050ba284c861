//! Which addresses become which, what stays visible of the old ones, and that nothing else changes.

use super::*;
use mail_parser::MessageParser;
use proptest::prelude::*;

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn policy(senders: &[(&str, &str)], others: Others) -> RewritePolicy {
    let domain = |text| Domain::parse(text).unwrap();
    RewritePolicy {
        hostname: domain("router.lan"),
        local_domains: vec![domain("localhost"), domain("router.lan"), domain("home.example")],
        senders: senders.iter().map(|(old, new)| (Unqualified::parse(old).unwrap(), mailbox(new))).collect(),
        others,
        subject_prefix: String::new(),
    }
}

fn all() -> RewritePolicy {
    policy(&[], Others::Become(mailbox("alerts@example.com")))
}

fn moving() -> RewritePolicy {
    policy(&[], Others::MoveTo(Domain::parse("example.com").unwrap()))
}

const SENDERS: [(&str, &str); 3] = [
    ("root", "alerts@example.com"),
    ("Nas@far.example", "nas@example.com"),
    ("bob@example.net", "x@y.example"),
];

fn named() -> RewritePolicy {
    policy(&SENDERS, Others::Stay)
}

/// The whole message as it leaves.
fn left(policy: &RewritePolicy, sender: &str, message: &str) -> String {
    let (head, octets) =
        policy.header(message.as_bytes(), &ReversePath::parse(sender).unwrap()).unwrap_or_default();
    let mut message = message.as_bytes().to_vec();
    message.splice(..octets, head);
    String::from_utf8(message).unwrap()
}

#[test]
fn each_address_becomes_what_the_operator_says() {
    let both = policy(&SENDERS, Others::Become(mailbox("box@example.com")));
    let moved = policy(&SENDERS, Others::MoveTo(Domain::parse("example.net").unwrap()));
    // The address, and its result with `from`, `domain`, `senders`, `senders` and `from`, `senders` and `domain`.
    for (old, from, domain, senders, with_from, with_domain) in [
        (
            "root",
            "alerts@example.com",
            "root@example.com",
            "alerts@example.com",
            "alerts@example.com",
            "alerts@example.com",
        ),
        (
            "Root@LOCALHOST",
            "alerts@example.com",
            "Root@example.com",
            "alerts@example.com",
            "alerts@example.com",
            "alerts@example.com",
        ),
        (
            "root@nas",
            "alerts@example.com",
            "root@example.com",
            "alerts@example.com",
            "alerts@example.com",
            "alerts@example.com",
        ),
        (
            "root@[127.0.0.1]",
            "alerts@example.com",
            "root@example.com",
            "alerts@example.com",
            "alerts@example.com",
            "alerts@example.com",
        ),
        ("root@far.example", "alerts@example.com", "-", "-", "box@example.com", "-"),
        (
            "joe@router.lan",
            "alerts@example.com",
            "joe@example.com",
            "-",
            "box@example.com",
            "joe@example.net",
        ),
        (
            "joe@home.example",
            "alerts@example.com",
            "joe@example.com",
            "-",
            "box@example.com",
            "joe@example.net",
        ),
        ("joe@[192.0.2.1]", "alerts@example.com", "-", "-", "box@example.com", "-"),
        (
            "nas@far.example",
            "alerts@example.com",
            "-",
            "nas@example.com",
            "nas@example.com",
            "nas@example.com",
        ),
        // An address that senders become stays, in any case; and a moved one may have a row of its own.
        ("Alerts@EXAMPLE.com", "-", "-", "-", "-", "-"),
        ("box@example.com", "alerts@example.com", "-", "-", "-", "-"),
        ("bob@router.lan", "alerts@example.com", "bob@example.com", "-", "box@example.com", "x@y.example"),
    ] {
        let address = Unqualified::parse(old).unwrap();
        let policies = [&all(), &moving(), &named(), &both, &moved];
        for (policy, expected) in policies.into_iter().zip([from, domain, senders, with_from, with_domain]) {
            let new = policy.replace(&address).map_or("-".to_owned(), |mailbox| mailbox.to_string());
            assert_eq!(new, expected, "{old} by {policy:?}");
        }
    }
    assert_eq!(all().reverse_path(&ReversePath::Null), ReversePath::Null);
    assert_eq!(
        all().reverse_path(&ReversePath::parse("root@router.lan").unwrap()).to_string(),
        "alerts@example.com"
    );
    assert!(
        policy(&[], Others::Stay).is_idle() && !all().is_idle() && !moving().is_idle() && !named().is_idle()
    );
}

#[test]
fn the_old_from_stays_visible() {
    for (old, new) in [
        ("root@router.lan", "\"root on router\" <alerts@example.com>"),
        ("root", "\"root on router\" <alerts@example.com>"),
        ("root <root@localhost>", "\"root on router\" <alerts@example.com>"),
        ("root@nas", "\"root on nas\" <alerts@example.com>"),
        ("joe@far.example", "\"joe at far.example\" <alerts@example.com>"),
        ("joe@[192.0.2.1]", "\"joe at [192.0.2.1]\" <alerts@example.com>"),
        ("root@router.lan (Cron Daemon)", "\"Cron Daemon (root on router)\" <alerts@example.com>"),
        ("\"(Cron Daemon)\" <root@router.lan>", "\"(Cron Daemon) (root on router)\" <alerts@example.com>"),
        ("Smart\n\tD <root@router.lan>", "\"Smart D (root on router)\" <alerts@example.com>"),
        ("\"a\\\"b\" <r@router.lan>", "\"a\\\"b (r on router)\" <alerts@example.com>"),
        ("\"a b\"@router.lan", "\"a b on router\" <alerts@example.com>"),
        (
            "=?utf-8?Q?J=C3=BCrgen?= <j@far.example>",
            "=?utf-8?Q?J=C3=BCrgen?=\n =?utf-8?Q?_=28j_at_far=2Eexample=29?= <alerts@example.com>",
        ),
        ("Jürgen <j@nas>", "=?utf-8?Q?J=C3=BCrgen_=28j_on_nas=29?= <alerts@example.com>"),
        // Several addresses become one; text that is no address list becomes a name.
        ("a@nas, Joe <joe@nas>", "\"a on nas\" <alerts@example.com>"),
        ("alerts@example.com, joe@nas", "alerts@example.com"),
        ("Back Up", "\"Back Up\" <alerts@example.com>"),
        ("<root@nas\n\t(", "\"root at nas (\" <alerts@example.com>"),
        ("undisclosed:;", "\"undisclosed:;\" <alerts@example.com>"),
        ("a@b@c", "\"a at b at c\" <alerts@example.com>"),
        // An address as the name, and characters that no phrase may contain.
        ("root@nas.example <root@nas.example>", "\"root at nas.example\" <alerts@example.com>"),
        ("root@nas <root@nas>", "\"root on nas\" <alerts@example.com>"),
        ("\"root@nas\" <root@nas>", "\"root on nas\" <alerts@example.com>"),
        ("x@y <root@nas>", "\"x at y (root on nas)\" <alerts@example.com>"),
        ("[NAS] Alerts <a@nas>", "\"[NAS] Alerts (a on nas)\" <alerts@example.com>"),
        ("a@b <alerts@example.com>", "\"a at b\" <alerts@example.com>"),
        ("=?utf-8?Q?a=40b?= <c@nas>", "\"a at b (c on nas)\" <alerts@example.com>"),
        ("", "alerts@example.com"),
    ] {
        let message = format!("Subject: x\nfrom: {old}\nTo: y\n\nFrom: body\n");
        let expected = format!("Subject: x\nFrom: {new}\nX-Original-From: {old}\nTo: y\n\nFrom: body\n");
        assert_eq!(left(&all(), "root@router.lan", &message), expected);
    }
}

#[test]
fn a_moved_address_keeps_its_name() {
    for (old, new) in [
        ("root@router.lan", Some("\"root on router\" <root@example.com>")),
        ("Joe Doe <joe@home.example>", Some("\"Joe Doe\" <joe@example.com>")),
        ("joe (Joe D)", Some("\"Joe D\" <joe@example.com>")),
        ("joe@far.example", None),
        ("Back Up", None),
    ] {
        let message = format!("From: {old}\n\nx\n");
        let expected =
            new.map_or(message.clone(), |new| format!("From: {new}\nX-Original-From: {old}\n\nx\n"));
        assert_eq!(left(&moving(), "joe@router.lan", &message), expected);
    }
}

#[test]
fn what_is_an_identity_already_is_not_touched() {
    for message in
        ["From:  A  <Alerts@Example.com> (x)\nSender: alerts@example.com\n\nx", "FROM: alerts@example.com"]
    {
        assert_eq!(all().header(message.as_bytes(), &ReversePath::Null), None, "{message}");
    }
    for message in ["Subject: x\n\nFrom: a\n", "\n", "", "x\n"] {
        assert_eq!(moving().header(message.as_bytes(), &ReversePath::Null), None, "{message}");
    }
}

#[test]
fn sender_and_the_newest_resent_block_follow() {
    let both = policy(&[("joe", "joe@example.com")], Others::Become(mailbox("box@example.com")));
    for (old, new) in [
        // Dropped where it would equal From, before or after it.
        ("Sender: root\nFrom: a\n", "From: \"a on router\" <box@example.com>\nX-Original-From: a\n"),
        (
            "From: joe\nSender: root@nas (x)\n",
            "From: \"joe on router\" <joe@example.com>\nX-Original-From: joe\nSender: \"x (root on nas)\" <box@example.com>\n",
        ),
        ("From: joe@example.com\nSender: joe\n", "From: joe@example.com\n"),
        (
            "From: joe@example.com\nSender: x x\n",
            "From: joe@example.com\nSender: \"x x\" <box@example.com>\n",
        ),
        (
            "Resent-From: root\nResent-From: ann\nFrom: joe@example.com\nReply-To: root\n",
            "Resent-From: \"root on router\" <box@example.com>\nResent-From: ann\nFrom: joe@example.com\nReply-To: root\n",
        ),
        // A second From is not allowed.
        ("From: joe@example.com\nFrom: a\n", "From: joe@example.com\nX-Original-From: a\n"),
        (
            "From: a\nFrom: b\n",
            "From: \"a on router\" <box@example.com>\nX-Original-From: a\nX-Original-From: b\n",
        ),
    ] {
        assert_eq!(left(&both, "root@router.lan", &format!("{old}\nx\n")), format!("{new}\nx\n"));
    }
}

#[test]
fn a_missing_from_is_added_and_the_header_section_ends_there() {
    let from = "From: \"root on router\" <alerts@example.com>\n";
    for (old, new) in [
        ("Subject: x\n\nx\n", format!("Subject: x\n{from}\nx\n")),
        ("Subject: x", format!("Subject: x\n{from}")),
        ("", from.to_owned()),
        ("\nx", format!("{from}\nx")),
        ("no field\nFrom: x\n", format!("{from}\nno field\nFrom: x\n")),
        ("Subject: x\nno field\nFrom: x\n", format!("Subject: x\n{from}\nno field\nFrom: x\n")),
    ] {
        assert_eq!(left(&all(), "root@router.lan", old), new);
    }
    assert_eq!(left(&all(), "", "Subject: x\n\n"), "Subject: x\nFrom: alerts@example.com\n\n");
    assert_eq!(left(&all(), "alerts@example.com", "X: x\n\n"), "X: x\nFrom: alerts@example.com\n\n");
    assert_eq!(left(&named(), "root@router.lan", "X: x\n\n"), "X: x\n\n");
}

#[test]
fn no_line_becomes_too_long() {
    for length in [970, 982, 983, 990, 20_000] {
        let old = format!("From: {}\n\nx\n", "x".repeat(length));
        let new = left(&all(), "root@router.lan", &old);
        // The value is not folded.
        let longest = new.lines().map(str::len).max().unwrap();
        assert!(longest <= LINE_MAX_OCTETS.max(length + 2), "{longest}");
        assert_eq!(new.lines().next().unwrap().len(), 6 + 202);
    }
    let long = format!("From: \"{}\" <{}@{}lan>\n\n", "\\\"".repeat(500), "a".repeat(250), "b.".repeat(120));
    let new = left(&moving(), "root@router.lan", &long.replace("lan>", "nas>"));
    assert!(
        !new.contains("X-Original")
            && left(&all(), "r@nas", &long).lines().all(|line| line.len() <= 998 || line.starts_with(' '))
    );
}

/// Fields as people and programs write them, and malformed ones.
fn message() -> impl Strategy<Value = String> {
    let name = prop_oneof!["(From|Sender|Resent-From|from|Subject|X)", Just("From".to_owned())];
    let value = prop_oneof![
        "[a-c\"\\\\<>@,;:() \t=?\0üQ]{0,20}(\n [a-c<@>\"]{1,8})?",
        "(Joe |\"J\\. D\" |=\\?utf-8\\?Q\\?=C3=BC\\?= |ü )?<?(root|joe|alerts|bob)(@(router\\.lan|nas|far\\.example|example\\.com|example\\.net))?>?( \\(x\\))?",
    ];
    let field = (name, value).prop_map(|(name, value)| format!("{name}: {value}\n"));
    (proptest::collection::vec(field, 0..5), "\n?[a-zFrom:\n ]{0,20}")
        .prop_map(|(fields, body)| fields.concat() + &body)
}

proptest! {
    #[test]
    fn it_is_done_once_and_the_rest_stays(message in message(), sender in "(|root@router\\.lan|joe@far\\.example)", which in 0usize..4) {
        let policies = [all(), moving(), named(), policy(&SENDERS, Others::MoveTo(Domain::parse("example.net").unwrap()))];
        let policy = &policies[which];
        let once = left(policy, &sender, &message);
        prop_assert_eq!(&left(policy, &sender, &once), &once);
        // The body, and the other fields.
        let body = |text: &str| text.get(section(text.as_bytes()).len()..).unwrap().to_owned();
        let (old, new) = (body(&message), body(&once));
        prop_assert!(new == old || new == format!("\n{old}"), "{old:?} {new:?}");
        let others = |text: &str| -> Vec<String> {
            let of_ours = ["from", "sender", "resent-from", "x-original-from"];
            let is_other = |field: &&[u8]| !of_ours.iter().any(|name| value_of(field, name).is_some());
            fields(section(text.as_bytes())).filter(is_other).map(|field| String::from_utf8_lossy(field).trim_end().to_owned()).collect()
        };
        prop_assert_eq!(others(&message), others(&once));
        // What a host checks: one From with the one address.
        if policy.replaces_all() {
            let parsed = MessageParser::default().parse(once.as_bytes()).unwrap();
            let froms: Vec<_> = fields(section(once.as_bytes())).filter_map(|field| value_of(field, "From")).collect();
            prop_assert_eq!(froms.len(), 1, "{}", once);
            let addresses: Vec<_> = parsed.from().unwrap().iter().map(|a| a.address.as_deref().unwrap_or_default().to_ascii_lowercase()).collect();
            prop_assert_eq!(addresses, ["alerts@example.com"], "{}", once);
        }
    }
}

#[test]
fn only_what_every_reader_takes_for_an_address_is_one() {
    let joe = [Unqualified::parse("joe@a.example").unwrap()];
    for (value, is_clear) in [
        ("joe@a.example", true),
        ("Joe <joe@a.example>", true),
        ("(at work) joe@a.example", true),
        ("joe@a.example (was: joe@b.example (or <joe@c.example>))", true),
        ("\"joe@b.example <\" <joe@a.example>", true),
        ("joe@b.example <joe@a.example>", false),
        ("Joe < <joe@a.example>", false),
        ("<joe@a.example>\n :", false),
        ("<joe@[IPv6:::1]>", true),
        ("Joe (x)) joe@b.example <joe@a.example>", false),
    ] {
        assert_eq!(is_unambiguous(value.as_bytes(), &joe), is_clear, "{value}");
    }
}

//! Aliases and their members, on a small box.

use super::*;
use crate::mail::address::{Domain, ForwardPath};
use crate::rules::routing::aliases::parse_list;
use crate::rules::routing::next_hop::NextHops;
use crate::rules::routing::route::{Destination, LocalUsers, SystemAccount};
use proptest::prelude::*;

/// joe, mia, the users who forward (pat, ann, bea, cat) and system users exist; the look-up of `broken` fails.
struct Box;

impl Accounts for Box {
    fn find(&self, name: &str) -> Result<Option<SystemAccount>, LookupFailed> {
        let uid = match name {
            "root" => 0,
            "daemon" => 1,
            "joe" | "mia" | "pat" | "ann" | "bea" | "cat" => 1000,
            "broken" => return Err(LookupFailed("the directory does not answer".into())),
            _ => return Ok(None),
        };
        Ok(Some(SystemAccount { name: name.into(), uid, gid: uid, home: "/".into() }))
    }
}

struct Texts;

impl Files for Texts {
    fn include(&self, path: &str) -> Result<Vec<AliasTarget>, LookupFailed> {
        let text = match path {
            "/team" => "joe, a@far.example\n# b\nmia\n",
            "/own" => ":include:/own, joe",
            "/empty" => "# nobody yet\n",
            "/many" => return Ok(parse_list(&many(1001), false).0),
            "/most" => return Ok(parse_list(&many(1000), false).0),
            _ => return Err(LookupFailed(format!("{path}: no such file"))),
        };
        Ok(parse_list(text, false).0)
    }

    fn forward(&self, account: &SystemAccount) -> Option<Vec<AliasTarget>> {
        let text = match account.name.as_str() {
            "pat" => "\\pat, p@far.example",
            "ann" => "bea",
            "bea" => "ann, team",
            "cat" => "cat",
            _ => return None,
        };
        Some(parse_list(text, false).0)
    }
}

fn many(count: usize) -> String {
    (0..count).map(|i| format!("u{i}@far.example\n")).collect()
}

fn policy() -> RoutePolicy {
    RoutePolicy {
        hostname: Domain::parse("box.lan").unwrap(),
        local_domains: ["localhost", "box.lan"].map(|d| Domain::parse(d).unwrap()).to_vec(),
        own_addresses: Vec::new(),
        users: LocalUsers::System,
        in_homes: false,
        separator: Some('+'),
        catch_all: None,
        admin: Vec::new(),
        identities: Vec::new(),
        written: Vec::new(),
        next_hops: NextHops::default(),
    }
}

fn with_admin(admin: &str) -> RoutePolicy {
    RoutePolicy { admin: vec![Mailbox::parse(admin).unwrap()], ..policy() }
}

fn expanded(policy: &RoutePolicy, text: &str, mailbox: &Mailbox) -> Result<Expansion, NoRoute> {
    let (aliases, _) = AliasTable::parse(text, false);
    expand(&Sources { policy, aliases: &aliases, accounts: &Box, files: &Texts }, mailbox)
}

/// The result at RCPT and at the end of the data: the reply, or the recipients of a copy.
fn whom(policy: &RoutePolicy, text: &str, to: &str) -> String {
    let path = ForwardPath::parse(to).unwrap();
    let routed = match policy.route(&path, &AliasTable::parse(text, false).0, &Box) {
        Ok(routed) if routed.destination == Destination::Alias => routed,
        Ok(routed) => return format!("no alias: {}", routed.mailbox),
        Err(no_route) => return no_route.reply().to_string(),
    };
    assert!(routed.is_local, "its mail is taken from everyone");
    match expanded(policy, text, &routed.mailbox) {
        Ok(Expansion { members, troubles }) => {
            let mut words: Vec<String> = Vec::new();
            for AliasMember { mailbox, route, owner } in members {
                let place = match route.map(|routed| routed.destination) {
                    Ok(Destination::Maildir(user)) => format!("{}:", user.name),
                    Ok(Destination::Relay(_)) => String::new(),
                    Ok(Destination::Alias) => panic!("{mailbox} is an alias still"),
                    Err(_) => "nobody:".into(),
                };
                let owner = owner.map(|owner| format!(" by {owner}")).unwrap_or_default();
                words.push(format!("{place}{mailbox}{owner}"));
            }
            words.extend(troubles);
            words.join(", ")
        }
        Err(no_route) => no_route.reply().to_string(),
    }
}

fn check(policy: &RoutePolicy, rows: &[(&str, &str, &str)]) {
    for (text, to, expected) in rows {
        assert_eq!(whom(policy, text, to), *expected, "{text:?} {to}");
    }
}

#[test]
fn names_and_addresses() {
    check(
        &policy(),
        &[
            ("root: me@far.example", "root@box.lan", "me@far.example"),
            ("root: me@far.example", "ROOT+disk@localhost", "me@far.example"),
            ("root: me@far.example", "joe@box.lan", "no alias: joe@box.lan"),
            ("root: me@far.example", "root@far.example", "no alias: root@far.example"),
            ("root: me@far.example", "tim@box.lan", "550 5.1.1 no such user here"),
            ("a: joe, Mia@localhost", "a@box.lan", "joe:joe@box.lan, mia:Mia@localhost"),
            ("a: joe+x", "a@localhost", "joe:joe+x@localhost"),
            ("a: b, c@far.example\nb: joe, c@far.example", "a@box.lan", "joe:joe@box.lan, c@far.example"),
            // Two paths to the same mailbox must not make two copies.
            ("a: b, c\nb: joe, c\nc: joe, mia", "a@box.lan", "joe:joe@box.lan, mia:mia@box.lan"),
            ("joe+x: mia\njoe: a@far.example", "joe+x@box.lan", "mia:mia@box.lan"),
            ("joe+x: mia\njoe: a@far.example", "joe+y@box.lan", "a@far.example"),
            // A refused target counts as absent.
            ("joe: |vacation", "joe@box.lan", "no alias: joe@box.lan"),
            ("joe: |vacation, /dev/null, mia", "joe@box.lan", "mia:mia@box.lan"),
        ],
    );
}

/// Several `admin`s are like an alias of root with these members, unless an alias of root says otherwise.
#[test]
fn all_admins_get_what_is_for_admin() {
    let admin =
        ["me@far.example", "joe@box.lan", "pat@box.lan"].map(|it| Mailbox::parse(it).unwrap()).to_vec();
    let all = "me@far.example, joe:joe@box.lan, pat:pat@box.lan, p@far.example";
    check(
        &RoutePolicy { admin, ..policy() },
        &[
            ("", "root@box.lan", all),
            ("", "daemon@localhost", all),
            ("", "postmaster", all),
            ("a: root, mia", "a@box.lan", &format!("{all}, mia:mia@box.lan")),
            ("joe: mia", "root@box.lan", "me@far.example, mia:mia@box.lan, pat:pat@box.lan, p@far.example"),
            ("root: mia", "root@box.lan", "mia:mia@box.lan"),
            ("", "joe@box.lan", "no alias: joe@box.lan"),
        ],
    );
    // One that does not exist costs the others nothing.
    let admin = ["gone@box.lan", "joe@box.lan"].map(|it| Mailbox::parse(it).unwrap()).to_vec();
    let policy = RoutePolicy { admin, ..policy() };
    check(&policy, &[("", "root@box.lan", "nobody:gone@box.lan, joe:joe@box.lan")]);
    // A copy that is queued for root, from before there were several, still has a route.
    let root = Mailbox::parse("root@box.lan").unwrap();
    let both = RoutePolicy { admin: vec![Mailbox::parse("joe@box.lan").unwrap(), root.clone()], ..policy };
    assert_eq!(both.route_mailbox(&root, &Box).unwrap().mailbox.to_string(), "joe@box.lan");
}

/// A box with the name of the mail domain.
#[test]
fn written_addresses_that_nobody_here_has_are_elsewhere() {
    check(
        &policy(),
        &[
            ("root: me@box.lan", "root@box.lan", "me@box.lan"),
            ("root: me@box.lan", "me@box.lan", "no alias: me@box.lan"),
            ("root: me@box.lan", "tim@box.lan", "550 5.1.1 no such user here"),
            ("root: me", "root@box.lan", "550 5.1.1 no such user here"),
            ("root: me@localhost", "root@box.lan", "550 5.1.1 no such user here"),
            ("root: me@box.lan, joe@box.lan", "root@box.lan", "me@box.lan, joe:joe@box.lan"),
            ("me: me@box.lan", "me@box.lan", "me@box.lan"),
            ("*: me@box.lan", "tim@box.lan", "me@box.lan"),
            ("root: a@box.lan\na: b@box.lan", "root@box.lan", "b@box.lan"),
        ],
    );
    let admin = Mailbox::parse("me@box.lan").unwrap();
    let on = RoutePolicy { admin: vec![admin.clone()], written: vec![admin], ..policy() };
    check(
        &on,
        &[
            ("daemon: root", "daemon@box.lan", "me@box.lan"),
            ("me: root", "root@box.lan", "me@box.lan"),
            ("*: root", "tim@box.lan", "me@box.lan"),
            ("postmaster: tim", "postmaster", "me@box.lan"),
        ],
    );
}

#[test]
fn one_s_own_mailbox() {
    let on = with_admin("me@far.example");
    check(
        &on,
        &[
            ("joe: joe, a@far.example", "joe@box.lan", "joe:joe@box.lan, a@far.example"),
            ("joe: \\joe, a@far.example", "joe@box.lan", "joe:joe@box.lan, a@far.example"),
            ("joe: joe@localhost", "joe@box.lan", "joe:joe@localhost"),
            ("joe: mia\nmia: \\mia, \\joe", "joe@box.lan", "mia:mia@box.lan, joe:joe@box.lan"),
            // "gets mail for root …, unless an alias says otherwise"
            ("root: \\root", "root@box.lan", "root:root@box.lan"),
            ("root: root", "root@box.lan", "root:root@box.lan"),
            ("daemon: root", "daemon@box.lan", "me@far.example"),
        ],
    );
}

#[test]
fn the_admin_and_the_catch_all_come_after_aliases() {
    check(
        &with_admin("me@far.example"),
        &[
            ("root: joe", "root@box.lan", "joe:joe@box.lan"),
            ("postmaster: root", "postmaster", "me@far.example"),
            ("postmaster: root", "Postmaster@box.lan", "me@far.example"),
            ("postmaster: joe", "postmaster", "joe:joe@box.lan"),
            ("postmaster: tim", "postmaster", "me@far.example"),
        ],
    );
    check(
        &with_admin("joe@box.lan"),
        &[
            ("joe: a@far.example", "root@box.lan", "a@far.example"),
            ("joe: a@far.example", "postmaster", "a@far.example"),
            ("joe: root", "root@box.lan", "joe:joe@box.lan"),
            ("joe: root", "joe@box.lan", "joe:joe@box.lan"),
            ("*: root", "tim@box.lan", "joe:joe@box.lan"),
        ],
    );
    let catch_all = RoutePolicy { catch_all: Some(Mailbox::parse("all@box.lan").unwrap()), ..policy() };
    check(
        &catch_all,
        &[
            ("all: mia", "tim@box.lan", "mia:mia@box.lan"),
            ("all: mia", "joe@box.lan", "no alias: joe@box.lan"),
            ("a: tim\nall: mia", "a@box.lan", "mia:mia@box.lan"),
            ("all: tim", "tim@box.lan", "550 5.1.1 no such user here"),
        ],
    );
}

#[test]
fn everybody() {
    check(
        &policy(),
        &[
            ("*: me@far.example", "tim@box.lan", "me@far.example"),
            ("*: me@far.example", "joe@box.lan", "me@far.example"),
            ("*: me@far.example", "postmaster", "me@far.example"),
            ("*: me@far.example\njoe: \\joe", "joe@box.lan", "joe:joe@box.lan"),
            ("*: joe", "tim@box.lan", "joe:joe@box.lan"),
            ("*: joe", "joe@box.lan", "joe:joe@box.lan"),
            ("*: team\nteam: joe, mia", "tim@box.lan", "joe:joe@box.lan, mia:mia@box.lan"),
            ("*: tim", "x@box.lan", "550 5.1.1 no such user here"),
            ("a: tim\n*: me@far.example", "a@box.lan", "me@far.example"),
        ],
    );
    check(&with_admin("root@box.lan"), &[("*: root", "tim@box.lan", "root:root@box.lan")]);
}

#[test]
fn lists_and_their_owners() {
    check(
        &policy(),
        &[
            (
                "team: :include:/team\nowner-team: mia",
                "team@localhost",
                "joe:joe@localhost by owner-team@box.lan, a@far.example by owner-team@box.lan, \
                 mia:mia@localhost by owner-team@box.lan",
            ),
            ("owner-team: mia\nteam: joe", "owner-team@box.lan", "mia:mia@box.lan"),
            (
                "all: team, b@far.example\nteam: :include:/team\nowner-all: joe\nowner-team: mia",
                "all@box.lan",
                "joe:joe@box.lan by owner-team@box.lan, a@far.example by owner-team@box.lan, \
                 mia:mia@box.lan by owner-team@box.lan, b@far.example by owner-all@box.lan",
            ),
            (
                "a: team, mia\nteam: joe\nowner-team: mia",
                "a@box.lan",
                "joe:joe@box.lan by owner-team@box.lan, mia:mia@box.lan",
            ),
        ],
    );
    let foreign = RoutePolicy { hostname: Domain::parse("other.example").unwrap(), ..policy() };
    check(&foreign, &[("t: joe\nowner-t: mia", "t@box.lan", "joe:joe@box.lan by owner-t@box.lan")]);
}

#[test]
fn included_files() {
    check(
        &policy(),
        &[
            (
                "t: :include:/team, tim@far.example",
                "t@box.lan",
                "joe:joe@box.lan, a@far.example, mia:mia@box.lan, tim@far.example",
            ),
            ("t: :include:/empty", "t@box.lan", "550 5.1.1 no such user here"),
            ("t: :include:/gone, joe", "t@box.lan", "451 4.3.0 the user can't be looked up now"),
            ("t: :include:/own", "t@box.lan", "joe:joe@box.lan, the alias \"/own\" is part of a loop"),
            ("t: :include:/many", "t@box.lan", "550 5.4.6 the alias has more than 1000 recipients"),
        ],
    );
    let most = expanded(&policy(), "t: :include:/most", &Mailbox::parse("t@box.lan").unwrap());
    assert_eq!(most.unwrap().members.len(), MEMBERS_MAX);
}

#[test]
fn what_users_forward() {
    check(
        &policy(),
        &[
            ("a: pat", "a@box.lan", "pat:pat@box.lan, p@far.example"),
            ("a: pat+x", "a@box.lan", "pat:pat@box.lan, p@far.example"),
            ("a: \\pat", "a@box.lan", "pat:pat@box.lan"),
            ("a: cat", "a@box.lan", "cat:cat@box.lan"),
            // Two users who forward to each other lose no mail.
            ("a: ann\nteam: joe", "a@box.lan", "ann:ann@box.lan, joe:joe@box.lan"),
        ],
    );
    let ann = Mailbox::parse("ann@box.lan").unwrap();
    let members = expanded(&policy(), "", &ann).unwrap().members;
    assert_eq!((members.len(), &members[0].mailbox), (2, &ann), "the unknown team is told of later");
    check(&with_admin("pat@box.lan"), &[("a: root", "a@box.lan", "pat:pat@box.lan, p@far.example")]);
}

#[test]
fn what_can_t_be_followed_costs_nobody_else_a_copy() {
    let circle = "550 5.4.6 the alias \"a\" is part of a loop";
    let deep: String = (0..30).map(|i| format!("a{i}: a{}\n", i + 1)).collect();
    check(
        &policy(),
        &[
            ("a: b\nb: a", "a@box.lan", circle),
            ("a: b\nb: c\nc: a, joe", "a@box.lan", "joe:joe@box.lan, the alias \"a\" is part of a loop"),
            ("a: tim", "a@box.lan", "550 5.1.1 no such user here"),
            ("a: tim, joe", "a@box.lan", "nobody:tim@box.lan, joe:joe@box.lan"),
            ("a: broken, joe", "a@box.lan", "451 4.3.0 the user can't be looked up now"),
            (&deep, "a0@box.lan", "550 5.4.6 the alias \"a20\" is deeper than 20 aliases"),
            (&deep, "a11@box.lan", "550 5.1.1 no such user here"),
            // Mail for postmaster is always accepted.
            ("postmaster: tim", "postmaster", "root:postmaster@box.lan"),
            (
                "postmaster: a\na: postmaster",
                "postmaster",
                "root:postmaster@box.lan, the alias \"postmaster\" is part of a loop",
            ),
        ],
    );
}

#[test]
fn doubling_aliases_take_no_time() {
    let text: String = (0..19).map(|i| format!("a{i}: a{}, a{}+x, :include:/team\n", i + 1, i + 1)).collect();
    let whom = whom(&policy(), &format!("{text}a19: end@far.example"), "a0@box.lan");
    assert_eq!(whom.matches("end@far.example").count(), 1, "{whom}");
}

proptest! {
    #[test]
    fn every_expansion_ends_and_gives_nobody_two_copies(
        lines in prop::collection::vec(("[a-d*]|joe|owner-a|postmaster|a[+]x", prop::collection::vec(
            "[a-e]|joe|\\\\\\\\joe|root|ann|bea|pat|a[+]x|x@far[.]example|d@localhost|:include:/(team|own)", 1..4)), 0..8),
        to in "[a-e]|joe|root|postmaster|a[+][xy]",
        admin in prop::option::of("joe@box[.]lan|mia@box[.]lan|x@far[.]example"),
        catch_all in prop::option::of("[a-e]@box[.]lan"),
    ) {
        let text: String = lines.iter().map(|(name, targets)| format!("{name}: {}\n", targets.join(", "))).collect();
        let mailbox = |text: String| Mailbox::parse(&text).unwrap();
        let policy = RoutePolicy { admin: admin.map(mailbox).into_iter().collect(), catch_all: catch_all.map(mailbox), ..policy() };
        if let Ok(Expansion { members, .. }) = expanded(&policy, &text, &mailbox(format!("{to}@box.lan"))) {
            prop_assert!(members.iter().any(|copy| copy.route.is_ok()));
            for (i, copy) in members.iter().enumerate() {
                prop_assert!(!members[..i].iter().any(|other| other.mailbox == copy.mailbox));
            }
        }
        let path = ForwardPath::Postmaster;
        let aliases = AliasTable::parse(&text, false).0;
        let routed = policy.route(&path, &aliases, &Box).unwrap();
        if routed.destination == Destination::Alias {
            prop_assert!(expanded(&policy, &text, &routed.mailbox).is_ok(), "postmaster is always taken");
        }
    }
}

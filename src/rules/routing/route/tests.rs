//! Each kind of route, on a small box.

use super::*;
use crate::mail::next_hop::Smarthost;
use crate::rules::routing::next_hop::{Exception, ExceptionTarget};

struct Box;

impl Accounts for Box {
    fn find(&self, name: &str) -> Result<Option<SystemAccount>, LookupFailed> {
        let uid = match name {
            "root" => 0,
            "daemon" => 1,
            "joe" | "joe+list" => 1000,
            "nobody" => 65534,
            "broken" => return Err(LookupFailed("the directory does not answer".into())),
            _ => return Ok(None),
        };
        Ok(Some(SystemAccount { name: name.into(), uid, gid: uid, home: format!("/home/{name}").into() }))
    }
}

fn policy() -> RoutePolicy {
    RoutePolicy {
        hostname: Domain::parse("box.lan").unwrap(),
        local_domains: ["localhost", "box.lan"].map(|d| Domain::parse(d).unwrap()).to_vec(),
        own_addresses: vec!["192.0.2.1".parse().unwrap()],
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

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

/// The route as a line: `maildir NAME`, `relay HOP` or the reply.
fn route(policy: &RoutePolicy, to: &str) -> String {
    match policy.route(&ForwardPath::parse(to).unwrap(), &AliasTable::default(), &Box) {
        Ok(Routed { destination: Destination::Maildir(user), mailbox, .. }) => {
            format!("maildir {} for {mailbox}", user.name)
        }
        Ok(Routed { destination: Destination::Relay(hop), mailbox, is_local, .. }) => {
            format!("relay {hop} for {mailbox}{}", if is_local { " (local)" } else { "" })
        }
        Ok(Routed { destination: Destination::Alias, mailbox, .. }) => format!("alias {mailbox}"),
        Err(error) => error.reply().to_string(),
    }
}

fn check(policy: &RoutePolicy, rows: &[(&str, &str)]) {
    for (to, expected) in rows {
        assert_eq!(route(policy, to), *expected, "{to}");
    }
}

#[test]
fn users_of_the_system() {
    check(
        &policy(),
        &[
            ("joe@box.lan", "maildir joe for joe@box.lan"),
            ("JOE@LOCALHOST.", "maildir joe for JOE@LOCALHOST"),
            ("\"joe\"@[192.0.2.1]", "maildir joe for joe@[192.0.2.1]"),
            ("joe@[127.0.0.1]", "maildir joe for joe@[127.0.0.1]"),
            ("joe+tag@box.lan", "maildir joe for joe+tag@box.lan"),
            ("joe+list@box.lan", "maildir joe+list for joe+list@box.lan"),
            ("root@box.lan", "maildir root for root@box.lan"),
            ("mia@box.lan", "550 5.1.1 no such user here"),
            ("broken@box.lan", "451 4.3.0 the user can't be looked up now"),
            ("\"../joe\"@box.lan", "550 5.1.1 no such user here"),
            ("joe%example.org@box.lan", "550 5.1.1 no such user here"),
            ("example.org!joe@box.lan", "550 5.1.1 no such user here"),
            ("\"joe@example.org\"@box.lan", "550 5.1.1 no such user here"),
            ("joe@[192.0.2.9]", "relay [192.0.2.9] for joe@[192.0.2.9]"),
        ],
    );
}

/// The homes of daemons are no places for mail, and root's is not for the agent of a process that talks to the network.
#[test]
fn a_system_user_has_no_mailbox_in_a_home() {
    let homes = RoutePolicy { in_homes: true, ..policy() };
    let nobody = "550 5.1.1 no such user here";
    check(
        &homes,
        &[
            ("joe@box.lan", "maildir joe for joe@box.lan"),
            ("root@box.lan", nobody),
            ("daemon@box.lan", nobody),
            ("nobody@box.lan", nobody),
            ("daemon+tag@box.lan", nobody),
            // A mailbox without a home can't be made: no sender tries for days.
            ("postmaster@box.lan", nobody),
            ("postmaster", nobody),
        ],
    );
    let admin = RoutePolicy { admin: vec![mailbox("joe@box.lan")], ..homes.clone() };
    for name in ["root", "daemon", "nobody", "postmaster"] {
        assert_eq!(route(&admin, &format!("{name}@box.lan")), "maildir joe for joe@box.lan", "{name}");
    }
    let root = RoutePolicy { admin: vec![mailbox("root@box.lan")], ..homes.clone() };
    assert_eq!(route(&root, "daemon@box.lan"), nobody);
    assert!(homes.own_maildir(&mailbox("root@box.lan"), &Box).is_err());
    let elsewhere = RoutePolicy { catch_all: Some(mailbox("me@example.org")), ..homes };
    for name in ["daemon@box.lan", "postmaster"] {
        assert_eq!(route(&elsewhere, name), "relay example.org for me@example.org (local)", "{name}");
    }
}

#[test]
fn named_users_and_any_users() {
    let named = RoutePolicy { users: LocalUsers::Named(vec!["alerts".into()]), ..policy() };
    check(
        &named,
        &[
            ("Alerts+disk@box.lan", "maildir alerts for Alerts+disk@box.lan"),
            ("joe@box.lan", "550 5.1.1 no such user here"),
            ("postmaster", "maildir postmaster for postmaster@box.lan"),
        ],
    );
    let any = RoutePolicy { users: LocalUsers::Any, ..policy() };
    check(
        &any,
        &[
            ("mia@box.lan", "maildir mia for mia@box.lan"),
            ("a.b-c_d=e@box.lan", "maildir a.b-c_d=e for a.b-c_d=e@box.lan"),
            ("mia+x@box.lan", "maildir mia for mia+x@box.lan"),
            ("\".mia\"@box.lan", "550 5.1.1 no such user here"),
            ("\"a/b\"@box.lan", "550 5.1.1 no such user here"),
            ("\"..\"@box.lan", "550 5.1.1 no such user here"),
            ("Postmaster", "maildir postmaster for postmaster@box.lan"),
        ],
    );
    assert_eq!(route(&any, &format!("{}@box.lan", "a".repeat(65))), "550 5.1.1 no such user here");
    assert_eq!(
        route(&any, "postmaster@elsewhere.example"),
        "relay elsewhere.example for postmaster@elsewhere.example"
    );
}

/// A box with the name of the mail domain: only addresses that the operator wrote leave.
#[test]
fn an_address_that_the_operator_wrote_leaves_a_local_domain() {
    let (me, all) = (mailbox("me@Box.LAN"), mailbox("all@box.lan"));
    let smarthosts = vec![Smarthost::parse("smtp://smart.example").unwrap()];
    let written = RoutePolicy {
        admin: vec![me.clone()],
        catch_all: Some(all.clone()),
        written: vec![me, all],
        next_hops: NextHops { smarthosts, ..NextHops::default() },
        ..policy()
    };
    let (admin, catch_all) = (
        "relay smtp://smart.example:25 for me@Box.LAN (local)",
        "relay smtp://smart.example:25 for all@box.lan (local)",
    );
    check(
        &written,
        &[
            ("root@box.lan", admin),
            ("postmaster", admin),
            ("daemon@localhost", admin),
            ("mia@box.lan", catch_all),
            ("joe@box.lan", "maildir joe for joe@box.lan"),
            // Only for clients that may relay, as for any other address elsewhere.
            ("ME@box.lan", "relay smtp://smart.example:25 for ME@box.lan"),
            ("all@box.lan", "relay smtp://smart.example:25 for all@box.lan"),
            ("me@localhost", catch_all),
        ],
    );
    let without = RoutePolicy { catch_all: None, ..written.clone() };
    check(&without, &[("mia@box.lan", "550 5.1.1 no such user here"), ("root@box.lan", admin)]);
    // By MX, and by an exception.
    let by_mx = RoutePolicy { next_hops: NextHops::default(), ..written.clone() };
    check(&by_mx, &[("root@box.lan", "relay Box.LAN for me@Box.LAN (local)")]);
    // A name that only this host has leads nowhere, and neither does a user's name without a domain.
    for nobody in ["me@localhost", "me@[127.0.0.1]", "me@[192.0.2.1]"].map(mailbox) {
        let alone = RoutePolicy { admin: vec![nobody.clone()], written: vec![nobody], ..policy() };
        check(&alone, &[("root@box.lan", "550 5.1.1 no such user here")]);
    }
    let user = RoutePolicy { admin: vec![mailbox("mia@box.lan")], ..policy() };
    check(&user, &[("root@box.lan", "550 5.1.1 no such user here")]);
    // A queued recipient keeps its route, even if the admin changes.
    let mut recipient = Recipient::new(mailbox("me@box.lan"));
    let queued = |recipient: &Recipient| policy().route_recipient(recipient, &Box);
    assert_eq!(queued(&recipient), Err(NoRoute::UnknownUser));
    recipient.leaves = true;
    assert!(matches!(
        queued(&recipient),
        Ok(Routed { destination: Destination::Relay(_), leaves: true, .. })
    ));
}

#[test]
fn the_admin_gets_what_no_person_would_read() {
    let with_admin = RoutePolicy { admin: vec![mailbox("me@example.com")], ..policy() };
    check(
        &with_admin,
        &[
            ("root@box.lan", "relay example.com for me@example.com (local)"),
            ("daemon@localhost", "relay example.com for me@example.com (local)"),
            ("nobody@localhost", "relay example.com for me@example.com (local)"),
            ("Postmaster", "relay example.com for me@example.com (local)"),
            ("postmaster@box.lan", "relay example.com for me@example.com (local)"),
            ("joe@box.lan", "maildir joe for joe@box.lan"),
            ("mia@box.lan", "550 5.1.1 no such user here"),
        ],
    );
    let named = RoutePolicy { users: LocalUsers::Named(vec![]), ..with_admin };
    check(&named, &[("root@box.lan", "relay example.com for me@example.com (local)")]);
    // An admin who is a system user gets the mail in a Maildir, without a loop.
    let own = RoutePolicy { admin: vec![mailbox("root@localhost")], ..policy() };
    check(
        &own,
        &[
            ("daemon@box.lan", "maildir root for root@localhost"),
            ("postmaster", "maildir root for root@localhost"),
        ],
    );
}

#[test]
fn the_catch_all_takes_the_unknown() {
    let elsewhere = RoutePolicy { catch_all: Some(mailbox("all@example.com")), ..policy() };
    check(
        &elsewhere,
        &[
            ("mia@box.lan", "relay example.com for all@example.com (local)"),
            ("joe@box.lan", "maildir joe for joe@box.lan"),
        ],
    );
    let here = RoutePolicy { catch_all: Some(mailbox("joe@box.lan")), ..policy() };
    check(&here, &[("mia@box.lan", "maildir joe for joe@box.lan")]);
}

#[test]
fn next_hops() {
    let host = |url| Smarthost::parse(url).unwrap();
    let with_routes = RoutePolicy {
        next_hops: NextHops {
            smarthosts: vec![host("smtp://a.example"), host("smtp://b.example")],
            exceptions: vec![
                Exception {
                    pattern: "example.org".into(),
                    target: ExceptionTarget::Hosts(vec![host("smtp://10.0.0.9")]),
                },
                Exception {
                    pattern: ".example.org".into(),
                    target: ExceptionTarget::Hosts(vec![host("smtp://sub.example")]),
                },
                Exception {
                    pattern: ".deep.example.org".into(),
                    target: ExceptionTarget::Hosts(vec![host("smtp://deep.example")]),
                },
                Exception {
                    pattern: "bad.example".into(),
                    target: ExceptionTarget::Error(EnhancedStatus::NO_SUCH_DOMAIN, "no mail there".into()),
                },
            ],
            ..NextHops::default()
        },
        ..policy()
    };
    check(
        &with_routes,
        &[
            ("x@other.example", "relay smtp://a.example:25,smtp://b.example:25 for x@other.example"),
            ("x@Example.ORG", "relay smtp://10.0.0.9:25 for x@Example.ORG"),
            ("x@a.example.org", "relay smtp://sub.example:25 for x@a.example.org"),
            ("x@a.deep.example.org", "relay smtp://deep.example:25 for x@a.deep.example.org"),
            ("x@notexample.org", "relay smtp://a.example:25,smtp://b.example:25 for x@notexample.org"),
            ("x@bad.example", "550 5.1.2 no mail there"),
        ],
    );
    check(&policy(), &[("x@example.org", "relay example.org for x@example.org")]);
}

//! Probes of routes that work, and of routes broken in each of the usual manners: the right step fails, with the right
//! advice.

use crate::engine::host::site::current;
use crate::engine::probe::walk as probe;
use crate::engine::probe::walk::{Mark, ProbeNews, Step};
use crate::engine::tests::host_tls::CERTIFIED;
use crate::engine::tests::world::*;
use crate::mail::date::{Now, WallTime};
use crate::mail::mx::MxAnswer;
use crate::net::resolver::{DnsError, DnsErrorKind, DnsRecord, RecordSet, Rtype};
use crate::net::self_signed;
use crate::rules::advice::{hints, step};
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslVersion};
use openssl::x509::X509;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

pub(super) const FAR: &str = "joe@far.example";
const SMART: &str = "relay.smarthost = \"smtp://smart.example:2525\"\n";
/// A password may be sent in clear on loopback.
pub(super) const LOGIN: &str = "relay.smarthost = \"smtp://smart.example:2525\"\nrelay.username = \"box@smart.example\"\n\
                     relay.password_command = \"echo secret\"\n";

fn texts(net: &Net, name: &str, rtype: Rtype, data: &[&str]) {
    let records = data.iter().map(|text| DnsRecord::Data(text.as_bytes().to_vec())).collect();
    net.records(name, rtype, Ok(RecordSet { records, is_secure: false }));
}

/// A world whose name and sender pass the checks of receivers; and `far.example`.
pub(super) fn world(config: &str) -> World {
    let world = World::new(config);
    let net = &world.net;
    texts(net, "99.2.0.192.in-addr.arpa", Rtype::PTR, &["box.example"]);
    // As Debian has it in /etc/hosts, and what receivers see.
    net.address("box.example", &["127.0.1.1"]);
    let seen = vec![DnsRecord::Address("192.0.2.99".parse().unwrap())];
    net.records("box.example", Rtype::A, Ok(RecordSet { records: seen, is_secure: false }));
    texts(net, "box.example", Rtype::TXT, &["v=spf1 ip4:192.0.2.99 -all"]);
    texts(net, "_dmarc.box.example", Rtype::TXT, &["v=DMARC1; p=none"]);
    far(net, Host::friendly());
    net.address("smart.example", &["127.0.0.1"]);
    smart(net, Host::friendly());
    world
}

fn far(net: &Net, host: Arc<Host>) {
    net.domain("far.example", "192.0.2.1", Peer::Host(host));
}

pub(super) fn smart(net: &Net, host: Arc<Host>) {
    host.extensions.lock().unwrap().push("AUTH PLAIN");
    net.peer("127.0.0.1:2525", Peer::Host(host));
}

fn says(at: Stage, text: &'static str) -> Arc<Host> {
    Host::new(move |stage, _| if stage == at { reply(text) } else { Say::Yes })
}

pub(super) fn now() -> Now {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Now { wall: WallTime(now.as_micros() as u64), running: now }
}

fn probe_at(world: &World, now: Now, address: &str) -> (Vec<Step>, Vec<Step>) {
    let own = |far: IpAddr| far.is_ipv4().then(|| "192.0.2.99".parse().unwrap());
    let through = probe::ProbeContext {
        resolver: &*world.net,
        connect: &*world.net,
        maildirs: &world.intake.maildirs,
        now,
        own_address: &own,
        time: probe::ProbeTime::within(Duration::from_secs(60)),
    };
    let mut steps = Vec::new();
    let verdict = probe::probe(&current(&world.site), &through, address, &mut |news| {
        if let ProbeNews::Ended(step) = news {
            steps.push(step);
        }
    });
    (steps, verdict.failures)
}

pub(super) fn probe(world: &World, address: &str) -> (Vec<Step>, Vec<Step>) {
    probe_at(world, now(), address)
}

pub(super) fn names(steps: &[Step]) -> String {
    let name = |step: &Step| {
        let mark = if step.mark == Mark::Ok { String::new() } else { format!("={}", step.mark) };
        format!("{}{mark}", step.stage.name())
    };
    steps.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_free_way_is_walked_to_its_end_and_nothing_is_sent() {
    let world = world("");
    let host = Host::friendly();
    far(&world.net, Arc::clone(&host));
    let (steps, failures) = probe(&world, FAR);
    assert_eq!(failures, []);
    assert_eq!(
        names(&steps),
        "clock recipient queue route ptr spf dkim=warn dmarc mx address connect greeting ehlo mail rcpt rset quit"
    );
    let commands = host.commands.lock().unwrap().clone();
    assert_eq!(commands.last().unwrap(), "QUIT");
    assert!(!commands.iter().any(|line| line.starts_with("DATA")), "{commands:?}");
    assert!(commands.contains(&"MAIL FROM:<root@box.example> SIZE=1024".to_owned()), "{commands:?}");
    assert_eq!((host.taken.lock().unwrap().len(), world.queue().len(), host.count()), (0, 0, 1));
}

#[test]
fn a_smarthost_with_a_login_is_walked_as_well() {
    let world = world(LOGIN);
    let host = Host::friendly();
    smart(&world.net, Arc::clone(&host));
    let (steps, failures) = probe(&world, FAR);
    assert_eq!(failures, [], "{steps:?}");
    // As for mail: the sender is the address that logs in.
    let commands = host.commands.lock().unwrap().clone();
    assert!(commands.contains(&"MAIL FROM:<box@smart.example> SIZE=1024".to_owned()), "{commands:?}");
    assert_eq!(
        names(&steps),
        "clock recipient queue route address password connect greeting ehlo auth mail rcpt rset quit"
    );
}

#[test]
fn a_user_here_and_all_members_of_an_alias_are_shown() {
    let world = world("");
    let aliases = world.state().parent().unwrap().join("aliases");
    std::fs::write(aliases, "list: alice, joe@far.example, mia@far.example, gone\n").unwrap();
    far(&world.net, says(Stage::Rcpt, "550 5.1.1 unknown"));
    let (steps, failures) = probe(&world, "list");
    assert!(steps[3].text.contains("alias of alice@box.example, joe@far.example"), "{}", steps[3].text);
    assert!(
        names(&steps).starts_with("clock recipient queue route route maildir route route route=FAIL ptr ")
    );
    assert_eq!(names(&failures), "route=FAIL rcpt=FAIL");
    assert_eq!((world.mail("alice").len(), world.half_written()), (0, 0));
    let (steps, failures) = probe(&world, "alice");
    assert_eq!((names(&steps).as_str(), failures.len()), ("clock recipient queue route maildir", 0));
}

#[test]
fn what_another_way_makes_good_is_a_warning() {
    let world = world("");
    // The first host cannot be reached; the second has two address families and does not know EHLO.
    world.net.mx("far.example", &[(10, "dead.far.example"), (20, "mx.far.example")]);
    world.net.address("dead.far.example", &["192.0.2.66"]);
    world.net.address("mx.far.example", &["192.0.2.1", "2001:db8::1"]);
    world.net.peer("[2001:db8::1]:25", Peer::Unreachable);
    far_peer(&world.net, says(Stage::Ehlo, "502 what"));
    texts(&world.net, "99.2.0.192.in-addr.arpa", Rtype::PTR, &[]);
    let (steps, failures) = probe(&world, FAR);
    assert_eq!(failures, [], "{steps:?}");
    assert!(
        names(&steps).ends_with(
            "mx address connect=warn address connect connect=warn greeting ehlo=warn ehlo mail rcpt rset quit"
        ),
        "{}",
        names(&steps)
    );
    let hint = |stage: step::Stage, words: &str| {
        let found = steps.iter().filter(|step| step.stage == stage).filter_map(|step| step.hint);
        assert!(found.clone().any(|hint| hint.contains(words)), "{stage:?} {:?}", found.collect::<Vec<_>>());
    };
    hint(step::Stage::Ptr, "PTR record");
    hint(step::Stage::Connect, "IPv6");
}

fn far_peer(net: &Net, host: Arc<Host>) {
    net.peer("192.0.2.1", Peer::Host(host));
}

#[test]
fn a_clock_that_was_never_set_is_told() {
    let world = world("");
    let (steps, _) = probe_at(&world, Now { wall: WallTime(86_400_000_000), ..now() }, FAR);
    assert_eq!(names(&steps[..1]), "clock=warn");
    assert!(steps[0].text.contains("1970") && steps[0].hint.unwrap().contains("Set the clock"));
}

/// The text of the resolver.
fn no_such(name: &str) -> DnsError {
    DnsError { kind: DnsErrorKind::NoSuchDomain, text: format!("{name} does not exist (NXDOMAIN)") }
}

/// A broken route.
struct Broken {
    config: &'static str,
    breaks: fn(&World),
    to: &'static str,
    /// The step that fails first, and a part of its advice.
    stage: &'static str,
    words: &'static str,
}

const fn way(config: &'static str, breaks: fn(&World), stage: &'static str, words: &'static str) -> Broken {
    Broken { config, breaks, to: FAR, stage, words }
}

const fn to(to: &'static str, broken: Broken) -> Broken {
    Broken { to, ..broken }
}

fn nothing(_: &World) {}

fn walk(broken: &Broken) {
    let Broken { config, breaks, to, stage, words } = broken;
    let world = world(config);
    breaks(&world);
    let (steps, failures) = probe(&world, to);
    let first = failures.first().unwrap_or_else(|| panic!("{stage} {words}: nothing fails:\n{steps:#?}"));
    assert_eq!(first.stage.name(), *stage, "{words}:\n{steps:#?}");
    let hint = first.hint.unwrap_or_else(|| panic!("{stage} {words}: no advice for {}", first.text));
    assert!(hint.contains(words), "{stage} {words}: {hint}\nfor {}", first.text);
    assert!(steps.iter().any(|step| step == first));
}

#[test]
fn addresses_and_this_host_fail_at_their_steps() {
    for broken in [
        to("a b@far.example", way("", nothing, "recipient", "Write one address")),
        to("gone", way("", nothing, "route", "No user has this name")),
        to(
            "loop",
            way("", |w| drop(w.directory.file("aliases", "loop: l2\nl2: loop\n")), "route", "form a loop"),
        ),
        to(
            "x@bad.example",
            way(
                "[relay.routes]\n\"bad.example\" = \"error:5.1.2 no mail there\"",
                nothing,
                "route",
                "relay.routes",
            ),
        ),
        way("limits.free_space = \"900TiB\"", nothing, "queue", "Make room"),
        to("alice", way("local.quota = 100", nothing, "maildir", "quota")),
        to("alice", way("", |w| w.block("alice"), "maildir", "not a link")),
    ] {
        walk(&broken);
    }
}

#[test]
fn dns_fails_at_its_steps() {
    for broken in [
        to(
            "a@typo.example",
            way(
                "",
                |w| w.net.mx_answer("typo.example", Err(no_such("typo.example"))),
                "mx",
                "the spelling of the address",
            ),
        ),
        way(
            "",
            |w| {
                let mut error = dns_error(DnsErrorKind::Temporary);
                error.text = "no answer from 192.0.2.53:53 for MX far.example within 5s".into();
                w.net.mx_answer("far.example", Err(error));
            },
            "mx",
            "name server does not answer",
        ),
        way(
            "",
            |w| {
                let mut error = dns_error(DnsErrorKind::Temporary);
                error.text =
                    "cannot ask 127.0.0.1:53 (Connection refused (os error 111)) for MX far.example".into();
                w.net.mx_answer("far.example", Err(error));
            },
            "mx",
            "There is no name server",
        ),
        way("", |w| w.net.mx_answer("far.example", Ok(MxAnswer::Null)), "mx", "accepts no mail"),
        way("", |w| w.net.mx("far.example", &[(10, NAME)]), "mx", "local.domains"),
        way(
            "",
            |w| {
                w.net.mx("far.example", &[(10, "none.example")]);
                w.net.address_error("none.example", no_such("none.example"));
            },
            "address",
            "does not exist",
        ),
        way("", |w| w.net.address("mx.far.example", &[]), "address", "relay.family"),
        way(
            "relay.smarthost = \"smtps://smtp.gmial.com\"",
            |w| w.net.address_error("smtp.gmial.com", no_such("smtp.gmial.com")),
            "address",
            "spelling in relay.smarthost",
        ),
        way("relay.smarthost = \"smtp://127.0.0.1:25\"", nothing, "address", "leads back to this host"),
    ] {
        walk(&broken);
    }
}

#[test]
fn connections_and_greetings_fail_at_their_steps() {
    for broken in [
        way("", |w| w.net.peer("192.0.2.1", Peer::TimesOut), "connect", "Port 25 is blocked"),
        way("", |w| w.net.peer("192.0.2.1", Peer::Refuses), "connect", "rejects connections to port 25"),
        way("", |w| w.net.peer("192.0.2.1", Peer::Unreachable), "connect", "default route"),
        way(
            "",
            |w| {
                w.net.address("mx.far.example", &["2001:db8::1"]);
                w.net.peer("[2001:db8::1]:25", Peer::Unreachable);
            },
            "connect",
            "IPv6",
        ),
        way(SMART, |w| w.net.peer("127.0.0.1:2525", Peer::TimesOut), "connect", "firewall"),
        way(
            "",
            |w| {
                far(
                    &w.net,
                    says(
                        Stage::Greeting,
                        "554 5.7.1 Service unavailable; Client host [192.0.2.99] blocked using zen.spamhaus.org",
                    ),
                )
            },
            "greeting",
            "blocklist",
        ),
        way(
            "",
            |w| far(&w.net, says(Stage::Greeting, "SSH-2.0-OpenSSH_9.6")),
            "greeting",
            "does not speak SMTP",
        ),
        way("", |w| far(&w.net, says(Stage::Greeting, "421 4.7.0 Too many connections")), "greeting", "busy"),
        way("", |w| far(&w.net, says(Stage::Greeting, "554 no")), "greeting", "refuses mail"),
        way("", |w| far(&w.net, Host::new(|_, _| Say::Nothing)), "greeting", "sends no greeting"),
        way(
            "relay.smarthost = \"smtp+starttls://smart.example:465\"",
            |w| w.net.peer("127.0.0.1:465", Peer::Host(Host::new(|_, _| Say::Nothing))),
            "greeting",
            "use smtps://",
        ),
        way(
            "",
            |w| {
                far(
                    &w.net,
                    Host::new(|stage, _| match stage {
                        Stage::Ehlo | Stage::Helo => {
                            reply("504 5.5.2 <box>: Helo command rejected: need fully-qualified hostname")
                        }
                        _ => Say::Yes,
                    }),
                )
            },
            "ehlo",
            "set hostname",
        ),
    ] {
        walk(&broken);
    }
}

#[test]
fn senders_and_recipients_fail_at_their_steps() {
    let mail = |text: &'static str, words: &'static str| (Stage::Mail, text, words);
    let rcpt = |text: &'static str, words: &'static str| (Stage::Rcpt, text, words);
    for (at, text, words) in [
        mail("550 5.7.25 The IP address sending this message does not have a PTR record setup", "PTR record"),
        mail(
            "550 5.7.26 This mail has been blocked because the sender is unauthenticated. SPF did not pass",
            "SPF record",
        ),
        mail(
            "550 5.7.23 The message was rejected because of Sender Policy Framework violation",
            "SPF record",
        ),
        mail("550 5.7.1 Unauthenticated email is not accepted due to the domain's DMARC policy", "DMARC"),
        mail("550 5.7.26 DKIM did not pass", "[[dkim]]"),
        mail("530 5.7.0 Must issue a STARTTLS command first", "smtp+starttls://"),
        mail("530 5.7.1 Authentication required", "relay.username"),
        mail("553 5.7.1 <root@box.example>: Sender address rejected: not owned by user joe", "rewrite.from"),
        mail("550 5.7.60 SMTP; Client does not have permissions to send as this sender", "rewrite.from"),
        mail("554 5.2.252 SendAsDenied; joe not allowed to send as root", "rewrite.from"),
        mail("552 5.3.4 Message size exceeds fixed limit", "larger"),
        mail("550 5.4.5 Daily user sending limit exceeded", "as much as it may"),
        mail("421 4.7.0 Temporary rate limit", "faster than it may"),
        mail("554 Message rejected: Email address is not verified.", "provider's console"),
        mail("553 Relaying disallowed as root@box.example", "rewrite.from"),
        rcpt("550 joe does not have the right to send as root@box.example", "rewrite.from"),
        mail("550 From header address must match the login", "rewrite.from"),
        mail("550 5.7.0 Requested action not taken: too many emails per second", "faster than it may"),
        mail("550 5.7.30 Basic authentication is not supported for Client Submission.", "OAuth"),
        rcpt("550 5.7.68 TenantInboundAttribution; Direct Send not allowed", "connector"),
        rcpt(
            "550 5.7.515 Access denied, sending domain box.example does not meet the required authentication level",
            "DMARC",
        ),
        mail("550 5.1.90 you've reached your daily limit for message recipients", "as much as it may"),
        rcpt(
            "554 5.7.0 The limit on the number of allowed outgoing messages was exceeded.",
            "as much as it may",
        ),
        rcpt("552 You are over your relay quota", "as much as it may"),
        mail("550 5.7.501 Account joe@far.example blocked from sending", "stopped this account"),
        mail("450 4.1.8 <root@box.example>: Sender address rejected: Domain not found", "not in DNS"),
        rcpt("450 4.7.1 <joe@far.example>: Recipient address rejected: Greylisted", "greylisting"),
        rcpt("451 4.7.1 Please try again later", "greylisting"),
        rcpt("550 5.1.1 no such user", "spelling"),
        rcpt("452 4.2.2 The email account that you tried to reach is over quota", "full"),
        rcpt("552 5.2.2 Mailbox full", "full"),
        rcpt("550 5.2.1 The email account is inactive", "switched off"),
        rcpt("554 5.7.1 <joe@far.example>: Relay access denied", "log in"),
        rcpt("554 5.7.1 Service unavailable; blocked using bl.spamcop.net", "blocklist"),
    ] {
        let world = world("");
        far(&world.net, says(at, text));
        let (steps, failures) = probe(&world, FAR);
        assert_eq!(failures.len(), 1, "{text}:\n{steps:#?}");
        let expected = if at == Stage::Mail { "mail" } else { "rcpt" };
        assert_eq!(failures[0].stage.name(), expected, "{text}:\n{steps:#?}");
        let hint = failures[0].hint.unwrap_or_else(|| panic!("no advice for {text}"));
        assert!(hint.contains(words), "{text}: {hint}");
    }
}

#[test]
fn logins_fail_at_their_steps() {
    let secret = |w: &World, text: &str, mode: u32| {
        let path = w.directory.file_of_mode("password", text, mode);
        w.reload(&format!("{SMART}relay.username = \"joe\"\nrelay.password_file = {path:?}\n"));
    };
    let passwords: [(&str, u32, &str); 2] = [("", 0o600, "first line"), ("x", 0o644, "chmod 600")];
    for (text, mode, words) in passwords {
        let world = world("");
        secret(&world, text, mode);
        let (_, failures) = probe(&world, FAR);
        assert_eq!(failures[0].stage, step::Stage::Password);
        assert!(failures[0].hint.unwrap().contains(words), "{failures:?}");
    }
    // Invisible flaws of the password file are reported when the host says no more than "wrong".
    for (text, words) in [
        ("'secret'\n", "in quotes"),
        ("secret \n", "with a blank"),
        ("\u{feff}\"secret\"\n", "in quotes"),
        ("\u{feff}secret\n", "user name or the password is wrong"),
    ] {
        let world = world("");
        smart(&world.net, says(Stage::Auth(0), "535 5.7.8 Username and Password not accepted"));
        secret(&world, text, 0o600);
        let (steps, failures) = probe(&world, FAR);
        assert_eq!(names(&failures), "auth=FAIL", "{text:?} {steps:#?}");
        assert!(failures[0].hint.unwrap().contains(words), "{text:?} {failures:?}");
    }
    for broken in [
        way(
            "relay.smarthost = \"smtp://smart.example:2525\"\nrelay.username = \"joe\"\nrelay.password_file = \"/nonexistent/p\"",
            nothing,
            "password",
            "relay.password_file",
        ),
        way(
            "relay.smarthost = \"smtp://smart.example:2525\"\nrelay.username = \"joe\"\nrelay.password_command = \"false\"",
            nothing,
            "password",
            "by hand",
        ),
        way(LOGIN, |w| w.net.address("smart.example", &["192.0.2.7"]), "connect", "Nothing listens"),
        way(
            LOGIN,
            |w| {
                w.net.address("smart.example", &["192.0.2.7"]);
                let host = Host::friendly();
                host.extensions.lock().unwrap().push("AUTH PLAIN");
                w.net.peer("192.0.2.7:2525", Peer::Host(host));
            },
            "auth",
            "within verified TLS",
        ),
        way(
            LOGIN,
            |w| w.net.peer("127.0.0.1:2525", Peer::Host(Host::friendly())),
            "auth",
            "accepts no logins",
        ),
    ] {
        walk(&broken);
    }
    for (text, words) in [
        ("534-5.7.9 Application-specific password required.", "app password"),
        ("535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", "Microsoft"),
        ("535 5.7.8 Username and Password not accepted", "user name or the password is wrong"),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", "OAuth"),
        ("535 5.7.0 (#AUTH005) Too many bad auth attempts.", "app password"),
        ("534 5.7.14 Please log in via your web browser", "locked"),
        ("454 4.7.0 Temporary authentication failure", "try again later"),
    ] {
        let world = world(LOGIN);
        let text = text.replace("534-", "534 ");
        let host = Host::new(move |stage, _| if stage == Stage::Auth(0) { reply(&text) } else { Say::Yes });
        smart(&world.net, host);
        let (steps, failures) = probe(&world, FAR);
        assert_eq!(names(&failures), "auth=FAIL", "{steps:#?}");
        assert!(failures[0].hint.unwrap().contains(words), "{failures:?}");
    }
}

/// As delivery would do.
#[test]
fn where_one_smarthost_refuses_the_next_one_is_asked() {
    const LIST: &str = "relay.smarthost = [\"smtp://smart.example:2525\", \"smtp://smart.example:2526\"]\n";
    for (at, text, second, is_accepted, end) in [
        (Stage::Mail, "550 5.4.5 Daily user sending limit exceeded", None, true, "mail rcpt rset quit"),
        (Stage::Rcpt, "554 5.7.1 <joe@far.example>: Relay access denied", None, true, "mail rcpt rset quit"),
        (
            Stage::Mail,
            "550 5.4.5 Daily user sending limit exceeded",
            Some("550 5.4.5 limit too"),
            false,
            "mail=FAIL",
        ),
        // The refusal is about the recipient, so the next host is not asked.
        (Stage::Rcpt, "550 5.1.1 no such user", None, false, "rcpt=FAIL"),
    ] {
        let world = world(LIST);
        smart(&world.net, says(at, text));
        let other = second.map_or_else(Host::friendly, |text| says(Stage::Mail, text));
        world.net.peer("127.0.0.1:2526", Peer::Host(other));
        let (steps, failures) = probe(&world, FAR);
        assert_eq!(failures.is_empty(), is_accepted, "{text}\n{steps:#?}");
        let shown = names(&steps);
        assert!(shown.contains(end), "{text}\n{shown}");
        assert_eq!(is_accepted || second.is_some(), shown.contains("=warn"), "{text}\n{shown}");
    }
}

/// Exim refuses names with an underscore, which devices often have.
#[test]
fn a_name_that_the_host_does_not_like_is_told_with_and_without_a_login() {
    for (config, is_smart) in [("", false), (LOGIN, true)] {
        let world = world(config);
        let host = Host::new(|stage, _| match stage {
            Stage::Ehlo => reply("501 Syntactically invalid EHLO argument(s)"),
            Stage::Helo => reply("501 Syntactically invalid HELO argument(s)"),
            _ => Say::Yes,
        });
        if is_smart {
            smart(&world.net, host)
        } else {
            far(&world.net, host)
        }
        let (steps, failures) = probe(&world, FAR);
        assert_eq!(names(&failures), "ehlo=FAIL", "{steps:#?}");
        assert!(failures[0].hint.is_some_and(|hint| hint.contains("set hostname")), "{steps:#?}");
    }
}

/// A server with TLS from the start; its certificate is also the trust anchor.
fn tls_server(world: &World, name: &str, made: WallTime, newest: Option<SslVersion>) {
    let pem = self_signed::make(name, made).unwrap();
    world.directory.file("ca.pem", &pem);
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(&pem).unwrap()).unwrap();
    acceptor.set_certificate(&X509::from_pem(&pem).unwrap()).unwrap();
    acceptor.set_security_level(0);
    acceptor.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
    acceptor.set_max_proto_version(newest).unwrap();
    let (acceptor, listener) = (acceptor.build(), TcpListener::bind("127.0.0.1:0").unwrap());
    world.net.peer("127.0.0.1:2465", Peer::Socket(listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // The client closes the connection.
            let _ = acceptor.accept(stream);
        }
    });
}

#[test]
fn tls_fails_at_its_steps() {
    const SMARTHOST: &str = "relay.smarthost = \"smtps://smart.example:2465\"\n";
    for broken in [
        way("relay.smarthost = \"smtps://smart.example:2525\"", nothing, "tls", "does not start with TLS"),
        way("relay.smarthost = \"smtp+starttls://smart.example:2525\"", nothing, "starttls", "Use smtps://"),
        way(
            "relay.smarthost = \"smtp+starttls://smart.example:2525\"",
            |w| {
                let host = says(Stage::StartTls, "454 4.7.0 TLS not available");
                host.extensions.lock().unwrap().push("STARTTLS");
                smart(&w.net, host);
            },
            "starttls",
            "busy",
        ),
        way(SMARTHOST, |w| tls_server(w, "smart.example", now().wall, None), "tls", "relay.ca_file"),
        way(
            SMARTHOST,
            |w| tls_server(w, "smart.example", now().wall, Some(SslVersion::TLS1_1)),
            "tls",
            "TLS 1.2 or newer",
        ),
    ] {
        walk(&broken);
    }
    let year = 365 * 86_400 * 1_000_000;
    for (name, made, words, line) in [
        ("other.example", now().wall, "for another name", Some("relay.tls_name = \"other.example\"")),
        ("smart.example", WallTime(now().wall.0 - 30 * year), "the clock", None),
        ("smart.example", WallTime(now().wall.0 + year), "the clock", None),
    ] {
        let world = world("");
        let ca = world.directory.join("ca.pem").display().to_string();
        world.reload(&format!("{SMARTHOST}relay.ca_file = \"{ca}\"\n"));
        tls_server(&world, name, made, None);
        let (steps, failures) = probe(&world, FAR);
        assert_eq!(names(&failures), "tls=FAIL", "{steps:#?}");
        assert!(failures[0].hint.unwrap().contains(words), "{failures:?}");
        let text = &failures[0].text;
        assert!(text.contains("the clock of this host says "), "{text}");
        assert!(
            text.contains(&format!("; it shows a certificate of {name} (names {name}) by itself, from ")),
            "{text}"
        );
        let write = line.map(|line| format!("; if it is the host's own, write {line}"));
        assert_eq!(write.is_some(), text.contains("write"), "{text}");
        assert!(text.contains(write.as_deref().unwrap_or_default()), "{text}");
    }
}

/// Whether TLS comes first or by STARTTLS: the probe looks again at a certificate that was refused, without the login.
#[test]
fn a_certificate_that_is_refused_is_shown_with_the_line_to_write() {
    let shown = |failure: &Step, name: &str| {
        assert_eq!((failure.stage, failure.mark), (step::Stage::Tls, Mark::Fail), "{failure:?}");
        let text = &failure.text;
        let (_, rest) = text.split_once("; it shows a certificate of ").unwrap_or_else(|| panic!("{text}"));
        assert!(rest.starts_with(&format!("{name} (names {name}) by itself, from ")), "{text}");
        let (_, rest) = rest.split_once("SHA-256 fingerprint ").unwrap();
        let (fingerprint, rest) = rest.split_once(';').unwrap();
        let line = format!(" if it is the host's own, write relay.fingerprint = \"{fingerprint}\";");
        assert!(rest.starts_with(&line), "{text}");
    };
    let at = |url: &str| LOGIN.replace("smtp://smart.example:2525", url);
    let first = world(&at("smtps://smart.example:2465"));
    tls_server(&first, "smart.example", now().wall, None);
    shown(&probe(&first, FAR).1[0], "smart.example");

    let later = world(&at("smtp+starttls://smart.example:2525"));
    let host = Host::friendly();
    host.extensions.lock().unwrap().push("STARTTLS");
    smart(&later.net, Arc::clone(&host));
    shown(&probe(&later, FAR).1[0], CERTIFIED);
    let commands = host.commands.lock().unwrap();
    assert!(!commands.iter().any(|line| line.starts_with("AUTH")), "{commands:?}");
    assert_eq!(host.connections.load(Ordering::Relaxed), 2);
}

#[test]
fn what_receivers_look_at_fails_at_its_steps() {
    const KEY: &str = "[[dkim]]\ndomain = \"box.example\"\nselector = \"s\"\nkey = \"KEY\"\n";
    for broken in [
        way("", |w| texts(&w.net, "box.example", Rtype::TXT, &["v=spf1 mx -all"]), "spf", "SPF record"),
        way(
            "",
            |w| {
                texts(&w.net, "box.example", Rtype::TXT, &["v=spf1 mx ?all"]);
                texts(&w.net, "_dmarc.box.example", Rtype::TXT, &["v=DMARC1; p=reject"]);
            },
            "dmarc",
            "refuse this mail",
        ),
    ] {
        walk(&broken);
    }
    let world = world("");
    let key = PKey::generate_ed25519().unwrap();
    let file = world.directory.secret("key", key.private_key_to_pem_pkcs8().unwrap());
    world.reload(&KEY.replace("KEY", &file.display().to_string()));
    texts(&world.net, "_dmarc.box.example", Rtype::TXT, &["v=DMARC1; p=reject"]);
    texts(&world.net, "box.example", Rtype::TXT, &[]);
    for (record, expected) in
        [("", "dkim=FAIL dmarc=FAIL"), ("v=DKIM1; k=ed25519; p=AAAA", "dkim=FAIL dmarc=FAIL")]
    {
        let records: &[&str] = if record.is_empty() { &[] } else { &[record] };
        texts(&world.net, "s._domainkey.box.example", Rtype::TXT, records);
        let (_, failures) = probe(&world, FAR);
        assert_eq!(names(&failures), expected, "{failures:?}");
        assert!(failures[0].hint.unwrap().contains("Publish the public half"));
    }
    // DMARC is satisfied by SPF.
    texts(&world.net, "box.example", Rtype::TXT, &["v=spf1 ip4:192.0.2.99 -all"]);
    texts(&world.net, "s._domainkey.box.example", Rtype::TXT, &[]);
    let (steps, failures) = probe(&world, FAR);
    assert_eq!(failures, []);
    assert!(names(&steps).contains("spf dkim=warn dmarc mx"), "{}", names(&steps));
    texts(&world.net, "box.example", Rtype::TXT, &[]);
    let public = crate::mail::base64::encode(&key.raw_public_key().unwrap());
    texts(&world.net, "s._domainkey.box.example", Rtype::TXT, &[&format!("v=DKIM1; k=ed25519; p={public}")]);
    let (steps, failures) = probe(&world, FAR);
    assert_eq!(failures, []);
    assert!(names(&steps).contains("ptr spf=warn dkim dmarc mx"), "{}", names(&steps));
}

/// A host sends the reply of each row of advice at each of its steps.
#[test]
fn every_row_for_replies_is_given_when_a_host_says_it() {
    let mut count = 0;
    for row in hints::rows() {
        let all = row.when.split('|').find(|all| !all.contains(['@', '%'])).unwrap_or(row.when);
        let parts = all.split('&').map(|part| part.trim_start_matches(['=', '~']));
        let (host, words): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.starts_with(['@', '%']));
        let code = words.iter().find_map(|part| part.strip_prefix('^')).unwrap_or("559");
        let (digits, rest) = code.split_once(' ').unwrap_or((code, ""));
        let text: Vec<&str> = words.into_iter().filter(|part| !part.starts_with('^')).collect();
        let is_said = text.iter().all(|part| !part.contains("timed out") && *part != "535");
        for &stage in row.stages {
            let at = match stage {
                step::Stage::Greeting => Stage::Greeting,
                step::Stage::Ehlo => Stage::Ehlo,
                step::Stage::Auth => Stage::Auth(0),
                step::Stage::Mail => Stage::Mail,
                step::Stage::Rcpt => Stage::Rcpt,
                _ => continue,
            };
            let own_words = [
                "is not sent to",
                "offers no auth",
                "none of them can be used here",
                "no smtp",
                "port 465",
                "^external",
            ];
            if !is_said || !host.is_empty() || own_words.iter().any(|own| all.contains(own)) {
                continue;
            }
            let reply_text = format!("{digits:0<3} {rest} {}", text.join(" "));
            let world = world(if at == Stage::Auth(0) { LOGIN } else { "" });
            let says = reply_text.clone();
            let host = Host::new(move |stage, _| {
                let is_hello = at == Stage::Ehlo && stage == Stage::Helo;
                if stage == at || is_hello { reply(&says) } else { Say::Yes }
            });
            if at == Stage::Auth(0) {
                smart(&world.net, host)
            } else {
                far(&world.net, host)
            }
            let (steps, failures) = probe(&world, FAR);
            assert_eq!(failures.len(), 1, "{reply_text}: {steps:#?}");
            assert_eq!((failures[0].stage, failures[0].hint), (stage, Some(row.advice)), "{reply_text}");
            count += 1;
        }
    }
    assert!(count > 60, "only {count} replies were said");
}

/// A host that is named like its mail domain.
#[test]
fn a_domain_that_is_local_by_mistake_is_told_of() {
    let world = world(&format!("{SMART}admin = \"me@box.example\"\n"));
    for (to, mark) in [("root", Mark::Warn), ("me@box.example", Mark::Warn), ("tim@box.example", Mark::Fail)]
    {
        let (steps, failures) = probe(&world, to);
        assert_eq!(failures.is_empty(), mark == Mark::Warn, "{to}: {failures:?}");
        let step = steps.iter().find(|step| step.stage == step::Stage::Route).unwrap();
        let hint = step.hint.unwrap_or_default();
        assert!(hint.contains("hostname") && hint.contains("local.domains"), "{to}: {hint}");
        assert_eq!(step.mark, mark, "{to}: {}", step.text);
    }
}

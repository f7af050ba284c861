//! The answers of a DNS server to the real resolver, and what they mean for the message: queue, pause, notice.

use crate::engine::tests::world::*;
use crate::net::resolver::tests::server::{Asked, Reply, Server};
use crate::net::resolver::{Resolver, Rtype, SystemFiles};
use crate::store::queue::RecipientState;
use domain::base::iana::Rcode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For a pause, which may come of an answer that does not come.
const BRIEF: Duration = Duration::from_millis(150);
/// For all else.
const PATIENT: Duration = Duration::from_secs(20);
/// Where the mail is to go, and where a forger would have it.
const TRUE: &str = "192.0.2.1";
const FALSE: &str = "192.0.2.66";

/// Makes of a true answer, but for its records, a false one.
type Forge = fn(&Asked, &mut Vec<u8>);
type Script = Box<dyn FnMut(&Asked) -> Vec<Vec<u8>> + Send>;

/// What the server does with the questions that the script leaves to it (by nothing at all): `far.example.org` has one
/// MX host, and that an address; nothing else exists.
fn usual(asked: &Asked) -> Vec<Vec<u8>> {
    match asked.rtype() {
        Rtype::MX if asked.asks("far.example.org") => asked.records(|r| {
            r.mx("far.example.org", 10, "mx.far.example.org");
        }),
        Rtype::A if asked.asks("mx.far.example.org") => asked.records(|r| {
            r.address("mx.far.example.org", TRUE);
        }),
        Rtype::AAAA if asked.asks("mx.far.example.org") => asked.negative(Rcode::NOERROR, 60),
        _ => asked.negative(Rcode::NXDOMAIN, 60),
    }
}

/// What has become of a message for `far.example.org`, in a word: `delivered`, or that with how many look-ups more;
/// the status of the pause; or that of the bounce.
fn settle(mut script: Script, timeout: Duration) -> String {
    let server = Server::start(move |asked| script(asked));
    let world = World::new("");
    let files =
        SystemFiles { hosts: "/nonexistent/hosts".into(), resolv_conf: "/nonexistent/resolv.conf".into() };
    let start = Instant::now();
    let clock = Box::new(move || start.elapsed());
    assert!(world.net.resolver.set(Resolver::new(&[server.address], timeout, files, clock)).is_ok());
    let (host, forger) = (Host::friendly(), Host::friendly());
    world.net.peer(TRUE, Peer::Host(Arc::clone(&host)));
    world.net.peer(FALSE, Peer::Host(Arc::clone(&forger)));
    world.accept("alice@box.example", &["joe@far.example.org"]);
    let wait = world.pass();
    let (queue, notices, taken) = (world.queue(), world.mail("alice"), host.taken.lock().unwrap().len());
    assert_eq!(forger.count(), 0, "the forger was believed");
    let paused = take_events("paused");
    match (queue.as_slice(), paused.as_slice(), notices.as_slice()) {
        ([], [], []) => {
            assert_eq!((taken, wait), (1, None));
            "delivered".into()
        }
        ([], [], [notice]) => {
            assert_eq!((taken, wait, notice.matches("Action: failed").count()), (0, None, 1));
            let status = notice.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap();
            // No host has said so.
            assert!(notice.contains("Diagnostic-Code: X-Pillarbox;"), "{notice}");
            format!("bounced {status}")
        }
        ([summary], [paused], []) => {
            let wait = wait.unwrap();
            assert!(wait >= MINUTE * 9 / 10 && wait <= MINUTE * 11 / 10, "{wait:?}");
            assert_eq!(
                (summary.progress[0].state, summary.progress[0].attempts),
                (RecipientState::Pending, 0)
            );
            let status = paused.split(' ').find_map(|word| word.strip_prefix("status=")).unwrap();
            format!("paused {status}")
        }
        other => panic!("{other:?}"),
    }
}

/// Says this to the look-up of the MX, and the usual to the rest.
fn to_mx(mut says: impl FnMut(&Asked) -> Vec<Vec<u8>> + Send + 'static) -> Script {
    Box::new(move |asked| if asked.rtype() == Rtype::MX { says(asked) } else { usual(asked) })
}

/// Says this to the look-ups of the host's addresses.
fn to_host(mut says: impl FnMut(&Asked) -> Vec<Vec<u8>> + Send + 'static) -> Script {
    Box::new(move |asked| if asked.rtype() == Rtype::MX { usual(asked) } else { says(asked) })
}

/// To both kinds of look-up.
fn rows(
    name: &'static str,
    says: fn(&Asked) -> Vec<Vec<u8>>,
    mx: &'static str,
    host: &'static str,
) -> [(String, Script, &'static str); 2] {
    [(format!("MX: {name}"), to_mx(says), mx), (format!("host: {name}"), to_host(says), host)]
}

fn forged(asked: &Asked) -> Vec<u8> {
    asked.reply(Rcode::NOERROR, |r| match asked.rtype() {
        Rtype::MX => {
            r.mx("far.example.org", 1, "evil.example.org");
        }
        _ => {
            r.address("mx.far.example.org", FALSE);
        }
    })
}

/// The forgery comes first, and then the truth or nothing.
fn spoofed(forge: Forge, truth_comes: bool) -> Script {
    Box::new(move |asked| {
        let mut first = forged(asked);
        forge(asked, &mut first);
        let truth = if truth_comes { usual(asked) } else { Vec::new() };
        [first].into_iter().chain(truth).collect()
    })
}

#[test]
fn what_the_dns_says_is_settled_as_the_table_has_it() {
    let mut table: Vec<(String, Script, &str)> = vec![("the usual".into(), Box::new(usual), "delivered")];
    for (name, says, mx, host) in [
        (
            "NXDOMAIN",
            (|asked| asked.negative(Rcode::NXDOMAIN, 60)) as fn(&Asked) -> _,
            "bounced 5.1.2",
            "bounced 5.1.2",
        ),
        ("SERVFAIL", |asked| asked.code(Rcode::SERVFAIL), "paused 4.4.3", "paused 4.4.3"),
        ("REFUSED", |asked| asked.code(Rcode::REFUSED), "paused 4.4.3", "paused 4.4.3"),
        ("NOTIMP", |asked| asked.code(Rcode::NOTIMP), "paused 4.4.3", "paused 4.4.3"),
        ("silence", |_| vec![], "paused 4.4.3", "paused 4.4.3"),
        ("no octets", |_| vec![vec![]], "paused 4.4.3", "paused 4.4.3"),
        // Without an MX the domain is its own host, and that does not exist.
        ("no such record", |asked| asked.negative(Rcode::NOERROR, 60), "bounced 5.1.2", "bounced 5.4.4"),
        ("a cut answer", |asked| vec![forged(asked)[..40].to_vec()], "paused 4.4.3", "paused 4.4.3"),
        (
            "truncated, and silence by TCP",
            |asked| if asked.tcp { vec![] } else { asked.records(Reply::truncated) },
            "paused 4.4.3",
            "paused 4.4.3",
        ),
        (
            "truncated, and whole by TCP",
            |asked| if asked.tcp { usual(asked) } else { asked.records(Reply::truncated) },
            "delivered",
            "delivered",
        ),
        (
            "lame: a referral",
            |asked| vec![Reply::referral(asked, "org", "ns.example")],
            "paused 4.4.3",
            "paused 4.4.3",
        ),
        ("lame: nothing", |asked| asked.records(|r| r.recursive(false)), "paused 4.4.3", "paused 4.4.3"),
        (
            "records of others",
            |asked| {
                asked.records(|r| {
                    r.mx("x.example.org", 1, "evil.example.org").address("evil.example.org", FALSE);
                })
            },
            "bounced 5.1.2",
            "bounced 5.4.4",
        ),
    ] {
        table.extend(rows(name, says, mx, host));
    }
    let loops: fn(&Asked) -> _ = |asked| {
        asked.records(|r| {
            r.cname("far.example.org", "a.example.org").cname("a.example.org", "far.example.org");
        })
    };
    table.push(("a CNAME loop".into(), to_mx(loops), "bounced 5.4.6"));
    let null: fn(&Asked) -> _ = |asked| {
        asked.records(|r| {
            r.mx("far.example.org", 0, ".");
        })
    };
    table.push(("null MX".into(), to_mx(null), "bounced 5.1.10"));
    // The best is the last of them, and all of them are there by TCP alone.
    let many: fn(&Asked) -> _ = |asked| {
        asked.records(|r| {
            if !asked.tcp {
                return r.truncated();
            }
            (1..200).for_each(|n| {
                r.mx("far.example.org", n, &format!("mx{n}.example.org"));
            });
            r.mx("far.example.org", 0, "mx.far.example.org");
        })
    };
    table.push(("200 MX".into(), to_mx(many), "delivered"));
    let forgeries: [(&str, Forge); 5] = [
        ("another id", |asked, m| m[..2].copy_from_slice(&asked.id().wrapping_add(1).to_be_bytes())),
        ("another question", |_, m| m[13] ^= 0x03),
        ("another type", |asked, m| m[asked.message.len() - 12 - 3] ^= 0x40),
        ("no response", |_, m| m[2] &= 0x7f),
        ("two questions", |_, m| m[5] = 2),
    ];
    for (name, forge) in forgeries {
        table.push((format!("spoofed: {name}, and the truth"), spoofed(forge, true), "delivered"));
        table.push((format!("spoofed: {name}"), spoofed(forge, false), "paused 4.4.3"));
    }
    // A forger who cannot see the question has to guess the case of its letters; then TCP is asked.
    let other_case = |asked: &Asked, m: &mut Vec<u8>| {
        let end = 12 + asked.message[12..].iter().position(|&octet| octet == 0).unwrap();
        m[12..end].iter_mut().filter(|octet| octet.is_ascii_alphabetic()).for_each(|octet| *octet ^= 0x20);
    };
    let guessed: Script = Box::new(move |asked| {
        let mut first = forged(asked);
        other_case(asked, &mut first);
        if asked.tcp { usual(asked) } else { vec![first] }
    });
    table.push(("spoofed: another case, and the truth by TCP".into(), guessed, "delivered"));
    let mut wrong = Vec::new();
    for (name, script, expected) in table {
        let timeout = if expected.starts_with("paused") { BRIEF } else { PATIENT };
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| settle(script, timeout)));
        if !matches!(&seen, Ok(seen) if *seen == expected) {
            wrong.push(format!("{name}: {seen:?}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A domain with 200 MX hosts that do not answer costs a bounded number of connections, and the hop pauses.
#[test]
fn two_hundred_dead_hosts_are_not_all_tried() {
    let world = World::new("");
    let names: Vec<String> = (0..200).map(|n| format!("mx{n}.example")).collect();
    world.net.mx("far.example", &names.iter().map(|name| (10, name.as_str())).collect::<Vec<_>>());
    for (n, name) in names.iter().enumerate() {
        world.net.address(name, &[&format!("192.0.2.{n}")]);
    }
    world.accept("alice@box.example", &["joe@far.example"]);
    assert!(world.pass().is_some());
    assert_eq!((world.net.take_attempts().len(), world.queue().len(), world.mail("alice").len()), (16, 1, 0));
}

//! Whole look-ups: the queries, the accepted answers, the cache, and the texts of errors.

use super::server::{Asked, Server};
use crate::mail::mx::{Mx, MxAnswer};
use crate::net::resolver::{
    DnsError, DnsErrorKind, DnsRecord, MonotonicClock, RecordSet, Resolve, Resolver, Rtype, SystemFiles,
};
use crate::test_directory::TestDirectory;
use domain::base::iana::Rcode;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Long enough that no test which expects an answer gets near it.
const PATIENT: Duration = Duration::from_secs(20);
/// For tests in which all servers are silent.
const BRIEF: Duration = Duration::from_millis(200);
/// For tests in which an answer follows silence. A try gets the fourth part or more.
const SHARED: Duration = Duration::from_secs(5);

fn no_files() -> SystemFiles {
    SystemFiles { hosts: "/nonexistent/hosts".into(), resolv_conf: "/nonexistent/resolv.conf".into() }
}

fn real_clock() -> MonotonicClock {
    let start = Instant::now();
    Box::new(move || start.elapsed())
}

fn resolver(servers: &[&Server], timeout: Duration) -> Resolver {
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    Resolver::new(&addresses, timeout, no_files(), real_clock())
}

/// A resolver whose only server follows the script.
fn scripted(script: impl FnMut(&Asked) -> Vec<Vec<u8>> + Send + 'static) -> (Server, Resolver) {
    let server = Server::start(script);
    let resolver = resolver(&[&server], PATIENT);
    (server, resolver)
}

fn hosts(list: &[(u16, &str)]) -> Result<MxAnswer, DnsError> {
    Ok(MxAnswer::Hosts(
        list.iter().map(|&(preference, e)| Mx { preference, exchange: e.to_owned() }).collect(),
    ))
}

fn ips(list: &[&str]) -> Result<Vec<IpAddr>, DnsError> {
    Ok(list.iter().map(|ip| ip.parse().unwrap()).collect())
}

/// An address that stays silent: its socket is open, and nothing answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// How many queries a silent server has got since the last call.
fn take_queries(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| socket.recv(&mut [0; 512]).ok()).count()
}

#[test]
fn mx_records_come_in_lower_case_as_the_server_has_them() {
    let (server, resolver) = scripted(|asked| {
        assert_eq!(asked.rtype(), Rtype::MX);
        asked.records(|r| {
            r.mx("example.org", 10, "MX1.Example.ORG").mx("EXAMPLE.org", 5, "mx2.example.net");
        })
    });
    let expected = hosts(&[(10, "mx1.example.org"), (5, "mx2.example.net")]);
    assert_eq!(resolver.mx("example.org"), expected);
    assert_eq!(resolver.mx("Example.Org."), expected);
    assert_eq!(server.queries(), 1, "the second comes from the cache");
}

#[test]
fn null_mx_no_mx_and_no_domain_are_three_answers() {
    let (_server, resolver) = scripted(|asked| match () {
        () if asked.asks("null.example.org") => asked.records(|r| {
            r.mx("null.example.org", 0, ".");
        }),
        () if asked.asks("mixed.example.org") => asked.records(|r| {
            r.mx("mixed.example.org", 0, ".").mx("mixed.example.org", 1, "mx");
        }),
        () if asked.asks("host.example.org") => asked.negative(Rcode::NOERROR, 60),
        () if asked.asks("bare.example.org") => asked.code(Rcode::NOERROR),
        () => asked.negative(Rcode::NXDOMAIN, 60),
    });
    assert_eq!(resolver.mx("null.example.org"), Ok(MxAnswer::Null));
    assert_eq!(resolver.mx("mixed.example.org"), hosts(&[(1, "mx")]));
    assert_eq!(resolver.mx("host.example.org"), Ok(MxAnswer::Implicit));
    assert_eq!(resolver.mx("bare.example.org"), Ok(MxAnswer::Implicit));
    let error = resolver.mx("none.example.org").unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::NoSuchDomain);
    assert_eq!(error.text, "none.example.org does not exist (NXDOMAIN)");
}

#[test]
fn both_families_are_asked_and_unusable_addresses_dropped() {
    let (server, resolver) = scripted(|asked| {
        asked.records(|r| match asked.rtype() {
            Rtype::A => {
                r.address("h.example", "0.0.0.0").address("h.example", "192.0.2.1");
            }
            _ => {
                r.address("h.example", "::").address("h.example", "::ffff:192.0.2.9");
                r.address("h.example", "2001:db8::1");
            }
        })
    });
    assert_eq!(resolver.addresses("h.example"), ips(&["192.0.2.1", "2001:db8::1"]));
    assert_eq!(server.queries(), 2);
}

#[test]
fn one_family_is_enough_but_no_address_needs_both() {
    for (v4, v6, expected) in [
        (Rcode::NOERROR, Rcode::SERVFAIL, None),
        (Rcode::SERVFAIL, Rcode::NOERROR, Some(DnsErrorKind::Temporary)),
        (Rcode::SERVFAIL, Rcode::NXDOMAIN, Some(DnsErrorKind::Temporary)),
        (Rcode::NXDOMAIN, Rcode::SERVFAIL, Some(DnsErrorKind::Temporary)),
        (Rcode::NXDOMAIN, Rcode::NXDOMAIN, Some(DnsErrorKind::NoSuchDomain)),
    ] {
        let (_server, resolver) = scripted(move |asked| match asked.rtype() {
            Rtype::A if v4 == Rcode::NOERROR => asked.records(|r| {
                r.address("h.example", "192.0.2.1");
            }),
            Rtype::A => asked.code(v4),
            _ => asked.code(v6),
        });
        let found = resolver.addresses("h.example");
        match expected {
            None => assert_eq!(found, ips(&["192.0.2.1"])),
            Some(kind) => assert_eq!(found.map_err(|e| e.kind), Err(kind), "{v4} {v6}"),
        }
    }
    let (_server, resolver) = scripted(|asked| match asked.rtype() {
        Rtype::A => asked.negative(Rcode::NXDOMAIN, 60),
        _ => asked.negative(Rcode::NOERROR, 60),
    });
    assert_eq!(resolver.addresses("h.example.org"), Ok(vec![]));
}

#[test]
fn names_that_need_no_server() {
    let (server, resolver) = scripted(|asked| asked.code(Rcode::SERVFAIL));
    assert_eq!(resolver.addresses("192.0.2.7"), ips(&["192.0.2.7"]));
    assert_eq!(resolver.addresses("2001:db8::7"), ips(&["2001:db8::7"]));
    assert_eq!(resolver.addresses("0.0.0.0"), Ok(vec![]));
    assert_eq!(resolver.addresses("LocalHost."), ips(&["127.0.0.1", "::1"]));
    assert_eq!(resolver.mx("a.localhost"), Ok(MxAnswer::Implicit));
    assert_eq!(resolver.records("_mta-sts.a.localhost", Rtype::TXT), Ok(RecordSet::default()));
    for bad in ["bücher.example", "", ".", "a..b", &"a".repeat(64), &"a.".repeat(200)] {
        assert_eq!(resolver.mx(bad).unwrap_err().kind, DnsErrorKind::BadName, "{bad}");
        assert_eq!(resolver.addresses(bad).unwrap_err().kind, DnsErrorKind::BadName, "{bad}");
    }
    assert_eq!(server.queries(), 0);
}

#[test]
fn errors_of_servers_are_temporary_and_say_which() {
    for (code, queries) in [(Rcode::SERVFAIL, 1), (Rcode::REFUSED, 1), (Rcode::FORMERR, 2)] {
        let (server, resolver) = scripted(move |asked| asked.code(code));
        let error = resolver.mx("example.org").unwrap_err();
        assert_eq!(error.kind, DnsErrorKind::Temporary);
        assert_eq!(error.text, format!("{code} from {} for MX example.org", server.address));
        assert_eq!(server.queries(), queries, "{code}");
    }
}

#[test]
fn an_error_without_the_question_is_believed_but_nxdomain_is_not() {
    let header_only = |asked: &Asked, code: Rcode| {
        let mut message = asked.reply(code, |_| {});
        message.truncate(12);
        message[5] = 0;
        vec![message]
    };
    let (_server, resolver) = scripted(move |asked| header_only(asked, Rcode::REFUSED));
    assert!(resolver.mx("example.org").unwrap_err().text.starts_with("REFUSED from"));
    let server = Server::start(move |asked| header_only(asked, Rcode::NXDOMAIN));
    let error = self::resolver(&[&server], BRIEF).mx("example.org").unwrap_err();
    assert!(error.text.starts_with("no answer from"), "{error}");
}

#[test]
fn the_next_server_is_asked_after_a_failure() {
    let broken = Server::start(|asked| asked.code(Rcode::SERVFAIL));
    let good = Server::start(|asked| {
        asked.records(|r| {
            r.mx("example.org", 1, "mx");
        })
    });
    assert_eq!(resolver(&[&broken, &good], PATIENT).mx("example.org"), hosts(&[(1, "mx")]));
    assert_eq!((broken.queries(), good.queries()), (1, 1));
}

#[test]
fn silence_names_server_type_name_and_time() {
    let (socket, address) = silent();
    let resolver = Resolver::new(&[address], BRIEF, no_files(), real_clock());
    let start = Instant::now();
    let error = resolver.mx("example.org").unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::Temporary);
    assert_eq!(error.text, format!("no answer from {address} for MX example.org within 200ms"));
    assert!(start.elapsed() >= BRIEF && take_queries(&socket) > 0);
    let _ = resolver.mx("example.org").unwrap_err();
    assert_eq!(take_queries(&socket), 0, "the failure is remembered");
}

#[test]
fn a_look_up_of_both_families_ends_within_twice_the_time() {
    let (socket, address) = silent();
    let timeout = Duration::from_secs(2);
    let resolver = Resolver::new(&[address], timeout, no_files(), real_clock());
    let start = Instant::now();
    let error = resolver.addresses("example.org").unwrap_err();
    assert_eq!(error.text, format!("no answer from {address} for A example.org within 2s"));
    assert!((timeout..PATIENT).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(take_queries(&socket), 4, "two rounds for each family");
}

/// A person who probes does not wait for the whole time of each look-up.
#[test]
fn no_look_up_outlasts_the_end() {
    let (_socket, address) = silent();
    let resolver = Resolver::new(&[address], PATIENT, no_files(), real_clock()).ending_after(BRIEF);
    let start = Instant::now();
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(resolver.addresses(name).unwrap_err().kind, DnsErrorKind::Temporary);
    }
    assert!((BRIEF..PATIENT / 4).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn a_silent_server_is_asked_last_for_a_while() {
    let mute = Server::start(|_| vec![]);
    let good = Server::start(|asked| asked.code(Rcode::NXDOMAIN));
    let now = Arc::new(Mutex::new(1));
    let clock = Arc::clone(&now);
    let clock: MonotonicClock = Box::new(move || Duration::from_secs(*clock.lock().unwrap()));
    let resolver = Resolver::new(&[mute.address, good.address], SHARED, no_files(), clock);
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(resolver.mx(name).unwrap_err().kind, DnsErrorKind::NoSuchDomain);
        assert_eq!(mute.queries(), 1, "asked by the first look-up only");
    }
    *now.lock().unwrap() += 61;
    assert_eq!(resolver.mx("d.example").unwrap_err().kind, DnsErrorKind::NoSuchDomain);
    assert_eq!(mute.queries(), 2, "asked first again");
}

#[test]
fn a_lost_packet_is_sent_again() {
    let server = Server::start(|asked| match asked.nth {
        0 => vec![],
        _ => asked.code(Rcode::NXDOMAIN),
    });
    let resolver = resolver(&[&server], SHARED);
    assert_eq!(resolver.mx("example.org").unwrap_err().kind, DnsErrorKind::NoSuchDomain);
    assert_eq!(server.queries(), 2);
}

#[test]
fn a_closed_port_fails_at_once() {
    let (socket, address) = silent();
    drop(socket);
    let error = Resolver::new(&[address], PATIENT, no_files(), real_clock()).mx("example.org").unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::Temporary);
    let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
    assert_eq!(error.text, format!("cannot ask {address} ({refused}) for MX example.org"));
}

#[test]
fn a_truncated_answer_is_fetched_by_tcp() {
    let (server, resolver) = scripted(|asked| {
        asked.records(|r| {
            if !asked.tcp {
                return r.truncated();
            }
            for i in 0..200 {
                r.mx("example.org", i, &format!("mx{i}.example.org"));
            }
        })
    });
    let Ok(MxAnswer::Hosts(all)) = resolver.mx("example.org") else { panic!("no hosts") };
    assert_eq!(all.len(), 200);
    assert_eq!(all[199], Mx { preference: 199, exchange: "mx199.example.org".into() });
    assert_eq!(server.queries(), 2);
}

#[test]
fn a_server_that_knows_no_edns_is_asked_without() {
    let (server, resolver) = scripted(|asked| match asked.parsed().opt() {
        Some(opt) => {
            assert_eq!(opt.udp_payload_size(), 1232);
            asked.code(Rcode::FORMERR)
        }
        None => asked.records(|r| {
            r.mx("example.org", 1, "mx");
        }),
    });
    assert_eq!(resolver.mx("example.org"), hosts(&[(1, "mx")]));
    assert_eq!(server.queries(), 2);
}

/// The right answer comes last, after a packet that must be ignored.
#[test]
fn forged_answers_are_passed_over() {
    let forgeries: [fn(&Asked, &mut Vec<u8>); 7] = [
        |asked, m| m[..2].copy_from_slice(&asked.id().wrapping_add(1).to_be_bytes()),
        |_, m| m[13] ^= 0x03,        // another letter in the name
        |_, m| *m = m[..9].to_vec(), // not even a header
        |_, m| m[2] &= 0x7f,         // a query, not a response
        |_, m| m[2] |= 0x08,         // another opcode
        |_, m| m[5] = 2,             // two questions
        |_, m| m[12 + 13 + 1] = 1,   // another type
    ];
    for (i, forge) in forgeries.into_iter().enumerate() {
        let (server, resolver) = scripted(move |asked| {
            let mut forged = asked.reply(Rcode::NOERROR, |r| {
                r.mx("example.org", 1, "evil.example");
            });
            forge(asked, &mut forged);
            let mut replies = asked.records(|r| {
                r.mx("example.org", 1, "mx");
            });
            replies.insert(0, forged);
            replies
        });
        assert_eq!(resolver.mx("example.org"), hosts(&[(1, "mx")]), "forgery {i}");
        assert_eq!(server.queries(), 1, "forgery {i}");
    }
}

#[test]
fn an_answer_from_another_address_is_not_seen() {
    let (stranger, _) = silent();
    let server = Server::start(move |asked| {
        let forged = asked.records(|r| {
            r.mx("example.org", 1, "evil.example");
        });
        stranger.send_to(&forged[0], asked.from).unwrap();
        asked.code(Rcode::NXDOMAIN)
    });
    let error = resolver(&[&server], PATIENT).mx("example.org").unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::NoSuchDomain);
}

#[test]
fn an_answer_in_another_case_is_checked_by_tcp() {
    let (server, resolver) = scripted(|asked| {
        let mut reply = asked.reply(Rcode::NOERROR, |r| {
            r.mx("example.org", 1, if asked.tcp { "mx" } else { "evil.example" });
        });
        for octet in reply[12..24].iter_mut().filter(|octet| octet.is_ascii_alphabetic()) {
            *octet ^= 0x20;
        }
        vec![reply]
    });
    assert_eq!(resolver.mx("example.org"), hosts(&[(1, "mx")]));
    assert_eq!(server.queries(), 2);
}

#[test]
fn ids_ports_and_case_differ_from_query_to_query() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (_server, resolver) = {
        let seen = Arc::clone(&seen);
        scripted(move |asked| {
            seen.lock().unwrap().push((asked.id(), asked.from.port(), asked.message[12..].to_vec()));
            asked.code(Rcode::SERVFAIL)
        })
    };
    for i in 10..50 {
        let _ = resolver.mx(&format!("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.n{i}.example"));
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 40);
    assert!(seen.iter().map(|s| s.0).collect::<HashSet<_>>().len() > 35);
    assert!(seen.iter().map(|s| s.1).collect::<HashSet<_>>().len() > 20);
    assert_eq!(seen.iter().map(|s| s.2[1..41].to_vec()).collect::<HashSet<_>>().len(), 40);
}

#[test]
fn chains_of_eight_cnames_end_and_of_nine_do_not() {
    // In one answer, and with one CNAME an answer.
    for at_once in [true, false] {
        for (length, ends) in [(1, true), (8, true), (9, false)] {
            let (_server, resolver) = scripted(move |asked| {
                asked.records(|r| {
                    for i in (0..length).rev().filter(|i| at_once || asked.asks(&format!("c{i}.example"))) {
                        r.cname(&format!("c{i}.example"), &format!("c{}.example", i + 1));
                    }
                    let end = format!("c{length}.example");
                    if at_once || asked.asks(&end) {
                        r.mx(&end, 1, "mx");
                    }
                })
            });
            let found = resolver.mx("c0.example");
            if ends {
                assert_eq!(found, hosts(&[(1, "mx")]), "{length} {at_once}");
            } else {
                let error = found.unwrap_err();
                assert_eq!(error.kind, DnsErrorKind::TooManyCnames, "{length} {at_once}");
                assert_eq!(error.text, "MX c0.example leads through more than 8 CNAMEs");
            }
        }
    }
}

#[test]
fn cname_loops_are_left() {
    for at_once in [true, false] {
        let (server, resolver) = scripted(move |asked| {
            asked.records(|r| {
                for (from, to) in [("a.example", "b.example"), ("b.example", "a.example")] {
                    if at_once || asked.asks(from) {
                        r.cname(from, to);
                    }
                }
            })
        });
        assert_eq!(resolver.mx("a.example").unwrap_err().kind, DnsErrorKind::TooManyCnames);
        assert!(server.queries() <= 9);
    }
}

#[test]
fn a_cname_to_nowhere_does_not_exist() {
    let (_server, resolver) = scripted(|asked| {
        vec![asked.reply(Rcode::NXDOMAIN, |r| {
            r.cname("a.example", "b.example");
        })]
    });
    let error = resolver.mx("a.example").unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::NoSuchDomain);
    assert_eq!(error.text, "a.example is a CNAME of b.example, which does not exist (NXDOMAIN)");
}

#[test]
fn addresses_of_a_host_are_bounded() {
    let (_server, resolver) = scripted(|asked| {
        asked.records(|r| {
            for i in 1..=50 {
                match asked.rtype() {
                    Rtype::A => r.address("h.example", &format!("192.0.2.{i}")),
                    _ => r.address("h.example", &format!("2001:db8::{i}")),
                };
            }
        })
    });
    let found = resolver.addresses("h.example").unwrap();
    assert_eq!(found.iter().filter(|ip| ip.is_ipv4()).count(), 8);
    assert_eq!(found.len(), 16);
}

#[test]
fn the_cache_keeps_to_ttls() {
    // (answer, how long it is remembered)
    for (kind, seconds) in
        [("mx", 300), ("negative", 60), ("nxdomain", 60), ("long no", 900), ("servfail", 5)]
    {
        let server = Server::start(move |asked| match kind {
            "mx" => asked.records(|r| {
                r.mx("a.example.org", 1, "mx");
            }),
            "negative" => asked.negative(Rcode::NOERROR, 60),
            "nxdomain" => asked.negative(Rcode::NXDOMAIN, 60),
            "long no" => asked.negative(Rcode::NOERROR, 86_400),
            _ => asked.code(Rcode::SERVFAIL),
        });
        let now = Arc::new(Mutex::new(1000));
        let clock = Arc::clone(&now);
        let clock: MonotonicClock = Box::new(move || Duration::from_secs(*clock.lock().unwrap()));
        let resolver = Resolver::new(&[server.address], PATIENT, no_files(), clock);
        let first = resolver.mx("a.example.org");
        *now.lock().unwrap() += seconds - 1;
        assert_eq!(resolver.mx("a.example.org"), first);
        assert_eq!(server.queries(), 1, "{kind}");
        *now.lock().unwrap() += 1;
        assert_eq!(resolver.mx("a.example.org"), first);
        assert_eq!(server.queries(), 2, "{kind}");
    }
}

#[test]
fn a_cut_answer_is_temporary() {
    let (server, resolver) = scripted(|asked| {
        let mut reply = asked.reply(Rcode::NOERROR, |r| {
            r.mx("example.org", 1, "mx.example.org").mx("example.org", 2, "mx2.example.org");
        });
        reply.truncate(reply.len() - 5);
        vec![reply]
    });
    let error = resolver.mx("example.org").unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::Temporary);
    assert_eq!(error.text, format!("a cut answer from {} for MX example.org", server.address));
}

#[test]
fn a_tcp_connection_that_ends_early_is_a_cut_answer() {
    let (_server, resolver) =
        scripted(|asked| if asked.tcp { vec![] } else { asked.records(super::server::Reply::truncated) });
    let error = resolver.mx("example.org").unwrap_err();
    assert!(error.text.starts_with("a cut answer from"), "{error}");
}

#[test]
fn names_in_the_hosts_file_need_no_dns() {
    let directory = TestDirectory::new();
    let files = SystemFiles { hosts: directory.join("hosts"), ..no_files() };
    let text = b"# the LAN\n192.168.1.2\tnas NAS.lan # disk\n\xff\xfe junk\nfd00::2 nas\n0.0.0.0 ads.example\n\n192.168.1.3";
    fs::write(&files.hosts, text).unwrap();
    let server = Server::start(|asked| asked.code(Rcode::NXDOMAIN));
    let resolver = Resolver::new(&[server.address], PATIENT, files.clone(), real_clock());
    assert_eq!(resolver.addresses("Nas"), ips(&["192.168.1.2", "fd00::2"]));
    assert_eq!(resolver.addresses("nas.lan."), ips(&["192.168.1.2"]));
    assert_eq!(resolver.addresses("ads.example"), Ok(vec![]));
    assert_eq!(server.queries(), 0);
    assert_eq!(resolver.mx("nas.lan"), Ok(MxAnswer::Implicit));
    assert_eq!(resolver.mx("other.lan").unwrap_err().kind, DnsErrorKind::NoSuchDomain);
    fs::write(&files.hosts, "192.168.1.9 nas\n").unwrap();
    assert_eq!(resolver.addresses("nas"), ips(&["192.168.1.9"]));
}

#[test]
fn a_changed_resolv_conf_is_followed_and_the_cache_forgotten() {
    let directory = TestDirectory::new();
    let files = SystemFiles { resolv_conf: directory.join("resolv.conf"), ..no_files() };
    let servers = |resolver: &Resolver| {
        resolver.follow_system();
        resolver.servers_in_order().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let resolver = Resolver::new(&[], PATIENT, files.clone(), real_clock());
    assert_eq!(servers(&resolver), ["127.0.0.1:53"]);
    fs::write(&files.resolv_conf, "search lan\nnameserver 192.0.2.1\nnameserver 2001:db8::1 \nbogus\n")
        .unwrap();
    assert_eq!(servers(&resolver), ["192.0.2.1:53", "[2001:db8::1]:53"]);

    let name = super::server::name("a.example");
    let remember = |r: &Resolver| {
        r.state().cache.put(name.clone(), Rtype::A, Ok(RecordSet::default()), PATIENT, (r.clock)());
    };
    let remembers = |r: &Resolver| r.state().cache.get(&name, Rtype::A, (r.clock)()).is_some();
    remember(&resolver);
    assert_eq!(servers(&resolver).len(), 2);
    assert!(remembers(&resolver), "an unchanged file changes nothing");
    fs::write(
        &files.resolv_conf,
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
    )
    .unwrap();
    assert_eq!(servers(&resolver), ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]);
    assert!(!remembers(&resolver));

    let configured = Resolver::new(&["192.0.2.9:5353".parse().unwrap()], PATIENT, files, real_clock());
    assert_eq!(servers(&configured), ["192.0.2.9:5353"]);
}

#[test]
fn txt_strings_are_joined_and_tlsa_is_as_on_the_wire() {
    let (server, resolver) = scripted(|asked| {
        asked.records(|r| {
            r.data("a.example.org", Rtype::TXT, b"\x03v=S\x00\x05TSv1;").data(
                "a.example.org",
                Rtype::TXT,
                b"\x01x",
            );
            r.data("a.example.org", Rtype::TLSA, &[3, 1, 1, 0]).data("b.example.org", Rtype::TXT, b"\x01y");
        })
    });
    let data = |rtype| -> Vec<DnsRecord> { resolver.records("a.example.org", rtype).unwrap().records };
    assert_eq!(data(Rtype::TXT), [DnsRecord::Data(b"v=STSv1;".to_vec()), DnsRecord::Data(b"x".to_vec())]);
    assert_eq!(data(Rtype::TLSA), [DnsRecord::Data(vec![3, 1, 1, 0])]);
    assert_eq!(data(Rtype::TXT).len(), 2);
    assert_eq!(server.queries(), 2, "the third comes from the cache");
    let (_server, resolver) = scripted(|asked| {
        asked.records(|r| {
            r.data("a.example.org", Rtype::TXT, b"\x03xx");
        })
    });
    let error = resolver.records("a.example.org", Rtype::TXT).unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::Temporary, "{error}");
}

#[test]
fn an_answer_is_secure_if_all_of_it_is_and_its_server_is_believed() {
    let script = |asked: &Asked| {
        let ad = asked.parsed().header().ad();
        asked.records(|r| match () {
            () if asked.asks("half.example.org") => {
                r.cname("half.example.org", "plain.example.org").secure(ad);
            }
            () if asked.asks("alias.example.org") => {
                r.cname("alias.example.org", "a.example.org").secure(ad);
            }
            () if asked.asks("plain.example.org") => {
                r.address("plain.example.org", "192.0.2.1").secure(false)
            }
            () if asked.asks("none.example.org") => r.secure(ad),
            () => r.address("a.example.org", "192.0.2.1").secure(ad),
        })
    };
    let (_server, resolver) = scripted(script);
    let is_secure = |name| resolver.records(name, Rtype::A).unwrap().is_secure;
    for (name, expected) in [
        ("a.example.org", true),
        ("alias.example.org", true),
        ("none.example.org", true),
        ("plain.example.org", false),
        ("half.example.org", false),
    ] {
        // The second comes from the cache.
        assert_eq!((is_secure(name), is_secure(name)), (expected, expected), "{name}");
    }
    let far = "192.0.2.53:53".parse().unwrap();
    assert!(!resolver.believes(far) && resolver.believes("[::1]:53".parse().unwrap()));
    assert!(resolver.trusting_all().believes(far));
}

/// An untrusted server is not asked to set the AD bit, and its AD bit does not count.
#[test]
fn the_ad_bit_of_others_is_not_believed() {
    let server = Server::start(|asked| {
        assert!(!asked.parsed().header().ad());
        asked.records(|r| r.address("a.example.org", "192.0.2.1").secure(true))
    });
    let (clock, name) = (real_clock(), super::server::name("a.example.org"));
    let deadline = crate::net::resolver::query::QueryDeadline { clock: &*clock, at: PATIENT };
    let answer = crate::net::resolver::query::ask(server.address, &name, Rtype::A, false, &deadline).unwrap();
    assert!(!answer.is_secure);
}

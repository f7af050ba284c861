//! How `setup` finds port and TLS mode: candidates are tried in order, the first that works is taken, and a refused login
//! ends the search.

use crate::engine::host::site::{Site, current};
use crate::engine::probe::smarthost::{Proposal, Trial, find, propose};
use crate::engine::probe::walk as probe;
use crate::engine::tests::world::*;
use crate::mail::address::Domain;
use crate::mail::date::{Now, WallTime};
use crate::mail::next_hop::Smarthost;
use crate::net::resolver::{DnsErrorKind, DnsRecord, RecordSet, Rtype};
use crate::net::self_signed;
use crate::rules::advice::providers::Named;
use crate::rules::advice::step;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const LOGIN: &str = "relay.username = \"box@smart.example\"\nrelay.password_command = \"echo secret\"\n";

fn world(config: &str) -> World {
    let world = World::new(config);
    world.net.address("smart.example", &["192.0.2.7"]);
    world
}

/// Tries all candidates for a smarthost; returns the result and the addresses that were connected to.
fn tried(world: &World, smarthost: &str) -> (Trial, Vec<String>) {
    let through = probe::ProbeContext {
        resolver: &*world.net,
        connect: &*world.net,
        maildirs: &world.intake.maildirs,
        now: now(),
        own_address: &|_| None,
        time: probe::ProbeTime::within(Duration::from_secs(60)),
    };
    let site = current(&world.site);
    let mut named = Named::parse(smarthost).unwrap();
    if !site.settings.relay.username.is_empty() {
        named.keep_private();
    }
    let candidates: Vec<_> = named.candidates.into_iter().map(|candidate| vec![candidate]).collect();
    let on_site = |candidate: &Vec<Smarthost>| {
        let mut settings = site.settings.clone();
        settings.relay.smarthost = candidate.iter().cloned().map(Into::into).collect();
        let commands = site.commands.clone();
        let site = Site { commands, ..Site::new(settings, site.hostname.clone(), None) };
        (candidate.clone(), Arc::new(site))
    };
    let mut reported = Vec::new();
    let sites = candidates.iter().map(on_site).collect();
    let trial = find(sites, &through, "me@far.example", &mut |trial| reported.push(trial.smarthost.clone()));
    let attempts = world.net.take_attempts();
    assert!(!reported.is_empty() && candidates.starts_with(&reported) && reported.contains(&trial.smarthost));
    (trial, attempts)
}

fn shown(trial: &Trial) -> String {
    trial.smarthost.iter().map(ToString::to_string).collect()
}

fn now() -> Now {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Now { wall: WallTime(now.as_micros() as u64), running: now }
}

/// A trusted host with implicit TLS on port 465, which answers AUTH with `auth`.
fn tls_host(world: &World, auth: &'static str) {
    let pem = self_signed::make("smart.example", now().wall).unwrap();
    let file = world.state().parent().unwrap().join("ca.pem");
    std::fs::write(&file, &pem).unwrap();
    world.reload(&format!("{LOGIN}relay.ca_file = {file:?}\n"));
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(&pem).unwrap()).unwrap();
    acceptor.set_certificate(&X509::from_pem(&pem).unwrap()).unwrap();
    let (acceptor, listener) = (acceptor.build(), TcpListener::bind("127.0.0.1:0").unwrap());
    world.net.peer("192.0.2.7:465", Peer::Socket(listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        let Ok(mut stream) = acceptor.accept(listener.accept().unwrap().0) else { return };
        stream.write_all(b"220 smart.example ESMTP\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|octets| octets > 0) {
            let reply = match line.get(..4).unwrap_or_default() {
                "EHLO" => "250-smart.example\r\n250 AUTH PLAIN",
                "AUTH" => auth,
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            stream.get_mut().write_all(format!("{reply}\r\n").as_bytes()).unwrap();
            line.clear();
        }
    });
}

#[test]
fn tls_from_the_start_comes_first_and_is_enough() {
    let world = world(LOGIN);
    tls_host(&world, "235 2.7.0 welcome");
    let (trial, attempts) = tried(&world, "smart.example");
    assert_eq!(
        (shown(&trial).as_str(), attempts),
        ("smtps://smart.example:465", vec!["192.0.2.7:465".to_owned()]),
        "{trial:#?}"
    );
    assert!(trial.failure.is_none() && trial.steps.iter().any(|step| step.stage == step::Stage::Auth));
}

#[test]
fn a_refused_login_is_not_repeated_by_another_port() {
    let world = world(LOGIN);
    tls_host(&world, "535 5.7.8 wrong");
    world.net.peer("192.0.2.7:587", Peer::Host(Host::friendly()));
    let (trial, attempts) = tried(&world, "smart.example");
    let failure = trial.failure.unwrap();
    assert_eq!((failure.stage, attempts.len()), (step::Stage::Auth, 1));
    assert!(failure.hint.unwrap().contains("password is wrong"), "{failure:?}");
}

#[test]
fn each_port_is_tried_and_the_farthest_is_shown() {
    let world = world(LOGIN);
    world.net.peer("192.0.2.7:465", Peer::TimesOut);
    world.net.peer("192.0.2.7:587", Peer::Host(Host::friendly()));
    let (trial, attempts) = tried(&world, "smart.example");
    assert_eq!(attempts, ["192.0.2.7:465", "192.0.2.7:587", "192.0.2.7:25"]);
    assert_eq!(shown(&trial), "smtp+starttls://smart.example:587");
    assert_eq!(trial.failure.unwrap().stage, step::Stage::StartTls);
}

#[test]
fn without_a_login_a_host_without_tls_serves_as_the_last_one() {
    let world = world("");
    let host = Host::friendly();
    world.net.peer("192.0.2.7:25", Peer::Host(Arc::clone(&host)));
    let (trial, attempts) = tried(&world, "smart.example");
    assert_eq!(attempts, ["192.0.2.7:465", "192.0.2.7:587", "192.0.2.7:25", "192.0.2.7:25"]);
    assert_eq!(shown(&trial), "smtp://smart.example:25");
    assert!(trial.failure.is_none() && host.taken.lock().unwrap().is_empty());
}

#[test]
fn what_no_port_mends_ends_it() {
    let world = world(LOGIN);
    world.net.address_error("gone.example", dns_error(DnsErrorKind::NoSuchDomain));
    let (trial, attempts) = tried(&world, "gone.example");
    assert_eq!((trial.failure.unwrap().stage, attempts), (step::Stage::Address, Vec::new()));
    // A named port is the only candidate.
    world.net.peer("192.0.2.7:2525", Peer::Refuses);
    let (_, attempts) = tried(&world, "smtps://smart.example:2525");
    assert_eq!(attempts, ["192.0.2.7:2525"]);
}

#[test]
fn providers_and_srv_records_propose() {
    let world = world("");
    let domain = |name| Domain::parse(name).unwrap();
    let srv = |name: &str, data: &[u8], is_secure| {
        let records = vec![DnsRecord::Data(data.to_vec())];
        world.net.records(name, Rtype::SRV, Ok(RecordSet { records, is_secure }));
    };
    let says = |smarthost: &str, is_certain| Some(Proposal { smarthost: smarthost.to_owned(), is_certain });
    assert_eq!(propose(&*world.net, &domain("GMail.com")), says("smtp.gmail.com", true));
    assert_eq!(propose(&*world.net, &domain("none.example")), None);
    srv("_submission._tcp.a.example", b"\0\0\0\0\x02\x4b\x01s\x01a\x07example\0", false);
    assert_eq!(propose(&*world.net, &domain("a.example")), says("smtp+starttls://s.a.example:587", true));
    srv("_submissions._tcp.a.example", b"\0\0\0\0\x01\xd1\x01s\x04evil\0", false);
    assert_eq!(propose(&*world.net, &domain("a.example")), says("smtps://s.evil:465", false));
    srv("_submissions._tcp.a.example", b"\0\0\0\0\x01\xd1\x01s\x04evil\0", true);
    assert_eq!(propose(&*world.net, &domain("a.example")), says("smtps://s.evil:465", true));
    // The service is declared not to exist.
    srv("_submissions._tcp.a.example", b"\0\0\0\0\0\0\0", false);
    assert_eq!(propose(&*world.net, &domain("a.example")), says("smtp+starttls://s.a.example:587", true));
}

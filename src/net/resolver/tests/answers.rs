//! The parser: which records of an answer count, and that no input makes it panic.

use super::server::{DnsName, name, soa};
use crate::mail::mx::Mx;
use crate::net::resolver::{AnswerContent, DnsRecord, ServerFault, parse_answer};
use domain::base::iana::{Class, Rcode};
use domain::base::message_builder::AnswerBuilder;
use domain::base::{MessageBuilder, Rtype};
use domain::rdata;
use proptest::prelude::*;
use std::time::Duration;

type Builder = AnswerBuilder<Vec<u8>>;

fn start(code: Rcode) -> Builder {
    let mut question = MessageBuilder::new_vec().question();
    question.header_mut().set_qr(true);
    question.header_mut().set_ra(true);
    question.header_mut().set_rcode(code);
    question.push((name("example.org"), Rtype::MX)).unwrap();
    question.answer()
}

fn mx(preference: u16, exchange: &str) -> rdata::Mx<DnsName> {
    rdata::Mx::new(preference, name(exchange))
}

fn parse(message: &[u8]) -> Result<super::super::DnsAnswer, ServerFault> {
    parse_answer(message, &name("example.org"), Rtype::MX)
}

#[test]
fn only_records_of_the_chain_count() {
    let mut b = start(Rcode::NOERROR);
    b.push((name("evil.example"), 300, mx(1, "evil.example"))).unwrap();
    b.push((name("example.org"), Class::CH, 300, mx(1, "evil.example"))).unwrap();
    b.push((name("sub.example.org"), 300, mx(1, "evil.example"))).unwrap();
    b.push((name("t.example"), 300, mx(7, "mx.example"))).unwrap();
    b.push((name("other.example"), 1, rdata::Cname::new(name("evil.example")))).unwrap();
    b.push((name("example.org"), 200, rdata::Cname::new(name("t.example")))).unwrap();
    let answer = parse(&b.finish()).unwrap();
    assert_eq!(
        answer.found,
        AnswerContent::Records(vec![DnsRecord::Mx(Mx { preference: 7, exchange: "mx.example".into() })])
    );
    assert_eq!((answer.cnames, answer.ttl), (1, Duration::from_secs(200)));
}

#[test]
fn records_of_others_only_are_none() {
    let mut b = start(Rcode::NOERROR);
    b.push((name("evil.example"), 300, mx(1, "evil.example"))).unwrap();
    let answer = parse(&b.finish()).unwrap();
    assert_eq!((answer.found, answer.ttl), (AnswerContent::NoData, Duration::ZERO));
}

#[test]
fn only_the_soa_of_the_zone_lets_a_no_be_remembered() {
    for (owner, ttl) in [("org", 60), ("EXAMPLE.org", 60), ("evil.example", 0), ("sub.example.org", 0)] {
        for (code, found) in [
            (Rcode::NOERROR, AnswerContent::NoData),
            (Rcode::NXDOMAIN, AnswerContent::NoSuchDomain(name("example.org"))),
        ] {
            let mut b = start(code).authority();
            b.push((name(owner), 3600, soa(60))).unwrap();
            let answer = parse(&b.finish()).unwrap();
            assert_eq!((answer.found, answer.ttl.as_secs()), (found, ttl), "{owner}");
        }
    }
}

#[test]
fn contradictions_and_referrals_are_no_answers() {
    let mut b = start(Rcode::NXDOMAIN);
    b.push((name("example.org"), 300, mx(1, "mx"))).unwrap();
    assert!(matches!(parse(&b.finish()), Err(ServerFault::Malformed)));

    let mut b = start(Rcode::NOERROR).authority();
    b.push((name("org"), 300, rdata::Ns::new(name("ns.example")))).unwrap();
    assert!(matches!(parse(&b.finish()), Err(ServerFault::Referral)));

    // An empty answer of a server that is neither authoritative nor recursive.
    for (aa, ra, is_lame) in [(false, false, true), (true, false, false), (false, true, false)] {
        let mut b = start(Rcode::NOERROR);
        b.header_mut().set_ra(ra);
        b.header_mut().set_aa(aa);
        assert_eq!(matches!(parse(&b.finish()), Err(ServerFault::Referral)), is_lame, "{aa} {ra}");
    }
}

#[test]
fn ttls_are_capped_and_the_top_bit_is_none() {
    for (ttl, kept) in [(300, 300), (86_400 * 30, 86_400), (0x8000_0000, 0), (0, 0)] {
        let mut b = start(Rcode::NOERROR);
        b.push((name("example.org"), ttl, mx(1, "mx"))).unwrap();
        assert_eq!(parse(&b.finish()).unwrap().ttl.as_secs(), kept, "{ttl}");
    }
}

#[test]
fn odd_octets_in_an_exchange_are_escaped() {
    let mut b = start(Rcode::NOERROR);
    let exchange = DnsName::from_octets(b"\x04a\r\n \x07example\0".to_vec()).unwrap();
    b.push((name("example.org"), 300, rdata::Mx::new(1, exchange))).unwrap();
    let Ok(AnswerContent::Records(records)) = parse(&b.finish()).map(|a| a.found) else {
        panic!("no records")
    };
    let [DnsRecord::Mx(mx)] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(mx.exchange, "a\\013\\010\\ .example");
}

/// A message with everything that is read: a chain, records, an SOA.
fn rich() -> Vec<u8> {
    let mut b = start(Rcode::NOERROR);
    b.push((name("example.org"), 300, rdata::Cname::new(name("t.example.org")))).unwrap();
    b.push((name("t.example.org"), 300, mx(10, "mx1.example.org"))).unwrap();
    b.push((name("t.example.org"), 300, mx(20, "mx2.example.org"))).unwrap();
    let mut b = b.authority();
    b.push((name("example.org"), 300, soa(60))).unwrap();
    b.finish()
}

#[test]
fn an_answer_cut_anywhere_before_the_end_of_its_answers_is_an_error() {
    let whole = rich();
    let authority = whole.len() - {
        let mut b = start(Rcode::NOERROR).authority();
        let before = b.as_slice().len();
        b.push((name("example.org"), 300, soa(60))).unwrap();
        b.finish().len() - before
    };
    for end in 0..whole.len() {
        assert_eq!(parse(&whole[..end]).is_ok(), end >= authority, "{end} of {}", whole.len());
    }
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        for rtype in [Rtype::MX, Rtype::A, Rtype::AAAA] {
            let _ = parse_answer(&octets, &name("example.org"), rtype);
        }
    }

    #[test]
    fn no_mutation_makes_it_panic_or_print_controls(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut message = rich();
        for (place, octet) in changes {
            let place = place.index(message.len());
            message[place] = octet;
        }
        let end = end.index(message.len() * 2).min(message.len());
        if let Ok(AnswerContent::Records(records)) = parse(&message[..end]).map(|answer| answer.found) {
            for record in records {
                let DnsRecord::Mx(mx) = record else { panic!("not asked for: {record:?}") };
                prop_assert!(mx.exchange.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
            }
        }
    }
}

//! Headers as proxies write them, malformed ones, and random ones.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

/// Returns its octets in pieces of at most `piece`; the rest shows what was not read.
struct Wire<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Transport for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        assert!(!buffer.is_empty(), "a read that can't be told from the end");
        let length = self.rest.len().min(self.piece).min(buffer.len());
        if length == 0 {
            return Err(WireError::Closed);
        }
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        Ok(length)
    }

    fn write_all(&mut self, _: &[u8], _: Deadline) -> Result<(), WireError> {
        panic!("a header has no answer")
    }

    fn has_input(&mut self) -> bool {
        !self.rest.is_empty()
    }
}

/// What is read of these octets, and how many were not.
fn read(octets: &[u8], piece: usize) -> (Result<Announced, String>, usize) {
    let mut wire = Wire { rest: octets, piece };
    let read = read_header(&mut wire, Deadline::after(Duration::from_secs(1)));
    (read.map_err(|error| error.to_string()), wire.rest.len())
}

const BEHIND: &[u8] = b"EHLO box.example\r\n\x16\x03\x01";

/// What is read of a header with other octets behind it, which all must be left.
fn announced(header: &[u8]) -> Result<Announced, String> {
    let octets = [header, BEHIND].concat();
    let (whole, left) = read(&octets, octets.len());
    assert!(whole.is_err() || left == BEHIND.len(), "{left} left behind {:?}", header.escape_ascii());
    for piece in [1, 7] {
        assert_eq!(read(&octets, piece), (whole.clone(), left));
    }
    whole
}

fn v1(line: &str) -> Result<Announced, String> {
    announced(format!("{line}\r\n").as_bytes())
}

fn v2(version_and_command: u8, family: u8, block: &[u8]) -> Result<Announced, String> {
    announced(&print_v2(version_and_command, family, block))
}

fn print_v2(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE.as_slice(), &[version_and_command, family], &length, block].concat()
}

fn is(client: &str) -> Result<Announced, String> {
    Ok(Announced::Client(client.parse().unwrap()))
}

fn bad(what: &str) -> Result<Announced, String> {
    Err(format!("the PROXY header {what}"))
}

#[test]
fn version_1_announces_a_client() {
    for (line, client) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 25", "192.0.2.7:56324"),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", "255.255.255.255:65535"),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0", "0.0.0.0:0"),
        ("PROXY TCP6 2001:DB8::7 ::1 1 25", "[2001:db8::7]:1"),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 4 5", "192.0.2.7:4"),
        ("PROXY TCP6 ::ffff:c000:0207 :: 4 5", "192.0.2.7:4"),
    ] {
        assert_eq!(v1(line), is(client), "{line}");
    }
    // The longest line of the specification, section 2.1.
    let longest = format!("PROXY TCP6 {0} {0} 65535 65535", ["ffff"; 8].join(":"));
    assert_eq!(longest.len() + 2, 104);
    assert_eq!(v1(&longest), is("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"));
}

#[test]
fn version_1_may_not_know_the_client() {
    for line in ["PROXY UNKNOWN", "PROXY UNKNOWN ffff:: ::1 what ever", "PROXY UNKNOWN \r \n x"] {
        assert_eq!(v1(line), Ok(Announced::Unchanged), "{line}");
    }
    for (octets, expected) in [(107, Ok(Announced::Unchanged)), (108, bad("has no CRLF within 107 octets"))] {
        let line = format!("PROXY UNKNOWN {}", "x".repeat(octets - 14 - 2));
        assert_eq!(v1(&line), expected, "{octets} octets");
    }
}

#[test]
fn version_1_has_an_exact_grammar() {
    for line in [
        "PROXY TCP4 192.0.2.7 ::1 1 25",
        "PROXY TCP4 2001:db8::7 2001:db8::1 1 25",
        "PROXY TCP4 ::ffff:192.0.2.7 ::ffff:192.0.2.7 1 25",
        "PROXY TCP6 192.0.2.7 192.0.2.1 1 25",
        "PROXY TCP4 192.0.2.07 192.0.2.1 1 25",
        "PROXY TCP4 192.0.2.256 192.0.2.1 1 25",
        "PROXY TCP4 192.0.2 192.0.2.1 1 25",
        "PROXY TCP6 fe80::1%eth0 ::1 1 25",
        "PROXY TCP6 [::1] ::1 1 25",
        "PROXY TCP4  192.0.2.7 192.0.2.1 1 25",
        "PROXY TCP4 192.0.2.7\t192.0.2.1 1 25",
        "PROXY TCP4 192.0.2.7",
        "PROXY TCP4 ",
    ] {
        assert_eq!(v1(line), bad("has a bad address"), "{line}");
    }
    for ports in [
        "1", "", "1 ", " 1 25", "01 25", "00 25", "1 025", "+1 25", "-1 25", "65536 25", "1 65536", "1 x",
        "1 25\r",
    ] {
        let line = format!("PROXY TCP4 192.0.2.7 192.0.2.1 {ports}");
        assert_eq!(v1(&line), bad("has a bad port"), "{line}");
    }
    for more in [" ", " x", " 25"] {
        let line = format!("PROXY TCP4 192.0.2.7 192.0.2.1 1 25{more}");
        assert_eq!(v1(&line), bad("has more than six words"), "{line}");
    }
    for line in [
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2",
        "PROXY UNKNOWNX",
        "PROXY TCP5 1",
    ] {
        assert_eq!(v1(line), bad("names no protocol of TCP4, TCP6 and UNKNOWN"), "{line}");
    }
    assert_eq!(announced(b"PROXY TCP4 \xff.2.3.4 1.2.3.4 1 2\r\n"), bad("is not ASCII"));
    // A lone LF ends no header, and a CR that no LF follows does not, either.
    let lone = format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n{}", "x".repeat(80));
    assert_eq!(announced(lone.as_bytes()), bad("has no CRLF within 107 octets"));
}

#[test]
fn other_words_are_told_apart_at_once() {
    for octets in [
        &b"E"[..],
        b"EHLO x\r\n",
        b"proxy ",
        b"PROXYX",
        b"PROXY\t",
        b"PROXY TCP4\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n",
        b"\x16\x03\x01",
    ] {
        let (found, _) = read(octets, 1);
        assert_eq!(found, bad("is missing"), "{}", octets.escape_ascii());
    }
}

#[test]
fn version_2_announces_a_client() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0, 25];
    assert_eq!(v2(0x21, 0x11, &v4), is("192.0.2.7:56324"));
    let tlv = [3, 0, 4, 1, 2, 3, 4, 0xff];
    assert_eq!(v2(0x21, 0x11, &[&v4[..], &tlv].concat()), is("192.0.2.7:56324"));
    let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let v6 = |source: &str| [&ip(source)[..], &ip("::1"), &[0, 1, 0, 25]].concat();
    assert_eq!(v2(0x21, 0x21, &v6("2001:db8::7")), is("[2001:db8::7]:1"));
    assert_eq!(v2(0x21, 0x21, &v6("::ffff:192.0.2.7")), is("192.0.2.7:1"));
    for length in [0, 1, 11] {
        assert_eq!(v2(0x21, 0x11, &v4[..length]), bad("is too short for its addresses"));
    }
    for length in [0, 12, 32, 35] {
        assert_eq!(v2(0x21, 0x21, &v6("::1")[..length]), bad("is too short for its addresses"));
    }
    // Fields after the addresses are skipped up to the limit.
    for (length, expected) in [
        (2048, is("192.0.2.7:56324")),
        (2049, bad("is longer than 2048 octets")),
        (65535, bad("is longer than 2048 octets")),
    ] {
        let block = [&v4[..], &vec![0; length - v4.len()]].concat();
        assert_eq!(v2(0x21, 0x11, &block), expected, "{length} octets");
    }
}

#[test]
fn version_2_may_not_know_the_client() {
    let block = [7; 216];
    for family in [0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x31, 0x32] {
        assert_eq!(v2(0x21, family, &block), Ok(Announced::Unchanged), "{family:#x}");
    }
    for family in [0x00, 0x11, 0x21, 0xff] {
        assert_eq!(v2(0x20, family, &block), Ok(Announced::Unchanged), "LOCAL {family:#x}");
        assert_eq!(v2(0x20, family, &[]), Ok(Announced::Unchanged), "LOCAL {family:#x}");
    }
}

#[test]
fn version_2_refuses_what_is_not_assigned() {
    let block = [7; 216];
    for version_and_command in [0x00, 0x01, 0x11, 0x22, 0x2f, 0x31, 0xff] {
        assert_eq!(v2(version_and_command, 0x11, &block), bad("has an unknown version or command"));
    }
    for family in [0x03, 0x13, 0x1f, 0x40, 0x41, 0xff] {
        assert_eq!(v2(0x21, family, &block), bad("has an unknown address family or protocol"), "{family:#x}");
    }
}

#[test]
fn a_header_that_is_cut_off_is_the_connections_end() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0, 25];
    for header in [print_v2(0x21, 0x11, &v4), b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec()] {
        for length in 0..header.len() {
            let (found, _) = read(&header[..length], 5);
            let expected = match length {
                0 => "closed without a PROXY header",
                _ => "connection closed by the peer while waiting for the PROXY header",
            };
            assert_eq!(found, Err(expected.into()), "{length} octets");
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read(
        source: IpAddr,
        destination: u128,
        ports: (u16, u16),
        more in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let (client_port, own_port) = ports;
        let expected = Ok(client(source, client_port));
        let (word, family, own) = match source {
            IpAddr::V4(_) => ("TCP4", 0x11, IpAddr::from((destination as u32).to_be_bytes())),
            IpAddr::V6(_) => ("TCP6", 0x21, IpAddr::from(destination.to_be_bytes())),
        };
        prop_assert_eq!(v1(&format!("PROXY {word} {source} {own} {client_port} {own_port}")), expected.clone());
        let octets = |ip| match ip {
            IpAddr::V4(ip) => Ipv4Addr::octets(&ip).to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [client_port.to_be_bytes(), own_port.to_be_bytes()].concat();
        prop_assert_eq!(v2(0x21, family, &[octets(source), octets(own), ports, more].concat()), expected);
    }

    #[test]
    fn any_octets_are_read_to_the_end_of_the_header_at_most(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"]),
        rest in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1..50_usize,
    ) {
        let octets = [start, &rest].concat();
        let (found, left) = read(&octets, piece);
        let length = match octets.strip_prefix(SIGNATURE) {
            Some([_, _, high, low, ..]) => 16 + usize::from(u16::from_be_bytes([*high, *low])),
            Some(_) => octets.len(),
            None => octets.windows(2).position(|pair| pair == b"\r\n").map_or(usize::MAX, |at| at + 2),
        };
        let used = octets.len() - left;
        // Twelve octets show that the header is missing.
        prop_assert!(used <= length.max(12));
        prop_assert!(found.is_err() || used == length);
    }
}

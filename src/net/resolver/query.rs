//! Puts one question to one server, over UDP and if needed over TCP, and accepts only an answer to it.
//!
//! An attacker off the path has to guess the id, the source port and the case of each letter before the server
//! answers (RFC 5452):
//!
//! - each query has its own connected socket, so the system picks the port and drops packets from other addresses;
//! - the id and the case of the name (draft-vixie-dnsext-dns0x20) are random;
//! - id and question section of the answer must match.
//!
//! Other packets are ignored until the deadline. If only the case differs, the question is asked again by TCP, which
//! cannot be forged blindly. The same happens if the answer is truncated (TC). EDNS0 announces 1232 octets (RFC
//! 6891); TCP frames messages by RFC 1035 §4.2 and RFC 7766.
//!
//! The module never retries a silent server and never decides what a fault means for the name.

use super::answer::{DnsAnswer, DnsName, ServerFault, parse_answer};
use domain::base::iana::{Opcode, OptRcode, Rcode, Rtype};
use domain::base::{Message, MessageBuilder};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// The size that fits into one unfragmented datagram on any path (DNS flag day 2020).
const EDNS_UDP_OCTETS: u16 = 1232;
/// Larger datagrams than announced are read up to this size; the rest is cut off.
const DATAGRAM_MAX_OCTETS: usize = 4096;
/// The length of the header in front of the question section (RFC 1035 §4.1.1).
const HEADER_OCTETS: usize = 12;

/// The time by which an answer must have arrived, on the resolver's clock.
pub(super) struct QueryDeadline<'a> {
    pub clock: &'a dyn Fn() -> Duration,
    pub at: Duration,
}

impl QueryDeadline<'_> {
    fn left(&self) -> Result<Duration, ServerFault> {
        let left = self.at.saturating_sub((self.clock)());
        if left.is_zero() { Err(ServerFault::Silence) } else { Ok(left) }
    }
}

/// Asks `server`. With `ad` the query says that we understand the AD bit (RFC 6840 §5.7); without it the AD bit of
/// the answer is ignored. A server that does not know EDNS0 is asked again without it (RFC 6891 §7).
pub(super) fn ask(
    server: SocketAddr,
    name: &DnsName,
    rtype: Rtype,
    ad: bool,
    deadline: &QueryDeadline<'_>,
) -> Result<DnsAnswer, ServerFault> {
    let mut answer = match ask_with(server, &Query::new(name, rtype, ad, Some(EDNS_UDP_OCTETS))?, deadline) {
        Err(ServerFault::Code(OptRcode::FORMERR | OptRcode::NOTIMP | OptRcode::BADVERS)) => {
            ask_with(server, &Query::new(name, rtype, ad, None)?, deadline)
        }
        other => other,
    }?;
    answer.is_secure &= ad;
    Ok(answer)
}

fn ask_with(
    server: SocketAddr,
    query: &Query<'_>,
    deadline: &QueryDeadline<'_>,
) -> Result<DnsAnswer, ServerFault> {
    let message = match over_udp(server, query, deadline)? {
        Some(message) => message,
        None => over_tcp(server, query, deadline)?,
    };
    parse_answer(&message, query.name, query.rtype)
}

/// A question in wire format.
struct Query<'a> {
    name: &'a DnsName,
    rtype: Rtype,
    octets: Vec<u8>,
    /// Where the question section ends.
    question_end: usize,
}

/// How a received message relates to the question.
#[derive(PartialEq, Eq)]
enum Match {
    /// Not an answer to it.
    Foreign,
    /// An answer to it, except that the case of the name differs.
    OtherCase,
    /// An answer to it.
    Ours,
}

impl<'a> Query<'a> {
    fn new(name: &'a DnsName, rtype: Rtype, ad: bool, edns: Option<u16>) -> Result<Self, ServerFault> {
        let (id, case) = random()?;
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id);
        builder.header_mut().set_rd(true);
        builder.header_mut().set_ad(ad);
        let mut builder = builder.question();
        builder.push((in_random_case(name, &case), rtype)).map_err(unbuildable)?;
        let question_end = builder.as_slice().len();
        let mut builder = builder.additional();
        if let Some(octets) = edns {
            let with_size = |opt: &mut domain::base::message_builder::OptBuilder<'_, _>| {
                opt.set_udp_payload_size(octets);
                Ok(())
            };
            builder.opt(with_size).map_err(unbuildable)?;
        }
        Ok(Self { name, rtype, octets: builder.finish(), question_end })
    }

    fn judge(&self, message: &[u8]) -> Match {
        let Ok(parsed) = Message::from_slice(message) else { return Match::Foreign };
        let header = parsed.header();
        let id_is_ours = message.get(..2) == self.octets.get(..2);
        if !id_is_ours || !header.qr() || header.opcode() != Opcode::QUERY {
            return Match::Foreign;
        }
        // Some servers send an error without the question. A forged one costs no more than a deferral.
        let questions = parsed.header_counts().qdcount();
        if questions == 0 && !matches!(header.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) {
            return Match::Ours;
        }
        let question = HEADER_OCTETS..self.question_end;
        match (message.get(question.clone()), self.octets.get(question)) {
            (Some(theirs), Some(ours)) if questions == 1 && theirs == ours => Match::Ours,
            (Some(theirs), Some(ours)) if questions == 1 && theirs.eq_ignore_ascii_case(ours) => {
                Match::OtherCase
            }
            _ => Match::Foreign,
        }
    }
}

fn unbuildable<E>(_: E) -> ServerFault {
    ServerFault::Io(ErrorKind::InvalidInput.into())
}

/// An unpredictable id, and one bit for each octet of the longest name.
fn random() -> Result<(u16, [u8; 32]), ServerFault> {
    let mut octets = [0; 34];
    // Up to 256 octets come complete or not at all (getrandom(2)).
    rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| ServerFault::Io(error.into()))?;
    let [id_high, id_low, case @ ..] = octets;
    Ok((u16::from_be_bytes([id_high, id_low]), case))
}

/// The length octet of a label is below 64 and so never a letter: the octets need no parsing.
fn in_random_case(name: &DnsName, random: &[u8]) -> DnsName {
    let bits = random.iter().flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1 == 1));
    let octets = name.as_slice().iter().zip(bits);
    let flipped =
        octets.map(|(&octet, flip)| if flip && octet.is_ascii_alphabetic() { octet ^ 0x20 } else { octet });
    DnsName::from_octets(flipped.collect()).unwrap_or_else(|_| name.clone())
}

/// The answer. `None`: it has to be fetched by TCP.
fn over_udp(
    server: SocketAddr,
    query: &Query<'_>,
    deadline: &QueryDeadline<'_>,
) -> Result<Option<Vec<u8>>, ServerFault> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(&query.octets)?;
    let mut buffer = [0; DATAGRAM_MAX_OCTETS];
    loop {
        socket.set_read_timeout(Some(deadline.left()?))?;
        let received = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        let message = buffer.get(..received).unwrap_or_default();
        match query.judge(message) {
            Match::Foreign => {}
            Match::Ours if !Message::from_slice(message).is_ok_and(|m| m.header().tc()) => {
                return Ok(Some(message.to_vec()));
            }
            Match::Ours | Match::OtherCase => return Ok(None),
        }
    }
}

fn over_tcp(
    server: SocketAddr,
    query: &Query<'_>,
    deadline: &QueryDeadline<'_>,
) -> Result<Vec<u8>, ServerFault> {
    let mut stream = TcpStream::connect_timeout(&server, deadline.left()?)?;
    stream.set_write_timeout(Some(deadline.left()?))?;
    let length = u16::try_from(query.octets.len()).map_err(unbuildable)?;
    // One write: some servers expect length and message in one segment (RFC 7766 §8).
    stream.write_all(&[&length.to_be_bytes(), query.octets.as_slice()].concat())?;
    let mut length = [0; 2];
    fill(&mut stream, &mut length, deadline)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    fill(&mut stream, &mut message, deadline)?;
    if query.judge(&message) == Match::Foreign { Err(ServerFault::Malformed) } else { Ok(message) }
}

/// As `read_exact`, but the deadline covers the whole message: a server that sends an octet now and then cannot hold
/// the caller.
fn fill(
    stream: &mut TcpStream,
    mut buffer: &mut [u8],
    deadline: &QueryDeadline<'_>,
) -> Result<(), ServerFault> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(deadline.left()?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(ServerFault::Cut),
            Ok(n) => buffer = buffer.get_mut(n..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl From<io::Error> for ServerFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silence,
            _ => Self::Io(error),
        }
    }
}

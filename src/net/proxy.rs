//! The PROXY protocol, versions 1 and 2: the header in which a proxy announces the client whose octets follow.
//!
//! Reads the octets of the header and not one more: TLS or SMTP may follow in the same packet, and belongs to others.
//! Never decides who may send a header: a client that could would choose its own address, so the caller asks only those
//! that it trusts. Checksums, names of hosts and whatever else stands behind the addresses of version 2 are skipped.
//!
//! Specification: HAProxy's `proxy-protocol.txt`, sections 2.1 (version 1) and 2.2 (version 2).
//! May fail: no header, one that is not exactly what the specification says, a deadline, a connection that ends.

use super::transport::{Deadline, Transport, WireError};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// How a header of version 2 begins (section 2.2); no line of text does.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How a header of version 1 begins (section 2.1).
const V1_START: &[u8] = b"PROXY ";
/// The longest header of version 1, its CRLF included (section 2.1).
const V1_MAX_OCTETS: usize = 107;
/// The longest address block of version 2, with what stands behind the addresses. The specification allows 65535
/// octets; proxies that add TLS names and identifiers stay far below this.
const V2_MAX_OCTETS: usize = 2048;

/// What a header says about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// This is its address and port; never an IPv4 address in the clothes of IPv6.
    Client(SocketAddr),
    /// Nothing, or nothing that is of use here (LOCAL, UNKNOWN, a Unix socket): the peer of the connection stays what
    /// it is.
    Unchanged,
}

/// Why there is no client.
#[derive(Debug)]
pub enum ProxyError {
    /// What came is no header as specified; the words say what is wrong with it.
    Malformed(&'static str),
    /// The connection ended before its first octet, as those do that only look whether the port is open.
    Nobody,
    /// The connection failed before the header was complete.
    Wire(WireError),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the PROXY header {what}"),
            Self::Nobody => f.write_str("gone without a PROXY header"),
            Self::Wire(error) => write!(f, "{error} while waiting for the PROXY header"),
        }
    }
}

impl std::error::Error for ProxyError {}

impl From<WireError> for ProxyError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Reads a header, and nothing behind it.
///
/// # Errors
/// There is none, or it is malformed: the connection is of no use then. Or the connection failed.
pub fn read_header(transport: &mut dyn Transport, deadline: Deadline) -> Result<Announced, ProxyError> {
    // No header of either version is shorter than a signature: "PROXY UNKNOWN" and its CRLF have 15 octets.
    let mut line = [0; V1_MAX_OCTETS];
    let mut length = 0;
    while length < SIGNATURE.len() {
        let rest = line.get_mut(length..SIGNATURE.len()).unwrap_or_default();
        length += match transport.read(rest, deadline) {
            Err(WireError::Closed | WireError::Io(_)) if length == 0 => return Err(ProxyError::Nobody),
            result => result?,
        };
        // Whoever talks SMTP at once is told so at once, and not when the deadline has passed.
        let start = line.get(..length).unwrap_or_default();
        if !SIGNATURE.starts_with(start) && !is_v1_so_far(start) {
            return Err(ProxyError::Malformed("is missing"));
        }
    }
    if line.starts_with(SIGNATURE) {
        return read_v2(transport, deadline);
    }
    loop {
        let Some(octet) = line.get_mut(length..=length) else {
            return Err(ProxyError::Malformed("has no CRLF within 107 octets"));
        };
        transport.read(octet, deadline)?;
        length += 1;
        if let Some(text) = line.get(..length).and_then(|line| line.strip_suffix(b"\r\n")) {
            return parse_v1(text);
        }
    }
}

/// Whether these can be the first octets of version 1; its line is never over so soon.
fn is_v1_so_far(start: &[u8]) -> bool {
    (start.starts_with(V1_START) || V1_START.starts_with(start)) && !start.contains(&b'\n')
}

fn read_v2(transport: &mut dyn Transport, deadline: Deadline) -> Result<Announced, ProxyError> {
    let mut fixed = [0; 4];
    read_all(transport, &mut fixed, deadline)?;
    let [version_and_command, family, length @ ..] = fixed;
    let mut block = [0; V2_MAX_OCTETS];
    let Some(block) = block.get_mut(..usize::from(u16::from_be_bytes(length))) else {
        return Err(ProxyError::Malformed("is longer than 2048 octets"));
    };
    read_all(transport, block, deadline)?;
    parse_v2(version_and_command, family, block)
}

fn read_all(transport: &mut dyn Transport, buffer: &mut [u8], deadline: Deadline) -> Result<(), WireError> {
    let mut rest = buffer;
    while !rest.is_empty() {
        let length = transport.read(rest, deadline)?;
        rest = rest.get_mut(length..).unwrap_or_default();
    }
    Ok(())
}

/// A line of version 1 without its CRLF (section 2.1).
fn parse_v1(line: &[u8]) -> Result<Announced, ProxyError> {
    let malformed = |what| Err(ProxyError::Malformed(what));
    let Ok(line) = std::str::from_utf8(line) else { return malformed("is not ASCII") };
    let mut words = line.split(' ').skip(1);
    let addresses = match words.next() {
        Some("TCP4") => (address::<Ipv4Addr>(words.next()), address::<Ipv4Addr>(words.next())),
        Some("TCP6") => (address::<Ipv6Addr>(words.next()), address::<Ipv6Addr>(words.next())),
        // What follows shall be ignored, whatever it is.
        Some("UNKNOWN") => return Ok(Announced::Unchanged),
        _ => return malformed("names no protocol of TCP4, TCP6 and UNKNOWN"),
    };
    let (Some(source), Some(_)) = addresses else { return malformed("has a bad address") };
    let (Some(port), Some(_)) = (port(words.next()), port(words.next())) else {
        return malformed("has a bad port");
    };
    if words.next().is_some() { malformed("has more than six words") } else { Ok(client(source, port)) }
}

fn address<A: FromStr + Into<IpAddr>>(word: Option<&str>) -> Option<IpAddr> {
    Some(word?.parse::<A>().ok()?.into())
}

/// Digits without a zero in front; the standard library would take "+25" and "025", too.
fn port(word: Option<&str>) -> Option<u16> {
    word.filter(|word| *word == "0" || !word.starts_with(['0', '+']))?.parse().ok()
}

/// The two octets behind the signature of version 2, and the block that their length announced (section 2.2).
fn parse_v2(version_and_command: u8, family: u8, block: &[u8]) -> Result<Announced, ProxyError> {
    match version_and_command {
        // LOCAL: the proxy itself, to see whether we live. The family shall be ignored.
        0x20 => return Ok(Announced::Unchanged),
        0x21 => {}
        _ => return Err(ProxyError::Malformed("has an unknown version or command")),
    }
    let too_short = ProxyError::Malformed("is too short for its addresses");
    // Each is: source address, destination address, source port, destination port.
    match family {
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _, ..] = *block else { return Err(too_short) };
            Ok(client(IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low])))
        }
        0x21 => {
            let (Some(source), Some([high, low, _, _])) = (block.first_chunk::<16>(), block.get(32..36))
            else {
                return Err(too_short);
            };
            Ok(client(IpAddr::from(*source), u16::from_be_bytes([*high, *low])))
        }
        // Unspecified, UDP, or a Unix socket: valid, and nothing that could be a client of ours.
        family if family >> 4 <= 3 && family & 0xf <= 2 => Ok(Announced::Unchanged),
        _ => Err(ProxyError::Malformed("has an unknown address family or protocol")),
    }
}

fn client(ip: IpAddr, port: u16) -> Announced {
    Announced::Client(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests;

//! The PROXY protocol, versions 1 and 2: a proxy announces the client whose octets follow.
//!
//! | version | header |
//! | --- | --- |
//! | 1 | `PROXY TCP4 SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT CRLF`, in ASCII |
//! | 2 | 12 octets of signature, version and command, family and protocol, length of the rest (2 octets), addresses, ports |
//!
//! Exactly the octets of the header are read: TLS or SMTP may follow in the same packet. Whether a peer may send a
//! header is the caller's decision: a client allowed to send one could choose its own address. In version 2 the
//! checksum, host names and other fields after the addresses are skipped.
//!
//! Specification: HAProxy's `proxy-protocol.txt`, sections 2.1 (version 1) and 2.2 (version 2). Failures: no header,
//! a header that violates the specification, the deadline, a connection that ends.

use super::transport::{Deadline, Transport, WireError};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The start of a version 2 header (section 2.2). No line of text starts this way.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The start of a version 1 header (section 2.1).
const V1_START: &[u8] = b"PROXY ";
/// The longest version 1 header, with its CRLF (section 2.1).
const V1_MAX_OCTETS: usize = 107;
/// The longest rest of a version 2 header. The specification allows 65535 octets; proxies that add TLS names and
/// identifiers stay far below this limit.
const V2_MAX_OCTETS: usize = 2048;

/// What a header says about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// The client's address and port; never an IPv4-mapped IPv6 address.
    Client(SocketAddr),
    /// No client, or no TCP client (LOCAL, UNKNOWN, a Unix socket): the peer of the connection counts as the client.
    Unchanged,
}

/// Why the header could not be read.
#[derive(Debug)]
pub enum ProxyError {
    /// The octets are not a valid header; the words continue "the PROXY header".
    Malformed(&'static str),
    /// The connection ended before its first octet, as a port check does.
    Nobody,
    /// The connection failed before the header was complete.
    Wire(WireError),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the PROXY header {what}"),
            Self::Nobody => f.write_str("closed without a PROXY header"),
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

/// Reads one header and no octet after it.
///
/// # Errors
/// The header is missing or malformed, or the connection failed. The connection cannot be used afterwards.
pub fn read_header(transport: &mut dyn Transport, deadline: Deadline) -> Result<Announced, ProxyError> {
    // No header is shorter than the signature: "PROXY UNKNOWN" and its CRLF have 15 octets.
    let mut line = [0; V1_MAX_OCTETS];
    let mut length = 0;
    while length < SIGNATURE.len() {
        let rest = line.get_mut(length..SIGNATURE.len()).unwrap_or_default();
        length += match transport.read(rest, deadline) {
            Err(WireError::Closed | WireError::Io(_)) if length == 0 => return Err(ProxyError::Nobody),
            result => result?,
        };
        // A client that speaks SMTP is rejected at once, not at the deadline.
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

/// Whether these can be the first octets of a version 1 header. It cannot be complete after so few.
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

/// Parses a line of version 1 without its CRLF (section 2.1).
fn parse_v1(line: &[u8]) -> Result<Announced, ProxyError> {
    let malformed = |what| Err(ProxyError::Malformed(what));
    let Ok(line) = std::str::from_utf8(line) else { return malformed("is not ASCII") };
    let mut words = line.split(' ').skip(1);
    let addresses = match words.next() {
        Some("TCP4") => (address::<Ipv4Addr>(words.next()), address::<Ipv4Addr>(words.next())),
        Some("TCP6") => (address::<Ipv6Addr>(words.next()), address::<Ipv6Addr>(words.next())),
        // The rest of the line is to be ignored.
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

/// Digits without a leading zero. The standard library would also accept "+25" and "025".
fn port(word: Option<&str>) -> Option<u16> {
    word.filter(|word| *word == "0" || !word.starts_with(['0', '+']))?.parse().ok()
}

/// Parses the octets after the signature of version 2: version and command, family and protocol, and the rest
/// (section 2.2).
fn parse_v2(version_and_command: u8, family: u8, block: &[u8]) -> Result<Announced, ProxyError> {
    match version_and_command {
        // LOCAL: a health check of the proxy itself. The family is to be ignored.
        0x20 => return Ok(Announced::Unchanged),
        0x21 => {}
        _ => return Err(ProxyError::Malformed("has an unknown version or command")),
    }
    let too_short = ProxyError::Malformed("is too short for its addresses");
    // The block holds source address, destination address, source port, destination port.
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
        // Unspecified, UDP or a Unix socket: valid, but no TCP client.
        family if family >> 4 <= 3 && family & 0xf <= 2 => Ok(Announced::Unchanged),
        _ => Err(ProxyError::Malformed("has an unknown address family or protocol")),
    }
}

fn client(ip: IpAddr, port: u16) -> Announced {
    Announced::Client(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests;

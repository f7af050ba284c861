//! Fetches the MTA-STS policy of a domain (RFC 8461 §3.3): one GET by HTTP/1.1 (RFC 9112) within verified TLS.
//!
//! A reply counts only with status 200, the type `text/plain`, and a body whose end is marked by a length or by
//! chunks: an attacker who cuts the connection could otherwise shorten a policy. Redirects are not followed (RFC 8461
//! §3.3). At most [`POLICY_MAX_OCTETS`] of body are read, and nothing after the deadline. Errors are in words; what
//! an error means for the domain's mail is decided by the caller.

use super::connect::Connect;
use super::tls_client::{Connector, Verify};
use super::transport::{Deadline, Transport, WireError};
use std::net::SocketAddr;

/// Port of HTTPS.
pub const PORT_HTTPS: u16 = 443;
/// The longest policy (the limit that RFC 8461 §3.3 suggests).
pub const POLICY_MAX_OCTETS: usize = 64 * 1024;
/// The longest head of a reply.
const HEAD_MAX_OCTETS: usize = 16 * 1024;
/// The longest reply: in chunked encoding a hostile server may add as much as it likes, so twice the body is the
/// limit.
const REPLY_MAX_OCTETS: usize = HEAD_MAX_OCTETS + 2 * POLICY_MAX_OCTETS;

/// Fetches the policy from the host `mta-sts.DOMAIN`, at the first of its addresses that can be connected.
///
/// # Errors
/// No policy could be fetched; the reason in words.
pub fn fetch(
    connect: &dyn Connect,
    connector: &Connector,
    host: &str,
    addresses: &[SocketAddr],
    deadline: Deadline,
) -> Result<String, String> {
    let connected = connect.connect(&mut addresses.to_vec(), &[], deadline.remaining());
    let (_, mut transport) = connected.map_err(|failures| match failures.last() {
        Some((address, error)) => format!("connect to [{address}]: {error}"),
        None => "the host has no address".to_owned(),
    })?;
    let shaken = connector.start_tls(&mut transport, host, Verify::Name, deadline);
    shaken.map_err(|error| format!("TLS: {error}"))?;
    let request = format!(
        "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pillarbox\r\nAccept: text/plain\r\n\
         Connection: close\r\n\r\n"
    );
    transport.write_all(request.as_bytes(), deadline).map_err(|error| error.to_string())?;
    let body = read_reply(transport.as_mut(), deadline)?;
    String::from_utf8(body).map_err(|_| "the policy is not text".into())
}

/// Reads a whole reply and returns its body.
///
/// # Errors
/// The reply is no policy, or was cut; the reason in words.
pub fn read_reply(transport: &mut dyn Transport, deadline: Deadline) -> Result<Vec<u8>, String> {
    let (mut reply, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        if let Some(body) = parse_reply(&reply)? {
            return Ok(body);
        }
        match transport.read(&mut buffer, deadline) {
            Ok(length) if reply.len() + length <= REPLY_MAX_OCTETS => {
                reply.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            Ok(_) => return Err("the reply is too long".into()),
            Err(WireError::Closed) => return Err("the reply was cut".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Parses a reply. `None`: it is incomplete.
fn parse_reply(reply: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(end) = find(reply, b"\r\n\r\n") else {
        let is_too_long = reply.len() > HEAD_MAX_OCTETS;
        return if is_too_long { Err("the head of the reply is too long".into()) } else { Ok(None) };
    };
    let (head, body) = reply.split_at_checked(end).unwrap_or_default();
    let body = body.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| "the head of the reply is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let is_ok = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)) == Some("200");
    if !is_ok {
        // A redirect does not count (RFC 8461 §3.3).
        return Err(format!("the reply is {status:?}"));
    }
    let (mut length, mut is_text, mut is_chunked) = (None, false, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("the reply has the line {line:?}"));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => {
                is_text = value
                    .split(';')
                    .next()
                    .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"));
            }
            "content-length" => {
                length = Some(parse_length(value, 10).ok_or("the reply has no sound length")?)
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => is_chunked = true,
            "transfer-encoding" | "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
                return Err(format!("the reply is encoded as {value:?}"));
            }
            _ => {}
        }
    }
    match length {
        _ if !is_text => Err("the reply is not of the type text/plain".into()),
        // Chunks win over a length (RFC 9112 §6.3).
        _ if is_chunked => parse_chunks(body),
        Some(length) => Ok(body.get(..length).map(<[u8]>::to_vec)),
        None => Err("the reply does not state its length".into()),
    }
}

/// Joins chunks (RFC 9112 §7.1). `None`: more octets are needed.
fn parse_chunks(mut body: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut joined = Vec::new();
    while let Some(end) = find(body, b"\r\n") {
        let (line, rest) = body.split_at_checked(end).unwrap_or_default();
        let size = std::str::from_utf8(line).ok().and_then(|line| line.split([';', ' ', '\t']).next());
        let size =
            size.and_then(|size| parse_length(size, 16)).ok_or("a chunk of the reply has no sound size")?;
        if size == 0 {
            // Trailers may follow; they are ignored.
            return Ok(Some(joined));
        }
        let Some(chunk) = rest.get(2..2 + size) else { break };
        joined.extend_from_slice(chunk);
        if joined.len() > POLICY_MAX_OCTETS {
            return Err("the policy is too long".into());
        }
        match rest.get(2 + size..).unwrap_or_default() {
            [b'\r', b'\n', next @ ..] => body = next,
            [] | [b'\r'] => break,
            _ => return Err("a chunk of the reply is longer than its size".into()),
        }
    }
    Ok(None)
}

fn parse_length(text: &str, radix: u32) -> Option<usize> {
    // `from_str_radix` would accept a sign.
    let is_number = text.chars().all(|c| c.is_digit(radix));
    let length = is_number.then(|| usize::from_str_radix(text, radix).ok()).flatten();
    length.filter(|&length| length <= POLICY_MAX_OCTETS)
}

fn find(octets: &[u8], needle: &[u8]) -> Option<usize> {
    octets.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests;

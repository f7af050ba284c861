//! A small HTTPS client: one request by HTTP/1.1 (RFC 9112) within verified TLS, and its reply.
//!
//! | limit | by |
//! | --- | --- |
//! | the head of the reply | [`HEAD_MAX_OCTETS`] |
//! | its body | [`HttpsRequest::body_max_octets`]; what chunks add, and all else, as much again |
//! | the time | the caller's deadline, for all from the connect on |
//!
//! A body counts only if its end is marked by a length or by chunks: an attacker who cuts the connection could otherwise
//! shorten it. Redirects are not followed: what is sent may be a secret, and is for the host that the caller named. No
//! cookie, no cache, no second request on a connection, no compression. The caller judges the status and the type.

use super::connect::Connect;
use super::tls_client::{Connector, Verify};
use super::transport::{Deadline, Transport, WireError};
use std::net::SocketAddr;

/// Port of HTTPS.
pub const PORT_HTTPS: u16 = 443;
/// The longest head of a reply.
pub const HEAD_MAX_OCTETS: usize = 16 * 1024;

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct HttpsRequest<'a> {
    /// The name of the host, which its certificate must have.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// The path, with the query if there is one; it begins with `/`.
    pub path: &'a str,
    /// The media type that is wanted.
    pub accept: &'a str,
    /// The type of the body, and the body. `None`: the request is a GET, otherwise a POST.
    pub body: Option<(&'a str, &'a [u8])>,
    /// The longest body of a reply that is read. 0: the head is all that is wanted, whatever follows it.
    pub body_max_octets: usize,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsReply {
    /// The status line, as the server wrote it: up to 200 characters.
    pub status_line: String,
    /// The status code.
    pub status: u16,
    /// The seconds of `Retry-After` (RFC 9110 §10.2.3). A date there is not read: the clock may be wrong.
    pub retry_after: Option<u64>,
    /// The media type in lower case, without parameters; empty if the server does not say.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends the request to the first of the host's addresses that can be connected, and reads the reply.
///
/// # Errors
/// There is no whole reply; the reason in words.
pub fn exchange(
    connect: &dyn Connect,
    connector: &Connector,
    addresses: &[SocketAddr],
    request: &HttpsRequest<'_>,
    deadline: Deadline,
) -> Result<HttpsReply, String> {
    let connected = connect.connect(&mut addresses.to_vec(), &[], deadline.remaining());
    let (_, mut transport) = connected.map_err(|failures| match failures.last() {
        Some((address, error)) => format!("connect to [{address}]: {error}"),
        None => "the host has no address".to_owned(),
    })?;
    let shaken = connector.start_tls(&mut transport, request.host, Verify::Name, deadline);
    shaken.map_err(|error| format!("TLS: {error}"))?;
    let head = head_of(request);
    let body = request.body.map_or(&[][..], |(_, body)| body);
    for part in [head.as_bytes(), body] {
        transport.write_all(part, deadline).map_err(|error| error.to_string())?;
    }
    read_reply(transport.as_mut(), request.body_max_octets, deadline)
}

/// The head of a request, with the empty line.
fn head_of(request: &HttpsRequest<'_>) -> String {
    let HttpsRequest { host, port, path, accept, body, .. } = request;
    let method = if body.is_some() { "POST" } else { "GET" };
    let port = if *port == PORT_HTTPS { String::new() } else { format!(":{port}") };
    let entity = body.map_or_else(String::new, |(kind, body)| {
        format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len())
    });
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: pillarbox\r\nAccept: {accept}\r\n{entity}\
         Connection: close\r\n\r\n"
    )
}

/// Reads a whole reply.
///
/// # Errors
/// It was cut, is too long, or is no HTTP; the reason in words.
pub fn read_reply(
    transport: &mut dyn Transport,
    body_max: usize,
    deadline: Deadline,
) -> Result<HttpsReply, String> {
    // In chunked encoding a hostile server may add as much as it likes, so twice the body is the limit.
    let reply_max = HEAD_MAX_OCTETS + 2 * body_max;
    // Never grows: a vector that moves leaves its old octets behind, and a reply may hold a secret.
    let mut reply = Wiped(Vec::with_capacity(reply_max));
    let mut buffer = Wiped(vec![0; 2048]);
    loop {
        if let Some(whole) = parse_reply(&reply.0, body_max)? {
            return Ok(whole);
        }
        match transport.read(&mut buffer.0, deadline) {
            Ok(length) if reply.0.len() + length <= reply_max => {
                reply.0.extend_from_slice(buffer.0.get(..length).unwrap_or_default());
            }
            Ok(_) => return Err("the reply is too long".into()),
            Err(WireError::Closed) => return Err("the reply was cut".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Octets that are overwritten when dropped.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without this reader the compiler would remove the zeroing.
        std::hint::black_box(&self.0);
    }
}

/// What the head of a reply says of it.
struct Head {
    status_line: String,
    status: u16,
    retry_after: Option<u64>,
    content_type: String,
    length: Option<usize>,
    is_chunked: bool,
}

/// Parses a reply. `None`: it is incomplete.
pub(super) fn parse_reply(reply: &[u8], body_max: usize) -> Result<Option<HttpsReply>, String> {
    let Some(end) = find(reply, b"\r\n\r\n") else {
        let is_too_long = reply.len() > HEAD_MAX_OCTETS;
        return if is_too_long { Err("the head of the reply is too long".into()) } else { Ok(None) };
    };
    let (head, body) = reply.split_at_checked(end).unwrap_or_default();
    let body = body.get(4..).unwrap_or_default();
    let head = parse_head(head, body_max)?;
    let body = match head.length {
        _ if body_max == 0 => Some(Vec::new()),
        // Chunks win over a length (RFC 9112 §6.3).
        _ if head.is_chunked => parse_chunks(body, body_max)?,
        _ if head.status == 204 => Some(Vec::new()),
        Some(length) => body.get(..length).map(<[u8]>::to_vec),
        None => return Err(format!("the reply does not state its length: {:?}", head.status_line)),
    };
    let Head { status_line, status, retry_after, content_type, .. } = head;
    Ok(body.map(|body| HttpsReply { status_line, status, retry_after, content_type, body }))
}

fn parse_head(head: &[u8], body_max: usize) -> Result<Head, String> {
    let head = std::str::from_utf8(head).map_err(|_| "the head of the reply is not text")?;
    let mut lines = head.split("\r\n");
    let status_line: String = lines.next().unwrap_or_default().chars().take(200).collect();
    let code = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let code = code.filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    let Some(status) = code else { return Err(format!("the reply is {status_line:?}")) };
    let (retry_after, content_type) = (None, String::new());
    // Of a body that is not read, length and form do not matter.
    let is_wanted = body_max > 0;
    let mut read = Head { status_line, status, retry_after, content_type, length: None, is_chunked: false };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("the reply has the line {line:?}"));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => {
                read.content_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            }
            "content-length" if is_wanted => {
                read.length = Some(parse_length(value, 10, body_max).ok_or("the reply has no sound length")?);
            }
            "retry-after" => read.retry_after = value.parse().ok(),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => read.is_chunked = true,
            "transfer-encoding" | "content-encoding"
                if is_wanted && !value.eq_ignore_ascii_case("identity") =>
            {
                return Err(format!("the reply is encoded as {value:?}"));
            }
            _ => {}
        }
    }
    Ok(read)
}

/// Joins chunks (RFC 9112 §7.1). `None`: more octets are needed.
fn parse_chunks(mut body: &[u8], body_max: usize) -> Result<Option<Vec<u8>>, String> {
    let mut joined = Vec::new();
    while let Some(end) = find(body, b"\r\n") {
        let (line, rest) = body.split_at_checked(end).unwrap_or_default();
        let size = std::str::from_utf8(line).ok().and_then(|line| line.split([';', ' ', '\t']).next());
        let size = size.and_then(|size| parse_length(size, 16, body_max));
        let size = size.ok_or("a chunk of the reply has no sound size")?;
        if size == 0 {
            // Trailers may follow; they are ignored.
            return Ok(Some(joined));
        }
        let Some(chunk) = rest.get(2..2 + size) else { break };
        joined.extend_from_slice(chunk);
        if joined.len() > body_max {
            return Err("the body of the reply is too long".into());
        }
        match rest.get(2 + size..).unwrap_or_default() {
            [b'\r', b'\n', next @ ..] => body = next,
            [] | [b'\r'] => break,
            _ => return Err("a chunk of the reply is longer than its size".into()),
        }
    }
    Ok(None)
}

fn parse_length(text: &str, radix: u32, max: usize) -> Option<usize> {
    // `from_str_radix` would accept a sign.
    let is_number = text.chars().all(|c| c.is_digit(radix));
    let length = is_number.then(|| usize::from_str_radix(text, radix).ok()).flatten();
    length.filter(|&length| length <= max)
}

fn find(octets: &[u8], needle: &[u8]) -> Option<usize> {
    octets.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests;

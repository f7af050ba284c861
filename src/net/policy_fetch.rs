//! Fetches the MTA-STS policy of a domain (RFC 8461 §3.3) by [`super::https`].
//!
//! A reply counts only with status 200 and the type `text/plain`; a redirect does not count. At most
//! [`POLICY_MAX_OCTETS`] of body are read, and nothing after the deadline. Errors are in words; what an error means for
//! the domain's mail is decided by the caller.

use super::connect::Connect;
use super::https::{HttpsReply, HttpsRequest, PORT_HTTPS, exchange};
use super::tls_client::Connector;
use super::transport::Deadline;
use std::net::SocketAddr;

/// The longest policy (the limit that RFC 8461 §3.3 suggests).
pub const POLICY_MAX_OCTETS: usize = 64 * 1024;

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
    let request = HttpsRequest {
        host,
        port: PORT_HTTPS,
        path: "/.well-known/mta-sts.txt",
        accept: "text/plain",
        body: None,
        body_max_octets: POLICY_MAX_OCTETS,
    };
    policy(exchange(connect, connector, addresses, &request, deadline)?)
}

/// The policy in a reply.
fn policy(reply: HttpsReply) -> Result<String, String> {
    if reply.status != 200 {
        return Err(format!("the reply is {:?}", reply.status_line));
    }
    if reply.content_type != "text/plain" {
        return Err("the reply is not of the type text/plain".into());
    }
    String::from_utf8(reply.body).map_err(|_| "the policy is not text".into())
}

#[cfg(test)]
mod tests;

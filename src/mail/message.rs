//! The content of a message as pillarbox holds it, and the trace fields in front of it (RFC 5321 §4.4).
//!
//! **Canonical form**: lines end with LF and there is no CR anywhere; NUL and 8-bit octets are kept. The server turns
//! CRLF into LF while it decodes the data, and refuses any other CR or LF; the client turns LF into CRLF. So a
//! Maildir has the line ends of its system, and a line end means the same everywhere between the two sockets.
//!
//! | field | added by | for |
//! | --- | --- | --- |
//! | `Received:` | intake, for every message | tracing, loop detection (RFC 5321 §4.4) |
//! | `Return-Path:` | final delivery | the reverse-path; an existing one is removed |
//! | `Delivered-To:` | final delivery | loop detection (RFC 9228) |

use super::address::{Mailbox, ReversePath};
use super::date::WallTime;
use super::id::QueueId;
use std::fmt::Write;

/// How a message reached this host, for its Received field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The argument of HELO or EHLO; already well-formed.
    pub helo: String,
    /// The client's address and its name, as a comment: `[192.0.2.1]`.
    pub client: String,
    /// The `with` clause, such as `ESMTP` or `ESMTPS` (RFC 3848).
    pub protocol: String,
    /// TLS version and cipher, if TLS was used.
    pub tls: Option<String>,
}

/// The Received field for a message, in canonical form. `for_mailbox` is given only if the message has a single
/// recipient, so that hidden recipients stay hidden (RFC 5321 §7.2).
#[must_use]
pub fn received(
    origin: &Origin,
    by: &str,
    id: QueueId,
    for_mailbox: Option<&Mailbox>,
    when: WallTime,
) -> String {
    let mut field = format!("Received: from {} ({})\n", origin.helo, origin.client);
    if let Some(tls) = &origin.tls {
        // Writing to a String cannot fail; the same applies below.
        let _ = writeln!(field, "\t(using {tls})");
    }
    let _ = write!(field, "\tby {by} (pillarbox) with {} id {id}", origin.protocol);
    if let Some(mailbox) = for_mailbox {
        let _ = write!(field, "\n\tfor <{mailbox}>");
    }
    let _ = writeln!(field, ";\n\t{}", when.to_rfc5322());
    field
}

/// Return-Path and Delivered-To, which final delivery adds (RFC 5321 §4.4, RFC 9228).
#[must_use]
pub fn delivery_fields(reverse_path: &ReversePath, mailbox: &Mailbox) -> String {
    format!("Return-Path: <{reverse_path}>\nDelivered-To: {mailbox}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_fields_look_as_rfc_5321_draws_them() {
        let origin = Origin {
            helo: "nas.lan".into(),
            client: "[192.0.2.7]".into(),
            protocol: "ESMTP".into(),
            tls: None,
        };
        let mailbox = Mailbox::parse("root@example.org").unwrap();
        let id = QueueId::new(1_795_416_810_000_000, 7);
        let when = WallTime(1_795_416_810_000_000);
        assert_eq!(
            received(&origin, "router.example", id, Some(&mailbox), when),
            format!(
                "Received: from nas.lan ([192.0.2.7])\n\tby router.example (pillarbox) with ESMTP id {id}\n\
                 \tfor <root@example.org>;\n\tMon, 23 Nov 2026 06:53:30 +0000\n"
            )
        );
        let tls = Origin {
            tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384".into()),
            protocol: "ESMTPS".into(),
            ..origin
        };
        assert!(
            received(&tls, "b", id, None, when)
                .contains("\n\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\n\tby b ")
        );
        assert_eq!(
            delivery_fields(&ReversePath::Null, &mailbox),
            "Return-Path: <>\nDelivered-To: root@example.org\n"
        );
    }
}

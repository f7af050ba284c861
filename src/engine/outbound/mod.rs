//! The way to another host: look-ups, TLS policy, the connection and the conversation.
//!
//! ```text
//!              hosts            tls_policy, sts_policies          host_policy, password, certificate_check
//! next hop ─▶ connect ─▶ MX, order ─▶ what the domain demands ─▶ addresses ─▶ conversation ─▶ smtp::client
//!                                                                                  ▲
//!                                                    queue entry ─▶ outgoing ──────┘ content after DATA or BDAT
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `context` | what a connection needs from outside, and the observer that `probe` passes in |
//! | `connect` | from a next hop to a session that is ready for mail |
//! | `hosts` | hosts of a next hop, their order and addresses |
//! | `tls_policy`, `sts_policies` | what a domain demands of TLS: DANE and MTA-STS |
//! | `host_policy` | TLS, certificate and login for one host |
//! | `certificate_check` | the TLS handshake |
//! | `certificate_look` | another look at a certificate that was refused, for `probe` |
//! | `conversation` | a session on its connection, with deadlines |
//! | `outgoing` | a message as it is sent: rewritten, encoded, signed |
//! | `password` | the password for the smarthost |
//! | `tokens` | the tokens of logins by OAuth 2.0: kept, refreshed |
//! | `web` | a question to a web server |
//!
//! A failure here is either a failure of the hop, which pauses, or of all its messages ([`hosts::Unreachable`]);
//! outcomes of single recipients come only from the replies of a session. Nothing here changes the queue.

mod certificate_check;
mod certificate_look;
pub mod connect;
pub mod context;
pub mod conversation;
mod host_policy;
pub mod hosts;
pub mod outgoing;
pub mod password;
pub mod sts_policies;
pub mod tls_policy;
pub mod tokens;
pub mod web;

#[cfg(test)]
mod tests;

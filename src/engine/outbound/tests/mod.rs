//! The way to other hosts: names, TLS policy, and the form of the message. See [`crate::engine::tests`] for the world
//! that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `names` | a table: what the DNS says, by the real resolver, and what becomes of queue and sender |
//! | `recoded` | what a next hop cannot take unchanged: long lines, and eight bits |
//! | `rewritten` | the senders of mail that leaves |
//! | `signed` | DKIM: which mail is signed, by which key |
//! | `provider` | a scripted provider of OAuth: an HTTPS server on loopback |
//! | `tokens` | tokens that are kept: refreshed, changed, refused, lost |
//! | `token_logins` | logins by token: refused ones are renewed without a pause |
//! | `tls_policy` | MTA-STS and DANE: what is fetched, kept and followed |

mod names;
mod provider;
mod recoded;
mod rewritten;
mod signed;
mod tls_policy;
mod token_logins;
mod tokens;

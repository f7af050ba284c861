//! What leaves: names, TLS policy, and the form of the message. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `names` | a table: what the DNS says, by the real resolver, and what becomes of queue and sender |
//! | `recoded` | what a next hop can't take as it is: long lines, and eight bits |
//! | `rewritten` | who mail says it is from once it leaves |
//! | `signed` | DKIM: whose mail is signed, by which key |
//! | `tls_policy` | MTA-STS and DANE: what is fetched, kept and followed |

mod names;
mod recoded;
mod rewritten;
mod signed;
mod tls_policy;

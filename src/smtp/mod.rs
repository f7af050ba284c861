//! SMTP, both ends: commands, replies, lines, mail data, and the two sessions as state machines.
//!
//! No module here has a socket, a clock or a disk: transcripts test all of it.
//!
//! ```text
//! wire ─▶ line ─▶ command ─▶ server ─▶ reply ─▶ wire        the server's session: server.rs has its state table
//!                            │  ▲
//!                            ▼  │ verdicts of the caller
//!                            data (dot codec, chunks)
//! wire ◀─ command ◀─ client ◀─ reply ◀─ wire                the client's session: client.rs has its card
//! ```
//!
//! | module | holds | RFC |
//! | --- | --- | --- |
//! | [`command`] | the grammar that the server parses and the client prints | 5321 §4.1 |
//! | [`reply`] | replies, printed and parsed | 5321 §4.2, 2034 |
//! | [`mod@line`] | CRLF lines of the command phase | 5321 §2.3.8 |
//! | [`data`] | the dot codec and chunks | 5321 §4.5.2, 3030 |
//! | [`extension`] | one row for each service extension | 5321 §2.2 |
//! | [`sasl`] | the exchange after AUTH, both ends | 4954 |
//! | [`limits`] | every size and time | 5321 §4.5.3 |
//! | [`server`], [`client`] | the two sessions | 5321 §3, §4.3.2 |

pub mod client;
pub mod command;
pub mod data;
pub mod extension;
pub mod limits;
pub mod line;
pub mod reply;
pub mod sasl;
pub mod server;

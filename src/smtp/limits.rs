//! Every size and time of the protocol, with its unit and its source. The operator's limits are in the configuration;
//! these are fixed by the RFCs or the contract.

use std::time::Duration;

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// Longest command line in octets, with its CRLF. RFC 5321 §4.5.3.1.4 requires 512 plus what extensions add.
pub const COMMAND_LINE_MAX_OCTETS: usize = 2048;
/// Longest AUTH command and longest line of its exchange in octets, with its CRLF (RFC 4954 §4).
pub const AUTH_LINE_MAX_OCTETS: usize = 12288;
/// Longest AUTH command that the client sends, in octets, with its CRLF (RFC 4954 §4, RFC 5321 §4.5.3.1.4): a longer
/// initial response is sent after a 334.
pub const AUTH_COMMAND_MAX_OCTETS: usize = 512;
/// Longest command of mail that the client sends, in octets, with its CRLF: more than the longest addresses need, and few
/// hosts read more than 1,024.
pub const COMMAND_SENT_MAX_OCTETS: usize = 1000;
/// Longest reply line in octets, with its line end. RFC 5321 §4.5.3.1.5 requires 512; real hosts send more.
pub const REPLY_LINE_MAX_OCTETS: usize = 2048;
/// Most lines of one reply; a peer that sends more is broken or hostile.
pub const REPLY_MAX_LINES: usize = 100;
/// Most characters of a peer's reply that are kept for log, queue and bounce, once for each recipient.
pub const REPLY_KEPT_MAX_CHARACTERS: usize = 1024;
/// Commands that move no mail (NOOP, RSET, VRFY, EHLO and others) before a session ends with 421.
pub const IDLE_COMMANDS_MAX: u32 = 100;
/// Recipients that every server must accept in a transaction (RFC 5321 §4.5.3.1.8); the client sends no more.
pub const RECIPIENTS_PER_TRANSACTION: usize = 100;

/// Time to open a TCP connection to another host.
pub const CONNECT: Duration = Duration::from_secs(30);
/// Time for a TLS handshake with another host: short, as for the connection, because others may wait for the worker.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(30);
/// Time for the greeting (RFC 5321 §4.5.3.2.1).
pub const GREETING: Duration = minutes(5);
/// Time for the reply to EHLO, HELO, MAIL (§4.5.3.2.2), RCPT (§4.5.3.2.3) and RSET.
pub const COMMAND_REPLY: Duration = minutes(5);
/// Time for the reply to QUIT: no message depends on it (§4.1.1.10), but it keeps a worker.
pub const QUIT_REPLY: Duration = Duration::from_secs(5);
/// Time for the 354 to DATA. RFC 5321 §4.5.3.2.4 requires at least two minutes.
pub const DATA_INITIATION: Duration = minutes(5);
/// Time for the peer to accept a block of mail data (§4.5.3.2.5).
pub const DATA_BLOCK: Duration = minutes(3);
/// Time for the reply to the final dot (§4.5.3.2.6): a shorter wait makes duplicates (RFC 1047).
pub const DATA_TERMINATION: Duration = minutes(10);
/// Longest life of a session with another host.
pub const CLIENT_SESSION: Duration = minutes(30);

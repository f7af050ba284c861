//! Every size and time of the protocol, with its unit and its source. What the operator can change is in the
//! configuration; these are the values that the RFCs or the contract fix.

use std::time::Duration;

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// Longest command line in octets, with its CRLF. RFC 5321 §4.5.3.1.4 wants 512 plus what extensions add.
pub const COMMAND_LINE_MAX_OCTETS: usize = 2048;
/// Longest AUTH command and longest line of its exchange in octets, with its CRLF (RFC 4954 §4).
pub const AUTH_LINE_MAX_OCTETS: usize = 12288;
/// Longest AUTH command that the client sends, in octets, with its CRLF (RFC 4954 §4, RFC 5321 §4.5.3.1.4): a longer
/// initial response waits for a 334.
pub const AUTH_COMMAND_MAX_OCTETS: usize = 512;
/// Longest reply line in octets, with its line end. RFC 5321 §4.5.3.1.5 wants 512; real hosts write more.
pub const REPLY_LINE_MAX_OCTETS: usize = 2048;
/// Most lines of one reply; a peer that writes more is broken or hostile.
pub const REPLY_MAX_LINES: usize = 100;
/// Most characters of a peer's reply that are kept for log, queue and bounce: one copy per recipient.
pub const REPLY_KEPT_MAX_CHARACTERS: usize = 1024;
/// Commands that move no mail (NOOP, RSET, VRFY, EHLO and the like) before a session is ended with 421.
pub const IDLE_COMMANDS_MAX: u32 = 100;
/// Recipients that any server has to take in a transaction (RFC 5321 §4.5.3.1.8): what the client sends at most.
pub const RECIPIENTS_PER_TRANSACTION: usize = 100;

/// Time for a TCP connection to come up, on the client's side.
pub const CONNECT: Duration = Duration::from_secs(30);
/// Time for a TLS handshake, on the client's side: as for the connection, since others may wait for its place.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(30);
/// Time for the greeting (RFC 5321 §4.5.3.2.1).
pub const GREETING: Duration = minutes(5);
/// Time for the reply to EHLO, HELO, MAIL (§4.5.3.2.2), RCPT (§4.5.3.2.3) and RSET.
pub const COMMAND_REPLY: Duration = minutes(5);
/// Time for the reply to QUIT: nothing hangs on it any more (§4.1.1.10), a worker does.
pub const QUIT_REPLY: Duration = Duration::from_secs(5);
/// Time for the 354 to DATA. RFC 5321 §4.5.3.2.4 says two minutes at least.
pub const DATA_INITIATION: Duration = minutes(5);
/// Time for a block of mail data to be taken (§4.5.3.2.5).
pub const DATA_BLOCK: Duration = minutes(3);
/// Time for the reply to the final dot (§4.5.3.2.6): cut it short, and a duplicate is born (RFC 1047).
pub const DATA_TERMINATION: Duration = minutes(10);
/// Longest life of an outgoing session.
pub const CLIENT_SESSION: Duration = minutes(30);

//! The protocol of the control socket, both ends: what a program of this host may ask the daemon, and how question and
//! answer are written.
//!
//! ```text
//!  program/remote  ─┐   question: one line                                ┌─▶ engine/control/requests
//!  (queue, status,  ├──────────────────────────────▶ engine/control/socket┤
//!   link, probe)    │   answer: pieces, the last one is the exit code     └─▶ engine/control/submit
//!  program/sendmail ┘◀──────────────────────────────
//! ```
//!
//! A connection carries one question and one answer:
//!
//! 1. The client sends a line: the words of the command as the user typed them, with single spaces between them
//!    (`queue hold all`). No word may hold a space or a control character, so no word can end the line and begin a second
//!    question ([`request`]).
//! 2. For `submit ENVELOPE MESSAGE` the client sends the envelope behind the line, and waits ([`question`]).
//! 3. The daemon answers in pieces ([`piece`]). Each begins with a line of a digit and a number:
//!
//!    | line | means | octets behind the line |
//!    | --- | --- | --- |
//!    | `1 27` | text for standard output | 27 |
//!    | `2 40` | text for standard error | 40 |
//!    | `3 0` | after `submit` only: send the message now | 0 |
//!    | `0 66` | the end, with the exit code (sysexits.h) | 0 |
//!
//!    To any other question than `submit`, the daemon sends `1 0` as soon as it has read it, so that a client need not wait long
//!    for one that is stopped.
//!
//! 4. After `3 0` the client sends the message, exactly as many octets as the question announced. Before that line the
//!    client has handed over nothing and may go elsewhere without the risk of a duplicate. The end with 0 promises that
//!    the message is on stable storage.
//!
//! The kernel, never the client, says who the peer is; [`rights`] decides what that user may ask.
//!
//! Nothing here opens a socket, waits or logs: the framing works on any reader or writer. Both ends are of one version as
//! a rule, but an upgrade may leave an old client with a new daemon, so the format only grows. A question may be
//! malformed ([`request::BadRequest`]); an answer may end early or make no sense (an I/O error).

pub mod piece;
pub mod question;
pub mod request;
pub mod rights;

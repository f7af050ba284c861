//! PIPELINING (RFC 2920): commands may be sent without waiting for replies. The server answers them in order and
//! holds its replies until it has read what has arrived; the client groups MAIL, RCPT and DATA.

use super::Extension;

/// The row of PIPELINING.
pub const ROW: Extension = Extension::new("PIPELINING", "RFC 2920");

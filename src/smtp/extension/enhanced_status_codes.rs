//! ENHANCEDSTATUSCODES (RFC 2034): replies carry the codes of RFC 3463. The client also reads them from peers that do
//! not offer the extension.

use super::Extension;

/// The row of ENHANCEDSTATUSCODES.
pub const ROW: Extension = Extension::new("ENHANCEDSTATUSCODES", "RFC 2034");

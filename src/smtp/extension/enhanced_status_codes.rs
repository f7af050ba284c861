//! ENHANCEDSTATUSCODES (RFC 2034): replies carry the codes of RFC 3463. The client reads them also where the peer did not
//! offer them.

use super::Extension;

/// The row of ENHANCEDSTATUSCODES.
pub const ROW: Extension = Extension::new("ENHANCEDSTATUSCODES", "RFC 2034");

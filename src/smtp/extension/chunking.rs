//! CHUNKING (RFC 3030): BDAT sends the message in pieces of a known size, without dots. BINARYMIME is not offered, so
//! lines end as with DATA.

use super::Extension;

/// The row of CHUNKING.
pub const ROW: Extension = Extension::new("CHUNKING", "RFC 3030");

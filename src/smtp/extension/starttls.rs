//! STARTTLS (RFC 3207): the session goes on within TLS, and begins anew there. Not offered where it can't be had, nor a
//! second time (§4.2).

use super::{Extension, Offered};

/// The row of STARTTLS.
pub const ROW: Extension = Extension {
    offered: |offer| if offer.starttls { Offered::Bare } else { Offered::No },
    ..Extension::new("STARTTLS", "RFC 3207")
};

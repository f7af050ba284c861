//! STARTTLS (RFC 3207): the session continues within TLS and starts over there. Not offered where TLS is not
//! available, nor a second time (§4.2).

use super::{Extension, Offered};

/// The row of STARTTLS.
pub const ROW: Extension = Extension {
    offered: |offer| if offer.starttls { Offered::Bare } else { Offered::No },
    ..Extension::new("STARTTLS", "RFC 3207")
};

//! LIMITS (RFC 9422): announces how many recipients fit into a transaction, so that the client need not find out.

use super::{Extension, Offered};

/// The row of LIMITS.
pub const ROW: Extension = Extension {
    offered: |offer| Offered::With(format!("RCPTMAX={}", offer.recipients)),
    ..Extension::new("LIMITS", "RFC 9422")
};

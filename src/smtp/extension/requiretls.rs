//! REQUIRETLS (RFC 8689): the message is only passed on within verified TLS, or it is returned to its sender. Offered
//! only within TLS: a message that came in clear may have been read already (§4.1).

use super::{Extension, MailParameters, Offer, Offered, bad_value};
use crate::mail::status::EnhancedStatus;
use crate::smtp::reply::Reply;

/// The row of REQUIRETLS.
pub const ROW: Extension = Extension {
    offered: |offer| if offer.within_tls { Offered::Bare } else { Offered::No },
    mail_parameters: &[("REQUIRETLS", read)],
    ..Extension::new("REQUIRETLS", "RFC 8689")
};

fn read(value: Option<&str>, offer: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    if !offer.within_tls {
        let text = "REQUIRETLS is for sessions within TLS; say STARTTLS first";
        return Err(Reply::new(530, EnhancedStatus::ENCRYPTION_NEEDED, text));
    }
    into.require_tls = true;
    value.map_or(Ok(()), |_| Err(bad_value("REQUIRETLS takes no value")))
}

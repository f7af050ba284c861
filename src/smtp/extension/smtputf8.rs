//! SMTPUTF8 (RFC 6531): addresses and header fields may hold UTF-8. Without the parameter, such an address gets 553
//! 5.6.7 (§3.5).

use super::{Extension, MailParameters, Offer, bad_value};
use crate::mail::status::EnhancedStatus;
use crate::smtp::reply::Reply;

/// The row of SMTPUTF8.
pub const ROW: Extension =
    Extension { mail_parameters: &[("SMTPUTF8", read)], ..Extension::new("SMTPUTF8", "RFC 6531") };

fn read(value: Option<&str>, _: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    into.smtputf8 = true;
    value.map_or(Ok(()), |_| Err(bad_value("SMTPUTF8 takes no value")))
}

/// The reply to an address with UTF-8 from a client that did not declare SMTPUTF8.
#[must_use]
pub fn not_asked_for() -> Reply {
    Reply::new(553, EnhancedStatus::UTF8_NOT_PERMITTED, "an address with UTF-8 needs the parameter SMTPUTF8")
}

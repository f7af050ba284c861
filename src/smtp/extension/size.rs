//! SIZE (RFC 1870): the client declares the size of the message, so that one that is too large is never sent.

use super::{Extension, MailParameters, Offer, Offered, bad_value};
use crate::mail::status::EnhancedStatus;
use crate::smtp::reply::Reply;

/// Most digits of a size value (RFC 1870 §3).
const DIGITS_MAX: usize = 20;

/// The row of SIZE.
pub const ROW: Extension = Extension {
    offered: |offer| Offered::With(offer.message_size_octets.to_string()),
    mail_parameters: &[("SIZE", read)],
    ..Extension::new("SIZE", "RFC 1870")
};

fn read(value: Option<&str>, offer: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    let digits = value
        .filter(|v| (1..=DIGITS_MAX).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(|| bad_value("write SIZE=octets"))?;
    // Twenty digits may exceed 64 bits; the value is larger than any limit in any case.
    let size_octets = digits.parse().unwrap_or(u64::MAX);
    if size_octets > offer.message_size_octets {
        return Err(too_big(offer.message_size_octets));
    }
    into.size_octets = Some(size_octets);
    Ok(())
}

/// The reply to a message that is too large, at MAIL or after its data.
#[must_use]
pub fn too_big(limit_octets: u64) -> Reply {
    let text = format!("the message exceeds the limit of {limit_octets} octets");
    Reply::new(552, EnhancedStatus::MESSAGE_TOO_BIG, text)
}

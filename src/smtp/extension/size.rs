//! SIZE (RFC 1870): the client declares how large the message is, so that one that is too large is never sent.

use super::{Extension, MailParameters, Offer, Offered};
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
        .ok_or_else(|| Reply::new(501, EnhancedStatus::INVALID_ARGUMENTS, "write SIZE=octets"))?;
    // Twenty digits can be more than 64 bits hold: larger than any limit all the same.
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
    let text = format!("the message is larger than the {limit_octets} octets taken here");
    Reply::new(552, EnhancedStatus::MESSAGE_TOO_BIG, text)
}

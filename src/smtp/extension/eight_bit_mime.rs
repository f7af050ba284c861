//! 8BITMIME (RFC 6152): the content may hold octets above 127. They are stored unchanged, whether declared or not.

use super::{Extension, MailParameters, Offer, bad_value};
use crate::mail::envelope::Body;
use crate::smtp::reply::Reply;

/// The row of 8BITMIME.
pub const ROW: Extension =
    Extension { mail_parameters: &[("BODY", read)], ..Extension::new("8BITMIME", "RFC 6152") };

fn read(value: Option<&str>, _: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    into.body = match value.map(str::to_ascii_uppercase).as_deref() {
        Some("7BIT") => Body::SevenBit,
        Some("8BITMIME") => Body::EightBitMime,
        _ => return Err(bad_value("write BODY=7BIT or BODY=8BITMIME")),
    };
    Ok(())
}

//! AUTH (RFC 4954): the client logs in. Offered to clients that submit mail, and only where nobody can eavesdrop; if
//! a listener is for devices that must log in, also in clear.
//!
//! The parameter of MAIL names the original submitter of the message. It is parsed, as the RFC requires, and not
//! passed on: a next hop would believe it only from a host that it trusts (§5).

use super::{Extension, MailParameters, Offer, Offered, bad_value};
use crate::mail::xtext::is_xtext;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::ServerMechanism;

/// The row of AUTH.
pub const ROW: Extension = Extension {
    offered: |offer| if offer.auth { Offered::With(mechanisms()) } else { Offered::No },
    mail_parameters: &[("AUTH", read)],
    ..Extension::new("AUTH", "RFC 4954")
};

/// If a word of an EHLO reply begins an offer of AUTH: the mechanism that the word names, if any. Servers older than
/// the RFC write `AUTH=LOGIN PLAIN`.
#[must_use]
pub fn first_mechanism(word: &str) -> Option<Option<&str>> {
    let (keyword, first) = word.split_once('=').map_or((word, None), |(word, first)| (word, Some(first)));
    keyword.eq_ignore_ascii_case(ROW.keyword).then_some(first.filter(|first| !first.is_empty()))
}

fn mechanisms() -> String {
    ServerMechanism::ALL.map(ServerMechanism::keyword).join(" ")
}

fn read(value: Option<&str>, _: &Offer, _: &mut MailParameters) -> Result<(), Reply> {
    match value {
        Some(value) if value == "<>" || is_xtext(value) => Ok(()),
        _ => Err(bad_value("write AUTH=<> or AUTH=mailbox as xtext")),
    }
}

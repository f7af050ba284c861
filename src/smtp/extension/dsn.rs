//! DSN (RFC 3461): the client says which notices the sender wants for each recipient. The parameters are kept in the
//! queue, decide about bounces (`rules::bounce`), and are passed on to a next hop that offers DSN too.

use super::{Extension, MailParameters, Offer, RcptParameters, bad_value};
use crate::mail::envelope::{Notify, Ret};
use crate::smtp::reply::Reply;

/// Longest ENVID in octets (RFC 3461 §5.4).
const ENVID_MAX_OCTETS: usize = 100;
/// Longest ORCPT in octets (RFC 3461 §5.4).
const ORCPT_MAX_OCTETS: usize = 500;

/// The row of DSN.
pub const ROW: Extension = Extension {
    mail_parameters: &[("RET", read_ret), ("ENVID", read_envid)],
    rcpt_parameters: &[("NOTIFY", read_notify), ("ORCPT", read_orcpt)],
    ..Extension::new("DSN", "RFC 3461")
};

fn read_ret(value: Option<&str>, _: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    into.ret = match value.map(str::to_ascii_uppercase).as_deref() {
        Some("FULL") => Some(Ret::Full),
        Some("HDRS") => Some(Ret::Headers),
        _ => return Err(bad_value("write RET=FULL or RET=HDRS")),
    };
    Ok(())
}

fn read_envid(value: Option<&str>, _: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    let envid = value.filter(|v| v.len() <= ENVID_MAX_OCTETS && is_xtext(v));
    into.envid = Some(envid.ok_or_else(|| bad_value("ENVID is xtext of up to 100 characters"))?.to_owned());
    Ok(())
}

fn read_notify(value: Option<&str>, _: &Offer, into: &mut RcptParameters) -> Result<(), Reply> {
    let bad = || bad_value("write NOTIFY=NEVER, or a list of SUCCESS, FAILURE and DELAY");
    let value = value.ok_or_else(bad)?.to_ascii_uppercase();
    let mut notify = Notify::default();
    if value != "NEVER" {
        for word in value.split(',') {
            match word {
                "SUCCESS" => notify.success = true,
                "FAILURE" => notify.failure = true,
                "DELAY" => notify.delay = true,
                _ => return Err(bad()),
            }
        }
    }
    into.notify = Some(notify);
    Ok(())
}

fn read_orcpt(value: Option<&str>, _: &Offer, into: &mut RcptParameters) -> Result<(), Reply> {
    let is_orcpt = |value: &&str| {
        let parts = value.split_once(';').filter(|_| value.len() <= ORCPT_MAX_OCTETS);
        parts.is_some_and(|(kind, address)| is_atom(kind) && !address.is_empty() && is_address(kind, address))
    };
    let orcpt = value.filter(is_orcpt).ok_or_else(|| bad_value("write ORCPT=rfc822;address, as xtext"))?;
    into.orcpt = Some(orcpt.to_owned());
    Ok(())
}

/// NOTIFY as the client sends it.
#[must_use]
pub fn print_notify(notify: Notify) -> String {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let chosen: Vec<&str> = words.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect();
    if chosen.is_empty() { "NEVER".to_owned() } else { chosen.join(",") }
}

/// RET as the client sends it.
#[must_use]
pub const fn print_ret(ret: Ret) -> &'static str {
    match ret {
        Ret::Full => "FULL",
        Ret::Headers => "HDRS",
    }
}

fn is_atom(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether an address fits its type: one of type `utf-8` may hold UTF-8 unchanged (RFC 6533 §3); all others are
/// xtext.
fn is_address(kind: &str, address: &str) -> bool {
    if kind.eq_ignore_ascii_case("utf-8") {
        address.chars().all(|c| !c.is_control() && !c.is_whitespace())
    } else {
        is_xtext(address)
    }
}

/// xtext (RFC 3461 §4): printable ASCII without `+` and `=`, and `+` with two upper-case hexadecimal digits.
pub(super) fn is_xtext(text: &str) -> bool {
    let mut octets = text.bytes();
    let is_digit = |b: Option<u8>| b.is_some_and(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    while let Some(octet) = octets.next() {
        let fits = match octet {
            b'+' => is_digit(octets.next()) && is_digit(octets.next()),
            b'=' => false,
            octet => octet.is_ascii_graphic(),
        };
        if !fits {
            return false;
        }
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer =
        Offer { message_size_octets: 1000, recipients: 3, starttls: false, auth: false, within_tls: false };

    #[test]
    fn what_is_read_is_what_is_passed_on() {
        for (value, printed) in [
            ("NEVER", Some("NEVER")),
            ("never", Some("NEVER")),
            ("success,FAILURE", Some("SUCCESS,FAILURE")),
            ("DELAY", Some("DELAY")),
            ("NEVER,SUCCESS", None),
            ("SUCCESS,", None),
            ("", None),
            ("ALWAYS", None),
        ] {
            let mut parameters = RcptParameters::default();
            let read = read_notify(Some(value), &OFFER, &mut parameters);
            assert_eq!(read.is_ok(), printed.is_some(), "{value}");
            assert_eq!(parameters.notify.map(print_notify).as_deref(), printed, "{value}");
        }
        assert!(read_notify(None, &OFFER, &mut RcptParameters::default()).is_err());
    }

    #[test]
    fn xtext_and_the_lengths_of_rfc_3461() {
        for (value, good) in [
            ("QQ314159", true),
            ("a+2Bb", true),
            ("a+2b", false),
            ("a+2", false),
            ("a=b", false),
            ("a b", false),
        ] {
            assert_eq!(
                read_envid(Some(value), &OFFER, &mut MailParameters::default()).is_ok(),
                good,
                "{value}"
            );
        }
        let envid = |n| read_envid(Some(&"x".repeat(n)), &OFFER, &mut MailParameters::default()).is_ok();
        assert!(envid(100) && !envid(101));
        for (value, good) in [
            ("rfc822;a@b.example", true),
            ("rfc822;a+2Bb@c", true),
            ("utf-8;jürgen@b", true),
            ("rfc822;jürgen@b", false),
            ("rfc822;", false),
            (";a@b", false),
            ("a@b", false),
            ("rfc 822;a@b", false),
        ] {
            assert_eq!(
                read_orcpt(Some(value), &OFFER, &mut RcptParameters::default()).is_ok(),
                good,
                "{value}"
            );
        }
        let orcpt = |n| {
            read_orcpt(Some(&format!("rfc822;{}", "x".repeat(n))), &OFFER, &mut RcptParameters::default())
        };
        assert!(orcpt(493).is_ok() && orcpt(494).is_err());
    }
}

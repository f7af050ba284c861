//! DSN (RFC 3461): the client says which notices the sender wants for each recipient. The parameters are kept in the
//! queue, decide about bounces (`rules::bounce`), and are passed on to a next hop that offers DSN too.
//!
//! It is offered to this host's own clients alone: strangers could have notices of success sent to whom they like. Who
//! asks all the same gets the reply that Postfix gives where DSN is switched off.

use super::{Extension, MailParameters, Offer, Offered, RcptParameters, bad_value};
use crate::mail::envelope::{Notify, Ret};
use crate::mail::status::EnhancedStatus;
use crate::mail::xtext::{is_envid, is_orcpt};
use crate::smtp::reply::Reply;

/// The row of DSN.
pub const ROW: Extension = Extension {
    mail_parameters: &[("RET", read_ret), ("ENVID", read_envid)],
    rcpt_parameters: &[("NOTIFY", read_notify), ("ORCPT", read_orcpt)],
    offered: |offer| if offer.dsn { Offered::Bare } else { Offered::No },
    ..Extension::new("DSN", "RFC 3461")
};

fn check(offer: &Offer) -> Result<(), Reply> {
    let refused = || Reply::new(501, EnhancedStatus::NOT_AUTHORIZED, "DSN is not offered to you");
    offer.dsn.then_some(()).ok_or_else(refused)
}

fn read_ret(value: Option<&str>, offer: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    check(offer)?;
    into.ret = match value.map(str::to_ascii_uppercase).as_deref() {
        Some("FULL") => Some(Ret::Full),
        Some("HDRS") => Some(Ret::Headers),
        _ => return Err(bad_value("write RET=FULL or RET=HDRS")),
    };
    Ok(())
}

fn read_envid(value: Option<&str>, offer: &Offer, into: &mut MailParameters) -> Result<(), Reply> {
    check(offer)?;
    let envid = value.filter(|value| is_envid(value));
    into.envid = Some(envid.ok_or_else(|| bad_value("ENVID is xtext of up to 100 characters"))?.to_owned());
    Ok(())
}

fn read_notify(value: Option<&str>, offer: &Offer, into: &mut RcptParameters) -> Result<(), Reply> {
    check(offer)?;
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

fn read_orcpt(value: Option<&str>, offer: &Offer, into: &mut RcptParameters) -> Result<(), Reply> {
    check(offer)?;
    let orcpt = value
        .filter(|value| is_orcpt(value))
        .ok_or_else(|| bad_value("write ORCPT=rfc822;address, as xtext"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer {
        message_size_octets: 1000,
        recipients: 3,
        starttls: false,
        auth: false,
        within_tls: false,
        dsn: true,
    };

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
            ("utf-8;jürgen=x@b", false),
            ("utf-8;jürgen x@b", false),
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

//! The test message of `pillarbox probe --send`: a real message from root of this host, which intake takes like any other.
//!
//! A probe without `--send` has the same sender and takes the same route, but sends no message.
//!
//! | part | content | reason |
//! | --- | --- | --- |
//! | sender | `root@HOSTNAME`, rewritten like all mail of this host | bounces reach the operator, and a login that may not send as root shows |
//! | To | the address, with the domain of this host if it has none | as for mail of cron |
//! | Auto-Submitted | `auto-generated` (RFC 3834) | no responder answers it |
//! | route | aliases and relay rules, as for every message | the test covers them |
//!
//! Intake takes it as this host's own mail, so it is repaired and signed like other mail of local programs. The command
//! that asked for it follows the message to its outcome; this module only submits it.

use crate::engine::host::site::Site;
use crate::engine::intake::incoming::Intake;
use crate::engine::intake::submission::Submission;
use crate::mail::address::ReversePath;
use crate::mail::id::QueueId;
use crate::mail::unqualified::Unqualified;

/// Hands a test message to intake, as a program of this host would; returns its queue id.
///
/// # Errors
/// The address is malformed, has no route, or intake refuses the message; in words.
pub fn submit(intake: &Intake, site: &Site, address: &str) -> Result<QueueId, String> {
    let address = Unqualified::parse(address).map_err(|error| error.to_string())?;
    let path = address.forward_path(site.routes.home());
    let routed = site.route(&path).map_err(|no_route| no_route.reply().to_string())?;
    let submission = Submission::from_local_user(own_sender(site), vec![routed.into()], "probe".to_owned());
    let mut incoming = intake.begin(site, submission).map_err(|refusal| refusal.to_string())?;
    let host = &site.hostname;
    let text = format!(
        "To: {path}\nSubject: Test message from {host}\nAuto-Submitted: auto-generated\n\n\
         pillarbox on {host} was asked to send this (pillarbox probe --send).\nMail from there arrives.\n"
    );
    incoming.write(text.as_bytes());
    incoming.commit().map_err(|refusal| refusal.to_string())
}

/// The sender of a probe: root of this host, like cron's mail.
pub(super) fn own_sender(site: &Site) -> ReversePath {
    ReversePath::parse(&format!("root@{}", site.hostname)).unwrap_or(ReversePath::Null)
}

//! The test message of `pillarbox probe --send`: a real message from root of this host, taken by intake like any other.
//!
//! A probe without `--send` goes the same way with the same sender, and sends nothing.

use crate::engine::host::site::Site;
use crate::engine::intake::incoming::Intake;
use crate::engine::intake::submission::Submission;
use crate::mail::address::ReversePath;
use crate::mail::id::QueueId;
use crate::mail::unqualified::Unqualified;

/// Hands a test message to intake, as a program of this host would.
///
/// # Errors
/// Why it is not taken, in words.
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

/// The sender of a probe: root of this host, as for mail of cron.
pub(super) fn own_sender(site: &Site) -> ReversePath {
    ReversePath::parse(&format!("root@{}", site.hostname)).unwrap_or(ReversePath::Null)
}

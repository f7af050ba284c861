//! The copies of a message: one for each mailbox of this host, and one in the queue for all other recipients that may
//! see the same message. Aliases are expanded here (`rules::expansion`), and nobody gets two copies.
//!
//! | recipient | copy | reverse-path | Delivered-To added |
//! | --- | --- | --- | --- |
//! | a user of this host | its Maildir or mbox | as submitted | by the delivery |
//! | of another host | the common queue entry | as submitted | no |
//! | of another host, by an alias | the queue entry of that alias | as submitted | the alias |
//! | of another host, by a list | the queue entry of that list | the owner of the list (RFC 5321 §3.9.2) | the list |
//!
//! The Delivered-To field, which Postfix writes too, finds two hosts whose aliases point at each other in the first
//! round (RFC 9228) instead of after a hundred hops. Each alias has its own queue entry, since recipients must not
//! learn of each other's aliases.

use super::refusal::Refusal;
use super::submission::{Accepted, Submission};
use crate::engine::host::site::Site;
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::id::QueueId;
use crate::rules::message::bounce::RecipientVerdict;
use crate::rules::routing::expansion::AliasMember;
use crate::rules::routing::route::{Destination, Routed};
use crate::smtp::extension::RcptParameters;
use crate::store::maildir::MaildirPath;

/// The alias and the list owner that led to a copy. All recipients of a queue entry share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Via {
    /// The alias that leads to another host.
    pub alias: Option<Mailbox>,
    /// The owner of the list.
    pub owner: Option<Mailbox>,
}

/// A copy for a Maildir.
#[derive(Debug)]
pub struct LocalCopy {
    /// Its recipient.
    pub recipient: Recipient,
    /// The mailbox.
    pub path: MaildirPath,
    /// The list that led to it.
    pub via: Via,
}

/// A copy for the queue.
#[derive(Debug)]
pub struct QueueCopy {
    /// Its name in the queue.
    pub id: QueueId,
    /// The alias or list that led to it.
    pub via: Via,
    /// Its recipients.
    pub recipients: Vec<Recipient>,
}

/// News for the sender about a recipient that never was in the queue.
#[derive(Debug, Clone)]
pub struct NoticeItem {
    /// The recipient, with the notices that its sender wants.
    pub recipient: Recipient,
    /// The news.
    pub verdict: RecipientVerdict,
    /// The text of the diagnostic.
    pub text: &'static str,
}

/// All copies of a message.
#[derive(Debug, Default)]
pub struct Copies {
    /// For mailboxes; each path occurs once.
    pub local: Vec<LocalCopy>,
    /// For the queue; each `via` occurs once.
    pub queued: Vec<QueueCopy>,
    /// Aliases about which the sender wants a notice of success.
    pub notices: Vec<NoticeItem>,
}

impl Copies {
    /// The copies that a submission needs; `next_id` names those in the queue.
    ///
    /// # Errors
    /// The Maildir of a recipient has no valid path, or an alias can no longer be expanded.
    pub fn of(
        submission: &Submission,
        site: &Site,
        next_id: &mut dyn FnMut() -> QueueId,
    ) -> Result<Self, Refusal> {
        let mut copies = Self::default();
        for Accepted { routed, parameters } in &submission.recipients {
            if routed.destination != Destination::Alias {
                let recipient = recipient(&routed.mailbox, parameters);
                copies.add(site, Some(routed), recipient, Via::default(), next_id)?;
                continue;
            }
            let members = site.expand(&routed.mailbox).map_err(Refusal::NoRoute)?;
            let wishes = copies.note_alias(recipient(&routed.mailbox, parameters), &members);
            for member in members {
                let wishes = if member.owner.is_some() { &RcptParameters::default() } else { &wishes };
                let recipient = recipient(&member.mailbox, wishes);
                let via = Via { alias: Some(routed.mailbox.clone()), owner: member.owner };
                // A member without a route goes to the queue, which bounces it.
                copies.add(site, member.route.as_ref().ok(), recipient, via, next_id)?;
            }
        }
        Ok(copies)
    }

    /// Notes the notice about an alias that is due at intake, and returns the NOTIFY and ORCPT that its members inherit
    /// (RFC 3461 §5.2.7):
    ///
    /// | alias | notice here | members inherit |
    /// | --- | --- | --- |
    /// | with one member | no notice | everything (§5.2.7.2) |
    /// | with several members | "expanded" | everything except SUCCESS (§5.2.7.3 c) |
    /// | list with an owner | "delivered": the message has reached the list (§5.2.7.1) | nothing |
    fn note_alias(&mut self, alias: Recipient, members: &[AliasMember]) -> RcptParameters {
        let verdict = match members {
            members if members.iter().all(|member| member.owner.is_some()) => {
                Some(RecipientVerdict::Delivered)
            }
            members => (members.len() > 1).then_some(RecipientVerdict::Expanded),
        };
        let (orcpt, mut notify) = (alias.orcpt.clone(), alias.notify);
        if let Some(verdict) = verdict.filter(|verdict| verdict.is_wanted(&alias)) {
            notify = notify.map(|notify| Notify { success: false, ..notify });
            self.notices.push(NoticeItem { recipient: alias, verdict, text: "sent on" });
        }
        RcptParameters { orcpt, notify }
    }

    fn add(
        &mut self,
        site: &Site,
        routed: Option<&Routed>,
        recipient: Recipient,
        via: Via,
        next_id: &mut dyn FnMut() -> QueueId,
    ) -> Result<(), Refusal> {
        match routed.map(|routed| site.maildir(routed)).transpose()?.flatten() {
            Some(path) => match self.local.iter_mut().find(|copy| copy.path == path) {
                Some(known) => known.recipient.wishes_of(&recipient),
                None => self.local.push(LocalCopy { recipient, path, via: Via { alias: None, ..via } }),
            },
            None => {
                let leaves = routed.is_some_and(|routed| routed.leaves);
                self.queue(Recipient { leaves, ..recipient }, via, next_id);
            }
        }
        Ok(())
    }

    /// Adds a recipient to the queue entry with the same alias and owner.
    pub fn queue(&mut self, recipient: Recipient, via: Via, next_id: &mut dyn FnMut() -> QueueId) {
        let mut known = self.queued.iter_mut().flat_map(|copy| &mut copy.recipients);
        if let Some(known) = known.find(|known| known.mailbox == recipient.mailbox) {
            return known.wishes_of(&recipient);
        }
        match self.queued.iter_mut().find(|copy| copy.via == via) {
            Some(copy) => copy.recipients.push(recipient),
            None => self.queued.push(QueueCopy { id: next_id(), via, recipients: vec![recipient] }),
        }
    }

    /// The number of copies.
    #[must_use]
    pub fn count(&self) -> usize {
        self.local.len() + self.queued.len()
    }

    /// The mailboxes that must not occur in a Delivered-To field of the message: an occurrence is a loop.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Mailbox> {
        let here = self.local.iter().map(|copy| &copy.recipient.mailbox);
        here.chain(self.queued.iter().filter_map(|copy| copy.via.alias.as_ref()))
    }
}

impl Via {
    /// The reverse-path of a copy: the owner of the list, if there is one. A null reverse-path stays null, so that no
    /// bounce causes another (RFC 5321 §4.5.5).
    #[must_use]
    pub fn reverse_path(&self, submitted: &ReversePath) -> ReversePath {
        match (&self.owner, submitted) {
            (Some(owner), ReversePath::Mailbox(_)) => ReversePath::Mailbox(owner.clone()),
            _ => submitted.clone(),
        }
    }

    /// The envelope of a queue entry, without its recipients.
    #[must_use]
    pub fn envelope(&self, submission: &Submission) -> Envelope {
        let mut envelope = Envelope::new(self.reverse_path(&submission.reverse_path));
        let parameters = &submission.parameters;
        envelope.body = parameters.body;
        envelope.smtputf8 = parameters.smtputf8;
        envelope.require_tls = parameters.require_tls;
        envelope.is_own = submission.is_own;
        if self.owner.is_none() {
            envelope.ret = parameters.ret;
            envelope.envid.clone_from(&parameters.envid);
        }
        envelope
    }

    /// The field by which a copy that returns to this host is recognised.
    #[must_use]
    pub fn field(&self) -> String {
        self.alias.as_ref().map(|alias| format!("Delivered-To: {alias}\n")).unwrap_or_default()
    }
}

fn recipient(mailbox: &Mailbox, parameters: &RcptParameters) -> Recipient {
    let RcptParameters { orcpt, notify } = parameters;
    Recipient { orcpt: orcpt.clone(), notify: *notify, ..Recipient::new(mailbox.clone()) }
}

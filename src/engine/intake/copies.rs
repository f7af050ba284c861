//! The copies of a message that is coming in: one for each Maildir, and one in the queue for all recipients elsewhere
//! that may see the same message. Aliases are followed here (`rules::expansion`), and nobody gets two copies.
//!
//! What an alias sends elsewhere carries the alias in a Delivered-To field, as Postfix does it: two hosts whose aliases
//! point at each other are found out in the first round (RFC 9228), and not after a hundred. So it is an entry of its own
//! in the queue, or recipients would learn of each other's aliases; as are the members of a list, whose reverse-path is
//! the list's owner (RFC 5321 §3.9.2).

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

/// By which way a copy has come to be: what is the same for all recipients of a queue entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Via {
    /// The alias that leads elsewhere.
    pub alias: Option<Mailbox>,
    /// The owner of the list that it came by.
    pub owner: Option<Mailbox>,
}

/// A copy for a Maildir.
#[derive(Debug)]
pub struct LocalCopy {
    /// Whom it is for.
    pub recipient: Recipient,
    /// Where it lies.
    pub path: MaildirPath,
    /// How it has come to be.
    pub way: Via,
}

/// A copy for the queue.
#[derive(Debug)]
pub struct QueueCopy {
    /// Its name there.
    pub id: QueueId,
    /// How it has come to be.
    pub way: Via,
    /// Whom it is for.
    pub recipients: Vec<Recipient>,
}

/// A recipient that never was in the queue, for a notice to the sender: what became of it, and by what.
#[derive(Debug, Clone)]
pub struct NoticeItem {
    /// The recipient, with what its sender wants to be notified of.
    pub recipient: Recipient,
    /// What became of it.
    pub verdict: RecipientVerdict,
    /// The text of the diagnostic.
    pub text: &'static str,
}

/// All copies of a message.
#[derive(Debug, Default)]
pub struct Copies {
    /// For Maildirs, each another one.
    pub local: Vec<LocalCopy>,
    /// For the queue, each by another way.
    pub queued: Vec<QueueCopy>,
    /// Aliases whose sender wants a notice of how far the message has come.
    pub notices: Vec<NoticeItem>,
}

impl Copies {
    /// Finds the copies that a submission needs; `next_id` names those in the queue.
    ///
    /// # Errors
    /// A recipient's Maildir is none, or an alias can't be followed any more.
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
            let wishes = copies.tell(recipient(&routed.mailbox, parameters), &members);
            for member in members {
                let wishes = if member.owner.is_some() { &RcptParameters::default() } else { &wishes };
                let recipient = recipient(&member.mailbox, wishes);
                let way = Via { alias: Some(routed.mailbox.clone()), owner: member.owner };
                // Who has no route is told of by the queue, which knows how.
                copies.add(site, member.route.as_ref().ok(), recipient, way, next_id)?;
            }
        }
        Ok(copies)
    }

    /// Notes what the sender of a message to an alias is to be told here, and gives the wishes that go with it: all with a
    /// single recipient, all but the successes with several (RFC 3461 §5.2.7.2, §5.2.7.3 c). None go with the mail of a list,
    /// which begins there: the message has been delivered to the list (§5.2.7.1).
    fn tell(&mut self, alias: Recipient, members: &[AliasMember]) -> RcptParameters {
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
        way: Via,
        next_id: &mut dyn FnMut() -> QueueId,
    ) -> Result<(), Refusal> {
        match routed.map(|routed| site.maildir(routed)).transpose()?.flatten() {
            Some(path) if self.local.iter().any(|copy| copy.path == path) => {
                let known = self.local.iter_mut().filter(|copy| copy.path == path);
                known.for_each(|copy| copy.recipient.wishes_of(&recipient));
            }
            Some(path) => self.local.push(LocalCopy { recipient, path, way: Via { alias: None, ..way } }),
            None => {
                let leaves = routed.is_some_and(|routed| routed.leaves);
                self.queue(Recipient { leaves, ..recipient }, way, next_id);
            }
        }
        Ok(())
    }

    /// Adds a recipient to the queue entry of its way.
    pub fn queue(&mut self, recipient: Recipient, way: Via, next_id: &mut dyn FnMut() -> QueueId) {
        let mut known = self.queued.iter_mut().flat_map(|copy| &mut copy.recipients);
        if let Some(known) = known.find(|known| known.mailbox == recipient.mailbox) {
            return known.wishes_of(&recipient);
        }
        match self.queued.iter_mut().find(|copy| copy.way == way) {
            Some(copy) => copy.recipients.push(recipient),
            None => self.queued.push(QueueCopy { id: next_id(), way, recipients: vec![recipient] }),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.local.len() + self.queued.len()
    }

    /// Those who must not have got the message before.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Mailbox> {
        let here = self.local.iter().map(|copy| &copy.recipient.mailbox);
        here.chain(self.queued.iter().filter_map(|copy| copy.way.alias.as_ref()))
    }
}

impl Via {
    /// The reverse-path of a copy. What must never be bounced stays so (RFC 5321 §4.5.5).
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

    /// The field by which a copy that comes back is known.
    #[must_use]
    pub fn field(&self) -> String {
        self.alias.as_ref().map(|alias| format!("Delivered-To: {alias}\n")).unwrap_or_default()
    }
}

fn recipient(mailbox: &Mailbox, parameters: &RcptParameters) -> Recipient {
    let RcptParameters { orcpt, notify } = parameters;
    Recipient { orcpt: orcpt.clone(), notify: *notify, ..Recipient::new(mailbox.clone()) }
}

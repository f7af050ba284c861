//! The trial of a next hop: everything that a delivery does up to RCPT, then RSET in place of the data.
//!
//! ```text
//! connect ─▶ EHLO ─▶ STARTTLS ─▶ AUTH ─▶ MAIL ─▶ RCPT ... ─▶ RSET ─▶ QUIT
//! ```
//!
//! The observer reports the steps from what it sees of the conversation (`observer`); this file reports only failures
//! without a reply. It keeps no state beyond the probe: the index and the memory of MTA-STS failures are its own.
//!
//! | what the session brings | the trial |
//! | --- | --- |
//! | all recipients answered | judges each outcome, then sends QUIT |
//! | some recipients not asked, as the host takes fewer in a transaction | asks for the rest in the next transaction |
//! | the session ends early | reports the reason, unless a refusal has explained it |
//! | MAIL or RCPT refused for a reason that any message would meet | asks the next smarthost of the list, as delivery would |
//!
//! A host over LMTP delivers itself, so it gets the sender without rewriting, as a Maildir does.

use super::{Mark, TRIAL_OCTETS, Walk};
use crate::engine::outbound::connect::connect;
use crate::engine::outbound::context::OutboundContext;
use crate::engine::outbound::conversation::{Conversation, Talk};
use crate::engine::outbound::sts_policies::StsPolicies;
use crate::engine::outbound::tokens::TokenKeeper;
use crate::engine::probe::test_message::own_sender;
use crate::engine::queue::index::QueueIndex;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::outcome::Outcome;
use crate::rules::advice::step::Stage;
use crate::smtp::client::{ClientTransaction, SessionEnd};
use std::time::Duration;

impl Walk<'_> {
    /// Asks a next hop for all recipients that share it.
    pub(super) fn relay(&self, hop: &NextHop, recipients: Vec<Recipient>) {
        let sender = self.site.rewrite.reverse_path(&own_sender(self.site));
        if let (NextHop::Mx(_), Some(sender)) = (hop, sender.mailbox()) {
            self.check_sender(&sender.domain);
        }
        let (sts, index, tokens) = (StsPolicies::default(), QueueIndex::default(), TokenKeeper::default());
        let context = OutboundContext {
            resolver: self.world.resolver,
            connect: self.world.connect,
            sts: &sts,
            tokens: &tokens,
            index: &index,
            now: self.world.now,
            observer: self,
            hop: None,
        };
        // As in delivery, the next smarthost is asked if one refuses.
        while let Some(refusing) = self.ask_one(&context, hop, &recipients) {
            index.host_refused(&refusing, context.now.running, &|_| Duration::MAX);
        }
    }

    /// Connects and asks. Returns the smarthost if it refuses and another one is left to ask.
    fn ask_one(
        &self,
        context: &OutboundContext<'_>,
        hop: &NextHop,
        recipients: &[Recipient],
    ) -> Option<Smarthost> {
        match connect(context, self.site, hop) {
            Ok(conversation) => {
                self.settle(Mark::Warn);
                let host = conversation.smarthost.clone();
                let is_another = |other: &Smarthost| {
                    Some(other) != host.as_ref() && !context.index.is_refusing(other, context.now.running)
                };
                let is_one_of_some = matches!(hop, NextHop::Smarthosts(all) if all.iter().any(is_another));
                let mut state = self.state.borrow_mut();
                (state.replaceable, state.gives_way) = (host.filter(|_| is_one_of_some), false);
                drop(state);
                self.ask_for(conversation, recipients);
                let mut state = self.state.borrow_mut();
                let refusing = state.replaceable.take();
                return refusing.filter(|_| state.gives_way);
            }
            Err(unreachable) if self.state.borrow().pending.is_none() => {
                let stage = self.state.borrow().stage;
                self.fail(stage, unreachable.diagnostic());
            }
            Err(_) => self.settle(Mark::Fail),
        }
        None
    }

    /// The trial transaction: MAIL, RCPT, RSET and QUIT.
    fn ask_for(&self, mut conversation: Conversation<'_>, recipients: &[Recipient]) {
        let mut state = self.state.borrow_mut();
        (state.is_ready, state.is_refused) = (true, false);
        drop(state);
        // A host that delivers (LMTP) gets the sender unchanged, as a Maildir here does.
        let own = own_sender(self.site);
        let policy = self.site.rewrite_at(conversation.smarthost.as_ref());
        let sender = if conversation.session.is_lmtp() { own } else { policy.reverse_path(&own) };
        let envelope = Envelope::new(sender);
        let mut outcomes = Vec::new();
        let mut end = None;
        let mut untried: Vec<&Recipient> = recipients.iter().collect();
        while !untried.is_empty() && end.is_none() {
            conversation.session.begin(&ClientTransaction {
                envelope: &envelope,
                recipients: &untried,
                size_octets: TRIAL_OCTETS,
                is_trial: true,
            });
            let mut left = Vec::new();
            if let Talk::Finished(found) = conversation.talk(None) {
                left = untried.iter().zip(&found).filter(|(_, it)| it.is_none()).map(|(to, _)| *to).collect();
                outcomes.extend(found.into_iter().flatten());
            }
            if let Talk::Over(over) = conversation.talk(None) {
                end = Some(over);
            }
            untried = if left.len() < untried.len() { left } else { Vec::new() };
        }
        for outcome in &outcomes {
            self.judge(outcome);
        }
        match end {
            Some(
                SessionEnd::Route(diagnostic)
                | SessionEnd::Dropped(diagnostic)
                | SessionEnd::Reconnect(diagnostic),
            ) if !self.state.borrow().is_refused => {
                let stage = self.state.borrow().stage;
                self.fail(stage, &diagnostic);
            }
            Some(_) => {}
            None => conversation.leave(),
        }
        self.state.borrow_mut().is_ready = false;
    }

    /// Reports a failure that is in no reply: the peer takes no such addresses, or no message of that size.
    fn judge(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Failed(diagnostic) | Outcome::Deferred(diagnostic)
                if !self.state.borrow().is_refused =>
            {
                let mut state = self.state.borrow_mut();
                state.is_refused = true;
                let stage = if state.stage == Stage::Mail { Stage::Mail } else { Stage::Rcpt };
                drop(state);
                self.fail(stage, diagnostic);
            }
            _ => {}
        }
    }
}

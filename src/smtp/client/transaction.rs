//! One transaction of the client: MAIL, RCPT for each recipient, DATA, the message (RFC 5321 §3.3), with and without
//! PIPELINING (RFC 2920). The replies come in the same order either way. With PIPELINING all commands are sent at
//! once; without it one at a time, so that commands that have become pointless are not sent.
//!
//! ```text
//! [RSET ─▶] MAIL ─▶ RCPT 0 ─▶ … ─▶ RCPT n ─┬▶ DATA ─▶ content ─▶ final dot      each recipient settled
//!                                          ├▶ content as one chunk ─▶ BDAT      CHUNKING; no DATA (RFC 3030)
//!                                          └▶ RSET                              a trial
//! ```
//!
//! | a recipient is | after | at the end of the transaction |
//! | --- | --- | --- |
//! | `Asked` | its RCPT was queued | undecided |
//! | `Accepted` | its RCPT had a 2yz | gets the outcome of the data; in LMTP its own |
//! | `Later` | "too many recipients" after an accepted one, or beyond the limit | no outcome: another transaction |
//! | `Settled` | its RCPT was refused, or its LMTP reply arrived | has its outcome |
//!
//! This module knows nothing of the session around it, and no function in it fails.

use super::{ClientTransaction, Waiting, answer, print};
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::envelope::{Body, Recipient};
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::{Class, EnhancedStatus};
use crate::mail::unqualified::Unqualified;
use crate::mail::xtext::{is_envid, is_orcpt};
use crate::smtp::command::{Command, Parameter};
use crate::smtp::extension::{PeerOffer, dsn, eight_bit_mime, requiretls, size, smtputf8};
use crate::smtp::limits::{COMMAND_SENT_MAX_OCTETS, RECIPIENTS_PER_TRANSACTION};
use crate::smtp::reply::{Reply, Severity};
use std::mem;

/// What is awaited: a reply, except in `Content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Rset,
    Mail,
    /// To the recipient with this index.
    Rcpt(usize),
    Data,
    Content,
    FinalDot,
    /// RSET that takes back a trial.
    Undo,
}

/// The state of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// No reply to its RCPT yet.
    Asked,
    /// Its RCPT had a 2yz.
    Accepted,
    /// Left for another transaction.
    Later,
    /// Has its outcome.
    Settled(Outcome),
}

/// What follows from a reply.
#[derive(Debug)]
pub(super) enum AfterReply {
    /// Send these commands, possibly none, and continue.
    Send(Vec<u8>),
    /// The transaction is over.
    Done {
        /// The outcome of the accepted recipients.
        undecided: Option<Outcome>,
        /// The peer still has the transaction open.
        is_open: bool,
    },
    /// The peer offers BDAT but does not know it.
    NoChunks,
    /// The peer refuses a session of this kind.
    Refused(Diagnostic),
    /// The reply has no meaning here.
    Unsound(Diagnostic),
}

/// A transaction in progress.
#[derive(Debug)]
pub(super) struct RunningTransaction {
    stage: Awaited,
    is_pipelined: bool,
    /// LMTP: the end of the data is answered once for each accepted recipient (RFC 2033 §4.2).
    is_lmtp: bool,
    /// A trial: RSET in place of the data.
    is_trial: bool,
    /// The BDAT command that sends the message as one chunk, without DATA (RFC 3030).
    chunk: Option<Vec<u8>>,
    /// Commands that have not been sent yet.
    commands: Vec<u8>,
    recipients: Vec<Standing>,
    /// The outcome of all recipients, if MAIL was refused.
    refused: Option<Outcome>,
}

impl RunningTransaction {
    pub(super) fn new(
        transaction: &ClientTransaction<'_>,
        offer: &PeerOffer,
        is_open: bool,
        is_lmtp: bool,
    ) -> Self {
        let mut commands = Vec::with_capacity(64 * (transaction.recipients.len() + 2));
        if is_open {
            print(&Command::Rset, &mut commands);
        }
        let speaks_utf8 = speaks_utf8(transaction, offer);
        let reverse_path = match &transaction.envelope.reverse_path {
            ReversePath::Mailbox(mailbox) => speakable(mailbox, speaks_utf8).map(ReversePath::Mailbox),
            ReversePath::Null => None,
        };
        let reverse_path = reverse_path.unwrap_or_else(|| transaction.envelope.reverse_path.clone());
        let reverse_path = reverse_path.mailbox().cloned().map(Unqualified::from);
        let mail = |parameters| Command::Mail(reverse_path.clone(), parameters);
        print_fitting(&mail, mail_parameters(transaction, offer), &mut commands);
        let standing = |(i, recipient): (usize, &&Recipient)| {
            if i >= RECIPIENTS_PER_TRANSACTION {
                return Standing::Later;
            }
            let mailbox =
                speakable(&recipient.mailbox, speaks_utf8).unwrap_or_else(|| recipient.mailbox.clone());
            let rcpt = |parameters| Command::Rcpt(mailbox.clone().into(), parameters);
            print_fitting(&rcpt, rcpt_parameters(recipient, offer), &mut commands);
            Standing::Asked
        };
        let recipients = transaction.recipients.iter().enumerate().map(standing).collect();
        let mut chunk = None;
        if transaction.is_trial {
            print(&Command::Rset, &mut commands);
        } else if offer.chunking {
            print(&Command::Bdat(transaction.size_octets, true), chunk.insert(Vec::new()));
        } else {
            print(&Command::Data, &mut commands);
        }
        let stage = if is_open { Awaited::Rset } else { Awaited::Mail };
        let (is_pipelined, is_trial) = (offer.pipelining, transaction.is_trial);
        Self { stage, is_pipelined, is_lmtp, is_trial, chunk, commands, recipients, refused: None }
    }

    /// The next command; with PIPELINING all of them: DATA may come last in a group, and the replies to a hundred
    /// commands fit into any TCP window (RFC 2920 §3.1).
    pub(super) fn next_commands(&mut self) -> Vec<u8> {
        let line_end = self.commands.iter().position(|&b| b == b'\n');
        match line_end.filter(|_| !self.is_pipelined) {
            Some(end) => {
                let rest = self.commands.split_off(end + 1);
                mem::replace(&mut self.commands, rest)
            }
            None => mem::take(&mut self.commands),
        }
    }

    /// The awaited reply; `None`: the content is to be sent.
    pub(super) const fn waiting(&self) -> Option<Waiting> {
        match self.stage {
            Awaited::Rset | Awaited::Undo => Some(Waiting::Rset),
            Awaited::Mail => Some(Waiting::Mail),
            Awaited::Rcpt(_) => Some(Waiting::Rcpt),
            Awaited::Data => Some(Waiting::Data),
            Awaited::Content => None,
            Awaited::FinalDot if self.chunk.is_some() => Some(Waiting::LastChunk),
            Awaited::FinalDot => Some(Waiting::FinalDot),
        }
    }

    pub(super) const fn is_chunked(&self) -> bool {
        self.chunk.is_some()
    }

    /// Whether the chunk is being sent, or its reply is awaited.
    pub(super) const fn is_at_chunk(&self) -> bool {
        self.is_chunked() && matches!(self.stage, Awaited::Content | Awaited::FinalDot)
    }

    pub(super) const fn is_mail_answered(&self) -> bool {
        !matches!(self.stage, Awaited::Rset | Awaited::Mail)
    }

    pub(super) fn content_sent(&mut self) {
        if self.stage == Awaited::Content {
            self.stage = Awaited::FinalDot;
        }
    }

    pub(super) fn take_reply(&mut self, reply: &Reply, to: Waiting, remote: &str) -> AfterReply {
        if matches!(reply.code, 421 | 530 | 534 | 535 | 538) {
            return AfterReply::Refused(answer(remote, reply, to, EnhancedStatus::NOT_ACCEPTING));
        }
        match (self.stage, reply.severity()) {
            (Awaited::Rset, Severity::Success) => self.await_next(Awaited::Mail),
            (Awaited::Mail, Severity::Success) => self.await_next(Awaited::Rcpt(0)),
            (Awaited::Mail, Severity::Transient | Severity::Permanent) => {
                self.refused = Some(outcome(reply, to, remote));
                if self.commands.is_empty() { self.await_next(Awaited::Rcpt(0)) } else { self.done(None) }
            }
            (Awaited::Undo, Severity::Success | Severity::Transient | Severity::Permanent) => {
                self.done(Some(would_be_accepted(remote)))
            }
            (Awaited::Rcpt(index), Severity::Success) => self.rcpt_answered(index, Standing::Accepted),
            (Awaited::Rcpt(index), Severity::Transient | Severity::Permanent) => {
                let standing = self.rcpt_refused(reply, to, remote);
                self.rcpt_answered(index, standing)
            }
            (Awaited::Data, Severity::Intermediate) if self.refused.is_none() && self.has_accepted() => {
                self.await_next(Awaited::Content)
            }
            // The peer accepted DATA although it has accepted no recipient. A lone dot ends the message before it
            // begins, and nobody gets it (RFC 2920 §3.1). Where recipients were accepted and the sender was not, a
            // lone dot would be an empty message.
            (Awaited::Data, Severity::Intermediate) if !self.has_accepted() => {
                self.stage = Awaited::FinalDot;
                AfterReply::Send(b".\r\n".to_vec())
            }
            (Awaited::FinalDot, Severity::Permanent)
                if self.is_chunked() && may_be_about_bdat(reply, self.is_lmtp) =>
            {
                AfterReply::NoChunks
            }
            (Awaited::FinalDot, Severity::Success | Severity::Transient | Severity::Permanent)
                if self.is_lmtp =>
            {
                self.recipient_answered(outcome(reply, to, remote))
            }
            (Awaited::Data, Severity::Transient | Severity::Permanent)
            | (Awaited::FinalDot, Severity::Success | Severity::Transient | Severity::Permanent) => {
                self.done(Some(outcome(reply, to, remote)))
            }
            (
                Awaited::Rset
                | Awaited::Mail
                | Awaited::Rcpt(_)
                | Awaited::Data
                | Awaited::Content
                | Awaited::FinalDot
                | Awaited::Undo,
                _,
            ) => {
                let status = EnhancedStatus::PROTOCOL_TROUBLE.with_class(Class::Transient);
                AfterReply::Unsound(Diagnostic { status, ..answer(remote, reply, to, status) })
            }
        }
    }

    /// The outcome of each recipient. `undecided` is for recipients that depended on the replies after RCPT, or whose
    /// RCPT has no reply yet.
    pub(super) fn finish(self, undecided: Option<&Outcome>) -> Vec<Option<Outcome>> {
        let refused = self.refused;
        let outcome = |standing| match (&refused, standing) {
            (Some(refused), _) => Some(refused.clone()),
            (None, Standing::Settled(outcome)) => Some(outcome),
            (None, Standing::Later) => None,
            (None, Standing::Asked | Standing::Accepted) => undecided.cloned(),
        };
        self.recipients.into_iter().map(outcome).collect()
    }

    /// LMTP: gives the outcome to the first accepted recipient without one.
    fn recipient_answered(&mut self, outcome: Outcome) -> AfterReply {
        if let Some(first) = self.recipients.iter_mut().find(|it| **it == Standing::Accepted) {
            *first = Standing::Settled(outcome);
        }
        if self.has_accepted() { self.await_next(Awaited::FinalDot) } else { self.done(None) }
    }

    fn rcpt_refused(&self, reply: &Reply, to: Waiting, remote: &str) -> Standing {
        if self.has_accepted() && is_enough(reply) {
            return Standing::Later;
        }
        Standing::Settled(outcome(reply, to, remote))
    }

    fn rcpt_answered(&mut self, index: usize, standing: Standing) -> AfterReply {
        if let Some(slot) = self.recipients.get_mut(index) {
            *slot = standing;
        }
        if self.recipients.get(index + 1) == Some(&Standing::Asked) {
            self.await_next(Awaited::Rcpt(index + 1))
        } else if self.is_trial {
            self.await_next(Awaited::Undo)
        } else if let Some(command) = self.chunk.clone() {
            if self.refused.is_some() || !self.has_accepted() {
                return self.done(None);
            }
            self.stage = Awaited::Content;
            AfterReply::Send(command)
        } else if self.has_accepted() || self.commands.is_empty() {
            self.await_next(Awaited::Data)
        } else {
            self.done(None)
        }
    }

    fn has_accepted(&self) -> bool {
        self.recipients.contains(&Standing::Accepted)
    }

    fn await_next(&mut self, stage: Awaited) -> AfterReply {
        self.stage = stage;
        AfterReply::Send(self.next_commands())
    }

    fn done(&self, undecided: Option<Outcome>) -> AfterReply {
        let is_closed = matches!(self.stage, Awaited::FinalDot | Awaited::Undo);
        AfterReply::Done { undecided, is_open: self.refused.is_none() && !is_closed }
    }
}

/// Whether SMTPUTF8 is asked for (RFC 6531 §3.4).
fn speaks_utf8(transaction: &ClientTransaction<'_>, offer: &PeerOffer) -> bool {
    offer.smtputf8 && transaction.envelope.smtputf8
}

/// The mailbox as it can be written to the peer; `None` if it cannot (RFC 6531 §3.2).
fn speakable(mailbox: &Mailbox, speaks_utf8: bool) -> Option<Mailbox> {
    if speaks_utf8 { Some(mailbox.clone()) } else { mailbox.to_ascii() }
}

/// The outcomes of recipients that cannot be sent to this peer; `None` if all can. If the sender's address cannot be
/// sent, no recipient can.
pub(super) fn unspeakable(
    transaction: &ClientTransaction<'_>,
    offer: &PeerOffer,
    remote: &str,
) -> Option<Vec<Option<Outcome>>> {
    if transaction.envelope.require_tls && !offer.requiretls {
        // RFC 8689 §4.2.1. The offer counts only within verified TLS.
        let failed = Outcome::Failed(Diagnostic {
            status: EnhancedStatus::REQUIRETLS_NEEDED,
            remote: Some(remote.to_owned()),
            reply: None,
            text: format!(
                "the sender asked for REQUIRETLS, which {remote} does not offer within verified TLS"
            ),
        });
        return Some(transaction.recipients.iter().map(|_| Some(failed.clone())).collect());
    }
    let speaks_utf8 = speaks_utf8(transaction, offer);
    let can = |mailbox: &Mailbox| speakable(mailbox, speaks_utf8).is_some();
    let sender_can = transaction.envelope.reverse_path.mailbox().is_none_or(can);
    if sender_can && transaction.recipients.iter().all(|recipient| can(&recipient.mailbox)) {
        return None;
    }
    let failed = || {
        Outcome::Failed(Diagnostic {
            status: EnhancedStatus::UTF8_NOT_PERMITTED,
            remote: Some(remote.to_owned()),
            reply: None,
            text: format!("{remote} does not accept addresses with UTF-8"),
        })
    };
    let outcome = |recipient: &&Recipient| (!(sender_can && can(&recipient.mailbox))).then(failed);
    Some(transaction.recipients.iter().map(outcome).collect())
}

fn parameter(keyword: &str, value: String) -> Parameter {
    Parameter { keyword: keyword.to_owned(), value: Some(value) }
}

/// Prints a command; without its last parameter if it is too long otherwise. That is ENVID or ORCPT, which only name
/// things in notices: a host would refuse a longer line, and the message with it.
fn print_fitting(
    command: &dyn Fn(Vec<Parameter>) -> Command,
    mut parameters: Vec<Parameter>,
    commands: &mut Vec<u8>,
) {
    let begin = commands.len();
    print(&command(parameters.clone()), commands);
    if commands.len() - begin > COMMAND_SENT_MAX_OCTETS && parameters.pop().is_some() {
        commands.truncate(begin);
        print(&command(parameters), commands);
    }
}

/// The parameters of MAIL that the peer supports.
fn mail_parameters(transaction: &ClientTransaction<'_>, offer: &PeerOffer) -> Vec<Parameter> {
    let envelope = transaction.envelope;
    let size = offer.size_octets.map(|_| parameter(size::ROW.keyword, transaction.size_octets.to_string()));
    let body = (offer.eight_bit_mime && envelope.body == Body::EightBitMime)
        .then(|| parameter("BODY", eight_bit_mime::ROW.keyword.to_owned()));
    let utf8 = speaks_utf8(transaction, offer)
        .then(|| Parameter { keyword: smtputf8::ROW.keyword.to_owned(), value: None });
    let require_tls =
        envelope.require_tls.then(|| Parameter { keyword: requiretls::ROW.keyword.to_owned(), value: None });
    let ret = envelope.ret.filter(|_| offer.dsn).map(|ret| parameter("RET", dsn::print_ret(ret).to_owned()));
    // A queue file may be older than the check of what enters.
    let envid = envelope.envid.as_ref().filter(|envid| offer.dsn && is_envid(envid));
    let envid = envid.map(|envid| parameter("ENVID", envid.clone()));
    vec![size, body, utf8, require_tls, ret, envid].into_iter().flatten().collect()
}

/// The parameters of RCPT that the peer supports: a peer with DSN takes over the duty to notify the sender (RFC 3461
/// §5.2.1).
fn rcpt_parameters(recipient: &Recipient, offer: &PeerOffer) -> Vec<Parameter> {
    let notify =
        recipient.notify.filter(|_| offer.dsn).map(|notify| parameter("NOTIFY", dsn::print_notify(notify)));
    let orcpt = recipient.orcpt.as_ref().filter(|orcpt| offer.dsn && is_orcpt(orcpt));
    let orcpt = orcpt.map(|orcpt| parameter("ORCPT", orcpt.clone()));
    vec![notify, orcpt].into_iter().flatten().collect()
}

/// The outcome that a 2yz, 4yz or 5yz means for a recipient.
fn outcome(reply: &Reply, to: Waiting, remote: &str) -> Outcome {
    let diagnostic = |class| answer(remote, reply, to, EnhancedStatus::new(class, 0, 0));
    match reply.severity() {
        Severity::Success => Outcome::Delivered(diagnostic(Class::Success)),
        Severity::Permanent => Outcome::Failed(diagnostic(Class::Permanent)),
        Severity::Transient | Severity::Intermediate => Outcome::Deferred(diagnostic(Class::Transient)),
    }
}

/// The outcome of an accepted recipient of a trial.
fn would_be_accepted(remote: &str) -> Outcome {
    let accepted = Diagnostic::local(EnhancedStatus::OK, "it would be accepted");
    Outcome::Delivered(Diagnostic { remote: Some(remote.to_owned()), ..accepted })
}

/// Whether a 5yz to BDAT may mean the command and not the message. Hosts that offer CHUNKING without knowing BDAT
/// answer 500 to 504 or 554, with or without an enhanced status. Their status never concerns an address, a mailbox, a
/// size or a content. In LMTP each recipient has its own reply, so only codes about the command count.
fn may_be_about_bdat(reply: &Reply, is_lmtp: bool) -> bool {
    let may_be =
        || reply.code != 552 && reply.status.is_none_or(|status| matches!(status.subject, 0 | 5 | 7));
    matches!(reply.code, 500 | 502 | 503 | 504) || !is_lmtp && may_be()
}

/// Whether a refused RCPT, after an accepted one, means "no more in this transaction" (RFC 5321 §4.5.3.1.10) and not
/// a full disk or mailbox: 452 and 552 mean either, and X.5.3 decides.
fn is_enough(reply: &Reply) -> bool {
    matches!(reply.code, 452 | 552) && reply.status.is_none_or(|s| (s.subject, s.detail) == (5, 3))
}

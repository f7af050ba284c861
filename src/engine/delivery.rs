//! One worker at one next hop: looks the hosts up, connects, and sends what is due there, one message after the other
//! over the same connection (RFC 5321 §5.1).
//!
//! What it learns about a message goes to the forwarder as outcomes; what it learns about the route pauses the route and
//! leaves the messages as they are.

use super::attempt::Attempt;
use super::board::{Hop, Job};
use super::forwarder::Forwarder;
use super::hosts::{self, Unreachable};
use super::site::Site;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::net::transport::{Deadline, Transport, WireError};
use crate::smtp::client::{End, Lost, Session, Step, Transaction, Waiting};
use crate::smtp::data::DotEncoder;
use crate::smtp::limits;
use crate::store::queue::Entry;
use std::io::Read;
use std::sync::Arc;

/// The largest piece of a message in memory, in octets.
const PIECE_OCTETS: usize = 64 * 1024;
/// What replies are read into.
const REPLY_BUFFER_OCTETS: usize = 2048;

/// An SMTP session on its connection.
struct Conversation {
    transport: Box<dyn Transport>,
    session: Session,
    /// The host and its address, for the log.
    relay: String,
    deadline: Deadline,
    /// Which reply the deadline of the read is for.
    awaited: Option<(u32, Deadline)>,
}

/// What a conversation has come to.
enum Talk {
    Finished(Vec<Option<Outcome>>),
    Ready,
    Over(End),
}

/// Sends what is due at a next hop, until nothing is or the route fails.
pub fn work(forwarder: &Forwarder, next_hop: &NextHop) {
    let hop = Hop::Relay(next_hop.clone());
    let mut conversation: Option<Conversation> = None;
    while let Some(job) = next_job(forwarder, &hop, conversation.is_some()) {
        let site = forwarder.site();
        let _held = forwarder.hold(&hop, job);
        let usable = conversation.take_if(Conversation::can_go_on);
        if let Some(conversation) = conversation.take() {
            conversation.leave();
        }
        let (mut ready, is_new) = match usable {
            Some(conversation) => (conversation, false),
            None => match connect(forwarder, &site, next_hop) {
                Ok(ready) => (ready, true),
                Err(Unreachable::Message(diagnostic) | Unreachable::Circle(diagnostic)) => {
                    forwarder.fail_all(&hop, job, &diagnostic);
                    // That is an answer, too: the pause of an earlier failure is over.
                    forwarder.board.hop_succeeded(&hop);
                    continue;
                }
                Err(Unreachable::Route(diagnostic)) => {
                    return forwarder.route_failed(&hop, Some(job), &diagnostic);
                }
            },
        };
        let end = deliver(forwarder, &hop, job, &mut ready);
        if let Some(End::Route(diagnostic)) = end {
            return forwarder.route_failed(&hop, None, &diagnostic);
        }
        if is_new {
            // Not before the first transaction: who greets and then wants no mail has failed, and is left alone for
            // longer each time. Not after later ones: they say nothing about new connections.
            forwarder.board.hop_succeeded(&hop);
        }
        if end.is_none() {
            conversation = Some(ready);
        }
    }
    if let Some(conversation) = conversation {
        conversation.leave();
    }
}

/// The next message; with an open connection it is worth waiting for one a moment.
fn next_job(forwarder: &Forwarder, hop: &Hop, connected: bool) -> Option<Job> {
    let now = forwarder.clock.now().running;
    if let Some(job) = forwarder.board.take(hop, now) {
        return Some(job);
    }
    // What has left the queue is synced when the worker ends: a second later at most, or with the next new mail's name.
    if connected { forwarder.board.linger(hop, forwarder.linger, now) } else { None }
}

/// Connects to the first host and address that answers and greets.
fn connect(forwarder: &Forwarder, site: &Site, next_hop: &NextHop) -> Result<Conversation, Unreachable> {
    let resolver = forwarder.resolver.as_ref();
    let mut last: Option<Unreachable> = None;
    for host in hosts::hosts(site, next_hop, resolver)? {
        let addresses = match hosts::addresses(site, &host, resolver) {
            Ok(addresses) => addresses,
            Err(Unreachable::Circle(diagnostic)) => {
                // Better MX hosts have been tried.
                return Err(last.unwrap_or(Unreachable::Message(diagnostic)));
            }
            Err(error) => {
                last = Some(worse(last, error));
                continue;
            }
        };
        for address in addresses {
            match open(forwarder, site, &host.name, address) {
                Ok(conversation) => return Ok(conversation),
                Err(diagnostic) => {
                    log::debug!(target: "pillarbox", "event=unreachable host={} reason={diagnostic:?}", host.name);
                    last = Some(Unreachable::Route(diagnostic));
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        Unreachable::Route(Diagnostic::local(EnhancedStatus::NO_ANSWER, "no host to connect to"))
    }))
}

/// Of two failures the one that leaves hope: a message fails only if every host says so.
fn worse(before: Option<Unreachable>, now: Unreachable) -> Unreachable {
    match before {
        Some(route @ Unreachable::Route(_)) => route,
        _ => now,
    }
}

fn open(
    forwarder: &Forwarder,
    site: &Site,
    host: &str,
    address: std::net::SocketAddr,
) -> Result<Conversation, Diagnostic> {
    let unreachable = |error: WireError| Diagnostic {
        remote: Some(host.to_owned()),
        ..Diagnostic::local(EnhancedStatus::NO_ANSWER, format!("connect to {host} [{address}]: {error}"))
    };
    let transport = forwarder.connect.connect(address, limits::CONNECT).map_err(unreachable)?;
    let mut conversation = Conversation {
        transport,
        session: Session::new(host, site.client_name.clone()),
        relay: format!("{host}[{}]:{}", address.ip(), address.port()),
        deadline: Deadline::after(limits::CLIENT_SESSION),
        awaited: None,
    };
    loop {
        match conversation.talk(None) {
            // An answer ahead of its command is not believed (DESIGN section 4.10): the session is shown it, and ends.
            Talk::Ready if conversation.transport.has_input() => conversation.read_early(),
            Talk::Ready => return Ok(conversation),
            Talk::Finished(_) => {}
            Talk::Over(End::Route(diagnostic) | End::Dropped(diagnostic) | End::Reconnect(diagnostic)) => {
                return Err(diagnostic);
            }
            Talk::Over(End::Quit) => {
                return Err(Diagnostic::local(EnhancedStatus::BAD_CONNECTION, "the session ended"));
            }
        }
    }
}

/// Sends one message to its recipients at this hop. `None`: the conversation can go on.
fn deliver(forwarder: &Forwarder, hop: &Hop, job: Job, conversation: &mut Conversation) -> Option<End> {
    let mut attempt = forwarder.begin_attempt(hop, job)?;
    let end = loop {
        let envelope = &attempt.entry.description().envelope;
        let untried = attempt.untried();
        let recipients: Vec<_> = untried.iter().filter_map(|&i| envelope.recipients.get(i)).collect();
        if recipients.is_empty() {
            break None;
        }
        let size_octets = attempt.entry.message_octets() + attempt.entry.message_lines();
        conversation.session.begin(&Transaction { envelope, recipients: &recipients, size_octets });
        let entry = Arc::clone(&attempt.entry);
        match conversation.talk(Some(&entry)) {
            Talk::Finished(outcomes) => attempt.note(&untried, outcomes),
            Talk::Ready => {}
            Talk::Over(end) => break Some(end),
        }
        // After the outcomes: whether the session goes on.
        match conversation.talk(None) {
            Talk::Ready => {}
            Talk::Finished(_) => {}
            Talk::Over(end) => break Some(end),
        }
    };
    attempt.relay.clone_from(&conversation.relay);
    let again_at = match &end {
        Some(End::Route(_)) => Again::WhenRouteWorks,
        _ => Again::AtOnce,
    };
    forwarder.end_attempt(hop, attempt, again_at);
    end
}

/// When the recipients that nothing was learnt about are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The route is to blame and pauses.
    WhenRouteWorks,
    /// The connection is to blame; a new one may serve.
    AtOnce,
}

impl Conversation {
    /// Whether it may take another message. A peer that has something to say between two messages says goodbye; and
    /// what is left of the session's time must do for any message, or its end would come in the middle of one: a
    /// duplicate, and a pause that the route has not earned.
    fn can_go_on(&mut self) -> bool {
        !self.transport.has_input() && self.deadline.remaining() > limits::CLIENT_SESSION / 2
    }

    /// Says QUIT, if anybody listens.
    fn leave(mut self) {
        self.session.quit();
        while !matches!(self.talk(None), Talk::Over(_)) {}
    }

    /// Does what the session says until it has news. `content` is what is sent after DATA.
    fn talk(&mut self, content: Option<&Arc<Entry>>) -> Talk {
        loop {
            match self.session.next_step() {
                Step::Send(octets) => self.send(&octets),
                Step::Read { waiting, reply } => self.read(waiting, reply),
                Step::SendContent => match content.map(|entry| self.send_content(entry)) {
                    Some(Ok(())) => self.session.content_sent(),
                    Some(Err(lost)) => self.session.lost(&lost),
                    None => self.session.lost(&Lost::Broken("there is no message to send".into())),
                },
                Step::Finished(outcomes) => return Talk::Finished(outcomes),
                Step::Ready => return Talk::Ready,
                Step::Close(end) => return Talk::Over(end),
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        let deadline = Deadline::after(limits::COMMAND_REPLY).min(self.deadline);
        if let Err(error) = self.transport.write_all(octets, deadline) {
            self.session.lost(&lost(error));
        }
    }

    fn read_early(&mut self) {
        let mut buffer = [0; REPLY_BUFFER_OCTETS];
        match self.transport.read(&mut buffer, self.deadline) {
            Ok(length) => self.session.received(buffer.get(..length).unwrap_or_default()),
            Err(error) => self.session.lost(&lost(error)),
        }
    }

    fn read(&mut self, waiting: Waiting, reply: u32) {
        let deadline = match self.awaited {
            Some((awaited, deadline)) if awaited == reply => deadline,
            _ => Deadline::after(waiting.deadline()).min(self.deadline),
        };
        self.awaited = Some((reply, deadline));
        let mut buffer = [0; REPLY_BUFFER_OCTETS];
        match self.transport.read(&mut buffer, deadline) {
            Ok(length) => self.session.received(buffer.get(..length).unwrap_or_default()),
            Err(error) => self.session.lost(&lost(error)),
        }
    }

    fn send_content(&mut self, entry: &Entry) -> Result<(), Lost> {
        let (mut encoder, mut content) = (DotEncoder::default(), entry.content(0));
        let size = usize::try_from(entry.message_octets()).unwrap_or(usize::MAX).clamp(1, PIECE_OCTETS);
        let (mut piece, mut wire) = (vec![0; size], Vec::with_capacity(size + size / 16));
        let mut left = entry.message_octets();
        while left > 0 {
            let length = content.read(&mut piece).map_err(|error| Lost::Broken(error.to_string()))?;
            if length == 0 {
                return Err(Lost::Broken("the queue file has become shorter".into()));
            }
            left = left.saturating_sub(length as u64);
            encoder.encode(piece.get(..length).unwrap_or_default(), &mut wire);
            if left > 0 {
                self.write_data(&wire)?;
                wire.clear();
            }
        }
        encoder.finish(&mut wire);
        self.write_data(&wire)
    }

    fn write_data(&mut self, wire: &[u8]) -> Result<(), Lost> {
        let deadline = Deadline::after(limits::DATA_BLOCK).min(self.deadline);
        self.transport.write_all(wire, deadline).map_err(lost)
    }
}

fn lost(error: WireError) -> Lost {
    match error {
        WireError::TimedOut => Lost::TimedOut,
        WireError::Closed => Lost::Closed,
        WireError::Io(error) => Lost::Broken(error.to_string()),
    }
}

impl Attempt {
    /// Recipients that nothing is known about yet.
    fn untried(&self) -> Vec<usize> {
        self.outcomes.iter().filter(|(_, outcome)| outcome.is_none()).map(|&(i, _)| i).collect()
    }

    /// Notes the outcomes of the recipients at these places.
    fn note(&mut self, places: &[usize], outcomes: Vec<Option<Outcome>>) {
        for (place, outcome) in places.iter().zip(outcomes) {
            if let Some(slot) = self.outcomes.iter_mut().find(|(i, _)| i == place) {
                slot.1 = outcome;
            }
        }
    }
}

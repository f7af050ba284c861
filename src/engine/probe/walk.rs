//! Walks the route of a message without sending one. Each step is reported as it happens, with advice where it fails.
//!
//! # The steps
//!
//! | step | what is checked | by | if it fails |
//! | --- | --- | --- | --- |
//! | `clock` | the wall clock has been set | this file | warning |
//! | `recipient` | the address parses; a bare name belongs to this host | this file | end |
//! | `queue` | the state directory can be written, and its disk has room | this file | failure, the walk goes on |
//! | `route` | aliases; where each member's mail goes | [`Site::route`] | failure, other members go on |
//! | `maildir` | a file can be written and synced in the Maildir, or the mbox locked; room on its disk | delivery's [`Maildirs`] | failure |
//! | `ptr`, `spf`, `dkim`, `dmarc` | only without a smarthost: how receivers will judge this host | `sender` | mostly warnings |
//! | `mx`, `policy`, `address` | MX hosts, DANE or MTA-STS, addresses | delivery | failure |
//! | `password` | the password of the smarthost can be read | delivery | failure |
//! | `connect` | TCP to one address, then also to one of the other family | delivery, `observer` | failure; the other family: warning |
//! | `greeting`, `ehlo`, `starttls`, `tls`, `auth` | the session, and the certificate's end date | delivery | failure unless delivery finds another way |
//! | `mail`, `rcpt` | sender and recipients are accepted | delivery, `trial` | failure |
//! | `rset`, `quit` | the session ends as it should | delivery, `trial` | warning |
//!
//! From `mx` on, the walk runs the code of delivery (`outbound::connect`, `outbound::hosts`, `outbound::conversation`)
//! and observes it ([`crate::engine::outbound::context::Observer`]), so its findings hold for delivery. RSET takes the
//! place of the data. Recipients with the same next hop share a session, as in delivery.
//!
//! # Failures that may not count
//!
//! Delivery has fallbacks: another host, another address, HELO after EHLO, another login mechanism, clear text. So a
//! failure in the session is kept in `Position::pending` first:
//!
//! ```text
//! a step fails ─▶ pending ─▶ delivery begins another step ─▶ reported as a warning
//!                    └─────▶ delivery gives up ────────────▶ reported as a failure
//! ```
//!
//! Likewise a smarthost that refuses MAIL or RCPT in a way that would hit every message gets a warning, and the next
//! smarthost is asked.
//!
//! The walk queues nothing and keeps nothing. It has no errors of its own: what fails is its result, a [`Step`] with a
//! [`Mark`]. A message would be accepted if no step has [`Mark::Fail`].

mod observer;
mod sender;
mod time;
mod trial;

pub use time::ProbeTime;

use crate::engine::daemon::resolver;
use crate::engine::host::site::Site;
use crate::engine::probe::test_message::own_sender;
use crate::mail::address::Mailbox;
use crate::mail::date::{Now, WallTime};
use crate::mail::envelope::Recipient;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::outcome::Diagnostic;
use crate::mail::status::{Class, EnhancedStatus};
use crate::mail::unqualified::Unqualified;
use crate::net::connect::{Connect, TcpConnect};
use crate::net::resolver::Resolve;
use crate::net::transport::{Stopwatch, own_address};
use crate::rules::accounts::secret_shape::Flaw;
use crate::rules::advice::hints::hint;
use crate::rules::advice::monitor::size;
use crate::rules::advice::row::{Peer, PeerKind};
use crate::rules::advice::step::Stage;
use crate::rules::routing::route::{Destination, NoRoute, Routed};
use crate::rules::tls::certificate::Certificate;
use crate::store::maildir::Maildirs;
use crate::store::{StoreError, check_writable, free_space, has_room};
use crate::sys::clock::{Clock, SystemClock};
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::{IS_OVER, TimedConnect, TimedResolver};

/// The announced size of the message, in octets: about that of an alert.
const TRIAL_OCTETS: u64 = 1024;
/// 2025-01-01: a clock before that was never set.
const CLOCK_MIN_SECONDS: u64 = 1_735_689_600;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The step succeeded.
    Ok,
    /// A message gets through, or may, but the operator should look into it.
    Warn,
    /// A message does not get through.
    Fail,
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The step.
    pub stage: Stage,
    /// Its result.
    pub mark: Mark,
    /// Its duration.
    pub took: Duration,
    /// The finding, or the peer's reply.
    pub text: String,
    /// Advice on what to change.
    pub hint: Option<&'static str>,
    /// For a failure: whether it is temporary.
    pub class: Option<Class>,
}

/// A report while the walk goes on.
#[derive(Debug)]
pub enum ProbeNews {
    /// A step begins; it may take a while.
    Begins(Stage),
    /// A step has ended.
    Ended(Step),
}

/// The result of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeVerdict {
    /// The steps that failed; the first one gives the reason.
    pub failures: Vec<Step>,
}

impl ProbeVerdict {
    /// Whether a message would be accepted for all of its recipients.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.failures.is_empty()
    }
}

/// What a probe needs from outside. Tests put scripts in its place.
pub struct ProbeContext<'a> {
    /// The resolver.
    pub resolver: &'a dyn Resolve,
    /// Makes connections.
    pub connect: &'a dyn Connect,
    /// Writes to the Maildirs.
    pub maildirs: &'a Maildirs,
    /// The time on both clocks.
    pub now: Now,
    /// The source address of this host for a destination; `None` without a route to it.
    pub own_address: &'a dyn Fn(IpAddr) -> Option<IpAddr>,
    /// How long it may take.
    pub time: ProbeTime,
}

/// Probes the route to an address; a bare name is a user of this host. Calls `report` as steps begin and end.
pub fn probe(
    site: &Arc<Site>,
    world: &ProbeContext<'_>,
    address: &str,
    report: &mut dyn FnMut(ProbeNews),
) -> ProbeVerdict {
    let time = world.time;
    let (resolver, connect) =
        (TimedResolver { resolver: world.resolver, time }, TimedConnect { connect: world.connect, time });
    let world = &ProbeContext { resolver: &resolver, connect: &connect, ..*world };
    let walk = Walk { site, world, report: RefCell::new(report), state: RefCell::new(Position::new()) };
    walk.go(address);
    ProbeVerdict { failures: walk.state.into_inner().failures }
}

/// As [`probe`], with the real resolver, network and clock; [`crate::engine::daemon::maildirs`] makes the second argument.
///
/// It ends at the end of `time`, whatever hangs, but for a disk that hangs.
pub fn probe_live(
    site: &Arc<Site>,
    maildirs: &Maildirs,
    time: ProbeTime,
    address: &str,
    report: &mut dyn FnMut(ProbeNews),
) -> ProbeVerdict {
    let resolver = resolver(&site.settings).ending_after(time.end.remaining());
    let connect = TcpConnect::default();
    let now = Now { wall: WallTime(SystemClock.wall_micros()), running: SystemClock.boot() };
    let own_address = &own_address;
    let world = ProbeContext { resolver: &resolver, connect: &connect, maildirs, now, own_address, time };
    probe(site, &world, address, report)
}

/// A probe in progress. Delivery calls it back as its observer by shared reference, hence the cells.
struct Walk<'a> {
    site: &'a Arc<Site>,
    world: &'a ProbeContext<'a>,
    report: RefCell<&'a mut dyn FnMut(ProbeNews)>,
    state: RefCell<Position>,
}

/// The current step of a walk, and what later steps need.
struct Position {
    stage: Stage,
    /// The beginning of the step.
    since: Stopwatch,
    /// The current host, what it is, and its addresses.
    host: String,
    kind: PeerKind,
    addresses: Vec<SocketAddr>,
    /// Its certificate is known by its fingerprint.
    is_pinned: bool,
    /// The certificate that was not accepted, for the failure that follows.
    refused: Option<Certificate>,
    /// A failure that counts only if delivery finds no other way.
    pending: Option<Step>,
    /// A password was read for the current host.
    has_password: bool,
    /// A flaw of the password, which explains a refused login.
    password_flaw: Option<Flaw>,
    /// What was said in clear shows that a firewall rewrites it.
    is_rewritten: bool,
    failures: Vec<Step>,
    /// The session was ready for mail, so QUIT is its regular end.
    is_ready: bool,
    /// A refused MAIL or RCPT has been reported: what follows from it is not.
    is_refused: bool,
    /// The current smarthost, if another one is left to ask.
    replaceable: Option<Smarthost>,
    /// The current smarthost would refuse any message: the next one is asked.
    gives_way: bool,
    /// The time is over, and that was told: nothing more is reported.
    is_over: bool,
}

impl Position {
    fn new() -> Self {
        Self {
            stage: Stage::Clock,
            since: Stopwatch::start(),
            host: String::new(),
            kind: PeerKind::Unknown,
            addresses: Vec::new(),
            is_pinned: false,
            refused: None,
            pending: None,
            has_password: false,
            password_flaw: None,
            is_rewritten: false,
            failures: Vec::new(),
            is_ready: false,
            is_refused: false,
            replaceable: None,
            gives_way: false,
            is_over: false,
        }
    }
}

impl Walk<'_> {
    fn go(&self, address: &str) {
        let date = self.world.now.wall.to_rfc5322();
        self.begin(Stage::Clock);
        let is_set = self.world.now.wall.seconds() >= CLOCK_MIN_SECONDS;
        self.report(Stage::Clock, if is_set { Mark::Ok } else { Mark::Warn }, &date);
        self.begin(Stage::Recipient);
        let path = match Unqualified::parse(address) {
            Ok(address) => address.forward_path(self.site.routes.home()),
            Err(error) => {
                let status = EnhancedStatus::BAD_RECIPIENT_SYNTAX;
                return self.fail(Stage::Recipient, &Diagnostic::local(status, error.to_string()));
            }
        };
        self.pass(Stage::Recipient, &path);
        self.check_queue();
        self.begin(Stage::Route);
        match self.site.route(&path) {
            Ok(Routed { mailbox, destination: Destination::Alias, .. }) => self.expand(&mailbox),
            routed => self.follow(vec![(path.to_string(), routed)]),
        }
    }

    /// Checks the disk of the queue, which holds a message that cannot leave at once.
    fn check_queue(&self) {
        self.begin(Stage::Queue);
        let state = &self.site.settings.state;
        let directories = [state.clone(), state.join("queue"), state.join("tmp")];
        let closed = directories.iter().find_map(|path| {
            let error = check_writable(path).err()?;
            let text = format!("{}: {error}", path.display());
            Some(Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, text))
        });
        match closed.map_or_else(|| self.room(state), Err) {
            Ok(text) => self.pass(Stage::Queue, &text),
            Err(diagnostic) => self.fail(Stage::Queue, &diagnostic),
        }
    }

    /// Reports how much room is on the disk of `path`.
    ///
    /// # Errors
    /// There is no room for a message, or the file system cannot be asked.
    fn room(&self, path: &Path) -> Result<String, Diagnostic> {
        let kept = self.site.settings.limits.free_space;
        let shown = path.display();
        match free_space(path) {
            Ok(free) if has_room(free, kept, TRIAL_OCTETS) => Ok(format!("{shown}: {} free", size(free))),
            Ok(free) => {
                let text = format!(
                    "{shown}: no space left: {} free, limits.free_space keeps {}",
                    size(free),
                    size(kept)
                );
                Err(Diagnostic::local(EnhancedStatus::SYSTEM_FULL, text))
            }
            Err(error) => Err(Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, format!("{shown}: {error}"))),
        }
    }

    /// Follows the members of an alias.
    fn expand(&self, alias: &Mailbox) {
        match self.site.expand(alias) {
            Ok(members) => {
                let names: Vec<String> = members.iter().map(|member| member.mailbox.to_string()).collect();
                self.pass(Stage::Route, &format_args!("{alias} is an alias of {}", names.join(", ")));
                let member = |name: String| format!("{name}, a member of the alias {alias}");
                let routes = members.into_iter().map(|it| match it.route {
                    Err(no_route) => (member(it.mailbox.to_string()), Err(no_route)),
                    routed => (it.mailbox.to_string(), routed),
                });
                self.follow(routes.collect());
            }
            Err(no_route) => self.no_route(&alias.to_string(), &no_route),
        }
    }

    /// Follows the routes: delivers to Maildirs on trial, and asks each next hop once, for all recipients that share it.
    fn follow(&self, routes: Vec<(String, Result<Routed, NoRoute>)>) {
        let mut hops: Vec<(NextHop, Vec<Recipient>)> = Vec::new();
        for (name, route) in routes {
            self.begin(Stage::Route);
            let routed = match route {
                Ok(routed) => routed,
                Err(no_route) => {
                    self.no_route(&name, &no_route);
                    continue;
                }
            };
            match &routed.destination {
                Destination::Maildir(user) => {
                    self.pass(Stage::Route, &format_args!("{name}: the Maildir of {}", user.name));
                    self.try_maildir(&routed);
                }
                Destination::Relay(hop) => {
                    let (sender, domain) = (own_sender(self.site), &routed.mailbox.domain);
                    let hop = &self.site.routes.next_hops.for_sender(hop.clone(), &sender, domain);
                    let how = match hop {
                        NextHop::Mx(domain) => format!("by the MX hosts of {domain}"),
                        NextHop::Smarthosts(_) => format!("by {hop}"),
                    };
                    let (mark, more) = match routed.leaves {
                        true => (Mark::Warn, "; its domain is local, but no local user has this address"),
                        false => (Mark::Ok, ""),
                    };
                    self.report(Stage::Route, mark, &format_args!("{name}: {how}{more}"));
                    let recipient = Recipient::new(routed.mailbox);
                    match hops.iter_mut().find(|(known, _)| known == hop) {
                        Some((_, recipients)) => recipients.push(recipient),
                        None => hops.push((hop.clone(), vec![recipient])),
                    }
                }
                // Aliases are expanded before.
                Destination::Alias => {}
            }
        }
        for (hop, recipients) in hops {
            self.relay(&hop, recipients);
        }
    }

    /// Reports that a recipient has no route.
    fn no_route(&self, name: &str, no_route: &NoRoute) {
        let mut diagnostic = no_route.diagnostic();
        if let NoRoute::LookupFailed(text) = no_route {
            diagnostic.text.clone_from(text);
        }
        diagnostic.text = format!("{name}: {}", diagnostic.text);
        self.fail(Stage::Route, &diagnostic);
    }

    /// Writes and syncs a file in `tmp` of the Maildir, as delivery does, and removes it; or opens and locks the mbox.
    fn try_maildir(&self, routed: &Routed) {
        self.begin(Stage::Maildir);
        let (now, maildirs) = (self.world.now.wall, self.world.maildirs);
        let staged = self.site.maildir(routed).and_then(|path| {
            let path = path.ok_or_else(|| StoreError::refused("", "no Maildir"))?;
            let empty = maildirs.stage(&path, now)?.sync()?;
            if empty.appends() {
                // This takes the locks and appends nothing.
                empty.commit()?;
                return Ok((path, ", an mbox"));
            }
            drop(empty);
            let mut delivery = maildirs.stage(&path, now)?;
            delivery.write(&[b'\n'; TRIAL_OCTETS as usize])?;
            delivery.sync().map(|_| (path, ""))
        });
        let found = match staged {
            Ok((path, what)) => self.room(&path.path()).map(|text| text + what),
            Err(error) => Err(Diagnostic::local(error.status(), error.to_string())),
        };
        match found {
            Ok(text) => self.pass(Stage::Maildir, &text),
            Err(diagnostic) => self.fail(Stage::Maildir, &diagnostic),
        }
    }

    /// Begins a step; a pending failure was no obstacle to delivery, unless the time is over.
    fn begin(&self, stage: Stage) {
        let is_over = self.world.time.is_over();
        self.settle(if is_over { Mark::Fail } else { Mark::Warn });
        if is_over {
            return self.run_out(stage);
        }
        let mut state = self.state.borrow_mut();
        (state.stage, state.since) = (stage, Stopwatch::start());
        drop(state);
        (self.report.borrow_mut())(ProbeNews::Begins(stage));
    }

    /// Reports that the time is over, once, unless a failure has explained it.
    fn run_out(&self, stage: Stage) {
        if self.state.borrow().failures.is_empty() {
            let text = IS_OVER.to_owned();
            let step = self.step(stage, Mark::Fail, text, Some(Class::Transient));
            self.end(step);
        }
        self.state.borrow_mut().is_over = true;
    }

    /// Ends the step of a pending failure, with `mark`: a warning if delivery goes on, else a failure.
    fn settle(&self, mark: Mark) {
        let pending = self.state.borrow_mut().pending.take();
        if let Some(step) = pending {
            self.end(Step { mark, ..step });
        }
    }

    /// Ends a step that succeeded.
    fn pass(&self, stage: Stage, text: &dyn Display) {
        self.report(stage, Mark::Ok, text);
    }

    /// Ends a step. A failure is permanent.
    fn report(&self, stage: Stage, mark: Mark, text: &dyn Display) {
        let class = (mark == Mark::Fail).then_some(Class::Permanent);
        let step = self.step(stage, mark, text.to_string(), class);
        self.end(step);
    }

    /// Ends a step with a failure.
    fn fail(&self, stage: Stage, diagnostic: &Diagnostic) {
        let text = diagnostic.line().to_owned();
        let step = self.step(stage, Mark::Fail, text, Some(diagnostic.status.class));
        self.end(step);
    }

    /// Makes a step of its result, with advice unless it succeeded, and starts the time of the next one.
    fn step(&self, stage: Stage, mark: Mark, text: String, class: Option<Class>) -> Step {
        let mut state = self.state.borrow_mut();
        let took = state.since.elapsed();
        state.since = Stopwatch::start();
        let is_wrong = stage == Stage::Auth && text.starts_with("535");
        let peer = Peer { name: &state.host, kind: state.kind };
        let hint = match state.password_flaw.filter(|_| is_wrong) {
            _ if mark == Mark::Ok => None,
            Some(flaw) => Some(flaw.advice),
            // Without a password the certificate is refused, not a name or a word.
            None if stage == Stage::Auth && !state.has_password => {
                hint(stage, &format!("external {text}"), peer).or_else(|| hint(stage, &text, peer))
            }
            None => hint(stage, &text, peer),
        };
        Step { stage, mark, took, text, hint, class }
    }

    /// Records and reports a step.
    fn end(&self, step: Step) {
        if self.state.borrow().is_over {
            return;
        }
        if step.mark == Mark::Fail {
            self.state.borrow_mut().failures.push(step.clone());
        }
        (self.report.borrow_mut())(ProbeNews::Ended(step));
    }
}

/// The first word of an output line.
impl Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

//! Walks the way that a message would take, and sends none: each step is told as it happens, with advice where one fails.
//!
//! It goes by the code of delivery (`outbound::connect`, `outbound::hosts`, `outbound::conversation`) and watches it,
//! so that what it finds is what delivery would; the transaction ends with RSET in place of the data. Only what is merely
//! told beforehand is its own: what receivers look at (`sender`), the other family of addresses, and the Maildir. Nothing
//! is queued and nothing is kept. What may fail is what it is about: a [`Step`] with a [`Mark`].

mod sender;
mod sight;
mod trial;

pub use sight::Impatient;

use crate::engine::daemon::resolver;
use crate::engine::host::site::Site;
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
use crate::rules::advice::step::Stage;
use crate::rules::routing::route::{Destination, NoRoute, Routed};
use crate::store::maildir::Maildirs;
use crate::store::{StoreError, free_space, has_room};
use crate::sys::clock::{Clock, SystemClock};
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Size of the message that is asked for, in octets: about that of an alert.
const TRIAL_OCTETS: u64 = 1024;
/// 2025-01-01: a clock that is behind has never been set.
const CLOCK_MIN_SECONDS: u64 = 1_735_689_600;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Well.
    Ok,
    /// A message gets through, or may; but somebody should look at it.
    Warn,
    /// No message gets through.
    Fail,
}

/// A step that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which one.
    pub stage: Stage,
    /// How it went.
    pub mark: Mark,
    /// How long it took.
    pub took: Duration,
    /// What was found, or said.
    pub text: String,
    /// What to change.
    pub hint: Option<&'static str>,
    /// Of a failure: whether it may go away by itself.
    pub class: Option<Class>,
}

/// What is told while it happens.
#[derive(Debug)]
pub enum ProbeNews {
    /// A step begins, and may take its time.
    Begins(Stage),
    /// A step is over.
    Ended(Step),
}

/// What came of it: the steps that failed. Without any a message would be accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeVerdict {
    /// The first one says why.
    pub failures: Vec<Step>,
}

impl ProbeVerdict {
    /// Whether a message would be accepted, by all that would get it.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.failures.is_empty()
    }
}

/// The world that a probe goes through.
pub struct World<'a> {
    /// Looks names up.
    pub resolver: &'a dyn Resolve,
    /// Makes connections.
    pub connect: &'a dyn Connect,
    /// What writes into the Maildirs.
    pub maildirs: &'a Maildirs,
    /// What the clocks say.
    pub now: Now,
    /// The address of this host that goes out to another one, if there is a way.
    pub own_address: &'a dyn Fn(IpAddr) -> Option<IpAddr>,
}

/// Probes the way to an address; a bare name is one of this host.
pub fn probe(
    site: &Arc<Site>,
    world: &World<'_>,
    address: &str,
    tell: &mut dyn FnMut(ProbeNews),
) -> ProbeVerdict {
    let walk = Walk { site, world, tell: RefCell::new(tell), state: RefCell::new(Position::new()) };
    walk.go(address);
    ProbeVerdict { failures: walk.state.into_inner().failures }
}

/// As [`probe`], through the world as it is; [`crate::engine::daemon::maildirs`] makes the second argument.
pub fn probe_live(
    site: &Arc<Site>,
    maildirs: &Maildirs,
    address: &str,
    tell: &mut dyn FnMut(ProbeNews),
) -> ProbeVerdict {
    let (resolver, connect) = (resolver(&site.settings), TcpConnect::default());
    let now = Now { wall: WallTime(SystemClock.wall_micros()), running: SystemClock.boot() };
    let world = World { resolver: &resolver, connect: &connect, maildirs, now, own_address: &own_address };
    probe(site, &world, address, tell)
}

/// A probe under way.
struct Walk<'a> {
    site: &'a Arc<Site>,
    world: &'a World<'a>,
    tell: RefCell<&'a mut dyn FnMut(ProbeNews)>,
    state: RefCell<Position>,
}

/// Where it stands.
struct Position {
    stage: Stage,
    since: Stopwatch,
    /// The host that is talked to, and its addresses.
    host: String,
    addresses: Vec<SocketAddr>,
    /// A failure that is one only if no other way works.
    pending: Option<Step>,
    /// What may be the reason if the password is refused.
    password_flaw: Option<Flaw>,
    failures: Vec<Step>,
    /// The session is ready for mail: QUIT is the goodbye, and not the end of a session that failed.
    is_ready: bool,
    /// A reply has told already why the transaction fails.
    is_refused: bool,
    /// The smarthost that is talked to, if there is another one.
    replaceable: Option<Smarthost>,
    /// It refuses what it would refuse to any message, and the other one is asked.
    gives_way: bool,
}

impl Position {
    fn new() -> Self {
        Self {
            stage: Stage::Clock,
            since: Stopwatch::start(),
            host: String::new(),
            addresses: Vec::new(),
            pending: None,
            password_flaw: None,
            failures: Vec::new(),
            is_ready: false,
            is_refused: false,
            replaceable: None,
            gives_way: false,
        }
    }
}

impl Walk<'_> {
    fn go(&self, address: &str) {
        let date = self.world.now.wall.to_rfc5322();
        self.begin(Stage::Clock);
        let is_set = self.world.now.wall.seconds() >= CLOCK_MIN_SECONDS;
        self.tell(Stage::Clock, if is_set { Mark::Ok } else { Mark::Warn }, &date);
        self.begin(Stage::Recipient);
        let path = match Unqualified::parse(address) {
            Ok(address) => address.forward_path(self.site.routes.home()),
            Err(error) => {
                let status = EnhancedStatus::BAD_RECIPIENT_SYNTAX;
                return self.fail(Stage::Recipient, &Diagnostic::local(status, error.to_string()));
            }
        };
        self.tell(Stage::Recipient, Mark::Ok, &path);
        self.look_at_queue();
        self.begin(Stage::Route);
        match self.site.route(&path) {
            Ok(Routed { mailbox, destination: Destination::Alias, .. }) => self.expand(&mailbox),
            routed => self.follow(vec![(path.to_string(), routed)]),
        }
    }

    /// The queue holds what can't leave at once.
    fn look_at_queue(&self) {
        self.begin(Stage::Queue);
        let state = &self.site.settings.state;
        match self.room(state) {
            Ok(text) => self.tell(Stage::Queue, Mark::Ok, &text),
            Err(diagnostic) => self.fail(Stage::Queue, &diagnostic),
        }
    }

    /// Whether there is room for a message below a path.
    fn room(&self, path: &Path) -> Result<String, Diagnostic> {
        let kept = self.site.settings.limits.free_space;
        let shown = path.display();
        match free_space(path) {
            Ok(free) if has_room(free, kept, TRIAL_OCTETS) => {
                Ok(format!("{shown}: {} KiB free", free / 1024))
            }
            Ok(free) => {
                let text = format!(
                    "{shown}: no space left: {} KiB free, limits.free_space keeps {}",
                    free / 1024,
                    kept / 1024
                );
                Err(Diagnostic::local(EnhancedStatus::SYSTEM_FULL, text))
            }
            Err(error) => Err(Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, format!("{shown}: {error}"))),
        }
    }

    fn expand(&self, alias: &Mailbox) {
        match self.site.expand(alias) {
            Ok(members) => {
                let names: Vec<String> = members.iter().map(|member| member.mailbox.to_string()).collect();
                self.tell(
                    Stage::Route,
                    Mark::Ok,
                    &format_args!("{alias} is an alias of {}", names.join(", ")),
                );
                self.follow(members.into_iter().map(|it| (it.mailbox.to_string(), it.route)).collect());
            }
            Err(no_route) => self.no_route(&no_route),
        }
    }

    /// Goes each way once, for all who share it.
    fn follow(&self, routes: Vec<(String, Result<Routed, NoRoute>)>) {
        let mut hops: Vec<(NextHop, Vec<Recipient>)> = Vec::new();
        for (name, route) in routes {
            self.begin(Stage::Route);
            let routed = match route {
                Ok(routed) => routed,
                Err(no_route) => {
                    self.no_route(&no_route);
                    continue;
                }
            };
            match &routed.destination {
                Destination::Maildir(user) => {
                    self.tell(Stage::Route, Mark::Ok, &format_args!("{name}: the Maildir of {}", user.name));
                    self.deliver_here(&routed);
                }
                Destination::Relay(hop) => {
                    let how = match hop {
                        NextHop::Mx(domain) => format!("by the MX hosts of {domain}"),
                        NextHop::Smarthosts(_) => format!("by {hop}"),
                    };
                    let (mark, more) = match routed.leaves {
                        true => (Mark::Warn, "; nobody here has this address, though its domain is local"),
                        false => (Mark::Ok, ""),
                    };
                    self.tell(Stage::Route, mark, &format_args!("{name}: {how}{more}"));
                    let recipient = Recipient::new(routed.mailbox);
                    match hops.iter_mut().find(|(known, _)| known == hop) {
                        Some((_, recipients)) => recipients.push(recipient),
                        None => hops.push((hop.clone(), vec![recipient])),
                    }
                }
                // Whom an alias stands for has been found out.
                Destination::Alias => {}
            }
        }
        for (hop, recipients) in hops {
            self.relay(&hop, recipients);
        }
    }

    fn no_route(&self, no_route: &NoRoute) {
        let mut diagnostic = no_route.diagnostic();
        if let NoRoute::LookupFailed(text) = no_route {
            diagnostic.text.clone_from(text);
        }
        self.fail(Stage::Route, &diagnostic);
    }

    /// Writes a file below `tmp` of the Maildir, as delivery does, and takes it back; or opens and locks the mbox.
    fn deliver_here(&self, routed: &Routed) {
        self.begin(Stage::Maildir);
        let (now, maildirs) = (self.world.now.wall, self.world.maildirs);
        let staged = self.site.maildir(routed).and_then(|path| {
            let path = path.ok_or_else(|| StoreError::refused("", "no Maildir"))?;
            let mut delivery = maildirs.stage(&path, now)?;
            if delivery.is_for_mbox() {
                // Nothing is appended, and the locks are tried.
                delivery.sync()?.commit()?;
                return Ok((path, ", an mbox"));
            }
            delivery.write(&[b'\n'; TRIAL_OCTETS as usize])?;
            delivery.sync().map(|_| (path, ""))
        });
        let found = match staged {
            Ok((path, what)) => self.room(&path.path()).map(|text| text + what),
            Err(error) => Err(Diagnostic::local(error.status(), error.to_string())),
        };
        match found {
            Ok(text) => self.tell(Stage::Maildir, Mark::Ok, &text),
            Err(diagnostic) => self.fail(Stage::Maildir, &diagnostic),
        }
    }

    fn begin(&self, stage: Stage) {
        self.settle(Mark::Warn);
        let mut state = self.state.borrow_mut();
        (state.stage, state.since) = (stage, Stopwatch::start());
        drop(state);
        (self.tell.borrow_mut())(ProbeNews::Begins(stage));
    }

    /// Tells of a failure that was kept back: with another way ahead it is none.
    fn settle(&self, mark: Mark) {
        let pending = self.state.borrow_mut().pending.take();
        if let Some(step) = pending {
            self.end(Step { mark, ..step });
        }
    }

    /// What fails in this way stays so.
    fn tell(&self, stage: Stage, mark: Mark, text: &dyn Display) {
        let class = (mark == Mark::Fail).then_some(Class::Permanent);
        let step = self.step(stage, mark, text.to_string(), class);
        self.end(step);
    }

    fn fail(&self, stage: Stage, diagnostic: &Diagnostic) {
        let text = diagnostic.line().to_owned();
        let step = self.step(stage, Mark::Fail, text, Some(diagnostic.status.class));
        self.end(step);
    }

    fn step(&self, stage: Stage, mark: Mark, text: String, class: Option<Class>) -> Step {
        let mut state = self.state.borrow_mut();
        let took = state.since.elapsed();
        state.since = Stopwatch::start();
        let is_wrong = stage == Stage::Auth && text.starts_with("535");
        let hint = match state.password_flaw.filter(|_| is_wrong) {
            _ if mark == Mark::Ok => None,
            Some(flaw) => Some(flaw.advice),
            None => hint(stage, &text, &state.host),
        };
        Step { stage, mark, took, text, hint, class }
    }

    fn end(&self, step: Step) {
        if step.mark == Mark::Fail {
            self.state.borrow_mut().failures.push(step.clone());
        }
        (self.tell.borrow_mut())(ProbeNews::Ended(step));
    }
}

/// As a line of the probe begins.
impl Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

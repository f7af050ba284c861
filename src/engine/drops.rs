//! Takes what lies in the drop directory into the queue and the Maildirs, by intake like all else.
//!
//! Nothing is believed that a file says but whom its owner wants to write to: who that owner is, the kernel says. Whoever
//! left it has been told that it is safe. So it leaves the directory only when its copies are on stable storage, or for
//! `corrupt/` if it is no message; with trouble of our own it stays, and is tried again with the next round. A recipient
//! without a route is queued all the same: the local worker finds that out again, and the sender gets a bounce.

use super::event::Event;
use super::intake::{Accepted, Intake, Refusal, Submission};
use super::site::Site;
use crate::mail::address::{Domain, ForwardPath, LocalPart, Mailbox, ReversePath};
use crate::mail::message::Origin;
use crate::mail::next_hop::NextHop;
use crate::rules::route::{Destination, NoRoute, Routed};
use crate::smtp::extension::{MailParameters, RcptParameters};
use crate::store::drop::{DropDirectory, Dropped, Opened, Sender};
use crate::store::{StoreError, free_space, has_room};
use crate::sys::watch::Watch;
use crate::sys::{self, user};
use std::ffi::CString;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The directory is looked at so often, whether or not the system tells of arrivals.
const ROUND: Duration = Duration::from_secs(60);
/// After a round with trouble, arrivals do not begin another one before this: a full queue must not be asked for each.
const TROUBLE_PAUSE: Duration = Duration::from_secs(10);
/// So many names that can't be removed are remembered; beyond it all are forgotten, and tried again.
const STUCK_MAX: usize = 1000;

/// The drop directory, and whoever empties it.
#[derive(Debug)]
pub struct Drops {
    directory: DropDirectory,
    /// Held while a message is taken: a stop waits for it, and no other thread takes it.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    has_stopped: bool,
    /// Messages that the last round has left where they are, by trouble of our own; the first one is told of.
    waiting: usize,
    /// What stays although it was taken, or is no message: to take it or to tell of it in each round would do harm.
    stuck: Vec<CString>,
}

impl Drops {
    /// Nothing is taken yet.
    #[must_use]
    pub fn new(directory: DropDirectory) -> Self {
        Self { directory, state: Mutex::default() }
    }

    /// Takes what comes, until [`Self::stop`]. `site` gives the configuration of now.
    pub fn run(&self, intake: &Intake, site: &dyn Fn() -> Arc<Site>) {
        let watch = Watch::for_arrivals(self.directory.path());
        if !watch.sees() {
            log::warn!(target: "pillarbox", "event=notice text=\"no inotify: dropped mail is seen once a minute\"");
        }
        while !self.state().has_stopped {
            self.take_all(intake, &site());
            if self.state().waiting > 0 {
                sys::thread::sleep(TROUBLE_PAUSE);
            } else {
                watch.wait(ROUND);
            }
        }
    }

    /// Waits until the message in hand is taken; no other is taken afterwards.
    pub fn stop(&self) {
        self.state().has_stopped = true;
    }

    /// One look at all that lies there; gives the number of messages taken.
    pub fn take_all(&self, intake: &Intake, site: &Site) -> usize {
        let names = match self.directory.names() {
            Ok(names) => names,
            Err(error) => {
                tell("looking for dropped mail", &error);
                return 0;
            }
        };
        let mut taken = 0;
        self.state().waiting = 0;
        for name in names {
            let mut state = self.state();
            if state.has_stopped {
                break;
            }
            if !state.stuck.contains(&name) {
                taken += usize::from(self.take(intake, site, name, &mut state));
            }
        }
        if taken > 0
            && let Err(error) = self.directory.sync()
        {
            tell("removing dropped mail", &error);
        }
        match self.directory.sweep(intake.clock.now().wall) {
            Ok(0) => {}
            Ok(swept) => {
                let path = self.directory.path().display().to_string();
                log::info!(target: "pillarbox", "event=swept path={path:?} files={swept}");
            }
            Err(error) => tell("sweeping the drop directory", &error),
        }
        taken
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the message is taken.
    fn take(&self, intake: &Intake, site: &Site, name: CString, state: &mut State) -> bool {
        let dropped = match self.directory.open_message(&name, site.settings.limits.message_size) {
            Ok(Opened::Message(dropped)) => dropped,
            Ok(Opened::Busy) => return false,
            Ok(Opened::Bad(reason)) => {
                self.set_aside(name, reason, state);
                return false;
            }
            Err(error) => {
                tell("reading dropped mail", &error);
                return false;
            }
        };
        match hand_over(intake, site, &dropped) {
            Ok(()) => {
                if let Err(error) = self.directory.remove(&name) {
                    tell("removing dropped mail", &error);
                    remember(state, name);
                }
                true
            }
            Err(Trouble::Bad(reason)) => {
                self.set_aside(name, reason, state);
                false
            }
            Err(Trouble::Ours(error)) => {
                state.waiting += 1;
                if state.waiting == 1 {
                    let doing = "taking dropped mail; it stays and is tried again";
                    Event::Trouble { doing, error: &error }.log();
                }
                false
            }
        }
    }

    fn set_aside(&self, name: CString, reason: &'static str, state: &mut State) {
        let shown = name.to_string_lossy().into_owned();
        let error = match self.directory.set_aside(&name) {
            Ok(to) => format!("{shown}: {reason}; it is corrupt/{to} now"),
            Err(error) => {
                remember(state, name);
                format!("{shown}: {reason}; it stays: {}", error.source)
            }
        };
        Event::Trouble { doing: "looking at dropped mail", error: &error }.log();
    }
}

fn remember(state: &mut State, name: CString) {
    if state.stuck.len() >= STUCK_MAX {
        state.stuck.clear();
    }
    state.stuck.push(name);
}

fn tell(doing: &str, error: &StoreError) {
    Event::Trouble { doing, error: &error.to_string() }.log();
}

/// Why a message was not taken.
enum Trouble {
    /// It is none that can be taken, ever.
    Bad(&'static str),
    /// It may be taken later.
    Ours(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Bad("it has become shorter");
        }
        Self::Ours(error.to_string())
    }
}

/// How the copies for Maildirs are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// At once.
    Direct,
    /// By the queue, which tries again, and tells the sender in the end.
    Queued,
}

fn hand_over(intake: &Intake, site: &Site, dropped: &Dropped) -> Result<(), Trouble> {
    let limits = &site.settings.limits;
    let space = free_space(&site.settings.state);
    if space.is_ok_and(|space| !has_room(space, limits.free_space, dropped.message_octets())) {
        return Err(Trouble::Ours("no space left on the disk".into()));
    }
    let owner = owner(dropped.uid)?;
    match try_way(intake, site, dropped, &owner, Way::Direct)? {
        // A Maildir that takes nothing is no reason to keep the others waiting.
        Err(Refusal::Store(_)) => try_way(intake, site, dropped, &owner, Way::Queued)?,
        result => result,
    }
    .map_err(|refusal| match refusal {
        Refusal::Loop => Trouble::Bad("it is going round in circles"),
        refusal => Trouble::Ours(refusal.to_string()),
    })
}

fn try_way(
    intake: &Intake,
    site: &Site,
    dropped: &Dropped,
    owner: &LocalPart,
    way: Way,
) -> Result<Result<(), Refusal>, Trouble> {
    let mut incoming = match intake.begin(site, submission(site, dropped, owner, way)?) {
        Ok(incoming) => incoming,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !dropped.read(|piece| incoming.write(piece))? {
        return Err(Trouble::Bad("it has a CR"));
    }
    Ok(incoming.commit().map(drop))
}

/// The name of a user; one who has none, as in a container, goes by the number.
fn owner(uid: u32) -> io::Result<LocalPart> {
    let account = user::find_uid(uid)?;
    let named = account.and_then(|account| LocalPart::parse(&account.name).ok());
    named.map_or_else(|| LocalPart::parse(&uid.to_string()).map_err(io::Error::other), Ok)
}

fn submission(site: &Site, dropped: &Dropped, owner: &LocalPart, way: Way) -> Result<Submission, Trouble> {
    let envelope = &dropped.envelope;
    let reverse_path = match &envelope.sender {
        Sender::Null => ReversePath::Null,
        Sender::Address(address) => ReversePath::Mailbox(address.at(&site.hostname)),
        Sender::Owner => {
            ReversePath::Mailbox(Mailbox { local_part: owner.clone(), domain: site.hostname.clone() })
        }
    };
    let home = home(site);
    let paths: Vec<ForwardPath> = envelope.recipients.iter().map(|to| to.forward_path(home)).collect();
    let is_ascii = |path: &ForwardPath| !matches!(path, ForwardPath::Mailbox(mailbox) if !mailbox.is_ascii());
    let smtputf8 =
        !paths.iter().all(is_ascii) || reverse_path.mailbox().is_some_and(|mailbox| !mailbox.is_ascii());
    let parameters = RcptParameters { notify: envelope.notify, orcpt: None };
    let accept = |path| Ok(Accepted { routed: route(site, path, way)?, parameters: parameters.clone() });
    let client = format!("uid {}", dropped.uid);
    Ok(Submission {
        reverse_path,
        parameters: MailParameters {
            body: envelope.body,
            smtputf8,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            ..MailParameters::default()
        },
        recipients: paths.iter().map(accept).collect::<Result<_, Trouble>>()?,
        origin: Some(Origin {
            helo: "localhost".into(),
            client: client.clone(),
            protocol: "local".into(),
            tls: None,
        }),
        is_submitted: true,
        is_own: true,
        client,
        login: None,
    })
}

/// The domain of bare recipients: this host, or where that is not local, a domain that is. `root` is somebody here.
pub(super) fn home(site: &Site) -> &Domain {
    let routes = &site.routes;
    if routes.is_local(&site.hostname) {
        return &site.hostname;
    }
    routes.local_domains.first().unwrap_or(&site.hostname)
}

fn route(site: &Site, path: &ForwardPath, way: Way) -> Result<Routed, Trouble> {
    let routed = match site.route(path) {
        // The queue does not look at aliases any more: mail for root could go to the wrong place.
        Err(NoRoute::LookupFailed(error)) => return Err(Trouble::Ours(error)),
        routed => routed.ok(),
    };
    let direct = routed.filter(|routed| match &routed.destination {
        Destination::Relay(_) | Destination::Alias => true,
        Destination::Maildir(_) => way == Way::Direct && site.maildir(routed).is_ok(),
    });
    Ok(direct.unwrap_or_else(|| {
        let mailbox = match path {
            ForwardPath::Mailbox(mailbox) => mailbox.clone(),
            ForwardPath::Postmaster => {
                Mailbox { local_part: LocalPart::postmaster(), domain: home(site).clone() }
            }
        };
        // The forwarder asks for the route again, and finds what there is to tell.
        let destination = Destination::Relay(NextHop::Mx(mailbox.domain.clone()));
        Routed { mailbox, destination, is_local: false }
    }))
}

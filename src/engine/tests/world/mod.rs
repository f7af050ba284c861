//! A world for tests: one pillarbox with its clock, its network and its directory.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`clock`] | the clocks, which only a test moves |
//! | [`operator`] | who asks for the status, and gives orders |
//! | [`recorder`] | the log lines of the test's thread |
//! | [`script`] | a scripted MX host, as tests set it up |
//! | [`host`] | a connection to a scripted host |
//! | [`net`] | names, addresses, and the peers behind them |
//! | [`server`] | connections to the real server of a world |
//! | [`web`] | a scripted web server |
//!
//! Tests import all of them by `use crate::engine::tests::world::*`.

mod clock;
mod host;
mod net;
mod operator;
mod recorder;
mod script;
mod server;
mod web;

pub use clock::*;
pub use net::*;
pub use operator::*;
pub use recorder::*;
pub use script::*;
pub use server::*;
pub use web::*;

use crate::config;
use crate::engine::control::alarm::Alarm;
use crate::engine::control::pulse::Pulse;
use crate::engine::control::services::Services;
use crate::engine::host::clock::EngineClock;
use crate::engine::host::commands::Commands;
use crate::engine::host::site::{Site, SiteHandle, current};
use crate::engine::inbound::connection::Connection;
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::inbound::slots::ConnectionSlots;
use crate::engine::intake::digest_windows::DigestWindows;
use crate::engine::intake::incoming::Intake;
use crate::engine::log::counters::Counters;
use crate::engine::outbound::tokens::TokenKeeper;
use crate::engine::queue::enqueue::Enqueue;
use crate::engine::queue::index::QueueIndex;
use crate::engine::queue::manager::Manager;
use crate::engine::queue::saving::memory_max;
use crate::engine::workers::egress::Egress;
use crate::engine::workers::forwarder::Forwarder;
use crate::mail::address::Domain;
use crate::mail::id::QueueId;
use crate::net::transport::Transport;
use crate::store::maildir::Maildirs;
use crate::store::queue::{EntrySummary, Queue};
use crate::sys::lock::Lock;
pub use crate::test_directory::TestDirectory;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Once};
use std::time::Duration;

/// One pillarbox, its clock and its network.
pub struct World {
    pub directory: Arc<TestDirectory>,
    pub clock: FakeClock,
    pub net: Arc<Net>,
    pub site: SiteHandle,
    pub intake: Arc<Intake>,
    pub manager: Arc<Manager>,
    pub services: Arc<Services>,
    pub forwarder: Arc<Forwarder>,
    pub connections: Arc<ConnectionSlots>,
    stream: Arc<TcpStream>,
    name: &'static str,
    config: String,
}

pub const NAME: &str = "box.example";

impl World {
    /// A world with the users alice and bob; `config` is added to its configuration.
    pub fn new(config: &str) -> Self {
        Self::named(NAME, config)
    }

    pub fn named(name: &'static str, config: &str) -> Self {
        Self::start(name, config, Self::place())
    }

    /// As [`Self::new`], in a directory of [`Self::place`], which has the files that `config` names.
    pub fn at(config: &str, directory: TestDirectory) -> Self {
        Self::start(NAME, config, directory)
    }

    /// A directory for a world, in memory if possible.
    pub fn place() -> TestDirectory {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { TestDirectory::below(memory) } else { TestDirectory::new() }
    }

    fn start(name: &'static str, config: &str, directory: TestDirectory) -> Self {
        static LOGGER: Once = Once::new();
        LOGGER.call_once(|| {
            log::set_boxed_logger(Box::new(Recorder)).unwrap();
            log::set_max_level(::log::LevelFilter::Info);
        });
        // With one thread (`--test-threads=1`), the lines of the test before are still there.
        take_log();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        Self::build(Arc::new(directory), FakeClock::new(), Arc::new(Net::default()), name, config, stream)
    }

    fn build(
        directory: Arc<TestDirectory>,
        clock: FakeClock,
        net: Arc<Net>,
        name: &'static str,
        config: &str,
        stream: Arc<TcpStream>,
    ) -> Self {
        let site = Arc::new(Lock::new(Arc::new(make_site(&directory, name, config))));
        let enqueue = Arc::new(Enqueue { site: Arc::clone(&site), index: Arc::new(QueueIndex::default()) });
        let state = directory.join("state");
        let mut queue = Queue::open(&state, None).unwrap();
        let (memory, most) = (directory.join("memory"), memory_max(&current(&site)));
        if most > 0 {
            queue.keep_in(&memory, most, None).unwrap();
        } else {
            queue.look_into(&memory, None).unwrap();
        }
        let queue = Arc::new(queue);
        let engine_clock = Arc::new(EngineClock::resume(Box::new(clock.clone()), &state));
        let connections = Arc::new(ConnectionSlots::default());
        let intake = Arc::new(Intake {
            clock: Arc::clone(&engine_clock),
            queue,
            maildirs: Maildirs::new(name).impatient(),
            on_queued: Arc::clone(&enqueue) as _,
            counters: Arc::new(Counters::resume(&state, Arc::clone(&connections) as _, engine_clock.now())),
            ids: AtomicUsize::new(0),
            sweeps: Lock::default(),
            digests: DigestWindows::resume(&state),
        });
        let manager = Arc::new(Manager::new(&enqueue, Arc::clone(&intake)));
        let (resolver, connect) = (SharedNet(Arc::clone(&net)), SharedNet(Arc::clone(&net)));
        let mut egress = Egress::new(Box::new(resolver), Box::new(connect), Duration::ZERO);
        egress.tokens = Arc::new(TokenKeeper::new(Box::new(clock.clone()), 1));
        let alarm = Alarm::new(Arc::clone(&egress.tokens));
        let services = Arc::new(Services { manager: Arc::clone(&manager), alarm, pulse: Pulse::default() });
        let forwarder = Arc::new(Forwarder { manager: Arc::clone(&manager), egress });
        manager.load();
        Self {
            directory,
            clock,
            net,
            site,
            intake,
            manager,
            services,
            forwarder,
            connections,
            stream,
            name,
            config: config.to_owned(),
        }
    }

    /// Drops the engine and opens the same state again, as after a crash: unwritten state is lost.
    pub fn restart(self) -> Self {
        let (directory, clock, net) =
            (Arc::clone(&self.directory), self.clock.clone(), Arc::clone(&self.net));
        let (name, config, stream) = (self.name, self.config.clone(), Arc::clone(&self.stream));
        drop(self);
        Self::build(directory, clock, net, name, &config, stream)
    }

    /// Reads the configuration again, with another addition.
    pub fn reload(&self, config: &str) {
        *self.site.lock() = Arc::new(make_site(&self.directory, self.name, config));
        self.intake.queue.set_memory_max(memory_max(&current(&self.site)));
        self.manager.reload();
    }

    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// How many messages lie in memory, and on the disk.
    pub fn shelves(&self) -> (usize, usize) {
        let count = |place: &str| std::fs::read_dir(self.directory.join(place)).map_or(0, Iterator::count);
        (count("memory/queue"), count("state/queue"))
    }

    /// The configuration of the following restarts.
    pub fn set_config(&mut self, config: &str) {
        config.clone_into(&mut self.config);
    }

    pub fn maildir(&self, user: &str) -> PathBuf {
        self.directory.join("mail").join(user)
    }

    /// Puts a link where a user's Maildir would be: neither a Maildir nor an mbox.
    pub fn block(&self, user: &str) {
        std::fs::create_dir_all(self.maildir("")).unwrap();
        std::os::unix::fs::symlink("/nowhere", self.maildir(user)).unwrap();
    }

    /// A host that takes all mail for `far.example`, until it is told otherwise.
    pub fn far_host(&self) -> Arc<Host> {
        let host = Host::friendly();
        self.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
        host
    }

    /// The server of this world.
    pub fn server(&self) -> Arc<Server> {
        Arc::new(Server {
            site: Arc::clone(&self.site),
            intake: Arc::clone(&self.intake),
            connections: Arc::clone(&self.connections),
            stream: Arc::clone(&self.stream),
        })
    }

    /// Runs a whole session of a client on loopback; returns what the server sent.
    pub fn session(&self, input: &[u8], hook: &mut (dyn FnMut(usize) + Send)) -> String {
        let mut typist = Typist { input, read: 0, piece: usize::MAX, output: Vec::new(), hook };
        self.serve(&mut typist);
        String::from_utf8(typist.output).unwrap()
    }

    /// Runs a whole session of a client at that address, by a listener of that kind.
    pub fn session_by(&self, listener: ListenerPolicy, client: &str, input: &str) -> String {
        let mut hook = |_| ();
        let mut typist = Typist {
            input: input.as_bytes(),
            read: 0,
            piece: usize::MAX,
            output: Vec::new(),
            hook: &mut hook,
        };
        let (site, client) = (current(&self.site), client.parse().unwrap());
        let permit = self.server().permit();
        Connection::new(&site, &self.intake, &permit, &mut typist, client).by(listener).serve();
        String::from_utf8(typist.output).unwrap()
    }

    pub fn serve(&self, transport: &mut dyn Transport) {
        let (site, permit) = (current(&self.site), self.server().permit());
        Connection::new(&site, &self.intake, &permit, transport, IpAddr::from([127, 0, 0, 1])).serve();
    }

    /// Sends a message from loopback; returns the reply to its data.
    pub fn submit(&self, from: &str, to: &[&str], content: &str) -> String {
        let mut input = format!("EHLO client\r\nMAIL FROM:<{from}>\r\n");
        for to in to {
            input.push_str(&format!("RCPT TO:<{to}>\r\n"));
        }
        input.push_str("DATA\r\n");
        for line in content.lines() {
            input.push_str(&format!("{}{line}\r\n", if line.starts_with('.') { "." } else { "" }));
        }
        input.push_str(".\r\nQUIT\r\n");
        let output = self.session(input.as_bytes(), &mut |_| ());
        let mut lines = output.lines().rev();
        assert!(lines.next().unwrap().starts_with("221"), "{output}");
        lines.next().unwrap().to_owned()
    }

    /// As [`Self::submit`]; panics unless the message is accepted.
    pub fn accept(&self, from: &str, to: &[&str]) -> QueueId {
        let reply = self.submit(from, to, "Subject: alert\n\nThe disk is full.\n");
        let id = reply.strip_prefix("250 2.0.0 Ok: ").unwrap_or_else(|| panic!("{reply}"));
        QueueId::parse(id).unwrap()
    }

    /// The messages in the queue.
    pub fn queue(&self) -> Vec<EntrySummary> {
        let mut all: Vec<EntrySummary> = self.intake.queue.scan().unwrap().map(Result::unwrap).collect();
        all.sort_by_key(|summary| summary.id);
        all
    }

    /// One message of the queue.
    pub fn queued(&self, id: QueueId) -> EntrySummary {
        self.queue().into_iter().find(|summary| summary.id == id).expect("it is in the queue")
    }

    /// The messages in a user's Maildir.
    pub fn mail(&self, user: &str) -> Vec<String> {
        let Ok(names) = std::fs::read_dir(self.maildir(user).join("new")) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = names.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| String::from_utf8(std::fs::read(path).unwrap()).unwrap()).collect()
    }

    /// The number of temporary files in the queue and the Maildirs.
    pub fn half_written(&self) -> usize {
        let count = |path: PathBuf| std::fs::read_dir(path).map_or(0, Iterator::count);
        count(self.state().join("tmp"))
            + count(self.maildir("alice").join("tmp"))
            + count(self.maildir("bob").join("tmp"))
    }

    /// Runs one pass; returns the time until something is due, if anything ever is.
    pub fn pass(&self) -> Option<Duration> {
        let until = self.forwarder.pass()?;
        Some(until.saturating_sub(self.manager.clock.now().running))
    }

    /// Runs passes, each when the one before said, until nothing is due any more or `longest` has passed.
    pub fn live(&self, longest: Duration) {
        let end = self.clock.boot_time() + longest;
        while let Some(wait) = self.pass() {
            if self.clock.boot_time() + wait > end {
                self.clock.advance(end - self.clock.boot_time());
                return;
            }
            self.clock.advance(wait);
        }
    }
}

fn make_site(directory: &Path, name: &str, config: &str) -> Site {
    let directory = directory.display();
    let config = if config.contains("limits.free_space") {
        config.to_owned()
    } else {
        format!("limits.free_space = 0\n{config}")
    };
    let text = format!(
        "hostname = {name:?}\nstate = \"{directory}/state\"\nlocal.domains = {name:?}\n\
         local.users = [\"alice\", \"bob\"]\nlocal.maildir = \"{directory}/mail/{{user}}\"\n\
         local.aliases = \"{directory}/aliases\"\n\
         dns.servers = \"192.0.2.53\"\n{config}\n"
    );
    let settings = config::parse(&text, "world.toml").unwrap_or_else(|problems| panic!("{problems:?}"));
    let dkim = crate::engine::host::dkim_keys::load(&settings).unwrap();
    let commands = Commands::start(Path::new("/nonexistent"), &settings).unwrap().map(Arc::new);
    Site { dkim, commands, ..Site::new(settings, Domain::parse(name).unwrap(), None) }
}

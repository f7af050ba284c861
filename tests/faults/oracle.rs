use super::client::{Client, with_lf};
use super::harness::{Daemon, LATER, Place, SOON, files};
use super::sink::{Manner, Sink, number_of};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The kinds of messages, by their number: the recipients, and where a copy must be in the end.
const KINDS: [(&[&str], &[&str]); 7] = [
    (&["u@box.test"], &["Maildir u"]),
    (&["a@far.test"], &["sink a@far.test"]),
    (&["v@box.test", "b@far.test"], &["Maildir v", "sink b@far.test"]),
    // The sink refuses it: the sender must be told.
    (&["no@far.test"], &["Maildir s"]),
    // By the program sendmail; all others by SMTP.
    (&["w@box.test", "c@far.test"], &["Maildir w", "sink c@far.test"]),
    // Too large to stay in memory.
    (&["u@box.test", "a@far.test"], &["Maildir u", "sink a@far.test"]),
    (&["m@box.test"], &["mbox m"]),
];
const BY_SENDMAIL: u32 = 4;
const LARGE: u32 = 5;
const SENDER: &str = "s@box.test";

/// A pillarbox, the host that it relays to, and all that was promised to its clients.
#[derive(Debug)]
pub struct World {
    pub place: Place,
    pub sink: Sink,
    pub binary: PathBuf,
    next: AtomicU32,
    /// The messages that were answered with 250, or by an exit with 0.
    accepted: Mutex<BTreeSet<u32>>,
}

impl World {
    pub fn new(more: &str) -> Self {
        Self::of(Place::new(), more)
    }

    pub fn of(place: Place, more: &str) -> Self {
        let sink = Sink::start(Manner::Good);
        let (binary, _) = measured().clone();
        let world = Self { place, sink, binary, next: AtomicU32::new(0), accepted: Mutex::default() };
        world.configure(more);
        world.make_mbox();
        world
    }

    /// Makes the mbox of one user, whose mail goes there as it exists.
    pub fn make_mbox(&self) {
        fs::create_dir_all(self.place.path("mail")).unwrap();
        fs::write(self.place.path("mail/m"), "").unwrap();
    }

    /// Writes the configuration; `more`: lines with dotted keys.
    pub fn configure(&self, more: &str) {
        let mut text = String::new();
        let defaults = [
            ("log.level", "\"warn\"".to_owned()),
            ("relay.smarthost", format!("\"smtp://127.0.0.1:{}\"", self.sink.port)),
            ("queue.retry", "[\"1s\"]".to_owned()),
            ("queue.max_messages", "100000".to_owned()),
            ("limits.free_space", "0".to_owned()),
        ];
        for (key, value) in defaults.iter().filter(|(key, _)| !more.contains(&format!("{key} ="))) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        let path = self.place.configure(&format!("{text}{more}"));
        // No test here needs keys, which take a second to make.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}tls = \"off\"\n")).unwrap();
    }

    /// The command that starts the daemon.
    pub fn command(&self) -> Command {
        self.place.command(&self.binary)
    }

    /// The command that starts the daemon by way of another program, which gets its arguments last.
    pub fn command_by(&self, by: &mut Command) -> Command {
        let (serve, mut command) = (self.command(), Command::new(by.get_program()));
        let log = fs::File::options().append(true).open(self.place.path("log")).unwrap();
        command.args(by.get_args()).arg(serve.get_program()).args(serve.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts the daemon, and waits until it greets.
    pub fn start(&self) -> Daemon {
        self.place.run(&mut self.command())
    }

    /// Starts a daemon under some fault, and waits until it greets. `None`: it has ended. It may also be there and be deaf.
    pub fn try_start(&self, command: &mut Command) -> Option<Daemon> {
        let mut daemon = Daemon(super::harness::Running::start(command));
        let begun = Instant::now();
        while !self.greets() && begun.elapsed() < SOON / 3 {
            if !daemon.is_running() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(daemon)
    }

    /// Whether a daemon greets soon.
    pub fn greets(&self) -> bool {
        let Ok(mut client) = Client::connect(self.place.port) else { return false };
        client.stream().set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        client.expect("220").is_ok()
    }

    /// The number of the next message.
    pub fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    pub fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Notes that the message was accepted.
    pub fn note(&self, number: u32) {
        self.accepted.lock().unwrap().insert(number);
    }

    /// Whether the message is submitted by SMTP, not by sendmail.
    pub fn is_by_smtp(&self, number: u32) -> bool {
        kind(number) != BY_SENDMAIL as usize
    }

    /// Notes that the sink took the message in an earlier life.
    pub fn sank(&self, number: u32) {
        for place in KINDS[kind(number)].1 {
            if let Some(to) = place.strip_prefix("sink ") {
                self.sink.takes((vec![to.to_owned()], content(number).into_bytes()));
            }
        }
    }

    /// Forgets all promises and all that the sink took.
    pub fn forget(&self) {
        self.accepted.lock().unwrap().clear();
        self.sink.clear();
    }

    /// Submits the message in this session; the reply to its data, or the refusal before it.
    pub fn submit(&self, client: &mut Client, number: u32) -> io::Result<String> {
        let reply = client.send(SENDER, KINDS[kind(number)].0, content(number).as_bytes())?;
        if reply.starts_with("250") {
            self.note(number);
        }
        Ok(reply)
    }

    /// Submits the message by the program sendmail, or drops it if no daemon takes it; whether it exits with 0.
    pub fn sendmail(&self, number: u32) -> bool {
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(self.place.path("pillarbox.toml"));
        self.sendmail_by(command, number)
    }

    /// The same, with a command to which the arguments of sendmail are added.
    pub fn sendmail_by(&self, mut command: Command, number: u32) -> bool {
        command.args(["sendmail", "-i", "-f", SENDER]).args(KINDS[kind(number)].0);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        // It may have been killed.
        let _ = child.stdin.take().unwrap().write_all(content(number).replace("\r\n", "\n").as_bytes());
        let is_accepted = child.wait().unwrap().success();
        if is_accepted {
            self.note(number);
        }
        is_accepted
    }

    /// Submits the next message in a connection or process of its own; whether it was accepted.
    pub fn try_next(&self) -> bool {
        let number = self.number();
        if kind(number) == BY_SENDMAIL as usize {
            return self.sendmail(number);
        }
        let submit = |mut client: Client| self.submit(&mut client, number);
        Client::hello(self.place.port).and_then(submit).is_ok_and(|reply| reply.starts_with("250"))
    }

    /// Submits messages until `is_over`; what fails is not repeated.
    pub fn load(&self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            let Ok(mut client) = Client::hello(self.place.port) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            for _ in 0..20 {
                let number = self.number();
                if kind(number) == BY_SENDMAIL as usize {
                    self.sendmail(number);
                } else if self.submit(&mut client, number).is_err() {
                    break;
                }
            }
        }
    }

    /// Loads the daemon by some sessions while `fault` runs.
    pub fn under_load<T>(&self, sessions: usize, fault: impl FnOnce() -> T) -> T {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            (0..sessions).for_each(|_| drop(scope.spawn(|| self.load(&is_over))));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fault));
            is_over.store(true, Ordering::SeqCst);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Waits until queue and drop directory are empty, as long as some leave. `foreign`: how many files of others stay there.
    pub fn drain(&self, daemon: &Daemon, foreign: usize) {
        let waiting = || {
            let drops = files(&self.place.path("state/drop"));
            let is_visible = |file: &&PathBuf| !file.file_name().unwrap().to_string_lossy().starts_with('.');
            self.place.queued() + drops.iter().filter(is_visible).count()
        };
        let (mut last_flush, mut last_progress, mut fewest) = (Instant::now(), Instant::now(), usize::MAX);
        loop {
            let left = waiting();
            if left <= foreign {
                return;
            }
            if left < fewest {
                (fewest, last_progress) = (left, Instant::now());
            }
            let place = self.place.dir.display();
            assert!(
                last_progress.elapsed() < LATER,
                "{left} messages do not leave, see {place}:\n{}",
                self.place.log()
            );
            if last_flush.elapsed() > Duration::from_secs(3) {
                last_flush = Instant::now();
                daemon.signal("USR1");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a daemon without faults, lets it deliver all, and asks for the messages.
    pub fn settle(&self, faults: usize) -> Figures {
        self.sink.becomes(Manner::Good);
        let daemon = self.start();
        self.drain(&daemon, 0);
        daemon.stop();
        let figures = self.ask(faults);
        // A daemon that ends may leave a state file that it was about to replace, which has a dot in its name.
        let half_written = files(&self.place.path("state/tmp"));
        let is_message = |file: &&PathBuf| !file.file_name().unwrap().to_string_lossy().contains('.');
        assert_eq!(half_written.iter().filter(is_message).count(), 0, "what was half written has been swept");
        assert_eq!(files(&self.place.path("state/corrupt")).len(), 0, "nothing is damaged");
        figures
    }

    /// Looks for every message.
    pub fn ask(&self, faults: usize) -> Figures {
        let mut figures = Figures { faults, sent: self.next.load(Ordering::SeqCst), ..Figures::default() };
        let mut copies = HashMap::<(u32, String), usize>::new();
        let mut found = |place: String, file: &[u8]| {
            let Some(number) = number_of(file) else {
                println!("without a number, in {place}: {:?}", String::from_utf8_lossy(file));
                figures.changed.push(u32::MAX);
                return;
            };
            let is_whole = place == "Maildir s" || with_lf(file).ends_with(body(number).as_bytes());
            figures.changed.extend((!is_whole).then_some(number));
            if !KINDS[kind(number)].1.contains(&place.as_str()) {
                figures.wrong_party.push((number, place.clone()));
            }
            *copies.entry((number, place)).or_default() += 1;
        };
        for user in files(&self.place.path("mail")) {
            for file in files(&user.join("new")) {
                let user = user.file_name().unwrap().to_string_lossy();
                found(format!("Maildir {user}"), &fs::read(&file).unwrap());
            }
        }
        let mbox = fs::read(self.place.path("mail/m")).unwrap_or_default();
        messages_of(&mbox).iter().for_each(|message| found("mbox m".to_owned(), message.as_bytes()));
        for (to, content) in self.sink.taken() {
            to.iter().for_each(|to| found(format!("sink {to}"), &content));
        }
        let accepted = self.accepted.lock().unwrap().clone();
        for &number in &accepted {
            for place in KINDS[kind(number)].1 {
                match copies.get(&(number, (*place).to_owned())) {
                    None => figures.lost.push((number, (*place).to_owned())),
                    Some(count) => figures.twice += count - 1,
                }
            }
        }
        figures.accepted = accepted.len();
        figures.copies = copies.len();
        figures.crashes = self.place.logged(&["event=panic"]).len();
        figures
    }
}

/// The binary under test, and whether it is a release build.
pub fn measured() -> &'static (PathBuf, bool) {
    static MEASURED: OnceLock<(PathBuf, bool)> = OnceLock::new();
    MEASURED.get_or_init(super::harness::measured)
}

/// The whole messages of an mbox. A kill within an append leaves a part, which was promised to nobody.
fn messages_of(mbox: &[u8]) -> Vec<String> {
    let text = format!("\n{}", String::from_utf8_lossy(mbox));
    let messages =
        text.split("\nFrom ").skip(1).map(|message| format!("{}\n", message.trim_end_matches('\n')));
    messages.filter(|message| message.ends_with("\nend\n")).collect()
}

/// The number of a message that is submitted by sendmail.
pub fn by_sendmail(which: u32) -> u32 {
    BY_SENDMAIL + which * KINDS.len() as u32
}

/// The kind of a message.
pub fn kind(number: u32) -> usize {
    number as usize % KINDS.len()
}

/// The content: a number, and a body that nothing may change.
fn content(number: u32) -> String {
    format!("Number: {number}\r\nSubject: number {number}\r\n\r\n{}", body(number).replace('\n', "\r\n"))
}

fn body(number: u32) -> String {
    let lines = if number % KINDS.len() as u32 == LARGE { 1_200 } else { 5 };
    (0..lines).map(|line| format!("{number:08} {line:04} {:-^60}\n", "")).collect::<String>() + ".\nend\n"
}

/// What came out of some faults.
#[derive(Debug, Default)]
pub struct Figures {
    pub faults: usize,
    pub sent: u32,
    pub accepted: usize,
    pub copies: usize,
    pub lost: Vec<(u32, String)>,
    pub wrong_party: Vec<(u32, String)>,
    pub changed: Vec<u32>,
    pub twice: usize,
    pub crashes: usize,
}

impl Figures {
    /// Adds the figures of another run of the same kind.
    pub fn add(&mut self, other: Self) {
        self.faults += other.faults;
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.copies += other.copies;
        self.lost.extend(other.lost);
        self.wrong_party.extend(other.wrong_party);
        self.changed.extend(other.changed);
        self.twice += other.twice;
        self.crashes += other.crashes;
    }

    /// Prints the line of this kind, and fails if a promise was broken.
    pub fn judge(&self, faults: &str) {
        println!(
            "faults: {} {faults}; {} messages, {} accepted, {} copies; lost {}, wrong party {}, changed {}, crashes {}, \
             duplicates {}",
            self.faults,
            self.sent,
            self.accepted,
            self.copies,
            self.lost.len(),
            self.wrong_party.len(),
            self.changed.len(),
            self.crashes,
            self.twice
        );
        assert!(self.lost.is_empty(), "accepted and lost: {:?}", self.lost);
        assert!(self.wrong_party.is_empty(), "at the wrong party: {:?}", self.wrong_party);
        assert!(self.changed.is_empty(), "changed: {:?}", self.changed);
        assert_eq!(self.crashes, 0, "panics in the log");
        assert!(self.faults > 0 && self.accepted > 0, "nothing was tested: {self:?}");
    }
}

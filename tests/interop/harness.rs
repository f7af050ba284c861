use super::test_directory::TestDirectory;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// The time-out for quick steps on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// The time-out for thousands of messages.
pub const LATER: Duration = Duration::from_secs(180);

/// A directory of a test, its ports, and the files of a pillarbox in it.
#[derive(Debug)]
pub struct Place {
    pub dir: TestDirectory,
    pub port: u16,
    pub sink_port: u16,
    pub dns_port: u16,
}

impl Place {
    pub fn new() -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    pub fn below(base: &Path) -> Self {
        let dir = TestDirectory::below(base);
        Self { dir, port: free_port(), sink_port: free_port(), dns_port: free_port() }
    }

    /// A place that other users can pass through.
    pub fn open() -> Self {
        let place = Self::below(&TestDirectory::usual());
        fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    /// An open place with a directory for Maildirs; `None` unless root runs these tests.
    pub fn of_root() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let place = Self::open();
        fs::create_dir(place.path("mail")).unwrap();
        Some(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Makes a program of this text for the shell.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let text = self.write(&format!("{name}.text"), &format!("#!/bin/sh\n{text}\n"));
        copy_program(&text, &self.path(name));
        self.path(name)
    }

    /// Writes a configuration that keeps everything below this place. `more`: lines with dotted keys.
    pub fn configure(&self, more: &str) -> PathBuf {
        let (d, port, dns, sink) = (self.dir.display(), self.port, self.dns_port, self.sink_port);
        let mut text = format!("state = \"{d}/state\"\ncontrol = \"{d}/run/control.sock\"\n");
        let defaults = [
            ("user", "\"root\"".into()),
            ("hostname", "\"box.test\"".into()),
            ("local.maildir", format!("\"{d}/mail/{{user}}\"")),
            ("local.users", "\"any\"".into()),
            ("local.aliases", "\"\"".into()),
            ("dns.servers", format!("\"127.0.0.1:{dns}\"")),
            ("relay.port", sink.to_string()),
        ];
        for (key, value) in defaults.iter().filter(|(key, _)| !more.contains(&format!("{key} ="))) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push_str(more);
        text.push_str(&format!("\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n"));
        self.write("pillarbox.toml", &text)
    }

    /// Waits until both self-signed certificates are made.
    pub fn wait_for_rsa_key(&self) {
        let file = self.path("state/tls/self-signed.pem");
        let keys = || fs::read_to_string(&file).unwrap_or_default().matches("BEGIN PRIVATE KEY").count();
        wait_until("the RSA key is made", SOON * 2, || keys() == 2);
    }

    /// The command that starts a daemon for this place; its log goes to the file `log`.
    pub fn command(&self, binary: &Path) -> Command {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(binary);
        command.args(["-c".as_ref(), self.path("pillarbox.toml").as_os_str(), "serve".as_ref()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts the daemon of this build and waits until it greets.
    pub fn serve(&self) -> Daemon {
        let starts = || self.logged(&["text=\"ready\""]).len();
        let before = starts();
        let daemon = self.run(&mut self.command(Path::new(env!("CARGO_BIN_EXE_pillarbox"))));
        // A signal before this line ends the process at once.
        wait_until("the start is over", SOON, || starts() > before);
        daemon
    }

    /// Starts a daemon by this command and waits until it greets.
    pub fn run(&self, command: &mut Command) -> Daemon {
        let mut daemon = Daemon(Running::start(command));
        wait_until("the daemon greets", SOON, || {
            if let Some(status) = daemon.0.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            is_open(self.port)
        });
        daemon
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    /// Lines of the log with all of these parts.
    pub fn logged(&self, parts: &[&str]) -> Vec<String> {
        let log = self.log();
        log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }

    pub fn wait_for_log(&self, parts: &[&str]) -> String {
        let mut found = Vec::new();
        wait_until_or(
            SOON,
            || {
                found = self.logged(parts);
                !found.is_empty()
            },
            || format!("no line with {parts:?} in the log:\n{}", self.log()),
        );
        found.remove(0)
    }

    /// The delivered messages of a user.
    pub fn mail(&self, user: &str) -> Vec<Vec<u8>> {
        let files = files(&self.path("mail").join(user).join("new"));
        files.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    pub fn wait_for_mail(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        let new = self.path("mail").join(user).join("new");
        wait_until_or(
            SOON,
            || files(&new).len() >= count,
            || format!("{user} has {} messages, not {count}:\n{}", files(&new).len(), self.log()),
        );
        let mail = self.mail(user);
        assert_eq!(mail.len(), count, "messages of {user}");
        mail
    }

    pub fn queued(&self) -> usize {
        files(&self.path("state/queue")).len()
    }

    pub fn wait_for_empty_queue(&self, patience: Duration) {
        wait_until_or(
            patience,
            || self.queued() == 0,
            || format!("{} messages are left in the queue", self.queued()),
        );
    }

    /// dnsmasq as the DNS server of `.test`; other names do not exist.
    pub fn dns(&self, records: &[&str]) -> Running {
        let mut command = program("dnsmasq", "dnsmasq-base");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
        ]);
        command.args([
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--local=/test/",
            "--log-facility=-",
        ]);
        command.arg(format!("--port={}", self.dns_port)).args(["--user=", "--group="]);
        command.args(records).stderr(File::create(self.path("dns.log")).unwrap());
        let dns = Running::start(&mut command);
        wait_until("dnsmasq listens", SOON, || is_open(self.dns_port));
        dns
    }

    /// dnsmasq with one domain, `far.test`, whose MX host is 127.0.0.1.
    pub fn dns_of_far(&self) -> Running {
        self.dns(&["--mx-host=far.test,mx.far.test,10", "--host-record=mx.far.test,127.0.0.1"])
    }

    /// smtp-sink on `sink_port`; the messages go to files below `sink/`.
    pub fn sink(&self, options: &[&str]) -> Running {
        let mut command = program("smtp-sink", "postfix");
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "root"]);
        }
        fs::create_dir_all(self.path("sink")).unwrap();
        command.args(options).arg("-d").arg(self.path("sink/%M."));
        command.args([&format!("127.0.0.1:{}", self.sink_port), "1000"]);
        command.stderr(File::create(self.path("sink.log")).unwrap());
        let sink = Running::start(&mut command);
        wait_until("smtp-sink listens", SOON, || is_open(self.sink_port));
        sink
    }

    /// The messages that smtp-sink has received.
    pub fn sunk(&self) -> Vec<Vec<u8>> {
        files(&self.path("sink")).iter().map(|path| fs::read(path).unwrap()).collect()
    }
}

/// A process that is killed at the end of its test.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running pillarbox.
#[derive(Debug)]
pub struct Daemon(pub Running);

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.0.child.id()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the daemon ends", SOON, || {
            status = self.0.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0), "exit code after SIGTERM");
    }

    pub fn is_running(&mut self) -> bool {
        self.0.child.try_wait().unwrap().is_none()
    }

    /// User and system time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&format!("/proc/{}/stat", self.pid()), 11..13)
    }

    /// The sum of the lines of smaps_rollup with this prefix, in KiB. Private memory that is not anonymous is code that no
    /// other process runs now, and code just built is even dirty; so only anonymous memory shows growth.
    pub fn memory_kib(&self, name: &str) -> u64 {
        let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let lines = smaps.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    }
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// User and system time of all programs that this process has waited for, in seconds.
pub fn cpu_seconds_of_children() -> f64 {
    cpu_seconds("/proc/self/stat", 13..15)
}

/// The sum of these fields behind the name in a `stat` file of proc(5), in seconds.
fn cpu_seconds(stat: &str, fields: Range<usize>) -> f64 {
    let stat = fs::read_to_string(stat).unwrap();
    let all: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = all[fields].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    // USER_HZ is 100 on every Linux.
    ticks / 100.0
}

/// The binary to measure, and whether it is a release build: that of `PILLARBOX_RELEASE`, or one in the target directory
/// that is newer than its sources, or else the debug build, whose numbers say nothing.
pub fn measured() -> (PathBuf, bool) {
    if let Some(path) = std::env::var_os("PILLARBOX_RELEASE").map(PathBuf::from) {
        assert!(path.is_file(), "PILLARBOX_RELEASE is {}: no such file", path.display());
        return (path, true);
    }
    let debug = PathBuf::from(env!("CARGO_BIN_EXE_pillarbox"));
    if !cfg!(debug_assertions) {
        return (debug, true);
    }
    let release = debug.parent().unwrap().with_file_name("release").join("pillarbox");
    let sources = newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let is_fresh = |path: &Path| path.metadata().is_ok_and(|file| file.modified().unwrap() >= sources);
    if is_fresh(&release) {
        return (release, true);
    }
    println!(
        "note: no up-to-date release binary (cargo build --release): fewer messages, and no limits on numbers"
    );
    (debug, false)
}

fn newest(dir: &Path) -> SystemTime {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let times = entries.map(|entry| {
        if entry.path().is_dir() {
            newest(&entry.path())
        } else {
            entry.metadata().unwrap().modified().unwrap()
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Runs one of the tests that load the machine at a time, also across processes (nextest starts one for each test).
pub fn alone() -> File {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    lock
}

/// A command for a required program.
pub fn program(name: &str, package: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/local/sbin";
    let found = path.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    let found = found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"));
    Command::new(found)
}

/// The library of Debian's package `libfaketime` that makes a program believe in another wall clock.
pub fn faketime_library() -> PathBuf {
    let dirs = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("faketime"));
    let found = dirs.map(|dir| dir.join("libfaketimeMT.so.1")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("libfaketimeMT.so.1 is missing: apt-get install faketime"))
}

/// Copies a program. Another process writes it: one that another test has just forked would hold a file of this process
/// open for writing, and it could not be run.
pub fn copy_program(from: &Path, to: &Path) {
    run(Command::new("install").args(["-m", "755"]).arg(from).arg(to));
}

/// Runs a program to its end; panics unless it succeeds.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a Python script; returns its output.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let output = run(program("python3", "python3").arg("-c").arg(script).args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

pub fn wait_until(what: &str, patience: Duration, condition: impl FnMut() -> bool) {
    wait_until_or(patience, condition, || format!("not in {patience:?}: {what}"));
}

fn wait_until_or(patience: Duration, mut condition: impl FnMut() -> bool, complaint: impl Fn() -> String) {
    let end = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < end, "{}", complaint());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_open(port: u16) -> bool {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SOON);
    // After the greeting is read, the other side has nothing pending; DNS has no greeting.
    stream.is_ok_and(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = BufReader::new(stream).read_line(&mut String::new());
        true
    })
}

/// A port below those that the system gives to clients, free for TCP and UDP, which no other test gets.
pub fn free_port() -> u16 {
    const BLOCK: u16 = 50;
    /// The block of ports of this process that is in use, and how many of it are given away. Its socket is a claim, which
    /// other processes see: the names are those of the network.
    static CLAIM: Mutex<Vec<(UnixDatagram, u16, u16)>> = Mutex::new(Vec::new());
    let mut claims = CLAIM.lock().unwrap();
    loop {
        if let Some((_, first, given)) = claims.last_mut()
            && *given < BLOCK
        {
            let port = *first + *given;
            *given += 1;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return port;
            }
            continue;
        }
        let claim = |first: u16| {
            let name = UnixAddress::from_abstract_name(format!("pillarbox-ports-{first}")).unwrap();
            UnixDatagram::bind_addr(&name).ok().map(|socket| (socket, first, 0))
        };
        let next = claims.last().map_or(10_240, |(_, first, _)| first + BLOCK);
        let blocks = (next..30_000).step_by(BLOCK.into());
        claims.push(blocks.into_iter().find_map(claim).expect("a block of ports is free"));
    }
}

/// A TCP socket that no program inherits: one that another test starts would keep the connection open.
pub fn tcp_socket() -> rustix::io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

pub fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Pseudo-random numbers: the same in every run.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

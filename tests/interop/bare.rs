use super::client::Client;
use super::harness::{
    Daemon, LATER, Place, Random, Running, SOON, alone, copy_program, files, measured, program, run,
    wait_until,
};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// A user without an entry anywhere.
const UID: u32 = 64_242;
/// The memory of the whole box.
const MEMORY_OCTETS: u64 = 64 << 20;
/// What a bare box has beside pillarbox and its libraries.
const TOOLS: [&str; 4] = ["sh", "cat", "sleep", "ls"];

/// A root directory with busybox, pillarbox and the libraries of both, read-only; a tmpfs of 16 MiB as `/state`; no users,
/// no `/dev/log`, no name; a clock that the test sets; and a cgroup with 64 MiB.
struct BareBox {
    place: Place,
    group: Option<PathBuf>,
    inside: Option<Running>,
    binary: PathBuf,
}

impl BareBox {
    /// `None` unless root may make namespaces here, which is then said. `keys`: more of the configuration.
    fn new(keys: &str) -> Option<Self> {
        let Some(place) = Place::of_root() else {
            println!("bare boxes: skipped, needs root");
            return None;
        };
        let mut new = Self { place, group: None, inside: None, binary: measured().0 };
        new.furnish(keys);
        new.enter().then_some(new)
    }

    fn root(&self) -> PathBuf {
        self.place.path("root")
    }

    fn furnish(&self, keys: &str) {
        let root = self.root();
        for name in ["bin", "etc/pillarbox", "dev", "proc", "state", "run", "lib"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let busybox = PathBuf::from(program("busybox", "busybox").get_program());
        copy_program(&busybox, &root.join("bin/busybox"));
        for tool in TOOLS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).unwrap();
        }
        copy_program(&self.binary, &root.join("bin/pillarbox"));
        std::os::unix::fs::symlink("pillarbox", root.join("bin/sendmail")).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/clock.c");
        let clock = root.join("lib/clock.so");
        run(program("cc", "gcc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&clock).arg(source).arg("-ldl"));
        for file in [&busybox, &self.binary, &clock] {
            let needed = String::from_utf8(run(program("ldd", "libc-bin").arg(file)).stdout).unwrap();
            for library in needed.split_whitespace().filter(|word| word.starts_with('/')) {
                let copy = root.join(&library[1..]);
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                fs::copy(library, copy).unwrap();
            }
        }
        self.set_clock(0, 0);
        let (port, smarthost) = (self.place.port, self.place.sink_port);
        let keys = format!(
            "state = \"/state/pillarbox\"\ncontrol = \"/run/control.sock\"\nlocal.maildir = \"/state/mail/{{user}}\"\n\
             local.users = \"any\"\nrelay.smarthost = \"smtp://127.0.0.1:{smarthost}\"\nrelay.tls = \"off\"\n{keys}\n\
             [[listener]]\naddress = \"127.0.0.1:{port}\"\n"
        );
        fs::write(root.join("etc/pillarbox/pillarbox.toml"), keys).unwrap();
    }

    /// Makes the namespaces. The last of its processes holds them.
    fn enter(&mut self) -> bool {
        let root = self.root();
        let steps = "set -e\nmount --make-rprivate /\nmount --bind . .\ncd \"$PWD\"\n\
                     mount -t tmpfs -o size=16m,mode=1777 none state\nmount -t tmpfs -o size=1m,mode=1777 none run\n\
                     mount -t tmpfs -o size=64k none dev\nmknod -m 666 dev/null c 1 3\nmount -t proc none proc\n\
                     mount -o remount,bind,ro .\necho > /proc/sys/kernel/hostname\necho > state/ready\nexec sleep 600";
        let mut command = program("unshare", "util-linux");
        command.args(["--mount", "--uts", "sh", "-c", steps]).current_dir(&root).stderr(Stdio::null());
        let mut inside = Running::start(&mut command);
        let ready = PathBuf::from(format!("/proc/{}/root{}/state/ready", inside.child.id(), root.display()));
        let mut has_ended = false;
        wait_until("the namespaces", SOON, || {
            has_ended = inside.child.try_wait().unwrap().is_some();
            has_ended || ready.exists()
        });
        if has_ended {
            println!("bare boxes: skipped, no namespaces and mounts are allowed");
            return false;
        }
        self.inside = Some(inside);
        self.group = group();
        if self.group.is_none() {
            println!("bare boxes: no cgroup limits memory here; the address space is limited instead");
        }
        true
    }

    /// The seconds that are added to the wall clock and to the time since the start of the box.
    fn set_clock(&self, wall: i64, boot: i64) {
        let path = self.root().join("clock");
        let mut file = fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
        file.write_all(&[wall.to_ne_bytes(), boot.to_ne_bytes()].concat()).unwrap();
    }

    /// Takes /proc and the devices away.
    fn strip(&self) {
        let inside = self.inside.as_ref().unwrap().child.id().to_string();
        let mut command = program("nsenter", "util-linux");
        command.args(["--target", &inside, "--mount", "umount"]);
        run(command.args(["proc", "dev"].map(|name| self.root().join(name))));
    }

    /// Changes the configuration.
    fn change(&self, from: &str, to: &str) {
        let path = self.root().join("etc/pillarbox/pillarbox.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// A command of the box's shell, as a user by number.
    fn shell(&self, uid: u32, script: &str) -> Command {
        let inside = self.inside.as_ref().unwrap().child.id();
        let limit = match &self.group {
            Some(group) => format!("echo $$ > {}/cgroup.procs", group.display()),
            None => format!("ulimit -v {}", MEMORY_OCTETS / 1024),
        };
        let enter = format!(
            "{limit} && exec nsenter --target {inside} --mount --uts -- \
             chroot --userspec={uid}:{uid} {} /bin/sh -c \"export TEST_CLOCK=/clock LD_PRELOAD=/lib/clock.so; $1\"",
            self.root().display()
        );
        let log = fs::File::options().create(true).append(true).open(self.place.path("log")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn output(&self, uid: u32, script: &str) -> Output {
        self.shell(uid, script).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    fn serve(&self) -> Daemon {
        self.place.run(&mut self.shell(UID, "exec pillarbox serve"))
    }

    /// Gives an alert to sendmail, as cron would; returns its exit code.
    fn alert(&self, number: usize, to: &str) -> Option<i32> {
        let script = format!(
            "printf 'Subject: alert {number}\\n\\ndisk {number}\\nend of {number}\\n' | sendmail {to}"
        );
        self.shell(UID, &script).status().unwrap().code()
    }

    /// A directory of the box, as this process sees it.
    fn seen(&self, path: &str) -> PathBuf {
        let inside = self.inside.as_ref().unwrap().child.id();
        PathBuf::from(format!("/proc/{inside}/root{}{path}", self.root().display()))
    }

    fn queued(&self) -> usize {
        files(&self.seen("/state/pillarbox/queue")).len() + files(&self.seen("/state/pillarbox/drop")).len()
    }

    /// The most memory that the box has used.
    fn peak(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        let names = ["memory.peak", "memory.max_usage_in_bytes"];
        names.iter().find_map(|name| fs::read_to_string(group.join(name)).ok()?.trim().parse().ok())
    }
}

impl Drop for BareBox {
    fn drop(&mut self) {
        drop(self.inside.take());
        if let Some(group) = &self.group {
            // It is busy until its processes have ended.
            for _ in 0..100 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

/// A new cgroup with the box's memory, of either version; `None` where there can be none.
fn group() -> Option<PathBuf> {
    let name = format!("pillarbox-bare-{}-{}", std::process::id(), super::harness::free_port());
    for (hierarchy, limit) in [("", "memory.max"), ("/memory", "memory.limit_in_bytes")] {
        let group = Path::new("/sys/fs/cgroup").join(hierarchy.trim_start_matches('/')).join(&name);
        if fs::create_dir(&group).is_ok() {
            if group.join(limit).exists() && fs::write(group.join(limit), MEMORY_OCTETS.to_string()).is_ok() {
                return Some(group);
            }
            let _ = fs::remove_dir(&group);
        }
    }
    None
}

/// Steps of five minutes in a day.
const STEPS: usize = 288;
/// The steps at which the clock is set right, which the box begins in 1970; without a link; with a full disk.
const CLOCK_IS_SET: usize = 30;
const WITHOUT_LINK: std::ops::Range<usize> = 60..204;
const FULL: std::ops::Range<usize> = 120..132;

#[test]
fn a_day_of_alerts_on_a_bare_box_loses_nothing() {
    let Some(bare) = BareBox::new("") else { return };
    let mut random = Random(u64::from(std::process::id()) + 1);
    println!("random numbers begin with {}", random.0);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut sink = Some(bare.place.sink(&[]));
    let clock = |step: usize| {
        let seconds = 300 * step as i64;
        bare.set_clock(if step < CLOCK_IS_SET { 10 - since_1970 } else { 0 } + seconds, seconds);
    };
    clock(0);
    let mut daemon = Some(bare.serve());
    let (mut taken, mut refused) = (Vec::new(), 0);
    let filler = bare.seen("/state/filler");
    for step in 0..STEPS {
        clock(step);
        match step {
            _ if step == WITHOUT_LINK.start => sink = None,
            _ if step == WITHOUT_LINK.end => sink = Some(bare.place.sink(&[])),
            _ if step == FULL.start => fill(&filler),
            _ if step == FULL.end => fs::remove_file(&filler).unwrap(),
            _ => {}
        }
        match (&daemon, random.below(24)) {
            (Some(running), 0) => {
                running.signal("KILL");
                daemon = None;
            }
            (None, chance) if chance < 8 => daemon = Some(bare.serve()),
            _ => {}
        }
        match bare.alert(step, if step % 3 == 0 { "root" } else { "ops@far.test" }) {
            Some(0) => taken.push(step),
            Some(75) => refused += 1,
            other => panic!("sendmail ended with {other:?}:\n{}", bare.place.log()),
        }
        assert!(refused == 0 || step >= FULL.start, "refused at step {step}:\n{}", bare.place.log());
    }
    assert!(refused > 0, "the disk was full");
    let _daemon = daemon.unwrap_or_else(|| bare.serve());
    let mut step = STEPS;
    wait_until("the queue is empty", LATER, || {
        step += 1;
        clock(step);
        let _ = bare.output(UID, "pillarbox queue flush");
        bare.queued() == 0
    });
    println!("{} taken, {refused} refused, peak of memory {:?}", taken.len(), bare.peak());
    check(&bare, &taken);
    drop(sink);
}

/// Takes all room, so that no alert fits.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
}

/// Every alert that was taken is where it belongs.
fn check(bare: &BareBox, taken: &[usize]) {
    let local =
        files(&bare.seen("/state/mail/root/new")).iter().map(|path| fs::read(path).unwrap()).collect();
    // smtp-sink leaves an empty file, or a part of a message, where a client was killed.
    let is_whole = |file: &Vec<u8>| String::from_utf8_lossy(file).contains("\nend of ");
    let (local, relayed) =
        (numbers(local), numbers(bare.place.sunk().into_iter().filter(is_whole).collect()));
    for number in taken {
        let arrived = if number % 3 == 0 { &local } else { &relayed };
        assert!(arrived.contains_key(number), "alert {number} is lost:\n{}", bare.place.log());
    }
    let twice = local.values().chain(relayed.values()).filter(|count| **count > 1).count();
    println!("{twice} arrived more than once");
    assert!(
        bare.place.logged(&["event=panic"]).is_empty() && bare.place.logged(&["event=bounced"]).is_empty()
    );
}

/// The daemon starts, takes an alert and delivers it, as a user by number.
fn serves(bare: &BareBox, uid: u32) {
    let _sink = bare.place.sink(&[]);
    let daemon = bare.place.run(&mut bare.shell(uid, "exec pillarbox serve"));
    for (number, to) in ["root", "ops@far.test"].into_iter().enumerate() {
        assert_eq!(bare.alert(number, to), Some(0), "{}", bare.place.log());
    }
    daemon.signal("KILL");
    drop(daemon);
    assert_eq!(bare.alert(2, "ops@far.test"), Some(0), "{}", bare.place.log());
    let daemon = bare.place.run(&mut bare.shell(uid, "exec pillarbox serve"));
    wait_until("the alerts have left", SOON, || bare.queued() == 0);
    daemon.stop();
    check(bare, &[1, 2]);
    assert_eq!(files(&bare.seen("/state/mail/root/new")).len(), 1);
}

#[test]
fn a_box_without_proc_dev_and_syslog_serves() {
    // The log goes nowhere.
    let Some(bare) = BareBox::new("log.target = \"syslog\"\n") else { return };
    bare.strip();
    serves(&bare, UID);
}

#[test]
fn root_needs_no_entry_in_a_list_of_users() {
    let Some(bare) = BareBox::new("user = \"root\"\n") else { return };
    serves(&bare, 0);
    let check = bare.output(0, "pillarbox check");
    assert_eq!(check.status.code(), Some(0), "{check:?}");
}

#[test]
fn what_a_bare_box_lacks_is_said() {
    let Some(bare) = BareBox::new("") else { return };
    let said = |uid, script: &str, code, words: &str| {
        let output = bare.output(uid, script);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!((output.status.code(), text.contains(words)) == (Some(code), true), "{script}: {output:?}");
    };
    for command in ["serve", "check", "queue list"] {
        said(0, &format!("pillarbox {command}"), 78, "user \"pillarbox\" does not exist; make it");
    }
    bare.change("state = \"/state/pillarbox\"", "state = \"/var/lib/pillarbox\"");
    said(UID, "pillarbox serve", 73, "/var/lib/pillarbox: Read-only file system");
    said(UID, "pillarbox check", 78, "nobody can write to the file system of \"/\"");
    said(UID, "echo x | sendmail root", 75, "drop");
}

#[test]
fn a_crowd_on_a_box_with_64_mib_gets_answers() {
    let _alone = alone();
    let Some(bare) = BareBox::new("limits.connections = 100\nlimits.connections_per_ip = 100\n") else {
        return;
    };
    let mut daemon = bare.serve();
    let port = bare.place.port;
    let accepted: Vec<usize> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50).map(|first| scope.spawn(move || load(port, first))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    println!("{} of 300 accepted, peak of memory {:?}", accepted.len(), bare.peak());
    assert!((30..290).contains(&accepted.len()), "the disk has room for some");
    assert!(daemon.is_running(), "{}", bare.place.log());
    let mail = files(&bare.seen("/state/mail/root/new"));
    let mail = numbers(mail.iter().map(|path| fs::read(path).unwrap()).collect());
    assert!(accepted.iter().all(|number| mail.contains_key(number)), "{}", bare.place.log());
    daemon.stop();
}

/// Sends six messages of 200 KB in a session that stays open; returns the numbers of those that were taken.
fn load(port: u16, first: usize) -> Vec<usize> {
    let mut client = Client::hello(port).unwrap();
    let body = format!("{:98}\r\n", "x").repeat(2_000);
    let numbers = (0..6).map(|n| first + 50 * n);
    let taken = numbers.filter(|number| {
        let content = format!("Subject: alert {number}\r\n\r\n{body}end of {number}\r\n");
        let reply = client.send("", &["root"], content.as_bytes()).unwrap_or_else(|error| error.to_string());
        assert!(reply.starts_with("250") || reply.starts_with("452"), "{reply}");
        reply.starts_with("250")
    });
    taken.collect()
}

/// How often each alert is there, whole.
fn numbers(mail: Vec<Vec<u8>>) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for message in mail {
        let text = String::from_utf8(message).unwrap();
        let number = text.lines().find_map(|line| line.strip_prefix("end of ")?.trim().parse().ok());
        *counts.entry(number.unwrap_or_else(|| panic!("half a message: {text}"))).or_default() += 1;
    }
    counts
}

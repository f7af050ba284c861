//! The errors of sendmail when the daemon, its socket, the disk or the drop directory is broken; and that each message
//! with exit code 0 arrives once.

use super::harness::{Daemon, Place, Running, SOON, files, measured, program, run, wait_until};
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A daemon in a mount namespace of its own, with a small disk for its state and Maildirs.
struct Machine {
    place: Place,
    daemon: Option<Daemon>,
    /// Numbers of the messages with exit code 0, and without.
    safe: Vec<usize>,
    other: Vec<usize>,
}

impl Machine {
    fn start() -> Self {
        let place = Place::open();
        let state = place.path("state").display().to_string();
        let mail = format!("limits.free_space = 0\nlocal.maildir = \"{state}/mail/{{user}}\"\n");
        place.configure(&mail);
        fs::create_dir(&state).unwrap();
        let mut made = Self { place, daemon: None, safe: Vec::new(), other: Vec::new() };
        let mut unshare = program("unshare", "util-linux");
        let script = format!("mount -t tmpfs -o size=1m,mode=711 tmpfs {state} && exec \"$@\"");
        unshare.args(["-m", "sh", "-c", &script, "sh"]);
        made.serve(unshare);
        made
    }

    /// Starts the daemon by a command in front of it.
    fn serve(&mut self, mut before: Command) {
        let serve = self.place.command(&measured().0);
        before.arg(serve.get_program()).args(serve.get_args());
        let log = fs::File::options().create(true).append(true).open(self.place.path("log")).unwrap();
        self.daemon = Some(self.place.run(before.stderr(log)));
        let socket = self.place.path("run/control.sock");
        wait_until("the socket is open", SOON, || UnixStream::connect(&socket).is_ok());
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// A path below the state, as the daemon sees it.
    fn state(&self, name: &str) -> PathBuf {
        let state = self.place.path("state");
        PathBuf::from(format!("/proc/{}/root{}", self.daemon().pid(), state.display())).join(name)
    }

    /// A command within the namespace of a process that outlives the daemon.
    fn within(&self, keeper: u32) -> Command {
        let mut command = program("nsenter", "util-linux");
        command.args(["-m", "-t", &keeper.to_string()]);
        command
    }

    /// Sends a message; returns the exit code and the text of its errors.
    fn send(&mut self, keeper: u32) -> (Option<i32>, String) {
        let number = self.safe.len() + self.other.len();
        let mut command = self.within(keeper);
        command.arg(measured().0).arg("sendmail").arg("-C").arg(self.place.path("pillarbox.toml")).arg("u");
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("Number: {number}\n\nx\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let list = if output.status.success() { &mut self.safe } else { &mut self.other };
        list.push(number);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Checks that each safe message has arrived once.
    fn all_is_there(&self) {
        let new = self.state("mail/u/new");
        let left = || files(&self.state("drop")).len() + files(&self.state("queue")).len();
        wait_until("all has arrived", SOON, || files(&new).len() >= self.safe.len() && left() == 0);
        let mail: Vec<String> = files(&new).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        for number in &self.safe {
            let count = mail.iter().filter(|mail| mail.contains(&format!("\nNumber: {number}\n"))).count();
            assert_eq!(count, 1, "{number} of {:?}", self.safe);
        }
        assert_eq!(mail.len(), self.safe.len(), "{:?} were refused", self.other);
    }
}

#[test]
fn each_fault_has_its_exit_code_and_what_got_0_arrives_once() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut it = Machine::start();
    let keeping = Running::start(it.within(it.daemon().pid()).args(["sleep", "600"]));
    let keeper = keeping.child.id();
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    wait_until("the namespace is kept", SOON, || namespace(keeper) == namespace(it.daemon().pid()));
    let fine = (Some(0), String::new());
    assert_eq!(it.send(keeper), fine, "all is well");
    assert_eq!(files(&it.state("mail/u/new")).len(), 1, "it is there at once");

    // The disk is full, for the daemon and for the drop directory.
    let (fill, state) = (it.state("fill"), it.place.path("state").display().to_string());
    assert!(fs::write(&fill, vec![0; 2 << 20]).is_err());
    let (code, reported) = it.send(keeper);
    assert!(code == Some(75) && reported.contains("the disk is full"), "{reported}");
    assert!(
        reported.contains("and no daemon takes it") && reported.contains("no space left on the disk"),
        "{reported}"
    );
    fs::remove_file(fill).unwrap();
    assert_eq!(it.send(keeper), fine, "there is room again");

    // The disk is read-only.
    let remount = |it: &Machine, how: &str| {
        run(it.within(keeper).args(["mount", "-o", &format!("remount,{how}"), &state]))
    };
    remount(&it, "ro");
    let (code, reported) = it.send(keeper);
    assert!(code == Some(75) && reported.contains("/state/drop: Read-only file system"), "{reported}");
    assert!(reported.contains("no daemon takes it"), "{reported}");
    remount(&it, "rw");
    assert_eq!(it.send(keeper), fine, "it can be written to again");

    // The drop directory is missing: the daemon takes the message.
    fs::remove_dir(it.state("drop")).unwrap();
    assert_eq!(it.send(keeper), fine);

    // The socket is missing, too.
    let socket = it.place.path("run/control.sock");
    let aside = it.place.path("run/aside");
    fs::rename(&socket, &aside).unwrap();
    let (code, reported) = it.send(keeper);
    assert!(code == Some(75) && reported.contains("there is no drop directory"), "{reported}");
    assert!(reported.contains("control.sock: No such file or directory"), "{reported}");

    // The daemon was killed and has left its socket.
    fs::rename(&aside, &socket).unwrap();
    it.daemon().signal("KILL");
    it.daemon.take().unwrap().wait();
    let (code, reported) = it.send(keeper);
    assert!(code == Some(75) && reported.contains("control.sock: Connection refused"), "{reported}");
    it.serve(it.within(keeper));
    it.daemon().signal("KILL");
    it.daemon.take().unwrap().wait();
    assert_eq!(it.send(keeper), fine, "the drop directory is back");
    it.serve(it.within(keeper));

    // The daemon hangs; when it wakes up, it must not take the message.
    it.daemon().signal("STOP");
    assert_eq!(it.send(keeper), fine);
    it.daemon().signal("CONT");

    // Only the socket is missing.
    fs::remove_file(&socket).unwrap();
    assert_eq!(it.send(keeper), fine);
    it.all_is_there();
    assert_eq!((it.safe.len(), it.other.len()), (7, 4));
    it.daemon.take().unwrap().stop();
}

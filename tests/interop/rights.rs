use super::client::send;
use super::harness::{Place, SOON, files, program, run, wait_until};
use super::service::{Supervisor, start_and_hear_ready};
use std::fs::{File, Permissions, create_dir, metadata, read_to_string, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
/// A user that every system has, and that owns nothing.
const USER: &str = "nobody";

/// What `id` says about the user.
fn id(option: &str) -> Vec<u32> {
    let output = run(program("id", "coreutils").args([option, USER]));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// A place that the user can pass through, with a directory for Maildirs that is the user's; `None` if these tests are not
/// run by root, who alone can become somebody else.
fn place_of_user() -> Option<Place> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let place = Place::below(&std::env::temp_dir());
    set_permissions(&place.dir, Permissions::from_mode(0o755)).unwrap();
    create_dir(place.path("mail")).unwrap();
    chown(place.path("mail"), Some(id("-u")[0]), Some(id("-g")[0])).unwrap();
    Some(place)
}

/// The numbers of a line of /proc/PID/status, of each thread.
fn of_threads(pid: u32, name: &str, radix: u32) -> Vec<Vec<u64>> {
    let tasks = files(Path::new(&format!("/proc/{pid}/task")));
    assert!(tasks.len() > 1, "the listener and the forwarder run");
    // The thread of a connection may have ended in the meantime.
    let statuses = tasks.iter().filter_map(|task| read_to_string(task.join("status")).ok());
    let numbers = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().map(|word| u64::from_str_radix(word, radix).unwrap()).collect()
    };
    statuses.map(numbers).collect()
}

fn assert_of_all_threads(pid: u32, name: &str, radix: u32, expected: &[u64]) {
    for numbers in of_threads(pid, name, radix) {
        assert_eq!(numbers, expected, "{name}");
    }
}

#[test]
fn root_becomes_the_user_for_good_before_the_first_connection() {
    let Some(place) = place_of_user() else { return };
    place.configure(&format!("user = \"{USER}\"\n"));
    let supervisor = Supervisor::listen(&place.path("notify"));
    let serve = place.command(Path::new(env!("CARGO_BIN_EXE_pillarbox")));
    let mut command = program("sh", "dash");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(serve.get_program()).args(serve.get_args());
    command.stderr(File::create(place.path("log")).unwrap());
    let daemon = start_and_hear_ready(&mut command, &supervisor);
    let pid = daemon.pid();
    // Others must be able to pass through it to the drop directory, whatever root's umask is.
    assert_eq!(metadata(place.path("state")).unwrap().mode() & 0o7777, 0o711);
    // Real, effective, saved, and that of files.
    assert_of_all_threads(pid, "Uid", 10, &[u64::from(id("-u")[0]); 4]);
    assert_of_all_threads(pid, "Gid", 10, &[u64::from(id("-g")[0]); 4]);
    let mut groups: Vec<u64> = id("-G").into_iter().map(u64::from).collect();
    groups.sort_unstable();
    assert_of_all_threads(pid, "Groups", 10, &groups);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_of_all_threads(pid, set, 16, &[0]);
    }
    assert_of_all_threads(pid, "NoNewPrivs", 10, &[1]);
    assert_of_all_threads(pid, "Umask", 8, &[0o077]);
    // A process whose memory nobody may look into belongs to root there.
    assert_eq!(metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);

    send(place.port, "s@y.test", "u@box.test", MESSAGE);
    let file = &files(&place.path("mail/u/new"))[0];
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (id("-u")[0], 0o600));
    // The configuration can be read again, and the log still takes lines.
    daemon.signal("HUP");
    place.wait_for_log(&["configuration read again"]);
    daemon.stop();
}

#[test]
fn a_user_other_than_root_gives_up_what_the_service_manager_gave() {
    let Some(place) = place_of_user() else { return };
    let (uid, gid) = (id("-u")[0], id("-g")[0]);
    place.configure("");
    chown(&place.dir, Some(uid), Some(gid)).unwrap();
    let mut command = program("setpriv", "util-linux");
    command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]);
    command.args(["--inh-caps=+net_bind_service,+chown", "--ambient-caps=+net_bind_service,+chown"]);
    // Where the build lies, the user may have no way to it.
    let binary = place.path("pillarbox");
    std::fs::copy(env!("CARGO_BIN_EXE_pillarbox"), &binary).unwrap();
    let serve = place.command(&binary);
    command.arg(serve.get_program()).args(serve.get_args());
    command.stderr(File::create(place.path("log")).unwrap());
    let daemon = place.run(&mut command);
    assert_of_all_threads(daemon.pid(), "Uid", 10, &[u64::from(uid); 4]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_of_all_threads(daemon.pid(), set, 16, &[0]);
    }
    assert_of_all_threads(daemon.pid(), "NoNewPrivs", 10, &[1]);
    assert_of_all_threads(daemon.pid(), "Umask", 8, &[0o077]);
    send(place.port, "s@y.test", "u@box.test", MESSAGE);
    daemon.stop();
}

#[test]
fn a_user_that_is_missing_is_told_with_the_command_that_makes_it() {
    let Some(place) = place_of_user() else { return };
    place.configure("user = \"nobody-by-this-name\"\n");
    for command in ["check", "serve"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        let output = program.arg("-c").arg(place.path("pillarbox.toml")).arg(command).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{command}: {said}");
        let advice = "useradd --system --user-group --no-create-home nobody-by-this-name";
        assert!(said.contains(advice), "{command}: {said}");
    }
    assert!(!place.path("state").exists(), "nothing is made for a user that is not there");
}

#[test]
fn what_the_user_could_not_read_again_is_told_at_start() {
    let Some(place) = place_of_user() else { return };
    let config = place.configure(&format!("user = \"{USER}\"\n"));
    set_permissions(&config, Permissions::from_mode(0o600)).unwrap();
    let daemon = place.serve();
    let line = place.wait_for_log(&["event=notice", "can't read"]);
    assert!(line.contains("pillarbox.toml") && line.contains(USER), "{line}");
    daemon.signal("HUP");
    place.wait_for_log(&["the old one stays"]);
    send(place.port, "s@y.test", "u@box.test", MESSAGE);
    wait_until("the mail is there", SOON, || place.mail("u").len() == 1);
    daemon.stop();
}

use super::client::send;
use super::harness::{Place, SOON, copy_program, files, program, run, signal, wait_until};
use super::service::{Supervisor, start_and_hear_ready};
use std::fs::{File, Permissions, metadata, read_to_string, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
/// A user that exists on every system and owns nothing.
const USER: &str = "nobody";

/// The output of `id` for the user.
fn id(option: &str) -> Vec<u32> {
    let output = run(program("id", "coreutils").args([option, USER]));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// A place of root, with a directory for Maildirs that the user owns; `None` unless root runs these tests, because only root
/// can become another user.
fn place_of_user() -> Option<Place> {
    let place = Place::of_root()?;
    chown(place.path("mail"), Some(id("-u")[0]), Some(id("-g")[0])).unwrap();
    Some(place)
}

/// The numbers of a line of /proc/PID/status, of each thread.
fn of_threads(pid: u32, name: &str, radix: u32) -> Vec<Vec<u64>> {
    let tasks = || files(Path::new(&format!("/proc/{pid}/task")));
    wait_until("the listener and the forwarder run", SOON, || tasks().len() > 1);
    let tasks = tasks();
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
    // Other users must reach the drop directory with any umask of root.
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
    // The files of a process that cannot be traced belong to root there.
    assert_eq!(metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);

    send(place.port, "s@y.test", "u@box.test", MESSAGE);
    let file = &files(&place.path("mail/u/new"))[0];
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (id("-u")[0], 0o600));
    // The configuration can be read again, and the log still works.
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
    // The user may be unable to reach the directory of the build.
    let binary = place.path("pillarbox");
    copy_program(Path::new(env!("CARGO_BIN_EXE_pillarbox")), &binary);
    let serve = place.command(&binary);
    command.arg(serve.get_program()).args(serve.get_args());
    command.stderr(File::create(place.path("log")).unwrap());
    let daemon = place.run(&mut command);
    place.wait_for_log(&["event=notice", "ready"]);
    // Root's, because nobody of the same user may trace it.
    assert_eq!(metadata(format!("/proc/{}/mem", daemon.pid())).unwrap().uid(), 0);
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

/// Another user that exists on every system and has no rights.
const RECIPIENT: &str = "daemon";

/// A place where users of the system have Maildirs, in a directory of root.
fn place_of_system_users(more: &str) -> Option<(Place, u32)> {
    let place = place_of_user()?;
    chown(place.path("mail"), Some(0), Some(0)).unwrap();
    place.configure(&format!("user = \"{USER}\"\nlocal.users = \"system\"\n{more}"));
    let output = run(program("id", "coreutils").args(["-u", RECIPIENT]));
    let uid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    Some((place, uid))
}

/// The delivery agent of a daemon.
fn agent_of(pid: u32) -> u32 {
    let output = run(program("pgrep", "procps").args(["-P", &pid.to_string(), "pillarbox-mda"]));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn mail_of_system_users_becomes_theirs() {
    let Some((place, uid)) = place_of_system_users("") else { return };
    let daemon = place.serve();
    let agent = agent_of(daemon.pid());
    let status = read_to_string(format!("/proc/{agent}/status")).unwrap();
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // SETGID and SETUID in effect; CHOWN and DAC_OVERRIDE where they are asked for.
    assert_eq!(
        [of("CapPrm:"), of("CapEff:"), of("CapBnd:"), of("NoNewPrivs:")],
        ["00000000000000c3", "00000000000000c0", "0000000000000000", "1"]
    );
    assert_eq!(files(Path::new(&format!("/proc/{agent}/fd"))).len(), 4, "standard ones and its socket");
    let large = [b"Subject: large\r\n\r\n".as_slice(), &b"x".repeat(70), b"\r\n"].concat().repeat(2000);
    for content in [MESSAGE, &large] {
        send(place.port, "s@y.test", &format!("{RECIPIENT}@box.test"), content);
    }
    let maildir = place.path("mail").join(RECIPIENT);
    for (path, mode) in ["", "new", "cur", "tmp"]
        .iter()
        .map(|name| (maildir.join(name), 0o700))
        .chain(files(&maildir.join("new")).into_iter().map(|file| (file, 0o600)))
    {
        let metadata = metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (uid, mode), "{path:?}");
    }
    assert_eq!(files(&maildir.join("new")).len(), 2);
    assert_eq!(files(&maildir.join("tmp")).len(), 0);

    // The worker still has the identity of its last user, and no right over files of others.
    let workers = files(Path::new(&format!("/proc/{agent}/task")));
    assert_eq!(workers.len(), 2, "one errand at a time needs one worker");
    let worker = read_to_string(workers[1].join("status")).unwrap();
    let of = |name: &str| worker.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(of("Uid:").split_whitespace().collect::<Vec<_>>(), ["0", "0", "0", &uid.to_string()]);
    assert_eq!(of("CapEff:"), "00000000000000c0");

    // Nothing is written through a user's link, and the mail waits.
    std::fs::remove_dir_all(maildir.join("new")).unwrap();
    std::os::unix::fs::symlink("/etc", maildir.join("new")).unwrap();
    let mut client = super::client::Client::hello(place.port).unwrap();
    let reply = client.send("s@y.test", &[&format!("{RECIPIENT}@box.test")], MESSAGE).unwrap();
    assert!(reply.starts_with("451 4.3.0"), "{reply}");

    // The agent takes the new configuration, too.
    place.configure(&format!(
        "user = \"{USER}\"\nlocal.users = \"system\"\nlocal.maildir = \"{}/mail/more/{{user}}\"\n",
        place.dir.display()
    ));
    daemon.signal("HUP");
    place.wait_for_log(&["configuration read again"]);
    send(place.port, "s@y.test", &format!("{RECIPIENT}@box.test"), MESSAGE);
    assert_eq!(files(&place.path("mail/more").join(RECIPIENT).join("new")).len(), 1);

    daemon.signal("KILL");
    wait_until("the agent ends with the daemon", SOON, || !Path::new(&format!("/proc/{agent}")).exists());
}

/// The rights over users' files are gone by then.
/// As Debian has them: in a directory of root's and the group mail, which may write there.
#[test]
fn an_mbox_of_a_system_user_is_appended_to_and_stays_theirs() {
    let Some((place, uid)) = place_of_system_users("rewrite.repair = false\n") else { return };
    let (directory, mbox) = (place.path("mail"), place.path("mail").join(RECIPIENT));
    chown(&directory, Some(0), Some(8)).unwrap();
    set_permissions(&directory, Permissions::from_mode(0o2775)).unwrap();
    std::fs::write(&mbox, "From x\n\nold\n\n").unwrap();
    let give = |uid: u32, mode: u32| {
        chown(&mbox, Some(uid), Some(8)).unwrap();
        set_permissions(&mbox, Permissions::from_mode(mode)).unwrap();
    };
    give(uid, 0o660);
    let daemon = place.serve();
    let agent = agent_of(daemon.pid());
    let large = [b"Subject: large\r\n\r\n".as_slice(), &b"From x\r\n".repeat(20_000)].concat();
    let to = format!("{RECIPIENT}@box.test");
    for content in [MESSAGE, &large] {
        send(place.port, "s@y.test", &to, content);
    }
    let text = read_to_string(&mbox).unwrap();
    let texts: Vec<&str> = text.split("\nFrom s@y.test ").collect();
    let ends = [3, texts[0].matches("old").count(), texts[2].matches("\n>From x").count()];
    assert_eq!((texts.len(), ends[1..].to_vec()), (ends[0], vec![1, 20_000]));
    assert!(texts[1].ends_with("\nSubject: x\n\nx\n"), "{}", texts[1]);
    let now = metadata(&mbox).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (uid, 8, 0o660));
    assert_eq!(files(&directory), std::slice::from_ref(&mbox), "no lock is left");
    assert_eq!(files(Path::new(&format!("/proc/{agent}/fd"))).len(), 4, "nor a file open");

    let check = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        let output = program.arg("-c").arg(place.path("pillarbox.toml")).arg("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(), (Some(0), String::new()));
    let before = read_to_string(&mbox).unwrap();
    for (owner, mode, reason) in [(0, 0o666, "belongs to another user"), (uid, 0o440, "Permission denied")] {
        give(owner, mode);
        let mut client = super::client::Client::hello(place.port).unwrap();
        let reply = client.send("s@y.test", &[&to], MESSAGE).unwrap();
        assert!(reply.starts_with("451 4.3.0"), "{reply}");
        place.wait_for_log(&[reason, RECIPIENT]);
        let (code, said) = check();
        assert!(code == Some(78) && said.contains(reason) && said.contains(RECIPIENT), "{said}");
    }
    assert!(read_to_string(&mbox).unwrap() == before);
    // The daemon's user can pass a message to the agent, but no command.
    give(uid, 0o600);
    send(place.port, "", &to, b"From: x\r\n\r\nlast\r\n");
    assert!(read_to_string(&mbox).unwrap()[before.len()..].starts_with("From MAILER-DAEMON "));
    daemon.stop();
}

#[test]
fn a_daemon_without_an_agent_does_not_begin_to_write_for_system_users() {
    let Some((place, _)) = place_of_system_users("") else { return };
    let system = format!("user = \"{USER}\"\nlocal.users = \"system\"\n");
    place.configure(&system.replace("\"system\"", &format!("[\"{RECIPIENT}\"]")));
    chown(place.path("mail"), Some(id("-u")[0]), Some(id("-g")[0])).unwrap();
    let daemon = place.serve();
    place.configure(&system);
    daemon.signal("HUP");
    place.wait_for_log(&["the old one stays", "needs a restart"]);
    send(place.port, "s@y.test", &format!("{RECIPIENT}@box.test"), MESSAGE);
    daemon.stop();
}

#[test]
fn the_daemon_ends_without_its_agent_so_that_both_are_started_again() {
    let Some((place, _)) = place_of_system_users("") else { return };
    let mut daemon = place.serve();
    signal(agent_of(daemon.pid()), "KILL");
    assert_eq!(daemon.wait().code(), Some(75));
    place.wait_for_log(&["event=trouble", "the delivery agent has ended"]);
    let mut status = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    status.arg("-c").arg(place.path("pillarbox.toml")).args(["status", "--check"]);
    assert_eq!(status.output().unwrap().status.code(), Some(2), "critical");
}

/// Root has put a directory of its own there, or the user has moved one there.
#[test]
fn mail_is_written_with_the_rights_of_its_user_alone() {
    let Some((place, uid)) = place_of_system_users("") else { return };
    let daemon = place.serve();
    let to = format!("{RECIPIENT}@box.test");
    send(place.port, "s@y.test", &to, MESSAGE);
    let new = place.path("mail").join(RECIPIENT).join("new");
    for (owner, mode, reply) in
        [(0, 0o700, "451 4.3.0"), (uid, 0o500, "451 4.3.0"), (uid, 0o700, "250 2.0.0")]
    {
        chown(&new, Some(owner), Some(owner)).unwrap();
        set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        let mut client = super::client::Client::hello(place.port).unwrap();
        let said = client.send("s@y.test", &[&to], MESSAGE).unwrap();
        assert!(said.starts_with(reply), "{owner} {mode:o}: {said}");
    }
    assert_eq!(files(&new).len(), 2);
    daemon.stop();
}

/// The message, then its name, then the directory, then 250.
#[test]
fn a_message_of_a_system_user_is_safe_before_its_250() {
    let Some((place, _)) = place_of_system_users("") else { return };
    let trace = place.path("trace");
    let mut strace = program("strace", "strace");
    strace.args(["-f", "-y", "-qq", "-s", "60", "-e", "trace=fsync,fdatasync,syncfs,renameat2,write,sendto"]);
    strace.arg("-o").arg(&trace).arg(env!("CARGO_BIN_EXE_pillarbox")).arg("-c");
    strace.arg(place.path("pillarbox.toml")).arg("serve");
    let mut daemon = place.run(std::os::unix::process::CommandExt::process_group(&mut strace, 0));
    for _ in 0..2 {
        send(place.port, "s@y.test", &format!("{RECIPIENT}@box.test"), MESSAGE);
    }
    let pid = daemon.pid();
    let served = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    signal(served.trim().parse().unwrap(), "TERM");
    daemon.wait();
    let text = read_to_string(trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let last = |what: &str| lines.iter().rposition(|line| line.contains(what)).unwrap();
    // All of these are calls of one worker, one after the other.
    let renamed = last("renameat2(");
    let worker = lines[renamed].split_whitespace().next().unwrap();
    let of_worker = |&i: &usize| lines[i].starts_with(worker) && lines[i].contains("sync");
    let before = (0..renamed).rev().find(of_worker).unwrap();
    let after: Vec<usize> = (renamed..lines.len()).filter(of_worker).collect();
    let maildir = place.path("mail").join(RECIPIENT);
    assert!(lines[before].contains(&format!("{}/tmp/", maildir.display())), "{}", lines[before]);
    assert!(lines[after[0]].contains(&format!("{}/new>", maildir.display())), "{}", lines[after[0]]);
    let syncs = after.iter().filter(|&&i| lines[i].contains("fsync(")).count();
    assert!(syncs == 1 && lines[after[after.len() - 1]].ends_with("= 0"), "{after:?}");
    assert!(after[after.len() - 1] < last("\"250 2.0.0 Ok"), "250 comes last");
}

/// strace delays each sync of one user's directory, as a file system does that hangs.
#[test]
fn a_mailbox_that_hangs_holds_back_nobody_else() {
    let Some((place, _)) = place_of_system_users("") else { return };
    let slow = place.path("mail").join(RECIPIENT).join("new");
    let mut strace = program("strace", "strace");
    strace.args(["-f", "-qq", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=60000000"]);
    strace.arg("-P").arg(&slow).arg("-o").arg(place.path("trace"));
    strace.arg(env!("CARGO_BIN_EXE_pillarbox")).arg("-c").arg(place.path("pillarbox.toml")).arg("serve");
    let daemon = place.run(std::os::unix::process::CommandExt::process_group(&mut strace, 0));
    let port = place.port;
    let hanging = std::thread::spawn(move || {
        let mut client = super::client::Client::hello(port)?;
        client.send("s@y.test", &[&format!("{RECIPIENT}@box.test")], MESSAGE)
    });
    wait_until("the slow Maildir is being made", SOON, || slow.exists());
    for _ in 0..3 {
        send(port, "s@y.test", "bin@box.test", MESSAGE);
    }
    assert!(!hanging.is_finished(), "the others were served while it hung");
    let pid = daemon.pid();
    let served = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    signal(served.trim().parse().unwrap(), "KILL");
    assert!(hanging.join().unwrap().is_err());
}

#[test]
fn a_pass_without_a_daemon_gives_mail_to_its_users() {
    let Some((place, uid)) = place_of_system_users("") else { return };
    let pillarbox = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        command.arg("-c").arg(place.path("pillarbox.toml")).args(arguments);
        command
    };
    assert!(pillarbox(&["queue", "run"]).output().unwrap().status.success(), "makes the drop directory");
    let message = place.write("message", "Subject: x\n\nx\n");
    let mut command = pillarbox(&["sendmail", RECIPIENT]);
    assert!(command.stdin(File::open(message).unwrap()).output().unwrap().status.success());
    let output = pillarbox(&["queue", "run"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = &files(&place.path("mail").join(RECIPIENT).join("new"))[0];
    assert_eq!(file.metadata().unwrap().uid(), uid);
}

use super::client::{Client, send};
use super::harness::{Place, SOON, program, run, wait_until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{Permissions, read_to_string, remove_file, set_permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
const PROGRAM: &str = env!("CARGO_BIN_EXE_pillarbox");

fn fifo(path: &Path) {
    let _ = remove_file(path);
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Runs pillarbox to its end, which must come soon: what opens a pipe waits for its other end for ever.
fn pillarbox(place: &Place, arguments: &[&str]) -> (i32, String) {
    let mut command = program("timeout", "coreutils");
    command.args(["--signal=KILL", "25", PROGRAM, "-c"]).arg(place.path("pillarbox.toml")).args(arguments);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn a_pipe_in_place_of_any_file_hangs_no_command() {
    let place = Place::new();
    let d = place.dir.display();
    fifo(&place.path("pipe"));
    place.write("includes", &format!("team: :include:{d}/pipe\n"));
    place.write("chain", "none\n");
    let submission =
        format!("[[listener]]\naddress = \"127.0.0.1:{}\"\nkind = \"submission\"\n", place.dns_port);
    for (keys, is_fatal) in [
        (format!("local.aliases = \"{d}/pipe\"\n"), false),
        (format!("local.aliases = \"{d}/includes\"\n"), false),
        (format!("relay.ca_file = \"{d}/pipe\"\n"), false),
        (format!("auth.users = \"{d}/pipe\"\n{submission}"), false),
        (
            format!(
                "relay.smarthost = \"smtps://127.0.0.1:1\"\nrelay.username = \"joe\"\nrelay.password_file = \"{d}/pipe\"\n"
            ),
            false,
        ),
        (format!("tls.certificate = \"{d}/pipe\"\ntls.key = \"{d}/pipe\"\n"), false),
        (format!("tls.certificate = \"{d}/chain\"\ntls.key = \"{d}/pipe\"\n"), false),
        (format!("[[dkim]]\ndomain = \"box.test\"\nselector = \"s\"\nkey = \"{d}/pipe\"\n"), false),
        (format!("tls.certificate = \"{d}/pipe\"\ntls.key = \"{d}/chain\"\n"), true),
    ] {
        set_permissions(place.path("chain"), Permissions::from_mode(0o600)).unwrap();
        place.configure(&keys);
        let (code, said) = pillarbox(&place, &["check"]);
        assert!(code == 78 && said.contains("no file"), "{keys}: {code} {said}");
        if is_fatal {
            let (code, said) = pillarbox(&place, &["serve"]);
            assert!(code == 78 && said.contains("no file"), "{keys}: {code} {said}");
        } else {
            let daemon = place.serve();
            // Without its aliases a local name has no meaning.
            if !keys.contains("aliases = ") || keys.contains("includes") {
                send(place.port, "s@y.test", "u@box.test", MESSAGE);
            }
            daemon.signal("HUP");
            place.wait_for_log(&["configuration read again"]);
            daemon.stop();
        }
        let (code, said) = pillarbox(&place, &["queue", "run"]);
        assert_eq!(code, 0, "{keys}: {said}");
        let _ = remove_file(place.path("log"));
    }
    fifo(&place.path("pillarbox.toml"));
    for command in ["check", "serve", "queue", "status"] {
        let (code, said) = pillarbox(&place, &[command]);
        assert!(code == 78 && said.contains("no file"), "{command}: {code} {said}");
    }
}

#[test]
fn a_pipe_that_is_put_in_place_while_the_daemon_runs_hangs_no_thread() {
    let place = Place::new();
    let d = place.dir.display();
    let state = ["clock", "statistics", "digest/windows", "sts/far.test", "tls/self-signed.pem"];
    let files = ["aliases", "team", "password"];
    for name in ["", "digest", "sts", "tls"] {
        std::fs::create_dir_all(place.path("state").join(name)).unwrap();
    }
    state.iter().for_each(|name| fifo(&place.path("state").join(name)));
    place.write("aliases", &format!("team: :include:{d}/team\n"));
    place.write("team", "u\n");
    place.configure(&format!(
        "local.aliases = \"{d}/aliases\"\nrelay.password_file = \"{d}/password\"\nrelay.username = \"joe\"\n\
         relay.smarthost = \"smtps://127.0.0.1:{}\"\n",
        place.sink_port
    ));
    // Those of the state may be there at the start.
    let daemon = place.serve();
    send(place.port, "s@y.test", "team@box.test", MESSAGE);
    files.iter().for_each(|name| fifo(&place.path(name)));
    let mut client = Client::hello(place.port).unwrap();
    let reply = client.send("s@y.test", &["team@box.test"], MESSAGE).unwrap_err().to_string();
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    remove_file(place.path("aliases")).unwrap();
    place.write("aliases", &format!("team: :include:{d}/team\n"));
    let mut client = Client::hello(place.port).unwrap();
    let reply = client.send("s@y.test", &["team@box.test"], MESSAGE).unwrap_err().to_string();
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    place.wait_for_log(&["event=paused", "no file"]);
    daemon.stop();
}

/// Root and the daemon's user, `nobody`, on a system where `daemon` owns a list.
fn place_of_a_list(text: &str) -> Option<Place> {
    if !rustix::process::geteuid().is_root() {
        return None; // Only root can become another user.
    }
    let place = Place::open();
    std::fs::create_dir_all(place.path("mail")).unwrap();
    let number = |option: &str, user: &str| -> u32 {
        let output = run(program("id", "coreutils").args([option, user]));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    chown(place.path("mail"), Some(number("-u", "nobody")), Some(number("-g", "nobody"))).unwrap();
    let list = place.write("joes-list", text);
    chown(&list, Some(number("-u", "daemon")), None).unwrap();
    set_permissions(&list, Permissions::from_mode(0o644)).unwrap();
    let d = place.dir.display();
    place.write("own-aliases", &format!("team: :include:{d}/joes-list\n"));
    place.configure(&format!("user = \"nobody\"\nlocal.aliases = \"{d}/own-aliases\"\n"));
    Some(place)
}

#[test]
fn a_user_s_list_is_told_by_number_and_leads_nowhere_else() {
    let Some(place) = place_of_a_list("u\nroot hush hush\n:include:/etc/shadow\n") else { return };
    // No user makes the check fail.
    let (code, said) = pillarbox(&place, &["check"]);
    assert_eq!(code, 0, "{said}");
    for number in [2, 3] {
        let is_told =
            |line: &str| line.starts_with("warning: ") && line.contains(&format!("joes-list:{number}:1: "));
        assert!(said.lines().any(is_told), "{said}");
    }
    assert!(!said.contains("hush") && !said.contains("shadow"), "{said}");
    let daemon = place.serve();
    send(place.port, "s@y.test", "team@box.test", MESSAGE);
    assert_eq!(place.mail("u").len(), 1, "the good line counts");
    place.wait_for_log(&["joes-list:2:1:"]);
    assert!(!place.log().contains("hush") && !place.log().contains("shadow"), "{}", place.log());
    // The daemon may read this file, and the user who owns the link may not.
    let secret = place.write("secret", "hush@far.test\n");
    let owner = place.path("joes-list").metadata().unwrap().uid();
    remove_file(place.path("joes-list")).unwrap();
    symlink(&secret, place.path("joes-list")).unwrap();
    std::os::unix::fs::lchown(place.path("joes-list"), Some(owner), None).unwrap();
    let mut client = Client::hello(place.port).unwrap();
    let reply = client.send("s@y.test", &["team@box.test"], MESSAGE).unwrap_err().to_string();
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert!(!place.log().contains("hush"), "{}", place.log());
    daemon.stop();
}

#[test]
fn nothing_of_a_user_s_is_opened_with_root_s_rights() {
    let Some(place) = place_of_a_list("u\n") else { return };
    let traced = |arguments: &[&str]| -> Command {
        let mut command: Command = program("strace", "strace");
        let trace = place.path("trace");
        let _ = remove_file(&trace);
        command.args(["-D", "-f", "-e", "trace=openat,open,setuid,setresuid", "-o"]).arg(trace);
        command.arg(PROGRAM).arg("-c").arg(place.path("pillarbox.toml")).args(arguments);
        command
    };
    let order = |command: &str| {
        let trace = read_to_string(place.path("trace")).unwrap();
        let first = |part: &str| {
            let found = trace.lines().position(|line| line.contains(part));
            found.unwrap_or_else(|| panic!("{command}: no {part} in\n{trace}"))
        };
        let became = first("setuid(").min(trace.lines().count());
        for name in ["own-aliases", "joes-list"] {
            assert!(
                first(&format!("{name}\"")) > became,
                "{command}: {name} before the change of user\n{trace}"
            );
        }
    };
    assert!(run(&mut traced(&["check"])).status.success());
    order("check");
    let mut serve = traced(&["serve"]);
    serve.stderr(std::fs::File::create(place.path("log")).unwrap());
    let daemon = place.run(&mut serve);
    wait_until("it is ready", SOON, || place.log().contains("ready"));
    daemon.stop();
    order("serve");
    let _ = traced(&["probe", "team@box.test"]).output().unwrap();
    order("probe");
}

#[test]
fn nobody_of_the_same_user_reads_the_memory_of_a_command_that_holds_secrets() {
    let Some(place) = place_of_a_list("u\n") else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let more = format!("relay.smarthost = \"smtp://127.0.0.1:{port}\"\n");
    let ordinary = place.path("list").with_file_name("joes-list").metadata().unwrap().uid();
    let binary = place.path("pillarbox");
    std::fs::copy(PROGRAM, &binary).unwrap();
    // Started as root, and as an ordinary user.
    for (starter, argument) in [(0, "probe"), (ordinary, "probe"), (ordinary, "serve")] {
        place.configure(&format!("user = \"nobody\"\n{more}"));
        let mut command = program("setpriv", "util-linux");
        command.args([&format!("--reuid={starter}"), "--clear-groups"]);
        chown(&place.dir, Some(starter), None).unwrap();
        let _ = std::fs::remove_dir_all(place.path("state"));
        command.arg(&binary).arg("-c").arg(place.path("pillarbox.toml")).arg(argument);
        if argument == "probe" {
            command.arg("a@far.test");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let owner = || PathBuf::from(format!("/proc/{}/mem", child.id())).metadata().map_or(1, |it| it.uid());
        let status = || read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let is_other = || status().lines().any(|line| line.starts_with("Uid:") && !line.contains("\t0\t"));
        wait_until("its files belong to root, and it does not", SOON, || is_other() && owner() == 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn sigterm_ends_the_daemon_whatever_hangs() {
    let place = Place::new();
    // Silence: of DNS, of a smarthost, of a password command that ignores signals, of an alarm.
    let _dns = UdpSocket::bind(("127.0.0.1", place.dns_port)).unwrap();
    let _smarthost = TcpListener::bind(("127.0.0.1", place.sink_port)).unwrap();
    place.script("stubborn", "trap '' TERM INT HUP\nwhile :; do sleep 60; done");
    let d = place.dir.display();
    place.configure(&format!(
        "relay.smarthost = \"smtps://127.0.0.1:{}\"\nrelay.username = \"joe\"\nrelay.password_command = \"{d}/stubborn\"\n\
         alarm.command = \"{d}/stubborn\"\nalarm.stuck_after = \"1s\"\nqueue.retry = \"1s\"\n\
         relay.routes = {{ \"silent.test\" = \"smtp://127.0.0.1:{}\", \"far.test\" = \"smtp://mx.nowhere.test\" }}\n",
        place.sink_port, place.sink_port
    ));
    let mut daemon = place.serve();
    for to in ["a@else.test", "a@silent.test", "a@far.test"] {
        send(place.port, "s@box.test", to, MESSAGE);
    }
    let mut busy = Client::hello(place.port).unwrap();
    busy.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
    for reply in ["250", "250", "354"] {
        busy.expect(reply).unwrap();
    }
    let mut stalled = UnixStream::connect(place.path("run/control.sock")).unwrap();
    stalled.write_all(b"queue li").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(16), "{:?}", begun.elapsed());
    let _ = stalled.read(&mut [0]);
}

/// strace holds each sync back for minutes, as a disk does that hangs.
#[test]
fn sigterm_ends_the_daemon_on_a_disk_that_hangs() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root may look into a process that has closed its memory.
    }
    let place = Place::new();
    place.configure("");
    let mut daemon = place.serve();
    wait_until("the start is over", SOON, || place.log().contains("text=\"ready\""));
    let mut command = program("strace", "strace");
    let calls = "fsync,fdatasync,syncfs,rename,renameat,renameat2";
    command.args(["-f", "-p", &daemon.pid().to_string(), "-o", "/dev/null", "-e"]);
    command.args([&format!("trace={calls}"), "-e", &format!("inject={calls}:delay_enter=300000000")]);
    let mut strace = command.stderr(Stdio::null()).spawn().unwrap();
    let status = || read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    wait_until("strace is there", SOON, || !status().contains("TracerPid:\t0\n"));
    std::thread::sleep(Duration::from_secs(1));
    let mut busy = Client::hello(place.port).unwrap();
    busy.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
    for reply in ["250", "250", "354"] {
        busy.expect(reply).unwrap();
    }
    busy.write(b"Subject: x\r\n\r\nx\r\n.\r\n").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    daemon.signal("TERM");
    // strace itself keeps the thread that it holds back.
    wait_until("the process ends", SOON, || status().contains("State:\tZ"));
    let lasted = begun.elapsed();
    let _ = (strace.kill(), strace.wait());
    assert_eq!(daemon.wait().code(), Some(0), "{}", place.log());
    assert!(lasted < Duration::from_secs(25), "{lasted:?}");
    assert_eq!(busy.rest(), "", "no 250 for what is not safe");
}

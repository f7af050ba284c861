use super::client::send;
use super::harness::{Place, SOON, files, free_port, program, run, wait_until};
use pillarbox::config;
use pillarbox::program::confinement::Confinement;
use pillarbox::sys::{packet, process, rights, user};
use std::fs::{self, Permissions, read_to_string, set_permissions};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
/// A user that exists on every system and owns nothing.
const USER: &str = "nobody";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A place that every user can reach, with Maildirs of [`USER`].
fn open_place() -> Place {
    let place = Place::open();
    fs::create_dir(place.path("mail")).unwrap();
    let user = user::find(USER).unwrap().unwrap();
    chown(place.path("mail"), Some(user.uid), Some(user.gid)).unwrap();
    place
}

/// The children of the process with this name.
fn child(pid: u32, name: &str) -> u32 {
    let output = run(program("pgrep", "procps").args(["-P", &pid.to_string(), name]));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// What /proc says of each process: its user, its effective capabilities, whether programs could gain rights, its
/// filter (2: on), whether others of its user may look into it, and its descriptors.
#[test]
fn each_process_has_what_it_needs_and_no_more() {
    if !is_root() {
        return;
    }
    let place = open_place();
    place.configure(&format!("user = \"{USER}\"\nlocal.users = \"system\"\nalarm.command = \"/bin/true\"\n"));
    let daemon = place.serve();
    place.wait_for_log(&["text=\"ready\""]);
    let uid = user::find(USER).unwrap().unwrap().uid.to_string();
    let (agent, commands) = (child(daemon.pid(), "pillarbox-mda"), child(daemon.pid(), "pillarbox-comma"));
    for (pid, owner, filter, descriptors) in
        [(daemon.pid(), &*uid, "2", None), (agent, "0", "2", Some(4)), (commands, &*uid, "0", Some(4))]
    {
        let status = read_to_string(format!("/proc/{pid}/status")).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        let capabilities = if pid == agent { of("CapEff") } else { "0".repeat(16) };
        assert_eq!(
            [of("Uid"), of("NoNewPrivs"), of("Seccomp"), of("CapEff"), of("CapBnd")],
            [owner, "1", filter, &capabilities, &"0".repeat(16)],
            "{status}"
        );
        assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0, "dumpable: {status}");
        let open = files(Path::new(&format!("/proc/{pid}/fd"))).len();
        assert!(descriptors.is_none_or(|expected| open == expected), "{open}: {status}");
    }
    // Of each thread.
    for task in files(Path::new(&format!("/proc/{}/task", daemon.pid()))) {
        let Ok(status) = read_to_string(task.join("status")) else { continue };
        assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    let mut status = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let shown = run(status.arg("-c").arg(place.path("pillarbox.toml")).args(["status", "--json"]));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\"seccomp_filter\":1"), "{shown}");
    daemon.signal("KILL");
    for pid in [agent, commands] {
        wait_until("it ends with the daemon", SOON, || !Path::new(&format!("/proc/{pid}")).exists());
    }
}

/// The steps of `serve` in a process of the test, and then what an attacker would try there.
#[test]
fn what_the_daemon_can_open_connect_to_and_run() {
    if !is_root() {
        return;
    }
    let (place, other) = (open_place(), open_place());
    for name in ["state", "run"] {
        fs::create_dir(place.path(name)).unwrap();
        set_permissions(place.path(name), Permissions::from_mode(0o777)).unwrap();
    }
    set_permissions(&other.dir, Permissions::from_mode(0o777)).unwrap();
    let known = free_port();
    let path =
        place.configure(&format!("user = \"{USER}\"\nrelay.smarthost = \"smtp://127.0.0.1:{known}\"\n"));
    let settings = config::load(&path).unwrap();
    let strange = TcpListener::bind("127.0.0.1:0").unwrap();
    let smarthost = TcpListener::bind(("127.0.0.1", known)).unwrap();
    let unbound = free_port();
    let [strange_at, smarthost_at] = [&strange, &smarthost].map(|socket| socket.local_addr().unwrap());
    let secret = other.write("secret", "x");
    let (here, there) = packet::pair().unwrap();
    process::start(c"tries", there, |socket| {
        user::become_user(&user::find(USER).unwrap().unwrap()).unwrap();
        rights::restrain().unwrap();
        let confinement = Confinement::begin(&path, &settings, false);
        let lines: Vec<String> = [
            ("read /etc/shadow", fs::read("/etc/shadow").map(drop)),
            ("read /root", fs::read_dir("/root").map(drop)),
            ("read another's file", fs::read(&secret).map(drop)),
            ("list another's files", fs::read_dir(&other.dir).map(drop)),
            ("read environments", fs::read("/proc/1/environ").map(drop)),
            ("write there", fs::write(other.path("new"), "x")),
            ("write to /tmp", fs::write("/tmp/pillarbox-confinement", "x")),
            ("write the configuration", fs::write(&path, "x")),
            ("connect elsewhere", TcpStream::connect(strange_at).map(drop)),
            ("listen", TcpListener::bind(("127.0.0.1", unbound)).map(drop)),
            ("run", Err(Command::new("/bin/true").exec())),
            ("start", Command::new("/bin/true").spawn().map(drop)),
            (
                "signal",
                rustix::process::kill_process(
                    rustix::process::getppid().unwrap(),
                    rustix::process::Signal::CONT,
                )
                .map_err(Into::into),
            ),
            ("users", fs::read("/etc/passwd").map(drop)),
            ("queue", fs::write(place.path("state/x"), "x")),
            ("mail", fs::write(place.path("mail/x"), "x")),
            ("smarthost", TcpStream::connect(smarthost_at).map(drop)),
            ("source", TcpListener::bind(("127.0.0.1", 0)).map(drop)),
            ("name", ("localhost", 1).to_socket_addrs().map(drop)),
            ("thread", std::thread::Builder::new().spawn(|| ()).map(drop)),
        ]
        .into_iter()
        .map(|(what, done)| match done {
            Ok(()) => format!("{what}: yes"),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => format!("{what}: no"),
            Err(error) => format!("{what}: {error}"),
        })
        .collect();
        let text = format!("{}\n{}", confinement.confined.landlock, lines.join("\n"));
        packet::send(&socket, text.as_bytes(), &[]).unwrap();
    })
    .unwrap();
    let mut octets = [0; 4096];
    let (text, _) = packet::receive(&here, &mut octets).expect("it ended early");
    let text = String::from_utf8_lossy(text).into_owned();
    println!("{text}");
    let (version, text) = text.split_once('\n').unwrap();
    if version.parse::<u32>().unwrap() < 4 {
        return println!("this kernel has no Landlock for ports");
    }
    let lines: Vec<&str> = text.lines().collect();
    let (refused, done) = lines.split_at(13);
    assert!(refused.iter().all(|line| line.ends_with(": no")), "{text}");
    assert!(done.iter().all(|line| line.ends_with(": yes")), "{text}");
    assert!(!other.path("new").exists());
}

/// All that the daemon asks of the kernel while mail is taken, delivered and relayed, seen by strace.
#[test]
fn nothing_that_the_daemon_needs_is_refused() {
    let place = Place::new();
    place.configure("");
    // Else it syncs the names of all directories above, as far as it may open them.
    for name in ["new", "cur", "tmp"] {
        fs::create_dir_all(place.path("mail/u").join(name)).unwrap();
    }
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    let mut command = program("strace", "strace");
    command.args(["-f", "-o"]).arg(place.path("trace")).arg(env!("CARGO_BIN_EXE_pillarbox"));
    command.arg("-c").arg(place.path("pillarbox.toml")).arg("serve");
    command.stderr(fs::File::create(place.path("log")).unwrap());
    let mut strace = place.run(command.process_group(0));
    let daemon = traced(strace.pid());
    let large = [MESSAGE, &b"0123456789\r\n".repeat(50_000)].concat();
    for content in [MESSAGE, &large] {
        send(place.port, "s@box.test", "u@box.test", content);
        send(place.port, "s@box.test", "joe@far.test", content);
    }
    let mut sendmail = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    sendmail.arg("-c").arg(place.path("pillarbox.toml")).args(["sendmail", "u@box.test", "joe@far.test"]);
    run(&mut sendmail);
    place.wait_for_empty_queue(SOON);
    for (signal, parts) in [("HUP", ["configuration read again"].as_slice()), ("USR1", &["status=2"])] {
        super::harness::signal(daemon, signal);
        place.wait_for_log(parts);
    }
    for words in [["status", "--json"].as_slice(), &["queue"], &["queue", "flush"]] {
        run(Command::new(env!("CARGO_BIN_EXE_pillarbox"))
            .arg("-c")
            .arg(place.path("pillarbox.toml"))
            .args(words));
    }
    super::harness::signal(daemon, "TERM");
    strace.wait();
    assert_eq!((place.mail("u").len(), place.sunk().len()), (3, 3));
    let trace = read_to_string(place.path("trace")).unwrap();
    let confined = trace.split_once("seccomp(SECCOMP_SET_MODE_FILTER").map(|(_, after)| after).unwrap();
    let denied =
        |line: &&str| ["= -1 EPERM", "= -1 ENOSYS", "= -1 EACCES"].iter().any(|end| line.contains(end));
    // The C library tries it, and takes clone instead.
    let denied: Vec<&str> = confined.lines().filter(denied).filter(|line| !line.contains("clone3")).collect();
    assert!(denied.is_empty(), "{denied:#?}");
}

/// A kernel before 5.13 has no Landlock, and one before 3.17 has seccomp by prctl alone.
#[test]
fn an_older_kernel_gets_a_line_in_the_log_and_mail_goes_on() {
    let place = Place::new();
    place.configure("");
    let mut command = program("strace", "strace");
    command.args(["-f", "-o", "/dev/null", "-e", "inject=landlock_create_ruleset,seccomp:error=ENOSYS"]);
    command.arg(env!("CARGO_BIN_EXE_pillarbox")).arg("-c").arg(place.path("pillarbox.toml")).arg("serve");
    command.stderr(fs::File::create(place.path("log")).unwrap());
    let mut strace = place.run(command.process_group(0));
    place.wait_for_log(&["text=\"ready\""]);
    send(place.port, "s@box.test", "u@box.test", MESSAGE);
    let mut status = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let shown = run(status.arg("-c").arg(place.path("pillarbox.toml")).args(["status", "--json"]));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\"landlock_version\":0,\"seccomp_filter\":1"), "{shown}");
    let told = place.logged(&["not confined by"]);
    assert!(told.len() == 1 && told[0].contains("Landlock: Function not implemented"), "{told:?}");
    super::harness::signal(traced(strace.pid()), "TERM");
    strace.wait();
}

/// The program that strace runs.
fn traced(pid: u32) -> u32 {
    read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim().parse().unwrap()
}

#[test]
fn a_reload_that_needs_more_is_refused_and_says_what() {
    let (place, other) = (Place::new(), Place::new());
    let aliases = place.write("aliases", "a: u\n");
    let more = |line: &str| format!("local.aliases = {aliases:?}\n{line}");
    place.configure(&more(""));
    let daemon = place.serve();
    let why = "needs a restart: the running daemon has confined itself";
    let port = free_port();
    let smarthost = format!("relay.smarthost = \"smtp://127.0.0.1:{port}\"\n");
    let users = other.write("users", "");
    for (line, told) in [
        (smarthost, format!("relay.smarthost: port {port} {why}")),
        (format!("auth.users = {users:?}\n"), format!("auth.users: \\\"{}\\\" {why}", other.dir.display())),
        (format!("local.maildir = \"{}/{{user}}\"\n", other.dir.display()), "local.maildir: ".to_owned()),
        ("alarm.command = \"/bin/true\"\n".to_owned(), "alarm.command need a restart".to_owned()),
    ] {
        place.configure(&more(&line));
        daemon.signal("HUP");
        let found = place.wait_for_log(&["the old one stays", told.split(" needs").next().unwrap()]);
        assert!(found.contains(&told), "{found}");
    }
    assert!(place.logged(&["configuration read again"]).is_empty(), "{}", place.log());
    // The old one works on, with files that are replaced.
    place.write("new", "a: v\n");
    fs::rename(place.path("new"), &aliases).unwrap();
    place.configure(&more("relay.smarthost = \"smtp://127.0.0.1:587\"\n"));
    daemon.signal("HUP");
    place.wait_for_log(&["configuration read again"]);
    send(place.port, "s@y.test", "a@box.test", MESSAGE);
    assert_eq!(place.mail("v").len(), 1);
    daemon.stop();
}

/// A daemon that was taken over can have no program run but the operator's.
#[test]
fn the_command_process_runs_what_the_configuration_names() {
    let place = Place::new();
    let (told, marker) = (place.path("told"), place.path("marker"));
    let script =
        place.script("command", &format!("env > {0}.new; pwd >> {0}.new; mv {0}.new {0}", told.display()));
    let config = place.configure(&format!("alarm.command = {script:?}\n"));
    let settings = config::load(&config).unwrap();
    let commands = pillarbox::engine::host::commands::Commands::start(&config, &settings).unwrap().unwrap();
    let deadline = || pillarbox::net::transport::Deadline::after(SOON);
    let evil = format!("x\0LD_PRELOAD={0}\0touch {0}", marker.display());
    let values = ["alarm".to_owned(), evil, String::new(), String::new(), "text".to_owned()];
    let mut running = commands.alarm(&values).unwrap();
    assert!(running.wait(deadline()).unwrap().unwrap().success());
    let told = read_to_string(&told).unwrap();
    assert!(told.contains("PILLARBOX_STATE=alarm\n") && !told.contains("\nLD_PRELOAD"), "{told}");
    // Nothing of who starts it: of this test, and of the shell that cargo runs in.
    let names: Vec<&str> = told.lines().filter_map(|line| line.split('=').next()).collect();
    let known = ["HOME", "LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "_", "/"];
    let is_known = |name: &&str| known.contains(name) || name.starts_with("PILLARBOX_");
    assert!(names.iter().all(is_known), "{told}");
    let account = user::find_uid(rustix::process::geteuid().as_raw()).unwrap().unwrap();
    assert!(told.contains(&format!("HOME={}\n", account.home.display())), "{told}");
    assert!(
        told.contains("LANG=C\n") && told.contains("PATH=/usr/local/sbin:") && told.ends_with("\n/\n"),
        "{told}"
    );
    assert!(!marker.exists());
    // What is not configured is not run.
    for command in ["", &format!("/usr/bin/touch {}", marker.display())] {
        let (mut running, _output) = commands.password(command).unwrap();
        assert_eq!(running.wait(deadline()).unwrap_err().raw_os_error(), Some(22), "{command}");
    }
    assert!(!marker.exists());
}

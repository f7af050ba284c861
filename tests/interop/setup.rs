use super::harness::{Place, Running, SOON, files, free_port, wait_until};
use super::smarthost::{Authority, FOR_LOGINS, PASSWORD, Postfix, dovecot, place};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Output, Stdio};

/// `setup` with the configuration `etc/pillarbox.toml`, whose further lines keep all files within the place.
pub(super) fn command(place: &Place, arguments: &[&str]) -> Command {
    let (d, dns) = (place.dir.display(), place.dns_port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    command.arg("-c").arg(place.path("etc/pillarbox.toml")).arg("setup").args(arguments);
    for line in [
        format!("dns.servers = \"127.0.0.1:{dns}\""),
        format!("relay.ca_file = \"{d}/ca.pem\""),
        format!("relay.port = {}", place.sink_port),
        format!("state = \"{d}/state\""),
        format!("control = \"{d}/control.sock\""),
        "local.aliases = \"\"".to_owned(),
        "hostname = \"box.test\"".to_owned(),
    ] {
        command.args(["--set", &line]);
    }
    if !arguments.iter().any(|argument| argument.starts_with("user =")) {
        command.args(["--set", "user = \"root\""]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with options and this standard input; returns the exit code and the output.
fn setup(place: &Place, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = command(place, arguments).stdin(Stdio::piped()).spawn().unwrap();
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    said(child)
}

fn said(child: Child) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    assert!(!said.contains(PASSWORD), "{said}");
    (status.code(), said)
}

fn names(place: &Place) -> Vec<String> {
    let files = files(&place.path("etc"));
    files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

fn read(place: &Place, name: &str) -> String {
    fs::read_to_string(place.path("etc").join(name)).unwrap()
}

fn mode(place: &Place, name: &str) -> u32 {
    fs::metadata(place.path("etc").join(name)).unwrap().permissions().mode() & 0o7777
}

/// A Postfix that requires STARTTLS and a login on the port, with the files that it needs.
pub(super) fn smarthost(place: &Place, port: u16) -> (Postfix, Running, Running) {
    Authority::new(place).sign(place, "smart", &["smart.test"], 30);
    let dovecot = dovecot(place);
    let postfix = Postfix::start(place, &[(port, "smart", FOR_LOGINS)]);
    let srv = format!("--srv-host=_submission._tcp.smart.test,smart.test,{port}");
    let dns = place.dns(&["--host-record=smart.test,127.0.0.1", &srv]);
    (postfix, dovecot, dns)
}

/// A new user gives three answers, and an alert arrives at the smarthost. A second setup keeps the existing files.
#[test]
fn answers_by_options_are_tested_and_written() {
    let Some(place) = place() else { return };
    let port = free_port();
    let _smarthost = smarthost(&place, port);
    let host = format!("joe@smart.test@smart.test:{port}");
    let options = ["--admin", "them@far.test", "--smarthost", &host, "--set", "user = \"nobody\""];

    let (code, text) = setup(&place, &options, "wr0ng\n");
    assert_eq!(code, Some(77), "{text}");
    assert!(
        text.contains("user name or the password is wrong") && text.contains("nothing was written"),
        "{text}"
    );
    assert_eq!(names(&place), [""; 0]);

    let (code, text) = setup(&place, &options, &format!("{PASSWORD}\n"));
    assert_eq!(code, Some(0), "{text}");
    // This port has no implicit TLS.
    assert!(text.contains(&format!("smtps://smart.test:{port}: no, tls: ")), "{text}");
    assert!(text.contains(&format!("smtp+starttls://smart.test:{port}: yes\n")), "{text}");
    let config = place.path("etc/pillarbox.toml");
    let next = format!("pillarbox -c {} probe --send them@far.test\n", config.display());
    assert!(
        text.ends_with(&next) && text.lines().last().unwrap().starts_with("Next: pillarbox -c "),
        "{text}"
    );
    assert_eq!(names(&place), ["password", "pillarbox.toml"]);
    assert_eq!((mode(&place, "password"), mode(&place, "pillarbox.toml")), (0o640, 0o644));
    let group = pillarbox::sys::user::find("nobody").unwrap().unwrap().gid;
    let owner = fs::metadata(place.path("etc/password")).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (0, group));
    assert_eq!(read(&place, "password"), format!("{PASSWORD}\n"));
    let config = read(&place, "pillarbox.toml");
    assert!(!place.path("state").exists());
    let expected = format!(
        "admin = \"them@far.test\"\nrelay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.username = \"joe@smart.test\"\n"
    );
    assert!(config.starts_with("# ") && config.contains(&expected), "{config}");

    let mut probe = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    probe.arg("-c").arg(place.path("etc/pillarbox.toml")).args(["probe", "--send", "root"]);
    let sent = probe.output().unwrap();
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    wait_until("the alert arrives", SOON, || !files(&place.path("inbox/them/new")).is_empty());

    let (code, text) = setup(&place, &options, "other\n");
    assert_eq!((code, names(&place).len()), (Some(73), 2), "{text}");
    assert!(text.contains("--force") && read(&place, "pillarbox.toml") == config, "{text}");
    let more = [&options[..], &["--force", "--no-test"]].concat();
    assert_eq!(setup(&place, &more, "other\n").0, Some(0));
    assert_eq!(names(&place), ["password", "password.old", "pillarbox.toml", "pillarbox.toml.old"]);
    assert_eq!(read(&place, "pillarbox.toml.old"), config);
    assert_eq!((read(&place, "password").as_str(), mode(&place, "password.old")), ("other\n", 0o640));
    // Without a test, the first candidate is written.
    assert!(read(&place, "pillarbox.toml").contains(&format!("\"smtps://smart.test:{port}\"")));
}

/// The two ends of a terminal: that of a person, and that of a program.
pub(super) fn terminal() -> (File, File) {
    let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keys).unwrap();
    unlockpt(&keys).unwrap();
    let path = ptsname(&keys, Vec::new()).unwrap().into_string().unwrap();
    (File::from(keys), File::options().read(true).write(true).open(path).unwrap())
}

/// A terminal and the program that reads from it.
struct Terminal {
    keys: File,
    line: File,
    child: Child,
}

impl Terminal {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let (keys, line) = terminal();
        let child = command(place, arguments).stdin(line.try_clone().unwrap()).spawn().unwrap();
        Self { keys, line, child }
    }

    /// Waits for a prompt and then types.
    fn answer(&mut self, prompt: &str, keys: &str) {
        let mut seen = vec![0; prompt.len()];
        self.child.stderr.as_mut().unwrap().read_exact(&mut seen).unwrap();
        assert_eq!(String::from_utf8_lossy(&seen), prompt);
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn end(self) -> (Option<i32>, String) {
        let found = said(self.child);
        assert!(tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ISIG));
        found
    }
}

const ADDRESS: &str = "Address that gets the alerts: ";

/// Three questions at most; the return key accepts the proposal of DNS; existing comments stay.
#[test]
fn a_terminal_is_asked_three_questions() {
    let Some(place) = place() else { return };
    let port = free_port();
    let _smarthost = smarthost(&place, port);
    fs::create_dir(place.path("etc")).unwrap();
    let comments = fs::read_to_string("etc/pillarbox/pillarbox.toml").unwrap();
    place.write("etc/pillarbox.toml", &comments);
    let proposal =
        format!("Smarthost, HOST or LOGIN@HOST (empty: smtp+starttls://smart.test:{port}; mx: none): ");
    let password = "Password of joe@smart.test at smart.test (empty: no login): ";

    let mut terminal = Terminal::start(&place, &[]);
    terminal.answer(ADDRESS, "joe@smart.test\n");
    terminal.answer(&proposal, "\n");
    terminal.answer(password, "\x03");
    let (code, text) = terminal.end();
    assert_eq!((code, names(&place).len()), (Some(65), 1), "{text}");

    let mut terminal = Terminal::start(&place, &[]);
    terminal.answer(ADDRESS, "joe@smart.test\n");
    terminal.answer(&proposal, "\n");
    terminal.answer(password, &format!("{PASSWORD}\n"));
    let (code, text) = terminal.end();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(names(&place), ["password", "pillarbox.toml"]);
    assert_eq!(mode(&place, "password"), 0o600);
    let config = read(&place, "pillarbox.toml");
    assert!(config.ends_with(&comments), "{config}");
    assert!(config.contains(&format!("\"smtp+starttls://smart.test:{port}\"")), "{config}");

    // A wrong password is asked for again, twice; an empty one gives up.
    let password_again = "Password of joe@smart.test at smart.test (empty: give up): ";
    let options = ["--force", "--admin", "joe@smart.test", "--smarthost", &format!("smart.test:{port}")];
    for (typed, expected) in
        [(&["wr0ng", "wr0ng", PASSWORD][..], 0), (&["wr0ng", ""][..], 77), (&["wr0ng"; 3][..], 77)]
    {
        let mut terminal = Terminal::start(&place, &options);
        terminal.answer(password, &format!("{}\n", typed[0]));
        for again in &typed[1..] {
            // After the end of the line that was not echoed.
            terminal.answer(&format!("\n{password_again}"), &format!("{again}\n"));
        }
        let (code, text) = terminal.end();
        assert_eq!(code, Some(expected), "{text}");
        assert_eq!(text.contains("nothing was written"), expected != 0, "{text}");
    }

    // A script accepts the proposal by the word for it.
    let options = ["--force", "--admin", "joe@smart.test", "--smarthost", "auto"];
    let (code, text) = setup(&place, &options, &format!("{PASSWORD}\n"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("smtp+starttls://smart.test:{port}: yes")), "{text}");
}

/// Delivery by MX needs one question less; an interrupted setup leaves no file; without a terminal nothing is asked.
#[test]
fn a_missing_answer_is_told_by_its_option() {
    let place = Place::new();
    place.write("ca.pem", "");
    let _dns = place.dns_of_far();
    let _sink = place.sink(&[]);
    let host = ["--admin", "a@far.test", "--smarthost", "joe@smart.test"];
    for (arguments, option) in [
        (&[][..], "--admin"),
        (&["--admin", "them@far.test"], "--smarthost"),
        (&host, "--password-file"),
        (&["--admin", "them@far.test", "--smarthost", "auto"], "--smarthost"),
        (&["them@far.test"], "options"),
    ] {
        let (code, text) = setup(&place, arguments, "");
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains(option), "{option}: {text}");
    }
    assert_eq!(setup(&place, &["--admin", "a b@c"], "").0, Some(65));
    assert_eq!(setup(&place, &["--set", "relay.what = 1"], "").0, Some(78));

    for keys in ["\x04", "\n\x04"] {
        let mut terminal = Terminal::start(&place, &[]);
        terminal.answer(ADDRESS, keys);
        assert!([Some(64), Some(65)].contains(&terminal.end().0));
    }
    let mut terminal = Terminal::start(&place, &["--admin", "them@far.test"]);
    terminal.answer("Smarthost, HOST or LOGIN@HOST (empty: none, by MX): ", "\x04");
    assert_eq!(terminal.end().0, Some(64));
    assert!(!place.path("etc").exists());

    let mut terminal = Terminal::start(&place, &["--set", "dns.timeout = 1"]);
    terminal.answer(ADDRESS, "them@far.test\n");
    terminal.answer("Smarthost, HOST or LOGIN@HOST (empty: none, by MX): ", "\n");
    let (code, text) = terminal.end();
    assert_eq!((code, names(&place)), (Some(0), vec!["pillarbox.toml".to_owned()]), "{text}");
    assert!(text.contains("by MX: yes") && place.sunk().is_empty(), "{text}");
    assert!(!read(&place, "pillarbox.toml").contains("smarthost"));
}

/// What another mailer has is tested and written as answers are; its password is shown nowhere.
#[test]
fn the_files_of_another_mailer_are_taken_over() {
    let Some(place) = place() else { return };
    let port = free_port();
    let _smarthost = smarthost(&place, port);
    let account =
        format!("host smart.test\nport {port}\ntls on\nauth on\nuser joe@smart.test\npassword {PASSWORD}\n");
    place.write(
        "msmtprc",
        &format!("account default\n{account}logfile /var/log/msmtp\nfrom box@smart.test\n"),
    );
    let file = place.path("msmtprc");
    let file = file.to_str().unwrap();
    let (code, text) = setup(&place, &["--from", file, "--admin", "them@far.test"], "");
    assert_eq!(code, Some(0), "{text}");
    for line in [
        format!("Taken over from msmtp, {file}:\n"),
        format!("not taken over: {file}:8: logfile\n"),
        format!("smtp+starttls://smart.test:{port}: yes\n"),
    ] {
        assert!(text.contains(&line), "{text}");
    }
    let config = read(&place, "pillarbox.toml");
    let expected = format!(
        "admin = \"them@far.test\"\nrelay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.username = \"joe@smart.test\"\n\
         rewrite.from = \"box@smart.test\"\n"
    );
    assert!(config.contains(&expected), "{config}");
    assert_eq!((read(&place, "password"), mode(&place, "password")), (format!("{PASSWORD}\n"), 0o600));
    // Nothing is found, or nothing that is known.
    assert_eq!(setup(&place, &["--force", "--from", "/nonexistent/msmtprc"], "").0, Some(66));
    assert_eq!(setup(&place, &["--force", "--from", "/etc/passwd"], "").0, Some(64));
}

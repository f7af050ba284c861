//! `sendmail` as its callers call it: each file of `tests/sendmail/` is a command line and an input, with the envelope
//! and the message that must come of them. Then what no file can say: descriptors, users, disks, terminals.
//!
//! A case is a block of lines `key: value` and two parts of text:
//!
//! ```text
//! # who calls it so
//! argv: sendmail -i -f me@a.example "A B"
//! exit: 0
//! envelope: sender=me@a.example to=A to=B
//! --- input
//! Subject: x
//! --- message
//! Subject: x
//! ```
//!
//! Blanks part the words of `argv`, double quotes hold them together. `stderr:` is a part of what is said there; without
//! it nothing may be. `message: none`: nothing is left behind. Without the part `message` it is the input. `\r` and `\0`
//! stand for those octets, and `\e` at the end of the input takes away its last line end. `stdout:` is what SMTP replies.
//! `env:` is a variable of the environment. The word SECRET may come back nowhere.

mod daemon;

use super::test_directory::TestDirectory;
use daemon::Scripted;
use pillarbox::store::drop::{DropDirectory, Opened};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CONFIG: &str =
    "user = \"root\"\nhostname = \"box.test\"\nlimits.message_size = \"64KiB\"\nlimits.free_space = 0\n";

/// Copies by a process of its own: a child that another test has just forked would hold the copy open for writing, and it
/// could not be run.
fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// A state with a drop directory, and sendmail by its names.
struct Place(TestDirectory);

impl Place {
    fn new() -> Self {
        // Other users must reach it, too.
        let dir = TestDirectory::new();
        fs::create_dir(dir.join("state")).unwrap();
        copy_program(Path::new(env!("CARGO_BIN_EXE_pillarbox")), &dir.join("pillarbox"));
        for name in ["sendmail", "send-mail", "mailq", "newaliases", "msmtp", "ssmtp", "mail", "mailx"] {
            std::os::unix::fs::symlink("pillarbox", dir.join(name)).unwrap();
        }
        for path in [dir.to_owned(), dir.join("state")] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(path, mode).unwrap();
        }
        let place = Self(dir);
        place.configure(CONFIG);
        place
    }

    /// Writes a configuration that keeps everything here. `more`: further lines.
    fn configure(&self, more: &str) {
        let text = format!("state = \"{0}/state\"\ncontrol = \"{0}/c.sock\"\n{more}", self.0.display());
        fs::write(self.0.join("c.toml"), text).unwrap();
    }

    fn with_drop_directory() -> Self {
        let place = Self::new();
        place.drops();
        place
    }

    fn drops(&self) -> DropDirectory {
        DropDirectory::open(&self.0.join("state"), None).unwrap()
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0.join(name));
        command.args(arguments).env_clear().env("PILLARBOX_CONFIG", self.0.join("c.toml"));
        command
    }

    /// The message in the drop directory: uid, envelope and text.
    fn left(&self) -> Option<(u32, String, String)> {
        let drops = self.drops();
        let names: Vec<_> = drops.entries().unwrap().map(|found| found.name).collect();
        let half: Vec<_> = fs::read_dir(drops.path()).unwrap().collect();
        assert!(names.len() <= 1 && half.len() == names.len(), "{half:?}");
        let name = names.into_iter().next()?;
        let Opened::Message(dropped) = drops.open_message(&name, 1 << 20).unwrap() else {
            panic!("{name:?} is no message")
        };
        let mut text = Vec::new();
        assert!(dropped.read(|piece| text.extend_from_slice(piece)).unwrap());
        drops.remove(&name).unwrap();
        let envelope = dropped.envelope.print().trim_end().replace('\n', " ");
        Some((dropped.uid, envelope, String::from_utf8(text).unwrap()))
    }
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // sendmail must read all of its input: a broken pipe fails the test.
    stdin.write_all(input).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![None::<String>], false);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                words.last_mut().unwrap().get_or_insert_default();
            }
            ' ' if !quoted => words.push(None),
            c => words.last_mut().unwrap().get_or_insert_default().push(c),
        }
    }
    words.into_iter().flatten().collect()
}

/// A parsed case.
struct Case<'a> {
    lines: Vec<(&'a str, &'a str)>,
    input: String,
    message: Option<String>,
}

impl<'a> Case<'a> {
    fn read(text: &'a str) -> Self {
        let unescape = |text: &str| {
            text.replace("\\r", "\r").replace("\\0", "\0").replace("\\e\n", "\\e").replace("\\e", "")
        };
        let (head, rest) = text.split_once("--- input\n").unwrap();
        let (input, message) =
            rest.split_once("--- message\n").map_or((rest, None), |(a, b)| (a, Some(unescape(b))));
        let lines = head.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line}"))).collect();
        Self { lines, input: unescape(input), message }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.lines.iter().find(|(k, _)| *k == key).map(|(_, value)| *value)
    }
}

#[test]
fn the_callers_get_what_they_want() {
    the_cases_pass(&Place::with_drop_directory(), None);
}

/// A message submitted to a daemon equals the one left in the drop directory.
fn the_cases_pass(place: &Place, daemon: Option<&Scripted>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sendmail");
    let (mut files, mut failed): (Vec<PathBuf>, String) =
        (fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect(), String::new());
    files.sort();
    assert!(files.len() >= 25, "only {} cases", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{}: its first line says who calls it so", file.display());
        let case = Case::read(&text);
        for (key, _) in &case.lines {
            let known = ["argv", "env", "exit", "envelope", "stderr", "stdout", "message"];
            assert!(known.contains(key), "{}: {key}?", file.display());
        }
        let argv = words(case.get("argv").unwrap());
        let arguments: Vec<&str> = argv[1..].iter().map(String::as_str).collect();
        let mut command = place.command(&argv[0], &arguments);
        command.envs(case.get("env").and_then(|variable| variable.split_once('=')));
        let output = run(&mut command, case.input.as_bytes());
        let (stderr, stdout) =
            (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        let uid = rustix::process::getuid().as_raw();
        let left = match daemon {
            Some(daemon) => daemon.got().map(|(envelope, text)| (uid, envelope, text)),
            None => place.left(),
        };
        assert!(daemon.is_none() || place.left().is_none(), "{}: it was left, too", file.display());
        let expected = (case.get("message") != Some("none")).then(|| {
            let message = case.message.as_ref().unwrap_or(&case.input).clone();
            (uid, case.get("envelope").unwrap_or_default().to_owned(), message)
        });
        let is_quiet = !format!("{stderr}{stdout}{left:?}").contains("SECRET");
        let is_told = is_quiet
            && match case.get("stderr") {
                Some(part) => {
                    stderr.contains(part) && ["sendmail: ", "mail: "].iter().any(|it| stderr.starts_with(it))
                }
                None => stderr.is_empty(),
            };
        let replies = stdout.lines().filter_map(|line| line.get(..4)).filter(|line| line.ends_with(' '));
        let replies: String = case.get("stdout").map(|_| replies.collect()).unwrap_or_default();
        let is_right = output.status.code() == case.get("exit").map(|code| code.parse().unwrap())
            && replies.trim() == case.get("stdout").unwrap_or_default();
        if !(is_told && is_right && left == expected) {
            failed += &format!(
                "{}:\n  {}\n  stderr: {stderr}\n  stdout: {stdout}\n  left:     {left:?}\n  expected: {expected:?}\n",
                file.display(),
                output.status
            );
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

/// What `mail -A` sends is what any reader of MIME finds.
#[test]
fn files_are_attached() {
    use mail_parser::MimeHeaders;
    let place = Place::with_drop_directory();
    place.configure("limits.message_size = \"1MiB\"\n");
    let octets: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    let (image, log) = (place.0.join("cam era.jpg"), place.0.join("Übersicht.log"));
    fs::write(&image, &octets).unwrap();
    fs::write(&log, "ä\n").unwrap();
    let (image, log) = (image.to_str().unwrap().to_owned(), log.to_str().unwrap().to_owned());
    let arguments = ["-s", "cam", "-A", &image, "-a", &log, "joe@far.example"];
    let output = run(&mut place.command("mail", &arguments), "über\n".as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, envelope, text) = place.left().unwrap();
    assert_eq!(envelope, "body=8bitmime to=joe@far.example");
    let message = mail_parser::MessageParser::default().parse(text.as_bytes()).unwrap();
    assert_eq!((message.subject(), message.body_text(0).as_deref()), (Some("cam"), Some("über\n")));
    let found: Vec<_> = message.attachments().map(|part| (part.attachment_name(), part.contents())).collect();
    assert_eq!(found.len(), 2, "{text}");
    assert_eq!((found[0].0, found[0].1), (Some("cam era.jpg"), octets.as_slice()));
    assert_eq!((found[1].0, found[1].1), (Some("Übersicht.log"), "ä\n".as_bytes()));
    let output = run(&mut place.command("mail", &["-A", "/nonexistent/x", "joe@far.example"]), &octets);
    let reported = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(66));
    assert!(
        reported.starts_with("mail: /nonexistent/x: ") && reported.contains("nothing was sent"),
        "{reported}"
    );
    assert_eq!(place.left(), None);
}

const SMALL: &[u8] = b"Subject: x\n\nx\n";

/// The errors when the message is not safe.
fn refused(command: &mut Command, input: &[u8]) -> (Option<i32>, String) {
    let output = run(command, input);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn without_a_place_for_the_message_it_is_a_temporary_failure_with_a_reason() {
    let large = b"x\n".repeat(1 << 19);
    let place = Place::new();
    place.configure("limits.message_size = \"4MiB\"\n");
    for input in [SMALL, &large] {
        let (code, reported) = refused(&mut place.command("sendmail", &["root"]), input);
        assert_eq!(code, Some(75));
        assert!(
            reported.contains("there is no drop directory") && reported.contains("/state/drop"),
            "{reported}"
        );
    }
    // A file in its place; a link in its place.
    fs::write(place.0.join("state/drop"), "").unwrap();
    assert_eq!(refused(&mut place.command("sendmail", &["root"]), SMALL).0, Some(75));
    fs::remove_file(place.0.join("state/drop")).unwrap();
    std::os::unix::fs::symlink("/tmp", place.0.join("state/drop")).unwrap();
    assert_eq!(refused(&mut place.command("sendmail", &["root"]), SMALL).0, Some(75));
    fs::remove_file(place.0.join("state/drop")).unwrap();
    let drops = place.drops();
    place.configure("limits.free_space = \"1024TiB\"\n");
    let (code, reported) = refused(&mut place.command("sendmail", &["root"]), SMALL);
    assert!(code == Some(75) && reported.contains("limits.free_space"), "{reported}");
    assert!(drops.entries().unwrap().next().is_none());
}

#[test]
fn a_message_that_is_too_large_is_bad_data() {
    let place = Place::with_drop_directory();
    let limit = 64 * 1024;
    for (octets, code) in [(limit, Some(0)), (limit + 1, Some(65)), (limit * 40, Some(65))] {
        // Each line end counts as two.
        let text = format!("A: 1\n\n{}\n", "x".repeat(octets - 10));
        let (found, reported) = refused(&mut place.command("sendmail", &["root"]), text.as_bytes());
        assert_eq!(found, code, "{octets}: {reported}");
        assert_eq!(reported.contains("limits.message_size"), code != Some(0), "{reported}");
        assert_eq!(place.left().map(|(.., message)| message == text), (code == Some(0)).then_some(true));
    }
}

#[test]
fn a_disk_that_is_full_and_one_that_is_read_only_are_temporary() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let state = place.0.join("state").display().to_string();
    let script = |options: &str, make: &str| {
        format!(
            "mount -t tmpfs -o {options} tmpfs {state} && mkdir -m 1733 {state}/drop && {make} && exec \"$@\""
        )
    };
    let read_only = format!("mount -o remount,ro {state}");
    for (script, reason) in
        [(script("size=16k", "true"), "No space left"), (script("size=1m", &read_only), "Read-only")]
    {
        let mut command = Command::new("unshare");
        let sendmail = place.0.join("sendmail");
        command.args(["-m", "sh", "-c", &script, "sh"]).arg(sendmail).arg("root");
        command.env("PILLARBOX_CONFIG", place.0.join("c.toml"));
        let (code, reported) = refused(&mut command, &b"xxxxxxxxxxxxxxx\n".repeat(3000));
        assert!(code == Some(75) && reported.contains(reason), "{code:?} {reported}");
    }
}

#[test]
fn neither_descriptors_nor_rights_nor_an_environment_are_needed() {
    let place = Place::with_drop_directory();
    let sendmail = place.0.join("sendmail").display().to_string();
    let is_root = rustix::process::geteuid().is_root();
    let mut lines = vec![
        ("\"$1\" -C \"$2\" root <&-", 0, ""),
        ("\"$1\" -C \"$2\" root 2>&-", 0, "\nx\n"),
        ("\"$1\" -C \"$2\" root >&- 2>&-", 0, "\nx\n"),
        ("\"$1\" -C \"$2\" root <&- >&- 2>&-", 0, ""),
        ("\"$1\" -c \"$2\" root", 0, "\nx\n"),
        ("\"$1\" --config \"$2\" root", 0, "\nx\n"),
        ("umask 777; cd /; exec env -i \"$1\" -C \"$2\" root", 0, "\nx\n"),
        ("ulimit -n 16; ulimit -v 100000; \"$1\" -C \"$2\" root", 0, "\nx\n"),
    ];
    if is_root {
        lines.extend([
            ("exec env -i setpriv --reuid 65534 --regid 65534 --clear-groups \"$1\" -C \"$2\" root", 65534, "\nx\n"),
            ("exec setpriv --reuid 4321 --regid 4321 --clear-groups --no-new-privs --bounding-set -all \"$1\" -C \"$2\" root", 4321, "\nx\n"),
        ]);
    }
    for (line, uid, text) in lines {
        let mut command = Command::new("sh");
        command
            .args(["-c", line, "sh", &sendmail])
            .arg(place.0.join("c.toml"))
            .env_remove("PILLARBOX_CONFIG");
        let output = run(&mut command, b"x\n");
        let reported = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && reported.is_empty(), "{line}: {} {reported}", output.status);
        let uid = if is_root { uid } else { rustix::process::getuid().as_raw() };
        assert_eq!(place.left(), Some((uid, "to=root".to_owned(), text.to_owned())), "{line}");
    }
}

/// The caller of a set-id program must not choose its configuration.
#[test]
fn with_raised_rights_neither_flag_nor_environment_name_the_configuration() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::with_drop_directory();
    let raised = place.0.join("raised");
    copy_program(&place.0.join("pillarbox"), &raised);
    std::os::unix::fs::chown(&raised, Some(65534), None).unwrap();
    fs::set_permissions(&raised, PermissionsExt::from_mode(0o4755)).unwrap();
    let config = place.0.join("c.toml").display().to_string();
    for arguments in [
        &["sendmail", "root"][..],
        &["sendmail", "-C", &config, "root"],
        &["sendmail", "-c", &config, "root"],
    ] {
        let (code, reported) = refused(&mut place.command("raised", arguments), SMALL);
        assert!(code == Some(75) && reported.contains("/var/spool/pillarbox/drop"), "{reported}");
    }
    assert_eq!(place.left(), None);
}

#[test]
fn a_lone_dot_ends_the_message_on_a_terminal_alone() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let place = Place::with_drop_directory();
    for (arguments, expected) in [(&["root"][..], "A: 1\n\nx\n"), (&["-i", "root"], "A: 1\n\nx\n.\ny\n")] {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let other = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
        let mut child = place.command("sendmail", arguments).stdin(other).spawn().unwrap();
        fs::File::from(terminal.try_clone().unwrap()).write_all(b"A: 1\n\nx\n.\ny\n\x04").unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(place.left().unwrap().2, expected);
    }
}

#[test]
fn a_mistake_in_the_configuration_stops_no_alert() {
    let place = Place::with_drop_directory();
    let config = fs::read_to_string(place.0.join("c.toml")).unwrap();
    fs::write(place.0.join("c.toml"), format!("{config}relay.smarthost = [\nbroken")).unwrap();
    assert_eq!(refused(&mut place.command("sendmail", &["root"]), SMALL), (Some(0), String::new()));
    assert!(place.left().is_some());
}

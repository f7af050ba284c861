//! Runs `pillarbox passwd`, and logs in with the printed line.

use pillarbox::rules::accounts::users::UserTable;
use pillarbox::smtp::sasl::Credentials;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Output, Stdio};

/// Starts the program with an input.
fn start(arguments: &[&OsStr], input: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pillarbox"))
        .arg("passwd")
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs it with octets in a pipe.
fn run(arguments: &[&OsStr], input: &[u8]) -> Output {
    let mut child = start(arguments, Stdio::piped());
    // An invalid name is reported before the password is read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn run_for(name: &str, input: &[u8]) -> Output {
    run(&[OsStr::new(name)], input)
}

/// The printed line; the user must be able to log in with the password.
fn line(output: &Output, name: &str, password: &str) -> String {
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(0), 1), "{output:?}");
    assert!(line.starts_with(&format!("{name}:$6$")), "{line}");
    let (table, problems) = UserTable::parse(&line);
    assert_eq!(problems, []);
    assert!(table.check(&Credentials::new(name.as_bytes(), password.as_bytes()).unwrap()), "{line}");
    assert!(!table.check(&Credentials::new(name.as_bytes(), b"another").unwrap()), "{line}");
    line
}

/// The exit code; the program must have printed neither a line nor the password.
fn refusal(output: &Output, reported: &str) -> i32 {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.stdout.is_empty() && errors.contains(reported), "{output:?}");
    output.status.code().unwrap()
}

#[test]
fn the_first_line_of_a_pipe_is_the_password() {
    for (input, password) in
        [("geheim\n", "geheim"), ("pä ss", "pä ss"), ("geheim\r\nmore\n", "geheim"), (" a \n", " a ")]
    {
        line(&run_for("tim@example.net", input.as_bytes()), "tim@example.net", password);
    }
    let longest = "x".repeat(255);
    line(&run_for("tim", format!("{longest}\r\n").as_bytes()), "tim", &longest);
}

#[test]
fn each_line_has_its_own_salt() {
    let lines = [(); 2].map(|()| line(&run_for("tim", b"geheim\n"), "tim", "geheim"));
    assert_ne!(lines[0], lines[1]);
    let salt = lines[0].split('$').nth(2).unwrap();
    assert!(salt.len() == 16 && !lines[1].contains(salt), "{lines:?}");
}

#[test]
fn passwords_that_nobody_could_log_in_by_are_refused() {
    for (input, reported) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"\r\ngeheim\n", "is empty"),
        (b"a\0b\n", "control character"),
        (b"a\tb\n", "control character"),
        (b"a\x03b\n", "control character"),
        (b"p\xe4ss\n", "not UTF-8"),
        (&[b'x'; 256], "more than 255"),
        (&[b'x'; 100_000], "more than 255"),
    ] {
        assert_eq!(refusal(&run_for("tim", input), reported), 65, "{reported}");
    }
    let closed = start(&[OsStr::new("tim")], Stdio::from(File::open("/").unwrap()));
    assert_eq!(refusal(&closed.wait_with_output().unwrap(), "can't read"), 74);
}

#[test]
fn names_that_can_not_stand_in_the_file_are_refused() {
    for (name, reported) in [
        ("", "empty"),
        ("ti:m", "colon"),
        ("ti\nm", "control character"),
        ("#tim", "comment"),
        (" tim", "blank"),
    ] {
        assert_eq!(refusal(&run_for(name, b"geheim\n"), reported), 64, "{name:?}");
    }
    let not_text = OsStr::from_bytes(b"t\xefm");
    assert_eq!(refusal(&run(&[not_text], b"geheim\n"), "UTF-8"), 64);
    assert_eq!(refusal(&run(&[], b"geheim\n"), "one NAME"), 64);
    assert_eq!(refusal(&run(&["tim".as_ref(), "geheim".as_ref()], b""), "one NAME"), 64);
}

/// A terminal and the program that reads from it.
struct Terminal {
    keys: File,
    line: File,
    child: Child,
}

impl Terminal {
    fn start() -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let path = ptsname(&keys, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(path).unwrap();
        assert!(tcgetattr(&line).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ISIG));
        let child = start(&[OsStr::new("tim")], Stdio::from(line.try_clone().unwrap()));
        Self { keys: File::from(keys), line, child }
    }

    /// Waits for a prompt and then types.
    fn answer(&mut self, prompt: &str, keys: &str) {
        let mut seen = vec![0; prompt.len()];
        self.child.stderr.as_mut().unwrap().read_exact(&mut seen).unwrap();
        assert_eq!(String::from_utf8_lossy(&seen), prompt);
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// The output; no typed text may be shown or left in the input, and the terminal must be restored.
    fn end(mut self) -> Output {
        let output = self.child.wait_with_output().unwrap();
        assert!(tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ISIG));
        // This text must be the first visible output, and this input the first that can be read.
        self.line.write_all(b".").unwrap();
        let mut shown = [0; 64];
        let length = self.keys.read(&mut shown).unwrap();
        assert_eq!(String::from_utf8_lossy(&shown[..length]), ".");
        self.keys.write_all(b"ls\n").unwrap();
        let length = self.line.read(&mut shown).unwrap();
        assert_eq!(String::from_utf8_lossy(&shown[..length]), "ls\n");
        output
    }
}

#[test]
fn a_terminal_is_asked_twice_and_shows_nothing() {
    let mut terminal = Terminal::start();
    terminal.answer("Password: ", "geheim\n");
    terminal.answer("\nOnce more: ", "geheim\n");
    line(&terminal.end(), "tim", "geheim");
}

#[test]
fn a_terminal_gets_its_echo_back_after_a_mistake() {
    let mut terminal = Terminal::start();
    terminal.answer("Password: ", "geheim\n");
    terminal.answer("\nOnce more: ", "gehiem\n");
    assert_eq!(refusal(&terminal.end(), "differ"), 65);
    // The last line is longer than what the program reads.
    let long = "x".repeat(600) + "\n";
    for (keys, reported) in [
        ("\n", "is empty"),
        ("\x04", "is empty"),
        ("gehe\x03", "control character"),
        (&long, "more than 255"),
    ] {
        let mut terminal = Terminal::start();
        terminal.answer("Password: ", keys);
        assert_eq!(refusal(&terminal.end(), reported), 65, "{keys:?}");
    }
}

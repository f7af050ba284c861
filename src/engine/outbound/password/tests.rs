use super::*;
use crate::config::parse;
use crate::mail::address::Domain;
use crate::net::transport::Stopwatch;
use crate::test_directory::TestDirectory;
use std::os::unix::fs::PermissionsExt;

const LONG: Duration = Duration::from_secs(20);

fn of_command(command: &str, longest: Duration) -> Result<Secret, String> {
    let settings = parse(&format!("relay.password_command = {command:?}\n"), "f").unwrap();
    let commands = Commands::start(Path::new("/nonexistent"), &settings).unwrap();
    super::of_command(command, commands.as_ref(), longest)
}

/// What a script says, or why it can't be used.
fn said(text: &str, longest: Duration) -> Result<String, String> {
    let directory = TestDirectory::new();
    let script = directory.file("script", text);
    // The shell reads it. As a program it could be busy: another test forks while this one has it open for writing.
    let result = of_command(&format!("/bin/sh {}", script.display()), longest);
    result.map(|secret| String::from_utf8(secret.octets().to_vec()).unwrap())
}

#[test]
fn a_command_that_goes_wrong_says_how() {
    assert_eq!(said("echo secret; echo more", LONG).as_deref(), Ok("secret\nmore\n"));
    for (text, error) in [
        ("echo secret; exit 3", "exit status: 3"),
        ("echo secret; kill -9 $$", "signal: 9 (SIGKILL)"),
        ("head -c 100000 /dev/zero; exit 0", "it prints more than 4 KiB"),
    ] {
        let said = said(text, LONG).unwrap_err();
        assert!(said.ends_with(error) && !said.contains("secret"), "{text}: {said}");
    }
    let missing = of_command("/nonexistent/pass show mail", LONG).unwrap_err();
    assert!(missing.starts_with("relay.password_command \"/nonexistent/pass\": No such file"), "{missing}");
}

#[test]
fn a_command_that_hangs_is_ended_with_what_it_has_started() {
    let short = Duration::from_millis(150);
    let stopwatch = Stopwatch::start();
    let directory = TestDirectory::new();
    let left = directory.join("left");
    for text in [
        "sleep 60".to_owned(),
        "echo secret; exec >&-; sleep 60".to_owned(),
        format!("echo secret; (sleep 1; touch {}) & wait", left.display()),
    ] {
        let said = said(&text, short).unwrap_err();
        assert!(said.ends_with("it takes too long"), "{text}: {said}");
    }
    assert!(stopwatch.elapsed() < LONG);
    sys::thread::sleep(Duration::from_millis(1100));
    assert!(!left.exists());
}

/// No shell: what has a meaning there has none here.
#[test]
fn a_command_is_words_and_nothing_else() {
    let said = of_command("/bin/echo $HOME;id `id` 'a b' > /dev/null", LONG).unwrap();
    assert_eq!(said.octets(), b"$HOME;id `id` 'a b' > /dev/null\n");
}

#[test]
fn the_password_is_the_first_line_of_a_file_that_others_can_not_read() {
    let directory = TestDirectory::new();
    let path = directory.secret("password", "");
    let site = |keys: &str| {
        let settings = parse(&format!("[relay]\n{keys}"), "f").unwrap();
        Site::new(settings, Domain::parse("box.example").unwrap(), None)
    };
    let relay = |keys: &str| site(keys).settings.relay;
    let of_this_file = site(&format!("password_file = {path:?}\n"));
    let login = RelayLogin { password: PasswordSource::File(path.clone()), ..RelayLogin::default() };
    let read = |site: &Site, login: &RelayLogin| super::read(site, login, &|_| Err("no token".into()));
    for (text, password) in [("one two\r\nthree\n", Ok("one two")), ("\nx\n", Err("first line is empty"))] {
        std::fs::write(&path, text).unwrap();
        let found =
            read(&of_this_file, &login).map(|secret| String::from_utf8(secret.octets().to_vec()).unwrap());
        match password {
            Ok(password) => assert_eq!(found.as_deref(), Ok(password)),
            Err(words) => assert!(found.unwrap_err().contains(words)),
        }
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(read(&of_this_file, &login).unwrap_err().contains("others may use"));
    std::fs::remove_file(&path).unwrap();
    assert!(read(&of_this_file, &login).unwrap_err().contains("No such file"));
    // What has to be there, for `check`.
    assert_eq!(files(&of_this_file.settings.relay), [path]);
    let login = "username = \"joe\"\nsmarthost = \"smtps://smart.example\"\n";
    assert_eq!(files(&relay(login)), [PathBuf::from(USUAL_FILE)]);
    assert_eq!(files(&relay(&format!("{login}password_command = \"pass\"\n"))), Vec::<PathBuf>::new());
    assert_eq!(files(&relay("")), Vec::<PathBuf>::new());
    // A client certificate may be all of a login.
    let certificate = format!("{login}certificate = \"/c.pem\"\n");
    let has_usual = std::path::Path::new(USUAL_FILE).exists();
    assert_eq!(files(&relay(&certificate)).is_empty(), !has_usual);
    assert_eq!(files(&relay(&format!("{certificate}password_file = \"/p\"\n"))), [PathBuf::from("/p")]);
    assert_eq!(files(&relay(&format!("{login}auth = \"external\"\n"))), Vec::<PathBuf>::new());
}

use super::*;
use crate::test_directory::TestDirectory;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

fn answers(admin: &str, login: &str, password: Password) -> Answers {
    Answers {
        admin: admin.into(),
        candidates: Vec::new(),
        login: login.into(),
        sender: String::new(),
        password,
    }
}

#[test]
fn the_configuration_has_three_lines_and_says_what_was_answered() {
    let host = Smarthost::parse("smtps://smtp.example.com").unwrap();
    let typed = || Password::Typed(Secret::new(b"x".to_vec()));
    let answers = answers("me@example.com", "box@example.com", typed());
    let written = text(&answers, Some(&host), Path::new(USUAL_FILE));
    assert_eq!(
        written.lines().skip(1).collect::<Vec<_>>(),
        [
            "admin = \"me@example.com\"",
            "relay.smarthost = \"smtps://smtp.example.com:465\"",
            "relay.username = \"box@example.com\"",
        ]
    );
    let settings =
        config::parse(&text(&answers, Some(&host), Path::new("/etc/a \"b\\/password")), "").unwrap();
    assert_eq!(settings.relay.smarthost, [host.into()]);
    assert_eq!(settings.relay.password_file, Some("/etc/a \"b\\/password".into()));
    let both = Answers { admin: "me@example.com, joe".into(), ..self::answers("", "", Password::None) };
    assert!(text(&both, None, Path::new(USUAL_FILE)).contains("\nadmin = [\"me@example.com\", \"joe\"]\n"));
    assert_eq!(both.probed(), "me@example.com");
    // A login that is no address: who mail is from stands beside it.
    let answers = Answers { login: "AKIA1".into(), sender: "box@example.com".into(), ..answers };
    let written = text(&answers, None, Path::new(USUAL_FILE));
    assert!(
        written.contains("\nrelay.username = \"AKIA1\"\nrewrite.from = \"box@example.com\"\n"),
        "{written}"
    );
}

#[test]
fn a_login_by_token_is_written_so_that_login_can_go_on() {
    let host = Smarthost::parse("smtp+starttls://smtp.office365.com").unwrap();
    let of = |provider| answers("me@example.com", "box@example.com", Password::Token(provider, "i-d".into()));
    let written = text(&of("microsoft"), Some(&host), Path::new(USUAL_FILE));
    let lines = "relay.auth = \"xoauth2\"\noauth.provider = \"microsoft\"\noauth.client_id = \"i-d\"\n";
    assert!(written.ends_with(lines), "{written}");
    let settings = config::parse(&written, "").unwrap();
    assert_eq!(settings.relay.token_names(), ["box@example.com"]);
    // Google has no device codes for mail.
    let written = text(&of("google"), Some(&host), Path::new(USUAL_FILE));
    assert!(written.ends_with("oauth.flow = \"paste\"\n"), "{written}");
    config::parse(&written, "").unwrap();
}

#[test]
fn options_are_read_in_pairs_and_flags_alone() {
    let read = |words: &[&str]| {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Options::read(&words).map_err(|failure| failure.code)
    };
    let options = read(&["--set", "a = 1", "--force", "--set", "--x", "--admin", ""]).unwrap();
    assert_eq!(options.all("set").collect::<Vec<_>>(), ["a = 1", "--x"]);
    assert_eq!((options.value("admin"), options.value("smarthost")), (Some(""), None));
    assert!(options.is_set("force") && !options.is_set("no-test"));
    for (words, file) in [
        (&["--from"][..], Some("")),
        (&["--from", "--force"], Some("")),
        (&["--from", "/etc/msmtprc", "--force"], Some("/etc/msmtprc")),
        (&["--force"], None),
    ] {
        assert_eq!(read(words).unwrap().value("from"), file, "{words:?}");
    }
    // What is taken over counts less than what is said.
    let mut options = read(&["--admin", "me@example.com"]).unwrap();
    options.add(vec![("admin", "root@example.com".into()), ("smarthost", "mx".into())]);
    assert_eq!((options.value("admin"), options.value("smarthost")), (Some("me@example.com"), Some("mx")));
    for wrong in [&["me@example.com"][..], &["--admin"], &["--what", "x"], &["--force", "x"]] {
        assert_eq!(read(wrong).err(), Some(exit::USAGE), "{wrong:?}");
    }
}

/// A user who could not read the replaced configuration cannot read its kept copy.
#[test]
fn what_is_kept_is_read_by_no_more_people_than_before() {
    let directory = TestDirectory::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for was in [0o600, 0o640, 0o644] {
        let path = directory.file_of_mode("pillarbox.toml", "admin = \"root\"\n", was);
        let octets = Secret::new(b"admin = \"joe\"\n".to_vec());
        let target = ConfigTarget::read(&path, true).unwrap();
        target.write(&[File { path: path.clone(), octets, readers: FileReaders::All }]).unwrap();
        let kept = directory.join("pillarbox.toml.old");
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "admin = \"root\"\n");
        let others = if was == 0o644 { 0o644 } else { 0o600 };
        assert_eq!((mode(&kept), mode(&path)), (others, 0o644), "{was:o}");
    }
}

proptest! {
    /// No answer says more, or something else, than was answered.
    #[test]
    fn what_is_written_is_what_was_answered(login in any::<String>(), file in "/[^\0]{0,40}") {
        let answers = answers("root", &login, Password::File(file.clone()));
        match config::parse(&text(&answers, None, Path::new("")), "") {
            Ok(Settings { relay, .. }) => {
                prop_assert_eq!(relay.username, login);
                prop_assert_eq!(relay.password_file, Some(file.into()));
            }
            Err(problems) => {
                // A control character, or a blank that nobody sees at an end.
                let is_told = |words: &str| problems.iter().all(|problem| problem.text.contains(words));
                let is_hidden = |text: &str| text.trim_matches('\u{feff}').trim() != text || text.contains(['\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}']);
                let has_control = (login.clone() + &file).contains(|c: char| c.is_control());
                prop_assert!(has_control || is_told("stands here") && (is_hidden(&login) || is_hidden(&file)), "{:?}", problems);
            }
        }
    }
}

//! The files of `tests/setup`: what the packages of Debian install as default or example (`package-…`), and what people write
//! (`typical-…`). What is taken over from each is in `expected.txt` there; `UPDATE_EXPECT=1 cargo test --lib from::` writes it.

use super::*;
use crate::program::setup::options::Options;
use crate::test_directory::TestDirectory;
use expect_test::expect_file;
use std::fs::read_to_string;

/// A word of every password in the files.
const PASSWORD: &str = "s3cret";

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup");
    let mut cases: Vec<PathBuf> = directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// What is taken over from the files below `root`.
fn taken(root: &Path) -> (Taken, String) {
    let files = |path: &Path| read_to_string(root.join(path.strip_prefix("/").ok()?)).ok();
    let paths = MAILERS.iter().flat_map(|mailer| {
        let directories = mailer.directories.iter().map(|it| if *it == "~" { "/root" } else { *it });
        directories.map(move |directory| (mailer, Path::new(directory).join(mailer.names[0])))
    });
    let (mailer, path, text) =
        paths.into_iter().find_map(|(it, path)| Some((it, path.clone(), files(&path)?))).unwrap();
    let taken = take(mailer, &path, &text, &files, "box.example.org");
    let report = taken.report(mailer.name, &path);
    (taken, report)
}

#[test]
fn the_files_of_packages_and_people_are_taken_over() {
    let cases = cases();
    assert_eq!(cases.len(), 14);
    for case in &cases {
        let (taken, report) = taken(case);
        assert!(!report.contains(PASSWORD), "{report}");
        expect_file![case.join("expected.txt")].assert_eq(&report);
        // Every line is one that pillarbox understands.
        let lines: String = taken.lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        assert_eq!(config::parse(&lines, "f").err(), None, "{lines}");
        let mut options = Options::read(&[]).unwrap();
        options.add(taken.options());
        assert_eq!(options.value("admin").unwrap_or_default(), taken.admin);
    }
}

/// The password of each file, as the smarthost gets it.
#[test]
fn passwords_are_read_as_their_mailers_read_them() {
    let mut found = Vec::new();
    for case in cases() {
        if let TakenPassword::Text(password) = taken(&case).0.password {
            let name = case.file_name().unwrap().to_str().unwrap().to_owned();
            found.push((name, String::from_utf8(password.octets().to_vec()).unwrap()));
        }
    }
    let found: Vec<(&str, &str)> = found.iter().map(|(name, word)| (name.as_str(), word.as_str())).collect();
    assert_eq!(
        found,
        [
            ("typical-dma-provider", "s3cret:word"),
            ("typical-exim-gmail", "s3cret:word"),
            ("typical-msmtp-gmail", "s3cret word"),
            ("typical-nullmailer-gmx", "s3cret \"word\""),
            ("typical-postfix-lan", "s3cret:word"),
            ("typical-ssmtp-gmail", "s3cret=word"),
        ]
    );
}

/// The smarthost and the login, for a text in the place of a mailer's main file.
fn host(name: &str, text: &str) -> (String, String) {
    let (mailer, path) = named(Path::new(name)).unwrap();
    let taken = take(mailer, &path, text, &|_| None, "box.example.org");
    (taken.smarthost, taken.login)
}

#[test]
fn ports_and_tls_are_those_of_the_mailer() {
    for (name, text, expected) in [
        ("msmtprc", "account default\nhost a.example\n", "smtp://a.example:25"),
        ("msmtprc", "defaults\ntls on\naccount x\nhost a.example\n", "smtp+starttls://a.example:25"),
        ("msmtprc", "account default\nhost a.example\ntls on\ntls_starttls off\n", "smtps://a.example"),
        ("msmtprc", "account default\nhost ::1\nport 26\n", "smtp://[::1]:26"),
        ("msmtprc", "account default\nhost a.example\nauth on\nuser b\n", "a.example:25"),
        ("msmtprc", "account default\nhost localhost\nauth on\nuser b\n", "smtp://localhost:25"),
        ("msmtprc", "account default\nhost a.example\nprotocol lmtp\n", "lmtp://a.example"),
        ("ssmtp.conf", "mailhub=a.example\n", "smtp://a.example:25"),
        ("ssmtp.conf", "MailHub = a.example:465\nusetls=yes\n", "smtps://a.example:465"),
        (
            "dma.conf",
            "SMARTHOST a.example\nSECURETRANSFER\nSTARTTLS\nPORT 587\n",
            "smtp+starttls://a.example:587",
        ),
        (
            "dma.conf",
            "SMARTHOST a.example\nSECURETRANSFER\nSTARTTLS\nOPPORTUNISTIC_TLS\n",
            "smtp://a.example:25",
        ),
        ("dma.conf", "#SMARTHOST a.example\n", "mx"),
        ("remotes", "a.example\n", "smtp://a.example:25"),
        ("remotes", "a.example smtp starttls port=587 user=\"b c\"\n", "smtp+starttls://a.example:587"),
        ("remotes", "a.example smtp tls\n", "smtps://a.example"),
        ("main.cf", "relayhost = [a.example]:465\nsmtp_tls_wrappermode = yes\n", "smtps://a.example:465"),
        ("main.cf", "relayhost = [192.0.2.1]\nsmtp_tls_security_level = may\n", "smtp://192.0.2.1:25"),
        (
            "main.cf",
            "relayhost = $x\nx = [a.$y]:587\ny=example\nsmtp_tls_security_level=secure\n",
            "smtp+starttls://a.example:587",
        ),
        ("main.cf", "relayhost = $relayhost\n", "mx"),
        ("main.cf", "myhostname = a.$mydomain\nrelayhost = [mail.$mydomain]\n", "smtp://mail.example.org:25"),
        ("update-exim4.conf.conf", "dc_eximconfig_configtype='internet'\n", "mx"),
        (
            "update-exim4.conf.conf",
            "dc_eximconfig_configtype='satellite'\ndc_smarthost='a.example::465'\n",
            "smtps://a.example:465",
        ),
        (
            "update-exim4.conf.conf",
            "dc_eximconfig_configtype='satellite'\ndc_smarthost='a.example;b.example'\n",
            "smtp://a.example:25",
        ),
        ("update-exim4.conf.conf", "dc_eximconfig_configtype='local'\n", ""),
    ] {
        assert_eq!(host(name, text).0, expected, "{name}\n{text}");
    }
    assert_eq!(host("remotes", "a.example smtp user=\"b c\"").1, "b c");
}

#[test]
fn a_file_is_known_by_its_name() {
    for (name, main) in [
        ("/x/msmtprc", "/x/msmtprc"),
        ("/etc/ssmtp/revaliases", "/etc/ssmtp/ssmtp.conf"),
        ("auth.conf", "dma.conf"),
        ("/etc/postfix/sasl_passwd", "/etc/postfix/main.cf"),
    ] {
        assert_eq!(named(Path::new(name)).ok().map(|(_, path)| path), Some(main.into()), "{name}");
    }
    assert_eq!(
        named(Path::new("/etc/exim4/exim4.conf")).err().map(|failure| failure.code),
        Some(exit::USAGE)
    );
}

/// root's mail goes to a person, not to another alias, and never in a circle.
#[test]
fn the_alias_of_root_is_followed() {
    for (text, expected) in [
        ("root: a@b.example", Some("a@b.example")),
        ("root: joe\njoe: a@b.example", Some("a@b.example")),
        ("root: joe", Some("joe")),
        ("default: a@b.example", Some("a@b.example")),
        ("a: b", None),
        ("root: a\na: root", None),
        ("root: :include:/x", None),
        ("root: a@b.example, joe", Some("a@b.example, joe")),
        ("root: joe\njoe: a@b.example, :include:/x", Some("joe")),
    ] {
        assert_eq!(root_of(text).as_deref(), expected, "{text}");
    }
}

/// A value that pillarbox does not take is named, and costs nothing else.
#[test]
fn a_value_that_does_not_fit_is_named() {
    let (mailer, path) = named(Path::new("/etc/msmtprc")).unwrap();
    let text = "account default\nhost a.example\ntls_host_override a b\nsource_ip ::1\n";
    let taken = take(mailer, &path, text, &|_| None, "box.example.org");
    assert_eq!(taken.lines, [("relay.source", "[\"::1\"]".to_owned())]);
    let [left] = taken.left.as_slice() else { panic!("{:?}", taken.left) };
    assert!(left.starts_with("/etc/msmtprc: relay.tls_name = \"a b\"; \"a b\" is not a host name"), "{left}");
}

/// `--set` replaces a line that is taken over; a sender that the lines name is not asked for.
#[test]
fn options_come_before_what_is_taken_over() {
    let directory = TestDirectory::new();
    let text = "mailhub=a.example:587\nrewriteDomain=b.example\nAuthUser=c\nTLS_CA_FILE=/x.pem\n";
    let file = directory.file("ssmtp.conf", text);
    let words =
        ["--from", file.to_str().unwrap(), "--set", "relay.ca_file = \"\"", "--admin", "me@example.com"];
    let mut options = Options::read(&words.map(std::ffi::OsString::from)).unwrap();
    let extra = crate::program::setup::take_over(&mut options).unwrap();
    assert_eq!(extra, "rewrite.domain = \"b.example\"\nrelay.ca_file = \"\"\n");
    let found = ["admin", "smarthost", "username"].map(|name| options.value(name).unwrap().to_owned());
    assert_eq!(found, ["me@example.com", "a.example:587", "c"]);
}

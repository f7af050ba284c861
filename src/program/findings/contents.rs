//! The content of the files that the configuration names: whether the daemon could use its keys, certificates, users and
//! aliases, and append to its mboxes.
//!
//! | file | read by | a mistake in it |
//! | --- | --- | --- |
//! | the configuration itself | `config` | stops `serve`; at SIGHUP the old one stays |
//! | `tls.certificate`, `tls.key` | `engine::host::certificate` | stops `serve`; at SIGHUP the old one stays |
//! | `dkim.key` | `engine::host::dkim_keys` | the same; a short RSA key is a warning |
//! | `relay.ca_file` | `net::tls_client` | certificates of next hops can't be verified |
//! | `relay.certificate`, `relay.key`, `relay.key_password_file` | `engine::host::client_certificate` | nothing is sent to that smarthost |
//! | `auth.users` | `engine::host::logins` | that user can't log in |
//! | `relay.password_file` | `engine::outbound::password` | the smarthost refuses the login |
//! | `local.aliases`, `:include:` files | `engine::host::aliases_file` | the line is skipped; in a user's own file it is a warning |
//! | mailboxes of local users | `engine::host::mboxes` | mail for that user waits; in a home it is a warning |
//!
//! Each file is read by the code that the daemon uses, so `check` and daemon never differ. A file that [`super::files`] has a
//! problem with is not looked into: its problem is known.
//!
//! There are two steps. [`look`] asks the file system about names, owners and modes, which may need root's rights. Then the
//! caller gives those rights up, and [`Seen::read`] opens files as the daemon does.

use super::report::CheckReport;
use super::{doubts, files, memory};
use crate::config::{ConfigProblem, FilePosition, Places, Settings, host, load_with_problems};
use crate::engine::host::aliases_file::AliasFinding;
use crate::engine::host::client_certificate::CertificateFiles;
use crate::engine::host::mboxes::MboxFault;
use crate::engine::host::site::Site;
use crate::engine::host::{aliases_file, certificate, dkim_keys, logins, mboxes};
use crate::engine::outbound::password;
use crate::mail::date::WallTime;
use crate::net::tls_client;
use crate::rules::message::dkim::RSA_BITS_GOOD;
use crate::rules::routing::aliases::AliasProblem;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::user::ProcessUser;
use std::path::Path;

/// Finds the user of a name: [`ProcessUser::find`], or a table of a test.
pub type LookUp<'a> = &'a dyn Fn(&str) -> Option<ProcessUser>;

/// All problems and warnings of the configuration at `path`. `started_as` is the user who starts `serve`. A file that can't be
/// read is a problem like others. If the text has mistakes, its good values and their files are checked all the same, but no
/// doubts are looked for. `give_up` gives up root's rights; if it can't, no file is read.
pub fn examine(
    path: &Path,
    started_as: &ProcessUser,
    look_up: LookUp<'_>,
    give_up: &dyn Fn(&Settings) -> bool,
) -> CheckReport {
    let file = path.display().to_string();
    let (settings, places, mistakes) = match load_with_problems(path) {
        Ok(read) => read,
        Err(problems) => return CheckReport { file, problems, ..CheckReport::default() },
    };
    let seen = look(path, &settings, &places, started_as, look_up);
    let has_given_up = give_up(&settings);
    let mut report = if has_given_up { seen.read() } else { seen.report };
    if mistakes.is_empty() {
        if !has_given_up {
            return report;
        }
        let hostname = host::name(settings.hostname.as_ref());
        doubts::find(&Site::new(settings, hostname, None), &places, &mut report);
        return report;
    }
    // Where a value is wrong, its default was checked, which is not the operator's. Doubts would be about defaults, too.
    let is_echo = |problem: &ConfigProblem| {
        problem.file == file
            && problem.place.is_none_or(|place| mistakes.iter().any(|it| it.place == Some(place)))
    };
    report.problems.retain(|problem| !is_echo(problem));
    report.problems.splice(0..0, mistakes);
    report
}

/// The problems that show without opening a file, for a process that may still have root's rights: other users own some of
/// the files, and may have put a link or a pipe in their place.
#[derive(Debug)]
pub struct Seen<'a> {
    report: CheckReport,
    settings: &'a Settings,
    places: &'a Places,
    runs_as: Option<ProcessUser>,
    mboxes: Vec<MboxFault>,
}

/// Looks at the files that the settings name, and opens none. `path` is the configuration that `settings` and `places` were
/// read from: the file is not read again, but `user` must be able to read it at SIGHUP.
pub fn look<'a>(
    path: &Path,
    settings: &'a Settings,
    places: &'a Places,
    started_as: &ProcessUser,
    look_up: LookUp<'_>,
) -> Seen<'a> {
    let mut report = CheckReport { file: path.display().to_string(), ..CheckReport::default() };
    report.problems = files::problems(settings, places, &report.file, started_as, look_up);
    let runs_as = files::runs_as(settings, started_as, look_up);
    // At SIGHUP the daemon has the rights of its user only.
    if let Some(Err(text)) = runs_as.as_ref().map(|user| files::readable(path, user)) {
        report.problem(None, text);
    }
    memory::find(settings, places, runs_as.as_ref().map(|user| user.uid), &mut report);
    // Root's daemon becomes another user, and has an agent; any other one writes by its own rights.
    let writer = runs_as.as_ref().filter(|_| started_as.uid == 0).map(|user| user.uid);
    let mboxes = mboxes::faults(settings, writer);
    Seen { report, settings, places, runs_as, mboxes }
}

impl Seen<'_> {
    /// Reads the files, with the rights that the daemon has: all problems and warnings.
    #[must_use]
    pub fn read(self) -> CheckReport {
        let Self { mut report, settings, places, runs_as, mboxes } = self;
        alias_problems(settings, runs_as.as_ref(), &mut report);
        for fault in mboxes::problems(settings, mboxes) {
            let place = places.of("local", "maildir");
            // A user must not make the check fail.
            if fault.is_user_s { report.warn(place, fault.text) } else { report.problem(place, fault.text) }
        }
        check_contents(settings, places, &mut report);
        report
    }
}

/// Checks the contents of the files. Files that cannot be read, or that others can use, have their problem already.
fn check_contents(settings: &Settings, places: &Places, found: &mut CheckReport) {
    let relay = &settings.relay;
    let is_known = |found: &CheckReport, place: Option<FilePosition>| {
        place.is_some() && found.problems.iter().any(|it| it.file == found.file && it.place == place)
    };
    let of_tls = ["certificate", "key"].map(|key| places.of("tls", key));
    if !of_tls.iter().any(|place| is_known(found, *place))
        && let Err((key, fault)) = certificate::configured(settings, WallTime(SystemClock.wall_micros()))
    {
        found.problem(places.of("tls", key), fault.text);
    }
    for (i, dkim) in settings.dkim.iter().enumerate() {
        let place = places.nth("dkim", "key", i);
        match dkim_keys::read(dkim) {
            _ if is_known(found, place) => {}
            Err(fault) => found.problem(place, fault.text),
            Ok(key) => {
                if let Some(bits) = key.and_then(|key| key.rsa_bits()).filter(|bits| *bits < RSA_BITS_GOOD) {
                    let text = format!(
                        "the key has {bits} bits, which not all hosts take; make one of {RSA_BITS_GOOD}"
                    );
                    found.warn(place, text);
                }
            }
        }
    }
    let now = WallTime(SystemClock.wall_micros());
    for files in CertificateFiles::all(relay) {
        let place = |key| files::place(places, "relay", key);
        let keys = ["certificate", "key", "key_password_file"];
        if !keys.iter().any(|key| is_known(found, place(key)))
            && let Err((key, fault)) = files.read(now)
        {
            found.problem(place(key), fault.text);
        }
    }
    let place = places.of("relay", "ca_file");
    if !is_known(found, place)
        && let Some(Err(text)) = relay.ca_file.as_deref().map(tls_client::anchors)
    {
        found.problem(place, format!("{text}; name a file of certificates in PEM"));
    }
    if let Some(path) = settings.auth.users.as_deref()
        && let Ok((_, problems)) = logins::read(path)
    {
        let file = path.display().to_string();
        let problem = |it: crate::rules::accounts::users::LineProblem| ConfigProblem {
            file: file.clone(),
            place: Some(FilePosition { line: it.line, column: 1 }),
            text: it.text,
        };
        found.problems.extend(problems.into_iter().map(problem));
    }
    for path in password::files(relay) {
        let Ok(Some(flaw)) = password::file_flaw(&path) else { continue };
        let place = Some(FilePosition { line: 1, column: 1 });
        let problem = ConfigProblem { file: path.display().to_string(), place, text: flaw.text.to_owned() };
        if flaw.is_fatal { found.problems.push(problem) } else { found.warnings.push(problem) }
    }
}

/// Adds problems in the aliases file and the files that it includes, which `user` must be able to read. [`super::files`] checks
/// that the aliases file itself exists.
fn alias_problems(settings: &Settings, user: Option<&ProcessUser>, report: &mut CheckReport) {
    let Some(path) = settings.local.aliases.as_deref().filter(|path| path.exists()) else { return };
    let found = aliases_file::problems(path, &|file| match user {
        Some(user) if file != path => files::readable(file, user),
        _ => Ok(()),
    });
    for AliasFinding { file, is_user_s, problem } in found {
        let file = file.display().to_string();
        let problem = match problem {
            Ok(AliasProblem { line, column, text }) => {
                ConfigProblem { file, place: Some(FilePosition { line, column }), text }
            }
            Err(text) => ConfigProblem { file, place: None, text },
        };
        // A user must not make the check fail.
        let list = if is_user_s { &mut report.warnings } else { &mut report.problems };
        list.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_with_places;
    use crate::test_directory::TestDirectory;
    use std::os::unix::fs::PermissionsExt;

    fn report(file: &Path, started_as: &ProcessUser, look_up: LookUp<'_>) -> CheckReport {
        let (settings, places) = load_with_places(file).unwrap();
        look(file, &settings, &places, started_as, look_up).read()
    }

    #[test]
    fn the_configuration_must_stay_readable_when_rights_are_gone() {
        let directory = TestDirectory::new();
        let text = "state = \"/tmp\"\ncontrol = \"/tmp/c\"\nlocal.maildir = \"/tmp/{user}\"\n";
        let file = directory.file("pillarbox.toml", text);
        let root = ProcessUser { name: "root".into(), uid: 0, groups: vec![0] };
        let look_up =
            |_: &str| Some(ProcessUser { name: "pb".into(), uid: 4_000_000, groups: vec![4_000_000] });
        for (mode, is_good) in [(0o644, true), (0o600, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let found: String =
                report(&file, &root, &look_up).problems.iter().map(ToString::to_string).collect();
            assert_eq!(found.is_empty(), is_good, "{mode:o}: {found}");
            assert_eq!(found.contains("user \"pb\" can't read"), !is_good, "{mode:o}: {found}");
        }
    }

    /// In `[relay]` and with a smarthost of its own; each login's files once, and a file that others can use only as such.
    #[test]
    fn a_client_certificate_of_no_use_is_told_with_its_place() {
        let directory = TestDirectory::new();
        let (file, d) = (directory.join("pillarbox.toml"), directory.display());
        let now = WallTime(SystemClock.wall_micros());
        for (name, mode) in [("good", 0o600), ("other", 0o600), ("open", 0o644)] {
            let pem = crate::net::self_signed::make("box.example", now).unwrap();
            directory.file_of_mode(name, pem, mode);
        }
        let user = ProcessUser::own();
        let found = |relay: &str| -> Vec<String> {
            let head = format!(
                "state = \"{d}/s\"\ncontrol = \"{d}/c.sock\"\nlocal.maildir = \"{d}/{{user}}\"\n[relay]\n"
            );
            std::fs::write(&file, head + &relay.replace('@', &format!("{d}/"))).unwrap();
            let report = report(&file, &user, &|_| Some(ProcessUser::own()));
            report.problems.iter().map(ToString::to_string).collect()
        };
        let first = "smarthost = \"smtps://a.example\"\n";
        // The certificate is all of the login: no password file is missed.
        assert_eq!(found(&format!("{first}certificate = \"@good\"\n")), [""; 0]);
        for (relay, place, words) in [
            (
                format!("{first}certificate = \"@good\"\nkey = \"@other\"\n"),
                ":7:7: ",
                "is not the key of this",
            ),
            (format!("{first}certificate = \"@good\"\nkey = \"@open\"\n"), ":7:7: ", "others may use"),
            (format!("{first}certificate = \"@open\"\n"), ":6:15: ", "others may use"),
            (format!("{first}certificate = \"@none\"\n"), ":6:15: ", "make the file"),
            (
                format!("{first}certificate = \"@good\"\nkey_password_file = \"@none\"\n"),
                ":7:21: ",
                "make the file",
            ),
            (
                "smarthost = [{ url = \"smtps://a.example\", certificate = \"@good\", key = \"@other\" }]\n"
                    .to_owned(),
                ":5:13: ",
                "is not the key of this",
            ),
        ] {
            let found = found(&relay);
            assert!(
                found.len() == 1 && found[0].contains(place) && found[0].contains(words),
                "{relay}: {found:?}"
            );
        }
    }

    #[test]
    fn a_dkim_key_of_no_use_is_told_with_its_place() {
        let directory = TestDirectory::new();
        let (file, d) = (directory.join("pillarbox.toml"), directory.display());
        let mut text =
            format!("state = \"{d}/s\"\ncontrol = \"{d}/c.sock\"\nlocal.maildir = \"{d}/{{user}}\"\n");
        for name in ["good", "bad"] {
            text += &format!("[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = \"{d}/{name}\"\n");
        }
        std::fs::write(&file, text).unwrap();
        let key = openssl::pkey::PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap();
        for (name, octets) in [("good", &key[..]), ("bad", b"none")] {
            directory.secret(name, octets);
        }
        let user = ProcessUser::own();
        let found: Vec<String> = report(&file, &ProcessUser { uid: 1, ..user.clone() }, &ProcessUser::find)
            .problems
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(user.uid != 0 || found.iter().any(|problem| problem.contains("can't read")), "{found:?}");
        let found: Vec<String> = report(&file, &user, &|_| Some(ProcessUser::own()))
            .problems
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            found.len() == 1
                && found[0].contains(":11:7: ")
                && found[0].contains("bad\" holds no private key"),
            "{found:?}"
        );
        // A short key is refused, one that some hosts refuse is warned of.
        for (bits, refused, warned) in [(512, 1, 0), (1024, 0, 1), (2048, 0, 0)] {
            let rsa = openssl::rsa::Rsa::generate(bits).unwrap();
            std::fs::write(directory.join("bad"), rsa.private_key_to_pem().unwrap()).unwrap();
            let CheckReport { problems: found, warnings, .. } =
                report(&file, &user, &|_| Some(ProcessUser::own()));
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!((found.len(), warnings.len()), (refused, warned), "{found:?} {warnings:?}");
            assert!(warnings.iter().all(|line| line.contains(":11:7: the key has 1024 bits")));
        }
    }
}

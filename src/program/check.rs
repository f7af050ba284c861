//! `pillarbox check`: reads the configuration and looks at all that it names.
//!
//! Changes nothing. Problems go to standard error, one a line as `FILE:LINE:COLUMN: what is wrong; what to write
//! instead`, and the exit code is 78; without any it is 0 and a line says so. What is doubtful goes there in the same form,
//! behind "warning: ", and changes no exit code. One problem hides no other.

mod doubts;

use super::exit::Failure;
use crate::config::{Account, Place, Places, Problem, Settings, files, host, load_with_problems};
use crate::engine::host::site::Site;
use crate::engine::host::{aliases, dkim, logins, mboxes, tls};
use crate::engine::outbound::password;
use crate::mail::date::WallTime;
use crate::net::tls_client;
use crate::rules::message::dkim::RSA_BITS_GOOD;
use crate::rules::routing::aliases::AliasProblem;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::user;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    /// The configuration, as problems name it.
    file: String,
    /// What can't work.
    problems: Vec<Problem>,
    /// What is doubtful.
    warnings: Vec<Problem>,
}

impl Findings {
    fn problem(&mut self, place: Option<Place>, text: String) {
        self.problems.push(Problem { file: self.file.clone(), place, text });
    }

    fn warn(&mut self, place: Option<Place>, text: String) {
        self.warnings.push(Problem { file: self.file.clone(), place, text });
    }
}

/// Checks the configuration at `path`.
///
/// # Errors
/// It has problems.
pub fn run(path: &Path) -> Result<(), Failure> {
    let Findings { problems, warnings, .. } = examine(path, &own_account(), &look_up);
    // A closed output changes nothing about the answer, which is the exit code.
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    if !problems.is_empty() {
        return Err(Failure::problems(&problems));
    }
    let _ = writeln!(std::io::stdout(), "{}: ok", path.display());
    Ok(())
}

/// All that is wrong with the configuration at `path` and the files that it names; `started_as` is who starts `serve`, and
/// `look_up` finds accounts of the system.
pub fn problems(
    path: &Path,
    started_as: &Account,
    look_up: &dyn Fn(&str) -> Option<Account>,
) -> Vec<Problem> {
    let (found, _) = examine_files(path, started_as, look_up);
    found.problems
}

/// The same, and whether mail would get where it has to.
fn examine(path: &Path, started_as: &Account, look_up: &dyn Fn(&str) -> Option<Account>) -> Findings {
    let (mut found, settings) = examine_files(path, started_as, look_up);
    // Where a value is wrong, what would follow from its default is none of the operator's.
    if let Some((settings, places)) = settings {
        let hostname = host::name(settings.hostname.as_ref());
        doubts::look(&Site::new(settings, hostname, None), &places, &mut found);
    }
    found
}

/// Looks at the configuration and at each file that it names; gives the settings if they are whole.
fn examine_files(
    path: &Path,
    started_as: &Account,
    look_up: &dyn Fn(&str) -> Option<Account>,
) -> (Findings, Option<(Settings, Places)>) {
    let mut found = Findings { file: path.display().to_string(), ..Findings::default() };
    let (mut settings, places, complaints) = match load_with_problems(path) {
        Ok(read) => read,
        Err(problems) => return (Findings { problems, ..found }, None),
    };
    let password_file = settings.relay.password_file.clone();
    settings.relay.password_file = password::file(&settings.relay);
    found.problems = files::problems(&settings, &places, &found.file, started_as, look_up);
    let runs_as = files::runs_as(&settings, started_as, look_up);
    // At SIGHUP the rights of whoever started the daemon are gone.
    if let Some(Err(text)) = runs_as.as_ref().map(|user| files::readable(path, user)) {
        found.problem(None, text);
    }
    let of_aliases = alias_problems(&settings, runs_as.as_ref());
    found.problems.extend(of_aliases);
    // Root's daemon becomes another user, and has an agent; any other one writes by its own rights.
    let writer = runs_as.as_ref().filter(|_| started_as.uid == 0).map(|user| user.uid);
    for text in mboxes::problems(&settings, writer) {
        found.problem(places.of("local", "maildir"), text);
    }
    look_into_files(&settings, &places, &mut found);
    if complaints.is_empty() {
        settings.relay.password_file = password_file;
        return (found, Some((settings, places)));
    }
    // The value there is not the operator's but a default.
    let is_echo = |problem: &Problem| {
        problem.file == found.file
            && problem.place.is_none_or(|place| complaints.iter().any(|it| it.place == Some(place)))
    };
    let others: Vec<Problem> = found.problems.iter().filter(|it| !is_echo(it)).cloned().collect();
    found.problems = complaints;
    found.problems.extend(others);
    (found, None)
}

/// What the files hold. One that can't be read, or that is open to others, has been told of.
fn look_into_files(settings: &Settings, places: &Places, found: &mut Findings) {
    let (tls, relay) = (&settings.tls, &settings.relay);
    let is_told = |found: &Findings, place: Option<Place>| {
        place.is_some() && found.problems.iter().any(|it| it.file == found.file && it.place == place)
    };
    let of_tls = ["certificate", "key"].map(|key| places.of("tls", key));
    if !of_tls.iter().any(|place| is_told(found, *place))
        && tls.key.as_deref().is_none_or(|key| files::open_secret(key).is_none())
        && let Err((key, text)) = tls::configured(settings, WallTime(SystemClock.wall_micros()))
    {
        found.problem(places.of("tls", key), text);
    }
    for (i, dkim) in settings.dkim.iter().enumerate() {
        let place = places.nth("dkim", "key", i);
        match dkim::read(dkim) {
            _ if is_told(found, place) => {}
            Err(text) => found.problem(place, text),
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
    let place = places.of("relay", "ca_file");
    if !is_told(found, place)
        && let Some(Err(text)) = relay.ca_file.as_deref().map(tls_client::anchors)
    {
        found.problem(place, format!("{text}; name a file of certificates in PEM"));
    }
    if let Some(path) = settings.auth.users.as_deref()
        && let Ok((_, problems)) = logins::read(path)
    {
        let file = path.display().to_string();
        let problem = |it: crate::rules::accounts::users::LineProblem| Problem {
            file: file.clone(),
            place: Some(Place { line: it.line, column: 1 }),
            text: it.text,
        };
        found.problems.extend(problems.into_iter().map(problem));
    }
    if let Some(path) = relay.password_file.as_deref()
        && let Ok(Some(flaw)) = password::file_flaw(path)
    {
        let place = Some(Place { line: 1, column: 1 });
        let problem = Problem { file: path.display().to_string(), place, text: flaw.text.to_owned() };
        if flaw.is_fatal { found.problems.push(problem) } else { found.warnings.push(problem) }
    }
}

/// What is wrong within the aliases file and those that it includes, which `user` must be able to read. Whether the
/// aliases file itself is there has been looked at before.
fn alias_problems(settings: &Settings, user: Option<&Account>) -> Vec<Problem> {
    let Some(path) = settings.local.aliases.as_deref().filter(|path| path.exists()) else {
        return Vec::new();
    };
    let found = aliases::problems(path, &|file| match user {
        Some(user) if file != path => files::readable(file, user),
        _ => Ok(()),
    });
    let problem = |(file, problem): (PathBuf, Result<AliasProblem, String>)| {
        let file = file.display().to_string();
        match problem {
            Ok(AliasProblem { line, column, text }) => {
                Problem { file, place: Some(Place { line, column }), text }
            }
            Err(text) => Problem { file, place: None, text },
        }
    };
    found.into_iter().map(problem).collect()
}

/// Who runs this process.
#[must_use]
pub fn own_account() -> Account {
    let uid = rustix::process::geteuid().as_raw();
    let mut groups = vec![rustix::process::getegid().as_raw()];
    groups.extend(
        rustix::process::getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw),
    );
    Account { name: uid.to_string(), uid, groups }
}

/// Finds an account of the system; one that can't be looked up now counts as none.
#[must_use]
pub fn look_up(name: &str) -> Option<Account> {
    let account = user::find(name).ok().flatten()?;
    let groups = user::groups(&account);
    Some(Account { name: account.name, uid: account.uid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::exit;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn accounts_are_found_with_all_their_groups() {
        let own = own_account();
        let root = look_up("root").unwrap();
        assert!((root.uid, root.groups.contains(&0)) == (0, true), "{root:?}");
        assert!(
            own.uid != 0 || own.groups.iter().all(|group| root.groups.contains(group)),
            "{own:?} {root:?}"
        );
        assert_eq!(look_up("no-such-user-here"), None);
    }

    #[test]
    fn the_configuration_must_stay_readable_when_rights_are_gone() {
        let directory = std::env::temp_dir().join(format!("pillarbox-readable-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("pillarbox.toml");
        std::fs::write(&file, "state = \"/tmp\"\ncontrol = \"/tmp/c\"\nlocal.maildir = \"/tmp/{user}\"\n")
            .unwrap();
        let root = Account { name: "root".into(), uid: 0, groups: vec![0] };
        let look_up = |_: &str| Some(Account { name: "pb".into(), uid: 4_000_000, groups: vec![4_000_000] });
        for (mode, is_good) in [(0o644, true), (0o600, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let told: String = problems(&file, &root, &look_up).iter().map(ToString::to_string).collect();
            assert_eq!(told.is_empty(), is_good, "{mode:o}: {told}");
            assert_eq!(told.contains("user \"pb\" can't read"), !is_good, "{mode:o}: {told}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_dkim_key_of_no_use_is_told_with_its_place() {
        let directory = std::env::temp_dir().join(format!("pillarbox-check-dkim-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (file, d) = (directory.join("pillarbox.toml"), directory.display());
        let mut text =
            format!("state = \"{d}/s\"\ncontrol = \"{d}/c.sock\"\nlocal.maildir = \"{d}/{{user}}\"\n");
        for name in ["good", "bad"] {
            text += &format!("[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = \"{d}/{name}\"\n");
        }
        std::fs::write(&file, text).unwrap();
        let key = openssl::pkey::PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap();
        for (name, octets) in [("good", &key[..]), ("bad", b"none")] {
            let path = directory.join(name);
            std::fs::write(&path, octets).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        let user = own_account();
        let told: Vec<String> = problems(&file, &Account { uid: 1, ..user.clone() }, &look_up)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(user.uid != 0 || told.iter().any(|problem| problem.contains("can't read")), "{told:?}");
        let told: Vec<String> =
            problems(&file, &user, &|_| Some(own_account())).iter().map(ToString::to_string).collect();
        assert!(
            told.len() == 1 && told[0].contains(":11:7: ") && told[0].contains("bad\" holds no private key"),
            "{told:?}"
        );
        // A short key is refused, one that some hosts refuse is warned of.
        for (bits, refused, warned) in [(512, 1, 0), (1024, 0, 1), (2048, 0, 0)] {
            let rsa = openssl::rsa::Rsa::generate(bits).unwrap();
            std::fs::write(directory.join("bad"), rsa.private_key_to_pem().unwrap()).unwrap();
            let Findings { problems: told, warnings, .. } =
                examine_files(&file, &user, &|_| Some(own_account())).0;
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!((told.len(), warnings.len()), (refused, warned), "{told:?} {warnings:?}");
            assert!(warnings.iter().all(|line| line.contains(":11:7: the key has 1024 bits")));
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_exit_code_says_it() {
        let directory = std::env::temp_dir().join(format!("pillarbox-check-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("pillarbox.toml");
        let d = directory.display();
        let text = format!(
            "user = \"root\"\nstate = \"{d}/state\"\ncontrol = \"{d}/run/c.sock\"\nlocal.maildir = \"{d}/mail/{{user}}\"\n"
        );
        std::fs::write(&file, &text).unwrap();
        assert_eq!(run(&file), Ok(()));
        std::fs::write(&file, format!("{text}local.quota = []\n")).unwrap();
        assert_eq!(run(&file).map_err(|failure| failure.code), Err(exit::CONFIG));
        std::fs::write(&file, text.replace("/state", "/pillarbox.toml")).unwrap();
        assert_eq!(run(&file).map_err(|failure| failure.code), Err(exit::CONFIG));
        // What the smarthost needs.
        let smarthost = "[relay]\nsmarthost = \"smtps://smart.example\"\n";
        let told = |relay: &str| {
            std::fs::write(&file, format!("{text}{relay}")).unwrap();
            let Findings { problems, .. } = examine(&file, &own_account(), &look_up);
            problems
                .iter()
                .map(|problem| problem.to_string().replace(&d.to_string(), "D"))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(smarthost), [""; 0]);
        let problem = &told("[relay]\nusername = \"joe\"\n")[0];
        assert!(problem.starts_with("D/pillarbox.toml:6:12: nobody logs in"), "{problem}");
        if !Path::new("/etc/pillarbox/password").exists() {
            let problem = &told(&format!("{smarthost}username = \"joe\"\n"))[0];
            assert!(
                problem
                    .starts_with("D/pillarbox.toml:7:12: \"/etc/pillarbox/password\" can't be read: No such")
            );
            assert!(problem.contains("relay.password_file"), "{problem}");
        }
        let command = format!("{smarthost}username = \"joe\"\npassword_command = \"pass show mail\"\n");
        assert_eq!(told(&command), [""; 0]);
        let problem = &told(&format!("{smarthost}ca_file = \"{d}/pillarbox.toml\"\n"))[0];
        assert!(
            problem.starts_with("D/pillarbox.toml:7:11: ") && problem.contains("no certificate in PEM"),
            "{problem}"
        );
        let problem = &told(&format!("{smarthost}ca_file = \"{d}/missing\"\n"))[0];
        assert!(problem.contains("\"D/missing\" can't be read: No such file"), "{problem}");
        assert_eq!(run(&directory.join("missing.toml")).map_err(|failure| failure.code), Err(exit::CONFIG));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

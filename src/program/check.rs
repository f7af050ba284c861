//! `pillarbox check`: reads the configuration and looks at all that it names.
//!
//! Changes nothing. Problems go to standard error, one a line as `FILE:LINE:COLUMN: what is wrong; what to write
//! instead`, and the exit code is 78; without any it is 0 and a line says so. Warnings go there in the same form.

use super::exit::Failure;
use crate::config::{Account, Place, Problem, Settings, files, load_with_places};
use crate::engine::{aliases, dkim, mboxes, password, tls};
use crate::mail::date::WallTime;
use crate::net::tls_client;
use crate::rules::aliases::AliasProblem;
use crate::rules::dkim::{DkimKey, RSA_BITS_GOOD};
use crate::sys::clock::{Clock, SystemClock};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Checks the configuration at `path`.
///
/// # Errors
/// It has problems.
pub fn run(path: &Path) -> Result<(), Failure> {
    let problems = problems(path, &own_account(), &look_up);
    if !problems.is_empty() {
        return Err(Failure::problems(&problems));
    }
    // A closed output changes nothing about the answer, which is the exit code.
    for warning in warnings(path) {
        let _ = writeln!(std::io::stderr(), "{warning}");
    }
    let _ = writeln!(std::io::stdout(), "{}: ok", path.display());
    Ok(())
}

/// All that is wrong with the configuration at `path` and what it names; `started_as` is who starts `serve`, and
/// `look_up` finds accounts of the system.
pub fn problems(
    path: &Path,
    started_as: &Account,
    look_up: &dyn Fn(&str) -> Option<Account>,
) -> Vec<Problem> {
    match load_with_places(path) {
        Ok((mut settings, places)) => {
            settings.relay.password_file = password::file(&settings.relay);
            let file = path.display().to_string();
            let mut problems = files::problems(&settings, &places, &file, started_as, look_up);
            let runs_as = files::runs_as(&settings, started_as, look_up);
            // At SIGHUP the rights of whoever started the daemon are gone.
            if let Some(Err(text)) = runs_as.as_ref().map(|user| files::readable(path, user)) {
                problems.push(Problem { file: file.clone(), place: None, text });
            }
            problems.extend(alias_problems(&settings, runs_as.as_ref()));
            // Root's daemon becomes another user, and has an agent; any other one writes by its own rights.
            let writer = runs_as.as_ref().filter(|_| started_as.uid == 0).map(|user| user.uid);
            let place = places.of("local", "maildir");
            let told = mboxes::problems(&settings, writer).into_iter();
            problems.extend(told.map(|text| Problem { file: file.clone(), place, text }));
            if problems.is_empty()
                && let Err((key, text)) = tls::configured(&settings, WallTime(SystemClock.wall_micros()))
            {
                problems.push(Problem { file: file.clone(), place: places.of("tls", key), text });
            }
            if problems.is_empty()
                && let Err((i, text)) = dkim::load(&settings)
            {
                problems.push(Problem { file: file.clone(), place: places.nth("dkim", "key", i), text });
            }
            let ca_file = settings.relay.ca_file.as_deref().filter(|_| problems.is_empty());
            if let Some(Err(text)) = ca_file.map(tls_client::anchors) {
                let text = format!("{text}; name a file of certificates in PEM");
                problems.push(Problem { file, place: places.of("relay", "ca_file"), text });
            }
            problems
        }
        Err(problems) => problems,
    }
}

/// What works, and not everywhere.
fn warnings(path: &Path) -> Vec<Problem> {
    let Ok((settings, places)) = load_with_places(path) else { return Vec::new() };
    let warning = |(i, key): (usize, DkimKey)| {
        let bits = key.rsa_bits().filter(|bits| *bits < RSA_BITS_GOOD)?;
        let text = format!(
            "warning: the key has {bits} bits, which not all hosts take; make one of {RSA_BITS_GOOD}"
        );
        Some(Problem { file: path.display().to_string(), place: places.nth("dkim", "key", i), text })
    };
    dkim::load(&settings).unwrap_or_default().into_iter().enumerate().filter_map(warning).collect()
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

/// Finds an account of the system.
#[must_use]
pub fn look_up(name: &str) -> Option<Account> {
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    account(name, &read("/etc/passwd"), &read("/etc/group"))
}

/// Finds an account in the text of passwd(5) and group(5).
fn account(name: &str, passwd: &str, group: &str) -> Option<Account> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let entry = passwd.lines().map(fields).find(|f| f.first().is_some_and(|n| n == name))?;
    let uid = entry.get(2)?.parse().ok()?;
    let mut groups = vec![entry.get(3)?.parse().ok()?];
    let is_member = |f: &Vec<String>| f.get(3).is_some_and(|members| members.split(',').any(|m| m == name));
    groups.extend(group.lines().map(fields).filter(is_member).filter_map(|f| f.get(2)?.parse::<u32>().ok()));
    Some(Account { name: name.to_owned(), uid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::exit;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn accounts_are_found_with_all_their_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\npillarbox:x:123:124::/:/bin/false\n";
        let group = "root:x:0:\nmail:x:8:dovecot,pillarbox\nbroken\nmails:x:9:pillarbox2\n";
        let found = account("pillarbox", passwd, group);
        assert_eq!(found, Some(Account { name: "pillarbox".into(), uid: 123, groups: vec![124, 8] }));
        assert_eq!(account("pillar", passwd, group), None);
        assert_eq!(account("broken", passwd, group), None);
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
            let told = problems(&file, &user, &|_| Some(own_account()));
            let warnings: Vec<String> = warnings(&file).iter().map(ToString::to_string).collect();
            assert_eq!((told.len(), warnings.len()), (refused, warned), "{told:?} {warnings:?}");
            assert!(warnings.iter().all(|line| line.contains(":11:7: warning: the key has 1024 bits")));
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
            let problems = problems(&file, &own_account(), &look_up);
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

//! `pillarbox check`: reads the configuration and looks at everything that it names.
//!
//! Changes nothing. Problems go to standard error, one a line as `FILE:LINE:COLUMN: what is wrong; what to write
//! instead`, and the exit code is 78; without any it is 0 and a line says so. Warnings have the same form behind
//! "warning: ", and change no exit code. One problem hides no other.
//!
//! ```text
//! /etc/pillarbox/pillarbox.toml:3:9: unknown key "smarthosts"; did you mean "smarthost"?
//! warning: /etc/pillarbox/pillarbox.toml:7:15: mail for root has no recipient; write admin = "me@example.com"
//! ```
//!
//! [`super::findings`] does the work, which `serve` and `probe` share. Started as root, it looks at names, owners and modes as
//! root, and becomes `user` before it opens a file that the configuration names. If `user` does not exist, it opens none.

use super::exit::CommandFailure;
use super::findings::contents::examine;
use super::findings::report::CheckReport;
use super::privileges;
use crate::sys::journal;
use crate::sys::user::ProcessUser;
use std::io::Write;
use std::path::Path;

/// Checks the configuration at `path`.
///
/// # Errors
/// It has problems.
pub fn run(path: &Path) -> Result<(), CommandFailure> {
    tell(path, examine(path, &ProcessUser::own(), &ProcessUser::find, &privileges::become_user))
}

fn tell(path: &Path, report: CheckReport) -> Result<(), CommandFailure> {
    let CheckReport { problems, warnings, .. } = report;
    let mark = journal::mark(journal::WARNING);
    // A closed output changes nothing about the answer, which is the exit code.
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "{mark}warning: {warning}");
    }
    if !problems.is_empty() {
        return Err(CommandFailure::problems(&problems));
    }
    let _ = writeln!(std::io::stdout(), "{}: ok", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::exit;
    use crate::test_directory::TestDirectory;

    #[test]
    fn the_exit_code_says_it() {
        let directory = TestDirectory::new();
        let file = directory.join("pillarbox.toml");
        // Without giving up rights, which the other tests of this process need.
        let run = |file: &Path| tell(file, examine(file, &ProcessUser::own(), &ProcessUser::find, &|_| true));
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
        // The keys that a smarthost needs.
        let smarthost = "[relay]\nsmarthost = \"smtps://smart.example\"\n";
        let problems_with = |relay: &str| {
            std::fs::write(&file, format!("{text}{relay}")).unwrap();
            let CheckReport { problems, .. } =
                examine(&file, &ProcessUser::own(), &ProcessUser::find, &|_| true);
            problems
                .iter()
                .map(|problem| problem.to_string().replace(&d.to_string(), "D"))
                .collect::<Vec<_>>()
        };
        assert_eq!(problems_with(smarthost), [""; 0]);
        let problem = &problems_with("[relay]\nusername = \"joe\"\n")[0];
        assert!(problem.starts_with("D/pillarbox.toml:6:12: nobody logs in"), "{problem}");
        if !Path::new("/etc/pillarbox/password").exists() {
            let problem = &problems_with(&format!("{smarthost}username = \"joe\"\n"))[0];
            assert!(
                problem
                    .starts_with("D/pillarbox.toml:7:12: \"/etc/pillarbox/password\" can't be read: No such")
            );
            assert!(problem.contains("relay.password_file"), "{problem}");
        }
        let command = format!("{smarthost}username = \"joe\"\npassword_command = \"pass show mail\"\n");
        assert_eq!(problems_with(&command), [""; 0]);
        let problem = &problems_with(&format!("{smarthost}ca_file = \"{d}/pillarbox.toml\"\n"))[0];
        assert!(
            problem.starts_with("D/pillarbox.toml:7:11: ") && problem.contains("no certificate in PEM"),
            "{problem}"
        );
        let problem = &problems_with(&format!("{smarthost}ca_file = \"{d}/missing\"\n"))[0];
        assert!(problem.contains("\"D/missing\" can't be read: No such file"), "{problem}");
        assert_eq!(run(&directory.join("missing.toml")).map_err(|failure| failure.code), Err(exit::CONFIG));
    }
}

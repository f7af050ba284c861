//! The users file: the users that may log in.
//!
//! ```text
//! # a comment line
//! alice:$6$SALT$HASH
//! bob:{SHA512-CRYPT}$6$SALT$HASH:1000:1000::/home/bob
//! ```
//!
//! Each line has a name, a colon and a hash. Text after another colon is ignored, so that a passwd-file of Dovecot
//! can be shared. Empty lines are skipped. Names are compared without case, as those of local users are.
//!
//! The module parses text and never opens a file. A malformed line is reported with its number and skipped; the rest
//! still applies. See `password` for the hashes.

use super::password::PasswordHash;
use crate::smtp::sasl::{CREDENTIAL_MAX_OCTETS, Credentials};

/// The users that may log in.
#[derive(Debug)]
pub struct UserTable {
    /// In the order of the file. Checking a hash costs a thousand times more than finding its user in the file of a
    /// small box.
    users: Vec<(String, PasswordHash)>,
    /// For an empty file. Otherwise an unknown name is checked against the first user's hash, in vain.
    decoy: PasswordHash,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineProblem {
    /// The line number, from one.
    pub line: usize,
    /// What is wrong and what to do. It never quotes a hash or what stands in its place, which may be a password.
    pub text: String,
}

impl UserTable {
    /// Parses the text of a users file. If a name appears twice, the first line counts.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<LineProblem>) {
        let decoy = PasswordHash::make(b"", "................");
        let (mut table, mut problems) = (Self { users: Vec::new(), decoy }, Vec::new());
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(text) = table.add(line) {
                problems.push(LineProblem { line: i + 1, text });
            }
        }
        (table, problems)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let (name, rest) = line.split_once(':').ok_or("there is no colon; write NAME:HASH")?;
        check_name(name)?;
        let hash = rest.split(':').next().unwrap_or_default();
        let hash = PasswordHash::parse(hash).map_err(|error| format!("{name:?}: {error}"))?;
        if self.find(name).is_some() {
            return Err(format!("{name:?} is listed twice; remove one of the lines"));
        }
        self.users.push((name.to_owned(), hash));
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&PasswordHash> {
        self.users.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, hash)| hash)
    }

    /// Whether the credentials belong to a user. An unknown name costs as much time as a wrong password, because the
    /// same work is done on the first user's hash; so names cannot be found by timing. This holds only if all hashes
    /// of the file have the same kind and number of rounds.
    #[must_use]
    pub fn check(&self, credentials: &Credentials) -> bool {
        let user = self.find(&credentials.name);
        let decoy = self.users.first().map_or(&self.decoy, |(_, hash)| hash);
        let is_right = user.unwrap_or(decoy).verify(credentials.password.octets());
        user.is_some() && is_right
    }

    /// Whether nobody may log in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// Checks whether a name can stand in the file.
///
/// # Errors
/// What is wrong with the name, and what to do.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("the name is empty; write NAME:HASH"),
        _ if name.starts_with('#') => Err("a name can't begin with #, which begins a comment; write another"),
        _ if name.contains(|c: char| c == ':' || c.is_control()) => {
            Err("a name can't have a colon or a control character; write another")
        }
        _ if name.trim() != name => Err("a name can't begin or end with a blank; remove it"),
        _ if name.len() > CREDENTIAL_MAX_OCTETS => Err("a name has at most 255 octets; write another"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of "secret", "geheim" and "hunter2".
    const SECRET: &str =
        "$6$abc$IdWKNKTJEb8LxY7CGg8YBXlvtfZzFw7Mp/r6niK9YB2mdvgY..TKjv1T..8RadRt2qvUHYRLr/TsVArtr91iR1";
    const GEHEIM: &str = "$5$abc$dMCdvC1mB4C3HJ3rSEuki7J3V6expJoTaEV6oSaAuX7";
    const HUNTER2: &str = "$6$rounds=1000$abc$43wqGC46ojRcbFJpCMurxe7e3BZz6xuIinQNZWMBi.jDzL1uasHGHU1uUSuYmL/Lc3177/SROIa1T8hsSvPoP/";

    fn logs_in(table: &UserTable, name: &str, password: &str) -> bool {
        table.check(&Credentials::new(name.as_bytes(), password.as_bytes()).unwrap())
    }

    #[test]
    fn users_log_in_with_their_own_password() {
        let text = format!(
            "# users\n\n  tim:{SECRET}\r\nü@example.net:{{SHA256-CRYPT}}{GEHEIM}\na b:{{CRYPT}}{HUNTER2}:1000:8::/home/a:/bin/sh\n"
        );
        let (table, problems) = UserTable::parse(&text);
        assert_eq!((problems, table.is_empty()), (vec![], false));
        for (name, password) in [("tim", "secret"), ("ü@example.net", "geheim"), ("a b", "hunter2")] {
            for other in ["tim", "ü@example.net", "a b", "nobody", "# users", "1000"] {
                assert_eq!(logs_in(&table, other, password), name == other, "{other} {password}");
            }
        }
    }

    #[test]
    fn names_compare_without_case() {
        let (table, problems) = UserTable::parse(&format!("Tim@NAS:{SECRET}\ntim@nas:{GEHEIM}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        for name in ["Tim@NAS", "tim@nas", "TIM@NAS"] {
            assert!(logs_in(&table, name, "secret") && !logs_in(&table, name, "geheim"), "{name}");
        }
    }

    #[test]
    fn bad_lines_are_told_and_the_others_stay() {
        let text = format!(
            "tim:{SECRET}\ntim:{GEHEIM}\nsam\n:{SECRET}\nsam:hunter2\n\nsam:$6$rounds=2000000$x{SECRET}\n\
             s\u{1b}m:{SECRET}\nsam :{SECRET}\n# end\nsam:{HUNTER2}"
        );
        let (table, problems) = UserTable::parse(&text);
        let told: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.line, p.text)).collect();
        assert_eq!(
            told,
            [
                "2: \"tim\" is listed twice; remove one of the lines",
                "3: there is no colon; write NAME:HASH",
                "4: the name is empty; write NAME:HASH",
                "5: \"sam\": not a hash of $6$ or $5$; make one with pillarbox passwd",
                "7: \"sam\": the hash has more than 1000000 rounds; make one with fewer",
                "8: a name can't have a colon or a control character; write another",
                "9: a name can't begin or end with a blank; remove it",
            ]
        );
        assert!(logs_in(&table, "tim", "secret") && !logs_in(&table, "tim", "geheim"));
        assert!(logs_in(&table, "sam", "hunter2"));
    }

    #[test]
    fn nobody_logs_in_as_nobody() {
        let (table, problems) = UserTable::parse("# nobody yet\n");
        assert_eq!((problems, table.is_empty()), (vec![], true));
        assert!(!logs_in(&table, "tim", "secret"));
        // The decoy is a hash of somebody's password, which is no way in for a name that is not there.
        let (table, _) = UserTable::parse(&format!("tim:{SECRET}"));
        assert!(!logs_in(&table, "sam", "secret"));
    }

    #[test]
    fn an_unknown_name_costs_what_a_wrong_password_costs() {
        let slow = format!("tim:$6$rounds=200000$abc${}", "x".repeat(86));
        let (table, problems) = UserTable::parse(&slow);
        assert_eq!(problems, []);
        let used = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            std::time::Duration::try_from(time).unwrap()
        };
        let time = |name: &str| {
            let start = used();
            assert!(!logs_in(&table, name, "guess"));
            used() - start
        };
        // Forty times less if it were checked against a hash of 5000 rounds.
        let (unknown, wrong) = (time("sam"), time("tim"));
        assert!(unknown * 8 > wrong && wrong * 8 > unknown, "{unknown:?} {wrong:?}");
    }

    #[test]
    fn names_that_can_stand_in_the_file() {
        for name in ["tim", "ü", "tim@example.net", "a b", "a#", &"x".repeat(255)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "#tim", "ti:m", "t\nm", "t\0m", " tim", "tim\u{a0}", "t\u{9b}m", &"x".repeat(256)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([a-c:#\\n $]|\\PC)*") {
            let (_, problems) = UserTable::parse(&text);
            prop_assert!(problems.iter().all(|p| p.line <= text.lines().count()));
            prop_assert!(!problems.iter().any(|p| p.text.contains(char::is_control)));
        }

        #[test]
        fn a_name_that_is_accepted_comes_back(name in "\\PC{1,20}") {
            if check_name(&name).is_ok() {
                let (table, problems) = UserTable::parse(&format!("{name}:{SECRET}\n"));
                prop_assert_eq!((problems, table.find(&name).is_some()), (vec![], true));
            }
        }
    }
}

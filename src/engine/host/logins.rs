//! The users file: who may log in to submit mail.
//!
//! Read at start and at SIGHUP, never during a login.
//!
//! | file | logins |
//! | --- | --- |
//! | valid | are checked |
//! | with a malformed line | the line is logged by its number and skipped; the rest still apply |
//! | missing, or cannot be read | 454 until a reload can read it; logged |
//! | readable by others | the same: its password hashes are no longer secret |

use crate::config::secret_file;
use crate::engine::log::event::trouble;
use crate::rules::accounts::users::{LineProblem, UserTable};
use crate::smtp::sasl::Credentials;
use std::path::Path;

/// The users that may log in; `None` if the file could not be read.
#[derive(Debug, Default)]
pub struct Logins(Option<UserTable>);

/// The result of checking a name and a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginVerdict {
    /// They belong together.
    Right,
    /// The password is wrong, or no user has this name.
    Wrong,
    /// The users file could not be read.
    Unknown,
}

impl Logins {
    /// Reads a users file.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let doing = "reading the users file";
        match read(path) {
            Ok((table, problems)) => {
                for problem in problems {
                    trouble(doing, &format_args!("{}:{}: {}", path.display(), problem.line, problem.text));
                }
                Self(Some(table))
            }
            Err(error) => {
                trouble(doing, &format_args!("{error}; nobody can log in until then"));
                Self(None)
            }
        }
    }

    /// Checks a login.
    #[must_use]
    pub fn check(&self, credentials: &Credentials) -> LoginVerdict {
        match &self.0 {
            Some(table) if table.check(credentials) => LoginVerdict::Right,
            Some(_) => LoginVerdict::Wrong,
            None => LoginVerdict::Unknown,
        }
    }
}

/// Reads a users file, with the problems of its lines.
///
/// # Errors
/// The file cannot be read, or others can read it; in words.
pub fn read(path: &Path) -> Result<(UserTable, Vec<LineProblem>), String> {
    let octets = secret_file::read(path).map_err(|fault| fault.text)?;
    // An octet that is not UTF-8 makes only its own line invalid.
    Ok(UserTable::parse(&String::from_utf8_lossy(&octets)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_stray_octet_turns_nobody_else_away() {
        let directory = TestDirectory::new();
        let line = b"b\xff:x\ntim:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5\n";
        let path = directory.file("users", line);
        assert!(Logins::load(&path).0.is_none(), "others can read it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let logins = Logins::load(&path);
        let credentials = |password: &[u8]| Credentials::new(b"tim", password).unwrap();
        assert_eq!(logins.check(&credentials(b"Hello world!")), LoginVerdict::Right);
        assert_eq!(logins.check(&credentials(b"Hello world")), LoginVerdict::Wrong);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Logins::load(&path).check(&credentials(b"Hello world!")), LoginVerdict::Unknown);
    }
}

//! `.forward` in the home of a system user: the addresses that the user's mail is sent on to, in the syntax of a file
//! that aliases include.
//!
//! A user who can write to the file decides where the mail goes. So the file must belong to its user or to root, must
//! not be writable by others, and must not be a link (`sys::file`). It may name only addresses: an included file could be one
//! that the user may not read. Its bad lines are told by number, without their text.
//!
//! | `.forward` | the mail | logged |
//! | --- | --- | --- |
//! | valid, with at least one address | goes to these addresses | no |
//! | missing, empty, or only comments | stays here | no |
//! | not reachable for the daemon, as in a closed home | stays here | no |
//! | invalid, of another owner, writable by others, too large, a link, a pipe, or root's with a second name | stays here | yes |

use crate::engine::log::event::trouble;
use crate::rules::routing::aliases::{self, AliasTarget};
use crate::rules::routing::route::SystemAccount;
use crate::sys::file;
use std::io::ErrorKind;

/// The addresses that the user's mail is sent on to; `None` if it stays here.
pub fn read(account: &SystemAccount) -> Option<Vec<AliasTarget>> {
    let path = account.home.join(".forward");
    // Also if the home is closed to the daemon.
    std::fs::symlink_metadata(&path).ok()?;
    let broken = |error: &str| {
        trouble("reading a .forward file; the mail stays here", &format_args!("{}: {error}", path.display()));
    };
    let octets = match file::read_forward(&path, account.uid) {
        Ok(octets) => octets,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            broken(&error.to_string());
            return None;
        }
    };
    let (targets, problems) = aliases::parse_list(&String::from_utf8_lossy(&octets), true);
    if let Some(problem) = problems.first() {
        broken(&format!("line {}: {}", problem.line, problem.text));
        return None;
    }
    (!targets.is_empty()).then_some(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_file_of_the_user_s_own_counts() {
        let home = TestDirectory::new();
        let file = home.join(".forward");
        let uid = rustix::process::geteuid().as_raw();
        let account = |uid| SystemAccount { name: "joe".into(), uid, gid: 0, home: home.to_owned() };
        let count = || read(&account(uid)).map(|targets| targets.len());
        assert_eq!(count(), None);
        for (text, expected) in [
            ("me@far.example", Some(1)),
            ("# both\n\\joe, me@far.example\n", Some(2)),
            ("", None),
            ("# nobody\n", None),
            ("me@far.example\n|/bin/sh\n", None),
            ("\"|/bin/sh\"", None),
            ("/home/joe/mbox", None),
            ("me@far.example, :include:/etc/shadow", None),
            ("me at far", None),
            (&"#".repeat(64 * 1024 + 1), None),
        ] {
            home.file_of_mode(".forward", text, 0o644);
            assert_eq!(count(), expected, "{text:.40}");
        }
        fs::write(&file, "me@far.example").unwrap();
        for (mode, expected) in [(0o600, Some(1)), (0o644, Some(1)), (0o664, None), (0o646, None)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(count(), expected, "{mode:o}");
        }
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        // Root may write for anybody; nobody else.
        assert_eq!(read(&account(uid + 1)).is_some(), uid == 0);
        if uid == 0 {
            std::os::unix::fs::chown(&file, Some(4_000_000), None).unwrap();
            assert_eq!((read(&account(1000)), read(&account(4_000_000)).is_some()), (None, true));
        }
        fs::rename(&file, home.join("elsewhere")).unwrap();
        symlink("elsewhere", &file).unwrap();
        assert_eq!(read(&account(4_000_000)), None, "a link is not followed");
        fs::remove_file(&file).unwrap();
        let (pipe, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &file, pipe, mode, 0).unwrap();
        assert_eq!(count(), None);
    }
}

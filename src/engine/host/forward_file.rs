//! `.forward` in the home of a system user: the addresses that the user's mail is sent on to, in the syntax of a file
//! that aliases include.
//!
//! A user who can write to the file decides where the mail goes. So the file must belong to its user or to root, must
//! not be writable by others, and must not be a link. It may name only addresses: an included file could be one that
//! the user may not read.
//!
//! | `.forward` | the mail | logged |
//! | --- | --- | --- |
//! | valid, with at least one address | goes to these addresses | no |
//! | missing, empty, or only comments | stays here | no |
//! | not reachable for the daemon, as in a closed home | stays here | no |
//! | invalid, of another owner, writable by others, too large, a link or a pipe | stays here | yes |

use crate::engine::log::event::trouble;
use crate::rules::routing::aliases::{self, AliasTarget};
use crate::rules::routing::route::SystemAccount;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The largest file that is read, in octets.
const FILE_MAX_OCTETS: u64 = 64 * 1024;
/// The permission that group and others must not have: to write.
const WRITE_BY_OTHERS: u32 = 0o022;

/// The addresses that the user's mail is sent on to; `None` if it stays here.
pub fn read(account: &SystemAccount) -> Option<Vec<AliasTarget>> {
    let path = account.home.join(".forward");
    // Also if the home is closed to the daemon.
    std::fs::symlink_metadata(&path).ok()?;
    let broken = |error: &str| {
        trouble("reading a .forward file; the mail stays here", &format_args!("{}: {error}", path.display()));
    };
    let text = match text(&path, account.uid) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            broken(&error.to_string());
            return None;
        }
    };
    let (targets, problems) = aliases::parse_list(&text);
    if let Some(problem) = problems.first() {
        broken(&format!("line {}: {}", problem.line, problem.text));
        return None;
    }
    if aliases::includes(&targets).next().is_some() {
        broken("a file can't be included there");
        return None;
    }

    (!targets.is_empty()).then_some(targets)
}

fn text(path: &Path, uid: u32) -> io::Result<String> {
    // NONBLOCK: opening a pipe must not wait for its other end.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    let fault = match () {
        () if !metadata.is_file() => Some("this is no file"),
        () if ![uid, 0].contains(&metadata.uid()) => Some("it belongs to somebody else"),
        () if metadata.mode() & WRITE_BY_OTHERS != 0 => Some("others can write to it (chmod go-w)"),
        () if metadata.len() > FILE_MAX_OCTETS => Some("larger than 64 KiB"),
        () => None,
    };
    if let Some(fault) = fault {
        return Err(io::Error::other(fault));
    }
    let mut octets = Vec::new();
    file.take(FILE_MAX_OCTETS).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_file_of_the_user_s_own_counts() {
        let home = std::env::temp_dir().join(format!("pillarbox-forward-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let file = home.join(".forward");
        let uid = rustix::process::geteuid().as_raw();
        let account = |uid| SystemAccount { name: "joe".into(), uid, gid: 0, home: home.clone() };
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
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
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
        fs::remove_dir_all(&home).unwrap();
    }
}

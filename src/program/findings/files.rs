//! The files and directories that the configuration names: whether each exists or can be made, and whether pillarbox may
//! use it.
//!
//! | key | must be | for |
//! | --- | --- | --- |
//! | `state` | writable, or creatable by the starter | `user` |
//! | directory of `control` | the same; the default path is checked for root only | `user` |
//! | fixed part of `local.maildir` | writable or creatable | `user`; root with `users = "system"`, for the agent |
//! | `tls.certificate`, `relay.certificate`, `relay.ca_file`, `oauth.certificate`, `local.aliases` | readable | `user` |
//! | `tls.key`, `auth.users`, `relay.password_file`, `relay.key`, `relay.key_password_file`, `oauth.client_secret_file`, `oauth.key`, `dkim.key` | readable, and closed to others | `user` |
//!
//! "Readable" includes the search permission of every directory on the way, and on the way to the target of a link. Files of
//! defaults may be missing (`/etc/pillarbox/users`, `/etc/aliases`); files that the configuration names may not.
//!
//! Looks only, and changes nothing: `serve` makes what is missing. The user who is asked about is not the one who asks, so
//! rights are judged by owner, group and mode; access control lists are not seen. A root who serves as root may do
//! everything, but even root can't write to a read-only file system, /proc or /sys.

use crate::config::{ConfigProblem, FilePosition, Places, Relay, Settings, secret_file};
use crate::engine::host::client_certificate::CertificateFiles;
use crate::engine::outbound::password;
use crate::mail::relay_login::{PasswordSource, RelayLogin};
use crate::rules::routing::route::LocalUsers;
use crate::sys::user::ProcessUser;
use rustix::fs::{FsWord, PROC_SUPER_MAGIC, StatVfsMountFlags, statfs, statvfs};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Write and search permission of a directory, as the three bits of a mode.
const WRITE_AND_SEARCH: u32 = 0o3;
/// Search permission of a directory.
const SEARCH: u32 = 0o1;
/// Read permission of a file.
const READ: u32 = 0o4;
/// The file systems of /proc and /sys; the second is `SYSFS_MAGIC` of statfs(2).
const MADE_UP: [FsWord; 2] = [PROC_SUPER_MAGIC, 0x6265_6572];

/// All problems with the files that the settings name. `started_as` is the user who starts pillarbox; `look_up` finds the
/// user whom root becomes. `file` is the name of the configuration in the problems.
pub fn problems(
    settings: &Settings,
    places: &Places,
    file: &str,
    started_as: &ProcessUser,
    look_up: &dyn Fn(&str) -> Option<ProcessUser>,
) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    let mut tell = |place: Option<FilePosition>, text: String| {
        problems.push(ConfigProblem { file: file.to_owned(), place, text });
    };
    let from_root = started_as.uid == 0;
    let user = runs_as(settings, started_as, look_up);
    if user.is_none() {
        tell(places.of("", "user"), missing(&settings.user));
    }
    // The other files are checked too. Without that user, those of `started_as` are as good a guess as any.
    let runs_as = user.unwrap_or_else(|| started_as.clone());
    if let Err(text) = directory(&settings.state, started_as, &runs_as) {
        tell(places.of("", "state"), text);
    }
    // An ordinary user can't make the default one. The daemon says so and goes on.
    let control = places.of("", "control");
    if (control.is_some() || from_root)
        && let Err(text) = socket(&settings.control, started_as, &runs_as)
    {
        tell(control, text);
    }
    let maildirs = match settings.local.maildir.fixed_directory() {
        // The delivery agent keeps root's rights for those of system users.
        Some(fixed) if from_root && settings.local.users == LocalUsers::System => {
            directory(fixed, started_as, started_as)
        }
        Some(fixed) => directory(fixed, &runs_as, &runs_as),
        None => Ok(()),
    };
    if let Err(text) = maildirs {
        tell(places.of("local", "maildir"), text);
    }
    let of_certificates = certificates(&settings.relay, &runs_as);
    for (table, key, text) in read_again(settings, places, &runs_as).into_iter().chain(of_certificates) {
        tell(place(places, table, key), text);
    }
    for (path, text) in passwords(&settings.relay, &runs_as) {
        match password_place(&settings.relay, places, &path) {
            Some(place) => tell(Some(place), text),
            None => {
                let text = format!("{text}, or name another by relay.password_file");
                tell(places.of("relay", "username"), text);
            }
        }
    }
    for (i, key) in settings.dkim.iter().filter_map(|dkim| dkim.key.as_deref()).enumerate() {
        if let Err(text) = secret_file::check(key).and_then(|()| readable(key, &runs_as)) {
            tell(places.nth("dkim", "key", i), text);
        }
    }
    problems
}

fn missing(user: &str) -> String {
    format!(
        "user {user:?} does not exist; make it (useradd --system --user-group --no-create-home {user}), or name another"
    )
}

/// The user who serves: root becomes the configured one. `None`: that user does not exist.
pub fn runs_as(
    settings: &Settings,
    started_as: &ProcessUser,
    look_up: &dyn Fn(&str) -> Option<ProcessUser>,
) -> Option<ProcessUser> {
    if started_as.uid == 0 { look_up(&settings.user) } else { Some(started_as.clone()) }
}

/// Problems with the files that SIGHUP reads again, after root's rights are gone: each must exist and be readable for `user`,
/// and one with secrets must be closed to others. Gives table, key and sentence.
fn read_again(
    settings: &Settings,
    places: &Places,
    user: &ProcessUser,
) -> Vec<(&'static str, &'static str, String)> {
    let (tls, relay, oauth) = (&settings.tls, &settings.relay, &settings.oauth);
    // Nobody may log in where the users file of the defaults is missing: that is no mistake.
    let users = settings.auth.users.as_ref();
    let users = users.filter(|users| places.of("auth", "users").is_some() || users.exists());
    // Nor is a missing aliases file of the defaults.
    let aliases = settings.local.aliases.as_ref();
    let aliases = aliases.filter(|aliases| places.of("local", "aliases").is_some() || aliases.exists());
    let files = [
        ("tls", "certificate", tls.certificate.as_ref(), Secrecy::Open),
        ("tls", "key", tls.key.as_ref(), Secrecy::Secret),
        ("auth", "users", users, Secrecy::Secret),
        ("local", "aliases", aliases, Secrecy::Open),
        ("relay", "ca_file", relay.ca_file.as_ref(), Secrecy::Open),
        ("oauth", "client_secret_file", oauth.client_secret_file.as_ref(), Secrecy::Secret),
        ("oauth", "certificate", oauth.certificate.as_ref(), Secrecy::Open),
        ("oauth", "key", oauth.key.as_ref(), Secrecy::Secret),
    ];
    let mut problems = Vec::new();
    for (table, key, path, secrecy) in files {
        let Some(path) = path else { continue };
        let closed = if secrecy == Secrecy::Secret { secret_file::check(path) } else { Ok(()) };
        if let Err(text) = closed.and_then(|()| readable(path, user)) {
            problems.push((table, key, text));
        }
    }
    problems
}

/// Problems with the password files: path and sentence.
fn passwords(relay: &Relay, user: &ProcessUser) -> impl Iterator<Item = (PathBuf, String)> {
    password::files(relay).into_iter().filter_map(|path| {
        let checked = secret_file::check(&path).and_then(|()| readable(&path, user));
        checked.err().map(|text| (path, text))
    })
}

/// Problems with the files of client certificates: key and sentence.
fn certificates(relay: &Relay, user: &ProcessUser) -> Vec<(&'static str, &'static str, String)> {
    let mut problems = Vec::new();
    for files in CertificateFiles::all(relay) {
        let of_key = if files.key.is_some() { "key" } else { "certificate" };
        let secrets =
            [(of_key, Some(files.key())), ("key_password_file", files.key_password_file.as_deref())];
        for (key, path) in secrets.into_iter().filter_map(|(key, path)| Some((key, path?))) {
            let checked = secret_file::check(path).and_then(|()| readable(path, user));
            problems.extend(checked.err().map(|text| ("relay", key, text)));
        }
        if files.key.is_some() {
            let text = readable(&files.certificate, user).err();
            problems.extend(text.map(|text| ("relay", "certificate", text)));
        }
    }
    problems
}

/// Where the configuration has a key: in its table, or, if it is a key of a login, with a smarthost.
pub(super) fn place(places: &Places, table: &str, key: &str) -> Option<FilePosition> {
    let of_hosts = || places.of("relay", "smarthost").or_else(|| places.of("relay", "senders"));
    places.of(table, key).or_else(|| (table == "relay").then(of_hosts)?)
}

/// Where the configuration names a password file. `None`: it is the usual one.
fn password_place(relay: &Relay, places: &Places, path: &Path) -> Option<FilePosition> {
    let is_named = |login: &RelayLogin| login.password == PasswordSource::File(path.to_owned());
    let is_of_smarthost =
        || relay.smarthosts().iter().any(|host| host.login.as_deref().is_some_and(is_named));
    match relay.password_file.as_deref() {
        Some(of_relay) if of_relay == path => places.of("relay", "password_file"),
        _ if is_of_smarthost() => places.of("relay", "smarthost"),
        _ if path == Path::new(password::USUAL_FILE) => None,
        _ => places.of("relay", "senders"),
    }
}

/// Whether others may use a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    /// They may.
    Open,
    /// They must not.
    Secret,
}

/// Whether `user` may read the file.
///
/// # Errors
/// Says what is wrong and what to do.
pub fn readable(path: &Path, user: &ProcessUser) -> Result<(), String> {
    let name = &user.name;
    // Where a link leads to, the directories must let the user pass, too.
    let target = std::fs::canonicalize(path).unwrap_or_default();
    let mut places = vec![(path, READ)];
    for file in [path, &target] {
        places.extend(file.ancestors().skip(1).map(|place| (place, SEARCH)));
    }
    let mut denied = None;
    for (place, right) in places {
        let metadata = match std::fs::metadata(place) {
            // The end of a relative path.
            Err(_) if place.as_os_str().is_empty() => continue,
            // A directory on the way says why.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                denied = Some(e);
                continue;
            }
            Err(e) => return Err(format!("{place:?} can't be read: {e}; make the file, or name another")),
            Ok(metadata) => metadata,
        };
        if !may(&metadata, user, right) {
            let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
            return Err(format!(
                "user {name:?} can't read {path:?} because of {place:?} (owner {owner}, group {group}, mode {mode:o}); let a group of the user do so (chgrp, chmod g+rX), or name a copy"
            ));
        }
    }
    denied.map_or(Ok(()), |e| Err(format!("{path:?} can't be read: {e}; let user {name:?} do so")))
}

/// Checks that `user` may write to the directory or, if it is missing, that `maker` may make it. A directory is made with all
/// missing parents, so the nearest one that exists decides; `user` gets what `maker` makes.
///
/// # Errors
/// Says what is wrong and what to do.
fn directory(path: &Path, maker: &ProcessUser, user: &ProcessUser) -> Result<(), String> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound && std::fs::symlink_metadata(path).is_ok() => {
            Err(format!("{path:?} is a link that leads nowhere; make what it leads to, or name another"))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => match path.parent() {
            Some(parent) => {
                directory(parent, maker, maker).map_err(|e| format!("{path:?} can't be made: {e}"))
            }
            None => Ok(()),
        },
        Err(e) => Err(format!("{path:?} can't be looked at: {e}; name another")),
        Ok(metadata) if !metadata.is_dir() => Err(format!("{path:?} is not a directory; name another")),
        Ok(_) if !is_writable(path) => {
            Err(format!("nobody can write to the file system of {path:?}; name another"))
        }
        Ok(metadata) if may(&metadata, user, WRITE_AND_SEARCH) => Ok(()),
        Ok(metadata) => Err(format!(
            "user {:?} can't write to {path:?} (owner {}, group {}, mode {:o}); give it to the user or a group of it",
            user.name,
            metadata.uid(),
            metadata.gid(),
            metadata.mode() & 0o7777
        )),
    }
}

/// Whether files can be made on the file system at all: root's rights are of no use on one that is mounted read-only, or
/// that the kernel makes up.
fn is_writable(path: &Path) -> bool {
    let is_read_only = statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    let is_made_up = statfs(path).is_ok_and(|found| MADE_UP.contains(&found.f_type));
    !is_read_only && !is_made_up
}

/// Whether `who` has all of these rights.
fn may(metadata: &std::fs::Metadata, who: &ProcessUser, rights: u32) -> bool {
    let shift = match () {
        () if who.uid == 0 => return true,
        () if metadata.uid() == who.uid => 6,
        () if who.groups.contains(&metadata.gid()) => 3,
        () => 0,
    };
    (metadata.mode() >> shift) & rights == rights
}

/// Whether the socket can be made in its directory, and replaces nothing but a socket.
fn socket(path: &Path, maker: &ProcessUser, user: &ProcessUser) -> Result<(), String> {
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
        return Err(format!("{path:?} exists and is not a socket; name another"));
    }
    path.parent().map_or(Ok(()), |parent| directory(parent, maker, user))
}

#[cfg(test)]
mod tests;

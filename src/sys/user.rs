//! Users of the system: looking one up, listing them, and becoming one.
//!
//! Everything goes through the C library, so users of directory services count (nsswitch.conf(5)), and a user is the same
//! for the daemon, for `check` and for the delivery agent. No file of the user database is read here.

use super::clock::{Clock, SystemClock};
use super::lock::Lock;
use super::rights;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Largest passwd entry that is read, in octets; with directory services they can be long.
const ENTRY_MAX_OCTETS: usize = 64 * 1024;

/// How long the entry of a user holds.
const FRESH: Duration = Duration::from_secs(1);
/// The most users that are remembered.
const RECENT_MAX: usize = 16;
/// The most groups of a user that are looked at.
const GROUPS_MAX: usize = 1024;
/// The most users that are listed.
const NAMES_MAX: usize = 10_000;

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemUser {
    /// The login name as the database writes it.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's first group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

/// Users that were found lately, and when.
static RECENT: Lock<Vec<(Duration, SystemUser)>> = Lock::new(Vec::new());

/// Looks a user up by name; `None`: no such user. An answer holds for a second: each look-up reads a file, or asks a
/// server, and mail comes in bursts.
///
/// # Errors
/// The database could not be asked: this says nothing about the user.
pub fn find(name: &str) -> io::Result<Option<SystemUser>> {
    let now = SystemClock.boot();
    let mut recent = RECENT.lock();
    recent.retain(|(found, _)| now.saturating_sub(*found) < FRESH);
    if let Some((_, user)) = recent.iter().find(|(_, user)| user.name == name) {
        return Ok(Some(user.clone()));
    }
    drop(recent);
    let Ok(key) = CString::new(name) else { return Ok(None) };
    let found = look_up(Key::Name(&key))?;
    let mut recent = RECENT.lock();
    if let Some(user) = found.as_ref().filter(|user| user.name == name)
        && recent.len() < RECENT_MAX
    {
        recent.push((now, user.clone()));
    }
    Ok(found)
}

/// Looks a user up by number; `None`: no such user.
///
/// # Errors
/// The database could not be asked: this says nothing about the user.
pub fn find_uid(uid: u32) -> io::Result<Option<SystemUser>> {
    look_up(Key::Uid(uid))
}

/// All groups of a user, the first one of the entry included.
#[allow(unsafe_code)]
pub(super) fn groups(account: &SystemUser) -> Vec<u32> {
    let Ok(name) = CString::new(account.name.as_str()) else { return vec![account.gid] };
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS_MAX];
    let mut count = GROUPS_MAX as libc::c_int;
    // SAFETY: `name` is a live C string, the buffer has room for `count` groups, and the call keeps neither. The standard
    // library has no look-up of groups.
    let found =
        unsafe { libc::getgrouplist(name.as_ptr(), account.gid, groups.as_mut_ptr(), &raw mut count) };
    groups.truncate(usize::try_from(count).unwrap_or_default());
    if found < 0 { vec![account.gid] } else { groups }
}

/// A user as the kernel sees one at a file: by number and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessUser {
    /// The name for messages, or the number as text.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The numbers of all groups.
    pub groups: Vec<u32>,
}

impl ProcessUser {
    /// The user whom this process runs as.
    #[must_use]
    pub fn own() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let mut groups = vec![rustix::process::getegid().as_raw()];
        let others = rustix::process::getgroups().unwrap_or_default();
        groups.extend(others.into_iter().map(rustix::process::Gid::as_raw));
        Self { name: uid.to_string(), uid, groups }
    }

    /// Looks a user up by name, with the groups that [`become_user`] would give it. `None` also while the database does not
    /// answer.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let account = find(name).ok().flatten()?;
        let groups = groups(&account);
        Some(Self { name: account.name, uid: account.uid, groups })
    }
}

/// The names of all users that the database lists, at most [`NAMES_MAX`]. A directory service may list none.
#[must_use]
#[allow(unsafe_code)]
pub fn names() -> Vec<String> {
    // The calls share one place in the database and one buffer.
    static LISTING: Lock<()> = Lock::new(());
    let _turn = LISTING.lock();
    let mut names = Vec::new();
    // SAFETY: nothing else in this program makes these calls, and the lock lets one thread at a time make them. An entry and
    // its strings stay valid until the next call, and the name is copied before that.
    unsafe {
        libc::setpwent();
        while names.len() < NAMES_MAX {
            let Some(entry) = libc::getpwent().as_ref() else { break };
            names.push(CStr::from_ptr(entry.pw_name).to_string_lossy().into_owned());
        }
        libc::endpwent();
    }
    names
}

/// What an entry is found by.
#[derive(Clone, Copy)]
enum Key<'a> {
    Name(&'a CStr),
    Uid(u32),
}

/// Looks up what the database has. Root is known without an entry, too: a bare box has no `/etc/passwd`, and only the number 0
/// means something to the kernel.
fn look_up(key: Key<'_>) -> io::Result<Option<SystemUser>> {
    let is_root = match key {
        Key::Name(name) => name == c"root",
        Key::Uid(uid) => uid == 0,
    };
    let root = || SystemUser { name: "root".to_owned(), uid: 0, gid: 0, home: PathBuf::from("/root") };
    Ok(entry(key)?.or_else(|| is_root.then(root)))
}

#[allow(unsafe_code)]
fn entry(key: Key<'_>) -> io::Result<Option<SystemUser>> {
    let mut buffer = vec![0 as libc::c_char; 1024];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::zeroed();
        let mut found = std::ptr::null_mut();
        let (entry_at, buffer_at, length) = (entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len());
        // SAFETY: all pointers are to live values, the length is that of the buffer, and the calls keep none of them
        // beyond `buffer`, which outlives the use of `entry`. The standard library has no look-up of users.
        let error = unsafe {
            match key {
                Key::Name(name) => {
                    libc::getpwnam_r(name.as_ptr(), entry_at, buffer_at, length, &raw mut found)
                }
                Key::Uid(uid) => libc::getpwuid_r(uid, entry_at, buffer_at, length, &raw mut found),
            }
        };
        match error {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call has succeeded and set `found`: the entry is filled in, and its strings end with NUL
                // and lie in `buffer`.
                let account = unsafe {
                    let entry = entry.assume_init();
                    SystemUser {
                        name: CStr::from_ptr(entry.pw_name).to_string_lossy().into_owned(),
                        uid: entry.pw_uid,
                        gid: entry.pw_gid,
                        home: OsStr::from_bytes(CStr::from_ptr(entry.pw_dir).to_bytes()).into(),
                    }
                };
                return Ok(Some(account));
            }
            libc::ERANGE if buffer.len() < ENTRY_MAX_OCTETS => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            // What POSIX lists for "no such user", and systems without /etc/passwd say ENOENT too.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this process has rights that its caller has not: by a set-id bit.
#[must_use]
pub fn has_raised_rights() -> bool {
    rustix::process::geteuid() != rustix::process::getuid()
        || rustix::process::getegid() != rustix::process::getgid()
}

/// Becomes `account` for good: its groups, its uid, no capability, and no way back. To be called before the first
/// thread.
///
/// # Errors
/// A step failed; the process must not go on then.
#[allow(unsafe_code)]
pub fn become_user(account: &SystemUser) -> io::Result<()> {
    let name = CString::new(account.name.as_str())?;
    let checked = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // While there is still a right to.
    rights::empty_bounding_set();
    // SAFETY: `name` is a live C string, the other arguments are numbers. libc's calls change all threads of the process,
    // which rustix' do not. The groups go first: after setuid there is no right to change them.
    unsafe {
        checked(libc::initgroups(name.as_ptr(), account.gid as _))?;
        checked(libc::setgid(account.gid))?;
        checked(libc::setuid(account.uid))?;
    }
    // setuid takes the capabilities away, unless the parent process has set SECBIT_KEEP_CAPS.
    rights::drop_capabilities()?;
    rights::close_memory()?;
    // SAFETY: as above; both must fail, or the rights are not gone.
    let regained = unsafe { libc::setuid(0) == 0 || account.gid != 0 && libc::setgid(0) == 0 };
    if account.uid != 0 && regained {
        return Err(io::Error::other("root's rights could be taken back"));
    }
    Ok(())
}

/// The groups of the process at the other end of a Unix socket when it connected, its first one left out. A kernel before
/// 4.13 tells none.
#[must_use]
#[allow(unsafe_code)]
pub fn peer_groups(socket: BorrowedFd<'_>) -> Vec<u32> {
    let mut groups = vec![0 as libc::gid_t; GROUPS_MAX];
    let mut octets = std::mem::size_of_val(groups.as_slice()) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; the pointers are to live values, and `octets` is the
    // length of the buffer before the call and what has been filled in after it. rustix has no call for it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut octets,
        )
    };
    let found = if result == 0 { octets as usize / size_of::<libc::gid_t>() } else { 0 };
    groups.truncate(found);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_others_are_not() {
        let root = find("root").unwrap().unwrap();
        assert_eq!((root.uid, root.name.as_str()), (0, "root"));
        assert!(root.home.is_absolute());
        assert_eq!(find_uid(0).unwrap(), Some(root));
        assert_eq!(find_uid(4_000_123).unwrap(), None);
        assert_eq!(find("no-such-user-here").unwrap(), None);
        assert_eq!(find("ro\0ot").unwrap(), None);
        assert_eq!(find(&"x".repeat(100_000)).unwrap_or(None), None);
    }

    #[test]
    fn users_are_found_with_all_their_groups() {
        let (own, root) = (ProcessUser::own(), ProcessUser::find("root").unwrap());
        assert!((root.uid, root.groups.contains(&0)) == (0, true), "{root:?}");
        assert!(
            own.uid != 0 || own.groups.iter().all(|group| root.groups.contains(group)),
            "{own:?} {root:?}"
        );
        assert_eq!(ProcessUser::find("no-such-user-here"), None);
        assert!(names().iter().any(|name| name == "root"));
    }

    #[test]
    fn a_peer_has_the_groups_of_its_process() {
        use std::os::fd::AsFd;
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(rustix::process::Gid::as_raw).collect();
        assert_eq!(peer_groups(here.as_fd()), own);
    }
}

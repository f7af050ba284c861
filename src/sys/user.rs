//! Users of the system: looking one up, and becoming one.
//!
//! Look-ups go to the C library and so to every source in nsswitch.conf, such as LDAP; they may take long. The entry
//! is copied out, with no pointer into it. A failed look-up says nothing about the user: the caller defers.

use super::rights;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Largest passwd entry that is read, in octets; entries of directory services can be long.
const ENTRY_MAX_OCTETS: usize = 64 * 1024;

/// Most groups that are read; a user with more counts as a member of the first group only.
const GROUPS_MAX: usize = 1024;

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemUser {
    /// The login name as the database writes it.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The id of the primary group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

/// Looks a user up by name; `None` if the user does not exist.
///
/// # Errors
/// The database cannot be asked; this says nothing about the user.
pub fn find(name: &str) -> io::Result<Option<SystemUser>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    look_up(Key::Name(&name))
}

/// Looks a user up by id; `None` if the user does not exist.
///
/// # Errors
/// The database cannot be asked; this says nothing about the user.
pub fn find_uid(uid: u32) -> io::Result<Option<SystemUser>> {
    look_up(Key::Uid(uid))
}

/// All groups of a user, including the primary one.
#[must_use]
#[allow(unsafe_code)]
pub fn groups(account: &SystemUser) -> Vec<u32> {
    let Ok(name) = CString::new(account.name.as_str()) else { return vec![account.gid] };
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS_MAX];
    let mut count = GROUPS_MAX as libc::c_int;
    // SAFETY: `name` is a live C string, the buffer has room for `count` groups, and the call keeps neither. The
    // standard library has no look-up of groups.
    let found =
        unsafe { libc::getgrouplist(name.as_ptr(), account.gid, groups.as_mut_ptr(), &raw mut count) };
    groups.truncate(usize::try_from(count).unwrap_or_default());
    if found < 0 { vec![account.gid] } else { groups }
}

/// The key of a look-up.
#[derive(Clone, Copy)]
enum Key<'a> {
    Name(&'a CStr),
    Uid(u32),
}

#[allow(unsafe_code)]
fn look_up(key: Key<'_>) -> io::Result<Option<SystemUser>> {
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
                // SAFETY: the call has succeeded and set `found`: the entry is filled in, and its strings end with
                // NUL and lie in `buffer`.
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
            // The codes that POSIX lists for "no such user"; systems without /etc/passwd report ENOENT too.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether this process has all rights of root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this process has rights that its caller does not have, through a set-id bit.
#[must_use]
pub fn has_raised_rights() -> bool {
    rustix::process::geteuid() != rustix::process::getuid()
        || rustix::process::getegid() != rustix::process::getgid()
}

/// Becomes `account` for good: its groups and uid, no capability, and no way back. Call it before the first thread.
///
/// # Errors
/// A step failed; the process must not continue.
#[allow(unsafe_code)]
pub fn become_user(account: &SystemUser) -> io::Result<()> {
    let name = CString::new(account.name.as_str())?;
    let checked = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // While this process still has the right to do so.
    rights::empty_bounding_set();
    // SAFETY: `name` is a live C string, the other arguments are numbers. libc's calls change all threads of the
    // process, which those of rustix do not. The groups go first: after setuid there is no right to change them.
    unsafe {
        checked(libc::initgroups(name.as_ptr(), account.gid as _))?;
        checked(libc::setgid(account.gid))?;
        checked(libc::setuid(account.uid))?;
    }
    // setuid drops the capabilities, unless the caller of this process forbade it (SECBIT_KEEP_CAPS).
    rights::drop_capabilities()?;
    rights::close_memory()?;
    // SAFETY: as above. Both calls must fail; otherwise the rights are not gone.
    let regained = unsafe { libc::setuid(0) == 0 || account.gid != 0 && libc::setgid(0) == 0 };
    if account.uid != 0 && regained {
        return Err(io::Error::other("root's rights could be regained"));
    }
    Ok(())
}

/// The groups that the process at the other end of a Unix socket had when it connected, without its primary one.
/// Kernels before 4.13 do not report them.
#[must_use]
#[allow(unsafe_code)]
pub fn peer_groups(socket: BorrowedFd<'_>) -> Vec<u32> {
    let mut groups = vec![0 as libc::gid_t; GROUPS_MAX];
    let mut octets = std::mem::size_of_val(groups.as_slice()) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; the pointers are to live values, and `octets` is the
    // length of the buffer before the call and of its content after it. rustix has no call for it.
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
    fn a_peer_has_the_groups_of_its_process() {
        use std::os::fd::AsFd;
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(rustix::process::Gid::as_raw).collect();
        assert_eq!(peer_groups(here.as_fd()), own);
    }
}

//! As whom a thread touches files. The delivery agent is root's process, but each of its threads works with the user
//! and the groups of a mailbox's owner, so that the kernel decides what the thread may open there.
//!
//! | state of the thread | user and groups for files | capabilities in effect |
//! | --- | --- | --- |
//! | [`FileIdentity::assume`] | the owner's | SETUID, SETGID |
//! | within [`as_root`] | root, no other group | the same, CHOWN and DAC_OVERRIDE |
//! | within [`with_all_files`] | those before | the same, and DAC_OVERRIDE |
//!
//! SETUID and SETGID give no right over files: they are there so that the thread can serve another owner next. The
//! real uid stays root's, so no user can send signals to the thread or trace it.
//!
//! The C library would change the groups of all threads; these calls change those of the calling thread.

use super::rights;
use super::user::{SystemUser, groups};
use rustix::process::Gid;
use rustix::thread::{CapabilitySet, set_thread_groups};
use std::io;

/// A user and groups, for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl FileIdentity {
    /// The user with all groups that the system's database has for them.
    #[must_use]
    pub fn of(account: &SystemUser) -> Self {
        Self { uid: account.uid, gid: account.gid, groups: groups(account) }
    }

    /// The same, with one more group.
    #[must_use]
    pub fn with_group(mut self, gid: u32) -> Self {
        self.groups.push(gid);
        self
    }

    /// Lets the calling thread touch files as this user, without any right of root's.
    ///
    /// # Errors
    /// The process was not prepared by [`rights::keep_for_delivery`]; the thread must touch no file then.
    pub fn assume(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        become_for_files(self.uid, self.gid)?;
        // For uid 0 the kernel has put root's rights over files into effect again.
        rights::put_into_effect(CapabilitySet::empty())
    }
}

/// Runs `step` with root's rights to make files and to give them away. Afterwards the thread has to assume an identity
/// before it touches another file.
///
/// # Errors
/// As for [`FileIdentity::assume`], or the error of `step`.
pub fn as_root(step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    set_thread_groups(&[])?;
    become_for_files(0, 0)?;
    rights::put_into_effect(CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE)?;
    let done = step();
    rights::put_into_effect(CapabilitySet::empty()).and(done)
}

/// Runs `step` with root's right to open any file, and with the ids that the calling thread has. `step` must not panic:
/// the right would stay in effect.
///
/// # Errors
/// As for [`FileIdentity::assume`].
pub fn with_all_files<T>(step: impl FnOnce() -> T) -> io::Result<T> {
    rights::put_into_effect(CapabilitySet::DAC_OVERRIDE)?;
    let done = step();
    rights::put_into_effect(CapabilitySet::empty())?;
    Ok(done)
}

/// Changes the ids of the calling thread for files. The calls report the ids before them, and no errors.
#[allow(unsafe_code)]
fn become_for_files(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the calls take numbers. No id is u32::MAX: with it they change nothing and report the present ids.
    let present = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX))
    };
    let is_done = (present.0 as u32, present.1 as u32) == (uid, gid);
    if is_done { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    #[test]
    fn a_thread_has_the_rights_of_its_user_and_root_only_where_asked() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = TestDirectory::new();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        let [own, group, secret] = ["own", "group", "secret"].map(|name| directory.join(name));
        for (path, uid, gid, mode) in
            [(&own, 4711, 0, 0o600), (&group, 0, 4713, 0o640), (&secret, 0, 0, 0o600)]
        {
            fs::write(path, "x").unwrap();
            chown(path, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let may_read = |path| fs::read(path).is_ok();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                rights::keep_for_delivery().unwrap();
                let user = FileIdentity { uid: 4711, gid: 4712, groups: vec![4712] };
                for _ in 0..2 {
                    user.assume().unwrap();
                    assert_eq!([&own, &group, &secret].map(may_read), [true, false, false]);
                    assert!(
                        fs::write(directory.join("new"), "").is_err() && chown(&own, Some(0), None).is_err()
                    );
                    as_root(|| {
                        fs::write(directory.join("made"), "")?;
                        chown(directory.join("made"), Some(4711), Some(4712))
                    })
                    .unwrap();
                }
                user.with_group(4713).assume().unwrap();
                assert_eq!([&own, &group, &secret].map(may_read), [true, true, false]);
            });
        });
        assert!(may_read(&secret), "no other thread has changed");
        assert_eq!(fs::metadata(directory.join("made")).unwrap().uid(), 4711);
    }
}

//! The disk: the queue, the drop directory, the Maildirs and mboxes. What is answered with 250 lies here, synced.
//!
//! The promise is kept in three steps that the types put in order: *stage* (a file under a temporary name), *sync*
//! (its octets are on stable storage) and *commit* (its name is, too). [`durable`] is the only place that syncs.

mod crc;
pub mod drop;
pub mod durable;
mod error;
pub mod line_file;
pub mod maildir;
pub mod queue;
pub mod self_signed;
mod small_file;
pub mod sts;
mod text;
pub mod windows_file;

pub use error::{ErrorKind, StoreError};

use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Octets that may still be written below `path`, as the file system counts for ordinary users; 0 when it has no
/// inode left. For a path that does not exist yet, its nearest existing parent answers.
///
/// # Errors
/// What the system says about the path.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let mut path = path;
    loop {
        match (rustix::fs::statvfs(path), path.parent()) {
            (Ok(space), _) => {
                // Btrfs and others make inodes as they need them, and say 0 of 0.
                let no_inodes = space.f_files != 0 && space.f_favail == 0;
                return Ok(if no_inodes { 0 } else { space.f_bavail.saturating_mul(space.f_frsize) });
            }
            (Err(Errno::NOENT), Some(parent)) => {
                path = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            }
            (Err(errno), _) => return Err(errno.into()),
        }
    }
}

/// Whether `free` octets leave `kept` ones free behind a message of `declared` ones.
#[must_use]
pub const fn has_room(free: u64, kept: u64, declared: u64) -> bool {
    free >= kept.saturating_add(declared)
}

#[cfg(test)]
mod test_directory {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory for one test, gone when the test ends.
    pub struct TestDirectory(PathBuf);

    impl TestDirectory {
        pub fn new() -> Self {
            static COUNTER: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("pillarbox-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_directory::TestDirectory;

    #[test]
    fn free_space_is_known_before_the_directory_exists() {
        let directory = TestDirectory::new();
        let here = free_space(directory.path()).unwrap();
        assert!(here > 0);
        assert!(free_space(&directory.path().join("not/yet/made")).unwrap() > 0);
        assert!(free_space(Path::new("not-here")).unwrap() > 0);
        assert_eq!(free_space(Path::new("/proc")).unwrap(), 0);
    }
}

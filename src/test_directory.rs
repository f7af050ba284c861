//! The directory of a test: a place of its own for its files, removed when the test passes. No other test shares it:
//! tests run beside each other, in one process and in several. The tests in `tests/` use this file, too.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub struct TestDirectory(PathBuf);

impl TestDirectory {
    /// # Panics
    ///
    /// If the directory cannot be made.
    pub fn new() -> Self {
        Self::below(&Self::usual())
    }

    /// The directory for temporary files, by a path without links.
    ///
    /// # Panics
    ///
    /// If it does not exist.
    pub fn usual() -> PathBuf {
        std::env::temp_dir().canonicalize().unwrap()
    }

    /// As [`Self::new`], for a test that asks for a certain file system.
    ///
    /// # Panics
    ///
    /// If the directory cannot be made.
    pub fn below(base: &Path) -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("pillarbox-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Left by a process that was killed, and had the same number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file; returns its path.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// As [`Self::file`], with that mode.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn file_of_mode(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.file(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// As [`Self::file`], with mode 0600, as secrets must have.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn secret(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.file_of_mode(name, content, 0o600)
    }
}

impl Deref for TestDirectory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for TestDirectory {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<OsStr> for TestDirectory {
    fn as_ref(&self) -> &OsStr {
        self.0.as_ref()
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("see {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

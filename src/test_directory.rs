//! The directory of a test: a place of its own for its files, removed when the test ends. No other test shares it, as
//! tests run beside each other in one process and in several.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct TestDirectory(PathBuf);

impl TestDirectory {
    /// # Panics
    ///
    /// If the directory cannot be made.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
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

    /// As [`Self::file`], with mode 0600, as secrets must have.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn secret(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

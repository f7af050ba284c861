//! Waits until a name appears in a directory (inotify), or until some time has passed.
//!
//! A system that cannot watch, or has no watches left, only waits: a caller must also look for itself now and then.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// A watched directory, if the system can watch it.
#[derive(Debug)]
pub struct DirectoryWatch(Option<OwnedFd>);

impl DirectoryWatch {
    /// Watches for names in the directory at `path`: moved there, or linked where a file system cannot move without
    /// replacing.
    #[must_use]
    pub fn for_arrivals(path: &Path) -> Self {
        let watch = || {
            let watch = init(CreateFlags::CLOEXEC).ok()?;
            add_watch(&watch, path, WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR).ok()?;
            Some(watch)
        };
        Self(watch())
    }

    /// Whether arrivals are noticed at once.
    #[must_use]
    pub const fn sees(&self) -> bool {
        self.0.is_some()
    }

    /// Waits for an arrival since the last call, or for `span` to pass.
    pub fn wait(&self, span: Duration) {
        let Some(watch) = &self.0 else { return super::thread::sleep(span) };
        let timeout = Timespec { tv_sec: span.as_secs() as _, tv_nsec: span.subsec_nanos() as _ };
        match poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout)) {
            // The caller finds what arrived by looking, including what the kernel had no room to report.
            Ok(1..) => drop(rustix::io::read(watch, &mut [0; 4096])),
            Ok(0) => {}
            // At worst a signal. The pause keeps a lasting error from becoming a busy loop.
            Err(_) => super::thread::sleep(Duration::from_secs(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::{Clock, SystemClock};
    use crate::test_directory::TestDirectory;

    #[test]
    fn an_arrival_ends_the_wait() {
        let directory = TestDirectory::new();
        let watch = DirectoryWatch::for_arrivals(&directory);
        assert!(watch.sees());
        directory.file(".x", "");
        for _ in 0..1000 {
            std::fs::rename(directory.join(".x"), directory.join("x")).unwrap();
            std::fs::rename(directory.join("x"), directory.join(".x")).unwrap();
        }
        let start = SystemClock.boot();
        watch.wait(Duration::from_secs(60));
        assert!(SystemClock.boot() - start < Duration::from_secs(30));
        std::fs::hard_link(directory.join(".x"), directory.join("x")).unwrap();
        watch.wait(Duration::from_secs(60));
        assert!(SystemClock.boot() - start < Duration::from_secs(30));
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(!DirectoryWatch::for_arrivals(&directory).sees());
    }
}

//! Whether the queue can lie in memory (`queue.storage = "memory-first"`).
//!
//! | looks at | warning |
//! | --- | --- |
//! | the file system of `queue.memory` | it is no tmpfs and no ramfs: nothing is gained |
//! | its size | `queue.memory_max` is larger |
//! | the directory | another user owns it, or it is a file |
//!
//! A path that is not absolute, or lies in `state`, is a mistake that `config` finds. The daemon runs with all of these: what
//! does not go into memory goes to the disk.

use super::report::CheckReport;
use crate::config::{Places, Settings, Storage};
use crate::rules::advice::monitor::size;
use crate::store::{FileSystem, file_system};
use std::os::unix::fs::MetadataExt;

/// Adds what is wrong with the directory; `uid`: who has to write there.
pub fn find(settings: &Settings, places: &Places, uid: Option<u32>, found: &mut CheckReport) {
    let queue = &settings.queue;
    if queue.storage == Storage::Disk {
        return;
    }
    let (memory, place) = (&queue.memory, places.of("queue", "memory"));
    match file_system(memory) {
        Err(error) => found.warn(place, format!("{memory:?}: {error}")),
        Ok(FileSystem { is_memory: false, .. }) => {
            let text = format!(
                "{memory:?} is not in memory: \"memory-first\" spares nothing there; write a directory on a tmpfs"
            );
            found.warn(place, text);
        }
        Ok(FileSystem { octets, .. }) if octets > 0 && octets < queue.memory_max => {
            let text = format!(
                "{} do not fit into the file system of {memory:?}, which has {}; write less, or make it larger",
                size(queue.memory_max),
                size(octets)
            );
            found.warn(places.of("queue", "memory_max"), text);
        }
        Ok(_) => {}
    }
    let Ok(metadata) = memory.symlink_metadata() else { return };
    if !metadata.is_dir() {
        found.warn(
            places.of("queue", "memory"),
            format!("{memory:?} is no directory; all mail goes to the disk"),
        );
    } else if uid.is_some_and(|uid| metadata.uid() != uid) {
        let text = format!("{memory:?} belongs to another user; remove it, or all mail goes to the disk");
        found.warn(places.of("queue", "memory"), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_with_places;
    use crate::test_directory::TestDirectory;

    fn warnings(base: &TestDirectory, memory: &str, more: &str) -> Vec<String> {
        let text = format!("[queue]\nmemory = {memory:?}\n{more}\n");
        let file = base.file("pillarbox.toml", text);
        let (settings, places) = load_with_places(&file).unwrap();
        let mut report = CheckReport::default();
        find(&settings, &places, Some(rustix::process::getuid().as_raw()), &mut report);
        assert!(report.problems.is_empty());
        report.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_directory_that_is_not_in_memory_or_too_small_is_told() {
        let base = TestDirectory::new();
        let first = "storage = \"memory-first\"";
        assert!(warnings(&base, "/proc/x", "").is_empty(), "it is not used");
        for (memory, more, words) in [
            ("/proc/x", "", "\"/proc/x\" is not in memory"),
            ("/dev/shm/x", "memory_max = \"1024GiB\"", "do not fit into the file system of \"/dev/shm/x\""),
            ("/dev/null", "", "is no directory"),
        ] {
            let found = warnings(&base, memory, &format!("{first}\n{more}"));
            assert!(found.iter().any(|text| text.contains(words)), "{words}: {found:?}");
        }
        assert!(warnings(&base, "/dev/shm/x", first).is_empty());
    }
}

//! Looks after the queue's directories: files that are no messages, and what a crash has left half written.
//!
//! Deletes nothing but files in `tmp/` that no process holds. What may fail is logged.

use crate::engine::log::event::Event;
use crate::mail::date::WallTime;
use crate::store::StoreError;
use crate::store::queue::Queue;
use crate::sys::lock::Lock;
use std::path::PathBuf;

/// So many files are told of by name.
const TOLD_MAX: usize = 100;

/// What has been told.
#[derive(Debug, Default)]
pub struct Spool {
    told: Lock<Vec<PathBuf>>,
}

impl Spool {
    /// Logs a file in the queue that is no queue file: once, although each reload finds it again.
    pub fn tell_foreign(&self, error: &StoreError) {
        let mut told = self.told.lock();
        if told.contains(&error.path) || told.len() >= TOLD_MAX {
            return;
        }
        told.push(error.path.clone());
        log::warn!(target: "pillarbox", "event=foreign_file path={:?}", error.path.display().to_string());
    }

    /// Removes what no process holds any more: a process that was killed may have held its files until after our start.
    pub fn sweep(&self, queue: &Queue, now: WallTime) {
        match queue.sweep(Some(now)) {
            Ok(0) => {}
            Ok(swept) => log::info!(target: "pillarbox", "event=swept path=tmp files={swept}"),
            Err(error) => Event::Trouble { doing: "sweeping the queue", error: &error.to_string() }.log(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::tests::world::{World, take_events};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_is_no_message_is_told_of_once() {
        let world = World::new("");
        let queue = world.state().join("queue");
        std::fs::write(queue.join("README"), "x").unwrap();
        symlink("/etc/passwd", queue.join("0000000000001")).unwrap();
        std::fs::create_dir(queue.join("0000000000002")).unwrap();
        take_events("");
        world.manager.reload();
        let told = take_events("foreign_file");
        assert_eq!(told.len(), 3, "{told:?}");
        for _ in 0..3 {
            world.manager.reload();
        }
        assert_eq!((take_events("foreign_file").len(), take_events("trouble").len()), (0, 0));
        for number in 0..200 {
            std::fs::write(queue.join(format!("more{number}")), "x").unwrap();
        }
        world.manager.reload();
        assert_eq!(take_events("foreign_file").len(), super::TOLD_MAX - 3);
    }
}

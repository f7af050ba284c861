//! The queue in memory (`queue.storage = "memory-first"`): opened at the start of the daemon, and kept at a reload.
//!
//! No mail is lost or refused because of it: a directory that can't be used is logged, and all mail goes to the disk.

use super::findings::memory;
use super::findings::report::CheckReport;
use crate::config::{Places, Settings, Storage};
use crate::engine::log::event::trouble;
use crate::rules::advice::monitor::{size, span};
use crate::store::durable::Owner;
use crate::store::queue::Queue;

/// Opens the directory in memory, which is made and given to `owner`, and says what a power cut loses from now on. With
/// "disk", messages that lie there are still seen, and move to the disk.
pub fn open(settings: &Settings, owner: Option<Owner>, queue: &mut Queue) {
    let wanted = &settings.queue;
    if wanted.storage == Storage::Disk {
        return queue.leave_empty_memory();
    }
    if let Err(error) = queue.keep_in(&wanted.memory, wanted.memory_max, owner) {
        return trouble("opening the queue in memory; all mail goes to the disk", &error);
    }
    let mut report = CheckReport::default();
    memory::find(settings, &Places::default(), None, &mut report);
    for warning in report.warnings {
        log::warn!(target: "pillarbox", "event=notice text={:?}", format!("queue.memory: {}", warning.text));
    }
    let text = format!(
        "queue.storage is \"memory-first\": a power cut or a crash of the system loses accepted mail that is not delivered yet \
         and came within the last {}; up to {} of it lie in {}",
        span(wanted.memory_grace.as_secs()),
        size(wanted.memory_max),
        wanted.memory.display()
    );
    log::warn!(target: "pillarbox", "event=notice text={text:?}");
}

/// Takes back what a reload can't change: the directory, and the begin of "memory-first", for which root has to make it.
pub fn keep(new: &mut Settings, running: &Settings) {
    let (new, running) = (&mut new.queue, &running.queue);
    let begins = new.storage == Storage::MemoryFirst && running.storage == Storage::Disk;
    if new.memory != running.memory || begins {
        log::warn!(target: "pillarbox", "event=notice text=\"queue.storage and queue.memory change only with a restart\"");
        new.memory.clone_from(&running.memory);
        new.storage = running.storage;
    }
}

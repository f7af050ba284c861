//! The queue in memory, and each moment of the move to the disk at which a process may end.

use super::super::journal::tests::{at, deferred, delivered, record};
use super::super::*;
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::envelope::{Envelope, Recipient};
use crate::store::ErrorKind;
use crate::test_directory::TestDirectory;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

const ID: QueueId = QueueId::new(1_795_416_810_000_000, 1);
const OTHER: QueueId = QueueId::new(1_795_416_811_000_000, 2);
const MAX: u64 = 64 * 1024;

struct World {
    directory: TestDirectory,
    queue: Queue,
}

impl World {
    fn new(most: u64) -> Self {
        let directory = TestDirectory::new();
        let queue = Self::open(&directory, most);
        Self { directory, queue }
    }

    fn open(directory: &TestDirectory, most: u64) -> Queue {
        let mut queue = Queue::open(&directory.path().join("state"), None).unwrap();
        queue.keep_in(&directory.path().join("memory"), most, None).unwrap();
        queue
    }

    /// As after kill -9, with the same settings.
    fn restart(self) -> Self {
        let Self { directory, queue } = self;
        drop(queue);
        let queue = Self::open(&directory, MAX);
        Self { directory, queue }
    }

    fn path(&self, place: &str, id: QueueId) -> PathBuf {
        self.directory.path().join(place).join(id.to_string())
    }

    /// Where the entry lies, with its size.
    fn places(&self, id: QueueId) -> Vec<&'static str> {
        let all = ["state/queue", "state/tmp", "memory/queue", "memory/tmp", "state/corrupt"];
        all.into_iter().filter(|place| self.path(place, id).exists()).collect()
    }

    fn stage(&self, id: QueueId, message: &[u8]) -> StagedEntry {
        let mut staged = self.queue.stage(id, &description()).unwrap();
        staged.write(message).unwrap();
        staged
    }

    fn commit(&self, id: QueueId, message: &[u8]) {
        self.stage(id, message).sync().unwrap().commit().unwrap();
    }

    fn ready(&self, id: QueueId) -> Arc<Entry> {
        match self.queue.checkout(id).unwrap() {
            Checkout::Ready(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    fn content(&self, id: QueueId) -> Vec<u8> {
        let (entry, mut content) = (self.ready(id), Vec::new());
        entry.verify().unwrap();
        entry.content(0).read_to_end(&mut content).unwrap();
        content
    }

    /// What lists and scans show.
    fn seen(&self) -> (Vec<QueueId>, Vec<QueueId>) {
        let mut scanned: Vec<_> = self.queue.scan().unwrap().map(|found| found.unwrap().id).collect();
        scanned.sort_unstable();
        (self.queue.ids().unwrap(), scanned)
    }

    /// Counted again, as at a start.
    fn used(&self) -> u64 {
        let counted: u64 = ["memory/queue", "memory/tmp"]
            .into_iter()
            .flat_map(|place| fs::read_dir(self.directory.path().join(place)).unwrap())
            .map(|file| file.unwrap().metadata().unwrap().len().next_multiple_of(4096))
            .sum();
        assert_eq!(self.queue.memory_octets(), counted);
        counted
    }
}

fn description() -> Description {
    let mut envelope = Envelope::new(ReversePath::Null);
    for name in ["a@example.org", "b@example.net"] {
        envelope.recipients.push(Recipient::new(Mailbox::parse(name).unwrap()));
    }
    Description { envelope, origin: "[192.0.2.7]".into(), arrival: at(100), digest: None, dated: None }
}

fn held() -> JournalRecord {
    JournalRecord { recipients: vec![0, 1], at: at(3), event: JournalEvent::Held }
}

#[test]
fn an_entry_in_memory_is_an_entry_and_touches_no_disk() {
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    assert_eq!(world.places(ID), ["memory/queue"]);
    assert_eq!((world.content(ID), world.used()), (b"one\n".to_vec(), 4096));
    assert_eq!(world.seen(), (vec![ID], vec![ID]));
    assert!(world.queue.contains(ID) && world.ready(ID).is_in_memory());
    world.queue.record(&world.ready(ID), &[record(0, 1, deferred())], Durability::Synced).unwrap();
    assert_eq!(world.queue.summary(ID).unwrap().unwrap().progress[0].attempts, 1);
    assert_eq!(world.ready(ID).history().unwrap().len(), 1);
    assert_eq!(world.queue.in_memory().unwrap(), InMemory { ids: vec![ID], octets: 4096 });
    let world = world.restart();
    assert_eq!(world.queue.sweep(None).unwrap(), 0);
    assert_eq!((world.content(ID), world.used(), world.seen().0), (b"one\n".to_vec(), 4096, vec![ID]));
    let entry = world.ready(ID);
    world.queue.remove(&entry).unwrap();
    assert!(entry.is_removed() && !world.queue.contains(ID));
    assert_eq!((world.places(ID).len(), world.used()), (0, 0));
    world.queue.remove(&entry).unwrap();
    assert_eq!(world.used(), 0);
    assert!(matches!(world.queue.checkout(ID).unwrap(), Checkout::Gone));
}

#[test]
fn a_move_takes_the_journal_along_and_who_uses_the_entry_goes_on() {
    let world = World::new(MAX);
    world.commit(ID, &[b"line\n".repeat(2000), b"end\n".to_vec()].concat());
    let entry = world.ready(ID);
    world.queue.record(&entry, &[record(0, 1, deferred())], Durability::Lazy).unwrap();
    let mut content = entry.content(0);
    content.read_exact(&mut [0; 100]).unwrap();
    assert!(world.queue.save(ID).unwrap());
    assert_eq!((world.places(ID), world.used()), (vec!["state/queue"], 0));
    assert!(!entry.is_in_memory() && !entry.is_removed());
    assert!(!world.queue.save(ID).unwrap(), "once");
    // Another process finds it locked.
    let other = Queue::open(&world.directory.path().join("state"), None).unwrap();
    assert!(matches!(other.checkout(ID).unwrap(), Checkout::Busy));
    let mut rest = Vec::new();
    content.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 10_004 - 100);
    world.queue.record(&entry, &[record(1, 2, delivered())], Durability::Synced).unwrap();
    assert_eq!(entry.history().unwrap().len(), 2);
    drop(entry);
    let again = world.ready(ID);
    assert_eq!((again.damaged_records(), again.history().unwrap().len()), (0, 2));
    assert_eq!(again.progress()[0].attempts, 1);
    assert_eq!(again.progress()[1].state, RecipientState::Delivered);
    world.queue.remove(&again).unwrap();
    assert!(again.is_removed() && world.places(ID).is_empty());
}

#[test]
fn wherever_a_process_ends_in_a_move_one_entry_is_left() {
    // Before the rename: a part of a copy.
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    fs::write(world.path("state/tmp", ID), "pillarbox-qu").unwrap();
    let world = world.restart();
    assert_eq!(world.seen(), (vec![ID], vec![ID]));
    assert_eq!((world.queue.sweep(None).unwrap(), world.places(ID)), (1, vec!["memory/queue"]));
    assert_eq!(world.content(ID), b"one\n");
    // After the rename: both. Then the entry on the disk went on.
    let old = fs::read(world.path("memory/queue", ID)).unwrap();
    assert!(world.queue.save(ID).unwrap());
    world.queue.record(&world.ready(ID), &[record(0, 1, delivered())], Durability::Synced).unwrap();
    let both = |world: &World| {
        fs::write(world.path("memory/queue", ID), &old).unwrap();
        assert_eq!(world.places(ID), ["state/queue", "memory/queue"]);
    };
    both(&world);
    let world = world.restart();
    assert_eq!(world.seen(), (vec![ID], vec![ID]));
    assert_eq!(
        world.queue.summary(ID).unwrap().unwrap().progress[0].state,
        RecipientState::Delivered,
        "the one on the disk is true"
    );
    assert_eq!(
        (world.queue.sweep(None).unwrap(), world.places(ID), world.used()),
        (0, vec!["state/queue"], 0)
    );
    // The same, and nobody has swept: what works on the entry leaves one.
    both(&world);
    let world = world.restart();
    assert!(!world.ready(ID).is_in_memory());
    assert_eq!((world.places(ID), world.used()), (vec!["state/queue"], 0));
    both(&world);
    let world = world.restart();
    world.queue.remove(&world.ready(ID)).unwrap();
    assert_eq!((world.places(ID).len(), world.seen().0.len(), world.used()), (0, 0, 0));
}

#[test]
fn a_sweep_leaves_an_entry_that_another_process_moves() {
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    // As after the rename, and before the sync of the directory.
    let moving = world.ready(ID);
    fs::copy(world.path("memory/queue", ID), world.path("state/queue", ID)).unwrap();
    let mut other = Queue::open(&world.directory.path().join("state"), None).unwrap();
    other.look_into(&world.directory.path().join("memory"), None).unwrap();
    other.sweep(None).unwrap();
    assert_eq!(world.places(ID), ["state/queue", "memory/queue"]);
    drop(moving);
    other.sweep(None).unwrap();
    assert_eq!(world.places(ID), ["state/queue"]);
}

#[test]
fn a_disk_that_takes_nothing_leaves_the_entry_in_memory() {
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    // The name that the copy would have.
    fs::create_dir(world.path("state/tmp", ID)).unwrap();
    assert_eq!(world.queue.save(ID).unwrap_err().kind, ErrorKind::Trouble);
    let entry = world.ready(ID);
    let held = world.queue.record(&entry, &[held()], Durability::Synced);
    assert!(held.is_err(), "the operator must learn that a power cut would undo it");
    assert!(entry.progress()[0].held && entry.is_in_memory());
    assert_eq!((world.content(ID), world.used()), (b"one\n".to_vec(), 4096));
    fs::remove_dir(world.path("state/tmp", ID)).unwrap();
    assert!(world.queue.save(ID).unwrap());
    drop(entry);
    assert!(world.ready(ID).progress()[1].held);
}

#[test]
fn what_the_operator_holds_is_on_the_disk() {
    for event in [JournalEvent::Held, JournalEvent::Kept] {
        let world = World::new(MAX);
        world.commit(ID, b"one\n");
        let entry = world.ready(ID);
        let record = JournalRecord { event, ..held() };
        world.queue.record(&entry, &[record], Durability::Synced).unwrap();
        assert_eq!(world.places(ID), ["state/queue"]);
        drop(entry);
        assert!(world.ready(ID).progress()[0].held);
    }
}

#[test]
fn memory_holds_no_more_than_it_may() {
    let world = World::new(3 * 4096);
    world.commit(ID, b"one\n");
    // This one grows out of it while it is written; half of it is in the file, and half still held.
    let large: Vec<u8> = (0..200_000_u32).map(|at| b'a' + (at % 26) as u8).collect();
    let mut staged = world.stage(OTHER, &large[..5000]);
    assert_eq!(world.places(OTHER), ["memory/tmp"]);
    staged.content_source().unwrap();
    staged.write(&large[5000..6000]).unwrap();
    staged.write(&large[6000..100_000]).unwrap();
    assert_eq!(world.places(OTHER), ["state/tmp"]);
    staged.write(&large[100_000..]).unwrap();
    staged.sync().unwrap().commit().unwrap();
    assert_eq!((world.places(OTHER), world.content(OTHER) == large), (vec!["state/queue"], true));
    assert_eq!((world.seen(), world.used()), ((vec![ID, OTHER], vec![ID, OTHER]), 4096));
    // Copied from another file.
    let source = fs::File::open(world.path("state/queue", OTHER)).unwrap();
    let third = QueueId::new(1_795_416_812_000_000, 3);
    let mut staged = world.stage(third, b"start ");
    staged.append_from(&source, 0, 1000).unwrap();
    assert_eq!(world.places(third), ["memory/tmp"]);
    staged.append_from(&source, 1000, 9000).unwrap();
    assert_eq!(world.places(third), ["state/tmp"]);
    staged.sync().unwrap().commit().unwrap();
    let expected = [b"start ", &fs::read(world.path("state/queue", OTHER)).unwrap()[..10_000]].concat();
    assert!(world.content(third) == expected);
    // The journal of the first one does not fit any more.
    let fourth = QueueId::new(1_795_416_813_000_000, 4);
    world.commit(fourth, &[b'x'; 5000]);
    assert_eq!((world.places(fourth), world.used()), (vec!["memory/queue"], 3 * 4096));
    let entry = world.ready(ID);
    while entry.is_in_memory() {
        world.queue.record(&entry, &[record(0, 1, deferred())], Durability::Lazy).unwrap();
        assert!(world.used() <= 3 * 4096);
    }
    assert_eq!((world.places(ID), world.used()), (vec!["state/queue"], 2 * 4096));
    let written = entry.history().unwrap().len();
    assert!(written > 20, "{written}");
    drop(entry);
    assert_eq!(world.ready(ID).history().unwrap().len(), written);
}

#[test]
fn what_is_not_committed_gives_its_room_back() {
    let world = World::new(2 * 4096);
    for _ in 0..5 {
        drop(world.stage(ID, b"one\n"));
        assert_eq!((world.used(), world.places(ID).len()), (0, 0));
        drop(world.stage(ID, b"one\n").sync().unwrap());
        assert_eq!((world.used(), world.places(ID).len()), (0, 0));
    }
    world.queue.set_memory_max(0);
    world.commit(ID, b"one\n");
    assert_eq!(world.places(ID), ["state/queue"]);
    world.queue.set_memory_max(4096);
    world.commit(OTHER, b"one\n");
    assert_eq!(world.places(OTHER), ["memory/queue"]);
}

#[test]
fn a_name_is_given_once_wherever_the_entry_lies() {
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    let taken = |queue: &Queue| queue.stage(ID, &description()).is_err();
    assert!(taken(&world.queue));
    let mut other = Queue::open(&world.directory.path().join("state"), None).unwrap();
    other.look_into(&world.directory.path().join("memory"), None).unwrap();
    assert!(taken(&other));
    assert!(world.queue.save(ID).unwrap() && taken(&world.queue) && taken(&other));
    assert_eq!((world.content(ID), world.places(ID)), (b"one\n".to_vec(), vec!["state/queue"]));
}

#[test]
fn damaged_files_in_memory_are_set_aside_on_the_disk() {
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    world.commit(OTHER, b"two\n");
    fs::write(world.path("memory/queue", ID), "rubbish").unwrap();
    assert_eq!(world.queue.checkout(ID).unwrap_err().kind, ErrorKind::Corrupt);
    assert_eq!(world.places(ID), ["state/corrupt"]);
    assert_eq!(fs::read(world.path("state/corrupt", ID)).unwrap(), b"rubbish");
    assert_eq!(world.seen(), (vec![OTHER], vec![OTHER]));
    fs::write(world.directory.path().join("memory/queue/README"), "x").unwrap();
    let kinds: Vec<_> = world.queue.scan().unwrap().filter_map(|it| Some(it.err()?.kind)).collect();
    assert_eq!(kinds, [ErrorKind::Foreign]);
}

#[test]
fn memory_belongs_to_one_queue_and_to_one_process() {
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    let memory = world.directory.path().join("memory");
    let state = world.directory.path().join("state");
    let mut twin = Queue::open(&state, None).unwrap();
    assert!(twin.keep_in(&memory, MAX, None).is_err(), "locked");
    assert!(!twin.contains(ID));
    twin.look_into(&memory, None).unwrap();
    assert!(twin.contains(ID));
    twin.stage(OTHER, &description()).unwrap().sync().unwrap().commit().unwrap();
    assert_eq!(world.places(OTHER), ["state/queue"], "only one process puts messages there");
    let mut stranger = Queue::open(&world.directory.path().join("elsewhere"), None).unwrap();
    stranger.look_into(&memory, None).unwrap();
    stranger.look_into(&world.directory.path().join("missing"), None).unwrap();
    assert!(!stranger.contains(ID));
    let World { directory, queue } = world;
    drop(queue);
    assert!(stranger.keep_in(&memory, MAX, None).is_err(), "there is mail of another queue");
    assert!(twin.save(ID).unwrap());
    stranger.keep_in(&memory, MAX, None).unwrap();
    stranger.stage(ID, &description()).unwrap().sync().unwrap().commit().unwrap();
    assert!(directory.path().join("memory/queue").join(ID.to_string()).exists());
    twin.look_into(&memory, None).unwrap();
    assert!(twin.in_memory().unwrap().ids.is_empty(), "it belongs to another queue now");
}

#[test]
fn directories_of_another_user_are_left_alone() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for place in ["memory", "memory/queue", "memory/tmp"] {
        let world = World::new(MAX);
        world.commit(ID, b"one\n");
        let World { directory, queue } = world;
        drop(queue);
        std::os::unix::fs::chown(directory.path().join(place), Some(65534), None).unwrap();
        let memory = directory.path().join("memory");
        let mut queue = Queue::open(&directory.path().join("state"), None).unwrap();
        assert!(queue.keep_in(&memory, MAX, None).is_err(), "{place}");
        queue.look_into(&memory, None).unwrap();
        assert!(!queue.contains(ID), "{place}");
    }
}

#[test]
fn a_copy_that_a_failed_move_has_left_is_never_taken_for_the_entry() {
    let world = World::new(MAX);
    world.commit(ID, b"one\n");
    let entry = world.ready(ID);
    // A directory in its place stands for a copy that can't be removed.
    fs::create_dir(world.path("state/queue", ID)).unwrap();
    assert!(world.queue.save(ID).is_err());
    world.queue.record(&entry, &[record(0, 1, delivered())], Durability::Synced).unwrap();
    drop(entry);
    let is_delivered = |world: &World| world.ready(ID).progress()[0].is_finished();
    assert!(is_delivered(&world));
    assert!(world.queue.save(ID).is_err());
    world.queue.sweep(None).unwrap();
    assert!(world.path("memory/queue", ID).exists() && is_delivered(&world));
    fs::remove_dir(world.path("state/queue", ID)).unwrap();
    assert!(world.queue.save(ID).unwrap());
    assert_eq!(world.places(ID), ["state/queue"]);
    assert!(is_delivered(&world.restart()));
}

#[test]
fn threads_that_move_append_remove_and_list_lose_nothing() {
    let world = World::new(1 << 20);
    let ids: Vec<_> = (0..40).map(|n| QueueId::new(1_795_416_810_000_000 + n, n)).collect();
    ids.iter().for_each(|id| world.commit(*id, b"x\n"));
    std::thread::scope(|scope| {
        for way in 0..4 {
            let (world, ids) = (&world, &ids);
            scope.spawn(move || {
                for (place, id) in ids.iter().enumerate() {
                    match way {
                        0 => assert!(world.queue.save(*id).is_ok()),
                        1 => {
                            let entry = world.ready(*id);
                            let records = [record(0, 1, deferred())];
                            world.queue.record(&entry, &records, Durability::Lazy).unwrap();
                        }
                        2 => assert!(world.queue.summary(*id).unwrap().is_ok(), "{place}"),
                        _ => assert!(world.queue.ids().unwrap().len() == 40 && world.queue.contains(*id)),
                    }
                }
            });
        }
    });
    for id in &ids {
        assert_eq!((world.places(*id), world.ready(*id).progress()[0].attempts), (vec!["state/queue"], 1));
    }
    assert_eq!(world.used(), 0);
    std::thread::scope(|scope| {
        let again: Vec<_> = (0..40).map(|n| QueueId::new(1_795_416_820_000_000 + n, n)).collect();
        again.iter().for_each(|id| world.commit(*id, b"x\n"));
        let (world, save) = (&world, again.clone());
        scope.spawn(move || save.iter().for_each(|id| assert!(world.queue.save(*id).is_ok())));
        for id in again {
            if let Checkout::Ready(entry) = world.queue.checkout(id).unwrap() {
                world.queue.remove(&entry).unwrap();
            }
        }
    });
    assert_eq!(world.queue.ids().unwrap(), ids, "what was removed does not come back");
    assert_eq!(world.used(), 0);
}

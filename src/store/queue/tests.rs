//! One test for each row of the state table, and the properties that hold for all of them.

use super::super::ErrorKind;
use super::journal::tests::{at, deferred, delivered, failed, record};
use super::*;
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::envelope::{Envelope, Recipient};
use crate::test_directory::TestDirectory;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

struct TestQueue {
    directory: TestDirectory,
    queue: Queue,
}

const ID: QueueId = QueueId::new(1_795_416_810_000_000, 1);

impl TestQueue {
    fn new() -> Self {
        let directory = TestDirectory::new();
        let queue = Queue::open(&directory.path().join("state"), None).unwrap();
        Self { directory, queue }
    }

    /// As after a restart: nothing in memory.
    fn reopened(&self) -> Queue {
        Queue::open(&self.directory.path().join("state"), None).unwrap()
    }

    fn names(&self, below: &str) -> Vec<String> {
        let path = self.directory.path().join("state").join(below);
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn file(&self, id: QueueId) -> PathBuf {
        self.directory.path().join("state/queue").join(id.to_string())
    }

    fn stage(&self, id: QueueId, message: &[u8]) -> StagedEntry {
        let mut envelope = Envelope::new(ReversePath::Null);
        for name in ["a@example.org", "b@example.net"] {
            envelope.recipients.push(Recipient::new(Mailbox::parse(name).unwrap()));
        }
        let mut entry = self.queue.stage(id, &description(envelope)).unwrap();
        entry.write(message).unwrap();
        entry
    }

    fn commit(&self, id: QueueId, message: &[u8]) {
        let path = self.stage(id, message).sync().unwrap().commit().unwrap();
        assert_eq!(path, self.file(id));
    }
}

fn description(envelope: Envelope) -> Description {
    Description { envelope, origin: "[192.0.2.7]".into(), arrival: at(100), digest: None, dated: None }
}

fn ready(queue: &Queue, id: QueueId) -> Arc<Entry> {
    loop {
        match queue.checkout(id).unwrap() {
            Checkout::Ready(entry) => return entry,
            // Another test has forked, and its child holds our locks until it calls exec.
            Checkout::Busy => std::thread::yield_now(),
            Checkout::Gone => panic!("{id} is gone"),
        }
    }
}

fn message(entry: &Entry) -> Vec<u8> {
    let mut octets = Vec::new();
    entry.content(0).read_to_end(&mut octets).unwrap();
    octets
}

fn states(queue: &Queue) -> Vec<RecipientState> {
    ready(queue, ID).progress().iter().map(|p| p.state).collect()
}

#[test]
fn s1_a_sweep_leaves_what_somebody_is_at_work_on() {
    let this = TestQueue::new();
    let staged = this.stage(ID, b"text\n");
    assert_eq!(this.reopened().sweep(None).unwrap(), 0);
    let synced = staged.sync().unwrap();
    assert_eq!(this.reopened().sweep(None).unwrap(), 0);
    assert_eq!((this.names("tmp").len(), this.names("queue").len()), (1, 0));
    synced.commit().unwrap();
    assert_eq!((this.names("tmp").len(), this.names("queue").len()), (0, 1));
}

#[test]
fn s2_what_a_crash_left_before_the_commit_is_swept() {
    let this = TestQueue::new();
    for (name, text) in [("0000000000001", "half a fi"), ("0000000000002", ""), ("clock.77", "x")] {
        fs::write(this.directory.path().join("state/tmp").join(name), text).unwrap();
    }
    assert_eq!(this.reopened().sweep(None).unwrap(), 3);
    assert!(this.names("tmp").is_empty());
    assert_eq!(this.queue.scan().unwrap().count(), 0);
    // The race between creating and locking: the loser gets an error before anything is promised.
    let staged = this.stage(ID, b"text\n");
    fs::remove_file(this.directory.path().join("state/tmp").join(ID.to_string())).unwrap();
    assert!(staged.sync().unwrap().commit().is_err());
    assert!(this.names("queue").is_empty());
}

/// A thread of this process may be about to lock the file that it has just made.
#[test]
fn s2_a_sweep_while_mail_comes_in_leaves_out_what_is_young() {
    let this = TestQueue::new();
    let path = this.directory.path().join("state/tmp/0000000000001");
    fs::write(&path, "half a fi").unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let sweep = |seconds: u64| this.queue.sweep(Some(WallTime((modified + seconds) * 1_000_000))).unwrap();
    assert_eq!([sweep(0), sweep(9), sweep(10), sweep(11)], [0, 0, 1, 0]);
}

#[test]
fn s3_of_two_names_of_one_file_the_first_goes() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    fs::hard_link(this.file(ID), this.directory.path().join("state/tmp").join(ID.to_string())).unwrap();
    assert_eq!(this.reopened().sweep(None).unwrap(), 1);
    assert_eq!((this.names("tmp").len(), this.names("queue").len()), (0, 1));
    ready(&this.queue, ID).verify().unwrap();
}

#[test]
fn s4_what_was_committed_is_found_whole() {
    let this = TestQueue::new();
    this.commit(ID, b"Subject: x\n\ntext\n");
    let queue = this.reopened();
    let summary = queue.scan().unwrap().next().unwrap().unwrap();
    assert_eq!((summary.id, summary.message_octets, summary.damaged_records), (ID, 17, 0));
    assert_eq!((summary.description.origin.as_str(), summary.description.arrival), ("[192.0.2.7]", at(100)));
    assert_eq!(summary.description.envelope.recipients[1].mailbox.to_string(), "b@example.net");
    assert_eq!(summary.progress, vec![Progress::default(); 2]);
    let entry = ready(&queue, ID);
    entry.verify().unwrap();
    assert_eq!(*entry.description(), summary.description);
    assert_eq!((entry.message_octets(), entry.message_lines()), (17, 3));
    assert_eq!(message(&entry), b"Subject: x\n\ntext\n");
    let mut piece = [0; 3];
    entry.content(12).read_exact(&mut piece).unwrap();
    assert_eq!(&piece, b"tex");
    assert_eq!(entry.content(17).read(&mut piece).unwrap(), 0);
    let metadata = fs::metadata(this.file(ID)).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
}

#[test]
fn s5_the_journal_outlives_a_restart() {
    let this = TestQueue::new();
    this.commit(ID, b"text without a line end");
    let entry = ready(&this.queue, ID);
    this.queue.record(&entry, &[record(0, 1, deferred()), record(1, 1, failed())], Durability::Lazy).unwrap();
    this.queue.record(&entry, &[record(0, 2, delivered())], Durability::Synced).unwrap();
    let progress = entry.progress();
    assert!(!entry.is_finished());
    drop(entry);
    let queue = this.reopened();
    assert_eq!(queue.scan().unwrap().next().unwrap().unwrap().progress, progress);
    let entry = ready(&queue, ID);
    assert_eq!(entry.progress(), progress);
    assert_eq!((progress[0].state, progress[0].attempts), (RecipientState::Delivered, 2));
    entry.verify().unwrap();
    assert_eq!(message(&entry), b"text without a line end");
    queue.record(&entry, &[record(1, 3, JournalEvent::Notified)], Durability::Synced).unwrap();
    assert!(entry.is_finished());
}

#[test]
fn s11_a_message_is_held_over_a_restart_and_ids_come_oldest_first() {
    let this = TestQueue::new();
    const OTHER: QueueId = QueueId::new(5, 5);
    this.commit(OTHER, b"text");
    this.commit(ID, b"text");
    let entry = ready(&this.queue, ID);
    let held = JournalRecord { recipients: vec![0, 1], ..record(0, 1, JournalEvent::Held) };
    this.queue.record(&entry, std::slice::from_ref(&held), Durability::Synced).unwrap();
    drop(entry);
    let queue = this.reopened();
    let mut expected = vec![ID, OTHER];
    expected.sort();
    assert_eq!(queue.ids().unwrap(), expected);
    assert!(queue.summary(ID).unwrap().unwrap().progress.iter().all(|progress| progress.held));
    assert!(queue.summary(OTHER).unwrap().unwrap().progress.iter().all(Progress::is_due));
    let entry = ready(&queue, ID);
    assert_eq!(entry.history().unwrap(), [held]);
    queue.remove(&entry).unwrap();
    assert!(queue.summary(ID).is_none() && !queue.contains(ID) && queue.contains(OTHER));
}

#[test]
fn s6_a_torn_record_is_passed_over_and_the_next_one_is_read() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    let whole = fs::read(this.file(ID)).unwrap();
    let entry = ready(&this.queue, ID);
    this.queue.record(&entry, &[record(0, 1, delivered())], Durability::Synced).unwrap();
    drop(entry);
    let recorded = fs::read(this.file(ID)).unwrap();
    for end in whole.len()..recorded.len() {
        fs::write(this.file(ID), &recorded[..end]).unwrap();
        let queue = this.reopened();
        assert_eq!(states(&queue), [RecipientState::Pending, RecipientState::Pending], "cut {end}");
        let entry = ready(&queue, ID);
        entry.verify().unwrap();
        queue.record(&entry, &[record(1, 2, failed())], Durability::Synced).unwrap();
        drop(entry);
        assert_eq!(states(&this.reopened())[1], RecipientState::Failed, "cut {end}");
    }
}

#[test]
fn s7_what_is_finished_is_seen_to_be() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    let entry = ready(&this.queue, ID);
    let records = [record(0, 1, delivered()), record(1, 1, delivered())];
    this.queue.record(&entry, &records, Durability::Synced).unwrap();
    drop(entry);
    let queue = this.reopened();
    let entry = ready(&queue, ID);
    assert!(entry.is_finished());
    queue.remove(&entry).unwrap();
    queue.remove(&entry).unwrap();
    queue.sync().unwrap();
    assert!(this.names("queue").is_empty());
    drop(entry);
    assert!(matches!(queue.checkout(ID).unwrap(), Checkout::Gone));
}

#[test]
fn s8_each_damaged_bit_goes_to_the_right_place() {
    let this = TestQueue::new();
    this.commit(ID, b"a text\n");
    let entry = ready(&this.queue, ID);
    this.queue.record(&entry, &[record(0, 1, delivered())], Durability::Synced).unwrap();
    let message_start = usize::try_from(entry.content_source().1).unwrap();
    let journal_start = message_start + 7;
    drop(entry);
    let sound = fs::read(this.file(ID)).unwrap();
    for bit in (0..sound.len() * 8).step_by(3) {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(this.file(ID), &damaged).unwrap();
        let queue = this.reopened();
        if bit / 8 < message_start {
            let error = if bit % 2 == 0 {
                queue.scan().unwrap().next().unwrap().unwrap_err()
            } else {
                queue.checkout(ID).unwrap_err()
            };
            assert_eq!(error.kind, ErrorKind::Corrupt, "bit {bit}");
        } else {
            assert!(queue.scan().unwrap().next().unwrap().is_ok());
            let entry = ready(&queue, ID);
            assert_eq!(entry.verify().is_err(), bit / 8 < journal_start, "bit {bit}");
            if let Err(error) = entry.verify() {
                assert_eq!(error.kind, ErrorKind::Corrupt);
            }
            assert_eq!(states(&queue)[1], RecipientState::Pending);
            queue.set_aside(ID, "a test").unwrap();
        }
        assert!(this.names("queue").is_empty(), "bit {bit}");
        let aside = this.directory.path().join("state/corrupt").join(ID.to_string());
        assert_eq!(fs::read(&aside).unwrap(), damaged);
        fs::remove_file(aside).unwrap();
    }
}

#[test]
fn s8_a_file_that_was_cut_short_is_set_aside() {
    let this = TestQueue::new();
    for message in [&b"a text\n"[..], &[b'x'; 100_000]] {
        this.commit(ID, message);
        let sound = fs::read(this.file(ID)).unwrap();
        for end in [0, 50, 98, 120, sound.len() - message.len(), sound.len() - 1] {
            fs::write(this.file(ID), &sound[..end]).unwrap();
            let queue = this.reopened();
            let error = match queue.checkout(ID) {
                Ok(Checkout::Ready(entry)) => entry.verify().unwrap_err(),
                other => other.unwrap_err(),
            };
            assert_eq!(error.kind, ErrorKind::Corrupt, "{end} of {}", sound.len());
            queue.set_aside(ID, "a test").unwrap();
        }
    }
}

#[test]
fn s9_foreign_names_are_reported_and_left_alone() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    let directory = this.directory.path().join("state/queue");
    fs::write(directory.join("README"), "x").unwrap();
    fs::write(directory.join("0000000000001~"), "x").unwrap();
    let (sound, foreign): (Vec<_>, Vec<_>) = this.queue.scan().unwrap().partition(Result::is_ok);
    assert_eq!(sound.len(), 1);
    assert!(foreign.iter().all(|e| e.as_ref().unwrap_err().kind == ErrorKind::Foreign));
    assert_eq!((foreign.len(), this.names("queue").len()), (2, 3));
}

/// Whatever its name: it is not a message, and not a damaged one.
#[test]
fn s9_what_is_no_file_is_foreign_even_by_the_name_of_a_message() {
    let this = TestQueue::new();
    symlink("/etc/passwd", this.file(ID)).unwrap();
    fs::create_dir(this.file(QueueId::new(1, 1))).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(this.file(QueueId::new(2, 2))).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        this.file(QueueId::new(3, 3)),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let kinds: Vec<_> = this.queue.scan().unwrap().map(|found| found.unwrap_err().kind).collect();
    assert_eq!(kinds, [ErrorKind::Foreign; 4]);
    assert_eq!((this.names("queue").len(), this.names("corrupt").len()), (4, 0));
}

#[test]
fn s10_nothing_in_corrupt_is_overwritten() {
    let this = TestQueue::new();
    for _ in 0..3 {
        fs::write(this.file(ID), "not a queue file").unwrap();
        assert_eq!(this.queue.checkout(ID).unwrap_err().kind, ErrorKind::Corrupt);
    }
    let id = ID.to_string();
    assert_eq!(this.names("corrupt"), [id.clone(), format!("{id}.1"), format!("{id}.2")]);
}

#[test]
fn what_can_not_be_read_now_stays() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    let kept = this.directory.path().join("kept");
    fs::rename(this.file(ID), &kept).unwrap();
    // A link gives ELOOP and a directory EISDIR: errors of reading, also for root, whom no mode bits stop.
    symlink(&kept, this.file(ID)).unwrap();
    for _ in 0..2 {
        assert_eq!(this.queue.scan().unwrap().next().unwrap().unwrap_err().kind, ErrorKind::Foreign);
        assert_eq!(this.queue.checkout(ID).unwrap_err().kind, ErrorKind::Trouble);
        assert_eq!((this.names("queue").len(), this.names("corrupt").len()), (1, 0));
        let _ = fs::remove_file(this.file(ID));
        let _ = fs::create_dir(this.file(ID));
    }
    fs::remove_dir(this.file(ID)).unwrap();
    fs::rename(&kept, this.file(ID)).unwrap();
    assert!(this.queue.scan().unwrap().next().unwrap().is_ok());
}

#[test]
fn one_process_at_a_time_works_on_an_entry_and_its_threads_share_it() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    let entry = ready(&this.queue, ID);
    assert!(Arc::ptr_eq(&entry, &ready(&this.queue, ID)));
    let other = this.reopened();
    assert!(matches!(other.checkout(ID).unwrap(), Checkout::Busy));
    drop(entry);
    let entry = ready(&other, ID);
    assert!(matches!(this.queue.checkout(ID).unwrap(), Checkout::Busy));
    other.remove(&entry).unwrap();
    drop(entry);
    assert!(matches!(this.queue.checkout(ID).unwrap(), Checkout::Gone));
}

/// Each of them would else find the lock of the other's file.
#[test]
fn threads_that_want_an_entry_at_once_share_it() {
    let this = TestQueue::new();
    for _ in 0..200 {
        this.commit(ID, b"text\n");
        let entries: Vec<Arc<Entry>> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| this.queue.checkout(ID))).collect();
            let ready = |checkout| match checkout {
                Checkout::Ready(entry) => entry,
                other => panic!("{other:?}"),
            };
            all.into_iter().map(|thread| ready(thread.join().unwrap().unwrap())).collect()
        });
        assert!(entries.iter().all(|entry| Arc::ptr_eq(entry, &entries[0])));
        this.queue.remove(&entries[0]).unwrap();
    }
}

#[test]
fn a_program_of_its_own_sees_the_lock() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    let flock = || {
        let status = std::process::Command::new("flock").arg("-n").arg(this.file(ID)).arg("true").status();
        status.map(|status| status.success())
    };
    // util-linux may be missing; the test above checks the same with a second open file.
    if flock().is_ok() {
        let entry = ready(&this.queue, ID);
        assert!(!flock().unwrap());
        drop(entry);
        assert!(flock().unwrap());
    }
}

#[test]
fn an_id_that_is_taken_is_never_overwritten() {
    let this = TestQueue::new();
    this.commit(ID, b"first\n");
    let error = this.stage(ID, b"second\n").sync().unwrap().commit().unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(message(&ready(&this.queue, ID)), b"first\n");
    let _staged = this.stage(ID, b"third\n");
    let envelope = Envelope::new(ReversePath::Null);
    assert!(this.queue.stage(ID, &description(envelope)).is_err());
}

/// What could not be read again is not written.
#[test]
fn the_longest_envelope_is_taken_and_a_longer_one_is_not() {
    let this = TestQueue::new();
    let of = |octets: usize| {
        let origin = "x".repeat(octets);
        Description { origin, ..description(Envelope::new(ReversePath::Null)) }
    };
    let rest = format::ENVELOPE_MAX_OCTETS - of(0).print().len();
    assert!(this.queue.stage(ID, &of(rest)).is_ok());
    assert!(this.queue.stage(ID, &of(rest + 1)).is_err());
    assert_eq!(this.names("tmp"), [] as [&str; 0]);
}

#[test]
fn a_large_message_streams_through() {
    let this = TestQueue::new();
    let text: Vec<u8> =
        (0..300_000).map(|i| if i % 70 == 0 { b'\n' } else { b'a' + (i % 26) as u8 }).collect();
    let mut staged = this.stage(ID, b"");
    text.chunks(9_999).for_each(|piece| staged.write(piece).unwrap());
    let other = QueueId::new(5, 5);
    let mut copy = this.stage(other, b"Received: x\n");
    let (file, offset, octets) = staged.content_source().unwrap();
    assert_eq!(octets, 300_000);
    copy.append_from(file, offset, octets).unwrap();
    copy.sync().unwrap().commit().unwrap();
    staged.sync().unwrap().commit().unwrap();
    for (id, head) in [(ID, &b""[..]), (other, b"Received: x\n")] {
        let entry = ready(&this.queue, id);
        entry.verify().unwrap();
        let expected = [head, &text].concat();
        assert_eq!(entry.message_lines(), expected.iter().filter(|&&b| b == b'\n').count() as u64);
        assert!(message(&entry) == expected);
    }
}

#[test]
fn what_was_delivered_is_not_forgotten_when_the_disk_is_full() {
    let this = TestQueue::new();
    this.commit(ID, b"text\n");
    // A descriptor that cannot be written to stands for a full disk.
    let file = File::open(this.file(ID)).unwrap();
    let read_only = Arc::new(Entry::load(ID, this.file(ID), file, 1000, None).unwrap());
    this.queue.entries.lock().open.insert(ID, Arc::downgrade(&read_only));
    assert!(this.queue.record(&read_only, &[record(1, 1, deferred())], Durability::Lazy).is_err());
    assert!(this.queue.entries.lock().unwritten.is_empty());
    assert!(this.queue.record(&read_only, &[record(0, 1, delivered())], Durability::Synced).is_err());
    assert_eq!(read_only.content(0).rest(), None, "many entries may have to wait for room on the disk");
    assert_eq!(message(&read_only), b"text\n");
    drop(read_only);
    assert_eq!(states(&this.queue), [RecipientState::Delivered, RecipientState::Pending]);
    assert_eq!(states(&this.reopened()), [RecipientState::Pending, RecipientState::Pending]);
    this.queue.remove(&ready(&this.queue, ID)).unwrap();
    assert!(this.queue.entries.lock().unwritten.is_empty());
}

#[test]
fn a_state_directory_is_served_once() {
    let this = TestQueue::new();
    assert!(this.queue.lock_for_serving().unwrap());
    assert!(!this.reopened().lock_for_serving().unwrap());
    let directory = this.directory.path().to_owned();
    for (name, mode) in
        [("state", 0o711), ("state/queue", 0o700), ("state/tmp", 0o700), ("state/corrupt", 0o700)]
    {
        assert_eq!(fs::metadata(directory.join(name)).unwrap().mode() & 0o777, mode, "{name}");
    }
    assert!(Queue::open(&this.file(ID).join("below a missing file"), None).is_ok());
    fs::write(directory.join("file"), "").unwrap();
    assert!(Queue::open(&directory.join("file"), None).is_err());
}

#[test]
fn threads_commit_and_finish_at_once() {
    let this = TestQueue::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let this = &this;
            scope.spawn(move || {
                for i in 0..20 {
                    let id = QueueId::new(1_000 + i, thread);
                    this.commit(id, b"text\n");
                    let entry = ready(&this.queue, id);
                    let records = [record(0, 1, delivered()), record(1, 1, delivered())];
                    this.queue.record(&entry, &records, Durability::Lazy).unwrap();
                    if i % 2 == 0 {
                        this.queue.remove(&entry).unwrap();
                    }
                }
            });
        }
    });
    let found: Vec<_> = this.queue.scan().unwrap().map(Result::unwrap).collect();
    assert_eq!(found.len(), 80);
    assert!(found.iter().all(|s| s.progress.iter().all(Progress::is_finished)));
}

/// The operator removes an entry while a worker may look at it.
#[test]
fn what_is_removed_is_gone_although_somebody_holds_it() {
    let this = TestQueue::new();
    this.commit(ID, b"x");
    let Checkout::Ready(held) = this.queue.checkout(ID).unwrap() else { panic!("not there") };
    this.queue.remove(&held).unwrap();
    assert!(matches!(this.queue.checkout(ID).unwrap(), Checkout::Gone));
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored ten_thousand"]
fn ten_thousand_entries_are_scanned_within_a_second() {
    let this = TestQueue::new();
    this.commit(ID, &[b'x'; 1000]);
    for i in 0..10_000 {
        fs::copy(this.file(ID), this.file(QueueId::new(i, 0))).unwrap();
    }
    let begin = std::time::Instant::now();
    assert_eq!(this.queue.scan().unwrap().filter(Result::is_ok).count(), 10_001);
    let elapsed = begin.elapsed();
    assert!(elapsed.as_millis() < 1000, "{elapsed:?}");
    eprintln!("{elapsed:?}");
}

/// A file of 64 KiB at most is read once at the checkout.
#[test]
fn what_is_sent_of_a_small_message_is_what_was_checked() {
    let this = TestQueue::new();
    for (octets, is_kept) in [(0, true), (1000, true), (60_000, true), (100_000, false)] {
        let id = QueueId::new(1_795_416_810_000_000, octets);
        let whole: Vec<u8> = (0..octets).map(|i| b'a' + (i % 26) as u8).collect();
        this.commit(id, &whole);
        let entry = ready(&this.queue, id);
        assert_eq!(entry.content(0).rest(), is_kept.then_some(&*whole), "{octets}");
        assert_eq!(entry.content(octets).rest(), is_kept.then_some(&b""[..]), "{octets}");
        fs::write(this.file(id), "overwritten").unwrap();
        assert_eq!(entry.verify().is_ok(), is_kept, "{octets}");
        assert_eq!(message(&entry) == whole, is_kept, "{octets}");
    }
}

#[test]
fn a_removal_is_seen_by_all_who_hold_the_entry() {
    let this = TestQueue::new();
    this.commit(ID, b"Subject: x\n\n");
    let (one, other) = (ready(&this.queue, ID), ready(&this.queue, ID));
    assert!(!one.is_removed() && !other.is_removed());
    this.queue.remove(&one).unwrap();
    assert!(one.is_removed() && other.is_removed());
    // By the administrator, behind the back of this process.
    this.commit(ID, b"Subject: x\n\n");
    let entry = ready(&this.queue, ID);
    assert!(!entry.is_removed());
    fs::remove_file(this.file(ID)).unwrap();
    assert!(entry.is_removed());
}

/// The time of access would be one more block to write for each message.
#[test]
fn reading_writes_nothing() {
    let this = TestQueue::new();
    this.commit(ID, b"Subject: x\n\n");
    let accessed = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    let file = File::options().write(true).open(this.file(ID)).unwrap();
    file.set_times(fs::FileTimes::new().set_accessed(accessed)).unwrap();
    assert_eq!(states(&this.queue).len(), 2);
    ready(&this.queue, ID).verify().unwrap();
    assert_eq!(fs::metadata(this.file(ID)).unwrap().accessed().unwrap(), accessed);
}

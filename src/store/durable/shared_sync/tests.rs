//! The sync is a function of the test here: it counts, blocks, fails and panics as the test says.

use super::*;
use crate::store::durable::{DirectoryAccess, open_directory};
use crate::test_directory::TestDirectory;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

const KEY: Key = (1, 2);
/// Long enough for a thread to do what it must not do.
const A_MOMENT: Duration = Duration::from_millis(30);

/// How a sync ends.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Well,
    Fails,
    Panics,
}

/// Syncs that the test lets begin and end. `begun` gets the number of each.
struct Stage {
    syncs: Syncs,
    directory: Arc<OwnedFd>,
    count: AtomicUsize,
    begun: Lock<Sender<usize>>,
    ends: Lock<Receiver<Ends>>,
}

impl Stage {
    fn new() -> (Self, Receiver<usize>, Sender<Ends>) {
        let ((begun, sees), (tells, ends)) = (channel(), channel());
        let directory = Arc::new(open_directory(Path::new("/"), DirectoryAccess::Read).unwrap());
        let (syncs, count) = (Syncs::new(), AtomicUsize::new(0));
        let stage = Self { syncs, directory, count, begun: Lock::new(begun), ends: Lock::new(ends) };
        (stage, sees, tells)
    }

    fn enter(&self) -> Turn<'_> {
        self.syncs.enter_by_key(KEY, &self.directory)
    }

    fn sync(&self, turn: Turn<'_>) -> io::Result<()> {
        turn.sync(&|_| {
            let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
            self.begun.lock().send(number).unwrap();
            match self.ends.lock().recv().unwrap() {
                Ends::Well => Ok(()),
                Ends::Fails => Err(Errno::NOSPC.into()),
                Ends::Panics => panic!("on purpose"),
            }
        })
    }

    /// How many threads wait for a sync or run one.
    fn crowd(&self) -> usize {
        let in_sync = |state: &State| state.waiting + usize::from(state.begun != state.ended);
        self.syncs.0.lock().iter().map(|place| in_sync(&place.state.lock())).sum()
    }

    /// Threads that change a name and sync it, once all of them wait or run a sync.
    fn start<'a>(
        &'a self,
        scope: &'a thread::Scope<'a, '_>,
        threads: usize,
    ) -> Vec<ScopedJoinHandle<'a, io::Result<()>>> {
        let there = self.crowd() + threads;
        let start = |_| scope.spawn(|| self.sync(self.enter()));
        let started = (0..threads).map(start).collect();
        while self.crowd() < there {
            thread::yield_now();
        }
        started
    }
}

fn errors(threads: Vec<ScopedJoinHandle<'_, io::Result<()>>>) -> Vec<Option<Errno>> {
    let ended = threads.into_iter().map(|thread| thread.join().unwrap());
    ended.map(|result| result.err().and_then(|error| Errno::from_io_error(&error))).collect()
}

#[test]
fn who_comes_during_a_sync_waits_for_the_next_one_and_all_share_that() {
    let (stage, sees, tells) = Stage::new();
    thread::scope(|scope| {
        let first = stage.start(scope, 1);
        assert_eq!(sees.recv().unwrap(), 1);
        let later = stage.start(scope, 300);
        assert!(sees.try_recv().is_err(), "two syncs of one directory at once");
        tells.send(Ends::Well).unwrap();
        assert_eq!(errors(first), [None]);
        assert_eq!(sees.recv().unwrap(), 2);
        thread::sleep(A_MOMENT);
        assert!(
            later.iter().all(|thread| !thread.is_finished()),
            "the first sync had begun before the change"
        );
        // Who comes now gets a third.
        let last = stage.start(scope, 2);
        (0..later.len()).for_each(|_| tells.send(Ends::Well).unwrap());
        assert_eq!(errors(later), vec![None; 300]);
        assert_eq!(errors(last), [None; 2]);
    });
    assert_eq!(stage.count.into_inner(), 3);
    assert!(stage.syncs.0.lock().is_empty());
}

#[test]
fn one_thread_alone_syncs_at_once_and_once() {
    let (stage, sees, tells) = Stage::new();
    for number in 1..4 {
        tells.send(Ends::Well).unwrap();
        stage.sync(stage.enter()).unwrap();
        assert_eq!(sees.try_recv(), Ok(number));
        assert!(stage.syncs.0.lock().is_empty(), "what nobody uses is forgotten");
    }
}

#[test]
fn a_sync_waits_for_the_files_that_were_being_synced_when_it_was_asked_for_and_for_no_others() {
    let (stage, sees, tells) = Stage::new();
    thread::scope(|scope| {
        let turns = [stage.enter(), stage.enter()];
        let files = turns.each_ref().map(Turn::approach);
        let first = stage.start(scope, 1);
        assert!(sees.try_recv().is_err(), "both files are about to get their names");
        // This one is too late to be waited for.
        let late_turn = stage.enter();
        let late = late_turn.approach();
        let [one, other] = files;
        drop(one);
        thread::sleep(A_MOMENT);
        assert!(sees.try_recv().is_err(), "one file is about to get its name");
        drop(other);
        assert_eq!(sees.recv().unwrap(), 1);
        // While a sync runs, the next one may be asked for. It waits for the late file, too.
        let second = stage.start(scope, 1);
        tells.send(Ends::Well).unwrap();
        assert_eq!(errors(first), [None]);
        thread::sleep(A_MOMENT);
        assert!(sees.try_recv().is_err());
        drop(late);
        assert_eq!(sees.recv().unwrap(), 2);
        tells.send(Ends::Well).unwrap();
        assert_eq!(errors(second), [None]);
    });
    assert!(stage.syncs.0.lock().is_empty());
}

#[test]
fn a_failure_leaves_the_count_of_files_right() {
    let (stage, sees, tells) = Stage::new();
    thread::scope(|scope| {
        let first = stage.start(scope, 1);
        assert_eq!(sees.recv().unwrap(), 1);
        let turn = stage.enter();
        let file = turn.approach();
        let waits = stage.start(scope, 1);
        tells.send(Ends::Fails).unwrap();
        assert_eq!([errors(first), errors(waits)].concat(), [Some(Errno::NOSPC); 2]);
        let newcomer = stage.start(scope, 1);
        assert!(sees.try_recv().is_err(), "the file is still being synced");
        let more = turn.approach();
        drop(file);
        assert_eq!(sees.recv().unwrap(), 2);
        tells.send(Ends::Well).unwrap();
        assert_eq!(errors(newcomer), [None]);
        drop(more);
    });
    tells.send(Ends::Well).unwrap();
    stage.sync(stage.enter()).unwrap();
}

#[test]
fn a_failure_fails_all_who_had_changed_something_and_nobody_of_them_syncs_again() {
    for (end, error) in [(Ends::Fails, Errno::NOSPC), (Ends::Panics, Errno::IO)] {
        let (stage, sees, tells) = Stage::new();
        thread::scope(|scope| {
            let leader = scope.spawn(|| catch_unwind(AssertUnwindSafe(|| stage.sync(stage.enter()))));
            assert_eq!(sees.recv().unwrap(), 1);
            let others = stage.start(scope, 100);
            // This one has changed a name and does not wait yet.
            let slow = stage.enter();
            tells.send(end).unwrap();
            assert_eq!(errors(others), vec![Some(error); 100]);
            assert_eq!(leader.join().unwrap().is_err(), matches!(end, Ends::Panics));
            let newcomer = stage.enter();
            assert_eq!(Errno::from_io_error(&stage.sync(slow).unwrap_err()), Some(error));
            assert!(sees.try_recv().is_err(), "a failed sync was tried again");
            // A change that was made after the failure is another matter.
            tells.send(Ends::Well).unwrap();
            stage.sync(newcomer).unwrap();
            assert_eq!(sees.recv().unwrap(), 2);
        });
        assert!(stage.syncs.0.lock().is_empty(), "{end:?}");
    }
}

#[test]
fn a_failure_before_a_change_does_not_count() {
    let (stage, sees, tells) = Stage::new();
    let keeps_it_known = stage.enter();
    tells.send(Ends::Fails).unwrap();
    assert!(stage.sync(stage.enter()).is_err());
    tells.send(Ends::Well).unwrap();
    stage.sync(stage.enter()).unwrap();
    assert_eq!(sees.iter().take(2).collect::<Vec<_>>(), [1, 2]);
    assert!(stage.sync(keeps_it_known).is_err());
}

#[test]
fn directories_do_not_wait_for_each_other() {
    let (stage, sees, tells) = Stage::new();
    thread::scope(|scope| {
        let one = stage.start(scope, 1);
        sees.recv().unwrap();
        let count = AtomicUsize::new(0);
        let other = stage.syncs.enter_by_key((KEY.0 + 1, KEY.1), &stage.directory);
        let counted = |_: BorrowedFd<'_>| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        other.sync(&counted).unwrap();
        assert_eq!(count.into_inner(), 1);
        tells.send(Ends::Well).unwrap();
        assert_eq!(errors(one), [None]);
    });
}

#[test]
fn two_descriptors_of_one_directory_are_one_and_the_older_is_synced() {
    let (one, other) = (TestDirectory::new(), TestDirectory::new());
    let open = |of: &TestDirectory| Arc::new(open_directory(of.path(), DirectoryAccess::Read).unwrap());
    let syncs = Syncs::new();
    let descriptors = [open(&one), open(&one), open(&other)];
    let turns = descriptors.each_ref().map(|descriptor| syncs.enter(descriptor).unwrap());
    assert_eq!(syncs.0.lock().len(), 2);
    let [first, second, third] = turns;
    let is = |used: BorrowedFd<'_>, wanted: &Arc<OwnedFd>| {
        use std::os::fd::AsRawFd;
        assert_eq!(used.as_raw_fd(), wanted.as_raw_fd());
        Ok(())
    };
    second.sync(&|used| is(used, &descriptors[0])).unwrap();
    third.sync(&|used| is(used, &descriptors[2])).unwrap();
    first.sync(&|used| is(used, &descriptors[0])).unwrap();
    assert!(syncs.0.lock().is_empty());
}

/// A disk that knows which changes a sync has found when it began.
#[derive(Debug, Default)]
struct Disk {
    changed: Lock<HashSet<usize>>,
    durable: Lock<HashSet<usize>>,
    syncs: AtomicUsize,
    running: AtomicUsize,
}

impl Disk {
    /// Fails and panics now and then. A failed sync loses all that was changed until its end.
    fn sync(&self) -> io::Result<()> {
        assert_eq!(self.running.fetch_add(1, Ordering::SeqCst), 0, "two syncs at once");
        let found = self.changed.lock().clone();
        thread::sleep(Duration::from_micros(200));
        let number = self.syncs.fetch_add(1, Ordering::SeqCst);
        let fails = number % 7 == 3;
        if fails {
            self.changed.lock().clear();
        } else {
            self.durable.lock().extend(found);
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        assert!(!fails || number.is_multiple_of(2), "on purpose");
        if fails { Err(Errno::IO.into()) } else { Ok(()) }
    }
}

#[test]
fn hundreds_of_threads_are_told_the_truth_in_few_syncs() {
    const THREADS: usize = 200;
    const EACH: usize = 20;
    let (syncs, disk) = (Syncs::new(), Disk::default());
    let directory = Arc::new(open_directory(Path::new("/"), DirectoryAccess::Read).unwrap());
    let work = &|thread: usize| {
        let mut done = 0;
        for turn in 0..EACH {
            let change = thread * EACH + turn;
            let entered = syncs.enter_by_key(KEY, &directory);
            let file = entered.approach();
            thread::sleep(Duration::from_micros(change as u64 % 300));
            drop(file);
            disk.changed.lock().insert(change);
            let result = catch_unwind(AssertUnwindSafe(|| entered.sync(&|_| disk.sync())));
            if matches!(result, Ok(Ok(()))) {
                assert!(disk.durable.lock().contains(&change), "told to be durable, and is not");
                done += 1;
            }
        }
        done
    };
    let done: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let count = disk.syncs.into_inner();
    assert!(count < THREADS * EACH / 4, "{count} syncs");
    assert!(done > THREADS * EACH / 4 && done < THREADS * EACH, "{done} of the changes are durable");
    assert!(syncs.0.lock().is_empty());
}

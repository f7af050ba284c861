//! Daemon and agent in one process, with errands that a test holds up.

use super::link::Link;
use super::pool::{Hand, PER_USER_MAX, Pool, WORKERS_MAX};
use super::*;
use crate::test_directory::TestDirectory;
use rustix::io::Errno;
use std::collections::HashSet;
use std::sync::{Condvar, Mutex};

/// Users whose errands do not end until a test lets them.
#[derive(Default)]
struct Gate {
    held: Mutex<HashSet<String>>,
    opened: Condvar,
    begun: Mutex<Vec<String>>,
}

impl Gate {
    fn hold(&self, user: &str) {
        self.held.lock().unwrap().insert(user.to_owned());
    }

    fn open(&self, user: &str) {
        self.held.lock().unwrap().remove(user);
        self.opened.notify_all();
    }

    fn begun(&self, user: &str) -> usize {
        self.begun.lock().unwrap().iter().filter(|it| *it == user).count()
    }

    /// An errand: waits while its user is held; the answer is the length of its first word.
    fn pass(&self, user: &str, words: &[&str]) -> io::Result<u64> {
        self.begun.lock().unwrap().push(user.to_owned());
        let held = self.held.lock().unwrap();
        drop(self.opened.wait_while(held, |held| held.contains(user)).unwrap());
        match words {
            ["panic"] => panic!("on purpose"),
            ["fail"] => Err(Errno::NOSPC.into()),
            [word, ..] => Ok(word.len() as u64),
            [] => Err(Errno::INVAL.into()),
        }
    }
}

const LONG: Duration = Duration::from_secs(60);

/// An agent whose users are overdue after this time.
fn agent(overdue: Duration) -> (Arc<Link>, Arc<Pool>, Arc<Gate>) {
    let (here, there) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let gate = Arc::new(Gate::default());
    let of_pool = Arc::clone(&gate);
    let make_hand: MakeHand = Box::new(move || -> Hand {
        let gate = Arc::clone(&of_pool);
        Box::new(move |user, words, _| gate.pass(user, words))
    });
    // The thread says who it is.
    let of_pool = Arc::clone(&gate);
    let reload = Box::new(move || {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        of_pool.begun.lock().unwrap().push(thread);
        if of_pool.held.lock().unwrap().contains("reload") { Err(Errno::INVAL.into()) } else { Ok(0) }
    });
    let pool = Pool::new(there, make_hand, reload);
    let runs = Arc::clone(&pool);
    std::thread::Builder::new().name("receiver".into()).spawn(move || runs.run()).unwrap();
    (Arc::new(Link::new(here, overdue)), pool, gate)
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not in a minute: {what}");
}

#[test]
fn each_asker_gets_its_own_answer() {
    let (link, pool, _) = agent(LONG);
    std::thread::scope(|scope| {
        for asker in 0..16_usize {
            let link = &link;
            scope.spawn(move || {
                // Two askers share a user.
                let user = format!("u{}", asker / 2);
                for _ in 0..50 {
                    let word = "x".repeat(asker + 1);
                    assert_eq!(link.ask(&user, &[&word], None, LONG).unwrap(), asker as u64 + 1);
                }
                let error = link.ask(&user, &["fail"], None, LONG).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
            });
        }
    });
    assert!(pool.workers() <= 16, "{}", pool.workers());
    let error = link.ask("u", &["panic"], None, LONG).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    assert_eq!(link.ask("u", &["1"], None, LONG).unwrap(), 1, "the worker goes on");
    assert!(link.ask("u", &["a\0b"], None, LONG).is_err());
    assert!(link.ask("u", &["x".repeat(3000).as_str()], None, LONG).is_err());
    assert_eq!(link.ask("u", &["12"], None, LONG).unwrap(), 2);
    link.close();
}

#[test]
fn a_mailbox_that_hangs_costs_others_nothing_and_its_own_user_no_wait() {
    let (link, _, gate) = agent(Duration::from_millis(200));
    gate.hold("hangs");
    std::thread::scope(|scope| {
        let ask = || link.ask("hangs", &["first"], None, LONG);
        let first: Vec<_> = (0..PER_USER_MAX).map(|_| scope.spawn(ask)).collect();
        wait_until("the errands have begun", || gate.begun("hangs") == PER_USER_MAX);
        // Waits for a place, and is given up when the first errand is overdue.
        let second = scope.spawn(|| link.ask("hangs", &["second"], None, LONG));
        for _ in 0..100 {
            assert_eq!(link.ask("other", &["word"], None, LONG).unwrap(), 4);
        }
        assert_eq!(second.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        wait_until("all are overdue", || {
            std::thread::sleep(Duration::from_millis(200));
            link.overdue() == 1
        });
        for _ in 0..100 {
            let error = link.ask("hangs", &["later"], None, LONG).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert!(first.iter().all(|first| !first.is_finished()), "all of this happened while they waited");
        assert_eq!(gate.begun("hangs"), PER_USER_MAX, "the agent was not asked");
        gate.open("hangs");
        first.into_iter().for_each(|first| assert_eq!(first.join().unwrap().unwrap(), 5));
    });
    assert_eq!((link.ask("hangs", &["again"], None, LONG).unwrap(), link.overdue()), (5, 0));
    link.close();
}

#[test]
fn the_answer_that_nobody_waits_for_frees_the_place() {
    let (link, _, gate) = agent(LONG);
    gate.hold("slow");
    for _ in 0..PER_USER_MAX {
        let error = link.ask("slow", &["word"], None, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
    wait_until("the errands have begun", || gate.begun("slow") == PER_USER_MAX);
    std::thread::scope(|scope| {
        let next: Vec<_> =
            (0..20).map(|_| scope.spawn(|| link.ask("slow", &["next one"], None, LONG))).collect();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(gate.begun("slow"), PER_USER_MAX, "the others wait for a place");
        gate.open("slow");
        next.into_iter().for_each(|next| assert_eq!(next.join().unwrap().unwrap(), 8));
    });
    link.close();
}

#[test]
fn workers_have_a_limit_that_hanging_users_cannot_raise() {
    let (link, pool, gate) = agent(LONG);
    let users: Vec<String> = (0..=WORKERS_MAX).map(|user| format!("u{user}")).collect();
    users.iter().for_each(|user| gate.hold(user));
    std::thread::scope(|scope| {
        for user in &users[..WORKERS_MAX] {
            scope.spawn(|| link.ask(user, &["word"], None, LONG));
        }
        wait_until("all workers are busy", || users[..WORKERS_MAX].iter().all(|user| gate.begun(user) == 1));
        let error = link.ask(&users[WORKERS_MAX], &["word"], None, LONG).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
        assert_eq!(pool.workers(), WORKERS_MAX);
        users.iter().for_each(|user| gate.open(user));
    });
    link.close();
}

#[test]
fn a_user_gets_one_place_only_while_half_of_the_workers_are_busy() {
    let (link, pool, gate) = agent(LONG);
    let users: Vec<String> = (0..WORKERS_MAX / 2 - 1).map(|user| format!("u{user}")).collect();
    users.iter().for_each(|user| gate.hold(user));
    gate.hold("v");
    std::thread::scope(|scope| {
        for user in &users {
            scope.spawn(|| link.ask(user, &["word"], None, LONG));
        }
        wait_until("they have begun", || users.iter().all(|user| gate.begun(user) == 1));
        // The first of them makes the half full.
        let many: Vec<_> =
            (0..3).map(|_| scope.spawn(|| link.ask("v", &["word"], None, LONG).unwrap())).collect();
        wait_until("one has begun", || gate.begun("v") == 1);
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!((gate.begun("v"), pool.workers()), (1, WORKERS_MAX / 2));
        gate.open("v");
        many.into_iter().for_each(|asker| assert_eq!(asker.join().unwrap(), 4));
        users.iter().for_each(|user| gate.open(user));
    });
    link.close();
}

#[test]
fn all_askers_learn_that_the_agent_has_ended() {
    let (link, _, gate) = agent(LONG);
    gate.hold("u");
    let (told, end) = std::sync::mpsc::channel();
    link.listen(Box::new(move || told.send(()).unwrap())).unwrap();
    std::thread::scope(|scope| {
        let ask = || link.ask("u", &["word"], None, LONG);
        // One of them waits for a place.
        let askers: Vec<_> = (0..=PER_USER_MAX).map(|_| scope.spawn(ask)).collect();
        wait_until("the errands have begun", || gate.begun("u") == PER_USER_MAX);
        link.close();
        askers.into_iter().for_each(|asker| assert!(asker.join().unwrap().is_err()));
    });
    end.recv().unwrap();
    assert!(link.has_ended() && link.ask("v", &["word"], None, LONG).is_err());
    gate.open("u");
}

/// A worker has the ids of the user it served last, and a small stack.
#[test]
fn a_reload_runs_in_the_receiving_thread_and_its_failure_is_told() {
    let (link, pool, gate) = agent(LONG);
    assert_eq!(link.ask("u", &["word"], None, LONG).unwrap(), 4);
    assert_eq!(link.ask("", &["", RELOAD], None, LONG).unwrap(), 0);
    assert_eq!((gate.begun("receiver"), gate.begun(""), pool.workers()), (1, 0, 1));
    gate.hold("reload");
    let error = link.ask("", &["", RELOAD], None, LONG).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    link.close();
}

/// The file of the configuration may belong to the user of the daemon.
#[test]
fn a_reload_reads_a_file_of_another_user_and_keeps_the_old_template_if_it_fails() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = TestDirectory::new();
    let file = directory.join("pillarbox.toml");
    let mut settings = Settings::default();
    settings.local.users = LocalUsers::System;
    let mailboxes = Arc::new(Mailboxes::new(file.clone(), &settings));
    let refused = |mailboxes: &Arc<Mailboxes>| {
        let error =
            Steps::new(Arc::clone(mailboxes)).go("no-such-user-here", &["d", "measure"], None).unwrap_err();
        error.raw_os_error().map(Errno::from_raw_os_error)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rights::keep_for_delivery().unwrap();
            assert!(mailboxes.reload().is_err(), "it is missing");
            assert_eq!(refused(&mailboxes), Some(Errno::NOENT), "the old template stays");
        });
    });
    directory.secret("pillarbox.toml", "local.users = [\"alice\"]\nlocal.maildir = \"/var/mail/{user}\"\n");
    std::os::unix::fs::chown(&file, Some(4711), Some(4711)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rights::keep_for_delivery().unwrap();
            assert!(std::fs::read(&file).is_err(), "root without its rights over files");
            mailboxes.reload().unwrap();
            assert!(std::fs::read(&file).is_err(), "the right was for the reload");
            assert_eq!(refused(&mailboxes), Some(Errno::PERM), "no mail for system users any more");
        });
    });
}

/// The mailbox of a real user, served as the agent does it, but in a thread of this process.
#[test]
fn a_request_is_judged_by_the_user_and_by_the_names_in_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = TestDirectory::new();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&directory, permissions).unwrap();
    let steps = |template: &str| {
        let mut settings = Settings::default();
        settings.local.users = LocalUsers::System;
        settings.local.maildir = crate::mail::maildir_template::MaildirTemplate::parse(template).unwrap();
        Steps::new(Arc::new(Mailboxes::new("/nonexistent".into(), &settings)))
    };
    let message = File::open("/dev/null").unwrap();
    let file = File::open(directory.file("message", "Subject: x\n\nx\n")).unwrap();
    let template = format!("{}/mail/{{user}}", directory.display());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rights::keep_for_delivery().unwrap();
            let mut homes = steps("{home}/Maildir");
            for user in ["root", "daemon", "nobody"] {
                for errand in [["d", "measure"].as_slice(), &["d", "store", "1.M2P3Q4.host"]] {
                    let error = homes.go(user, errand, Some(&file)).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()), "{user} {errand:?}");
                }
            }
            let mut place = steps(&template);
            let mut said = |words: &[&str], sent| {
                place.go("daemon", words, sent).map_err(|error| error.raw_os_error().unwrap_or(0))
            };
            let invalid = Err(Errno::INVAL.raw_os_error());
            for words in [
                ["d", "store", "../x"].as_slice(),
                &["d", "store", "dovecot.index"],
                &["d", "discard", "../../x"],
                &["d", "read", "1.M2P3Q4.host"],
                &["d"],
                &[],
            ] {
                assert_eq!(said(words, Some(&file)), invalid, "{words:?}");
            }
            assert_eq!(said(&["d", "store", "1.M2P3Q4.host"], Some(&message)), invalid, "a device");
            assert_eq!(said(&["d", "store", "1.M2P3Q4.host"], None), invalid, "no message");
            assert_eq!(said(&["d", "store", "1.M2P3Q5.host"], Some(&file)), Ok(0));
            for to in ["1.M2P3Q5.host", "1.M2P3Q5.host,S=0", "x", "../cur/1.M2P3Q5.host,S=14"] {
                assert_eq!(said(&["d", "commit", "1.M2P3Q5.host", to], None), invalid, "{to}");
            }
            assert_eq!(said(&["d", "commit", "1.M2P3Q5.host", "1.M2P3Q5.host,S=14"], None), Ok(0));
            assert_eq!(said(&["d", "measure"], None), Ok(14));
            assert!(said(&["..", "measure"], None).is_ok(), "the domain is in no path here");
            let nobody = place.go("no-such-user-here", &["d", "measure"], None).unwrap_err();
            assert_eq!(nobody.raw_os_error(), Some(Errno::NOENT.raw_os_error()));
        });
    });
    let delivered = directory.join("mail/daemon/new/1.M2P3Q5.host,S=14");
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(delivered).unwrap());
    assert_eq!(uid, user::find("daemon").unwrap().unwrap().uid);
}

/// The first messages for a user may all come at once.
#[test]
fn several_workers_of_one_user_find_no_mailbox_and_one_makes_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = TestDirectory::new();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&directory, permissions).unwrap();
    directory.file("message", "Subject: x\n\nx\n");
    for round in 0..20 {
        let mut settings = Settings::default();
        settings.local.users = LocalUsers::System;
        let template = format!("{}/mail{round}/{{user}}", directory.display());
        settings.local.maildir = crate::mail::maildir_template::MaildirTemplate::parse(&template).unwrap();
        let mailboxes = Arc::new(Mailboxes::new("/nonexistent".into(), &settings));
        let barrier = std::sync::Barrier::new(PER_USER_MAX);
        let deliver = &|worker: usize| {
            rights::keep_for_delivery().unwrap();
            let mut steps = Steps::new(Arc::clone(&mailboxes));
            let file = File::open(directory.join("message")).unwrap();
            let name = format!("1.M2P3Q{worker}.host");
            barrier.wait();
            // Not all at the same step of the one that makes it.
            std::thread::sleep(Duration::from_micros(200 * worker as u64));
            steps.go("daemon", &["d", "store", &name], Some(&file))?;
            steps.go("daemon", &["d", "commit", &name, &format!("{name},S=14")], None)
        };
        let done = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..PER_USER_MAX).map(|worker| scope.spawn(move || deliver(worker))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        let new = directory.join(format!("mail{round}/daemon/new"));
        assert_eq!(std::fs::read_dir(new).unwrap().count(), PER_USER_MAX);
    }
}

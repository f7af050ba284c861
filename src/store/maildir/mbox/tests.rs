use super::super::*;
use super::LOCK_MAX_AGE_SECONDS;
use crate::test_directory::TestDirectory;
use rustix::fs::Mode;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const NOW: WallTime = WallTime(1_795_416_810_000_042);
const FROM: &str = "From a@b.example Mon Nov 23 06:53:30 2026\n";
const FIELDS: &str = "Return-Path: <a@b.example>\nDelivered-To: u@d\n";

fn place(directory: &TestDirectory) -> MaildirPath {
    let template = format!("{}/{{user}}", directory.path().display());
    MaildirPath::expand(&template, "u", "d", None, None).unwrap()
}

fn file(directory: &TestDirectory) -> PathBuf {
    directory.path().join("u")
}

fn maildirs() -> Maildirs {
    Maildirs::new("host").impatient()
}

fn stage(maildirs: &Maildirs, path: &MaildirPath, text: &[u8]) -> Result<SyncedFile, StoreError> {
    let mut delivery = maildirs.stage(path, NOW)?;
    let mailbox = |text| Mailbox::parse(text).unwrap();
    delivery.begin(&ReversePath::Mailbox(mailbox("a@b.example")), &mailbox("u@d"))?;
    delivery.write(text)?;
    delivery.sync()
}

fn deliver(maildirs: &Maildirs, path: &MaildirPath, text: &[u8]) -> Result<PathBuf, StoreError> {
    stage(maildirs, path, text)?.commit()
}

fn names(directory: &TestDirectory) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_message_is_appended_whole_and_after_an_empty_line() {
    for (before, gap) in [
        ("", ""),
        ("\n", ""),
        ("x", "\n\n"),
        ("x\n", "\n"),
        ("From x\n\ny\n\n", ""),
        ("\n\n", ""),
        ("x\n\ny", "\n\n"),
    ] {
        let directory = TestDirectory::new();
        fs::write(file(&directory), before).unwrap();
        let text = b"Subject: x\n\nFrom here\n>From there";
        assert_eq!(deliver(&maildirs(), &place(&directory), text).unwrap(), file(&directory));
        let one = format!("{FROM}{FIELDS}Subject: x\n\n>From here\n>>From there\n\n");
        let expected = format!("{before}{gap}{one}");
        assert_eq!(fs::read_to_string(file(&directory)).unwrap(), expected, "{before:?}");
        deliver(&maildirs(), &place(&directory), text).unwrap();
        assert_eq!(fs::read_to_string(file(&directory)).unwrap(), expected + &one);
        assert_eq!(names(&directory), ["u"]);
    }
}

#[test]
fn nothing_is_written_before_the_commit() {
    let directory = TestDirectory::new();
    fs::write(file(&directory), "").unwrap();
    let synced = stage(&maildirs(), &place(&directory), b"x").unwrap();
    assert!(synced.appends());
    drop(synced);
    assert_eq!((fs::read(file(&directory)).unwrap(), names(&directory)), (vec![], vec!["u".to_owned()]));
    // It has become a Maildir, or is gone: a message is not lost, as with any other error.
    let synced = stage(&maildirs(), &place(&directory), b"x").unwrap();
    fs::remove_file(file(&directory)).unwrap();
    assert!(synced.commit().is_err());
    assert!(names(&directory).is_empty());
}

#[test]
fn a_large_message_is_copied_in_pieces_and_from_it_others() {
    let directory = TestDirectory::new();
    fs::write(file(&directory), "").unwrap();
    let text: String = (0..40_000).map(|i| format!("From {i}\n")).collect();
    let maildirs = maildirs();
    let mut delivery = maildirs.stage(&place(&directory), NOW).unwrap();
    for piece in text.as_bytes().chunks(1000) {
        delivery.write(piece).unwrap();
    }
    let mut other = maildirs.stage(&place(&directory), NOW).unwrap();
    other.append_from(delivery.content_source().unwrap(), 0, text.len() as u64).unwrap();
    delivery.sync().unwrap().commit().unwrap();
    other.sync().unwrap().commit().unwrap();
    let written = fs::read_to_string(file(&directory)).unwrap();
    let one = format!("From MAILER-DAEMON Mon Nov 23 06:53:30 2026\n{}\n", text.replace("From", ">From"));
    assert!(written == one.repeat(2));
}

#[test]
fn appends_of_many_threads_do_not_mix() {
    let directory = TestDirectory::new();
    fs::write(file(&directory), "").unwrap();
    let (path, maildirs) = (place(&directory), Maildirs::new("host"));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (path, maildirs) = (&path, &maildirs);
            scope.spawn(move || {
                for i in 0..10 {
                    deliver(maildirs, path, format!("\n{thread}.{i}\n").repeat(500).as_bytes()).unwrap();
                }
            });
        }
    });
    let written = fs::read_to_string(file(&directory)).unwrap();
    let mut messages: Vec<&str> = written.split(FROM).skip(1).collect();
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len(), 80);
    for message in messages {
        let text = message.strip_prefix(FIELDS).unwrap();
        assert_eq!(
            text,
            format!("{}\n", text.get(..5).unwrap()).repeat(500).replace("\n\n\n", "\n\n"),
            "{message:.60}"
        );
    }
}

/// Another process that holds the fcntl lock until its standard input ends.
fn holder(file: &Path) -> Child {
    let script = "import fcntl,sys\nf=open(sys.argv[1],'r+')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint(flush=True)\nsys.stdin.read()";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(file);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    child
}

#[test]
fn locks_of_others_are_kept() {
    let directory = TestDirectory::new();
    fs::write(file(&directory), "").unwrap();
    let lock = directory.path().join("u.lock");
    let is_locked = || {
        let synced = stage(&maildirs(), &place(&directory), b"x").unwrap();
        let before = fs::metadata(file(&directory)).unwrap().len();
        let error = synced.commit().err().map(|error| error.to_string());
        let after = fs::metadata(file(&directory)).unwrap().len();
        assert_eq!(error.is_some(), before == after);
        assert!(error.is_none_or(|error| error.ends_with("/u: another program has locked the mbox")));
        before == after
    };
    let mut child = holder(&file(&directory));
    assert!(is_locked());
    assert!(!lock.exists());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(!is_locked());
    // The number of a live process, and of a dead one: 2^22 is above any process number.
    for (text, is_held) in
        [("1\n", true), ("4194305\n", false), ("", true), ("0", true), (&*"x".repeat(300), true)]
    {
        fs::write(&lock, text).unwrap();
        let set = |seconds: u64| {
            let time = std::time::UNIX_EPOCH + Duration::from_secs(NOW.seconds() - seconds);
            fs::File::options().write(true).open(&lock).unwrap().set_modified(time).unwrap();
        };
        set(LOCK_MAX_AGE_SECONDS - 10);
        assert_eq!(is_locked(), is_held, "{text:.10}");
        assert_eq!(lock.exists(), is_held);
        if is_held && text.len() < 300 {
            set(if text == "1\n" { 3700 } else { LOCK_MAX_AGE_SECONDS + 10 });
            assert!(!is_locked(), "{text:.10} is old");
            assert!(!lock.exists());
        }
    }
    assert!(lock.exists(), "what is too large for a lock is somebody's file");
    fs::remove_file(&lock).unwrap();
    symlink("/nowhere", &lock).unwrap();
    assert!(is_locked());
    fs::remove_file(&lock).unwrap();
    // A user of that name who has a Maildir.
    fs::create_dir(&lock).unwrap();
    assert!(!is_locked());
    assert!(lock.exists());
}

#[test]
fn a_lock_is_waited_for() {
    let directory = TestDirectory::new();
    fs::write(file(&directory), "").unwrap();
    let lock = directory.path().join("u.lock");
    fs::write(&lock, "1").unwrap();
    let synced = stage(&Maildirs::new("host"), &place(&directory), b"x").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LOCK_PAUSE);
            fs::remove_file(&lock).unwrap();
        });
        synced.commit().unwrap();
    });
    assert_eq!(names(&directory), ["u"]);
}

#[test]
fn what_is_no_mbox_of_the_user_is_refused() {
    type Make = fn(&Path, &Path);
    let cases: [(Make, &str); 6] = [
        (|_, file| symlink("other", file).unwrap(), "a link or a file in place of a directory"),
        (|_, file| symlink("/nowhere", file).unwrap(), "a link or a file in place of a directory"),
        (
            |_, file| {
                rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap()
            },
            "a link or a file in place of a directory",
        ),
        (
            |_, file| drop(std::os::unix::net::UnixListener::bind(file).unwrap()),
            "a link or a file in place of a directory",
        ),
        (|other, file| fs::hard_link(other, file).unwrap(), "the mbox has a second name (a hard link)"),
        (
            |_, file| {
                fs::write(file, "").unwrap();
                if rustix::process::geteuid().is_root() {
                    std::os::unix::fs::chown(file, Some(12345), None).unwrap();
                }
            },
            "the mbox belongs to another user",
        ),
    ];
    for (make, reason) in cases {
        let directory = TestDirectory::new();
        let other = directory.path().join("other");
        fs::write(&other, "precious").unwrap();
        make(&other, &file(&directory));
        if reason.ends_with("another user") && !rustix::process::geteuid().is_root() {
            continue;
        }
        let error = maildirs().stage(&place(&directory), NOW).unwrap_err();
        assert!(error.to_string().ends_with(reason), "{error}");
        assert_eq!(fs::read(&other).unwrap(), b"precious");
    }
}

/// Root may do everything; what it does for a user, the user must be allowed to do.
#[test]
fn the_rights_of_the_user_count_and_not_those_of_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let owner = Some(Owner { uid: 12345, gid: 23456 });
    let maildirs = maildirs().with_rights(MaildirRights::GiveAway);
    for (uid, mode, is_good) in [
        (12345, 0o600, true),
        (12345, 0o660, true),
        (12345, 0o400, false),
        (12345, 0o060, false),
        (0, 0o666, false),
    ] {
        let directory = TestDirectory::new();
        let path = MaildirPath { owner, ..place(&directory) };
        fs::write(file(&directory), "").unwrap();
        std::os::unix::fs::chown(file(&directory), Some(uid), Some(8)).unwrap();
        fs::set_permissions(file(&directory), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(deliver(&maildirs, &path, b"x").is_ok(), is_good, "{uid} {mode:o}");
        let metadata = fs::metadata(file(&directory)).unwrap();
        let kept = (std::os::unix::fs::MetadataExt::uid(&metadata), metadata.permissions().mode() & 0o777);
        assert_eq!((metadata.len() > 0, kept), (is_good, (uid, mode)));
    }
}

#[test]
fn an_mbox_counts_for_the_quota_by_its_size() {
    let directory = TestDirectory::new();
    fs::write(file(&directory), "1234567890").unwrap();
    let (maildirs, path) = (maildirs(), place(&directory));
    assert_eq!(maildirs.room(&path).unwrap(), u64::MAX);
    let path = path.with_quota(200);
    assert_eq!((maildirs.room(&path).unwrap(), maildirs.sweep(&path, NOW).unwrap()), (190, 0));
    assert_eq!(stage(&maildirs, &path, &[b'x'; 190]).unwrap_err().kind, ErrorKind::MailboxFull);
    deliver(&maildirs, &path, b"x").unwrap();
    fs::write(file(&directory), [b'x'; 200]).unwrap();
    assert_eq!(maildirs.room(&path).unwrap(), 0);
    assert_eq!(maildirs.stage(&path, NOW).unwrap_err().kind, ErrorKind::MailboxFull);
}

/// Otherwise a lock without a number would block mail for minutes if this process were killed before it wrote the
/// number.
#[test]
fn a_lock_tells_its_process_from_its_first_moment_on() {
    let directory = TestDirectory::new();
    fs::write(file(&directory), "").unwrap();
    let (path, lock) = (place(&directory), directory.path().join("u.lock"));
    let nothing = File::open(file(&directory)).unwrap();
    let (seen, number) = (AtomicUsize::new(0), format!("{}\n", std::process::id()));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while seen.load(Ordering::Relaxed) < 1000 {
                if let Ok(text) = fs::read_to_string(&lock) {
                    assert_eq!(text, number);
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        while !watcher.is_finished() {
            super::append(&path, None, "From x", &nothing, NOW).unwrap();
        }
    });
}

/// A lock whose process is not known may be of a host that shares the directory.
#[test]
fn a_lock_of_nobody_known_is_left_over_after_its_time() {
    let directory = TestDirectory::new();
    let parent = OwnedFd::from(fs::File::open(directory.path()).unwrap());
    let made = 1_000_000_000;
    for (text, most) in [("", LOCK_MAX_AGE_SECONDS), ("1", super::HELD_LOCK_MAX_AGE_SECONDS)] {
        let file = fs::File::create(directory.path().join("u.lock")).unwrap();
        fs::write(directory.path().join("u.lock"), text).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(made)).unwrap();
        let is_left_over = |age| super::is_left_over(&parent, "u.lock", WallTime((made + age) * 1_000_000));
        assert_eq!([is_left_over(most), is_left_over(most + 1)], [false, true], "{text:?}");
    }
}

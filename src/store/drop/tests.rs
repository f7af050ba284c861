use super::*;
use crate::mail::unqualified::Unqualified;
use crate::test_directory::TestDirectory;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

const MESSAGE: &[u8] = b"Subject: x\n\nx\n";
const MAX: u64 = 1000;
const DIFFERS: &str = "its size differs from its first line";

fn envelope() -> DropEnvelope {
    DropEnvelope {
        sender: Sender::Owner,
        recipients: vec![Unqualified::parse("root").unwrap()],
        body: Default::default(),
        ret: None,
        envid: None,
        notify: None,
    }
}

fn write(state: &Path, name: &str, message: &[u8]) {
    let mut staged = StagedDrop::create(state, name).unwrap();
    staged.write(message).unwrap();
    staged.commit(&envelope()).unwrap();
}

/// A state directory with a drop directory; returns the path of the latter.
fn place() -> (TestDirectory, DropDirectory, PathBuf) {
    let state = TestDirectory::new();
    let drops = DropDirectory::open(state.path(), None).unwrap();
    let path = drops.path().to_owned();
    (state, drops, path)
}

fn name(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn text(dropped: &Dropped) -> Vec<u8> {
    let mut text = Vec::new();
    assert!(dropped.read(|piece| text.extend_from_slice(piece)).unwrap());
    text
}

fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Why a file is not a message.
fn reason(drops: &DropDirectory, text: &str) -> &'static str {
    match drops.open_message(&name(text), MAX).unwrap() {
        Opened::Bad(reason) => reason,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let (state, drops, path) = place();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o1733);
    for message in [MESSAGE, b"", &vec![b'x'; 200_000]] {
        write(state.path(), "one", message);
        let found: Vec<CString> = drops.entries().unwrap().map(|found| found.name).collect();
        assert_eq!(found, [name("one")]);
        let Ok(Opened::Message(dropped)) = drops.open_message(&found[0], 200_000) else { panic!() };
        assert_eq!(dropped.uid, fs::metadata(path.join("one")).unwrap().uid());
        assert!(dropped.envelope == envelope() && text(&dropped) == message);
        assert!(matches!(drops.open_message(&found[0], 200_000), Ok(Opened::Busy)), "it is locked");
        drops.remove(&found[0]).unwrap();
        drops.remove(&found[0]).unwrap();
        drops.sync().unwrap();
        assert!(names(&path).is_empty());
        assert!(matches!(drops.open_message(&found[0], MAX), Ok(Opened::Busy)), "it is gone");
    }
}

#[test]
fn what_was_not_committed_is_not_seen_and_goes_after_a_while() {
    let (state, drops, path) = place();
    let mut staged = StagedDrop::create(state.path(), "x").unwrap();
    staged.write(MESSAGE).unwrap();
    assert_eq!((names(&path), drops.entries().unwrap().count()), (vec![".x".to_owned()], 0));
    assert!(StagedDrop::create(state.path(), "x").is_err(), "nobody writes into another's file");
    // Killed: its destructor does not run.
    std::mem::forget(staged);
    let modified = fs::metadata(path.join(".x")).unwrap().mtime() as u64;
    fs::create_dir(path.join(".d")).unwrap();
    let after = |seconds: u64| WallTime((modified + seconds) * 1_000_000);
    assert_eq!(drops.sweep(after(STALE_SECONDS)).unwrap(), 0);
    assert_eq!(drops.sweep(after(STALE_SECONDS + 1)).unwrap(), 1);
    assert_eq!(names(&path), [".d"]);
    write(state.path(), "y", MESSAGE);
    assert_eq!(drops.sweep(after(1 << 30)).unwrap(), 0, "what was handed over stays");
}

#[test]
fn a_name_that_is_taken_is_not_written_over() {
    let (state, _, path) = place();
    write(state.path(), "x", b"first\n");
    let staged = StagedDrop::create(state.path(), "x").unwrap();
    assert!(staged.commit(&envelope()).is_err());
    assert!(fs::read(path.join("x")).unwrap().windows(5).any(|window| window == b"first"));
    assert_eq!(names(&path), ["x"]);
}

/// It may have been swapped after the first look.
#[test]
fn what_is_opened_is_no_link_hangs_no_thread_and_is_handed_to_no_program() {
    let (state, drops, path) = place();
    write(state.path(), "good", MESSAGE);
    symlink("good", path.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(open_file(&drops.drop, &name("link")).err(), Some(Errno::LOOP));
    // Without a writer this would wait.
    assert!(open_file(&drops.drop, &name("fifo")).is_ok());
    let file = open_file(&drops.drop, &name("good")).unwrap();
    assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn only_files_with_one_name_are_messages() {
    let (state, drops, path) = place();
    write(state.path(), "good", MESSAGE);
    let secret = state.path().join("secret");
    fs::copy(path.join("good"), &secret).unwrap();
    symlink(&secret, path.join("link")).unwrap();
    symlink("good", path.join("link-within")).unwrap();
    symlink("/nowhere", path.join("dangling")).unwrap();
    fs::hard_link(&secret, path.join("hard")).unwrap();
    fs::create_dir_all(path.join("directory/full")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    let odd = "new\nline \u{1b}[2J";
    fs::write(path.join(odd), "").unwrap();
    for (file, why) in [
        ("link", "it is a link"),
        ("link-within", "it is a link"),
        ("dangling", "it is a link"),
        ("hard", "it has several names"),
        ("directory", "it is a directory"),
        ("fifo", "it is not a regular file"),
        ("socket", "it is not a regular file"),
        (odd, "it is truncated"),
    ] {
        assert_eq!(reason(&drops, file), why, "{file}");
        match drops.put_away(&name(file), false, &mut drops.aside()) {
            Ok(done) if file == "hard" => assert_eq!(done, "removed"),
            Ok(done) => {
                let aside = state.path().join(done.strip_prefix("moved to ").unwrap());
                assert!(
                    fs::symlink_metadata(&aside).is_ok() && fs::symlink_metadata(path.join(file)).is_err()
                );
            }
            Err(_) => assert_eq!(file, "directory"),
        }
    }
    fs::remove_dir(path.join("directory/full")).unwrap();
    assert_eq!(drops.put_away(&name("directory"), false, &mut drops.aside()).unwrap(), "removed");
    assert_eq!(names(&path), ["good"]);
    assert_eq!(fs::read(&secret).unwrap(), fs::read(path.join("good")).unwrap());
    assert!(matches!(drops.open_message(&name("good"), MAX), Ok(Opened::Message(_))));
}

#[test]
fn what_is_set_aside_replaces_nothing() {
    let (state, drops, path) = place();
    fs::write(path.join("x"), "1").unwrap();
    let inode = fs::metadata(path.join("x")).unwrap().ino();
    let corrupt = state.path().join("corrupt");
    fs::write(corrupt.join(format!("drop-{inode}.0")), "0").unwrap();
    let done = drops.put_away(&name("x"), false, &mut drops.aside()).unwrap();
    assert_eq!(done, format!("moved to corrupt/drop-{inode}.1"));
    assert_eq!(fs::read(corrupt.join(format!("drop-{inode}.0"))).unwrap(), b"0");
}

/// What lies aside, as if it were not root's or the daemon's.
fn of_a_user(drops: &DropDirectory) -> Aside {
    let mut aside = drops.aside();
    aside.spared = [u32::MAX; 2];
    aside
}

/// The program that left it has reported success.
#[test]
fn whole_messages_and_files_of_root_or_the_daemon_are_never_removed() {
    let (state, drops, path) = place();
    let corrupt = state.path().join("corrupt");
    for number in 0..20 {
        write(state.path(), "whole", MESSAGE);
        fs::write(path.join("own"), format!("{number}")).unwrap();
        drops.put_away(&name("whole"), true, &mut drops.aside()).unwrap();
        drops.put_away(&name("own"), false, &mut drops.aside()).unwrap();
    }
    assert_eq!(fs::read_dir(&corrupt).unwrap().count(), 40);
    // They take no room from what is no message.
    fs::write(path.join("x"), "x").unwrap();
    let done = drops.put_away(&name("x"), false, &mut of_a_user(&drops)).unwrap();
    assert!(corrupt.join(done.strip_prefix("moved to corrupt/").unwrap()).exists());
    let whole = names(&corrupt).iter().filter(|name| name.starts_with("message-")).count();
    assert_eq!(whole, 20);
}

/// No user fills `corrupt/`, and no message is deleted.
#[test]
fn whole_messages_of_a_user_above_the_bound_stay_where_they_are() {
    let (state, drops, path) = place();
    for number in 0..20 {
        write(state.path(), &format!("whole{number}"), MESSAGE);
        let done = drops.put_away(&name(&format!("whole{number}")), true, &mut of_a_user(&drops));
        assert_eq!(done.is_ok(), number < 16, "{number}: {done:?}");
    }
    let corrupt = state.path().join("corrupt");
    assert_eq!((names(&corrupt).len(), names(&path).len()), (16, 4));
    // The size counts, too.
    names(&corrupt).iter().for_each(|name| fs::remove_file(corrupt.join(name)).unwrap());
    fs::write(path.join("large"), vec![b'x'; 33 << 20]).unwrap();
    let error = drops.put_away(&name("large"), true, &mut of_a_user(&drops)).unwrap_err();
    assert!(error.to_string().contains("too many messages of this user"), "{error}");
    assert!(path.join("large").exists());
}

#[test]
fn what_is_set_aside_is_bounded_and_queue_files_stay() {
    let (state, drops, path) = place();
    let corrupt = state.path().join("corrupt");
    fs::write(corrupt.join("0RRZ4K8W3T5QM"), "a damaged message").unwrap();
    for number in 0..40 {
        fs::write(path.join("x"), format!("{number}")).unwrap();
        drops.put_away(&name("x"), false, &mut of_a_user(&drops)).unwrap();
    }
    let kept = |corrupt: &std::path::Path| -> Vec<String> {
        let files = fs::read_dir(corrupt).unwrap().map(|file| file.unwrap().path());
        let mut texts: Vec<String> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
        texts.sort();
        texts
    };
    let newest: Vec<String> = (24..40).map(|number| number.to_string()).collect();
    assert_eq!(kept(&corrupt), [newest, vec!["a damaged message".into()]].concat());
    // The size counts, too: this one and the newest of the others are more than a user may have.
    fs::write(path.join("large"), vec![b'x'; 33 << 20]).unwrap();
    drops.put_away(&name("large"), false, &mut of_a_user(&drops)).unwrap();
    assert_eq!(kept(&corrupt), ["a damaged message"]);
}

#[test]
fn every_damage_to_the_frame_is_seen() {
    let (state, drops, path) = place();
    write(state.path(), "good", MESSAGE);
    let good = fs::read(path.join("good")).unwrap();
    let frame: Vec<usize> = (0..HEADER_OCTETS).chain(HEADER_OCTETS + MESSAGE.len()..good.len()).collect();
    for at in frame {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(path.join("bad"), &bad).unwrap();
        if let Opened::Message(dropped) = drops.open_message(&name("bad"), MAX).unwrap() {
            // Another recipient with a valid address: only the owner can write here.
            assert_eq!(dropped.envelope.print().as_bytes(), &bad[HEADER_OCTETS + MESSAGE.len()..]);
        }
    }
    for length in 0..good.len() {
        fs::write(path.join("bad"), &good[..length]).unwrap();
        assert!(["it is truncated", "its size differs from its first line"].contains(&reason(&drops, "bad")));
    }
    fs::write(path.join("bad"), [&good[..], b"x"].concat()).unwrap();
    assert_eq!(reason(&drops, "bad"), "its size differs from its first line");
}

#[test]
fn sizes_are_held_to_their_limits_before_anything_is_read() {
    let (_state, drops, path) = place();
    let bad = path.join("bad");
    for (message, envelope, why) in [
        (MAX + 1, 8, "whole"),
        (u64::MAX, 8, DIFFERS),
        (9_999_999_999_999_999_999, 8, DIFFERS),
        (MAX, ENVELOPE_MAX_OCTETS + 1, "its envelope is too large"),
        (MAX, ENVELOPE_MAX_OCTETS, "its envelope is malformed"),
    ] {
        let header = format!("pillarbox-drop 1 {message:020} {envelope:010}\n");
        fs::write(&bad, &header).unwrap();
        // A sparse file of this size costs nothing.
        let size = HEADER_OCTETS as u64 + message.min(1 << 40) + envelope as u64;
        fs::File::options().write(true).open(&bad).unwrap().set_len(size).unwrap();
        if why == "whole" {
            assert!(matches!(drops.open_message(&name("bad"), MAX), Ok(Opened::TooLarge)));
            continue;
        }
        assert_eq!(reason(&drops, "bad"), why, "{message} {envelope}");
    }
    let many = "to=a\n".repeat(RECIPIENTS_MAX + 1);
    fs::write(&bad, format!("{}{many}", print_header(0, many.len()))).unwrap();
    assert_eq!(reason(&drops, "bad"), "its envelope is malformed");
    let most = "to=a\n".repeat(RECIPIENTS_MAX);
    fs::write(&bad, format!("{}{most}", print_header(0, most.len()))).unwrap();
    assert!(matches!(drops.open_message(&name("bad"), MAX), Ok(Opened::Message(_))));
}

#[test]
fn a_message_that_changes_while_it_is_read_does_no_harm() {
    let (state, drops, path) = place();
    write(state.path(), "x", &vec![b'x'; 900]);
    let Ok(Opened::Message(dropped)) = drops.open_message(&name("x"), MAX) else { panic!() };
    let file = fs::File::options().write(true).open(path.join("x")).unwrap();
    file.set_len(100).unwrap();
    assert_eq!(dropped.read(|_| ()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    file.set_len(1 << 30).unwrap();
    let mut octets = 0;
    assert!(dropped.read(|piece| octets += piece.len()).unwrap());
    assert_eq!(octets, 900, "not more than was looked at");
    write(state.path(), "cr", b"a\r\nb\n");
    let Ok(Opened::Message(dropped)) = drops.open_message(&name("cr"), MAX) else { panic!() };
    assert!(!dropped.read(|_| ()).unwrap());
}

#[test]
fn what_the_daemon_may_not_read_is_told_from_what_is_no_message() {
    let (state, drops, path) = place();
    write(state.path(), "x", MESSAGE);
    assert_eq!(fs::metadata(path.join("x")).unwrap().mode() & 0o777, 0o644);
    fs::set_permissions(path.join("x"), PermissionsExt::from_mode(0o000)).unwrap();
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(drops.open_message(&name("x"), MAX), Ok(Opened::Denied)));
        return;
    }
    // Root in a thread without its rights over files.
    fs::set_permissions(path.join("x"), PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(path.join("x"), Some(4711), Some(4711)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::sys::rights::keep_for_delivery().unwrap();
            assert!(matches!(drops.open_message(&name("x"), MAX), Ok(Opened::Denied)));
        });
    });
    assert!(matches!(drops.open_message(&name("x"), MAX), Ok(Opened::Message(_))));
}

#[test]
fn the_reason_for_a_failure_is_told_in_words() {
    let state = TestDirectory::new();
    let error = StagedDrop::create(state.path(), "x").unwrap_err();
    assert!(explain(&error).contains("no drop directory"));
    assert!(explain(&StoreError::io("/x", Errno::ACCESS)).contains("1733"));
    assert!(explain(&StoreError::io("/x", Errno::NOSPC)).contains("full"));
}

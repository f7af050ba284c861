//! Every kind with everything that may lie in place of a file, and whose a list of addresses is.

use super::*;
use crate::test_directory::TestDirectory;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::sync::mpsc::channel;
use std::time::Duration;

const KINDS: [FileKind; 9] = [
    FileKind::Configuration,
    FileKind::Certificate,
    FileKind::Secret,
    FileKind::Aliases,
    FileKind::List,
    FileKind::Forward,
    FileKind::System,
    FileKind::Hosts,
    FileKind::State,
];
/// A user that exists nowhere.
const JOE: u32 = 4_000_000;

const LINE: &str = "a@b.example\n";

/// What a read says, within a deadline: without `O_NONBLOCK` a FIFO would never answer.
fn answer<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(read()));
    receiver.recv_timeout(Duration::from_secs(20)).expect("it hangs").map_err(|error| error.to_string())
}

#[test]
fn nothing_but_a_file_is_read_and_nothing_hangs() {
    let directory = TestDirectory::new();
    let [fifo, socket] = ["fifo", "socket"].map(|name| directory.join(name));
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for kind in KINDS {
        let read_it = |path: &Path| {
            let path = path.to_owned();
            answer(move || read(&path, kind))
        };
        assert_eq!(read_it(&fifo), Err("this is no file".into()), "{kind:?}");
        assert!(read_it(&directory).is_err_and(|error| error.starts_with("Is a directory")), "{kind:?}");
        assert_eq!(read_it(Path::new("/dev/zero")), Err("this is no file".into()), "{kind:?}");
        assert!(read_it(&socket).is_err(), "{kind:?}");
        assert_eq!(read_it(Path::new("/dev/null")), Ok(vec![]), "{kind:?}");
    }
    let path = fifo.clone();
    assert_eq!(answer(move || read_forward(&path, 0)), Err("this is no file".into()));
    for kind in [FileKind::List, FileKind::Aliases] {
        let path = fifo.clone();
        let read_it = move || read_list(&path, kind).map(|it| it.octets);
        assert_eq!(answer(read_it), Err("this is no file".into()));
    }
}

#[test]
fn links_are_followed_where_operators_use_them() {
    let directory = TestDirectory::new();
    let (file, link) = (directory.secret("file", LINE), directory.join("link"));
    symlink(&file, &link).unwrap();
    for kind in KINDS {
        let is_refused = kind.links() == OFlags::NOFOLLOW;
        let found = read(&link, kind).map_err(|error| error.to_string());
        assert_eq!(found.is_err(), is_refused, "{kind:?}");
        assert!(!is_refused || found == Err("it is a link, which is not followed".into()), "{found:?}");
        assert_eq!(read(&file, kind).unwrap(), b"a@b.example\n");
    }
}

#[test]
fn a_file_that_is_too_large_is_told_before_it_is_read() {
    let directory = TestDirectory::new();
    let file = directory.secret("file", LINE);
    for kind in KINDS {
        let (max, words) = kind.max();
        // Sparse: it costs no room.
        File::options().write(true).open(&file).unwrap().set_len(max + 1).unwrap();
        let error = open(&file, kind).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::FileTooLarge, words));
    }
}

#[test]
fn a_list_is_the_operator_s_only_if_no_user_could_put_it_there() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    // The directory for temporary files is everybody's, so what lies below it is a user's. This one is root's.
    let ours = TestDirectory::below(Path::new("/run"));
    fs::create_dir_all(ours.join("joe/deep")).unwrap();
    let own = |name: &str, uid: u32, mode: u32| {
        let path = ours.file_of_mode(name, LINE, mode);
        chown(&path, Some(uid), None).unwrap();
        path
    };
    let whose = |path: &Path| {
        read_list(path, FileKind::List).map(|it| it.is_user_s).map_err(|error| error.to_string())
    };
    for directory in ["joe", "joe/deep"] {
        chown(ours.join(directory), Some(JOE), None).unwrap();
    }
    let (operator, user) = (Ok(false), Ok(true));
    assert_eq!(whose(&own("list", 0, 0o644)), operator);
    assert_eq!(whose(&own("of-group", 0, 0o664)), operator);
    assert_eq!(whose(&own("open", 0, 0o666)), Err("others can write to it (chmod go-w)".into()));
    assert_eq!(whose(&own("of-joe", JOE, 0o644)), user);
    assert_eq!(whose(&own("of-joes", JOE, 0o664)), Err("others can write to it (chmod go-w)".into()));
    assert_eq!(whose(&own("joe/list", JOE, 0o600)), user);
    // Root's file in a directory of the user's, who may have put it there.
    assert_eq!(whose(&own("joe/root", 0, 0o644)), user);
    let secret = own("secret", 0, 0o600);
    fs::hard_link(&secret, ours.join("joe/hard")).unwrap();
    assert_eq!(whose(&ours.join("joe/hard")), Err("it has a second name (a hard link)".into()));
    // In a directory for everybody nobody can replace what is another's.
    let shared = TestDirectory::new();
    let list = shared.file_of_mode("list", LINE, 0o644);
    assert_eq!(whose(&list), operator);
    fs::hard_link(&list, shared.join("second")).unwrap();
    assert_eq!(whose(&list), Err("it has a second name (a hard link)".into()));
    // The aliases file is one that the operator has named; what is a user's is only told with less.
    let aliases = |name: &str| read_list(&ours.join(name), FileKind::Aliases).map(|it| it.is_user_s);
    assert_eq!((aliases("list").ok(), aliases("of-joes").ok()), (Some(false), Some(true)));
    // Links: root's are followed, a user's are not, in any place on the way.
    let is_refused =
        |name: &str| whose(&ours.join(name)).is_err_and(|error| error.contains("which is not followed"));
    symlink("list", ours.join("link")).unwrap();
    symlink("list", ours.join("joe-s")).unwrap();
    std::os::unix::fs::lchown(ours.join("joe-s"), Some(JOE), None).unwrap();
    symlink(ours.path(), ours.join("here")).unwrap();
    assert_eq!(
        [whose(&ours.join("link")), whose(&ours.join("here/here/link"))],
        [operator.clone(), operator]
    );
    symlink("../secret", ours.join("joe/link")).unwrap();
    symlink("..", ours.join("joe/up")).unwrap();
    symlink("joe/link", ours.join("to-link")).unwrap();
    symlink("joe/up", ours.join("to-up")).unwrap();
    for name in ["joe/link", "joe/up/secret", "joe/up/joe/up/list", "to-link", "to-up/secret", "joe-s"] {
        assert!(is_refused(name), "{name}: {:?}", whose(&ours.join(name)));
    }
    symlink("round", ours.join("round")).unwrap();
    assert!(whose(&ours.join("round")).is_err_and(|error| error.contains("symbolic")));
    assert!(whose(&ours.join("joe/none")).is_err() && whose(Path::new("/")).is_err());
    assert!(aliases("joe/link").is_err() && aliases("link").is_ok());
    assert_eq!(read_forward(&own("joe/.forward", JOE, 0o600), JOE).unwrap(), b"a@b.example\n");
    let forward = |path: &Path| read_forward(path, JOE).map_err(|error| error.to_string());
    assert_eq!(forward(&ours.join("joe/hard")), Err("it has a second name (a hard link)".into()));
    assert_eq!(forward(&own("joe/else", JOE + 1, 0o600)), Err("it belongs to somebody else".into()));
}

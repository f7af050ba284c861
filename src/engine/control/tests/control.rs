//! The control socket: admission, limits, deadlines, and hostile clients.

use crate::engine::control::socket::{Control, SOCKET_TIMEOUTS, SocketTimeouts, make_directory};
use crate::engine::tests::world::*;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn socket(world: &World) -> PathBuf {
    world.state().join("run/deep/control.sock")
}

fn open(world: &World) -> Arc<Control> {
    open_with(world, SOCKET_TIMEOUTS)
}

fn open_with(world: &World, timeouts: SocketTimeouts) -> Arc<Control> {
    let path = socket(world);
    make_directory(&path, None).unwrap();
    let control = Arc::new(Control::bind(&path, timeouts).unwrap());
    control.start(&world.services).unwrap();
    control
}

/// Sends octets; returns everything that comes back.
fn talk(world: &World, octets: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(world)).unwrap();
    // A refused connection may be closed before everything is written.
    let _ = stream.write_all(octets);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    // The sign that the daemon lives.
    answer.strip_prefix("1 0\n").map(str::to_owned).unwrap_or(answer)
}

#[test]
fn everybody_may_connect_and_is_answered() {
    let world = World::new("");
    let control = open(&world);
    let metadata = socket(&world).metadata().unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o666);
    assert_eq!(talk(&world, b"queue list\n"), "1 20\nMail queue is empty\n0 0\n");
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    assert_eq!(talk(&world, format!("queue remove {id}\n").as_bytes()), "0 0\n");
    assert!(talk(&world, format!("queue remove {id}\n").as_bytes()).ends_with("0 66\n"));
    control.close();
    assert!(!socket(&world).exists());
    assert!(UnixStream::connect(socket(&world)).is_err());
}

#[test]
fn what_is_no_question_is_refused_and_harms_nobody() {
    let world = World::new("");
    let control = open(&world);
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    let long = vec![b'x'; 100_000];
    let crammed = format!("queue list\rqueue remove {id}\n").into_bytes();
    for question in
        [&b"\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"queue hold \0all\n", b"queue \x1ball\n", &crammed, &long]
    {
        let answer = talk(&world, question);
        assert!(answer.ends_with("0 64\n"), "{answer:?}");
        assert!(!answer.contains('\u{1b}'), "{answer:?}");
    }
    assert_eq!(talk(&world, b"\xff\xfe\n"), "");
    // A second line is no second question.
    assert!(talk(&world, format!("queue list\nqueue remove {id}\n").as_bytes()).contains(&id.to_string()));
    assert_eq!(world.queue().len(), 1);
    // A client that sends or reads nothing delays no other.
    let silent: Vec<_> = (0..5).map(|_| UnixStream::connect(socket(&world)).unwrap()).collect();
    let mut deaf = UnixStream::connect(socket(&world)).unwrap();
    deaf.write_all(b"queue list\n").unwrap();
    drop(deaf);
    assert!(talk(&world, b"queue list\n").ends_with("0 0\n"));
    drop(silent);
    control.close();
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let world = World::new("");
    let path = socket(&world);
    make_directory(&path, None).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "it is left over");
    let control = open(&world);
    let refused = Control::bind(&path, SOCKET_TIMEOUTS).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    assert!(refused.to_string().contains("control.sock"), "{refused}");
    assert_eq!(talk(&world, b"queue list\n"), "1 20\nMail queue is empty\n0 0\n");
    control.close();

    // A daemon whose socket was replaced does not remove the new one; other files are never replaced.
    let first = Control::bind(&path, SOCKET_TIMEOUTS).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Control::bind(&path, SOCKET_TIMEOUTS).unwrap();
    first.close();
    assert!(path.exists());
    second.close();
    std::fs::write(&path, "precious").unwrap();
    assert!(Control::bind(&path, SOCKET_TIMEOUTS).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

const MESSAGE: &[u8] = b"Subject: x\n\nx\n";

#[test]
fn a_message_is_taken_from_whom_the_kernel_names() {
    let world = World::new("");
    let control = open(&world);
    let question = format!("submit 9 {}\nto=alice\n", MESSAGE.len()).into_bytes();
    let answer = talk(&world, &[&question, MESSAGE].concat());
    assert!(answer.starts_with("3 0\n1 ") && answer.ends_with("0 0\n"), "{answer}");
    // The message comes in pieces, after the daemon has asked for it.
    let mut stream = UnixStream::connect(socket(&world)).unwrap();
    for octet in &question {
        stream.write_all(&[*octet]).unwrap();
    }
    let mut go = [0; 4];
    stream.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"3 0\n");
    stream.write_all(MESSAGE).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("0 0\n"), "{answer}");
    let mail = world.mail("alice");
    let uid = rustix::process::getuid().as_raw();
    assert!(mail.len() == 2 && mail[0].contains(&format!("(uid {uid})")), "{mail:?}");
    assert!(talk(&world, b"submit 9 9\nto=nobod\n").ends_with("0 67\n"));
    assert!(talk(&world, b"submit 9 9 9\nto=alice\n").ends_with("0 64\n"));
    assert_eq!(talk(&world, b"verify alice\n").matches("deliverable: mailer local").count(), 1);
    control.close();
}

/// Waits until that many threads of the socket are left; each shares the services.
fn wait_for_threads(world: &World, count: usize) {
    let begun = Instant::now();
    while Arc::strong_count(&world.services) != 1 + count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", Arc::strong_count(&world.services));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A connection whose reads time out.
fn connect(world: &World) -> UnixStream {
    let stream = UnixStream::connect(socket(world)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn who_says_too_little_too_slowly_is_left() {
    let world = World::new("");
    let short = Duration::from_millis(100);
    let control = open_with(&world, SocketTimeouts { question: short, ..SOCKET_TIMEOUTS });
    for said in ["", "queue li"] {
        let (mut stream, mut answer) = (connect(&world), String::new());
        let _ = stream.write_all(said.as_bytes());
        assert_eq!(stream.read_to_string(&mut answer).unwrap(), 0, "{said:?}: {answer}");
    }
    // The deadline is for the whole question: single octets do not extend it.
    let (begun, mut stream) = (Instant::now(), connect(&world));
    while stream.write_all(b"q").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is heard out");
        std::thread::sleep(short / 10);
    }
    assert!(begun.elapsed() >= short);
    wait_for_threads(&world, 1);
    control.close();
    // The same for a message.
    let control = open_with(&world, SocketTimeouts { message: short, ..SOCKET_TIMEOUTS });
    let (mut stream, mut answer) = (connect(&world), String::new());
    stream.write_all(b"submit 9 20\nto=alice\nSubject: x").unwrap();
    assert!(stream.read_to_string(&mut answer).is_ok() && answer == "3 0\n", "{answer}");
    assert_eq!((world.mail("alice").len(), world.half_written()), (0, 0));
    control.close();
}

#[test]
fn whoever_breaks_off_has_handed_over_nothing_and_an_end_waits_for_whoever_does_not() {
    let world = World::new("");
    let control = open(&world);
    let question = format!("submit 9 {}\nto=alice\n", MESSAGE.len());
    let begin = |length: usize| {
        let mut stream = UnixStream::connect(socket(&world)).unwrap();
        stream.write_all(question.as_bytes()).unwrap();
        let mut go = [0; 4];
        stream.read_exact(&mut go).unwrap();
        stream.write_all(&MESSAGE[..length]).unwrap();
        stream
    };
    for length in 0..MESSAGE.len() {
        drop(begin(length));
    }
    let mut stream = begin(5);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| control.close());
        while socket(&world).exists() {
            std::thread::yield_now();
        }
        assert!(!closing.is_finished());
        stream.write_all(&MESSAGE[5..]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("0 0\n"), "{answer}");
        closing.join().unwrap();
    });
    assert_eq!((world.mail("alice").len(), world.half_written()), (1, 0));
}

#[test]
fn who_does_not_read_the_answer_does_not_get_all_of_it() {
    let world = World::new("");
    let control = open_with(&world, SocketTimeouts { answer: Duration::from_millis(500), ..SOCKET_TIMEOUTS });
    let content = format!("Subject: x\n\n{}", "nobody reads this\n".repeat(200_000));
    let said = world.submit("alice@box.example", &["joe@far.example"], &content);
    let question = format!("queue show {}\n", said.strip_prefix("250 2.0.0 Ok: ").unwrap());
    let mut stream = connect(&world);
    stream.write_all(question.as_bytes()).unwrap();
    // The thread of the connection starts, then gives up.
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    wait_for_threads(&world, 1);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < content.len() && !answer.ends_with(b"0 0\n"), "{}", answer.len());
    control.close();
    let control = open(&world);
    let whole = talk(&world, question.as_bytes());
    assert!(whole.len() > content.len() && whole.ends_with("0 0\n"));
    control.close();
}

#[test]
fn a_panic_takes_its_own_connection_with_it_and_nothing_else() {
    let world = World::new("");
    let control = open(&world);
    let host = world.far_host();
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    // While other clients are served.
    let mut other = connect(&world);
    wait_for_threads(&world, 2);
    for question in ["queue list\n", "queue flush\n"] {
        world.clock.break_once();
        assert_eq!(talk(&world, question.as_bytes()), "", "{question}");
        wait_for_threads(&world, 2);
    }
    other.write_all(b"queue list\n").unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&id.to_string()) && answer.ends_with("0 0\n"), "{answer}");
    assert!(talk(&world, b"queue flush\n").ends_with("0 0\n"));
    world.accept("alice@box.example", &["jim@far.example"]);
    world.pass();
    assert_eq!((host.recipients().len(), world.queue()), (2, vec![]));
    control.close();
}

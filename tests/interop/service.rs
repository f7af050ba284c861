use super::client::send;
use super::harness::{Daemon, Place, Running, SOON, program};
use std::fs::{File, read_to_string};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
/// The steps of systemd between fork and exec: the socket, here standard input, becomes descriptor 3, and variables name
/// its receiver.
const HAND_OVER: &str =
    "exec 3<&0 </dev/null; LISTEN_PID=$(($$ + $1)); export LISTEN_PID; shift; exec \"$@\"";

/// A daemon that gets this as descriptor 3, for itself or (`pid_offset`) for another process.
fn hand_over(place: &Place, socket: OwnedFd, pid_offset: u32) -> Command {
    let mut command = program("sh", "dash");
    command.args(["-c", HAND_OVER, "sh", &pid_offset.to_string(), env!("CARGO_BIN_EXE_pillarbox"), "-c"]);
    command.arg(place.path("pillarbox.toml")).arg("serve");
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "smtp");
    let log = File::options().create(true).append(true).open(place.path("log")).unwrap();
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(log);
    command
}

/// Starts it, and waits until it reports that it is ready.
pub fn start_and_hear_ready(command: &mut Command, supervisor: &Supervisor) -> Daemon {
    let child = command.env("NOTIFY_SOCKET", &supervisor.name).spawn().unwrap();
    let daemon = Daemon(Running { child });
    assert_eq!(supervisor.hear(), "READY=1");
    daemon
}

/// Receives the reports to systemd.
pub struct Supervisor {
    socket: UnixDatagram,
    name: std::path::PathBuf,
}

impl Supervisor {
    pub fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, name: path.to_owned() }
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no report: {error}"));
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[test]
fn a_socket_from_outside_is_served_in_place_of_the_configured_addresses() {
    let place = Place::new();
    place.configure("");
    let supervisor = Supervisor::listen(&place.path("notify"));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, place.sink_port)).unwrap();
    let copy = || socket.try_clone().unwrap().into();

    let mut daemon = start_and_hear_ready(&mut hand_over(&place, copy(), 0), &supervisor);
    send(place.sink_port, "s@y.test", "u@box.test", MESSAGE);
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, place.port)).is_err(),
        "the configured address is bound"
    );
    let flags = read_to_string(format!("/proc/{}/fdinfo/3", daemon.pid())).unwrap();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
    assert!(u32::from_str_radix(&flags, 8).unwrap() & 0o2_000_000 != 0, "children get the socket: {flags}");

    // A bad configuration ends its reload, too.
    for (more, reported) in [("", "configuration read again"), ("nonsense = 1\n", "the old one stays")] {
        place.configure(more);
        daemon.signal("HUP");
        let heard = supervisor.hear();
        let micros = heard.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{heard}"));
        assert!(micros.parse::<u64>().unwrap() > 0);
        assert_eq!(supervisor.hear(), "READY=1");
        place.wait_for_log(&[reported]);
    }
    place.configure("");
    daemon.signal("TERM");
    assert_eq!(supervisor.hear(), "STOPPING=1");
    assert_eq!(daemon.wait().code(), Some(0));

    // A client that connects while no daemon runs waits for the next start.
    let mut early = TcpStream::connect((Ipv4Addr::LOCALHOST, place.sink_port)).unwrap();
    let daemon = start_and_hear_ready(&mut hand_over(&place, copy(), 0), &supervisor);
    early.set_read_timeout(Some(SOON)).unwrap();
    let mut greeting = [0; 4];
    early.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ");
    drop(early);
    daemon.stop();
    assert_eq!(place.mail("u").len(), 1);
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let place = Place::new();
    place.configure("");
    let supervisor = Supervisor::listen(&place.path("notify"));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let daemon = start_and_hear_ready(&mut hand_over(&place, socket.into(), 1), &supervisor);
    send(place.port, "s@y.test", "u@box.test", MESSAGE);
    daemon.stop();
}

#[test]
fn a_socket_that_takes_no_connections_is_told() {
    let place = Place::new();
    place.configure("");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let cases: [(OwnedFd, &str); 2] = [
        (File::open("/dev/null").unwrap().into(), "descriptor 3 of LISTEN_FDS is not a TCP socket"),
        (connected.into(), "descriptor 3 of LISTEN_FDS is a TCP socket that does not listen"),
    ];
    for (descriptor, reported) in cases {
        let status = hand_over(&place, descriptor, 0).status().unwrap();
        assert_eq!(status.code(), Some(69), "{}", place.log());
        assert!(place.log().contains(reported), "{}", place.log());
    }
}

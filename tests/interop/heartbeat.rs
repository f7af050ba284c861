//! Signs of life of a real daemon: a dead man's switch in Python, by HTTPS on a port that only `heartbeat.url` names, and the mail to
//! `admin` over restarts.

use super::client::send;
use super::harness::{Place, Running, SOON, free_port, program, wait_until};
use super::smarthost::Authority;
use pillarbox::store::state_file::line::CLOCK;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Notes each path. The file `status` holds the status that it answers; with a file `hangs` it answers nothing.
const SWITCH: &str = r#"
import http.server, os, ssl, sys, time
port, directory = int(sys.argv[1]), sys.argv[2]
at = lambda name: os.path.join(directory, name)
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        with open(at("asked"), "a") as f: f.write(self.path + "\n")
        while os.path.exists(at("hangs")): time.sleep(0.1)
        try: status = int(open(at("status")).read())
        except FileNotFoundError: status = 200
        # As services answer: a body in chunks, and the connection stays open.
        self.protocol_version = "HTTP/1.1"
        self.send_response(status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"2\r\nOK\r\n0\r\n\r\n")
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args): pass
server = Server(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(at("hc.pem"), at("hc.key"))
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
open(at("switch.ready"), "w").close()
server.serve_forever()
"#;

fn asked(place: &Place) -> Vec<String> {
    fs::read_to_string(place.path("asked")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn status(place: &Place) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let output = command.arg("-c").arg(place.path("pillarbox.toml")).arg("status").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_switch_is_told_that_mail_flows_and_that_it_does_not() {
    let place = Place::new();
    Authority::new(&place).sign(&place, "hc", &["hc.test"], 30);
    let port = free_port();
    let mut switch = program("python3", "python3");
    switch.args(["-c", SWITCH, &port.to_string()]).arg(&place.dir);
    let _switch = Running::start(&mut switch);
    wait_until("the switch listens", SOON, || place.path("switch.ready").exists());
    let _dns = place.dns(&["--host-record=hc.test,127.0.0.1"]);
    place.configure(&format!(
        "relay.smarthost = \"smtp://127.0.0.1:{}\"\nrelay.ca_file = {:?}\nalarm.stuck_after = \"1s\"\n\
         heartbeat.url = \"https://hc.test:{port}/5e-cd/\"\nheartbeat.interval = \"1m\"\n",
        place.sink_port,
        place.path("ca.pem")
    ));
    let daemon = place.serve();
    wait_until("the switch is asked", SOON, || asked(&place) == ["/5e-cd/"]);
    wait_until("status tells it", SOON, || {
        status(&place).contains("\nheartbeat       the dead man's switch was asked ")
    });
    // An alarm is told before the interval has passed, and so is its end.
    send(place.port, "s@y.test", "a@far.test", b"Subject: x\r\n\r\nhello\r\n");
    wait_until("the switch is told of the alarm", SOON, || asked(&place) == ["/5e-cd/", "/5e-cd/fail"]);
    place.write("hangs", "");
    let sink = place.sink(&[]);
    let mut flush = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    flush.arg("-c").arg(place.path("pillarbox.toml")).args(["queue", "flush"]);
    assert!(flush.output().unwrap().status.success());
    wait_until("the switch is told of its end", SOON, || {
        asked(&place) == ["/5e-cd/", "/5e-cd/fail", "/5e-cd/"]
    });
    drop(sink);
    // While it hangs, the forwarder does not.
    send(place.port, "s@y.test", "b@far.test", b"Subject: x\r\n\r\nhello\r\n");
    wait_until("the forwarder tries it", SOON, || {
        !place.logged(&["event=deferred", "to=b@far.test"]).is_empty()
    });
    wait_until("the question has ended", 2 * SOON, || !place.logged(&["asking heartbeat.url"]).is_empty());
    let said = status(&place);
    assert!(
        said.contains("The dead man's switch of heartbeat.url ") && said.contains("hc.test can't be asked"),
        "{said}"
    );
    fs::remove_file(place.path("hangs")).unwrap();
    wait_until("it is told of the next alarm", SOON, || asked(&place).len() == 4);
    wait_until("that is logged", SOON, || !place.logged(&["heartbeat.url is reached again"]).is_empty());
    assert_eq!(place.logged(&["asking heartbeat.url"]).len(), 1);
    assert!(!place.log().contains("5e-cd") && !said.contains("5e-cd"), "the path is a secret");
    daemon.stop();
}

/// Lets the running time go on while no daemon runs.
fn pass_time(place: &Place, hours: u64) {
    let state = place.path("state");
    let saved = CLOCK.load(&state).unwrap();
    let (running, rest) = saved.split_once(' ').unwrap();
    let running: u64 = running.parse().unwrap();
    CLOCK.save(&state, &format!("{} {rest}", running + hours * 3_600_000_000)).unwrap();
}

#[test]
fn admin_gets_a_mail_each_period_and_none_at_a_start() {
    let place = Place::new();
    place.configure("admin = \"alice\"\nheartbeat.every = \"1h\"\n");
    place.serve().stop();
    for (hours, mails) in [(0, 0), (1, 1), (0, 1), (0, 1), (2, 2), (0, 2)] {
        pass_time(&place, hours);
        let daemon = place.serve();
        if hours > 0 {
            place.wait_for_mail("alice", mails);
        }
        // The record is saved behind the mail, and a crash keeps it.
        std::thread::sleep(Duration::from_millis(500));
        let mut daemon = daemon;
        daemon.0.child.kill().unwrap();
        daemon.wait();
        assert_eq!(place.mail("alice").len(), mails);
    }
    let mail = String::from_utf8(place.mail("alice").remove(0)).unwrap();
    assert!(mail.contains("\nSubject: box.test: all is well\n"), "{mail}");
    assert!(mail.contains("\nNow: Everything works: the queue is empty.\n"), "{mail}");
}

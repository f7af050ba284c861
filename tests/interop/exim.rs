use super::client::send;
use super::harness::{Place, Running, SOON, files, program, run, wait_until};
use super::tls_policy::certificate;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BODY: &str = ".\r\n..\r\nfull\r\n\r\nFrom nobody\r\n.";

/// Exim, as `tests/tools/unpack` leaves it: Debian does not allow two installed mail servers.
fn exim() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let exim = target.join("peers/exim4-daemon-light/usr/sbin/exim4");
    assert!(
        exim.is_file(),
        "{exim:?} is missing: tests/tools/unpack {target:?}/peers exim4-daemon-light (make test does it)"
    );
    exim
}

/// What a test adds to the configuration of Exim.
#[derive(Default)]
pub(super) struct Extra<'a> {
    /// Lines before the first section.
    pub main: &'a str,
    /// Who may send: lines of the ACL of RCPT. Empty: everybody.
    pub acl: &'a str,
    /// The section of the authenticators.
    pub authenticators: &'a str,
}

/// Exim on `sink_port` with the certificate of the place. Accepted messages stay in its queue. It runs as an account of
/// its own; `None` unless root can make one.
pub(super) fn start(place: &Place, extra: &Extra<'_>) -> Option<Running> {
    let may_mount = program("unshare", "util-linux").args(["-m", "true"]).output().unwrap().status.success();
    if !may_mount {
        println!("note: Exim wants an account, and this user may not lend it one; nothing is tested here");
        return None;
    }
    let exim = exim();
    let d = place.dir.display();
    for (name, entry) in
        [("passwd", "Debian-exim:x:8:8::/nonexistent:/bin/false\n"), ("group", "Debian-exim:x:8:\n")]
    {
        place.write(name, &(fs::read_to_string(Path::new("/etc").join(name)).unwrap() + entry));
    }
    fs::create_dir(place.path("spool")).unwrap();
    let Extra { main, acl, authenticators } = extra;
    let acl = if acl.is_empty() { "accept" } else { acl };
    let conf = place.write(
        "exim.conf",
        &format!(
            "primary_hostname = mx.far.test\nspool_directory = {d}/spool\nlog_file_path = {d}/spool/%slog\n\
             pid_file_path = {d}/spool/pid\nlocal_interfaces = 127.0.0.1\ndaemon_smtp_ports = {}\n\
             tls_advertise_hosts = *\ntls_certificate = {d}/certificate.pem\ntls_privatekey = {d}/key.pem\n\
             acl_smtp_rcpt = rcpt\nacl_smtp_data = accept\nhost_lookup =\nrfc1413_query_timeout = 0s\n\
             queue_only = true\nkeep_environment =\nlog_selector = +tls_cipher\n{main}\
             begin acl\nrcpt:\n{acl}\nbegin authenticators\n{authenticators}\
             begin routers\nall:\n driver = accept\n transport = none\n\
             begin transports\nnone:\n driver = appendfile\n file = /dev/null\n",
            place.sink_port
        ),
    );
    run(Command::new("chmod").args(["644"]).arg(&conf));
    run(Command::new("chown").args(["-R", "8:8"]).args([
        place.path("spool"),
        place.path("certificate.pem"),
        place.path("key.pem"),
    ]));
    let script = "mount --bind \"$0/passwd\" /etc/passwd && mount --bind \"$0/group\" /etc/group && exec \"$1\" -C \"$0/exim.conf\" -bdf";
    let mut command = program("unshare", "util-linux");
    command.args(["-m", "sh", "-c", script]).arg(&place.dir).arg(exim);
    let exim = Running::start(command.stderr(fs::File::create(place.path("exim.log")).unwrap()));
    wait_until("Exim listens", SOON, || log(place).contains("daemon started"));
    Some(exim)
}

pub(super) fn log(place: &Place) -> String {
    fs::read_to_string(place.path("spool/mainlog")).unwrap_or_default()
}

/// Exim as an MX host with STARTTLS: messages arrive, with any certificate and with a verified one, by both logs.
#[test]
fn exim_as_mx_host() {
    // Its account must be able to pass through.
    let place = Place::open();
    certificate(&place, "mx.far.test");
    let Some(_exim) = start(&place, &Extra::default()) else { return };
    let _dns = place.dns_of_far();
    for (number, (policy, verdict)) in
        [("opportunistic", "unverified"), ("required", "verified")].into_iter().enumerate()
    {
        let ca = if policy == "required" {
            place.path("certificate.pem").display().to_string()
        } else {
            String::new()
        };
        place.configure(&format!(
            "relay.tls = \"{policy}\"\nrelay.ca_file = \"{ca}\"\nqueue.retry = \"1h\"\n"
        ));
        let daemon = place.serve();
        let message = format!("From: a@box.test\r\nSubject: =?utf-8?q?voll?= {number}\r\n\r\n{BODY}\r\n");
        send(place.port, "a@box.test", "them@far.test", message.as_bytes());
        place.wait_for_empty_queue(SOON);
        let tls = format!("tls={verdict}");
        assert_eq!(place.logged(&["event=connected relay=mx.far.test", &tls]).len(), 1, "{}", place.log());
        assert_eq!(place.logged(&["event=delivered", "to=them@far.test", " OK id="]).len(), number + 1);
        daemon.stop();
    }
    // Body and header section are separate files; the first line of a body is its name.
    let spooled = |end: &str| -> Vec<String> {
        let spool = files(&place.path("spool/input"));
        let texts = spool.iter().filter(|path| path.to_str().unwrap().ends_with(end));
        texts.map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    let (bodies, headers) = (spooled("-D"), spooled("-H"));
    assert_eq!((bodies.len(), headers.len()), (2, 2), "{}", log(&place));
    for (number, (body, header)) in bodies.iter().zip(&headers).enumerate() {
        assert_eq!(body.split_once('\n').unwrap().1, BODY.replace("\r\n", "\n") + "\n");
        assert!(header.contains(&format!("Subject: =?utf-8?q?voll?= {number}\n")), "{header}");
        assert!(header.contains("\n<a@box.test>\n") && header.contains("\nthem@far.test\n"), "{header}");
    }
    let log = log(&place);
    let received =
        log.lines().filter(|line| line.contains(" <= a@box.test H=") && line.contains("P=esmtps X=TLS1.3"));
    assert_eq!(received.count(), 2, "{log}");
}

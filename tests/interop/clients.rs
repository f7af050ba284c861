use super::client::send;
use super::harness::{Place, program, python, run};
use std::fs;
use std::process::Stdio;

const BODY: &str = "a line\n.a line with a dot\n\nGrüße\n";

fn served() -> (Place, super::harness::Daemon) {
    let place = Place::new();
    place.configure("");
    let daemon = place.serve();
    (place, daemon)
}

/// The only message of a user; it must end with this text.
fn arrived(place: &Place, user: &str, end: &str) -> String {
    let mail = place.wait_for_mail(user, 1);
    let text = String::from_utf8(mail[0].clone()).unwrap();
    assert!(text.trim_end().ends_with(end.trim_end()), "{text}");
    text
}

#[test]
fn swaks() {
    let (place, _daemon) = served();
    let mut command = program("swaks", "swaks");
    command.args(["--server", "127.0.0.1", "--port", &place.port.to_string(), "--pipeline"]);
    command.args([
        "--from",
        "s@y.test",
        "--to",
        "one@box.test,two@box.test",
        "--h-Subject",
        "from swaks",
        "--body",
        "hello",
    ]);
    run(&mut command);
    for user in ["one", "two"] {
        assert!(arrived(&place, user, "hello").contains("Subject: from swaks\n"));
    }
    let mut command = program("swaks", "swaks");
    command.args([
        "--server",
        "127.0.0.1",
        "--port",
        &place.port.to_string(),
        "--protocol",
        "SMTP",
        "--to",
        "old@box.test",
    ]);
    run(command.args(["--body", "by HELO"]));
    assert!(arrived(&place, "old", "by HELO").contains(" with SMTP id "));
}

#[test]
fn curl() {
    let (place, _daemon) = served();
    let file = place.write("message", &format!("Subject: from curl\r\n\r\n{}", BODY.replace('\n', "\r\n")));
    let mut command = program("curl", "curl");
    command.args(["--silent", "--show-error", &format!("smtp://127.0.0.1:{}/client.test", place.port)]);
    command.args(["--mail-from", "s@y.test", "--mail-rcpt", "u@box.test", "--upload-file"]).arg(file);
    run(&mut command);
    assert!(arrived(&place, "u", BODY).contains("\nSubject: from curl\n"));
}

#[test]
fn python_smtplib() {
    let (place, _daemon) = served();
    let script = r#"
import smtplib, sys
from email import policy
from email.message import EmailMessage
m = EmailMessage()
m["From"], m["To"], m["Subject"] = "s@y.test", "u@box.test, v@box.test", "from Python"
m.set_content(sys.argv[2], cte="8bit")
with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as s:
    assert s.send_message(m) == {}
    assert s.has_extn("pipelining") and s.has_extn("size") and s.has_extn("8bitmime") and s.has_extn("enhancedstatuscodes")
    assert s.verify("u")[0] == 252 and s.expn("u")[0] == 502 and s.noop()[0] == 250 and s.help()
    m["Bcc"] = "w@box.test"
    refused = s.sendmail("s@y.test", ["w@box.test", "no one@box.test"], m.as_bytes(policy=policy.SMTP))
    assert list(refused) == ["no one@box.test"], refused
    m.set_content("x" * 30000000)
    try:
        s.send_message(m)
        raise SystemExit("too large, and taken")
    except smtplib.SMTPResponseException as e:
        assert e.smtp_code == 552, e
"#;
    python(script, &[&place.port.to_string(), BODY]);
    for user in ["u", "v", "w"] {
        arrived(&place, user, BODY);
    }
    assert!(!arrived(&place, "w", BODY).contains("Bcc"), "own mail loses its Bcc");
}

#[test]
fn msmtp() {
    let (place, _daemon) = served();
    let mut command = program("msmtp", "msmtp");
    command.args([
        "--host=127.0.0.1",
        &format!("--port={}", place.port),
        "--from=s@y.test",
        "--tls=off",
        "--auth=off",
    ]);
    command.args(["--", "u@box.test"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let text = format!("Subject: from msmtp\n\n{BODY}");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    arrived(&place, "u", BODY);
}

/// Sends two messages, the second with lines that look like the beginning of another one; returns the Maildir.
fn two_messages(place: &Place) -> String {
    for (subject, body) in [("first", "one"), ("second", "From x\r\n>From y\r\n.\r\ntwo")] {
        let content = format!(
            "From: s@y.test\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\nSubject: {subject}\r\n\r\n{body}\r\n"
        );
        send(place.port, "s@y.test", "u@box.test", content.as_bytes());
    }
    place.path("mail/u").display().to_string()
}

#[test]
fn mutt_reads_the_maildir() {
    let (place, _daemon) = served();
    let maildir = two_messages(&place);
    let out = place.path("out");
    // Otherwise mutt asks whether to make it, and takes the test's keys for the answer.
    fs::create_dir(place.path("Mail")).unwrap();
    let settings = "set sleep_time=0; set pipe_split=no; set pipe_decode=no; set quit=yes; set wait_key=no";
    let pipe = format!("<pipe-message>cat >> {}<enter>", out.display());
    let keys = format!("push \"<first-entry>{pipe}<last-entry>{pipe}<quit>\"");
    // mutt needs a terminal, which script(1) provides. Its input stays open: the end of input would reach mutt as a key.
    let mut command = program("timeout", "coreutils");
    command.args(["30", "script", "--quiet", "--return", "--command"]);
    let mutt = program("mutt", "mutt").get_program().display().to_string();
    command.arg(format!("{mutt} -n -F /dev/null -e '{settings}' -e '{keys}' -f {maildir}")).arg("/dev/null");
    command.env("TERM", "xterm").env("HOME", &place.dir);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let input = child.stdin.take();
    assert!(child.wait().unwrap().success());
    drop(input);
    let text = fs::read_to_string(out).unwrap();
    for part in [
        "Return-Path: <s@y.test>\n",
        "Delivered-To: u@box.test\n",
        "Subject: first\n",
        "\none\n",
        "Subject: second\n",
        "\nFrom x\n>From y\n.\ntwo\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in what mutt has read:\n{text}");
    }
    assert_eq!(fs::read_dir(format!("{maildir}/new")).unwrap().count(), 0, "mutt has moved both to cur");
}

#[test]
fn dovecot_reads_the_maildir() {
    // Dovecot reads no mail of root: pillarbox becomes another user, who must be able to reach the directory.
    let is_root = rustix::process::geteuid().is_root();
    let place = if is_root { Place::open() } else { Place::new() };
    let (mut uid, mut gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    fs::create_dir(place.path("mail")).unwrap();
    if is_root {
        let nobody = pillarbox::sys::user::find("nobody").unwrap().unwrap();
        (uid, gid) = (nobody.uid, nobody.gid);
        std::os::unix::fs::chown(place.path("mail"), Some(uid), Some(gid)).unwrap();
        place.configure("user = \"nobody\"\n");
    } else {
        place.configure("");
    }
    let _daemon = place.serve();
    let maildir = two_messages(&place);
    let d = place.dir.display();
    let config = place.write(
        "dovecot.conf",
        &format!(
            "base_dir = {d}/dovecot\nlog_path = {d}/dovecot.log\nssl = no\nprotocols = imap\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
             mail_location = maildir:{maildir}\nmail_home = {d}\nmail_uid = {uid}\nmail_gid = {gid}\n"
        ),
    );
    let doveadm = |arguments: &[&str]| {
        let mut command = program("doveadm", "dovecot-core");
        command.arg("-c").arg(&config).args(arguments).env("USER", "root").env("HOME", &place.dir);
        String::from_utf8(run(&mut command).stdout).unwrap()
    };
    let text = doveadm(&["fetch", "text", "mailbox", "INBOX"]).replace("\r\n", "\n");
    for part in ["Subject: first\n", "\none\n", "Subject: second\n", "\nFrom x\n>From y\n.\ntwo\n"] {
        assert!(text.contains(part), "{part:?} is not in what Dovecot has read:\n{text}");
    }
    // The size in the file name must be correct: Dovecot relies on it.
    let sizes = doveadm(&["-f", "tab", "fetch", "size.physical", "mailbox", "INBOX"]);
    let mut reported: Vec<u64> = sizes.lines().skip(1).map(|line| line.trim().parse().unwrap()).collect();
    let files = ["cur", "new"].map(|dir| super::harness::files(&place.path("mail/u").join(dir))).concat();
    let mut there: Vec<u64> = files.iter().map(|path| path.metadata().unwrap().len()).collect();
    reported.sort_unstable();
    there.sort_unstable();
    assert_eq!(reported, there);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let size = name.split(",S=").nth(1).unwrap().split([':', ',']).next().unwrap();
        assert_eq!(size, path.metadata().unwrap().len().to_string(), "{name}");
    }
    // Dovecot also sees mail that arrives after it has indexed the Maildir.
    send(place.port, "s@y.test", "u@box.test", b"Subject: third\r\n\r\n");
    assert!(doveadm(&["fetch", "hdr", "mailbox", "INBOX"]).contains("Subject: third"));
    let log = fs::read_to_string(place.path("dovecot.log")).unwrap_or_default();
    assert!(!log.contains("Error") && !log.contains("Warning"), "{log}");
}

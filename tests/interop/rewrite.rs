use super::client::send;
use super::harness::{Place, SOON, files, free_port, python, wait_until};
use super::smarthost::{Authority, PASSWORD, Postfix, dovecot, password_file, place};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// The From of a message as Python parses it; Python shows an extra blank between encoded words.
const READ: &str = "
import email, email.policy, sys
m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
(a,) = m['From'].addresses
print(m['Return-Path'], '|', ' '.join(a.display_name.split()), '|', a.addr_spec, '|', m.get_all('Sender'), '|', m['X-Original-From'], '|', m['Subject'])
";

/// A smarthost that accepts only the login's own address as sender, as providers do: mail of cron, mail of a device with
/// an address of its own, a notice; only the login and the smarthost are configured.
#[test]
fn a_smarthost_that_knows_whose_address_it_is_takes_all_mail_of_this_host() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "smart", &["smart.test"], 30);
    let _dovecot = dovecot(&place);
    let port = free_port();
    let strict = "-o smtpd_sasl_auth_enable=yes -o smtpd_tls_security_level=encrypt \
        -o smtpd_sender_login_maps=inline:{joe@smart.test=joe@smart.test} \
        -o smtpd_sender_restrictions=reject_sender_login_mismatch";
    let postfix = Postfix::start(&place, &[(port, "smart", strict)]);
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let file = password_file(&place, PASSWORD);
    let settings = format!(
        "relay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.username = \"joe@smart.test\"\n\
         relay.password_file = {file:?}\nrelay.ca_file = \"{}\"\nadmin = \"them@far.test\"\n\
         relay.routes = {{ \"no.test\" = \"error:5.1.2 no mail there\", \"bad.test\" = \"smtp://127.0.0.1:1\" }}\n",
        place.path("ca.pem").display()
    );
    place.configure(&settings);
    let daemon = place.serve();
    let mut sendmail = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    sendmail
        .args(["sendmail", "-i", "-FCronDaemon", "root"])
        .env("PILLARBOX_CONFIG", place.path("pillarbox.toml"));
    let mut child = sendmail.stdin(Stdio::piped()).spawn().unwrap();
    let cron = b"From: root (Cron Daemon)\nTo: root\nSubject: cron\n\noutput\n";
    child.stdin.take().unwrap().write_all(cron).unwrap();
    assert!(child.wait().unwrap().success());
    let device = "From: =?utf-8?Q?K=C3=BChler?= <nas@nas.test>\r\nSender: x@nas.test\r\nSubject: device\r\n\r\n.\r\nhot\r\n";
    send(place.port, "nas@nas.test", "them@far.test", device.as_bytes());
    let inbox = place.path("inbox/them/new");
    wait_until("both have arrived", SOON, || files(&inbox).len() == 2);
    // The bounce goes to the sender, who is elsewhere.
    send(place.port, "them@far.test", "x@bad.test", b"Subject: late\r\n\r\nx\r\n");
    place.wait_for_log(&["event=deferred", "to=x@bad.test"]);
    let id = Command::new(env!("CARGO_BIN_EXE_pillarbox"))
        .args([
            "-c".as_ref(),
            place.path("pillarbox.toml").as_os_str(),
            "queue".as_ref(),
            "bounce".as_ref(),
            "all".as_ref(),
        ])
        .output()
        .unwrap();
    assert!(id.status.success(), "{id:?}");
    wait_until("the notice has arrived", SOON, || files(&inbox).len() == 3);
    daemon.stop();
    postfix.wait_for_log(&["sasl_username=joe@smart.test"], 3);
    let mut read: Vec<String> =
        files(&inbox).iter().map(|file| python(READ, &[file.to_str().unwrap()]).trim().to_owned()).collect();
    read.sort();
    assert_eq!(
        read,
        [
            "<> | Mail Delivery System (MAILER-DAEMON on box) | joe@smart.test | None | \
             Mail Delivery System <MAILER-DAEMON@box.test> | Undelivered mail: x@bad.test",
            "<joe@smart.test> | Cron Daemon (root on box) | joe@smart.test | None | root@box.test (Cron Daemon) | cron",
            "<joe@smart.test> | Kühler (nas at nas.test) | joe@smart.test | None | Kühler <nas@nas.test> | device",
        ]
    );
    let arrived = files(&inbox).into_iter().map(|file| fs::read_to_string(file).unwrap());
    assert!(arrived.into_iter().any(|text| text.ends_with("\n\n.\nhot\n")));
}

/// A message as Python parses it: it must be ASCII in short lines, with each field once.
const FIT: &str = "
import email, email.policy, json, sys
octets = open(sys.argv[1], 'rb').read()
assert octets.isascii() and b'\\0' not in octets, octets
assert all(len(line) <= 998 for line in octets.split(b'\\n')), octets
m = email.message_from_bytes(octets, policy=email.policy.default)
for name in ['Date', 'Message-ID', 'From', 'To', 'Subject', 'MIME-Version', 'Content-Type']:
    assert len(m.get_all(name, [])) == 1, (name, octets)
assert not m['Bcc'] and m['Date'].datetime, octets
parts = [(p.get_filename(), p.get_content()) for p in m.walk() if not p.is_multipart()]
words = lambda text: ' '.join(str(text).split())
to = [[words(a.display_name), a.addr_spec] for a in m['To'].addresses]
print(json.dumps([words(m['Subject']), to, words(m['X-Host'] or ''), [[n, (c if isinstance(c, str) else c.decode('utf-16')).strip()] for n, c in parts]], ensure_ascii=False))
";

/// Mail of scripts and devices, by sendmail and by SMTP, to a host that knows neither 8BITMIME nor SMTPUTF8.
#[test]
fn own_mail_is_fit_for_a_host_that_takes_ascii_alone() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&["-8"]));
    place.configure("");
    let daemon = place.serve();
    let words = "word ".repeat(400);
    let many: Vec<String> = (0..60).map(|i| format!("recipient{i}@example.org")).collect();
    let text = "[[null, \"x\"]]";
    let to = "[[\"\", \"a@example.org\"]]";
    let addresses: Vec<String> = many.iter().map(|address| format!("[\"\", \"{address}\"]")).collect();
    let utf16 = "MIME-Version: 1.0\nTo: a@example.org\nSubject: utf16\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
                 Content-Type: application/x-log; name=\"ä.log\"\nContent-Disposition: attachment; filename=\"ä.log\"\n\n";
    let inputs: Vec<(Vec<u8>, String)> = vec![
        (
            "To: a@example.org\nSubject: Sicherung läuft nicht\nX-Host: Büro\n\nx\n".into(),
            format!("[\"Sicherung läuft nicht\", {to}, \"Büro\", {text}]"),
        ),
        (
            b"To: a@example.org\nSubject: L\xfcfter defekt\n\nx\n".to_vec(),
            format!("[\"Lüfter defekt\", {to}, \"\", {text}]"),
        ),
        (
            "To: \"Müller, Jürgen\" <a@example.org>\nSubject: für\n\nfür\n".into(),
            "[\"für\", [[\"Müller, Jürgen\", \"a@example.org\"]], \"\", [[null, \"für\"]]]".into(),
        ),
        (
            format!("To: a@example.org\nSubject: {words}\n\nx\n").into(),
            format!("[\"{}\", {to}, \"\", {text}]", words.trim_end()),
        ),
        (
            format!("To: {}\nSubject: many\n\nx\n", many.join(", ")).into(),
            format!("[\"many\", [{}], \"\", {text}]", addresses.join(", ")),
        ),
        (
            "To: a@example.org\nTo: b@example.org\nSubject: two\nSubject: three\nBcc: c@example.org\n\nx\n"
                .into(),
            format!("[\"two\", [[\"\", \"a@example.org\"], [\"\", \"b@example.org\"]], \"\", {text}]"),
        ),
        (
            "To: a@example.org\nDate:\nMessage-ID:\nSubject: t\n\nx\n".into(),
            format!("[\"t\", {to}, \"\", {text}]"),
        ),
        (
            [utf16.as_bytes(), b"\xff\xfef\0\xfc\0r\0\n--b--\n"].concat(),
            format!("[\"utf16\", {to}, \"\", [[\"ä.log\", \"für\"]]]"),
        ),
    ];
    let mut expected = Vec::new();
    for (message, read) in inputs {
        let mut sendmail = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        sendmail
            .args(["sendmail", "-i", "them@far.test"])
            .env("PILLARBOX_CONFIG", place.path("pillarbox.toml"));
        let mut child = sendmail.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&message).unwrap();
        assert!(child.wait().unwrap().success());
        let mut wire = Vec::new();
        pillarbox::smtp::data::encode_chunk(&message, &mut wire);
        send(place.port, "nas@nas.test", "them@far.test", &wire);
        expected.extend([read.clone(), read]);
    }
    place.wait_for_empty_queue(SOON);
    daemon.stop();
    let sunk = files(&place.path("sink"));
    let mut read: Vec<String> =
        sunk.iter().map(|file| python(FIT, &[file.to_str().unwrap()]).trim().to_owned()).collect();
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
}

use super::client::send;
use super::harness::{SOON, files, free_port, python, wait_until};
use super::smarthost::{Authority, PASSWORD, Postfix, dovecot, password_file, place};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// Who a message is from, as Python reads it, which shows a blank too much between encoded words.
const READ: &str = "
import email, email.policy, sys
m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
(a,) = m['From'].addresses
print(m['Return-Path'], '|', ' '.join(a.display_name.split()), '|', a.addr_spec, '|', m.get_all('Sender'), '|', m['X-Original-From'], '|', m['Subject'])
";

/// A smarthost that takes from each login its own address alone, as providers do: what cron says, what a device says with
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
    // What can't be delivered any more is told to its sender, who is elsewhere.
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

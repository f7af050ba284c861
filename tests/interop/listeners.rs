use super::client::Client;
use super::harness::{Place, SOON, free_port, program, run, wait_until};
use std::process::{Output, Stdio};

/// nodemailer and PHPMailer use STARTTLS where it is offered, and check the certificate: with a self-signed one on
/// loopback they would send nothing.
#[test]
fn nodemailer_and_phpmailer_send_with_their_defaults() {
    const NODE: &str = r#"
const nodemailer = require("nodemailer");
nodemailer.createTransport({ host: "127.0.0.1", port: Number(process.argv[1]) })
    .sendMail({ from: "s@y.test", to: "node@box.test", subject: "hi", text: "from nodemailer" })
    .catch(error => { console.error(error); process.exit(1); });
"#;
    const PHP: &str = r#"
require "/usr/share/php/libphp-phpmailer/autoload.php";
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = "127.0.0.1";
$mail->Port = (int) $argv[1];
$mail->setFrom("s@y.test");
$mail->addAddress("php@box.test");
$mail->Subject = "hi";
$mail->Body = "from PHPMailer";
$mail->send();
"#;
    let place = Place::new();
    place.configure("");
    let _daemon = place.serve();
    let port = place.port.to_string();
    // Debian's node searches that directory by default, others do not.
    let mut node = program("node", "nodejs");
    run(node.env("NODE_PATH", "/usr/share/nodejs").args(["-e", NODE, &port]));
    run(program("php", "php-cli").args(["-r", PHP, "--", &port]));
    for (user, body) in [("node", "from nodemailer"), ("php", "from PHPMailer")] {
        let mail = String::from_utf8(place.wait_for_mail(user, 1).remove(0)).unwrap();
        assert!(mail.trim_end().ends_with(body) && mail.contains(" with ESMTP id "), "{mail}");
    }
}

/// Makes the handshake of an old device: with only this version or suite.
fn s_client(port: u16, options: &[&str]) -> Output {
    let mut command = program("openssl", "openssl");
    command.args(["s_client", "-starttls", "smtp", "-connect", &format!("127.0.0.1:{port}")]);
    command.args(options).stdin(Stdio::null()).output().unwrap()
}

const OLD: [&[&str]; 4] = [
    &["-tls1", "-cipher", "AES128-SHA:@SECLEVEL=0"],
    &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
    &["-tls1_2", "-cipher", "AES256-SHA:@SECLEVEL=0"],
    &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256:@SECLEVEL=0"],
];
const NEW: [&[&str]; 3] = [
    &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
    &["-tls1_3"],
    &["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"],
];

#[test]
fn old_devices_of_trusted_networks_have_old_tls_and_strangers_have_not() {
    let place = Place::new();
    let port = free_port();
    let configure = |trusted: &str| {
        place.configure(&format!(
            "relay.trusted_networks = \"{trusted}\"\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n\
             tls = \"require\"\ntls_minimum = \"1.0\"\n"
        ));
    };
    let shakes = |options: &[&str]| {
        let output = s_client(port, options);
        let text = String::from_utf8_lossy(&output.stdout);
        (text.contains("-----BEGIN CERTIFICATE"), format!("{options:?}: {output:?}"))
    };
    configure("127.0.0.0/8");
    let daemon = place.serve();
    place.wait_for_rsa_key();
    for options in OLD.iter().chain(&NEW) {
        let (works, reported) = shakes(options);
        assert!(works, "{reported}");
    }
    configure("192.0.2.0/24");
    daemon.signal("HUP");
    wait_until("the configuration is read again", SOON, || {
        !place.logged(&["configuration read again"]).is_empty()
    });
    for options in OLD {
        let (works, reported) = shakes(options);
        assert!(!works, "{reported}");
    }
    for options in NEW {
        let (works, reported) = shakes(options);
        assert!(works, "{reported}");
    }
    let mut sslscan = program("sslscan", "sslscan");
    sslscan.args(["--no-colour", "--no-heartbleed", "--starttls-smtp", &format!("127.0.0.1:{port}")]);
    let found = String::from_utf8(run(&mut sslscan).stdout).unwrap();
    for version in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
        let is_off = |line: &str| line.starts_with(version) && line.trim_end().ends_with("disabled");
        assert!(found.lines().any(is_off), "{version}: {found}");
    }
    let accepted = found.lines().filter(|line| line.starts_with("Accepted") || line.starts_with("Preferred"));
    let names: Vec<&str> = accepted.filter_map(|line| line.split_whitespace().nth(4)).collect();
    assert!(!names.is_empty(), "{found}");
    for name in names {
        assert!(name.contains("GCM") || name.contains("CHACHA20"), "{found}");
    }
}

#[test]
fn a_camera_that_must_log_in_says_anything_in_clear() {
    let place = Place::new();
    let port = free_port();
    place.configure(&format!(
        "[[listener]]\naddress = \"127.0.0.1:{port}\"\nauth = \"any\"\nproxy_protocol = true\n"
    ));
    let _daemon = place.serve();
    let mut cameras = Vec::new();
    for (from, is_trusted) in [("127.0.0.9", true), ("192.0.2.9", false)] {
        let mut client = Client::connect(port).unwrap();
        client.write(format!("PROXY TCP4 {from} 192.0.2.1 4000 25\r\n").as_bytes()).unwrap();
        client.expect("220").unwrap();
        let offered = client.command("EHLO cam").unwrap();
        assert_eq!(offered.contains("AUTH PLAIN LOGIN"), is_trusted, "{offered}");
        cameras.push(client);
    }
    cameras[0].log_in(("cam\r\nevent=\"x", "whatever")).unwrap();
    assert!(
        cameras[0]
            .send("cam@y.test", &["u@box.test"], b"Subject: x\r\n\r\nx\r\n")
            .unwrap()
            .starts_with("250")
    );
    assert!(cameras[1].log_in(("cam", "cam")).unwrap_err().to_string().starts_with("502 5.5.1"));
    place.wait_for_log(&["event=accepted", "client=127.0.0.9", " auth=unchecked"]);
    let mail = String::from_utf8(place.wait_for_mail("u", 1).remove(0)).unwrap();
    assert!(mail.contains(" with ESMTP id "), "nobody has proved who it is: {mail}");
}

use super::client::Client;
use super::dkimpy::{has_dkimpy, verify};
use super::harness::{LATER, Place, program, run};
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use pillarbox::mail::base64;
use std::os::unix::fs::PermissionsExt;

/// From a client through the queue to smtp-sink, then to dkimpy and OpenDKIM: the signatures verify on arrival.
#[test]
fn what_arrives_has_signatures_that_others_take() {
    if !has_dkimpy() {
        return;
    }
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    let keys = [PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(), PKey::generate_ed25519().unwrap()];
    let mut config = String::from("limits.connections = 100\n");
    for (i, key) in keys.iter().enumerate() {
        let file = place.write(
            &format!("key{i}"),
            std::str::from_utf8(&key.private_key_to_pem_pkcs8().unwrap()).unwrap(),
        );
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        config += &format!("[[dkim]]\ndomain = \"example.com\"\nselector = \"s{i}\"\nkey = {file:?}\n");
    }
    config.insert_str(0, "rewrite.senders = { \"root@box.example.com\" = \"alerts@example.com\" }\n");
    place.configure(&config);
    let daemon = place.serve();
    let body = "..dot\r\n \tblanks  \there \r\n\r\n".repeat(20_000);
    for (user, body) in
        ["root", "joe"].iter().flat_map(|user| ["short\r\n", "", "\r\n\r\n", &body].map(|it| (user, it)))
    {
        let mut client = Client::hello(place.port).unwrap();
        for command in ["MAIL FROM:<root@box.example.com>", "RCPT TO:<them@far.test>", "DATA"] {
            client.write(format!("{command}\r\n").as_bytes()).unwrap();
            client.expect(if command == "DATA" { "354" } else { "250" }).unwrap();
        }
        let header = format!("From: {user} <{user}@box.example.com>\r\nSubject: a\r\n  folded\tone\r\n");
        client.write(format!("{header}\r\n{body}.\r\n").as_bytes()).unwrap();
        client.expect("250").unwrap();
    }
    place.wait_for_empty_queue(LATER);
    let ed25519 = base64::encode(&keys[1].raw_public_key().unwrap());
    let records = [
        format!("v=DKIM1; p={}", base64::encode(&keys[0].public_key_to_der().unwrap())),
        format!("v=DKIM1; k=ed25519; p={ed25519}"),
    ];
    let keys = records.iter().enumerate();
    let keys: String = keys.map(|(i, record)| format!("s{i}._domainkey.example.com {record}\n")).collect();
    let opendkim = OpenDkim::new(&place, &keys);
    let sunk = place.sunk();
    assert_eq!(sunk.len(), 8, "{}", place.log());
    let is_rewritten = |file: &&Vec<u8>| {
        String::from_utf8_lossy(file).contains("<alerts@example.com>\nX-Original-From: root ")
    };
    assert_eq!(sunk.iter().filter(is_rewritten).count(), 4);
    for file in sunk {
        let text = String::from_utf8(file).unwrap();
        let (_, message) = text.split_at(text.find("DKIM-Signature:").unwrap());
        assert_eq!(verify(message, &records), ["True"; 2], "{}", message.get(..2000).unwrap_or(message));
        let reported = opendkim.verify(message);
        assert_eq!(
            (reported.matches("dkim=pass").count(), reported.matches("dkim=fail").count()),
            (2, 0),
            "{reported}"
        );
        let reported = opendkim.verify(&message.replace("folded", "changed"));
        assert_eq!(
            (reported.matches("dkim=pass").count(), reported.matches("dkim=fail").count()),
            (0, 2),
            "{reported}"
        );
    }
    daemon.stop();
    assert_eq!(place.logged(&["event=trouble"]), [""; 0]);
}

/// OpenDKIM, with a file in place of DNS.
struct OpenDkim<'a>(&'a Place);

impl<'a> OpenDkim<'a> {
    fn new(place: &'a Place, keys: &str) -> Self {
        let keys = place.write("opendkim.keys", keys);
        let keys = keys.display();
        place.write(
            "opendkim.conf",
            &format!("TestPublicKeys {keys}\nMode v\nAlwaysAddARHeader yes\nSyslog no\n"),
        );
        Self(place)
    }

    /// The Authentication-Results of a message with LF line ends.
    fn verify(&self, message: &str) -> String {
        let file = self.0.write("opendkim.message", &message.replace('\n', "\r\n"));
        let mut command = program("opendkim", "opendkim");
        let output = run(command.arg("-x").arg(self.0.path("opendkim.conf")).arg("-vvv").arg("-t").arg(file));
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

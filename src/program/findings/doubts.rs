//! Whether mail would get where it has to: what the settings mean together, on this host, for those whom they name.
//!
//! What loses the first alert is told before it is written. What can't work is a problem; what may be meant so is a
//! warning.

use super::report::CheckReport;
use crate::config::{Addressee, Place, Places, Problem, is_like};
use crate::engine::host::aliases::Doubt;
use crate::engine::host::site::{Site, hostname_flaw};
use crate::engine::inbound::listener;
use crate::mail::address::{ForwardPath, Mailbox};
use crate::mail::unqualified::Unqualified;
use crate::rules::routing::route::{Destination, NoRoute, Routed, Users};
use crate::sys::user;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;

/// A trusted network with a shorter prefix holds more hosts than anybody knows.
const PREFIX_MIN: (u8, u8) = (8, 16);

/// Looks at all of it.
pub fn look(site: &Site, places: &Places, found: &mut CheckReport) {
    hostname(site, places, found);
    users(site, places, found);
    root(site, places, found);
    let (admin, catch_all) = (&site.settings.admin, &site.settings.local.catch_all);
    for (table, key, addressee) in [("", "admin", admin), ("local", "catch_all", catch_all)] {
        if let Some(addressee) = addressee {
            stand_in(site, places, (places.of(table, key), addressee), found);
        }
    }
    aliases(site, found);
    login(site, places, found);
    networks(site, places, found);
    listeners(site, places, found);
}

/// A name that hosts refuse in EHLO, and as the domain of a sender. One without a dot is what many boxes have, and no matter
/// where all senders are rewritten.
fn hostname(site: &Site, places: &Places, found: &mut CheckReport) {
    let name = site.hostname.to_string();
    let Some(flaw) = hostname_flaw(&site.hostname) else { return };
    if name.contains('.') || site.rewrite.is_idle() {
        let text = format!(
            "the hostname {name:?} {flaw}: EHLO says an address literal, and not all hosts take mail of such a domain; \
             write a name such as \"box.example.org\""
        );
        found.warn(places.of("", "hostname"), text);
    }
}

/// A word for users that is none of those that are known is a user's name.
fn users(site: &Site, places: &Places, found: &mut CheckReport) {
    let Users::Named(names) = &site.settings.local.users else { return };
    let [name] = names.as_slice() else { return };
    let Some(word) = ["system", "any"].into_iter().find(|word| is_like(name, word)) else { return };
    if user::find(name).is_ok_and(|account| account.is_some()) {
        return;
    }
    let text = format!("{name:?} is the only user with a mailbox; did you mean \"{word}\"?");
    let place = places.of("local", "users");
    // Somebody may well be called Ann.
    if word == "any" { found.warn(place, text) } else { found.problem(place, text) }
}

/// Cron and its like write to root.
fn root(site: &Site, places: &Places, found: &mut CheckReport) {
    let Ok(root) = Unqualified::parse("root") else { return };
    let path = root.forward_path(site.routes.home());
    if site.settings.admin.is_none() && matches!(site.route(&path), Err(NoRoute::UnknownUser)) {
        let text = "nobody gets the mail for root; write admin = \"me@example.com\"";
        found.warn(places.of("local", "users"), text.to_owned());
    }
}

/// `admin` and `catch_all`: somebody whom mail reaches, and where.
fn stand_in(site: &Site, places: &Places, of: (Option<Place>, &Addressee), found: &mut CheckReport) {
    let (place, addressee) = of;
    let mailbox = match addressee {
        Addressee::Mailbox(mailbox) => mailbox.clone(),
        Addressee::User(name) => match Mailbox::parse(&format!("{name}@{}", site.hostname)) {
            Ok(mailbox) => mailbox,
            Err(_) => return,
        },
    };
    match site.route(&ForwardPath::Mailbox(mailbox.clone())) {
        Ok(Routed { leaves: true, .. }) => found.warn(place, leaves(site, &mailbox)),
        Ok(Routed { destination: Destination::Maildir(user), .. })
            if matches!(addressee, Addressee::Mailbox(_))
                && places.of("local", "domains").is_none()
                && !site.settings.relay.smarthost.is_empty() =>
        {
            let text = format!(
                "mail for {mailbox} stays here, with the user {:?}, as its domain is local; if the mailbox is elsewhere, \
                 {}",
                user.name,
                cure(site)
            );
            found.warn(place, text);
        }
        Ok(_) | Err(NoRoute::LookupFailed(_)) => {}
        Err(NoRoute::UnknownUser) => {
            let text = format!(
                "nobody here is called {:?}, so their mail is lost; write an address such as \"me@example.com\", or a user \
                 with a mailbox",
                mailbox.local_part.as_str()
            );
            found.problem(place, text);
        }
        Err(NoRoute::Refused(_, text)) => {
            found.problem(place, format!("mail for {mailbox} goes nowhere: {text}; write another address"));
        }
    }
}

/// What is said of an address in a local domain that nobody here has.
fn leaves(site: &Site, mailbox: &Mailbox) -> String {
    let way = match site.settings.relay.smarthost.first() {
        Some(host) => format!("by {host}"),
        None => "by the MX hosts of its domain".to_owned(),
    };
    format!(
        "nobody here has the address {mailbox}, though its domain is local: it leaves {way}; {}",
        cure(site)
    )
}

/// What keeps a domain from being local.
fn cure(site: &Site) -> String {
    let why = match &site.settings.hostname {
        Some(_) => "hostname",
        None => "hostname, which is taken from /etc/mailname or the system,",
    };
    format!(
        "set {why} to a name that this host alone has, or list in local.domains the domains whose mail stays here"
    )
}

/// Where aliases lead.
fn aliases(site: &Site, found: &mut CheckReport) {
    let Some(path) = site.settings.local.aliases.as_deref() else { return };
    for (name, line, doubt) in site.alias_doubts() {
        let place = Some(Place { line, column: 1 });
        let problem = |text| Problem { file: path.display().to_string(), place, text };
        match doubt {
            Doubt::Loop(text) => found.problems.push(problem(format!("{text}; take one of its names out"))),
            Doubt::Unknown(mailbox) => {
                let text =
                    format!("{name:?} leads to {mailbox}, and nobody here is called so; correct the name");
                found.warnings.push(problem(text));
            }
            Doubt::Nobody => {
                let text = format!("{name:?} leads to nobody here; correct the names behind it");
                found.warnings.push(problem(text));
            }
            Doubt::Leaves(mailbox) => found.warnings.push(problem(leaves(site, &mailbox))),
        }
    }
}

/// Whom the smarthost knows, and as whom mail leaves.
fn login(site: &Site, places: &Places, found: &mut CheckReport) {
    let (relay, rewrite) = (&site.settings.relay, &site.settings.rewrite);
    let place = places.of("relay", "username");
    if relay.username.is_empty() {
        return;
    }
    if relay.smarthost.is_empty() {
        let text = "nobody logs in, as relay.smarthost is empty; name one, or take the name away";
        return found.problem(place, text.to_owned());
    }
    let says_sender = rewrite.from.is_some() || rewrite.domain.is_some() || !rewrite.senders.is_empty();
    if !says_sender && Mailbox::parse(&relay.username).is_err() {
        let text = format!(
            "this login is no address, so mail leaves as from root@{} and its like, which few such hosts take; write \
             rewrite.from = \"alerts@example.com\", an address that the account may send from",
            site.hostname
        );
        found.warn(place, text);
    }
}

/// All addresses are refused when they are read; half of them are hardly better.
fn networks(site: &Site, places: &Places, found: &mut CheckReport) {
    for network in &site.settings.relay.trusted_networks {
        let least = if network.address.is_ipv4() { PREFIX_MIN.0 } else { PREFIX_MIN.1 };
        if network.prefix < least {
            let text = format!("\"{network}\" lets strangers send by this host; write your own networks");
            found.warn(places.of("relay", "trusted_networks"), text);
        }
    }
}

/// Whether one stands for all addresses of the other's family, on the same port.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Whether the sockets could be opened. Those that the daemon has are taken.
fn listeners(site: &Site, places: &Places, found: &mut CheckReport) {
    let is_served = UnixStream::connect(&site.settings.control).is_ok();
    let mut before: Vec<SocketAddr> = Vec::new();
    for (i, listener) in site.settings.listeners.iter().enumerate() {
        for &address in &listener.address {
            let place = places.nth("listener", "address", i);
            // Many small systems have no IPv6.
            let is_optional = address.ip() == IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
            if let Some(other) = before.iter().find(|other| !is_optional && overlap(**other, address)) {
                let text = format!("\"{address}\" and \"{other}\" overlap; write one of them");
                found.problem(place, text);
            }
            before.push(address);
            match listener::open_socket(address).map_err(|error| error.kind()) {
                Err(ErrorKind::AddrNotAvailable | ErrorKind::InvalidInput) if !is_optional => {
                    let text = format!(
                        "no interface has the address of \"{address}\"; write one that this host has"
                    );
                    found.problem(place, text);
                }
                Err(ErrorKind::AddrInUse) if !is_served => {
                    let text = format!(
                        "\"{address}\" is taken, by another mail server perhaps; stop that, or write another port"
                    );
                    found.warn(place, text);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::examine;
    use super::super::report::CheckReport;
    use crate::sys::user::ProcessUser;
    use std::fs::{Permissions, create_dir_all, remove_dir_all, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    const SMART: &str = "relay.smarthost = \"smtp://smart.example\"\n";
    const HASH: &str =
        "$6$abc$IdWKNKTJEb8LxY7CGg8YBXlvtfZzFw7Mp/r6niK9YB2mdvgY..TKjv1T..8RadRt2qvUHYRLr/TsVArtr91iR1";

    /// How each line begins, and words in it.
    type Lines<'a> = &'a [(&'a str, &'a str)];

    struct Place(PathBuf);

    impl Place {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pillarbox-doubts-{test}-{}", std::process::id()));
            create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, octets: &[u8], mode: u32) {
            write(self.0.join(name), octets).unwrap();
            set_permissions(self.0.join(name), Permissions::from_mode(mode)).unwrap();
        }

        /// Checks a configuration for a box that is named like the mail domain, with one user; `keys` begin in line 7. Gives
        /// the lines, paths in them shortened to `D`.
        fn check(&self, keys: &str, user: Option<ProcessUser>) -> Vec<String> {
            let d = self.0.display().to_string();
            let name = if keys.contains("hostname =") { "" } else { "hostname = \"example.com\"" };
            let users = if keys.contains("local.users") { "" } else { "local.users = [\"alice\", \"root\"]" };
            let text = format!(
                "{name}\nstate = \"{d}/s\"\ncontrol = \"{d}/c.sock\"\nlocal.maildir = \"{d}/m/{{user}}\"\n\
                 local.aliases = \"{d}/aliases\"\n{users}\n{}",
                keys.replace("D/", &format!("{d}/"))
            );
            let text = if keys.contains("[[listener]]") {
                text
            } else {
                text + "\n[[listener]]\naddress = \"127.0.0.1:0\"\n"
            };
            self.file("f", text.as_bytes(), 0o644);
            let started_as = ProcessUser {
                uid: if user.is_none() { 0 } else { ProcessUser::own().uid },
                ..ProcessUser::own()
            };
            let CheckReport { problems, warnings, .. } =
                examine(&self.0.join("f"), &started_as, &|_| user.clone());
            let lines = warnings.iter().map(|it| format!("warning: {it}"));
            lines.chain(problems.iter().map(ToString::to_string)).map(|it| it.replace(&d, "D")).collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = remove_dir_all(&self.0);
        }
    }

    /// The lines begin so and say that, and there are no others.
    fn assert_told(told: &[String], expected: Lines<'_>, what: &str) {
        let is_right = |(line, (begin, words)): (&String, &(&str, &str))| {
            line.starts_with(begin) && line.contains(words)
        };
        assert!(
            told.len() == expected.len() && told.iter().zip(expected).all(is_right),
            "{what}\n{told:#?}\n{expected:#?}"
        );
    }

    #[test]
    fn what_would_lose_the_first_alert_is_told() {
        let away = ("warning: D/f:7:9: nobody here has the address me@example.com", "hostname to a name");
        let rows: &[(&str, &str, Lines<'_>)] = &[
            ("", "", &[]),
            ("", "admin = \"me@elsewhere.example\"\n", &[]),
            ("", "admin = \"me@example.com\"\n", &[away]),
            ("", "admin = \"alice@example.com\"\n", &[]),
            (
                "",
                &format!("admin = \"alice@example.com\"\n{SMART}"),
                &[("warning: D/f:7:9: mail for alice@example.com stays here", "local.domains")],
            ),
            (
                "",
                "local.catch_all = \"me@example.com\"\n",
                &[("warning: D/f:7:19: nobody here has the address me@example.com", "by the MX hosts")],
            ),
            ("", "admin = \"alice\"\n", &[]),
            (
                "",
                "admin = \"bob\"\n",
                &[("D/f:7:9: nobody here is called \"bob\"", "lost; write an address")],
            ),
            (
                "",
                "admin = \"me@gone.example\"\nrelay.routes = { \"gone.example\" = \"error:5.1.2 no mail there\" }\n",
                &[("D/f:7:9: mail for me@gone.example goes nowhere: no mail there", "write another")],
            ),
            (
                "",
                "local.users = [\"alice\"]\n",
                &[("warning: D/f:7:15: nobody gets the mail for root", "write admin")],
            ),
            (
                "root: alice, me@elsewhere.example\na: b\nb: a\n# x\nc: gone, alice\nd: me@example.com\n",
                "",
                &[
                    ("warning: D/aliases:5:1: \"c\" leads to gone@example.com", "correct"),
                    ("warning: D/aliases:6:1: nobody here has the address me@example.com", "local.domains"),
                    ("D/aliases:2:1: the alias \"a\" goes round in circles", "; take"),
                    ("D/aliases:3:1: the alias \"b\" goes round in circles", "; take"),
                ],
            ),
            (
                "d: gone, gone2\n",
                "",
                &[("warning: D/aliases:1:1: \"d\" leads to nobody here", "; correct the names")],
            ),
            (
                "",
                "local.users = \"sytem\"\nadmin = \"a@b.example\"\n",
                &[("D/f:7:15: ", "did you mean \"system\"?")],
            ),
            ("", "local.users = \"anny\"\nadmin = \"a@b.example\"\n", &[("warning: D/f:7:15: ", "\"any\"?")]),
            ("", "hostname = \"my_box.example.com\"\n", &[("warning: D/f:7:12: ", "underscore")]),
            ("", "hostname = \"12345\"\n", &[("warning: D/f:7:12: ", "ends in a number")]),
            ("", "hostname = \"box.17\"\n", &[("warning: D/f:7:12: ", "address literal")]),
            ("", "hostname = \"box\"\n", &[("warning: D/f:7:12: ", "has no dot")]),
            ("", "hostname = \"box\"\nrewrite.from = \"a@b.example\"\n", &[]),
            ("", "hostname = \"192.0.2.1\"\n", &[("D/f:7:12: ", "is not a host name")]),
            ("", "relay.username = \"joe\"\n", &[("D/f:7:18: nobody logs in", "relay.smarthost")]),
            (
                "",
                "relay.trusted_networks = [\"10.0.0.0/8\", \"0.0.0.0/1\"]\n",
                &[("warning: D/f:7:26: ", "strangers")],
            ),
            ("", "relay.trusted_networks = \"0.0.0.0/0\"\n", &[("D/f:7:26: ", "open relay")]),
            ("", "[[listener]]\naddress = \"192.0.2.1:25\"\n", &[("D/f:8:11: no interface has", "; write")]),
            ("", "[[listener]]\naddress = \"[fe80::1]:25\"\n", &[("D/f:8:11: no interface has", "; write")]),
            (
                "",
                "[[listener]]\naddress = [\"127.0.0.1:2587\", \"0.0.0.0:2587\"]\n",
                &[("D/f:8:11: \"0.0.0.0:2587\" and \"127.0.0.1:2587\" overlap", "; write")],
            ),
            (
                "",
                "local.domain = \"a.example\"\n",
                &[("D/f:7:7: ", "did you mean \"domains\"? `domain` belongs to [rewrite]")],
            ),
        ];
        let place = Place::new("told");
        for (aliases, keys, expected) in rows {
            place.file("aliases", aliases.as_bytes(), 0o644);
            assert_told(&place.check(keys, Some(ProcessUser::own())), expected, &format!("{aliases}{keys}"));
        }
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let keys = format!("[[listener]]\naddress = \"{}\"\n", taken.local_addr().unwrap());
        let told = place.check(&keys, Some(ProcessUser::own()));
        assert_told(&told, &[("warning: D/f:8:11: \"127.0.0.1:", "is taken")], "a port in use");
    }

    #[test]
    fn what_files_hold_is_looked_at() {
        let login = format!(
            "{SMART}relay.username = \"joe\"\nrelay.password_file = \"D/password\"\nrewrite.from = \"a@b.example\"\n"
        );
        let place = Place::new("files");
        place.file("aliases", b"", 0o644);
        let rows: &[(&[u8], Lines<'_>)] = &[
            (b"secret\n", &[]),
            (b"\xef\xbb\xbfsecret\n", &[]),
            (b"'secret'\n", &[("warning: D/password:1:1: the password stands in quotes", "; take")]),
            (
                b"secret \n",
                &[("warning: D/password:1:1: the password begins or ends with a blank", "; take")],
            ),
            (b"\nsecret\n", &[("D/password:1:1: the first line is empty", "; write")]),
            (b"\xff\xfes\0e\0\n\0", &[("D/password:1:1: the text is UTF-16", "; save")]),
        ];
        for (octets, expected) in rows {
            place.file("password", octets, 0o600);
            let told = place.check(&login, Some(ProcessUser::own()));
            assert_told(&told, expected, "");
            assert!(!told.concat().contains("secret"), "{told:?}");
        }
        place.file("password", b"secret\n", 0o604);
        assert_told(
            &place.check(&login, Some(ProcessUser::own())),
            &[("D/f:9:23: others may use", "chmod o=")],
            "open",
        );
        // Nobody waits for the other end of a pipe.
        std::fs::remove_file(place.0.join("password")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, place.0.join("password"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        assert_told(
            &place.check(&login, Some(ProcessUser::own())),
            &[("D/f:9:23: \"D/password\" is no file", "; name")],
            "a pipe",
        );
        std::fs::remove_file(place.0.join("password")).unwrap();
        place.file("password", b"secret\n", 0o640);
        let without = login.replace("rewrite.from = \"a@b.example\"\n", "");
        assert_told(
            &place.check(&without, Some(ProcessUser::own())),
            &[("warning: D/f:8:18: this login is no address", "rewrite.from")],
            "",
        );
        let text = format!(
            "nocolon\nuser:plaintext\nu2:\n:$6$x$y\nu3:$1$abc$def\n# x\nok:{HASH}\nok:{HASH}\n a b\u{1b}:x\n"
        );
        place.file("users", text.as_bytes(), 0o640);
        let lines: Vec<String> = [1, 2, 3, 4, 5, 8, 9].map(|line| format!("D/users:{line}:1: ")).into();
        let expected: Vec<(&str, &str)> = lines.iter().map(|line| (line.as_str(), "")).collect();
        let told = place.check("auth.users = \"D/users\"\n", Some(ProcessUser::own()));
        assert_told(&told, &expected, "users");
        assert!(
            !["plaintext", "$1$", "$6$x"].iter().any(|secret| told.concat().contains(secret)),
            "{told:?}"
        );
    }

    #[test]
    fn one_problem_hides_no_other() {
        let place = Place::new("all");
        place.file("aliases", b"nocolon\na: a2\na2: a\n", 0o644);
        place.file("users", b"nocolon\n", 0o644);
        place.file("password", b"\n", 0o600);
        let keys = format!(
            "user = \"gone\"\nadmin = \"bob\"\nauth.users = \"D/users\"\ntls.key = \"D/missing\"\n{SMART}relay.username = \"joe@b.example\"\n\
             relay.password_file = \"D/password\"\nrelay.ca_file = \"D/aliases\"\n\
             [[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = \"D/no-key\"\n\
             [[dkim]]\ndomain = \"a.example\"\nselector = \"t\"\nkey = \"D/users\"\n"
        );
        let files = [
            ("D/f:7:8: user \"gone\" does not exist", "useradd"),
            ("D/f:10:11: \"D/missing\" can't be read", "make the file"),
            ("D/f:9:14: others may use \"D/users\"", "chmod o="),
            ("D/f:18:7: \"D/no-key\" can't be read", "make the file"),
            ("D/f:22:7: others may use \"D/users\"", "chmod o="),
            ("D/aliases:1:1: there is no colon", ""),
            ("D/f:14:17: ", "no certificate in PEM"),
            ("D/password:1:1: the first line is empty", ""),
        ];
        let doubts = [
            ("D/f:8:9: nobody here is called \"bob\"", ""),
            ("D/aliases:2:1: the alias \"a\" goes round", ""),
            ("D/aliases:3:1: the alias \"a2\" goes round", ""),
        ];
        assert_told(&place.check(&keys, None), &[&files[..], &doubts[..]].concat(), "all of them");
        // With a key that is wrong as well, whatever does not follow from that.
        let told = place.check(&format!("stat = 1\n{keys}"), None);
        assert!(told[0].starts_with("D/f:7:1: unknown key \"stat\""), "{told:#?}");
        assert_eq!(told.len(), 1 + files.len(), "{told:#?}");
    }
}

//! Good and bad files: what they mean, and the exact words about what is wrong in them.

use super::*;
use crate::mail::address::Mailbox;
use crate::rules::routing::next_hop::ExceptionTarget;
use crate::rules::routing::route::LocalUsers;
use crate::test_directory::TestDirectory;
use proptest::prelude::*;
use std::time::Duration;

fn messages(text: &str) -> Vec<String> {
    parse(text, "f").err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_is_all_defaults() {
    let settings = parse("", "f").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.limits.message_size, 25 << 20);
    assert_eq!(settings.limits.command_timeout, Duration::from_secs(300));
    assert_eq!(settings.queue.retry.len(), 7);
    assert_eq!(settings.queue.lifetime, Duration::from_secs(5 * 86_400));
    assert!(settings.relay.trusted_networks.iter().all(|n| n.address.is_loopback()));
    assert_eq!(settings.local.separator, Some('+'));
    assert!(settings.relay.dane && settings.rewrite.repair && !settings.dns.trusted);
}

#[test]
fn a_local_user_is_a_word_of_an_address_and_a_safe_name_of_a_file() {
    let names = r#"local.users = ["O'Brien", "AN\u0303IL", "a+b", "x..y.", "{user}", "a%b!c", "64@"]"#;
    let long = "ñ".repeat(32);
    let settings = parse(&names.replace("64@", &long), "f").unwrap();
    let named = ["o'brien", "añil", "a+b", "x..y.", "{user}", "a%b!c", &long];
    assert_eq!(settings.local.users, LocalUsers::Named(named.map(str::to_owned).to_vec()));
    for name in [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../x",
        "a b",
        "a\\u00a0b",
        "a\\u0085b",
        "a@b",
        "\\\"a\\\"",
        &format!("{long}x"),
    ] {
        assert!(parse(&format!("local.users = [\"{name}\"]"), "f").is_err(), "{name:?}");
    }
}

#[test]
fn values_are_read() {
    let text = r#"
        admin = "me@example.com"
        relay.smarthost = "smtp://10.0.0.9"
        relay.trusted_networks = "10.0.0.0/8"
        local.users = ["Joe", "jane"]
        local.domains = []
        queue.retry = 90
        queue.lifetime = "2h"
        limits = { message_size = "1 mib", free_space = 0x1000 }
        dns.servers = ["192.0.2.53", "[::1]:5353"]

        [[listener]]
        address = "0.0.0.0:2525"

        [[listener]]
        address = ["[::]:2525"]
        kind = "smtp"

        [relay.routes]
        "Example.ORG" = ["smtp://a.example", "smtp://b.example:26"]
        ".example.org" = "smtp://c.example"
        "bad.example" = "error:5.1.2 no mail there"
    "#;
    let settings = parse(text, "f").unwrap();
    let defaults = Settings::default();
    assert_eq!(settings.admin, [Addressee::Mailbox(Mailbox::parse("me@example.com").unwrap())]);
    let several = parse("admin = [\"me@example.com\", \"Joe\"]", "f").unwrap().admin;
    assert_eq!(several, [settings.admin, vec![Addressee::User("joe".into())]].concat());
    assert_eq!(parse("admin = \"\"", "f").unwrap().admin, []);
    assert_eq!(settings.relay.smarthost[0].host.to_string(), "smtp://10.0.0.9:25");
    assert_eq!(settings.relay.trusted_networks[0].to_string(), "10.0.0.0/8");
    assert_eq!(settings.local.users, LocalUsers::Named(vec!["joe".into(), "jane".into()]));
    assert_eq!(settings.local.domains, Some(vec![]));
    assert_eq!(settings.queue.retry, [Duration::from_secs(90)]);
    assert_eq!(settings.queue.lifetime, Duration::from_secs(7200));
    assert_eq!((settings.limits.message_size, settings.limits.free_space), (1 << 20, 0x1000));
    assert_eq!(settings.limits.errors, defaults.limits.errors);
    assert_eq!(settings.dns.servers, ["192.0.2.53:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    let addresses: Vec<_> = settings.listeners.iter().map(|l| l.address.clone()).collect();
    assert_eq!(addresses, [["0.0.0.0:2525".parse().unwrap()], ["[::]:2525".parse().unwrap()]]);
    let routes: Vec<_> = settings.relay.routes.iter().map(|route| route.pattern.as_str()).collect();
    assert_eq!(routes, [".example.org", "example.org", "bad.example"]);
    let targets: Vec<_> = settings.relay.routes.iter().map(|r| r.target.clone()).collect();
    assert!(matches!(&targets[1], ExceptionTarget::Hosts(hosts) if hosts.len() == 2));
    assert!(matches!(&targets[2], ExceptionTarget::Error(status, text)
        if status.to_string() == "5.1.2" && text == "no mail there"));
}

/// What word processors and web pages put in place of plain characters is named, with its place, and the rest is read.
#[test]
fn strange_characters_are_named() {
    for (text, expected) in [
        ("admin = “me@example.com”", "f:1:9: “ (U+201C) is no quotation mark of TOML; write \""),
        ("admin = „me@example.com“", "f:1:9: „ (U+201E) is no quotation mark of TOML; write \""),
        ("admin = ‘me@example.com’", "f:1:9: ‘ (U+2018) is no quotation mark of TOML; write \""),
        ("admin = \"me@example.com”", "f:1:24: ” (U+201D) is no quotation mark of TOML; write \""),
        ("local.users = [“joe”, “ann”]", "f:1:16: “ (U+201C) is no quotation mark of TOML; write \""),
        (
            "admin\u{a0}= \"me@example.com\"",
            "f:1:6: a no-break space (U+00A0) stands here; remove it, or write a plain space",
        ),
        (
            "admin =\u{a0}\"me@example.com\"",
            "f:1:8: a no-break space (U+00A0) stands here; remove it, or write a plain space",
        ),
        (
            "relay.username = \"joe\u{a0}\"",
            "f:1:18: a no-break space (U+00A0) stands here; remove it, or write a plain space",
        ),
        (
            "\u{200b}admin = \"me@example.com\"",
            "f:1:1: a character without width (U+200B) stands here; remove it, or write a plain space",
        ),
        ("admin: \"me@example.com\"", "f:1:6: a colon stands between key and value; write ="),
        ("relay.username = 'joe", "f:1:22: the text does not end; write ' behind it"),
        (
            "relay.username = \"DOMAIN\\joe\"",
            "f:1:25: a backslash begins an escape such as \\n in \"…\"; write \\\\ for one, or the text in '…'",
        ),
        (
            "relay.password_file = \"C:\\Users\\x\"",
            "f:1:26: a backslash begins an escape such as \\n in \"…\"; write \\\\ for one, or the text in '…'",
        ),
    ] {
        let found = messages(text);
        assert_eq!(found.first().map(String::as_str), Some(expected), "{found:#?}");
        assert_eq!(found.len(), 1, "{found:#?}");
    }
    // They hide no other mistake.
    let found = messages("admin = “me@example.com”\nuser = \"a\\q\"\n[relay]\nuser = \"joe\"");
    let begin = ["f:1:9: “ ", "f:2:10: a backslash", "f:4:1: unknown key \"user\"; write \"username\""];
    assert!(
        found.len() == 3 && found.iter().zip(begin).all(|(it, begin)| it.starts_with(begin)),
        "{found:#?}"
    );
    // In comments and in text that is only shown they do no harm.
    assert_eq!(
        messages("# “x”\u{a0}\nadmin = \"me@example.com\" # ‘x’\nrelay.username = 'DOMAIN\\joe'"),
        [""; 0]
    );
}

#[test]
fn local_domains_hold_the_hostname_unless_they_are_set() {
    let hostname = Domain::Name("box.example".into());
    let local = |text| parse(text, "f").unwrap().local_domains(&hostname);
    assert_eq!(local(""), [Domain::Name("localhost".into()), hostname.clone()]);
    assert_eq!(local("local.domains = []"), []);
    assert_eq!(local("local.domains = \"a.example\""), [Domain::Name("a.example".into())]);
}

#[test]
fn a_bad_value_says_what_to_write() {
    for (text, expected) in [
        ("relay.smarthos = \"smtp://a\"", "f:1:7: unknown key \"smarthos\"; did you mean \"smarthost\"?"),
        (
            "smarthost = \"smtp://a\"",
            "f:1:1: unknown key \"smarthost\"; `smarthost` belongs to [relay]; write `relay.smarthost` above the first [table]",
        ),
        (
            "[log]\nsmarthost = \"smtp://a\"",
            "f:2:1: unknown key \"smarthost\"; `smarthost` belongs to [relay]; write `relay.smarthost` above the first [table]",
        ),
        (
            "[relay]\nadmin = \"me@example.com\"",
            "f:2:1: unknown key \"admin\"; `admin` belongs to the top of the file; write it above the first [table]",
        ),
        (
            "[relay]\nrelay.port = 25",
            "f:2:1: unknown key \"relay\"; write `relay.…` above the first [table], or its keys below [relay]",
        ),
        (
            "[log]\nrelay.port = 25",
            "f:2:1: unknown key \"relay\"; write `relay.…` above the first [table], or its keys below [relay]",
        ),
        (
            "[relay]\nuser = \"me@example.com\"",
            "f:2:1: unknown key \"user\"; write \"username\"; `user` is the system user of the daemon",
        ),
        ("relay.host = \"smtp://a\"", "f:1:7: unknown key \"host\"; did you mean \"smarthost\"?"),
        (
            "relay.password = \"x\"",
            "f:1:7: unknown key \"password\"; write the password into /etc/pillarbox/password, or name another file by password_file",
        ),
        ("password = \"x\"", "f:1:1: unknown key \"password\"; did you mean `relay.password_file`?"),
        ("[relai]\nport = 25", "f:1:2: unknown key \"relai\"; did you mean \"relay\"?"),
        ("conections = 5", "f:1:1: unknown key \"conections\"; did you mean `limits.connections`?"),
        (
            "max_conections = 5",
            "f:1:1: unknown key \"max_conections\"; write one of hostname, admin, user, state, control",
        ),
        ("Hostname = \"a.example\"", "f:1:1: unknown key \"Hostname\"; did you mean \"hostname\"?"),
        ("catch-all = \"joe\"", "f:1:1: unknown key \"catch-all\"; did you mean `local.catch_all`?"),
        ("[log]\nxyzzy = 1", "f:2:1: unknown key \"xyzzy\"; write one of level, target"),
        ("xyzzy = 1", "f:1:1: unknown key \"xyzzy\"; write one of hostname, admin, user, state, control"),
        ("x = 1", "f:1:1: unknown key \"x\"; write one of hostname, admin, user, state, control"),
        ("relay = 5", "f:1:9: `relay` is a table; write [relay] and its keys below"),
        ("[[relay]]\nport = 25", "f:1:1: `relay` is a table; write [relay] and its keys below"),
        (
            "listener = \"127.0.0.1:25\"",
            "f:1:12: `listener` is a table; write [[listener]] and its keys below",
        ),
        ("listener = [1]", "f:1:13: `listener` is a table; write [[listener]] and its keys below"),
        (
            "admin = \"me@\"",
            "f:1:9: \"me@\" is not a mail address (the address has no domain); write one such as \"me@example.com\"",
        ),
        (
            "admin = \"a b\"",
            "f:1:9: \"a b\" can't be a local user; write at most 64 octets of letters, digits and .!#$%&'*+-=?^_`{|}~, no dot first",
        ),
        ("admin = \"me@example.com\\u0007\"", "f:1:9: a control character is not allowed here; remove it"),
        (
            "hostname = \"192.0.2.1\"",
            "f:1:12: \"192.0.2.1\" is not a host name; write one such as \"box.example.org\"",
        ),
        (
            "hostname = \"[192.0.2.1]\"",
            "f:1:12: \"[192.0.2.1]\" is not a host name; write one such as \"box.example.org\"",
        ),
        ("hostname = \"a b\"", "f:1:12: \"a b\" is not a host name; write one such as \"box.example.org\""),
        ("user = \"\"", "f:1:8: \"\" is not the name of a user; write one such as \"pillarbox\""),
        ("state = \"spool\"", "f:1:9: \"spool\" is not an absolute path; write one that begins with \"/\""),
        (
            "control = \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
            "f:1:11: the path is too long for a socket; write at most 107 octets",
        ),
        (
            "listener.address = \"25\"",
            "f:1:20: \"25\" does not say where to listen; write [\"127.0.0.1:25\", \"[::1]:25\"] for this host alone, or [\"0.0.0.0:25\", \"[::]:25\"] for all its interfaces",
        ),
        (
            "listener.address = \":25\"",
            "f:1:20: \":25\" does not say where to listen; write [\"127.0.0.1:25\", \"[::1]:25\"] for this host alone, or [\"0.0.0.0:25\", \"[::]:25\"] for all its interfaces",
        ),
        (
            "listener.address = \"*:2525\"",
            "f:1:20: \"*:2525\" does not say where to listen; write [\"127.0.0.1:2525\", \"[::1]:2525\"] for this host alone, or [\"0.0.0.0:2525\", \"[::]:2525\"] for all its interfaces",
        ),
        (
            "listener.address = \"localhost:25\"",
            "f:1:20: names are not allowed here; write [\"127.0.0.1:25\", \"[::1]:25\"]",
        ),
        ("listener.address = \"127.0.0.1\"", "f:1:20: \"127.0.0.1\" has no port; write \"127.0.0.1:25\""),
        ("listener.address = \"::1:25\"", "f:1:20: \"::1:25\" has no port; write \"[::1]:25\""),
        ("listener.address = \"::1\"", "f:1:20: \"::1\" has no port; write \"[::1]:25\""),
        (
            "listener.address = \"a.example:25\"",
            "f:1:20: \"a.example:25\" is not an address with a port; write one such as \"127.0.0.1:25\"",
        ),
        (
            "listener.address = \"127.0.0.1:99999\"",
            "f:1:20: \"127.0.0.1:99999\" is not an address with a port; write one such as \"127.0.0.1:25\"",
        ),
        ("listener.address = []", "f:1:20: the list is empty; write at least one value"),
        (
            "listener.address = [\"127.0.0.1:25\", \"127.0.0.1:25\"]",
            "f:1:20: \"127.0.0.1:25\" is taken by a listener before; write each address once",
        ),
        (
            "[[listener]]\n[[listener]]\nkind = \"smtp\"\naddress = \"[::1]:25\"",
            "f:4:11: \"[::1]:25\" is taken by a listener before; write each address once",
        ),
        (
            "[[listener]]\nkind = \"submissions\"\ntls = \"off\"",
            "f:3:7: \"submissions\" has TLS from the start; remove tls = \"off\", or write kind = \"submission\"",
        ),
        (
            "[[listener]]\naddress = \"192.0.2.1:587\"\nkind = \"submission\"\ntls = \"off\"",
            "f:4:7: nobody could log in, because passwords from other hosts need TLS; write tls = \"offer\", or auth = \"any\" for trusted networks",
        ),
        (
            "[[listener]]\ntls_minimum = \"1.0\"\ntls = \"off\"",
            "f:2:15: tls = \"off\" leaves no TLS to limit; remove one of the two",
        ),
        (
            "[[listener]]\nauth = \"off\"\nkind = \"submission\"",
            "f:2:8: nobody could send, because submission requires a login; remove auth = \"off\", or write kind = \"smtp\"",
        ),
        (
            "[[listener]]\nauth = \"any\"\nkind = \"lmtp\"",
            "f:2:8: LMTP has no logins; remove auth = \"any\", or write another kind",
        ),
        (
            "listener.kind = \"smpt\"",
            "f:1:17: \"smpt\" is not known here; write one of \"smtp\", \"submission\", \"submissions\", \"lmtp\"",
        ),
        (
            "limits.connections = 0",
            "f:1:22: the number is out of range; write a whole number from 1 to 65535",
        ),
        (
            "limits.connections = \"64\"",
            "f:1:22: a string is not allowed here; write a whole number from 1 to 65535",
        ),
        (
            "limits.message_size = \"25MiBs\"",
            "f:1:23: \"25MiBs\" is not understood; write a size such as \"64KiB\", \"25MiB\" or 4096 (octets)",
        ),
        (
            "limits.message_size = \"big\"",
            "f:1:23: \"big\" is not understood; write a size such as \"64KiB\", \"25MiB\" or 4096 (octets)",
        ),
        (
            "limits.message_size = 1",
            "f:1:23: the value is out of range; write one from \"1KiB\" to \"1024TiB\"",
        ),
        (
            "limits.message_size = \"99999999999999999999TiB\"",
            "f:1:23: the value is out of range; write one from \"1KiB\" to \"1024TiB\"",
        ),
        (
            "limits.message_size = -1",
            "f:1:23: the value is out of range; write one from \"1KiB\" to \"1024TiB\"",
        ),
        (
            "limits.command_timeout = \"5 minutes\"",
            "f:1:26: \"5 minutes\" is not understood; write a duration such as \"90s\", \"15m\", \"4h\" or \"5d\"",
        ),
        (
            "limits.command_timeout = \"1h30m\"",
            "f:1:26: \"1h30m\" is not understood; write a duration such as \"90s\", \"15m\", \"4h\" or \"5d\"",
        ),
        (
            "limits.command_timeout = \"0s\"",
            "f:1:26: the value is out of range; write one from \"1s\" to \"1d\"",
        ),
        (
            "limits.command_timeout = true",
            "f:1:26: a boolean is not allowed here; write a duration such as \"90s\", \"15m\", \"4h\" or \"5d\"",
        ),
        (
            "queue.memory = \"/a/b/c\"\nqueue.storage = \"memory-first\"\nstate = \"/a/b\"",
            "f:1:16: the queue in memory can't lie in \"/a/b\", nor that in it; write a directory on a tmpfs",
        ),
        (
            "queue.memory = \"/a/b\"\nqueue.storage = \"memory-first\"\nstate = \"/a/b/\"",
            "f:1:16: the queue in memory can't lie in \"/a/b/\", nor that in it; write a directory on a tmpfs",
        ),
        (
            "queue.memory = \"/a\"\nqueue.storage = \"memory-first\"\nstate = \"/a/b\"",
            "f:1:16: the queue in memory can't lie in \"/a/b\", nor that in it; write a directory on a tmpfs",
        ),
        (
            "queue.memory = \"run/queue\"",
            "f:1:16: \"run/queue\" is not an absolute path; write one that begins with \"/\"",
        ),
        (
            "queue.storage = \"memory\"",
            "f:1:17: \"memory\" is not known here; write one of \"disk\", \"memory-first\"",
        ),
        ("queue.retry = []", "f:1:15: the list is empty; write at least one value"),
        (
            "queue.retry = [\"1m\", \"soon\"]",
            "f:1:22: \"soon\" is not understood; write a duration such as \"90s\", \"15m\", \"4h\" or \"5d\"",
        ),
        ("local.domains = \"-a\"", "f:1:17: \"-a\" is not a domain; write one such as \"example.org\""),
        (
            "local.maildir = \"mail/{user}\"",
            "f:1:17: \"mail/{user}\" is not absolute; begin with \"/\" or \"{home}\"",
        ),
        (
            "local.maildir = \"/var/mail/{name}\"",
            "f:1:17: unknown \"{name}\"; write {user}, {domain} or {home}",
        ),
        (
            "local.maildir = \"{home}/Maildir\"\nlocal.users = \"any\"",
            "f:1:17: {home} is only known for system users; write users = \"system\", or a path from \"/\"",
        ),
        ("local.users = [\"any\"]", "f:1:16: \"any\" can't stand in a list; write users = \"any\""),
        (
            "local.users = \"a/b\"",
            "f:1:15: \"a/b\" can't be a local user; write at most 64 octets of letters, digits and .!#$%&'*+-=?^_`{|}~, no dot first",
        ),
        (
            "local.separator = \"++\"",
            "f:1:19: \"++\" can't separate user and detail; write one of + - _ = . in quotes",
        ),
        (
            "local.catch_all = \"me@@\"",
            "f:1:19: \"me@@\" is not a mail address (the local part is malformed); write one such as \"me@example.com\"",
        ),
        (
            "relay.trusted_networks = \"10.0.0.1/8\"",
            "f:1:26: \"10.0.0.1/8\" has bits beyond its prefix; write \"10.0.0.0/8\"",
        ),
        (
            "relay.trusted_networks = \"0.0.0.0/0\"",
            "f:1:26: \"0.0.0.0/0\" is everybody: an open relay; write your own networks",
        ),
        (
            "relay.trusted_networks = \"localhost\"",
            "f:1:26: \"localhost\" is not a network; write an address or a prefix such as \"192.0.2.0/24\"",
        ),
        (
            "relay.smarthost = \"smtp.example.com\"",
            "f:1:19: \"smtp.example.com\" has no scheme; write smtps://smtp.example.com, or another of smtp://, smtp+starttls://, smtps://, lmtp://",
        ),
        (
            "relay.smarthost = \"smtp://u:p@smtp.example.com\"",
            "f:1:19: no user or password belongs in the URL; use relay.username and relay.password_file",
        ),
        (
            "relay.family = \"ipv5\"",
            "f:1:16: \"ipv5\" is not known here; write one of \"any\", \"ipv4\", \"ipv6\"",
        ),
        ("relay.port = 65536", "f:1:14: the number is out of range; write a whole number from 1 to 65535"),
        (
            "relay.routes = \"smtp://a\"",
            "f:1:16: a string is not allowed here; write a table such as { \"name\" = \"value\" }",
        ),
        (
            "relay.routes = { example.org = \"smtp://a\" }",
            "f:1:18: a name with a dot splits; write it in quotes: \"example.org\"",
        ),
        (
            "relay.routes = { \"a b\" = \"smtp://a\" }",
            "f:1:26: \"a b\" is not a domain; write \"example.org\", or \".example.org\" for all below it",
        ),
        ("relay.routes = { \"a.example\" = [] }", "f:1:32: the list is empty; write at least one value"),
        (
            "relay.routes = { \"a.example\" = \"error:4.1.2 later\" }",
            "f:1:32: the error is malformed; write \"error:5.1.2 no mail there\"",
        ),
        (
            "relay.routes = { \"a.example\" = \"error:5.1.2\" }",
            "f:1:32: the error is malformed; write \"error:5.1.2 no mail there\"",
        ),
        (
            "rewrite.senders = { \"a b\" = \"a@b.example\" }",
            "f:1:29: \"a b\" is no sender; write a user's name or an address such as \"nas@nas.lan\"",
        ),
        (
            "rewrite.from = \"root\"",
            "f:1:16: \"root\" is not a mail address (the address has no domain); write one such as \"me@example.com\"",
        ),
        (
            "rewrite.senders = { root = \"jürgen@b.example\" }",
            "f:1:28: not every host takes an address with UTF-8; write another",
        ),
        (
            "rewrite.domain = \"a b\"",
            "f:1:18: \"a b\" is not a host name; write one such as \"box.example.org\"",
        ),
        (
            "dns.servers = \"dns.example\"",
            "f:1:15: \"dns.example\" is not an address; write one such as \"192.0.2.53\" or \"127.0.0.1:5353\"",
        ),
        ("dns.timeout = \"1h\"", "f:1:15: the value is out of range; write one from \"1s\" to \"5m\""),
        (
            "port = 25",
            "f:1:1: unknown key \"port\"; `port` belongs to [relay]; write `relay.port` above the first [table]",
        ),
        ("admin = \"me", "f:1:12: the text does not end; write \" behind it"),
        ("admin = me@example.com", "f:1:9: text stands in quotes; write \"me@example.com\""),
        ("relay.port = 025", "f:1:14: unexpected leading zero; remove it"),
        ("rewrite.repair = yes", "f:1:18: a string is not allowed here; write true or false"),
        ("a b = 1", "f:1:3: key with no value; write `=`"),
        (
            "connections = 5",
            "f:1:1: unknown key \"connections\"; `connections` belongs to [limits] or [relay]; write `limits.connections` or `relay.connections` above the first [table]",
        ),
        ("relay.port = \"25\"", "f:1:14: a string is not allowed here; write a whole number from 1 to 65535"),
        ("local.users = 5", "f:1:15: an integer is not allowed here; write the name of a user in quotes"),
        (
            "relay.family = any6",
            "f:1:16: \"any6\" is not known here; write one of \"any\", \"ipv4\", \"ipv6\"",
        ),
        ("limits.message_size = 25MiB", "f:1:23: text stands in quotes; write \"25MiB\""),
    ] {
        assert_eq!(messages(text), [expected], "{text}");
    }
}

#[test]
fn every_problem_is_told_in_the_order_of_the_file() {
    let text = "admn = \"x\"\n[relay]\nport = 0\ntrusted_networks = [\"10/8\", \"::1\", 5]\n[log]\nlevel = \"loud\"\n";
    let places: Vec<_> = messages(text).iter().map(|m| m.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(places, ["f:1:1", "f:3:8", "f:4:21", "f:4:36", "f:6:9"]);
}

#[test]
fn a_syntax_error_hides_no_problem_that_is_not_its_echo() {
    assert_eq!(
        messages("admin = me@example.com\nusr = \"x\"\n[relay]\nport = many\ntls = off\n"),
        [
            "f:1:9: text stands in quotes; write \"me@example.com\"",
            "f:2:1: unknown key \"usr\"; did you mean \"user\"?",
            "f:4:8: a string is not allowed here; write a whole number from 1 to 65535",
            "f:5:7: text stands in quotes; write \"off\"",
        ]
    );
    assert_eq!(
        messages("usr = \"x\"\n[relay\nport = 25\ntls = \"off\"\n"),
        ["f:1:1: unknown key \"usr\"; did you mean \"user\"?", "f:2:7: unclosed table; write `]`",]
    );
    assert_eq!(messages("user = \"x\"\nuser = \"y\"\n"), ["f:2:1: duplicate key; keep one of them"]);
    assert_eq!(messages("[log]\n[log]\n"), ["f:2:2: duplicate key; keep one of them"]);
}

#[test]
fn columns_count_characters_and_control_characters_are_escaped() {
    assert_eq!(
        messages("log = { level = \"ü\", \"t\\u001b[2J\" = 1 }\n"),
        [
            "f:1:17: \"ü\" is not known here; write one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            "f:1:22: unknown key \"t\\u{1b}[2J\"; write one of level, target",
        ]
    );
    assert_eq!(messages("\u{feff}x = 1")[0].split(' ').next(), Some("f:1:1:"));
}

#[test]
fn a_file_that_is_none_is_told_with_its_path() {
    let directory = TestDirectory::new();
    let told = |path: &Path| load(path).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
    let file = directory.join("f.toml");
    assert_eq!(
        told(&file),
        [format!(
            "{}: can't be read: No such file or directory (os error 2); make the file, or name another by -c",
            file.display()
        )]
    );
    assert!(told(&directory)[0].contains(": can't be read: Is a directory"));
    std::fs::write(&file, b"# fine\nadmin = \"\xff\"\n").unwrap();
    assert_eq!(
        told(&file),
        [format!("{}:2:10: the text is not UTF-8; save the file as UTF-8", file.display())]
    );
    std::fs::write(&file, vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert!(told(&file)[0].contains("larger than 1 MiB"));
    std::fs::write(&file, "\u{feff}admin = \"joe\"\r\n").unwrap();
    let (settings, places) = load_with_places(&file).unwrap();
    assert_eq!(settings.admin, [Addressee::User("joe".into())]);
    assert_eq!(places.of("", "admin"), Some(FilePosition { line: 1, column: 9 }));
    assert_eq!(places.of("", "state"), None);
}

#[test]
fn a_key_of_a_thousand_dots_is_only_an_error() {
    assert!(!messages(&format!("{}a = 1", "a.".repeat(100_000))).is_empty());
    assert!(!messages(&"[".repeat(100_000)).is_empty());
    assert!(!messages(&format!("a = {}", "{a=".repeat(100_000))).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}|[\\x00-\\x7f]{0,80}|([a-z.]{0,9}( = |=)?[\\[\\]{}\"'0-9a-zé,:/#.\n -]{0,20}\n){0,8}") {
        let _ = parse(&text, "f");
    }

    #[test]
    fn no_value_makes_any_row_panic(value in "[0-9a-zA-Z:/{}.@\\[\\]*+ -]{0,30}", list: bool) {
        for table in keys::TABLES {
            for row in table.rows {
                let key = walk::path(table, row);
                let text = if list { format!("{key} = [{value:?}]") } else { format!("{key} = {value:?}") };
                for problem in parse(&text, "f").err().unwrap_or_default() {
                    prop_assert!(problem.text.contains("; ") || problem.text.contains('?'), "{}", problem);
                }
            }
        }
    }
}

#[test]
fn a_file_full_of_problems_is_told_about_in_part() {
    let text: String = (0..5000).map(|i| format!("k{i} = 1\n")).collect();
    let problems = parse(&text, "f").unwrap_err();
    assert_eq!(problems.len(), PROBLEMS_MAX);
    assert!(problems.first().unwrap().to_string().starts_with("f:1:1: unknown key \"k0\""));
}

#[test]
fn what_is_right_is_read_beside_what_is_wrong() {
    let directory = TestDirectory::new();
    let text = "levl = 1\nstate = \"/a\"\nadmin = 7\nlimits.message_size = \"1MiB\"\n[[";
    let file = directory.file("pillarbox.toml", text);
    assert!(load(&file).is_err());
    let settings = load_leniently(&file).unwrap();
    assert_eq!((settings.state.to_str(), settings.limits.message_size), (Some("/a"), 1 << 20));
    std::fs::remove_file(&file).unwrap();
    assert!(load_leniently(&file).is_err());
}

#[test]
fn a_dead_man_s_switch_is_asked_by_https_and_not_too_often() {
    let settings =
        parse("heartbeat = { every = \"7d\", url = \"https://hc.example:8443/5e-cd\" }\n", "f").unwrap();
    let heartbeat = settings.heartbeat;
    assert_eq!(heartbeat.every, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!((heartbeat.url.unwrap().port, heartbeat.interval), (8443, Duration::from_secs(3600)));
    for (line, words) in [
        ("heartbeat.url = \"http://hc.example/5e-cd\"", "does not begin with https://"),
        ("heartbeat.url = \"hc.example/5e-cd\"", "write the one that the service shows, such as \"https://"),
        ("heartbeat.url = \"https://joe@hc.example/\"", "has no sound host name"),
        ("heartbeat.interval = \"59s\"", "write one from \"1m\" to \"7d\""),
        ("heartbeat.interval = \"8d\"", "write one from \"1m\" to \"7d\""),
        ("heartbeat.every = \"59m\"", "write one from \"1h\" to \"365d\""),
        ("heartbeat.every = 0", "write one from \"1h\" to \"365d\""),
    ] {
        let found = messages(line);
        assert!(found.len() == 1 && found[0].starts_with("f:1:") && found[0].contains(words), "{found:?}");
    }
}

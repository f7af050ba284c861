//! The files that `make install` adds to the program: the unit, scripts, manual pages. Their readers judge them: systemd,
//! shells, mandoc and groff.

use super::client::send;
use super::harness::{Place, copy_program, program, run, signal};
use pillarbox::config::keys::TABLES;
use pillarbox::program::COMMANDS;
use pillarbox::program::help::rows;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNIT: &str = "etc/systemd/system/pillarbox.service";
const OPENWRT: &str = "packaging/openwrt/init.d/pillarbox";
const LINK: &str = "packaging/hooks/pillarbox";

/// Every script that runs on a user's host, and its shell.
const SCRIPTS: &[(&str, &str)] = &[
    (LINK, "sh"),
    (OPENWRT, "dash"),
    ("packaging/openrc/pillarbox", "sh"),
    ("packaging/debian/postinst", "sh"),
    ("packaging/debian/prerm", "sh"),
    ("packaging/debian/postrm", "sh"),
    ("packaging/debian/build", "bash"),
    ("etc/completions/bash", "bash"),
    ("packaging/cross/bom", "bash"),
    ("packaging/cross/build", "bash"),
    ("packaging/cross/compile", "bash"),
    ("packaging/cross/compiler", "bash"),
    ("packaging/cross/family", "bash"),
    ("packaging/cross/openssl", "bash"),
    ("packaging/cross/prepare", "bash"),
    ("tests/bench/kernel", "bash"),
    ("tests/cross/boot", "bash"),
    ("tests/cross/box", "dash"),
    ("tests/cross/run", "bash"),
    ("tests/tools/beside", "sh"),
    ("tests/tools/check-32", "bash"),
    ("tests/tools/test-deb", "bash"),
    ("tests/tools/test-init", "bash"),
];

/// The places where `LINK` is installed. It recognizes some callers by them.
const HOOKS: [&str; 6] = [
    "etc/NetworkManager/dispatcher.d/90-pillarbox",
    "etc/network/if-up.d/pillarbox",
    "etc/network/if-down.d/pillarbox",
    "etc/ppp/ip-up.d/90pillarbox",
    "etc/ppp/ip-down.d/90pillarbox",
    "etc/hotplug.d/iface/90-pillarbox",
];

/// The places where shells look for completions, and what is there.
const COMPLETIONS: [(&str, &str); 2] = [
    ("opt/share/bash-completion/completions/pillarbox", "etc/completions/bash"),
    ("opt/share/zsh/site-functions/_pillarbox", "etc/completions/zsh"),
];

/// The number of nobody, on Debian and most others.
const NOBODY: u32 = 65_534;

/// Shells of Debian and OpenWrt.
const SHELLS: [&[&str]; 2] = [&["dash"], &["busybox", "ash"]];

fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(top(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn shell(words: &[&str]) -> Command {
    let mut command = program(words[0], words[0]);
    command.args(&words[1..]);
    command
}

fn reported(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn scripts_are_ones_and_shellcheck_finds_nothing() {
    for (path, dialect) in SCRIPTS {
        run(program("shellcheck", "shellcheck").args(["--shell", dialect]).arg(top(path)));
        for words in SHELLS.iter().filter(|_| *dialect != "bash") {
            run(shell(words).arg("-n").arg(top(path)));
        }
    }
}

/// The highest accepted exposure of `systemd-analyze security`, whose scale is 0 to 10.
#[test]
fn the_unit_is_confined() {
    let mut command = program("systemd-analyze", "systemd");
    let output = run(command.args(["security", "--offline=true", "--threshold=15"]).arg(top(UNIT)));
    assert!(reported(&output).contains("exposure level for pillarbox.service"), "{}", reported(&output));
    let unit = read(UNIT);
    for (line, why) in [
        ("ExecStartPre=", "a file of no use must not keep alerts on the box"),
        ("RuntimeDirectory=", "the control socket's directory is that of tmpfiles.d, for all who start it"),
    ] {
        assert!(!unit.contains(line), "{line}: {why}");
    }
}

/// The names of a system call group of systemd, those of its groups as well.
fn calls_of(group: &str) -> BTreeSet<String> {
    let output = run(program("systemd-analyze", "systemd").args(["--no-pager", "syscall-filter", group]));
    let mut found = BTreeSet::new();
    for word in String::from_utf8(output.stdout).unwrap().lines().skip(1).map(str::trim) {
        match word {
            "" => {}
            comment if comment.starts_with('#') => {}
            inner if inner.starts_with('@') => found.extend(calls_of(inner)),
            call => _ = found.insert(call.to_owned()),
        }
    }
    found
}

/// The system calls that lines of a unit allow.
fn allowed(lines: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for value in lines.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (value, refuses) = value.strip_prefix('~').map_or((value, false), |value| (value, true));
        for word in value.split(' ') {
            let calls =
                if word.starts_with('@') { calls_of(word) } else { BTreeSet::from([word.to_owned()]) };
            allowed = if refuses { &allowed - &calls } else { &allowed | &calls };
        }
    }
    allowed
}

/// The system calls of a daemon that takes a message for here and one for elsewhere.
fn calls_made(place: &Place, command: &mut Command) -> BTreeSet<String> {
    let mut strace = place.run(command.stderr(File::create(place.path("log")).unwrap()));
    send(place.port, "s@y.test", "root@box.test", b"Subject: x\r\n\r\nx\r\n");
    send(place.port, "s@y.test", "a@far.test", b"Subject: x\r\n\r\nx\r\n");
    place.wait_for_log(&["event=deferred"]);
    assert_eq!(place.mail("root").len(), 1);
    let pid = strace.pid();
    let child = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    signal(child.trim().parse().unwrap(), "TERM");
    assert_eq!(strace.wait().code(), Some(0));
    let trace = fs::read_to_string(place.path("trace")).unwrap();
    let calls = trace.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('));
    let is_call =
        |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    calls.map(|(name, _)| name).filter(is_call).map(str::to_owned).collect()
}

/// No systemd runs here, so the daemon's system calls are compared with the lists of the filter: for the unit, and for
/// the drop-in.
#[test]
fn the_unit_allows_the_calls_that_the_daemon_makes() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let unit = allowed(&read(UNIT));
    assert!(unit.contains("accept4") && !unit.contains("chown") && !unit.contains("mount"));
    let with_drop_in = allowed(&(read(UNIT) + &read("etc/systemd/local-users.conf")));
    assert!(with_drop_in.contains("setgroups") && !with_drop_in.contains("mount"));

    let nobody = NOBODY.to_string();
    let user: &[&str] =
        &["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--inh-caps=+net_bind_service"];
    for (options, more, allowed, own) in [
        (user, "", unit, "capset"),
        (&["--reuid=0"], "user = \"nobody\"\nlocal.users = \"system\"\n", with_drop_in, "setgroups"),
    ] {
        let place = Place::open();
        place.configure(more);
        // The user may be unable to reach the directory of the build.
        let binary = place.path("pillarbox");
        copy_program(Path::new(env!("CARGO_BIN_EXE_pillarbox")), &binary);
        std::os::unix::fs::chown(&place.dir, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = program("setpriv", "util-linux");
        command.args(options).args(["strace", "-f", "-o"]).arg(place.path("trace"));
        let serve = place.command(&binary);
        command.arg(serve.get_program()).args(serve.get_args());
        let made = calls_made(&place, &mut command);
        assert!(made.contains("accept4") && made.contains(own), "{made:?}");
        let refused = &made - &allowed;
        assert!(refused.is_empty(), "the unit's filter refuses {refused:?}");
    }
}

/// A call of the script: the hook, variables as `NAME=VALUE`, and arguments; then the default routes, the output of nmcli,
/// and the word that pillarbox gets, if any.
type Call<'a> = (usize, &'a [&'a str], &'a [&'a str], &'a str, &'a str, &'a str);

const NM: usize = 0;
const IF_UP: usize = 1;
const IF_DOWN: usize = 2;
const PPP_UP: usize = 3;
const PPP_DOWN: usize = 4;
const HOTPLUG: usize = 5;
const NO_WAY: &str = "unreachable default dev lo metric 4294967295 error -101";
const ETH0: &str = "default via 192.0.2.1 dev eth0 proto dhcp metric 100";
const ETH1: &str = "default via 192.0.2.9 dev eth1 metric 200";
const BOTH: &str = "default via 192.0.2.1 dev eth0\ndefault via fe80::1 dev eth1";
const SEVERAL_HOPS: &str = "default proto static\n\tnexthop via 192.0.2.1 dev eth1 weight 1";
const PPP0: &str = "default dev ppp0 scope link";

const CALLS: [Call; 25] = [
    (NM, &[], &["eth0", "up"], ETH0, "no (guessed)", "up"),
    (NM, &[], &["wwan0", "up"], ETH0, "yes", "metered"),
    (NM, &[], &["wwan0", "vpn-up"], ETH0, "yes (guessed)", "metered"),
    (NM, &[], &["eth0", "up"], "", "unknown", "up"),
    (NM, &[], &["eth0", "down"], "", "", "down"),
    (NM, &[], &["eth0", "down"], NO_WAY, "", "down"),
    (NM, &[], &["eth0", "down"], ETH1, "", ""),
    (NM, &[], &["eth0", "down"], "default via 192.0.2.9 dev eth1 linkdown", "", "down"),
    (NM, &[], &["eth0", "down"], SEVERAL_HOPS, "", ""),
    (NM, &[], &["eth0", "dhcp4-change"], ETH0, "", ""),
    (NM, &[], &["eth0", "pre-down"], ETH0, "", ""),
    (NM, &["CONNECTIVITY_STATE=FULL"], &["none", "connectivity-change"], ETH0, "no", "up"),
    (NM, &["CONNECTIVITY_STATE=NONE"], &["none", "connectivity-change"], "", "", "down"),
    (NM, &["CONNECTIVITY_STATE=LIMITED"], &["none", "connectivity-change"], ETH0, "", ""),
    (NM, &[], &["lo", "up"], ETH0, "", ""),
    (IF_UP, &["MODE=start", "IFACE=eth0"], &[], ETH0, "", "up"),
    (IF_UP, &["MODE=start", "IFACE=lo"], &[], "", "", ""),
    // The interface still exists then, with its route.
    (IF_DOWN, &["MODE=stop", "IFACE=eth0"], &[], ETH0, "", "down"),
    (IF_DOWN, &["MODE=stop", "IFACE=eth0"], &[], BOTH, "", ""),
    (IF_DOWN, &["MODE=stop", "IFACE=eth"], &[], ETH0, "", ""),
    (PPP_UP, &["PPP_IFACE=ppp0"], &["ppp0", "/dev/ttyS0"], PPP0, "", "up"),
    (PPP_DOWN, &["PPP_IFACE=ppp0"], &["ppp0", "/dev/ttyS0"], PPP0, "", "down"),
    (HOTPLUG, &["ACTION=ifup", "DEVICE=eth1"], &["iface"], ETH1, "", "up"),
    (HOTPLUG, &["ACTION=ifdown", "DEVICE=eth1"], &["iface"], "", "", "down"),
    (HOTPLUG, &["ACTION=ifupdate", "DEVICE=eth1"], &["iface"], "", "", ""),
];

#[test]
fn hooks_tell_the_link_by_the_default_routes() {
    let place = Place::new();
    let tool = |name: &str, text: &str| {
        place.script(name, text);
    };
    tool("pillarbox", "echo \"$@\" >>\"$HEARD\"; echo noise; echo noise >&2; exit 69");
    tool("ip", "[ \"$*\" = '-4 route show default' ] && echo \"$ROUTES\"; true");
    tool("nmcli", "[ \"$1 $2 $3 $4\" = '-g GENERAL.METERED device show' ] && echo \"$METERED\"");
    for hook in HOOKS {
        fs::create_dir_all(place.path(hook).parent().unwrap()).unwrap();
        place.write(hook, &read(LINK));
    }
    for words in SHELLS {
        for call in CALLS {
            let (hook, variables, arguments, routes, metered, word) = call;
            let mut command = shell(words);
            // OpenWrt reads its hooks within a shell of its own.
            if hook == HOTPLUG {
                command.args(["-c", ". \"$0\"; echo never"]);
            }
            command
                .arg(place.path(HOOKS[hook]))
                .args(arguments)
                .env("PATH", &place.dir)
                .env("HEARD", place.path("heard"));
            command.env("ROUTES", routes).env("METERED", metered);
            command.envs(variables.iter().filter_map(|variable| variable.split_once('=')));
            let output = run(&mut command);
            assert_eq!(reported(&output), "", "{call:?}");
            let heard = fs::read_to_string(place.path("heard")).unwrap_or_default();
            let expected = if word.is_empty() { String::new() } else { format!("link {word}\n") };
            assert_eq!(heard, expected, "{words:?} {call:?}");
            let _ = fs::remove_file(place.path("heard"));
        }
    }
}

/// `/etc/config/pillarbox`, and the resulting TOML after its first line.
const UCI: [(&str, &str); 4] = [
    ("", ""),
    (
        r#"
config relay
	list smarthost 'smtps://a.example'
	list smarthost '{ url = "smtps://b.example", username = "b", password_file = "/etc/b" }'
	option username 'u@a.example'
	option dane '0'
	option mta_sts 'on'
	option port '2525'
	list routes 'a.example=smtp://10.0.0.9:25'
	option senders '@b.example=smtps://b.example'
	list routes 'b.example=error:5.1.2 "no" = there'
config limits
	option connections '12'
	option message_size '10MiB'
	option data_timeout '90'
config main 'main'
	option admin 'me@example.com'
config local
	option users 'any'
"#,
        r#"admin = "me@example.com"
[limits]
connections = 12
message_size = "10MiB"
data_timeout = 90
[local]
users = "any"
[relay]
smarthost = ["smtps://a.example", { url = "smtps://b.example", username = "b", password_file = "/etc/b" }, ]
username = "u@a.example"
senders = { "@b.example" = "smtps://b.example", }
dane = false
mta_sts = true
port = 2525
routes = { "a.example" = "smtp://10.0.0.9:25", "b.example" = "error:5.1.2 \"no\" = there", }
"#,
    ),
    (
        r#"
config listener
	option address '127.0.0.1:2525'
config listener 'other'
	list address '127.0.0.1:2526'
	list address '[::1]:2526'
	option kind 'submission'
config local
	list users 'alice'
	list users 'bob'
config relay
	option routes '.x=smtp://y.example'
	option password 'geheim'
"#,
        r#"[local]
users = ["alice", "bob", ]
[relay]
routes = { ".x" = "smtp://y.example", }
password_file = "/var/etc/pillarbox.password"
[[listener]]
address = "127.0.0.1:2525"
[[listener]]
address = ["127.0.0.1:2526", "[::1]:2526", ]
kind = "submission"
"#,
    ),
    (
        r#"
config relay
	option username 'a"b\c'\''$(id) `id` %s é #'
	option password_command '/bin/x "y\z"'
"#,
        r#"[relay]
username = "a\"b\\c'$(id) `id` %s é #"
password_command = "/bin/x \"y\\z\""
"#,
    ),
];

/// The TOML of `/etc/config/pillarbox`, made by this shell.
fn toml(place: &Place, words: &[&str], uci: &str) -> String {
    place.write("pillarbox", uci);
    let mut command = shell(words);
    command.args(["-c", ". \"$1\"; . \"$2\"; toml", "sh"]);
    command.arg(top("tests/openwrt/functions.sh")).arg(top(OPENWRT)).env("UCI", &place.dir);
    let output = run(&mut command);
    assert!(output.stderr.is_empty(), "{}", reported(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn assert_taken(toml: &str) {
    let problems = pillarbox::config::parse(toml, "made").err().unwrap_or_default();
    assert!(problems.is_empty(), "{toml}{}", problems[0]);
}

#[test]
fn what_openwrt_is_configured_with_becomes_toml() {
    let place = Place::new();
    let shipped = read("packaging/openwrt/config/pillarbox");
    let all = shipped.replace("# option", "option").replace("# list", "list");
    assert!(all != shipped, "the example has no options left");
    for words in SHELLS {
        for (uci, expected) in UCI {
            let made = toml(&place, words, uci);
            assert_eq!(made.split_once('\n').unwrap().1, expected, "{words:?}");
            assert_taken(&made);
        }
        assert_taken(&toml(&place, words, &shipped));
        assert_taken(&toml(&place, words, &all));
    }
}

/// No value ends its string, in any shell: the result is the value, or an error about its key.
#[test]
fn no_value_of_openwrt_gets_out_of_its_string() {
    let place = Place::new();
    let values = [
        "x\"\nuser = \"root",
        "\\",
        "\\\"",
        "a\nb\n",
        "\u{1}\u{7f}\u{1b}[2J\t\r",
        "'''",
        "\"\"\"\n[log]",
        "\n",
    ];
    for words in SHELLS {
        for value in values {
            let uci = format!("config relay\n\toption username '{}'\n", value.replace('\'', "'\\''"));
            let made = toml(&place, words, &uci);
            assert_eq!(made.lines().count(), 3, "{words:?} {value:?}: {made}");
            let file = toml::de::DeTable::parse(&made).unwrap_or_else(|error| panic!("{error} of {made}"));
            let relay = file.get_ref()["relay"].get_ref().as_table().unwrap();
            assert_eq!(relay["username"].get_ref().as_str(), Some(value), "{words:?}");
        }
    }
}

/// The calls of procd's functions by the script; the functions here only record them.
#[test]
fn openwrt_starts_and_reloads_it_and_keeps_the_password_apart() {
    const RUN: &str = r#"
        . "$1"; . "$2"
        MADE=$UCI/made/toml PASSWORD=$UCI/made/password CONFIG=$UCI/etc/toml
        for name in procd_open_instance procd_close_instance procd_set_param procd_send_signal chown user_add; do
            eval "$name() { echo $name \"\$@\"; }"
        done
        user_exists() { false; }
        group_add_next() { echo 32768; }
        start_service; reload_service; flush"#;
    for words in SHELLS {
        let place = Place::new();
        place.write("pillarbox", "config relay\n\toption username 'u'\n\toption password 'a b\"\\c'\n");
        let mut command = shell(words);
        command.args(["-c", RUN, "sh"]).arg(top("tests/openwrt/functions.sh")).arg(top(OPENWRT));
        let output = reported(&run(command.env("UCI", &place.dir)));
        let chown = format!("chown root:pillarbox {}", place.path("made/password.new").display());
        let reported: Vec<&str> = output.lines().collect();
        let expected = [
            "user_add pillarbox  32768",
            &chown,
            "procd_open_instance",
            "procd_set_param command /usr/sbin/pillarbox serve",
            "procd_set_param respawn 3600 5 0",
            "procd_set_param term_timeout 30",
            "procd_set_param stderr 1",
            "procd_set_param no_new_privs 1",
            "procd_close_instance",
            &chown,
            "procd_send_signal pillarbox * HUP",
            "procd_send_signal pillarbox * USR1",
        ];
        assert_eq!(reported, expected);
        let password = place.path("made/password");
        assert_eq!(fs::read_to_string(&password).unwrap(), "a b\"\\c\n");
        assert_eq!(fs::metadata(&password).unwrap().permissions().mode() & 0o777, 0o640);
        let config = fs::read_to_string(place.path("etc/toml")).unwrap();
        assert!(config.contains("username = \"u\"") && !config.contains("a b"), "{config}");
        assert_eq!(fs::read_link(place.path("etc/toml")).unwrap(), place.path("made/toml"));
    }
}

#[test]
fn make_installs_what_starts_it_here() {
    for (init, files, hooks) in [
        (
            "systemd",
            &["etc/systemd/system/pillarbox.service", "etc/tmpfiles.d/pillarbox.conf"][..],
            &HOOKS[..5],
        ),
        ("openrc", &["etc/init.d/pillarbox"], &HOOKS[..5]),
        ("openwrt", &["etc/init.d/pillarbox", "etc/config/pillarbox"], &HOOKS[5..]),
    ] {
        let place = Place::new();
        let values = [
            format!("INIT={init}"),
            "PREFIX=/opt".into(),
            format!("DESTDIR={}", place.dir.display()),
            format!("BINARY={}", env!("CARGO_BIN_EXE_pillarbox")),
        ];
        // Set by the make that runs the tests.
        let mut make = program("make", "make");
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(top(""));
        run(make.arg("install-files").args(values));
        let common = ["opt/sbin/sendmail", "opt/share/man/man1/mailq.1", "etc/pillarbox/pillarbox.toml"];
        for file in files.iter().chain(&common) {
            assert!(place.path(file).exists(), "{init}: no {file}");
        }
        for (file, source) in COMPLETIONS {
            let installed = fs::read_to_string(place.path(file)).ok();
            assert_eq!(installed, (init != "openwrt").then(|| read(source)), "{init}: {file}");
        }
        for hook in hooks {
            let path = place.path(hook);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert!(
                fs::read_to_string(&path).unwrap() == read(LINK) && mode & 0o111 == 0o111,
                "{init}: {hook}"
            );
        }
        let starts = fs::read_to_string(place.path(files[0])).unwrap();
        assert!(starts.contains("/opt/sbin/pillarbox") && !starts.contains("/usr/"), "{init}: {starts}");
    }
}

#[test]
fn openwrt_knows_all_keys() {
    let script = read(OPENWRT);
    let rows = script.split_once("TABLES=\"\n").unwrap().1.split("\n\"").next().unwrap();
    let keys = rows.lines().flat_map(|row| {
        let (table, keys) = row.split_once(' ').unwrap();
        keys.split(' ').map(move |key| format!("{table}.{}", key.trim_end_matches(['*', '#', '!', '%'])))
    });
    let rows = TABLES.iter().flat_map(|table| {
        let name = if table.name.is_empty() { "main" } else { table.name };
        table.rows.iter().map(move |row| format!("{name}.{}", row.key))
    });
    assert_eq!(keys.collect::<BTreeSet<_>>(), rows.collect());
}

#[test]
fn mandoc_and_groff_have_nothing_to_say_of_the_manual() {
    let folders = (1..9).filter_map(|section| fs::read_dir(top(&format!("etc/man/man{section}"))).ok());
    let pages: Vec<PathBuf> = folders.flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() >= 5, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        if let Some(other) = text.strip_prefix(".so ") {
            assert!(top("etc/man").join(other.trim_end()).exists(), "{} leads nowhere", page.display());
            continue;
        }
        run(program("mandoc", "mandoc").args(["-Tlint", "-Wwarning"]).arg(&page));
        let mut groff = program("groff", "groff-base");
        let output = run(groff.args(["-man", "-ww", "-b", "-z", "-Tutf8"]).arg(&page));
        assert_eq!(reported(&output), "", "{}", page.display());
    }
}

#[test]
fn the_manual_tells_the_options_of_all_commands() {
    let manual = read("etc/man/man8/pillarbox.8").replace("\\-", "-");
    let mut count = 0;
    for command in COMMANDS.iter().filter(|command| command.name != "mail") {
        for row in rows(command.rows) {
            let is_told =
                manual.contains(&format!("{} ", row.name)) || manual.contains(&format!("{}\n", row.name));
            assert!(is_told, "pillarbox.8 does not tell of {} {}", command.name, row.name);
            count += 1;
        }
    }
    assert!(count >= 30, "only {count} rows");
}

/// Runs below a directory of the test, whose files replace those of the recipes; the address of the box is one of this
/// host.
#[test]
fn check_takes_the_recipes() {
    let place = Place::new();
    let (key, chain, dkim) = (place.path("key.pem"), place.path("chain.pem"), place.path("dkim.pem"));
    let mut openssl = program("openssl", "openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=box.example.com",
        "-keyout",
    ]);
    run(openssl.arg(&key).arg("-out").arg(&chain));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(&key, &dkim).unwrap();
    for (from, to) in [(&chain, "box.pem"), (&key, "box.key")] {
        fs::copy(from, place.path(to)).unwrap();
    }
    let password = place.write("password", "geheim\n");
    let secret = place.write("oauth-secret", "geheim\n");
    for file in [&password, &secret] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    let recipes = read("docs/recipes.md");
    let blocks: Vec<&str> =
        recipes.split("```toml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(blocks.len() >= 7, "only {} recipes", blocks.len());
    for block in blocks {
        let recipe = block.replace("/etc/pillarbox", &place.dir.display().to_string());
        let mut recipe = recipe.replace("192.168.1.1:", "127.0.0.1:10");
        let takes_token = block.contains("oauth.");
        if block.contains("relay.username") && !block.contains("relay.password") && !takes_token {
            recipe = format!("relay.password_file = {password:?}\n{recipe}");
        }
        let config = place.configure(&recipe);
        run(Command::new(env!("CARGO_BIN_EXE_pillarbox")).arg("-c").arg(config).arg("check"));
    }
}

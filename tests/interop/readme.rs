//! The commands of README and docs/, block by block and unchanged, on a host of its own: in namespaces, where `/etc`,
//! `/usr/sbin` and `/usr/local` can be changed, port 25 is free, and a pillarbox that the machine has is hidden. Scripts
//! replace what a container lacks (systemd, sudo, an editor), and smtp-sink is the remote host.

use super::harness::{Place, program};
use std::fs::{self, read_to_string};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How a block of commands is tested.
enum Run {
    /// It runs with these words replaced.
    With(&'static [(&'static str, &'static str)]),
    /// Another test covers it.
    Elsewhere(&'static str),
}

/// The blocks by their first line, in the order of README and of docs/ by name, and a check that must succeed after each.
const BLOCKS: [(&str, Run, &str); 20] = [
    ("make run    #", Run::Elsewhere("make test is what runs this, and make run ONCE=1 is below"), ""),
    ("git clone", Run::Elsewhere("tests/tools/test-deb installs what make deb makes"), ""),
    (
        "make run ONCE=1",
        // Three answers on a terminal are what interop::setup gives.
        Run::With(&[(
            "pillarbox setup ",
            "pillarbox setup --admin me@far.test --smarthost smtp://127.0.0.1:2526 --username '' ",
        )]),
        "pillarbox check && test -S /run/pillarbox/control.sock && grep -q 2526 /etc/pillarbox/pillarbox.toml",
    ),
    (
        "sudo pillarbox probe",
        Run::With(&[("me@example.com", "me@far.test")]),
        "arrived 'X-Rcpt-Args: <me@far.test>'",
    ),
    (
        "pillarbox setup --admin",
        // There is no smtp.example.com to try.
        Run::With(&[
            ("setup", "setup --config $PLACE/other.toml --force --no-test"),
            ("< password", "< $PLACE/password"),
        ]),
        "pillarbox check -c $PLACE/other.toml",
    ),
    ("pillarbox setup --from", Run::Elsewhere("interop::setup takes over other mailers' files"), ""),
    (
        "openssl genpkey -algorithm RSA",
        Run::With(&[]),
        r#"printf '[[dkim]]\ndomain = "far.test"\nselector = "box1"\nkey = "/etc/pillarbox/dkim.pem"\n' >$PLACE/dkim.toml && pillarbox check -c $PLACE/dkim.toml"#,
    ),
    (
        "su -s /bin/sh nobody -c 'pillarbox status --html'",
        Run::With(&[("/var/www/html/", "$PLACE/")]),
        "grep -q '</html>' $PLACE/mail.html",
    ),
    (
        "pillarbox status --prometheus",
        Run::With(&[]),
        "grep -q '^# TYPE pillarbox_' /var/lib/prometheus/node-exporter/pillarbox.prom",
    ),
    ("#!/bin/sh", Run::With(&[("/sys/class/leds/status/trigger", "$PLACE/led")]), "grep -qx none $PLACE/led"),
    ("ln -s ../local/sbin/pillarbox", Run::With(&[]), "arrived 'Subject: test' && /usr/sbin/sendmail -bp"),
    (
        "install -m 640",
        Run::With(&[]),
        "arrived 'Subject: test' && test \"$(cat /etc/pillarbox/password)\" = secret",
    ),
    ("pillarbox check", Run::Elsewhere("interop::login logs in at a provider of tokens"), ""),
    ("openssl req -x509", Run::With(&[]), "test -s /etc/pillarbox/oauth.pem"),
    ("install -m 640", Run::With(&[]), "test \"$(cat /etc/pillarbox/oauth-secret)\" = secret"),
    ("openssl x509 -noout", Run::With(&[("/etc/ssl/certs/relay.pem", "/etc/pillarbox/oauth.pem")]), "true"),
    ("openssl x509 -noout", Run::With(&[("/etc/pillarbox/box.pem", "/etc/pillarbox/oauth.pem")]), "true"),
    (
        "systemctl disable --now pillarbox",
        Run::With(&[]),
        // The line of cron, without a daemon.
        "! test -S /run/pillarbox/control.sock && printf 'Subject: by cron\\n\\nx\\n' | sendmail root && \
         cut -d' ' -f7- /etc/cron.d/pillarbox | env -i PATH=/usr/bin:/bin sh -e && arrived 'Subject: by cron'",
    ),
    (
        "sudo install -D -m 644 -t /etc/systemd",
        Run::With(&[]),
        "grep -q User /etc/systemd/system/pillarbox.service.d/local-users.conf && test -S /run/pillarbox/control.sock",
    ),
    ("end", Run::Elsewhere("the end of the table"), ""),
];

/// `$1`: the place, `$2`: the script, `$3`: the repository.
const HOST: &str = r#"
ip link set lo up
hostname box.test
over() {
    mkdir -p "$1/$2/upper" "$1/$2/work"
    mount -t overlay -o "lowerdir=$3,upperdir=$1/$2/upper,workdir=$1/$2/work" overlay "$3"
}
mkdir "$1/over" && mount -t tmpfs tmpfs "$1/over"
for dir in /etc /usr/local /usr/sbin; do over "$1/over" "$(echo $dir | tr / -)" $dir; done
for dir in /run /var/spool /var/mail /etc/pillarbox /etc/cron.d; do mkdir -p $dir && mount -t tmpfs -o mode=755 tmpfs $dir; done
mkdir -p /var/lib/prometheus && mount -t tmpfs tmpfs /var/lib/prometheus && mkdir /var/lib/prometheus/node-exporter
# Nothing of a pillarbox that this machine has installed. userdel would keep a group with other members.
rm -rf /usr/sbin/sendmail /usr/sbin/pillarbox /usr/local/sbin/* /etc/systemd/system/pillarbox* /etc/tmpfiles.d/pillarbox*
for file in passwd shadow group gshadow subuid subgid; do test ! -e /etc/$file || sed -i '/^pillarbox:/d' /etc/$file; done
echo '127.0.0.1 localhost box.test' >/etc/hosts
smtp-sink -u nobody -d "$1/sunk/%Y" 127.0.0.1:2526 64 &
cd "$3"
exec sh -ec "$2"
"#;

/// The scripts that replace other programs.
const PLAYED: [(&str, &str); 4] = [
    ("sudo", r#"exec "$@""#),
    ("editor", r#"echo secret >"$1""#),
    // Only the file that make install has written; the others belong to this machine.
    ("systemd-tmpfiles", r#"exec /usr/bin/systemd-tmpfiles --create /etc/tmpfiles.d/pillarbox.conf"#),
    (
        "systemctl",
        r#"
stop() { pkill -x pillarbox || true; while pgrep -x pillarbox >/dev/null; do sleep 0.05; done; }
begin() {
    setsid /usr/local/sbin/pillarbox serve >>"$PLACE/log" 2>&1 </dev/null &
    until test -S /run/pillarbox/control.sock; do sleep 0.05; done
}
case $* in
    "enable --now pillarbox") begin ;;
    "disable --now pillarbox") stop; rm -f /run/pillarbox/control.sock ;;
    "reload pillarbox") pkill -HUP -x pillarbox ;;
    "restart pillarbox") stop; begin ;;
    daemon-reload) ;;
    *) echo "systemctl $*?" >&2; exit 1 ;;
esac"#,
    ),
];

/// The blocks of commands in README, then in docs/ by name.
fn blocks() -> Vec<String> {
    let mut files: Vec<PathBuf> = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    files.insert(0, PathBuf::from("README.md"));
    let text: String = files.iter().map(|file| read_to_string(file).unwrap()).collect();
    let blocks = text.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned());
    blocks.collect()
}

#[test]
fn the_commands_do_what_the_documents_say() {
    if !rustix::process::geteuid().is_root() {
        println!("note: only root can make namespaces; nothing is tested here");
        return;
    }
    let release = std::env::var("PILLARBOX_RELEASE");
    let Ok(release) = release else {
        println!("note: make install would build the release; PILLARBOX_RELEASE says that it exists");
        return;
    };
    let place = Place::new();
    fs::create_dir(place.path("sunk")).unwrap();
    for directory in [place.dir.path(), &place.path("sunk")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    }
    place.write("password", "secret\n");
    for (name, script) in PLAYED {
        place.script(name, &format!("set -e\n{script}"));
    }
    let mut script = String::from(
        "arrived() { for i in $(seq 100); do grep -qrF \"$1\" \"$PLACE/sunk\" && rm -rf \"$PLACE/sunk/\"* && return; sleep 0.1; done; return 1; }\n\
         trap 'pkill -x pillarbox; pkill -x smtp-sink' EXIT\n",
    );
    let mut known = BLOCKS.iter();
    for block in blocks() {
        let (first, run, then) = known.next().unwrap();
        assert!(
            block.starts_with(first),
            "README or docs/ has other commands; this table has {first:?} here: {block}"
        );
        let words = match run {
            Run::With(words) => words,
            Run::Elsewhere(reason) => {
                println!("{first}: {reason}");
                continue;
            }
        };
        let block = words.iter().fold(block, |block, (from, to)| {
            assert!(block.contains(from), "{from:?} is not in {block}");
            block.replace(from, to)
        });
        script.push_str(&format!("echo '== {first}'\n(\n{block}\n)\n{then}\n"));
    }
    assert_eq!(
        known.next().map(|(first, ..)| *first),
        Some("end"),
        "blocks of the table are not in README or docs/"
    );
    let mut command = program("unshare", "util-linux");
    command.args(["-munpf", "--kill-child", "--mount-proc", "sh", "-ec", HOST, "sh"]);
    command.arg(&place.dir).arg(script).arg(env!("CARGO_MANIFEST_DIR"));
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:/usr/local/sbin:/usr/sbin:/sbin:{path}", place.dir.display()));
    command.env("PLACE", &place.dir).env("CARGO_TARGET_DIR", Path::new(&release).ancestors().nth(2).unwrap());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned());
    let log = read_to_string(place.path("log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{}\n{log}", said[0], said[1]);
}

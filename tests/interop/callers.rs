//! Debian's programs that send mail, calling pillarbox as `/usr/sbin/sendmail`, with and without a daemon.
//!
//! Each runs in namespaces of its own, where that path is pillarbox, `/etc` has its configuration and no crontabs, and the
//! host is named box.test; the machine keeps its mail server. strace shows the exit code of sendmail, which most callers
//! do not report.

use super::harness::{Place, Running, SOON, files, program, run, wait_until};
use super::sendmail::{place, serve};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// A program, and the one message that it must send.
struct Caller {
    /// The recipient.
    to: &'static str,
    package: &'static str,
    /// A file of the package.
    file: &'static str,
    /// Run by sh as root; `$BODY` has three lines.
    script: &'static str,
    /// It is a daemon, which does not end when the mail is sent.
    stays: bool,
    sender: &'static str,
    from: &'static str,
    subject: &'static str,
    /// The beginning of the body.
    body: &'static str,
}

/// A lone dot, and octets that are not ASCII.
const BODY: &str = "Grüße\n.\nthe end\n";

const CALLERS: [Caller; 12] = [
    Caller {
        to: "bsd-mailx",
        package: "bsd-mailx",
        file: "/usr/bin/bsd-mailx",
        script: r#"echo "$BODY" | LANG=C.UTF-8 bsd-mailx -s "by mailx" -b hidden bsd-mailx"#,
        stays: false,
        sender: "root",
        from: "root@box.test",
        subject: "by mailx",
        body: BODY,
    },
    // The program itself ends the message at the dot.
    Caller {
        to: "mailutils",
        package: "mailutils",
        file: "/usr/bin/mail.mailutils",
        script: r#"echo "$BODY" | mail.mailutils -s "by mail" --append="Bcc: hidden" mailutils"#,
        stays: false,
        sender: "root",
        from: "root@box.test",
        subject: "by mail",
        body: "Grüße\n",
    },
    Caller {
        to: "s-nail",
        package: "s-nail",
        file: "/usr/bin/s-nail",
        script: r#"echo "$BODY" | s-nail -:/ -S ttycharset=UTF-8 -S mime-encoding=8b -s "by s-nail" -b hidden s-nail"#,
        stays: false,
        sender: "root",
        from: "root@box.test",
        subject: "by s-nail",
        body: BODY,
    },
    Caller {
        to: "mutt",
        package: "mutt",
        file: "/usr/bin/mutt",
        script: r#"echo "$BODY" | mutt -n -F /dev/null -e 'set charset=utf-8 send_charset=utf-8 copy=no realname=R' \
            -s "by mutt" -b hidden mutt"#,
        stays: false,
        sender: "root",
        from: "R <root@box.test>",
        subject: "by mutt",
        body: BODY,
    },
    Caller {
        to: "git",
        package: "git-email",
        file: "/usr/lib/git-core/git-send-email",
        script: r#"printf 'From: Me <me@box.test>\nSubject: [PATCH] x\n\nby git\n.\n---\n x\n' >a.patch
            git send-email --quiet --confirm=never --suppress-cc=all --from='Me <me@box.test>' --to=git --bcc=hidden \
                --envelope-sender=me@box.test a.patch"#,
        stays: false,
        sender: "me",
        from: "Me <me@box.test>",
        subject: "[PATCH] x",
        body: "by git\n.\n",
    },
    // The call of its packages: sendmail -t -i.
    Caller {
        to: "php",
        package: "php-cli",
        file: "/usr/bin/php",
        script: r#"setpriv --reuid=www-data --regid=www-data --clear-groups php -r '
            exit(mail("php", "by PHP", getenv("BODY"), "From: Shop <shop@far.test>\r\nBcc: hidden", "-fshop@far.test") ? 0 : 1);'"#,
        stays: false,
        sender: "shop@far.test",
        from: "Shop <shop@far.test>",
        subject: "by PHP",
        body: BODY,
    },
    Caller {
        to: "cron",
        package: "cron",
        file: "/usr/sbin/cron",
        script: r#"printf 'MAILTO=cron\n@reboot echo "by cron"; echo .; echo end\n' | crontab -u nobody -
            exec cron -f"#,
        stays: true,
        sender: "nobody",
        from: "root@box.test (Cron Daemon)",
        subject: "Cron <nobody@box> echo \"by cron\"; echo .; echo end",
        body: "by cron\n.\nend\n",
    },
    Caller {
        to: "anacron",
        package: "anacron",
        file: "/usr/sbin/anacron",
        script: r#"printf 'MAILTO=anacron\n1 0 daily echo "by anacron"; echo .; echo end\n' >/etc/anacrontab
            anacron -d -f -n -S /run"#,
        stays: false,
        sender: "root",
        from: "Anacron <root@box.test>",
        subject: "Anacron job 'daily' on box.test",
        body: "by anacron\n.\nend\n",
    },
    Caller {
        to: "nobody",
        package: "at",
        file: "/usr/sbin/atd",
        script: r#"touch /var/spool/cron/atjobs/.SEQ && chown daemon:daemon /var/spool/cron/at*/ /var/spool/cron/atjobs/.SEQ
            : >/etc/at.deny
            echo 'echo "by at"; echo .; echo end' | setpriv --reuid=nobody --regid=nogroup --clear-groups at -m now
            exec atd -f"#,
        stays: true,
        sender: "nobody",
        from: "nobody@box.test",
        subject: "Output from your job        1",
        body: "by at\n.\nend\n",
    },
    // Its first step with --test; the array does not exist.
    Caller {
        to: "mdadm",
        package: "mdadm",
        file: "/sbin/mdadm",
        script: "mdadm --monitor --test --oneshot --mail=mdadm /dev/md/none",
        stays: false,
        sender: "root",
        from: "mdadm monitoring <root@box.test>",
        subject: "TestMessage event on /dev/md/none:box.test",
        body: "This is an automatically generated mail message from mdadm\nrunning on box.test\n",
    },
    // The test call of smartd as Debian configures it (`-m ADDRESS -M exec …/smartd-runner -M test`); smartd needs a disk.
    Caller {
        to: "smartd",
        package: "smartmontools",
        file: "/usr/share/smartmontools/smartd-runner",
        script: r#"export SMARTD_MAILER=/usr/share/smartmontools/smartd-runner SMARTD_ADDRESS=smartd \
            SMARTD_FAILTYPE=EmailTest SMARTD_MESSAGE="TEST EMAIL from smartd" SMARTD_DEVICE=/dev/sda \
            SMARTD_DEVICETYPE=auto SMARTD_DEVICESTRING=/dev/sda SMARTD_DEVICEINFO=x SMARTD_TFIRST=x SMARTD_TFIRSTEPOCH=1
            exec /usr/share/smartmontools/smartd_warning.sh"#,
        stays: false,
        sender: "root",
        from: "root@box.test",
        subject: "SMART error (EmailTest) detected on host: box",
        body: "This message was generated by the smartd daemon running on:\n",
    },
    Caller {
        to: "logwatch",
        package: "logwatch",
        file: "/usr/sbin/logwatch",
        script: "logwatch --output mail --mailto logwatch --service zz-sys --hostname box --range today",
        stays: false,
        sender: "root",
        from: "root@box.test",
        subject: "Logwatch for box (Linux)",
        body: " \n ################### Logwatch ",
    },
];

/// `$1`: the place, `$2`: the script.
const NAMESPACES: &str = r#"
hostname box.test
mkdir -p "$1/etc" "$1/home" && mount -t tmpfs tmpfs "$1/etc" && mkdir "$1/etc/upper" "$1/etc/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc/upper,workdir=$1/etc/work" overlay /etc
mkdir -p /etc/pillarbox && install -m 644 "$1/pillarbox.toml" /etc/pillarbox/
: >/etc/crontab
echo '127.0.0.1 localhost box.test' >/etc/hosts
for dir in /run /var/spool/cron /etc/cron.d; do mkdir -p $dir && mount -t tmpfs -o mode=755 tmpfs $dir; done
mkdir -m 770 /var/spool/cron/crontabs /var/spool/cron/atjobs /var/spool/cron/atspool
mount --bind "$1/pillarbox" /usr/sbin/sendmail
cd "$1/home"
exec strace -f -q -e trace=execve -e signal=none -o "$1/trace" sh -ec "$2"
"#;

impl Caller {
    /// Runs it; its only call of sendmail must end with 0.
    fn call(&self, place: &Place) {
        assert!(Path::new(self.file).exists(), "{} is missing: apt-get install {}", self.file, self.package);
        let trace = place.write("trace", "");
        let said = File::create(place.path("said")).unwrap();
        let mut command = program("unshare", "util-linux");
        command.args(["-mupf", "--kill-child", "--mount-proc", "sh", "-ec", NAMESPACES, "sh"]);
        command.arg(&place.dir).arg(self.script).current_dir("/");
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.env_clear().env("PATH", path).env("HOME", place.path("home")).env("BODY", BODY);
        let mut caller = Running::start(command.stderr(said));
        let ended = || {
            let trace = fs::read_to_string(&trace).unwrap();
            let calls = trace.lines().filter(|line| line.contains(" execve(\"/usr/sbin/sendmail\""));
            let pids: Vec<&str> = calls.map(|line| line.split(' ').next().unwrap()).collect();
            let is_end =
                |line: &&str| line.contains(" +++ ") && line.split(' ').next() == pids.first().copied();
            let end = trace.lines().find(is_end).map(|line| line.split_once(" +++ ").unwrap().1.to_owned());
            (pids.len(), end)
        };
        let mut status = None;
        wait_until(self.to, SOON, || {
            status = caller.child.try_wait().unwrap();
            status.is_some() || self.stays && ended().1.is_some()
        });
        let said = fs::read_to_string(place.path("said")).unwrap();
        let is_good = status.map_or(self.stays, |status| status.success());
        assert!(is_good, "{}: {status:?}\n{said}", self.to);
        assert_eq!(ended(), (1, Some("exited with 0 +++".into())), "{}\n{said}", self.to);
    }

    /// Checks the message; returns its header section.
    fn check<'a>(&self, text: &'a str) -> &'a str {
        let (head, body) = text.split_once("\n\n").unwrap();
        for name in ["Date", "Message-ID", "MIME-Version", "From"] {
            only(head, name);
        }
        assert_eq!(only(head, "To"), format!("{}@box.test", self.to), "{text}");
        assert_eq!(only(head, "Subject"), self.subject, "{text}");
        assert!(!head.contains("\nBcc") && body.starts_with(self.body), "{text}");
        head
    }

    /// Checks the message in a Maildir.
    fn check_delivered(&self, text: &str) {
        let head = self.check(text);
        let sender =
            if self.sender.contains('@') { self.sender } else { &format!("{}@box.test", self.sender) };
        assert_eq!(only(head, "Return-Path"), format!("<{sender}>"), "{text}");
        assert_eq!(only(head, "From"), self.from, "{text}");
        only(head, "Delivered-To");
    }

    /// Checks the messages at smtp-sink, one for each recipient or one for all.
    fn check_relayed(&self, texts: &[&str]) {
        let mut recipients = Vec::new();
        for text in texts {
            let head = self.check(text);
            assert!(only(head, "X-Mail-Args").starts_with("<alerts@far.test>"), "{text}");
            assert!(only(head, "From").ends_with(" <alerts@far.test>"), "{text}");
            assert_eq!(only(head, "X-Original-From"), self.from, "{text}");
            recipients.extend(fields(head, "X-Rcpt-Args"));
        }
        let to = format!("<{}@far.test>", self.to);
        recipients.sort_by_key(|recipient| *recipient != to);
        let hidden = self.has_hidden().then_some("<hidden@far.test>");
        assert_eq!(recipients, [Some(to.as_str()), hidden].into_iter().flatten().collect::<Vec<_>>());
    }

    fn has_hidden(&self) -> bool {
        self.script.contains("hidden")
    }
}

/// The values of the fields with this name.
fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

/// The value of the only field with this name.
fn only<'a>(head: &'a str, name: &str) -> &'a str {
    let fields = fields(head, name);
    assert_eq!(fields.len(), 1, "{name} in {head}");
    fields[0]
}

fn texts(messages: &[Vec<u8>]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.clone()).unwrap()).collect()
}

/// The messages of this caller.
fn of<'a>(caller: &Caller, texts: &'a [String]) -> Vec<&'a str> {
    let subject = format!("\nSubject: {}\n", caller.subject);
    texts.iter().map(String::as_str).filter(|text| text.contains(&subject)).collect()
}

/// Each message is in its Maildir once, and the Maildirs have no others.
fn check_maildirs(place: &Place) {
    for caller in &CALLERS {
        caller.check_delivered(&texts(&place.wait_for_mail(caller.to, 1))[0]);
    }
    let with_hidden: Vec<&Caller> = CALLERS.iter().filter(|caller| caller.has_hidden()).collect();
    let hidden = texts(&place.wait_for_mail("hidden", with_hidden.len()));
    for caller in with_hidden {
        let its = of(caller, &hidden);
        assert_eq!(its.len(), 1, "{}", caller.to);
        caller.check_delivered(its[0]);
    }
    assert!(files(&place.path("state/drop")).is_empty() && place.queued() == 0);
    assert_eq!(files(&place.path("mail")).len(), CALLERS.len() + 1);
}

#[test]
fn what_they_send_is_there_once_with_a_daemon() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (place, _) = place("");
    let daemon = serve(&place);
    for caller in &CALLERS {
        caller.call(&place);
    }
    check_maildirs(&place);
    daemon.stop();
}

#[test]
fn what_they_send_is_there_once_after_a_run_of_the_queue() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (place, _) = place("");
    let run_queue = || {
        let mut command = Command::new(place.path("pillarbox"));
        run(command.arg("-c").arg(place.path("pillarbox.toml")).args(["queue", "run"]));
    };
    run_queue();
    for caller in &CALLERS {
        caller.call(&place);
    }
    assert_eq!(files(&place.path("state/drop")).len(), CALLERS.len());
    run_queue();
    check_maildirs(&place);
}

#[test]
fn what_they_send_is_at_the_smarthost_once_in_the_name_that_it_wants() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (place, _) = place("");
    let _sink = place.sink(&[]);
    let names = CALLERS.iter().map(|caller| caller.to).chain(["hidden"]);
    let aliases: String = names.map(|name| format!("{name}: {name}@far.test\n")).collect();
    place.configure(&format!(
        "local.aliases = {:?}\nrelay.smarthost = \"smtp://127.0.0.1:{}\"\nrewrite.from = \"alerts@far.test\"\n",
        place.write("aliases", &aliases),
        place.sink_port
    ));
    let daemon = serve(&place);
    for caller in &CALLERS {
        caller.call(&place);
    }
    place.wait_for_empty_queue(SOON);
    daemon.stop();
    let sunk = texts(&place.sunk());
    for caller in &CALLERS {
        caller.check_relayed(&of(caller, &sunk));
    }
}

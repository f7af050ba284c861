use super::*;
use crate::test_directory::TestDirectory;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

const NOW: WallTime = WallTime(1_795_416_810_000_042);

fn maildir(directory: &TestDirectory, template: &str, user: &str) -> MaildirPath {
    let template = format!("{}/{template}", directory.path().display());
    MaildirPath::expand(&template, user, "example.org", None, None).unwrap()
}

fn deliver(maildirs: &Maildirs, path: &MaildirPath, text: &[u8]) -> PathBuf {
    let mut delivery = maildirs.stage(path, NOW).unwrap();
    delivery.write(text).unwrap();
    delivery.sync().unwrap().commit().unwrap()
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn a_first_delivery_makes_the_maildir() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "var/mail/{user}", "root");
    let file = deliver(&Maildirs::new("a/b:c,d.example"), &path, b"Subject: x\n\nhello\n");
    let root = directory.path().join("var/mail/root");
    assert_eq!(file.parent(), Some(&*root.join("new")));
    assert_eq!(fs::read(&file).unwrap(), b"Subject: x\n\nhello\n");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    for name in ["", "new", "cur", "tmp"] {
        assert_eq!(fs::metadata(root.join(name)).unwrap().mode() & 0o777, 0o700, "{name}");
    }
    assert_eq!((count(&root.join("tmp")), count(&root.join("new"))), (0, 1));

    let name = file.file_name().unwrap().to_str().unwrap();
    let unique = name.strip_prefix(&format!("1795416810.M42P{}Q", std::process::id())).unwrap();
    let number = unique.strip_suffix(".a\\057b\\072c_d.example,S=18").unwrap();
    assert!(number.parse::<u64>().unwrap() < 1 << 63);
}

#[test]
fn nothing_is_seen_before_the_commit_and_nothing_left_without_it() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "root");
    let maildirs = Maildirs::new("host");
    let (tmp, new) = (directory.path().join("root/tmp"), directory.path().join("root/new"));
    let mut delivery = maildirs.stage(&path, NOW).unwrap();
    delivery.write(b"x").unwrap();
    assert_eq!((count(&tmp), count(&new)), (1, 0));
    let synced = delivery.sync().unwrap();
    assert_eq!((count(&tmp), count(&new)), (1, 0));
    drop(synced);
    assert_eq!((count(&tmp), count(&new)), (0, 0));
}

#[test]
fn one_target_is_the_source_of_another() {
    let directory = TestDirectory::new();
    let maildirs = Maildirs::new("host");
    let mut first = maildirs.stage(&maildir(&directory, "{user}", "a"), NOW).unwrap();
    first.write(b"To: a\n").unwrap();
    let head = first.octets();
    first.write(b"text\n").unwrap();
    let mut second = maildirs.stage(&maildir(&directory, "{user}", "b"), NOW).unwrap();
    second.write(b"To: b\n").unwrap();
    second.append_from(first.content_source().unwrap(), head, 5).unwrap();
    let file = second.sync().unwrap().commit().unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"To: b\ntext\n");
    assert!(file.to_str().unwrap().ends_with(",S=11"));
}

#[test]
fn names_from_many_threads_and_processes_differ() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "root");
    let maildirs = Maildirs::new("host");
    let files: HashSet<_> = std::thread::scope(|scope| {
        let one = || (0..20).map(|_| deliver(&maildirs, &path, b"x")).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(files.len(), 160);
    assert_eq!(count(&directory.path().join("root/new")), 160);
    assert_ne!(Maildirs::new("host").next_name(NOW), Maildirs::new("host").next_name(NOW));
}

#[test]
fn links_in_place_of_directories_are_refused() {
    for place in ["box", "box/root", "box/root/tmp", "box/root/new"] {
        let directory = TestDirectory::new();
        let elsewhere = directory.path().join("elsewhere");
        for name in ["tmp", "new", "cur", "root/tmp", "root/new", "root/cur"] {
            fs::create_dir_all(elsewhere.join(name)).unwrap();
        }
        let template = format!("{}/{{domain}}/{{user}}", directory.path().display());
        let path = MaildirPath::expand(&template, "root", "box", None, None).unwrap();
        path.make(None).unwrap();
        let place = directory.path().join(place);
        fs::remove_dir_all(&place).unwrap();
        symlink(&elsewhere, &place).unwrap();
        let error = Maildirs::new("host").stage(&path, NOW).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{place:?}");
        assert_eq!(Maildirs::new("host").sweep(&path, NOW).is_err(), !place.ends_with("new"));
        fs::remove_file(&place).unwrap();
        symlink("nowhere", &place).unwrap();
        assert_eq!(Maildirs::new("host").stage(&path, NOW).unwrap_err().kind, ErrorKind::Refused);
    }
    let directory = TestDirectory::new();
    fs::create_dir(directory.path().join("real")).unwrap();
    symlink("real", directory.path().join("link")).unwrap();
    deliver(&Maildirs::new("host"), &maildir(&directory, "link/{user}", "root"), b"the administrator's link");
    let error = Maildirs::new("host").stage(&maildir(&directory, "link", ""), NOW).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
}

#[test]
fn a_maildir_that_was_taken_away_is_made_again() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "root");
    let maildirs = Maildirs::new("host");
    deliver(&maildirs, &path, b"1");
    let root = directory.path().join("root");
    fs::rename(&root, directory.path().join("moved")).unwrap();
    deliver(&maildirs, &path, b"2");
    assert_eq!(count(&root.join("new")), 1);
    for name in ["tmp", "new"] {
        fs::remove_dir_all(root.join(name)).unwrap();
        deliver(&maildirs, &path, b"3");
    }
    assert_eq!(count(&directory.path().join("moved/new")), 1);
}

#[test]
fn tmp_is_made_last_so_that_it_vouches_for_the_rest() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "root");
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    // A file in place of `new`: making the Maildir fails before `tmp`, and the next delivery tries again.
    fs::write(root.join("new"), "").unwrap();
    assert_eq!(Maildirs::new("host").stage(&path, NOW).unwrap_err().kind, ErrorKind::Refused);
    assert!(!root.join("tmp").exists());
    fs::remove_file(root.join("new")).unwrap();
    fs::write(root.join("cur"), "").unwrap();
    assert!(Maildirs::new("host").stage(&path, NOW).is_err());
    assert!(!root.join("tmp").exists());
    fs::remove_file(root.join("cur")).unwrap();
    deliver(&Maildirs::new("host"), &path, b"x");
}

#[test]
fn only_old_files_are_swept() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "root");
    assert_eq!(Maildirs::new("host").sweep(&path, NOW).unwrap(), 0);
    let maildirs = Maildirs::new("host");
    let delivery = maildirs.stage(&path, NOW).unwrap();
    let tmp = directory.path().join("root/tmp");
    fs::create_dir(tmp.join("directory")).unwrap();
    let written = fs::metadata(tmp.join("directory")).unwrap().mtime() as u64;
    let later = |seconds| WallTime((written + seconds) * 1_000_000);
    assert_eq!(Maildirs::new("host").sweep(&path, WallTime(0)).unwrap(), 0);
    assert_eq!(Maildirs::new("host").sweep(&path, later(TMP_MAX_AGE_SECONDS - 60)).unwrap(), 0);
    assert_eq!(Maildirs::new("host").sweep(&path, later(TMP_MAX_AGE_SECONDS + 60)).unwrap(), 1);
    assert_eq!(count(&tmp), 1);
    // The clock jumped, and a file in use was swept: an error, which the client learns of.
    assert!(delivery.sync().unwrap().commit().is_err());
    assert_eq!(count(&directory.path().join("root/new")), 0);
}

#[test]
fn names_in_paths_stay_below_their_directory() {
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "a\nb", &"x".repeat(256)] {
        assert!(!is_safe_component(name), "{name:?}");
        assert!(MaildirPath::expand("/m/{user}", name, "d", None, None).is_err(), "{name:?}");
        assert!(MaildirPath::expand("/m/{domain}/x", "u", name, None, None).is_err(), "{name:?}");
    }
    let expand = |template: &str, user: &str| {
        MaildirPath::expand(template, user, "example.org", Some(Path::new("/home/u")), None)
            .map(|p| (p.base.display().to_string(), p.below.join("/")))
            .ok()
    };
    let pair = |base: &str, below: &str| Some((base.to_owned(), below.to_owned()));
    assert_eq!(expand("/var/mail/{user}", "u"), pair("/var/mail", "u"));
    assert_eq!(expand("/srv/{domain}/{user}/Maildir/", "u"), pair("/srv", "example.org/u/Maildir"));
    assert_eq!(expand("/srv/{user}@{domain}", "u"), pair("/srv", "u@example.org"));
    assert_eq!(expand("{home}/.maildir", "u"), pair("/home/u", ".maildir"));
    assert_eq!(expand("{home}/mail/box", "u"), pair("/home/u", "mail/box"));
    assert_eq!(expand("/var/all", "u"), pair("/var", "all"));
    assert_eq!(expand("target/{user}", "u"), pair("target", "u"));
    assert_eq!(expand("/m/{user}", "{domain}"), pair("/m", "{domain}"));
    for template in ["/m/{user}/../x", "/m/{nobody}", "/m/{user", "/", "", "{home}"] {
        let without_home = MaildirPath::expand(template, "u", "d", None, None);
        assert!(without_home.is_err(), "{template}");
    }
}

#[test]
fn a_home_that_is_missing_is_not_made() {
    let directory = TestDirectory::new();
    let home = directory.path().join("home");
    let path = MaildirPath::expand("{home}/Maildir", "u", "d", Some(&home), None).unwrap();
    assert_eq!(Maildirs::new("host").stage(&path, NOW).unwrap_err().kind, ErrorKind::Trouble);
    assert!(!home.exists());
    fs::create_dir(&home).unwrap();
    deliver(&Maildirs::new("host"), &path, b"x");
}

#[test]
fn what_root_makes_for_a_user_is_theirs() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = TestDirectory::new();
    let owner = Some(Owner { uid: 12345, gid: 23456 });
    let template = format!("{}/mail/{{user}}", directory.path().display());
    let path = MaildirPath::expand(&template, "u", "d", None, owner).unwrap();
    let maildirs = Maildirs::new("host").with_rights(MaildirRights::GiveAway);
    let file = deliver(&maildirs, &path, b"x");
    for place in
        [file, path.path(), path.path().join("tmp"), path.path().join("new"), path.path().join("cur")]
    {
        let metadata = fs::metadata(&place).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 23456), "{place:?}");
    }
    let parent = fs::metadata(directory.path().join("mail")).unwrap();
    assert_eq!((parent.uid(), parent.mode() & 0o777), (0, 0o711));
}

#[test]
fn what_root_makes_is_given_away_before_another_thread_delivers_there() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let maildirs = Maildirs::new("host").with_rights(MaildirRights::GiveAway);
    let owner = Some(Owner { uid: 12345, gid: 23456 });
    for _ in 0..100 {
        let directory = TestDirectory::new();
        let template = format!("{}/{{user}}", directory.path().display());
        let path = MaildirPath::expand(&template, "u", "d", None, owner).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| while maildirs.try_stage(&path, NOW).is_err() {});
            deliver(&maildirs, &path, b"x");
        });
        assert_eq!(fs::metadata(path.path().join("tmp")).unwrap().uid(), 12345);
    }
}

#[test]
fn the_longest_host_name_still_makes_a_file_name() {
    let directory = TestDirectory::new();
    deliver(&Maildirs::new(&"/".repeat(255)), &maildir(&directory, "{user}", "root"), b"x");
}

/// An agent that does its errands in this process, and counts them.
#[derive(Debug)]
struct Here {
    path: MaildirPath,
    errands: std::sync::Mutex<Vec<&'static str>>,
}

impl Here {
    fn new(path: MaildirPath) -> Arc<Self> {
        Arc::new(Self { path, errands: std::sync::Mutex::default() })
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.errands.lock().unwrap())
    }
}

impl Agent for Here {
    fn go(&self, whose: &MaildirUser, errand: Errand<'_>) -> io::Result<u64> {
        assert_eq!((whose.user.as_str(), whose.domain.as_str()), ("u", "d"));
        self.errands.lock().unwrap().push(match errand {
            Errand::Store(..) => "store",
            Errand::Commit(..) => "commit",
            Errand::Discard(_) => "discard",
            Errand::Append(..) => "append",
            Errand::Sweep => "sweep",
            Errand::Measure => "measure",
        });
        perform(&self.path, None, errand, NOW, &|| self.path.make(None))
    }

    fn overdue(&self) -> usize {
        0
    }

    fn reload(&self) -> bool {
        true
    }
}

/// A path that this process must not use itself, and the agent that knows the right one.
fn of_agent(directory: &TestDirectory) -> (MaildirPath, Arc<Here>) {
    let expand = |template: &str| {
        MaildirPath::expand(template, "u", "d", None, Some(Owner { uid: 1, gid: 1 })).unwrap()
    };
    let agent = Here::new(expand(&format!("{}/{{user}}", directory.path().display())));
    (expand("/nonexistent/{user}"), agent)
}

#[test]
fn an_agent_copies_moves_and_unlinks() {
    let directory = TestDirectory::new();
    let (path, agent) = of_agent(&directory);
    let maildirs = Maildirs::new("host").with_rights(MaildirRights::Agent(Arc::clone(&agent) as _));
    let (tmp, new) = (directory.path().join("u/tmp"), directory.path().join("u/new"));
    let name = deliver(&maildirs, &path, b"hello");
    let file = new.join(name.file_name().unwrap());
    assert_eq!((fs::read(&file).unwrap(), agent.asked()), (b"hello".to_vec(), vec!["store", "commit"]));
    let mut delivery = maildirs.stage(&path, NOW).unwrap();
    delivery.write(b"x").unwrap();
    assert_eq!((count(&tmp), count(&new)), (0, 1));
    let synced = delivery.sync().unwrap();
    assert_eq!((count(&tmp), count(&new)), (1, 1));
    drop(synced);
    assert_eq!((count(&tmp), count(&new), agent.asked()), (0, 1, vec!["store", "discard"]));
    assert_eq!(maildirs.sweep(&path, NOW).unwrap(), 0);
    let mut delivery = maildirs.stage(&path, NOW).unwrap();
    delivery.write(b"hello").unwrap();
    let synced = delivery.sync().unwrap();
    fs::remove_dir_all(&new).unwrap();
    assert!(synced.commit().is_err());
    assert_eq!(count(&tmp), 0);
}

/// The file that the daemon holds open is not the one in the mailbox.
#[test]
fn what_was_delivered_cannot_be_changed_by_the_descriptor_that_wrote_it() {
    let directory = TestDirectory::new();
    let (path, agent) = of_agent(&directory);
    let maildirs = Maildirs::new("host").with_rights(MaildirRights::Agent(agent));
    let mut delivery = maildirs.stage(&path, NOW).unwrap();
    delivery.write(b"as sent").unwrap();
    let held = delivery.content_source().unwrap().try_clone().unwrap();
    let synced = delivery.sync().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&held, b"forged!", 0).unwrap();
    let name = synced.commit().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&held, b"forged!", 0).unwrap();
    let file = directory.path().join("u/new").join(name.file_name().unwrap());
    assert_eq!(fs::read(file).unwrap(), b"as sent");
}

#[test]
fn no_errand_leaves_the_maildir() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "u");
    fs::write(directory.path().join("secret"), "x").unwrap();
    let message = fs::File::open(directory.path().join("secret")).unwrap();
    let perform = |errand| super::perform(&path, None, errand, NOW, &|| path.make(None));
    let name = "1.M2P3Q4.host";
    perform(Errand::Store(name, &message)).unwrap();
    for errand in [
        Errand::Store("../../y", &message),
        Errand::Store("..", &message),
        Errand::Store("", &message),
        // Names that a Maildir has for other purposes.
        Errand::Store("dovecot.index", &message),
        Errand::Store("subscriptions", &message),
        Errand::Commit("../../secret", "s"),
        Errand::Commit(name, "../../y"),
        Errand::Commit(name, name),
        Errand::Commit(name, "1.M2P3Q4.host,S=0"),
        Errand::Commit(name, "1.M2P3Q5.host,S=1"),
        Errand::Commit("x", "x,S=1"),
        Errand::Discard("../../secret"),
        Errand::Discard("x"),
    ] {
        assert_eq!(perform(errand).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{errand:?}");
    }
    assert_eq!(count(directory.path()), 2);
    perform(Errand::Commit(name, "1.M2P3Q4.host,S=1")).unwrap();
}

/// The quota is measured once, and then remembered with what was delivered.
#[test]
fn a_mailbox_far_below_its_quota_is_measured_once() {
    let directory = TestDirectory::new();
    let (path, agent) = of_agent(&directory);
    let maildirs = Maildirs::new("host").with_rights(MaildirRights::Agent(Arc::clone(&agent) as _));
    let path = path.with_quota(100);
    assert_eq!((maildirs.likely_room(&path), agent.asked().len()), (None, 0), "nobody has looked");
    assert_eq!(maildirs.room(&path).unwrap(), 100, "there is none yet");
    agent.asked();
    for left in [90, 80, 70] {
        deliver(&maildirs, &path, &[b'x'; 10]);
        assert_eq!(maildirs.likely_room(&path), Some(left));
    }
    assert_eq!(agent.asked(), ["store", "commit"].repeat(3));
    // When little is left, it is looked at.
    for left in [30, 10] {
        deliver(&maildirs, &path, &vec![b'x'; maildirs.likely_room(&path).unwrap() as usize - left]);
    }
    assert_eq!(agent.asked(), ["store", "commit"].repeat(2));
    deliver(&maildirs, &path, &[b'x'; 10]);
    assert_eq!(agent.asked(), ["measure", "store", "commit"]);
    assert_eq!(maildirs.stage(&path, NOW).unwrap_err().kind, ErrorKind::MailboxFull);
    // Its user makes room.
    fs::remove_dir_all(directory.path().join("u/new")).unwrap();
    fs::create_dir(directory.path().join("u/new")).unwrap();
    deliver(&maildirs, &path, &[b'x'; 100]);
}

/// A directory whose time of modification has not changed is not read again.
#[test]
fn a_directory_is_read_again_only_when_it_has_changed() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "u");
    deliver(&Maildirs::new("host"), &path, b"12345");
    let root = directory.path().join("u");
    for folder in ["cur", ".Sent/new"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let put = |name: &str| fs::write(root.join(name), "12").unwrap();
    // Changes the directory, and hides that it did.
    let put_in_secret = |name: &str| {
        let place = fs::File::open(root.join(name).parent().unwrap()).unwrap();
        let before = place.metadata().unwrap().modified().unwrap();
        put(name);
        place.set_modified(before).unwrap();
    };
    let old = |name: &str| {
        let place = fs::File::open(root.join(name)).unwrap();
        place.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
    };
    ["", "new", "cur", ".Sent/new"].iter().for_each(|name| old(name));
    let measured = || measure::measure(&path).unwrap();
    assert_eq!(measured(), 5);
    for name in ["new/a", "cur/a", ".Sent/new/a"] {
        put_in_secret(name);
    }
    assert_eq!(measured(), 5, "nothing was read");
    put("cur/b");
    assert_eq!(measured(), 9, "one directory was read");
    fs::create_dir_all(root.join(".Drafts/cur")).unwrap();
    put(".Drafts/cur/a");
    assert_eq!(measured(), 11, "a new folder");
    fs::remove_dir_all(root.join(".Drafts")).unwrap();
    assert_eq!(measured(), 9);
    // A commit of this process adds what it knows: `new` is not read, or its secret would come out.
    let name = "1.M2P3Q4.host";
    let message = fs::File::open(root.join("cur/a")).unwrap();
    for errand in [Errand::Store(name, &message), Errand::Commit(name, "1.M2P3Q4.host,S=2")] {
        perform(&path, None, errand, NOW, &|| path.make(None)).unwrap();
    }
    assert_eq!(measured(), 11);
    put("new/b");
    assert_eq!(measured(), 15, "the secret of new came out");
}

#[test]
fn a_maildir_is_as_large_as_its_messages() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "u");
    let maildirs = Maildirs::new("host");
    deliver(&maildirs, &path, b"12345");
    let root = directory.path().join("u");
    fs::write(root.join("cur/1.x,S=7:2,S"), "what the name says counts").unwrap();
    fs::write(root.join("cur/2.x:2,S"), "12").unwrap();
    fs::write(root.join("dovecot.index"), "no message").unwrap();
    for folder in [".Sent", "Sent"] {
        fs::create_dir_all(root.join(folder).join("new")).unwrap();
        fs::write(root.join(folder).join("new/3.x"), "123").unwrap();
    }
    symlink("/etc", root.join(".link")).unwrap();
    assert_eq!(maildirs.room(&path).unwrap(), u64::MAX);
    let path = path.with_quota(20);
    assert_eq!(maildirs.room(&path).unwrap(), 20 - (5 + 7 + 2 + 3));
    for (octets, fits) in [(4, false), (3, true), (1, false)] {
        let delivered = maildirs.stage(&path, NOW).and_then(|mut delivery| {
            delivery.write(&vec![b'x'; octets])?;
            delivery.sync()?.commit()
        });
        assert_eq!(delivered.map_err(|error| error.kind).err(), (!fits).then_some(ErrorKind::MailboxFull));
    }
    assert_eq!((maildirs.room(&path).unwrap(), count(&root.join("tmp"))), (0, 0));
    // The user chooses the names.
    for name in ["3", "4"] {
        fs::write(root.join(format!("cur/{name}.x,S={}", u64::MAX)), "").unwrap();
    }
    assert_eq!(maildirs.room(&path).unwrap(), 0);
}

#[test]
fn what_lies_in_the_place_of_a_mailbox_is_judged() {
    let directory = TestDirectory::new();
    let own = rustix::process::geteuid().as_raw();
    let flaw = |name: &str, uid| maildir(&directory, "{user}", name).flaw(uid);
    let place = |name: &str| directory.path().join(name);
    fs::write(place("file"), "").unwrap();
    fs::create_dir(place("directory")).unwrap();
    symlink("directory", place("link")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(place("socket")).unwrap());
    assert_eq!(["missing", "file", "directory"].map(|name| flaw(name, own)), [None; 3]);
    assert!(flaw("link", own).is_some_and(|words| words.contains("link")));
    assert!(flaw("socket", own).is_some_and(|words| words.contains("neither")));
    assert!(flaw("directory", own + 1).is_some_and(|words| words.contains("another user")));
    fs::set_permissions(place("directory"), std::os::unix::fs::PermissionsExt::from_mode(0o770)).unwrap();
    assert_eq!(flaw("directory", own + 1), None, "a group shares it");
}

/// It is the group `mail` on Debian (Policy 11.6).
#[test]
fn locks_beside_mboxes_may_need_the_group_of_their_directory() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give a directory to another group.
    }
    let directory = TestDirectory::new();
    let mode = |octal| std::os::unix::fs::PermissionsExt::from_mode(octal);
    fs::set_permissions(directory.path(), mode(0o2775)).unwrap();
    let group = |template: &str| maildir(&directory, template, "u").group_of_locks();
    assert_eq!(group("{user}"), None, "root's group is given to nobody");
    std::os::unix::fs::chown(directory.path(), None, Some(4321)).unwrap();
    fs::set_permissions(directory.path(), mode(0o2775)).unwrap();
    assert_eq!((group("{user}"), group("{user}/{domain}")), (Some(4321), None));
    let home = MaildirPath::expand("{home}/u", "u", "d", Some(directory.path()), None).unwrap();
    assert_eq!(home.group_of_locks(), None);
    fs::set_permissions(directory.path(), mode(0o2755)).unwrap();
    assert_eq!(group("{user}"), None, "the group may not write there");
}

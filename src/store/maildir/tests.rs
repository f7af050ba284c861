use super::super::test_directory::TestDirectory;
use super::*;
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
fn the_longest_host_name_still_makes_a_file_name() {
    let directory = TestDirectory::new();
    deliver(&Maildirs::new(&"/".repeat(255)), &maildir(&directory, "{user}", "root"), b"x");
}

/// An agent that does its errands in this process.
#[derive(Debug)]
struct Here(MaildirPath);

impl Agent for Here {
    fn go(&self, whose: &MaildirUser, errand: Errand<'_>) -> io::Result<Done> {
        assert_eq!((whose.user.as_str(), whose.domain.as_str()), ("u", "d"));
        perform(&self.0, None, errand, NOW)
    }

    fn reload(&self) {}
}

#[test]
fn an_agent_makes_moves_and_unlinks() {
    let directory = TestDirectory::new();
    let template = format!("{}/{{user}}", directory.path().display());
    let expand = |template: &str| {
        MaildirPath::expand(template, "u", "d", None, Some(Owner { uid: 1, gid: 1 })).unwrap()
    };
    // This process must not use its own idea of the path: it leads nowhere.
    let path = expand("/nonexistent/{user}");
    let agent = Arc::new(Here(expand(&template)));
    let maildirs = Maildirs::new("host").with_rights(MaildirRights::Agent(agent));
    let (tmp, new) = (directory.path().join("u/tmp"), directory.path().join("u/new"));
    let path = path.with_quota(100);
    assert_eq!(maildirs.room(&path).unwrap(), 100, "there is none yet");
    let name = deliver(&maildirs, &path, b"hello");
    let file = new.join(name.file_name().unwrap());
    assert_eq!(fs::read(&file).unwrap(), b"hello");
    let mut delivery = maildirs.stage(&path, NOW).unwrap();
    delivery.write(b"x").unwrap();
    assert_eq!((count(&tmp), count(&new)), (1, 1));
    drop(delivery.sync().unwrap());
    assert_eq!((count(&tmp), count(&new)), (0, 1));
    assert_eq!(maildirs.sweep(&path, NOW).unwrap(), 0);
    // The name of an existing message is not used again.
    let mut delivery = maildirs.stage(&path, NOW).unwrap();
    delivery.write(b"hello").unwrap();
    let synced = delivery.sync().unwrap();
    fs::remove_dir_all(&new).unwrap();
    assert!(synced.commit().is_err());
    assert_eq!(count(&tmp), 0);
}

#[test]
fn no_errand_leaves_the_maildir() {
    let directory = TestDirectory::new();
    let path = maildir(&directory, "{user}", "u");
    fs::write(directory.path().join("secret"), "x").unwrap();
    perform(&path, None, Errand::Stage("x"), NOW).unwrap();
    for errand in [
        Errand::Stage("../../y"),
        Errand::Stage(".."),
        Errand::Stage(""),
        Errand::Commit("../../secret", "s"),
        Errand::Commit("x", "../../y"),
        Errand::Discard("../../secret"),
    ] {
        assert_eq!(perform(&path, None, errand, NOW).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(count(directory.path()), 2);
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

use super::harness::{Random, SOON, alone, files, run, wait_until};
use super::oracle::{Figures, World, by_sendmail, kind};
use super::sink::{Manner, number_of};
use super::{is_root, random, times};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Damages a file; says how.
fn damage(file: &Path, random: &mut Random) -> &'static str {
    let mut octets = fs::read(file).unwrap();
    let at = random.below(octets.len() as u64) as usize;
    let end = (at + 1 + random.below(600) as usize).min(octets.len());
    let how = match random.below(9) {
        0 => {
            octets.truncate(at);
            "truncated"
        }
        1 => {
            octets[at..end].fill(0);
            "zeros in it"
        }
        2 => {
            octets.splice(at..at, b"to=v@box.test\n".to_vec());
            "a line more"
        }
        3 => {
            octets.drain(at..end);
            "octets missing"
        }
        4 => {
            octets[16] = b'2';
            "another version"
        }
        5 => {
            octets.clear();
            "empty"
        }
        6 => {
            octets.iter_mut().for_each(|octet| *octet = random.below(256) as u8);
            "noise"
        }
        _ => {
            octets[at] ^= 1 << random.below(8);
            "a bit flipped"
        }
    };
    fs::write(file, octets).unwrap();
    how
}

/// Puts things into a directory that are no files of pillarbox, some with names that could be.
fn litter(directory: &Path, name: impl Fn(usize) -> String) {
    let path = |number| directory.join(name(number));
    fs::create_dir(path(0)).unwrap();
    fs::write(path(0).join("x"), "x").unwrap();
    mknodat(CWD, path(1), FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink("/etc/passwd", path(2)).unwrap();
    symlink("nowhere", path(3)).unwrap();
    drop(UnixListener::bind(directory.join("s")));
    fs::write(directory.join("README"), "not a message").unwrap();
    fs::write(directory.join(std::ffi::OsStr::from_bytes(b"\xff\n\x1b[2J")), "x").unwrap();
    fs::write(directory.join("x".repeat(255)), "x").unwrap();
    let large = fs::File::create(path(4)).unwrap();
    large.set_len(3 << 30).unwrap();
    // Containers may not make devices.
    let null = rustix::fs::makedev(1, 5);
    let _ = mknodat(CWD, path(5), FileType::CharacterDevice, Mode::RWXU, null);
}

/// Waits until every promise is kept.
fn wait_for_all(world: &World, what: &str) -> Figures {
    let mut figures = Figures::default();
    let mut ask = || {
        figures = world.ask(1);
        figures.lost.is_empty()
    };
    let begun = std::time::Instant::now();
    while !ask() && begun.elapsed() < SOON {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(figures.lost.is_empty(), "{what}: {figures:?}\n{}", world.place.log());
    assert!(figures.wrong_party.is_empty() && figures.changed.is_empty(), "{what}: {figures:?}");
    figures
}

#[test]
fn a_damaged_queue_file_harms_no_other() {
    let _alone = alone();
    let mut random = random("damaged files");
    let world = World::new("");
    world.sink.becomes(Manner::Busy);
    let daemon = world.start();
    for _ in 0..14 {
        world.try_next();
    }
    drop(daemon);
    world.sink.becomes(Manner::Good);
    let (state, mail) = (world.place.path("state"), world.place.path("mail"));
    let kept = world.place.path("kept");
    let copy = |from: &Path, to: &Path| drop(run(Command::new("cp").arg("-a").arg(from).arg(to)));
    fs::create_dir(&kept).unwrap();
    copy(&state, &kept);
    let before: Vec<u32> = (0..14).filter(|number| kind(*number) != 0).collect();
    let mut figures = Figures::default();
    for turn in 0..times(400, 8) {
        let _ = fs::remove_dir_all(&state);
        let _ = fs::remove_dir_all(&mail);
        world.make_mbox();
        copy(&kept.join("state"), &state);
        world.forget();
        let queued = files(&state.join("queue"));
        let file = &queued[random.below(queued.len() as u64) as usize];
        let damaged = number_of(&fs::read(file).unwrap()).unwrap();
        let how = damage(file, &mut random);
        // The mail that was delivered before went with the Maildirs, so only what is for the sink is asked for.
        let undamaged = before.iter().filter(|number| **number != damaged && matches!(kind(**number), 1 | 3));
        undamaged.for_each(|number| world.note(*number));
        let of_queue = |number: usize| format!("CRBM{number}FC3AV3BD");
        if turn % 2 == 0 {
            litter(&state.join("queue"), of_queue);
        }
        let mut daemon = world.start();
        figures.add(wait_for_all(&world, how));
        assert!(daemon.is_running(), "{how}: it ended");
        daemon.stop();
    }
    figures.judge("damaged files in the queue, half of them among files of others");
}

/// Texts that look like dropped messages.
fn hostile_drops() -> Vec<String> {
    let header = |message: usize, envelope: usize| format!("pillarbox-drop 1 {message:020} {envelope:010}\n");
    // From the null sender, so that what is a message after all makes no notice.
    let with = |envelope: &str| {
        let envelope = format!("sender=\n{envelope}");
        format!("{}Subject: x\n\nx\n{envelope}", header(14, envelope.len()))
    };
    let long = "e".repeat(5000);
    vec![
        String::new(),
        header(0, 0),
        header(usize::MAX, 10),
        header(14, 9_999_999_999),
        header(0, 11) + "to=v@box.test\n",
        with(""),
        with("to=|/bin/sh\n"),
        with("to=/etc/passwd\n"),
        with("to=:include:/etc/shadow\n"),
        with("to=v@box.test\\nRCPT TO:<x@far.test>\n"),
        with("sender=a@b.test>\\r\\nRCPT TO:<x@far.test\nto=v@box.test\n"),
        with(&format!("envid={long}\nto={long}@box.test\n")),
        with("uid=0\nto=v@box.test\n"),
        with("to=v@box.test\n").replace("drop 1", "drop 2"),
        with("to=v@box.test\n") + "more",
        with("to=v@box.test"),
        with(&"to=v@box.test\n".repeat(1001)),
    ]
}

#[test]
fn hostile_files_in_the_drop_directory_harm_no_other() {
    let _alone = alone();
    if !is_root("hostile drops") {
        return;
    }
    let mut random = random("hostile drops");
    let mut figures = Figures::default();
    for _ in 0..times(50, 2) {
        let world = World::new("");
        world.start().stop();
        let drops = world.place.path("state/drop");
        let mut faults = 10;
        litter(&drops, |number| format!("foreign{number}"));
        for (number, text) in hostile_drops().into_iter().enumerate() {
            fs::write(drops.join(format!("hostile{number}")), text).unwrap();
            faults += 1;
        }
        for number in (0..3).map(by_sendmail) {
            assert!(world.sendmail(number));
        }
        // Damaged copies: the first line and the end of the envelope, so that none is a message by chance.
        let is_small =
            |file: &&PathBuf| file.metadata().is_ok_and(|file| file.is_file() && file.len() < 100_000);
        for file in files(&drops).iter().filter(is_small).take(40) {
            let mut octets = fs::read(file).unwrap();
            if !octets.starts_with(b"pillarbox-drop") {
                continue;
            }
            octets[random.below(17) as usize] ^= 1 << random.below(7);
            fs::write(drops.join(format!("damaged{faults}")), octets).unwrap();
            faults += 1;
        }
        let mut daemon = world.start();
        let begun = std::time::Instant::now();
        wait_until("a client is served", SOON, || world.try_next());
        println!("hostile drops: a client is served after {:?}", begun.elapsed());
        let mut of_one = wait_for_all(&world, "hostile drops");
        of_one.faults = faults;
        of_one.crashes = world.place.logged(&["event=panic"]).len();
        assert!(daemon.is_running());
        daemon.stop();
        figures.add(of_one);
    }
    figures.judge("hostile files in the drop directory");
}

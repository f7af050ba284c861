use super::harness::{alone, program};
use super::oracle::{Figures, World};
use super::sink::Manner;
use super::{is_root, random, times};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Small file systems on `state` and `mail`, unmounted at the end.
struct Mounted(Vec<PathBuf>);

impl Mounted {
    /// Mounts a tmpfs on both; `None` where the system does not allow it.
    fn on(world: &World, options: &str) -> Option<Self> {
        let mut mounted = Self(Vec::new());
        for name in ["state", "mail"] {
            let path = world.place.path(name);
            std::fs::create_dir_all(&path).unwrap();
            if !mount(&["-t", "tmpfs", "-o", options, "none"], &path) {
                println!("full disks: skipped, mount is not allowed");
                return None;
            }
            mounted.0.push(path);
        }
        world.make_mbox();
        Some(mounted)
    }

    /// Whether both take these options.
    fn remount(&self, options: &str) -> bool {
        self.0.iter().all(|path| mount(&["-o", &format!("remount,{options}")], path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = program("umount", "mount").arg("-l").arg(path).status();
        }
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let mut command = program("mount", "mount");
    command.args(arguments).arg(path).stderr(Stdio::null()).status().unwrap().success()
}

/// Mail of each kind until nothing more is taken, on disks with this room; then there is room for all.
fn fill(options: &str) -> Option<Figures> {
    let world = World::new("");
    let mounted = Mounted::on(&world, options)?;
    // Nothing leaves, so that the room is used up.
    world.sink.becomes(Manner::Busy);
    // It may say that it can't start.
    if let Some(mut daemon) = world.try_start(&mut world.command()) {
        let (mut sent, mut refused) = (0, 0);
        while sent < 200 && refused < 12 {
            (sent, refused) = (sent + 1, if world.try_next() { 0 } else { refused + 1 });
        }
        assert!(daemon.is_running(), "{options}: it ended:\n{}", world.place.log());
        daemon.signal("KILL");
    }
    assert!(mounted.remount("size=50M,nr_inodes=10000"));
    // Its record of what it had could be lost with the room, and is checked below: a promise is enough.
    let figures = world.settle(1);
    let is_good = figures.lost.is_empty() && figures.wrong_party.is_empty() && figures.changed.is_empty();
    assert!(is_good, "{options}: {figures:?}\n{}", world.place.log());
    drop(mounted);
    Some(figures)
}

#[test]
fn a_disk_that_is_full_at_any_stage_loses_nothing() {
    let _alone = alone();
    if !is_root("full disks") {
        return;
    }
    let mut random = random("full disks");
    let mut options: Vec<String> = (1..=60).map(|pages| format!("size={}k", 4 * pages)).collect();
    options.extend((2..=40).map(|inodes| format!("size=50M,nr_inodes={inodes}")));
    let count = times(options.len(), 8);
    while options.len() > count {
        options.swap_remove(random.below(options.len() as u64) as usize);
    }
    let mut figures = Figures::default();
    for options in options {
        let Some(of_one) = fill(&options) else { return };
        figures.add(of_one);
    }
    figures.judge("disks full after some pages or inodes");
}

#[test]
fn a_disk_that_turns_read_only_under_load_loses_nothing() {
    let _alone = alone();
    if !is_root("read-only disks") {
        return;
    }
    let world = World::new("");
    let Some(mounted) = Mounted::on(&world, "size=200M") else { return };
    let daemon = world.start();
    let mut turns = 0;
    world.under_load(1, || {
        for _ in 0..times(100, 4) {
            std::thread::sleep(Duration::from_millis(200));
            let begun = Instant::now();
            // The kernel refuses while a file is open for writing; a half of it is a fault as well.
            while !mounted.remount("ro") && begun.elapsed() < Duration::from_secs(3) {}
            std::thread::sleep(Duration::from_millis(400));
            assert!(mounted.remount("rw"));
            turns += 1;
        }
    });
    daemon.stop();
    assert!(mounted.remount("size=1G"));
    let figures = world.settle(turns);
    drop(mounted);
    figures.judge("turns of the disks to read-only and back");
}

use super::client::Client;
use super::harness::{Daemon, Random, SOON, alone, files, program, signal, wait_until};
use super::oracle::{Figures, World, by_sendmail, kind};
use super::recorder::{self, Change, Event, Inode};
use super::sink::Manner;
use super::test_directory::TestDirectory;
use super::{is_full, random, times};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// What the disk keeps of the changes that no sync has covered when the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    /// Nothing.
    Nothing,
    /// All names, and no data: a journal of metadata alone.
    Names,
    /// All data, and no names.
    Data,
    /// Names up to some moment, some of the writes, and parts of others.
    Some,
}

const MODELS: [Model; 4] = [Model::Nothing, Model::Names, Model::Data, Model::Some];

/// Power cuts of a short form, over all models.
const FEW: usize = 60;
/// Messages of each session that shares syncs with others.
const EACH: usize = 4;
/// The system calls that matter.
const CALLS: &str = "trace=open,openat,close,write,writev,pwrite64,ftruncate,fallocate,lseek,sendfile,copy_file_range,\
                     fcntl,fsync,fdatasync,sync,syncfs,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,\
                     sendto,recvfrom,execve";

/// A disk after a cut: the directories that the trace made, and the files.
#[derive(Debug, Default, Hash)]
struct Disk {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Disk {
    /// What is left if the power fails at this moment.
    fn after(events: &[(usize, Event)], cut: usize, model: Model, random: &mut Random) -> Self {
        let (mut data, mut names) = (HashMap::<Inode, Vec<u8>>::new(), BTreeMap::<&Path, Inode>::new());
        let (mut directories, mut made) = (BTreeSet::new(), HashSet::new());
        let names_until = random.below(cut as u64 + 1) as usize;
        for (moment, event) in events.iter().take_while(|(moment, _)| *moment < cut) {
            let Event::Change { change, durable } = event else { continue };
            let is_durable = durable.is_some_and(|durable| durable < cut);
            let survives = match model {
                Model::Nothing => false,
                Model::Names => !change.is_data(),
                Model::Data => change.is_data(),
                Model::Some if change.is_data() => random.below(2) == 0,
                Model::Some => *moment < names_until,
            };
            if let Change::MakeDirectory { path } = change {
                made.insert(path.as_path());
            }
            if !is_durable && !survives {
                continue;
            }
            match change {
                Change::Write { inode, at, octets } => {
                    let is_torn = !is_durable && model == Model::Some && random.below(2) == 0;
                    let kept =
                        if is_torn { random.below(octets.len() as u64 + 1) as usize } else { octets.len() };
                    let file = data.entry(*inode).or_default();
                    file.resize(file.len().max(at + kept), 0);
                    file[*at..at + kept].copy_from_slice(&octets[..kept]);
                }
                Change::Truncate { inode, size } => data.entry(*inode).or_default().resize(*size, 0),
                Change::Link { path, inode } => drop(names.insert(path, *inode)),
                Change::Rename { from, to, inode } => {
                    names.remove(from.as_path());
                    names.insert(to, *inode);
                }
                Change::Unlink { path } => drop(names.remove(path.as_path())),
                Change::MakeDirectory { path } => drop(directories.insert(path.clone())),
            }
        }
        // What lies in a directory whose name is lost is lost.
        let is_there = |path: &Path, kept: &BTreeSet<PathBuf>| {
            path.ancestors().skip(1).all(|above| !made.contains(above) || kept.contains(above))
        };
        let kept = directories.clone();
        directories.retain(|path| is_there(path, &kept));
        let names = names.into_iter().filter(|(path, _)| is_there(path, &kept));
        let files =
            names.map(|(path, inode)| (path.to_owned(), data.get(&inode).cloned().unwrap_or_default()));
        Self { files: files.collect(), directories }
    }

    fn write(&self, root: &Path) {
        for name in ["state", "mail", "run"] {
            let _ = fs::remove_dir_all(root.join(name));
        }
        fs::create_dir_all(root.join("state/drop")).unwrap();
        for directory in &self.directories {
            fs::create_dir_all(directory).unwrap();
        }
        for (path, octets) in &self.files {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, octets).unwrap();
        }
    }
}

/// Cuts the power at moments of the trace, and asks after each cut, with a daemon that starts on what is left.
/// `promises`: the messages by the replies or processes that promise them. `most`: how many cuts, if not all.
fn cut_everywhere(
    world: &World,
    events: &[(usize, Event)],
    promises: &HashMap<String, u32>,
    most: Option<usize>,
    random: &mut Random,
) -> Figures {
    let (mut figures, mut seen) = (Figures::default(), HashSet::new());
    let (first, last) = (events[0].0, events[events.len() - 1].0);
    let mut cuts: Vec<(usize, Model)> = Vec::new();
    for (moment, _) in events {
        cuts.extend(MODELS.map(|model| (moment + 1, model)));
    }
    if let Some(most) = most {
        let any = |_| first + random.below((last - first) as u64 + 2) as usize;
        let moments: Vec<usize> = (0..most).map(any).collect();
        cuts = moments.iter().enumerate().map(|(at, moment)| (*moment, MODELS[at % MODELS.len()])).collect();
    }
    for (cut, model) in cuts {
        world.forget();
        let disk = Disk::after(events, cut, model, random);
        for (moment, event) in events {
            match event {
                Event::Promise(text) if *moment < cut => {
                    promises.get(text).iter().for_each(|number| world.note(**number));
                }
                Event::Left(number) if *moment < cut => world.sank(*number),
                _ => {}
            }
        }
        let mut hasher = DefaultHasher::new();
        (&disk, world.accepted(), world.sink.count()).hash(&mut hasher);
        if !seen.insert(hasher.finish()) {
            continue;
        }
        disk.write(&world.place.dir);
        let daemon = world.start();
        world.drain(&daemon, 0);
        drop(daemon);
        let asked = world.ask(1);
        let is_broken = !asked.lost.is_empty() || !asked.wrong_party.is_empty() || !asked.changed.is_empty();
        let kept: Vec<_> = disk.files.iter().map(|(path, octets)| (path, octets.len())).collect();
        assert!(
            !is_broken,
            "cut after line {cut} of the trace, {model:?}: {asked:?}\non the disk: {kept:#?}"
        );
        assert_eq!(files(&world.place.path("state/corrupt")).len(), 0, "cut after line {cut}, {model:?}");
        figures.add(asked);
    }
    figures.sent = promises.len() as u32;
    figures
}

/// How many cuts there are in a short form.
fn few() -> Option<usize> {
    (!is_full()).then_some(FEW)
}

/// A daemon under strace, which writes to `trace`.
fn strace(world: &World) -> Command {
    let mut strace = program("strace", "strace");
    strace.args(["-f", "-y", "-xx", "-s", "200000", "-e", CALLS, "-o"]).arg(world.place.path("trace"));
    strace
}

/// Ends a daemon that runs under strace, and reads its trace.
fn end(world: &World, mut daemon: Daemon) -> Vec<(usize, Event)> {
    let pid = daemon.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    signal(children.trim().parse().unwrap(), "TERM");
    daemon.wait();
    let trace = fs::read_to_string(world.place.path("trace")).unwrap();
    recorder::read(&world.place.dir, &trace, true)
}

/// Sessions at the same time share the syncs of directories: a reply must come after a sync that began after the rename of
/// its message, whichever thread made that sync.
#[test]
fn no_reply_comes_before_the_shared_sync_that_covers_its_message() {
    let _alone = alone();
    let mut random = random("power cuts with shared syncs");
    let world = World::new("limits.connections = 100\nlimits.connections_per_ip = 100\n");
    // Nothing leaves the queue until the cuts.
    world.sink.becomes(Manner::Later);
    let daemon = world.place.run(world.command_by(&mut strace(&world)).process_group(0));
    let promises = Mutex::new(HashMap::new());
    let session = || {
        let mut client = Client::hello(world.place.port).unwrap();
        for _ in 0..EACH {
            // To one Maildir, or to the queue.
            let number = (0..).map(|_| world.number()).find(|number| kind(*number) < 2).unwrap();
            let reply = world.submit(&mut client, number).unwrap();
            assert!(promises.lock().unwrap().insert(reply, number).is_none(), "one reply twice");
        }
    };
    std::thread::scope(|scope| (0..times(64, 32)).for_each(|_| drop(scope.spawn(session))));
    let promises = promises.into_inner().unwrap();
    let events = end(&world, daemon);
    for (moment, event) in &events {
        if let Event::Promise(reply) = event {
            let disk = Disk::after(&events, *moment, Model::Nothing, &mut random);
            let number = format!("Number: {}\n", promises[reply]);
            let is_there = disk.files.values().any(|file| String::from_utf8_lossy(file).contains(&number));
            assert!(is_there, "{reply:?} in line {moment} of the trace is a promise of what is not durable");
        }
    }
    let given = events.iter().filter_map(|(_, event)| match event {
        Event::Change { change: Change::Rename { to, .. }, durable } => to
            .parent()
            .is_some_and(|to| to.ends_with("new") || to.ends_with("queue"))
            .then(|| durable.unwrap()),
        _ => None,
    });
    let given: Vec<usize> = given.collect();
    let syncs = given.iter().collect::<HashSet<_>>().len();
    println!("{syncs} syncs for {} names", given.len());
    assert!(syncs * 10 < given.len() * 9, "{syncs} syncs for {} names: they are not shared", given.len());
    world.sink.becomes(Manner::Good);
    let most = Some(times(400, 20));
    let figures = cut_everywhere(&world, &events, &promises, most, &mut random);
    figures.judge("different disks after power cuts while sessions share syncs");
}

#[test]
fn a_power_cut_at_any_system_call_of_the_daemon_loses_nothing() {
    let _alone = alone();
    let mut random = random("power cuts");
    let world = World::new("");
    world.sink.becomes(Manner::Later);
    let daemon = world.place.run(world.command_by(&mut strace(&world)).process_group(0));
    let mut promises = HashMap::new();
    let mut client = Client::hello(world.place.port).unwrap();
    // The first of them are deferred, so that journals are written.
    for turn in 0..4 {
        if turn == 2 {
            wait_until("some are deferred", SOON, || world.sink.connections() > 2);
            world.sink.becomes(Manner::Good);
        }
        for _ in 0..7 {
            let number = world.number();
            if world.is_by_smtp(number) {
                let reply = world.submit(&mut client, number).unwrap();
                assert!(promises.insert(reply, number).is_none(), "one reply twice");
            }
        }
    }
    drop(client);
    wait_until("all has left", SOON * 2, || world.place.queued() == 0);
    let mut events = end(&world, daemon);
    let figures = cut_everywhere(&world, &events, &promises, few(), &mut random);
    figures.judge("different disks after power cuts of the daemon");
    // Without syncs the same trace loses everything, so the models would notice one that is missing.
    events.iter_mut().for_each(|(_, event)| {
        if let Event::Change { durable, .. } = event {
            *durable = None;
        }
    });
    let end = events[events.len() - 1].0 + 1;
    assert!(Disk::after(&events, end, Model::Nothing, &mut random).files.is_empty());
    assert!(Disk::after(&events, end, Model::Data, &mut random).files.is_empty());
}

#[test]
fn a_power_cut_at_any_system_call_of_sendmail_loses_nothing_it_had_promised() {
    let _alone = alone();
    let mut random = random("power cuts of sendmail");
    let world = World::new("");
    world.start().stop();
    let (mut trace, mut promises) = (String::new(), HashMap::new());
    for number in (0..3).map(by_sendmail) {
        let mut command = strace(&world);
        command.arg(&world.binary).arg("-c").arg(world.place.path("pillarbox.toml"));
        assert!(world.sendmail_by(command, number));
        let text = fs::read_to_string(world.place.path("trace")).unwrap();
        promises.insert(text.split_once(' ').unwrap().0.to_owned(), number);
        trace.push_str(&text);
    }
    let events = recorder::read(&world.place.dir, &trace, false);
    let figures = cut_everywhere(&world, &events, &promises, few(), &mut random);
    figures.judge("different disks after power cuts of sendmail");
}

/// With `queue.storage = "memory-first"` a power cut loses what lies in memory, and nothing after the daemon was stopped.
#[test]
fn after_sigterm_a_power_cut_takes_nothing_from_memory() {
    let _alone = alone();
    let mut random = random("power cuts after a stop");
    let in_memory = TestDirectory::below(Path::new("/dev/shm"));
    let memory = in_memory.join("queue");
    let world = World::new(&format!("queue.storage = \"memory-first\"\nqueue.memory = {memory:?}\n"));
    world.sink.becomes(Manner::Later);
    let daemon = world.place.run(world.command_by(&mut strace(&world)).process_group(0));
    let mut client = Client::hello(world.place.port).unwrap();
    let mut promises = Vec::new();
    for _ in 0..12 {
        // To the queue alone.
        let number = (0..).map(|_| world.number()).find(|number| kind(*number) == 1).unwrap();
        promises.push((world.submit(&mut client, number).unwrap(), number));
    }
    drop(client);
    assert_eq!((files(&memory.join("queue")).len(), world.place.queued()), (12, 0));
    let events = end(&world, daemon);
    let has = |disk: &Disk, number: u32| {
        let number = format!("Number: {number}\n");
        disk.files.values().any(|file| String::from_utf8_lossy(file).contains(&number))
    };
    let last = events[events.len() - 1].0 + 1;
    let after = Disk::after(&events, last, Model::Nothing, &mut random);
    for (reply, number) in &promises {
        assert!(has(&after, *number), "{reply:?} is not durable after the stop");
        let is_promise =
            |(_, event): &&(usize, Event)| matches!(event, Event::Promise(text) if text == reply);
        let (moment, _) = events.iter().find(is_promise).unwrap();
        let before = Disk::after(&events, *moment, Model::Some, &mut random);
        assert!(!has(&before, *number), "{reply:?} was on the disk at once");
    }
}

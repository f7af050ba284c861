use super::trace::{Call, joined};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A file, whatever its names are.
pub type Inode = usize;

/// A change of the disk.
#[derive(Debug)]
pub enum Change {
    Write { inode: Inode, at: usize, octets: Vec<u8> },
    Truncate { inode: Inode, size: usize },
    Link { path: PathBuf, inode: Inode },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    Unlink { path: PathBuf },
    MakeDirectory { path: PathBuf },
}

impl Change {
    /// Whether it is one of a file's content; else it is one of names.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Truncate { .. })
    }

    /// Applies it to the content of a file, if it is about that one.
    fn apply_to(&self, file: Inode, content: &mut Vec<u8>) {
        match self {
            Self::Write { inode, at, octets } if *inode == file => {
                let end = at + octets.len();
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(octets);
            }
            Self::Truncate { inode, size } if *inode == file => content.resize(*size, 0),
            _ => {}
        }
    }

    /// Whether this sync makes it durable, if the sync began after it.
    fn is_covered_by(&self, sync: &Sync) -> bool {
        let is_in = |path: &Path, directory: &Path| path.parent() == Some(directory);
        match (self, sync) {
            (_, Sync::All) => true,
            (Self::Write { inode, .. } | Self::Truncate { inode, .. }, Sync::File(synced)) => inode == synced,
            (
                Self::Link { path, .. } | Self::Unlink { path } | Self::MakeDirectory { path },
                Sync::Directory(directory),
            ) => is_in(path, directory),
            // The name goes from one directory to the other in one step.
            (Self::Rename { from, to, .. }, Sync::Directory(directory)) => {
                is_in(from, directory) || is_in(to, directory)
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
enum Sync {
    File(Inode),
    Directory(PathBuf),
    All,
}

/// What a trace tells. A moment is the number of a line in it.
#[derive(Debug)]
pub enum Event {
    /// `durable`: the moment from which a power cut can't undo it.
    Change { change: Change, durable: Option<usize> },
    /// A client was told that its message is safe: by this reply, or because this process exits with 0.
    Promise(String),
    /// The other host has taken the message with this number.
    Left(u32),
}

/// Reads a trace (`strace -f -y -xx`): all changes below `root`, in order, each with its moment. `is_daemon`: the threads
/// share descriptors, and a reply is a promise; else each process is one sendmail, and its exit with 0 is a promise.
pub fn read(root: &Path, trace: &str, is_daemon: bool) -> Vec<(usize, Event)> {
    let mut recorder = Recorder { root: root.to_owned(), is_daemon, ..Recorder::default() };
    let exits =
        trace.lines().enumerate().filter(|(_, line)| !is_daemon && line.contains("+++ exited with 0 +++"));
    for (moment, line) in exits {
        recorder.events.push((moment, Event::Promise(line.split_once(' ').unwrap().0.to_owned())));
    }
    let mut calls = joined(trace);
    // A descriptor can be used again from the moment at which its close has begun.
    calls.sort_by_key(|call| if call.name == "close" { call.begun } else { call.ended });
    calls.iter().for_each(|call| recorder.call(call));
    let Recorder { mut events, syncs, .. } = recorder;
    for (moment, event) in &mut events {
        let Event::Change { change, durable } = event else { continue };
        if durable.is_some() {
            continue;
        }
        let covers = |(begun, _, sync): &&(usize, usize, Sync)| begun > moment && change.is_covered_by(sync);
        *durable = syncs.iter().filter(covers).map(|(_, ended, _)| *ended).min();
    }
    events.sort_by_key(|(moment, _)| *moment);
    events
}

/// Follows names, descriptors and inodes below one directory.
#[derive(Debug, Default)]
struct Recorder {
    root: PathBuf,
    is_daemon: bool,
    names: HashMap<PathBuf, Inode>,
    /// Process, number: inode, offset.
    open: HashMap<(u32, u32), (Inode, usize)>,
    appends: HashSet<(u32, u32)>,
    sizes: Vec<usize>,
    events: Vec<(usize, Event)>,
    /// Begin, end, and what is synced.
    syncs: Vec<(usize, usize, Sync)>,
}

impl Recorder {
    fn change(&mut self, call: &Call, change: Change) {
        self.events.push((call.ended, Event::Change { change, durable: None }));
    }

    fn call(&mut self, call: &Call) {
        let Some((arguments, result)) = call.line.rsplit_once(" = ") else { return };
        let result: i64 = result.split([' ', '<']).next().unwrap().parse().unwrap_or(-1);
        if result < 0 {
            return;
        }
        let arguments = arguments.split_once('(').unwrap().1;
        let process = if self.is_daemon { 0 } else { call.thread };
        let key = (process, descriptor(arguments).unwrap_or(u32::MAX));
        match call.name.as_str() {
            "openat" | "open" => self.opened(call, arguments, (process, result as u32)),
            "close" => drop(self.open.remove(&key)),
            "fcntl" if arguments.contains("F_DUPFD") => {
                if let Some(&same) = self.open.get(&key) {
                    self.open.insert((process, result as u32), same);
                }
            }
            "write" | "writev" | "pwrite64" | "ftruncate" | "lseek" => {
                self.used(call, arguments, key, result as usize)
            }
            "sendfile" => self.copied(call, arguments, key, result as usize),
            "fallocate" | "copy_file_range" => {
                assert!(!self.open.contains_key(&key), "the recorder can't do {}", call.line);
            }
            "fsync" | "fdatasync" => {
                let file = self.open.get(&key).map(|(inode, _)| Sync::File(*inode));
                let sync = file.unwrap_or_else(|| Sync::Directory(shown_path(arguments)));
                self.syncs.push((call.begun, call.ended, sync));
            }
            "syncfs" | "sync" => self.syncs.push((call.begun, call.ended, Sync::All)),
            "sendto" => {
                let text = String::from_utf8_lossy(&strings(arguments).concat()).into_owned();
                if text.starts_with("250 2.0.0 Ok: ") && self.is_daemon {
                    self.events.push((call.begun, Event::Promise(text.trim_end().to_owned())));
                }
            }
            "recvfrom" => {
                let text = String::from_utf8_lossy(&strings(arguments).concat()).into_owned();
                for number in text.split("250 2.0.0 sunk ").skip(1) {
                    let number = number.split('\r').next().unwrap().parse().unwrap();
                    self.events.push((call.ended, Event::Left(number)));
                }
            }
            _ => self.named(call, arguments),
        }
    }

    /// A call that gives or takes names.
    fn named(&mut self, call: &Call, arguments: &str) {
        let paths = paths(arguments);
        if !paths.iter().take(2).any(|path| path.starts_with(&self.root)) {
            return;
        }
        match (call.name.as_str(), paths.as_slice()) {
            ("mkdirat" | "mkdir", [path, ..]) => {
                self.change(call, Change::MakeDirectory { path: path.clone() });
            }
            ("renameat" | "renameat2" | "rename", [from, to, ..]) => {
                let Some(inode) = self.names.remove(from) else { panic!("an unknown file: {}", call.line) };
                self.names.insert(to.clone(), inode);
                self.change(call, Change::Rename { from: from.clone(), to: to.clone(), inode });
            }
            ("linkat" | "link", [from, to, ..]) => {
                // A file without a name gets one by way of its descriptor.
                let descriptor =
                    from.strip_prefix("/proc/self/fd").ok().and_then(|fd| fd.to_str()?.parse().ok());
                let process = if self.is_daemon { 0 } else { call.thread };
                let inode = match descriptor {
                    Some(descriptor) => self.open[&(process, descriptor)].0,
                    None => self.names[from],
                };
                self.names.insert(to.clone(), inode);
                self.change(call, Change::Link { path: to.clone(), inode });
            }
            ("unlinkat" | "unlink" | "rmdir", [path, ..]) => {
                self.names.remove(path);
                self.change(call, Change::Unlink { path: path.clone() });
            }
            _ => {}
        }
    }

    /// A call that uses an open file.
    fn used(&mut self, call: &Call, arguments: &str, key: (u32, u32), result: usize) {
        let Some(&(inode, at)) = self.open.get(&key) else { return };
        match call.name.as_str() {
            "lseek" => drop(self.open.insert(key, (inode, result))),
            "ftruncate" => {
                let size = last_number(arguments);
                self.sizes[inode] = size;
                self.change(call, Change::Truncate { inode, size });
            }
            _ => {
                let octets = strings(arguments).concat()[..result].to_vec();
                let is_placed = call.name == "pwrite64";
                let at = match self.appends.contains(&key) {
                    // Linux appends whatever the offset is.
                    true => self.sizes[inode],
                    false if is_placed => last_number(arguments),
                    false => at,
                };
                let end = at + octets.len();
                self.sizes[inode] = self.sizes[inode].max(end);
                if !is_placed {
                    self.open.insert(key, (inode, end));
                }
                self.change(call, Change::Write { inode, at, octets });
            }
        }
    }

    /// From file to file: `sendfile(TO, FROM, [OFFSET] => [END], COUNT)`.
    fn copied(&mut self, call: &Call, arguments: &str, key: (u32, u32), result: usize) {
        let Some(&(inode, at)) = self.open.get(&key) else { return };
        let (_, rest) = arguments.split_once(", ").unwrap();
        let (from, _) = self.open[&(key.0, descriptor(rest).unwrap())];
        let (_, offset) = rest.split_once('[').unwrap_or_else(|| panic!("without an offset: {}", call.line));
        let offset: usize = offset.split(']').next().unwrap().parse().unwrap();
        let mut content = Vec::new();
        for (_, event) in &self.events {
            if let Event::Change { change, .. } = event {
                change.apply_to(from, &mut content);
            }
        }
        let octets = content[offset..offset + result].to_vec();
        let end = at + octets.len();
        self.sizes[inode] = self.sizes[inode].max(end);
        self.open.insert(key, (inode, end));
        self.change(call, Change::Write { inode, at, octets });
    }

    fn new_inode(&mut self) -> Inode {
        self.sizes.push(0);
        self.sizes.len() - 1
    }

    fn opened(&mut self, call: &Call, arguments: &str, key: (u32, u32)) {
        let path = paths(arguments).remove(0);
        self.open.remove(&key);
        self.appends.remove(&key);
        if !path.starts_with(&self.root) || arguments.contains("O_DIRECTORY") {
            return;
        }
        if arguments.contains("O_TMPFILE") {
            let inode = self.new_inode();
            self.open.insert(key, (inode, 0));
            return;
        }
        if !self.names.contains_key(&path) && arguments.contains("O_CREAT") {
            let inode = self.new_inode();
            self.names.insert(path.clone(), inode);
            self.change(call, Change::Link { path: path.clone(), inode });
        } else if !self.names.contains_key(&path) && arguments.contains("O_RDWR") {
            // An empty file from before the trace.
            let inode = self.new_inode();
            self.names.insert(path.clone(), inode);
            let change = Change::Link { path: path.clone(), inode };
            self.events.push((0, Event::Change { change, durable: Some(0) }));
        }
        // Else a file that nobody writes.
        let Some(&inode) = self.names.get(&path) else { return };
        self.open.insert(key, (inode, 0));
        if arguments.contains("O_APPEND") {
            self.appends.insert(key);
        }
        assert!(!arguments.contains("O_TRUNC"), "the recorder can't do {}", call.line);
    }
}

/// The number of the descriptor that is the first argument.
fn descriptor(arguments: &str) -> Option<u32> {
    arguments.split(['<', ',', ')']).next()?.parse().ok()
}

/// The number that is the last argument.
fn last_number(arguments: &str) -> usize {
    arguments.rsplit(", ").next().unwrap().trim_end_matches([' ', ')']).parse().unwrap()
}

/// The path that strace shows for the descriptor that is the first argument.
fn shown_path(arguments: &str) -> PathBuf {
    let start = arguments.find('<').unwrap() + 1;
    decoded(&arguments[start..arguments.find('>').unwrap()])
}

/// Text that strace may have printed in hexadecimal.
fn decoded(text: &str) -> PathBuf {
    if text.starts_with("\\x") { String::from_utf8(hex(text)).unwrap().into() } else { text.into() }
}

fn hex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}

/// The strings among the arguments.
fn strings(arguments: &str) -> Vec<Vec<u8>> {
    arguments.split('"').skip(1).step_by(2).map(hex).collect()
}

/// The paths among the arguments: each string below the directory that stands in front of it.
fn paths(arguments: &str) -> Vec<PathBuf> {
    let pieces: Vec<&str> = arguments.split('"').collect();
    let path = |at: usize| {
        let base = pieces[at - 1].rsplit_once('<').and_then(|(_, base)| base.split_once('>'));
        let base = base.map(|(base, _)| decoded(base)).unwrap_or_default();
        String::from_utf8(hex(pieces[at])).ok().map(|name| base.join(name))
    };
    (1..pieces.len()).step_by(2).map_while(path).collect()
}

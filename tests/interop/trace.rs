use std::collections::HashMap;

/// A system call: its thread, its text in the trace, and the numbers of the lines where it began and ended.
#[derive(Debug)]
pub struct Call {
    pub thread: u32,
    pub name: String,
    pub line: String,
    pub begun: usize,
    pub ended: usize,
}

impl Call {
    pub fn is_sync(&self) -> bool {
        ["fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"].contains(&self.name.as_str())
    }

    pub fn is_rename(&self) -> bool {
        self.name.starts_with("rename") || self.name.starts_with("link")
    }

    pub fn sends(&self, text: &str) -> bool {
        ["write", "sendto", "sendmsg", "writev"].contains(&self.name.as_str()) && self.line.contains(text)
    }

    pub fn receives(&self, text: &str) -> bool {
        ["read", "recvfrom", "recvmsg"].contains(&self.name.as_str()) && self.line.contains(text)
    }
}

/// Reads a trace; a call that was interrupted by other threads is in the place where it ended.
pub fn joined(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut open = HashMap::<u32, (usize, &str)>::new();
    for (ended, line) in trace.lines().enumerate() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let (thread, rest) = (thread.parse().unwrap(), rest.trim_start());
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            open.insert(thread, (ended, start));
            continue;
        }
        let (begun, line) = match rest.split_once(" resumed>") {
            Some((_, end)) => {
                let (begun, start) = open.remove(&thread).unwrap_or((ended, ""));
                (begun, format!("{start}{end}"))
            }
            None => (ended, rest.to_owned()),
        };
        if let Some((name, _)) = line.split_once('(') {
            calls.push(Call { thread, name: name.to_owned(), line: line.clone(), begun, ended });
        }
    }
    calls
}

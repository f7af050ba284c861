//! Landlock: which files this thread and the threads that it starts may open, and which TCP ports they may use.
//!
//! A rule belongs to a directory (or file), not to its name: it covers what is below it now or later, and a file that
//! is replaced by another one is covered only by a rule of its directory. Rules can never be widened. Nothing can be
//! executed. What was open before stays open.
//!
//! | version | kernel | adds |
//! | --- | --- | --- |
//! | 2 | 5.19 | renaming between directories, without which no message could be queued: the oldest one used here |
//! | 3 | 6.2 | cutting files off |
//! | 4 | 6.7 | TCP ports |
//! | 5 | 6.10 | the devices' ioctl |
//! | 6 | 6.12 | abstract Unix sockets and signals of other processes |

use libc::{SYS_landlock_add_rule, SYS_landlock_create_ruleset, SYS_landlock_restrict_self, c_long};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What may be done with the files below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Files and directories may be read.
    Read,
    /// They may also be written, made, renamed and removed; but no links, pipes and devices are made.
    Write,
}

// include/uapi/linux/landlock.h
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const BIND_TCP: u64 = 1;
const CONNECT_TCP: u64 = 1 << 1;
const VERSION: c_long = 1;
const RULE_PATH: c_long = 1;
const RULE_PORT: c_long = 2;

const READ: u64 = READ_FILE | READ_DIR;
const WRITE: u64 =
    READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | REFER | TRUNCATE;
/// The rights that a rule of a single file may have.
const OF_FILE: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// The rights that need a rule: all that a version knows.
#[repr(C)]
struct Handled {
    files: u64,
    ports: u64,
    /// Abstract Unix sockets and signals, which have no rules.
    scoped: u64,
}

#[repr(C, packed)]
struct PathRule {
    rights: u64,
    directory: i32,
}

#[repr(C)]
struct PortRule {
    rights: u64,
    port: u64,
}

/// Restricts this thread for good to these files, and to connections to these TCP ports. Missing files are left out.
/// `rights::restrain` must have been called. Returns the version.
///
/// # Errors
/// The kernel has no Landlock, or one that is too old, or it is turned off.
#[allow(unsafe_code)]
pub fn restrict(files: &[(PathBuf, Access)], ports: &[u16]) -> io::Result<u32> {
    // SAFETY: asks for the version: no pointer is read.
    let version =
        unsafe { libc::syscall(SYS_landlock_create_ruleset, std::ptr::null::<Handled>(), 0, VERSION) };
    if version < 0 {
        return Err(io::Error::last_os_error());
    }
    if version < 2 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let newest = match version {
        2 => REFER,
        3 | 4 => TRUNCATE,
        _ => IOCTL_DEV,
    };
    let handled = Handled { files: newest * 2 - 1, ports: BIND_TCP | CONNECT_TCP, scoped: 3 };
    // An older kernel knows only the first fields.
    let size = match version {
        2 | 3 => 8,
        4 | 5 => 16,
        _ => size_of::<Handled>(),
    };
    // SAFETY: the structure outlives the call, and `size` is at most its size.
    let set = unsafe { libc::syscall(SYS_landlock_create_ruleset, &raw const handled, size, 0) };
    // SAFETY: a number that is not negative is a new descriptor, which nobody else owns.
    let set = unsafe { OwnedFd::from_raw_fd(not_negative(set)? as i32) };
    for (path, access) in files {
        add_path(&set, path, if *access == Access::Read { READ } else { WRITE } & handled.files);
    }
    if size > 8 {
        for port in ports {
            add_port(&set, CONNECT_TCP, *port);
        }
        // A connection from a chosen address binds to port 0, which stands for any free one.
        add_port(&set, BIND_TCP, 0);
    }
    // SAFETY: no pointer is passed.
    not_negative(unsafe { libc::syscall(SYS_landlock_restrict_self, set.as_raw_fd(), 0) })?;
    Ok(version as u32)
}

fn not_negative(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[allow(unsafe_code)]
fn add_path(set: &OwnedFd, path: &Path, rights: u64) {
    let Ok(file) = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return };
    let is_directory = fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    let rights = if is_directory { rights } else { rights & OF_FILE };
    let rule = PathRule { rights, directory: file.as_raw_fd() };
    // SAFETY: the structure outlives the call. A rule that is refused leaves less allowed.
    unsafe { libc::syscall(SYS_landlock_add_rule, set.as_raw_fd(), RULE_PATH, &raw const rule, 0) };
}

#[allow(unsafe_code)]
fn add_port(set: &OwnedFd, rights: u64, port: u16) {
    let rule = PortRule { rights, port: port.into() };
    // SAFETY: as above.
    unsafe { libc::syscall(SYS_landlock_add_rule, set.as_raw_fd(), RULE_PORT, &raw const rule, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{packet, process, rights};
    use crate::test_directory::TestDirectory;
    use std::fs;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_was_not_named_is_closed() {
        let base = TestDirectory::new();
        for name in ["read", "write/a", "write/b", "other"] {
            fs::create_dir_all(base.join(name)).unwrap();
            base.file(&format!("{name}/file"), "x");
        }
        let (open, closed) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let [open_at, closed_at] = [&open, &closed].map(|listener| listener.local_addr().unwrap());
        let (here, there) = packet::pair().unwrap();
        let below = base.to_owned();
        process::start(c"tries", there, move |socket| {
            rights::restrain().unwrap();
            let at = |name: &str| below.join(name);
            let files =
                [(at("read"), Access::Read), (at("write"), Access::Write), (at("missing"), Access::Read)];
            let Ok(version) = restrict(&files, &[open_at.port()]) else {
                return packet::send(&socket, b"none", &[]).unwrap();
            };
            let refused = |result: io::Result<()>| match result {
                Ok(()) => '-',
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => 'x',
                Err(_) => '?',
            };
            let found: String = [
                fs::read(at("read/file")).map(drop),
                fs::write(at("read/file"), "y"),
                fs::remove_file(at("read/file")),
                fs::read(at("write/a/file")).map(drop),
                fs::write(at("write/a/new"), "y"),
                fs::rename(at("write/a/new"), at("write/b/new")),
                fs::hard_link(at("write/b/new"), at("write/a/link")),
                std::os::unix::fs::symlink("/", at("write/a/symlink")),
                fs::rename(at("write/a/file"), at("read/moved")),
                fs::read(at("other/file")).map(drop),
                fs::read_dir(at("other")).map(drop),
                TcpStream::connect(open_at).map(drop),
                TcpStream::connect(closed_at).map(drop),
                TcpListener::bind(("127.0.0.1", 0)).map(drop),
                TcpListener::bind(closed_at).map(drop),
            ]
            .into_iter()
            .map(refused)
            .collect();
            packet::send(&socket, format!("{version} {found}").as_bytes(), &[]).unwrap();
        })
        .unwrap();
        let mut octets = [0; 256];
        let (text, _) = packet::receive(&here, &mut octets).expect("the process has ended early");
        let text = String::from_utf8_lossy(text).into_owned();
        match text.split_once(' ') {
            Some(("2" | "3", found)) => assert_eq!(found, "-xx----xxxx---?"),
            Some((_, found)) => assert_eq!(found, "-xx----xxxx-x-x"),
            None => println!("this kernel has no Landlock"),
        }
    }
}

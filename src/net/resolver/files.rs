//! The system's files about names: `/etc/resolv.conf` (resolv.conf(5)) and `/etc/hosts` (hosts(5)).
//!
//! Both are read leniently: a malformed line is skipped, and a missing file counts as empty. Of resolv.conf only the
//! name servers count; a `search` list would let a mistyped domain become another one.

use crate::sys::file::{self, FileKind};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The number of name servers that are used (MAXNS of resolv.conf(5)).
const NAME_SERVERS_MAX: usize = 3;
/// Port of DNS (RFC 1035 §4.2).
const PORT_DNS: u16 = 53;

/// The paths of the two files.
#[derive(Debug, Clone)]
pub struct SystemFiles {
    /// Addresses of hosts that need no DNS.
    pub hosts: PathBuf,
    /// The name servers.
    pub resolv_conf: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// Identifies one version of a file: time of change, inode and size. `None`: the file does not exist.
pub(super) type FileStamp = Option<(i64, i64, u64, u64)>;

pub(super) fn stamp(path: &Path) -> FileStamp {
    std::fs::metadata(path).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.ino(), m.size()))
}

/// The name servers of a resolv.conf. If it lists none, the server on this host, as in the C library.
pub(super) fn name_servers(path: &Path) -> Vec<SocketAddr> {
    name_servers_in(&file::read(path, FileKind::System).unwrap_or_default())
}

/// The name servers that the text of a resolv.conf names, at most three, and at least one.
#[must_use]
pub fn name_servers_in(text: &[u8]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(text);
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(name_server).take(NAME_SERVERS_MAX).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT_DNS).into());
    }
    servers
}

fn name_server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    let address = words.next().filter(|&word| word == "nameserver").and_then(|_| words.next())?;
    match address.split_once('%') {
        None => Some((address.parse::<IpAddr>().ok()?, PORT_DNS).into()),
        Some((address, scope)) => {
            Some(SocketAddrV6::new(address.parse().ok()?, PORT_DNS, 0, scope_id(scope)?).into())
        }
    }
}

/// A link-local address belongs to an interface, given by number or by name (RFC 4007 §11).
fn scope_id(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        rustix::net::netdevice::name_to_index(socket, scope).ok()
    })
}

/// The addresses of a name in a hosts file. The file is read every time: one connection needs it once, and a block
/// list of a million lines must not stay in memory.
pub(super) fn hosts(path: &Path, name: &str) -> Vec<IpAddr> {
    file::open(path, FileKind::Hosts)
        .map_or_else(|_| Vec::new(), |(file, _)| hosts_in(BufReader::new(file), name))
}

/// The addresses that the text of a hosts file gives to a name.
pub fn hosts_in(text: impl BufRead, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_server_lines_are_read_leniently() {
        for (line, expected) in [
            ("nameserver 192.0.2.1", Some("192.0.2.1:53")),
            ("  nameserver\t2001:db8::1 # the router", Some("[2001:db8::1]:53")),
            ("nameserver fe80::1%7", Some("[fe80::1%7]:53")),
            ("nameserver fe80::1%lo", Some("[fe80::1%1]:53")),
            ("nameserver fe80::1%no-such-interface", None),
            ("#nameserver 192.0.2.1", None),
            ("; nameserver 192.0.2.1", None),
            ("nameserver", None),
            ("nameserver 192.0.2.1:53", None),
            ("nameserver dns.example", None),
            ("options timeout:1", None),
            ("", None),
        ] {
            assert_eq!(name_server(line).map(|s| s.to_string()).as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn a_missing_file_means_this_host_and_no_names() {
        let missing = Path::new("/nonexistent/file");
        assert_eq!(name_servers(missing), [SocketAddr::from(([127, 0, 0, 1], 53))]);
        assert_eq!(hosts(missing, "nas"), Vec::<IpAddr>::new());
        assert_eq!(stamp(missing), None);
    }
}

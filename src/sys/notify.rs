//! Messages to systemd, or to another service manager, about the state of this service: the protocol of sd_notify(3).
//!
//! Nothing fails: without a service manager, or if a message does not get through, the daemon continues.
//!
//! | state | message |
//! | --- | --- |
//! | listening, or configuration reloaded | `READY=1` |
//! | reloading | `RELOADING=1`, `MONOTONIC_USEC=` |
//! | stopping | `STOPPING=1` |

use super::clock;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long a message may wait for a service manager that does not read.
const PATIENCE: Duration = Duration::from_secs(5);

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// The service manager whose socket `NOTIFY_SOCKET` names. The socket is connected at once: later this process
    /// may have lost the right to do so.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name)))
    }

    /// The service is ready, or has reloaded its configuration.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being reloaded; [`Self::ready`] must follow, whatever the result.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_micros()));
    }

    /// The service is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, text: &str) {
        let _ = self.0.as_ref().map(|socket| socket.send(text.as_bytes()));
    }
}

/// Connects to a path, or to an abstract name, which is written with `@` in front.
fn connect(name: &OsStr) -> Option<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        // Other forms, such as addresses for virtual machines, are not supported.
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    socket.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    fn heard(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn assert_told(supervisor: &Supervisor, socket: &UnixDatagram) {
        supervisor.ready();
        assert_eq!(heard(socket), "READY=1");
        let before = clock::monotonic_micros();
        supervisor.reloading();
        let text = heard(socket);
        let micros: u64 = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=clock::monotonic_micros()).contains(&micros), "{text}");
        supervisor.stopping();
        assert_eq!(heard(socket), "STOPPING=1");
    }

    #[test]
    fn a_path_and_an_abstract_name_are_told() {
        let directory = TestDirectory::new();
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_told(&Supervisor(connect(path.as_os_str())), &socket);

        // As unique as the path.
        let name = path.display();
        let address = SocketAddr::from_abstract_name(name.to_string()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        assert_told(&Supervisor(connect(OsStr::new(&format!("@{name}")))), &socket);
    }

    #[test]
    fn without_a_supervisor_nothing_is_told_and_nothing_fails() {
        for name in ["", "@", "relative", "/not/there", "vsock:2:1", &format!("/{}", "x".repeat(200))] {
            let supervisor = Supervisor(connect(OsStr::new(name)));
            assert!(supervisor.0.is_none(), "{name}");
            supervisor.ready();
        }
        let (near, far) = UnixDatagram::pair().unwrap();
        drop(far);
        Supervisor(Some(near)).stopping();
    }
}

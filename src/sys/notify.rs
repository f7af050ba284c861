//! Reports the state of this daemon to systemd or another service manager: the protocol of sd_notify(3).
//!
//! A message that does not get through is dropped, and the daemon goes on.

use super::clock;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long a message may wait for a supervisor that reads none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The service manager, if it wants reports.
#[derive(Debug)]
pub struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// The one whose socket the environment names by `NOTIFY_SOCKET`. It is connected to at once: later this process may
    /// have lost the right to.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name)))
    }

    /// The service is up, or has read its configuration again.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again; [`Self::ready`] must follow, even if it has mistakes.
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
        // Not ours to understand: there are names for virtual machines, too.
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
        let name = format!("pillarbox-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_told(&Supervisor(connect(path.as_os_str())), &socket);
        std::fs::remove_file(&path).unwrap();

        let address = SocketAddr::from_abstract_name(&name).unwrap();
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

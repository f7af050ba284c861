//! Connections in memory to the real server of a world: a pipe for another world, a script for a client.

use crate::engine::host::site::{SiteHandle, current};
use crate::engine::inbound::connection::Connection;
use crate::engine::inbound::slots::{Caps, ConnectionSlots, Slot};
use crate::engine::intake::incoming::Intake;
use crate::net::transport::{Deadline, Transport, WireError};
use std::collections::VecDeque;
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// One direction of a connection in memory.
#[derive(Default)]
struct Pipe {
    state: Mutex<(VecDeque<u8>, bool)>,
    changed: Condvar,
}

/// One end of a connection in memory.
struct PipeEnd {
    from: Arc<Pipe>,
    to: Arc<Pipe>,
}

fn pipes() -> (PipeEnd, PipeEnd) {
    let (a, b) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    (PipeEnd { from: Arc::clone(&a), to: Arc::clone(&b) }, PipeEnd { from: b, to: a })
}

impl Transport for PipeEnd {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        let empty = |state: &mut (VecDeque<u8>, bool)| state.0.is_empty() && !state.1;
        let long = Duration::from_secs(20);
        let waited = self.from.changed.wait_timeout_while(self.from.state.lock().unwrap(), long, empty);
        let (mut state, timeout) = waited.unwrap();
        if timeout.timed_out() {
            return Err(WireError::TimedOut);
        }
        if state.0.is_empty() {
            return Err(WireError::Closed);
        }
        let length = buffer.len().min(state.0.len());
        for (slot, octet) in buffer.iter_mut().zip(state.0.drain(..length)) {
            *slot = octet;
        }
        Ok(length)
    }

    fn write_all(&mut self, octets: &[u8], _: Deadline) -> Result<(), WireError> {
        let mut state = self.to.state.lock().unwrap();
        if state.1 {
            return Err(WireError::Closed);
        }
        state.0.extend(octets);
        self.to.changed.notify_all();
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        !self.from.state.lock().unwrap().0.is_empty()
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        for pipe in [&self.from, &self.to] {
            pipe.state.lock().unwrap().1 = true;
            pipe.changed.notify_all();
        }
    }
}

/// The server of a world, as other worlds reach it.
pub struct Server {
    pub(super) site: SiteHandle,
    pub(super) intake: Arc<Intake>,
    pub(super) connections: Arc<ConnectionSlots>,
    pub(super) stream: Arc<TcpStream>,
}

impl Server {
    pub fn permit(&self) -> Slot {
        let caps = Caps { total: 100, per_address: 100 };
        let client = IpAddr::from([127, 0, 0, 1]);
        self.connections.admit(Arc::clone(&self.stream), client, true, caps).unwrap()
    }

    pub(super) fn open(self: &Arc<Self>) -> Box<dyn Transport> {
        let (near, mut far) = pipes();
        let server = Arc::clone(self);
        std::thread::spawn(move || {
            let (site, permit) = (current(&server.site), server.permit());
            let client = IpAddr::from([127, 0, 0, 1]);
            Connection::new(&site, &server.intake, &permit, &mut far, client).serve();
        });
        Box::new(near)
    }
}

/// A client that sends all of its input without waiting for replies, except that to EHLO. `hook` is called before each
/// read of the server, with the number of octets read so far.
pub struct Typist<'a> {
    pub input: &'a [u8],
    pub read: usize,
    pub piece: usize,
    pub output: Vec<u8>,
    pub hook: &'a mut (dyn FnMut(usize) + Send),
}

/// How many octets the client sends at once: those up to and including its EHLO.
fn up_to_hello(octets: &[u8]) -> usize {
    let is_hello =
        |line: &&[u8]| [&b"EHLO "[..], b"HELO ", b"LHLO "].iter().any(|verb| line.starts_with(verb));
    let mut lines = octets.split_inclusive(|&octet| octet == b'\n');
    let before: usize = lines.by_ref().take_while(|line| !is_hello(line)).map(<[u8]>::len).sum();
    let hello = octets[before..].iter().position(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    if hello == 0 { octets.len() } else { before + hello }
}

impl Transport for Typist<'_> {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        (self.hook)(self.read);
        let rest = &self.input[self.read..];
        let length = up_to_hello(rest).min(buffer.len()).min(self.piece);
        if length == 0 {
            return Err(WireError::Closed);
        }
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }

    fn write_all(&mut self, octets: &[u8], _: Deadline) -> Result<(), WireError> {
        self.output.extend_from_slice(octets);
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        false
    }
}

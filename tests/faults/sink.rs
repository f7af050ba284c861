use super::harness::free_port;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Accepts all mail but that for `no@…`, which it refuses for good.
    Good,
    /// Closes at once.
    Closes,
    /// Accepts the connection and says nothing.
    Hangs,
    /// Greets, and says nothing to the first command.
    HangsAfterGreeting,
    /// Is silent after the data, which it has taken.
    HangsAfterData,
    /// Closes after the data, which it has taken.
    ClosesAfterData,
    /// Sends octets that are no reply.
    Babbles,
    /// Sends a reply that never ends.
    NeverEnds,
    /// Answers a line with an octet a second.
    Slow,
    /// 421 to all.
    Busy,
    /// 451 to the final dot.
    Later,
    /// Refuses after the data, though it accepted the recipients, with a reply full of control octets.
    Control,
}

/// All hostile manners; mail waits while a host has one of them.
pub const HOSTILE: [Manner; 11] = [
    Manner::Closes,
    Manner::Hangs,
    Manner::HangsAfterGreeting,
    Manner::HangsAfterData,
    Manner::ClosesAfterData,
    Manner::Babbles,
    Manner::NeverEnds,
    Manner::Slow,
    Manner::Busy,
    Manner::Later,
    Manner::Control,
];

/// A message that a sink took: its recipients and its content.
pub type Taken = (Vec<String>, Vec<u8>);

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    taken: Mutex<Vec<Taken>>,
    is_over: AtomicBool,
    connections: AtomicUsize,
}

/// An SMTP server on 127.0.0.1.
#[derive(Debug)]
pub struct Sink {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Sink {
    pub fn start(manner: Manner) -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, free_port()), manner)
    }

    /// Listens on this port of any address of loopback.
    pub fn listen(address: (Ipv4Addr, u16), manner: Manner) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            taken: Mutex::default(),
            is_over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&for_thread)) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                // The thread ends with its connection, which a daemon that ends closes.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Self { port: address.1, shared }
    }

    pub fn becomes(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.taken.lock().unwrap().len()
    }

    /// Adds a message to those that were taken.
    pub fn takes(&self, message: Taken) {
        self.shared.taken.lock().unwrap().push(message);
    }

    /// Forgets what was taken.
    pub fn clear(&self) {
        self.shared.taken.lock().unwrap().clear();
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let manner = *self.manner.lock().unwrap();
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        match manner {
            Manner::Closes => return Ok(()),
            Manner::Hangs => return hang(&mut reader),
            Manner::Babbles => return out.write_all(&[b"\0\xff\r\r\n\n250".as_slice(); 4000].concat()),
            Manner::NeverEnds => loop {
                out.write_all("220-and on\r\n".repeat(100).as_bytes())?;
            },
            Manner::Busy => return out.write_all(b"421 4.3.2 busy\r\n"),
            _ => out.write_all(b"220 sink.test ESMTP\r\n")?,
        }
        let mut to = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if manner == Manner::HangsAfterGreeting {
                return hang(&mut reader);
            }
            let reply = match line.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => {
                    "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n".into()
                }
                "MAIL" => {
                    to.clear();
                    "250 2.1.0 Ok\r\n".to_owned()
                }
                "RCPT" => {
                    let address = line[line.find('<').unwrap() + 1..line.find('>').unwrap()].to_owned();
                    if address.starts_with("no@") {
                        "550 5.1.1 no such user\r\n".into()
                    } else {
                        to.push(address);
                        "250 2.1.5 Ok\r\n".into()
                    }
                }
                "DATA" if to.is_empty() => "554 5.5.1 no recipients\r\n".into(),
                "DATA" => {
                    out.write_all(b"354 go on\r\n")?;
                    let content = read_data(&mut reader)?;
                    match self.after_data(manner, &mut reader, std::mem::take(&mut to), content)? {
                        Some(reply) => reply,
                        None => return Ok(()),
                    }
                }
                "QUIT" => return out.write_all(b"221 2.0.0 bye\r\n"),
                _ => "250 2.0.0 Ok\r\n".into(),
            };
            for octets in reply.as_bytes().chunks(if manner == Manner::Slow { 1 } else { reply.len() }) {
                out.write_all(octets)?;
                if manner == Manner::Slow {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Takes the message, or does not; `None` closes.
    fn after_data(
        &self,
        manner: Manner,
        reader: &mut BufReader<TcpStream>,
        to: Vec<String>,
        content: Vec<u8>,
    ) -> std::io::Result<Option<String>> {
        match manner {
            Manner::Later => return Ok(Some("451 4.3.0 later\r\n".into())),
            Manner::Control => return Ok(Some("451 4.3.0 \x1b[2J\u{85}\u{202e}later\r\n".into())),
            _ => {}
        }
        let number = number_of(&content);
        self.taken.lock().unwrap().push((to, content));
        match manner {
            Manner::HangsAfterData => hang(reader).map(|()| None),
            Manner::ClosesAfterData => Ok(None),
            _ => Ok(Some(format!("250 2.0.0 sunk {}\r\n", number.unwrap_or_default()))),
        }
    }
}

/// The number of a message or of the message that a notice returns.
pub fn number_of(content: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(content);
    text.lines().find_map(|line| line.strip_prefix("Number: ")?.trim().parse().ok())
}

/// Waits until the peer closes.
fn hang(reader: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    std::io::copy(reader, &mut std::io::sink()).map(drop)
}

/// The content until the final dot, without the dots that hide others. An unfinished one is an error.
fn read_data(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        if reader.read_until(b'\n', &mut content)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if content[start..] == *b".\r\n" {
            content.truncate(start);
            return Ok(content);
        }
        if content[start] == b'.' {
            content.remove(start);
        }
    }
}

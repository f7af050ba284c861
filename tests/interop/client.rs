use super::harness::SOON;
use pillarbox::mail::base64;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, ToSocketAddrs};

/// A connection to a server on 127.0.0.1, in clear unless it says otherwise.
#[derive(Debug)]
pub struct Client<S: Read + Write = TcpStream> {
    reader: BufReader<S>,
}

impl Client {
    /// Connects, without reading the greeting.
    pub fn connect(port: u16) -> io::Result<Self> {
        Self::connect_to((Ipv4Addr::LOCALHOST, port))
    }

    /// The same to any address.
    pub fn connect_to(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Connects, reads the greeting, and says EHLO.
    pub fn hello(port: u16) -> io::Result<Self> {
        Self::connect(port)?.greeted()
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub fn close_sending_side(&self) {
        // The server may have closed before.
        let _ = self.stream().shutdown(Shutdown::Write);
    }
}

impl<S: Read + Write> Client<S> {
    /// A client on an existing stream; nothing was sent.
    pub fn over(stream: S) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// The stream, without what was read of it in advance.
    pub fn into_stream(self) -> S {
        self.reader.into_inner()
    }

    /// Reads the greeting and says EHLO.
    pub fn greeted(mut self) -> io::Result<Self> {
        self.expect("220")?;
        self.write(b"EHLO client.test\r\n")?;
        self.expect("250")?;
        Ok(self)
    }

    /// Sends AUTH PLAIN; returns the reply, or an error with it.
    pub fn log_in(&mut self, (name, password): (&str, &str)) -> io::Result<String> {
        self.write(format!("AUTH PLAIN {}\r\n", plain(name, password)).as_bytes())?;
        self.expect("235 2.7.0")
    }

    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(octets)
    }

    /// A whole reply, its lines with LF between them.
    pub fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.reader.read_line(&mut reply)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            assert!(reply.ends_with("\r\n"), "a reply line without CRLF: {reply:?}");
            reply.truncate(reply.len() - 2);
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return Ok(reply);
            }
            reply.push('\n');
        }
    }

    /// Reads a reply that must begin with this.
    pub fn expect(&mut self, beginning: &str) -> io::Result<String> {
        let reply = self.reply()?;
        if reply.starts_with(beginning) { Ok(reply) } else { Err(io::Error::other(reply)) }
    }

    /// Sends a line; gives the reply.
    pub fn command(&mut self, line: &str) -> io::Result<String> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends a message, a command at a time; gives the reply after the data, or an error with the first refusal.
    pub fn send(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<String> {
        self.write(format!("MAIL FROM:<{from}>\r\n").as_bytes())?;
        self.expect("250")?;
        for to in to {
            self.write(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
            self.expect("250")?;
        }
        self.write(b"DATA\r\n")?;
        self.expect("354")?;
        self.write(&dot_stuffed(content))?;
        self.reply()
    }

    /// Reads until the server closes.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// The response of PLAIN.
pub fn plain(name: &str, password: &str) -> String {
    base64::encode(format!("\0{name}\0{password}").as_bytes())
}

/// Sends a message in a connection of its own; it must be accepted.
pub fn send(port: u16, from: &str, to: &str, content: &[u8]) {
    let mut client = Client::hello(port).unwrap();
    let reply = client.send(from, &[to], content).unwrap();
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    assert!(client.command("QUIT").unwrap().starts_with("221"));
}

/// The wire form of lines that end with CRLF, with the final dot.
fn dot_stuffed(content: &[u8]) -> Vec<u8> {
    assert!(content.ends_with(b"\r\n"));
    let mut wire = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// The message of a Maildir with LF line ends, split into trace fields and the rest.
pub fn without_trace(file: &[u8]) -> (String, Vec<u8>) {
    let mut trace = String::new();
    let mut rest = file;
    while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
        let line = &rest[..=end];
        let names = ["Return-Path:", "Delivered-To:", "Received: from", "\t"];
        if !names.iter().any(|name| line.starts_with(name.as_bytes())) {
            break;
        }
        trace.push_str(std::str::from_utf8(line).unwrap());
        rest = &rest[end + 1..];
    }
    (trace, rest.to_vec())
}

/// The same lines with LF line ends.
pub fn with_lf(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let mut octets = content.iter().peekable();
    while let Some(&octet) = octets.next() {
        if octet != b'\r' || octets.peek() != Some(&&b'\n') {
            out.push(octet);
        }
    }
    out
}

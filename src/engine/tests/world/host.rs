//! A connection to a scripted host, in memory: it parses the client's commands and answers as the script says.
//!
//! It checks nothing that the scripts do not need, but it never accepts a message without sender and recipients.

use super::script::{Host, Say, Stage, Taken};
use crate::engine::tests::host_tls::HostTls;
use crate::net::transport::{Deadline, Transport, WireError};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// One connection to a host.
pub(super) struct HostConnection {
    host: Arc<Host>,
    heard: Vec<u8>,
    /// How many of those octets were searched for a line end.
    searched: usize,
    says: VecDeque<u8>,
    tls: HostTls,
    /// The mechanism of an AUTH exchange, and how many of its lines were answered.
    auth: Option<(String, u8)>,
    /// The size of the announced chunk.
    chunk: usize,
    in_data: bool,
    from: Option<String>,
    to: Vec<String>,
    gone: Option<fn() -> WireError>,
}

impl HostConnection {
    pub fn open(host: Arc<Host>) -> Self {
        host.connections.fetch_add(1, Ordering::SeqCst);
        let mut connection = Self {
            host,
            heard: Vec::new(),
            searched: 0,
            says: VecDeque::new(),
            tls: HostTls::default(),
            auth: None,
            chunk: 0,
            in_data: false,
            from: None,
            to: Vec::new(),
            gone: None,
        };
        connection.answer(Stage::Greeting, "", "220 mx ESMTP");
        connection
    }

    /// Answers as the script says; true for a positive reply.
    fn answer(&mut self, stage: Stage, line: &str, yes: &str) -> bool {
        let says = (self.host.script.lock().unwrap_or_else(PoisonError::into_inner))(stage, line);
        let mut say = |text: &str| self.says.extend(text.bytes().chain(*b"\r\n"));
        match says {
            Say::Yes => say(yes),
            Say::Reply(text) => {
                say(&text);
                return text.starts_with(['2', '3']);
            }
            Say::Half(text, closes) => {
                self.says.extend(text.bytes());
                self.gone = Some(if closes { || WireError::Closed } else { || WireError::TimedOut });
                return false;
            }
            Say::YesAndClose => {
                say(yes);
                self.gone = Some(|| WireError::Closed);
            }
            Say::Close => self.gone = Some(|| WireError::Closed),
            Say::Reset => {
                self.gone = Some(|| WireError::Io(io::Error::from(io::ErrorKind::ConnectionAborted)));
            }
            Say::Nothing => self.gone = Some(|| WireError::TimedOut),
        }
        matches!(says, Say::Yes | Say::YesAndClose)
    }

    fn command(&mut self, line: &str) {
        self.host.commands.lock().unwrap().push(line.to_owned());
        if let Some((mechanism, lines)) = self.auth.take() {
            return self.auth_line(mechanism, lines, line);
        }
        match line.get(..4).unwrap_or_default() {
            "EHLO" | "LHLO" => {
                let mut lines = vec!["mx"];
                let is_secure = self.tls.is_on();
                let offers = self.host.extensions.lock().unwrap().clone();
                lines.extend(offers.iter().filter(|offer| !is_secure || **offer != "STARTTLS"));
                let last = lines.pop().unwrap();
                let yes: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
                let stage = if is_secure { Stage::TlsEhlo } else { Stage::Ehlo };
                self.answer(stage, line, &format!("{yes}250 {last}"));
            }
            "STAR" => {
                if self.answer(Stage::StartTls, line, "220 go") {
                    self.tls.expect();
                }
            }
            "AUTH" => {
                let mechanism = line.split(' ').nth(1).unwrap_or_default().to_owned();
                // PLAIN has its response in the same line.
                self.auth_line(mechanism, 0, line);
            }
            "BDAT" => self.chunk = line.split(' ').nth(1).unwrap().parse().unwrap(),
            "HELO" => drop(self.answer(Stage::Helo, line, "250 mx")),
            "RSET" => {
                self.to.clear();
                self.from = None;
                self.answer(Stage::Rset, line, "250 ok");
            }
            "MAIL" => {
                if self.answer(Stage::Mail, line, "250 ok") {
                    self.from = Some(argument(line));
                }
            }
            "RCPT" if self.from.is_none() => self.says.extend(*b"503 5.5.1 MAIL first\r\n"),
            "RCPT" => {
                if self.answer(Stage::Rcpt, line, "250 ok") {
                    self.to.push(argument(line));
                }
            }
            "DATA" if self.to.is_empty() => self.says.extend(*b"554 5.5.1 no valid recipients\r\n"),
            "DATA" => self.in_data = self.answer(Stage::Data, line, "354 go"),
            "QUIT" => {
                self.answer(Stage::Quit, line, "221 bye");
                self.gone = Some(|| WireError::Closed);
            }
            _ => self.says.extend(*b"500 what\r\n"),
        }
    }

    /// Answers a line of an AUTH exchange. LOGIN asks for name and password; PLAIN sends both in its first line.
    fn auth_line(&mut self, mechanism: String, lines: u8, line: &str) {
        let (yes, is_last) = match (mechanism.as_str(), lines) {
            ("LOGIN", 0) => ("334 VXNlcm5hbWU6", false),
            ("LOGIN", 1) => ("334 UGFzc3dvcmQ6", false),
            _ => ("235 2.7.0 ok", true),
        };
        let before = self.says.len();
        let goes_on = self.answer(Stage::Auth(lines), line, yes) && !is_last;
        // The error of a token, which the client answers.
        let is_error = self.says.iter().skip(before).take(3).eq(b"334");
        if goes_on || is_error && mechanism == "XOAUTH2" {
            self.auth = Some((mechanism, lines + 1));
        }
    }

    /// Handles a whole chunk; without a recipient it is discarded (RFC 3030 §2).
    fn take_chunk(&mut self) {
        let content = self.heard.drain(..std::mem::take(&mut self.chunk)).collect();
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        if to.is_empty() {
            self.says.extend(*b"503 5.5.1 no valid recipients\r\n");
        } else if self.answer(Stage::Chunk, "", "250 2.0.0 taken") {
            self.host.taken.lock().unwrap().push(Taken { from, to, content });
        }
    }

    fn listen(&mut self) {
        while self.gone.is_none() {
            if self.chunk > 0 {
                if self.heard.len() < self.chunk {
                    return;
                }
                self.take_chunk();
                continue;
            }
            let end: &[u8] = if self.in_data { b"\r\n.\r\n" } else { b"\r\n" };
            // The line end before the first line of data was that of DATA.
            let at = if self.in_data && self.heard.starts_with(b".\r\n") {
                Some((0, 3))
            } else {
                let from = self.searched.saturating_sub(end.len());
                let found = self.heard[from..].windows(end.len()).position(|window| window == end);
                found.map(|at| (from + at + if self.in_data { 2 } else { 0 }, from + at + end.len()))
            };
            self.searched = if at.is_some() { 0 } else { self.heard.len() };
            let Some((content, end)) = at else { return };
            let mut heard: Vec<u8> = self.heard.drain(..end).collect();
            heard.truncate(content);
            if self.in_data {
                self.in_data = false;
                let taken = Taken {
                    from: self.from.take().unwrap_or_default(),
                    to: std::mem::take(&mut self.to),
                    content: unstuffed(&heard),
                };
                if self.answer(Stage::Dot, "", "250 2.0.0 taken") {
                    self.host.taken.lock().unwrap().push(taken);
                }
            } else {
                self.command(&String::from_utf8_lossy(&heard));
            }
        }
    }
}

fn argument(line: &str) -> String {
    let (_, rest) = line.split_once('<').unwrap();
    rest.rsplit_once('>').unwrap().0.to_owned()
}

fn unstuffed(data: &[u8]) -> Vec<u8> {
    let lines = data.split_inclusive(|&b| b == b'\n');
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}

impl Transport for HostConnection {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        let wire = self.tls.on_wire(&mut self.says);
        if wire.is_empty() {
            return Err(self.gone.map_or(WireError::TimedOut, |gone| gone()));
        }
        let length = buffer.len().min(wire.len());
        for (slot, octet) in buffer.iter_mut().zip(wire.drain(..length)) {
            *slot = octet;
        }
        Ok(length)
    }

    fn write_all(&mut self, octets: &[u8], _: Deadline) -> Result<(), WireError> {
        if self.tls.is_expected() && self.gone.is_none() {
            if !self.answer(Stage::Handshake, "", "") || self.says.len() > 2 {
                // The script sent something other than a handshake, and reads none.
                self.gone = self.gone.or(Some(|| WireError::TimedOut));
                return Ok(());
            }
            self.says.clear();
            self.tls.begin();
        }
        // Octets written to a peer that has closed are lost without an error.
        self.tls.hear(octets, &mut self.heard);
        self.listen();
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        !self.tls.on_wire(&mut self.says).is_empty()
    }
}

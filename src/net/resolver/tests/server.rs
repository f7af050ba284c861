//! A DNS server that answers as a closure says, over UDP and TCP on one port, and the zone data for it.

use domain::base::iana::Rcode;
use domain::base::message_builder::{AnswerBuilder, StaticCompressor};
use domain::base::name::Name;
use domain::base::{Message, MessageBuilder, Rtype, Serial, Ttl};
use domain::rdata;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub type DnsName = Name<Vec<u8>>;

pub fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

/// A query that the server received.
pub struct Asked {
    pub message: Vec<u8>,
    pub tcp: bool,
    /// Counts from 0 over both transports.
    pub nth: usize,
    pub from: SocketAddr,
}

impl Asked {
    pub fn parsed(&self) -> &Message<[u8]> {
        Message::from_slice(&self.message).unwrap()
    }
    pub fn rtype(&self) -> Rtype {
        self.parsed().sole_question().unwrap().qtype()
    }
    pub fn asks(&self, text: &str) -> bool {
        *self.parsed().sole_question().unwrap().qname() == name(text)
    }
    pub fn id(&self) -> u16 {
        self.parsed().header().id()
    }

    /// An answer that the closure fills.
    pub fn reply(&self, code: Rcode, fill: impl FnOnce(&mut Reply)) -> Vec<u8> {
        let builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).unwrap();
        let mut reply = Reply(builder.start_answer(self.parsed(), code).unwrap());
        reply.recursive(true);
        fill(&mut reply);
        reply.0.finish().into_target()
    }
    pub fn records(&self, fill: impl FnOnce(&mut Reply)) -> Vec<Vec<u8>> {
        vec![self.reply(Rcode::NOERROR, fill)]
    }
    /// A code without records.
    pub fn code(&self, code: Rcode) -> Vec<Vec<u8>> {
        vec![self.reply(code, |_| {})]
    }
    /// "No" with the SOA of example.org in the authority section.
    pub fn negative(&self, code: Rcode, minimum: u32) -> Vec<Vec<u8>> {
        let builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).unwrap();
        let mut builder = builder.start_answer(self.parsed(), code).unwrap().authority();
        builder.push((name("example.org"), 7200, soa(minimum))).unwrap();
        vec![builder.finish().into_target()]
    }
}

pub fn soa(minimum: u32) -> rdata::Soa<DnsName> {
    let ttl = Ttl::from_secs(3600);
    rdata::Soa::new(name("ns"), name("h"), Serial(1), ttl, ttl, ttl, Ttl::from_secs(minimum))
}

/// The answer section while it is filled, with compressed names as real servers send them. The TTL is 300 s.
pub struct Reply(AnswerBuilder<StaticCompressor<Vec<u8>>>);

impl Reply {
    pub fn mx(&mut self, owner: &str, preference: u16, exchange: &str) -> &mut Self {
        self.0.push((name(owner), 300, rdata::Mx::new(preference, name(exchange)))).unwrap();
        self
    }
    pub fn cname(&mut self, owner: &str, target: &str) -> &mut Self {
        self.0.push((name(owner), 300, rdata::Cname::new(name(target)))).unwrap();
        self
    }
    pub fn address(&mut self, owner: &str, ip: &str) -> &mut Self {
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => self.0.push((name(owner), 300, rdata::A::new(ip))).unwrap(),
            IpAddr::V6(ip) => self.0.push((name(owner), 300, rdata::Aaaa::new(ip))).unwrap(),
        }
        self
    }
    /// Data as they are on the wire.
    pub fn data(&mut self, owner: &str, rtype: Rtype, data: &[u8]) -> &mut Self {
        let data = domain::base::rdata::UnknownRecordData::from_octets(rtype, data).unwrap();
        self.0.push((name(owner), 300, data)).unwrap();
        self
    }
    pub fn secure(&mut self, is_secure: bool) {
        self.0.header_mut().set_ad(is_secure);
    }
    /// Whether the server asks others (the RA bit).
    pub fn recursive(&mut self, is_recursive: bool) {
        self.0.header_mut().set_ra(is_recursive);
    }
    /// Name servers of a zone, in the authority section.
    pub fn referral(asked: &Asked, zone: &str, server: &str) -> Vec<u8> {
        let builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).unwrap();
        let mut builder = builder.start_answer(asked.parsed(), Rcode::NOERROR).unwrap().authority();
        builder.push((name(zone), 300, rdata::Ns::new(name(server)))).unwrap();
        builder.finish().into_target()
    }
    pub fn truncated(&mut self) {
        self.0.header_mut().set_tc(true);
    }
}

type Script = dyn FnMut(&Asked) -> Vec<Vec<u8>> + Send;

/// Runs until the tests end.
pub struct Server {
    pub address: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Server {
    /// Sends the messages that `script` returns for a query, in order; an empty list is silence.
    pub fn start(script: impl FnMut(&Asked) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let serve = {
            let count = Arc::clone(&count);
            move |message: &[u8], tcp, from| {
                let nth = count.fetch_add(1, Ordering::SeqCst);
                (script.lock().unwrap())(&Asked { message: message.to_vec(), tcp, nth, from })
            }
        };
        let serve_tcp = serve.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((octets, from)) = udp.recv_from(&mut buffer) {
                for reply in serve(&buffer[..octets], false, from) {
                    // Whoever has asked may be gone.
                    let _ = udp.send_to(&reply, from);
                }
            }
        });
        thread::spawn(move || {
            while let Ok((stream, from)) = tcp.accept() {
                let _ = answer(stream, |message| serve_tcp(message, true, from));
            }
        });
        Self { address, count }
    }

    /// Queries seen so far.
    pub fn queries(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// # Errors
/// Whoever has asked is gone.
fn answer(mut stream: TcpStream, serve: impl FnOnce(&[u8]) -> Vec<Vec<u8>>) -> io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    for reply in serve(&message) {
        let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
        // Cut into single octets where it is short, as a slow network does.
        for piece in [&length[..1], &length[1..], &reply] {
            stream.write_all(piece)?;
        }
    }
    Ok(())
}

/// UDP and TCP on the same free port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

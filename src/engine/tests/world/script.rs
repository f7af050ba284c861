//! A scripted MX host: what it says at each stage of a conversation, and what it was sent.
//!
//! The script is a closure from a [`Stage`] and the client's line to a [`Say`]; all connections to a host share it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The stage of a conversation for which the script gives an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// The TLS handshake: any answer but yes takes its place.
    Handshake,
    /// EHLO within TLS.
    TlsEhlo,
    /// AUTH, and each further line of its exchange.
    Auth(u8),
    Rset,
    Mail,
    Rcpt,
    Data,
    /// The chunk of BDAT.
    Chunk,
    Dot,
    Quit,
}

/// What a host does at a stage.
#[derive(Debug, Clone)]
pub enum Say {
    /// Sends the usual positive reply: 220, 250, 354, 221.
    Yes,
    /// Sends this reply, given without its line end.
    Reply(String),
    /// Sends the beginning of a reply, then closes the connection (true) or stays silent (false).
    Half(String, bool),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Stays silent until the client times out.
    Nothing,
    /// Sends the positive reply, then closes the connection.
    YesAndClose,
}

pub fn reply(text: &str) -> Say {
    Say::Reply(text.to_owned())
}

/// A message that a host has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub content: Vec<u8>,
}

type Script = Box<dyn FnMut(Stage, &str) -> Say + Send>;

/// A scripted host.
pub struct Host {
    pub(super) script: Mutex<Script>,
    pub extensions: Mutex<Vec<&'static str>>,
    pub taken: Mutex<Vec<Taken>>,
    pub connections: AtomicUsize,
    pub commands: Mutex<Vec<String>>,
}

impl Host {
    pub fn new(script: impl FnMut(Stage, &str) -> Say + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(script)),
            extensions: Mutex::new(vec!["PIPELINING", "8BITMIME", "SIZE 0"]),
            taken: Mutex::default(),
            connections: AtomicUsize::new(0),
            commands: Mutex::default(),
        })
    }

    pub fn friendly() -> Arc<Self> {
        Self::new(|_, _| Say::Yes)
    }

    /// Replaces the script.
    pub fn now_says(&self, script: impl FnMut(Stage, &str) -> Say + Send + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn recipients(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().flat_map(|taken| taken.to.clone()).collect()
    }
}

//! Why a message was not taken, and what its client is told.

use crate::mail::status::EnhancedStatus;
use crate::rules::routing::route::NoRoute;
use crate::smtp::reply::Reply;
use crate::store::{ErrorKind, StoreError};
use std::fmt;

/// Why a message was not taken. Nothing of it is kept.
#[derive(Debug)]
pub enum Refusal {
    /// It has been here, or everywhere, before: 554 5.4.6.
    Loop,
    /// The queue holds all it may: 452 4.3.1.
    QueueFull,
    /// An alias that could be followed when its recipient was accepted can't be any more.
    NoRoute(NoRoute),
    /// The disk.
    Store(StoreError),
}

impl Refusal {
    /// The reply after the data (INTERFACE section 8).
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::Loop => {
                Reply::new(554, EnhancedStatus::ROUTING_LOOP, "the message is going round in circles")
            }
            Self::QueueFull => Reply::new(452, EnhancedStatus::SYSTEM_FULL, "the queue is full"),
            Self::NoRoute(no_route) => no_route.reply(),
            Self::Store(error) => {
                let (code, text) = match error.kind {
                    ErrorKind::Full => (452, "no space left on the disk"),
                    ErrorKind::MailboxFull => (452, "the mailbox is full"),
                    _ => (451, "the message can't be stored now"),
                };
                Reply::new(code, error.status(), text)
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop => f.write_str("the message loops"),
            Self::QueueFull => f.write_str("the queue is full"),
            Self::NoRoute(no_route) => no_route.reply().fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

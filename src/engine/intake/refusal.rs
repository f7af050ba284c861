//! The reasons for which intake refuses a message, and the reply to the client.
//!
//! | reason | reply |
//! | --- | --- |
//! | the message loops | 554 5.4.6 |
//! | the queue is full, or the disk; the client has a half of the queue | 452 4.3.1 |
//! | the quota of the only mailbox is used up | 452 4.2.2 |
//! | an alias cannot be expanded any more | the reply to its RCPT |
//! | any other failure of the disk | 451 4.3.0 |

use crate::mail::status::EnhancedStatus;
use crate::rules::routing::route::NoRoute;
use crate::smtp::reply::Reply;
use crate::store::{ErrorKind, StoreError};
use std::fmt;

const SHARE_USED_UP: &str = "half of the queue is yours, and the rest is for others";

/// Why a message was refused. Nothing of it is kept, except copies that were committed before the failure.
#[derive(Debug)]
pub enum Refusal {
    /// Its trace fields show a loop: it was delivered here before, or has passed through too many hosts.
    Loop,
    /// The queue has reached its limits.
    QueueFull,
    /// The user or client has a half of the queue, and the others keep the rest.
    ShareUsedUp,
    /// An alias that could be expanded at RCPT no longer can.
    NoRoute(NoRoute),
    /// A copy could not be written.
    Store(StoreError),
}

impl Refusal {
    /// The reply after the data.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::Loop => Reply::new(554, EnhancedStatus::ROUTING_LOOP, "mail loop detected"),
            Self::QueueFull => Reply::new(452, EnhancedStatus::SYSTEM_FULL, "the queue is full"),
            Self::ShareUsedUp => Reply::new(452, EnhancedStatus::SYSTEM_FULL, SHARE_USED_UP),
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
            Self::ShareUsedUp => f.write_str(SHARE_USED_UP),
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

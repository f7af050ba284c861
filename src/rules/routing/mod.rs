//! Where a message goes: who may send to whom, aliases, and the route of each recipient.
//!
//! | file | question |
//! | --- | --- |
//! | `admission` | May this client send to this recipient? |
//! | `aliases` | Which targets does the aliases file name for a local part? |
//! | `route` | Which Maildir or next hop takes the copy of a mailbox? |
//! | `next_hop` | Which next hop takes mail for a domain, of a sender? |
//! | `expansion` | Which mailboxes does an alias stand for, in the end? |

pub mod admission;
pub mod aliases;
pub mod expansion;
pub mod next_hop;
pub mod route;

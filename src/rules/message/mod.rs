//! What a message becomes: repair, rewriting, encoding, signatures, digests and bounces.
//!
//! A message passes these in this order:
//!
//! | when | file | what it changes |
//! | --- | --- | --- |
//! | it comes from a program or user of this host | `repair` | missing fields, bare names, Bcc |
//! | it waits behind similar ones | `digest` | several messages become one |
//! | it leaves | `rewrite` | the senders, as the operator wrote |
//! | it leaves, and the next hop lacks an extension | `recode` | 8-bit text and UTF-8 header fields become ASCII |
//! | it leaves, last | `dkim` | adds a signature; nothing may change afterwards |
//! | it failed, is late or arrived | `bounce` | a notice about it |
//! | none has come for long | `heartbeat` | a mail to `admin` that says how this host is |

pub mod bounce;
pub mod digest;
pub mod dkim;
pub mod heartbeat;
pub mod recode;
pub mod repair;
pub mod rewrite;

//! The daemon's interfaces to this host: the control socket, the drop directory, and the alarm.
//!
//! ```text
//! pillarbox queue, status, link ─┐                 ┌─▶ requests ─▶ status, listing ─▶ output
//! sendmail -bv, probe            ├─▶ socket ───────┤
//! sendmail (submission)         ─┘                 └─▶ submit ──┐
//! sendmail, daemon unreachable  ───▶ maildrop ──────────────────┴─▶ engine::intake
//! housekeeping of the daemon    ───▶ alarm ─▶ log line, alarm.command
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | [`socket`] | accepts connections, identifies the peer, applies limits and deadlines |
//! | [`requests`] | answers requests: shows and changes the queue |
//! | `list` | lists the queue: for those who may see all, and for others |
//! | `cause` | why a message waits |
//! | `summary` | what a person should know first, as sentences |
//! | [`status`], [`listing`] | the forms of the answers: for people, JSON, Prometheus, monitoring plugins |
//! | [`submit`] | takes a message from the socket; reports where mail would go |
//! | [`maildrop`] | takes messages from the drop directory |
//! | [`alarm`] | reports stuck mail by a log line and a command |
//! | [`output`], [`services`] | what an answer is written to, and what it is made from |
//!
//! Mail never depends on this room: without a socket or an alarm the daemon still receives and delivers, and the
//! commands that read the queue work without a daemon. The format of question and answer is [`crate::protocol`]'s.

pub mod alarm;
mod cause;
mod list;
pub mod listing;
pub mod maildrop;
pub mod output;
pub mod requests;
pub mod services;
pub mod socket;
pub mod status;
pub mod submit;
mod summary;

#[cfg(test)]
mod tests;

//! The daemon's interfaces to this host: the control socket, the drop directory, the alarm, and signs of life.
//!
//! ```text
//! pillarbox queue, status, link ─┐                 ┌─▶ requests ─▶ status, listing ─▶ output
//! sendmail -bv, probe            ├─▶ socket ───────┤
//! sendmail (submission)         ─┘                 └─▶ submit ──┐
//! sendmail, daemon unreachable  ───▶ maildrop ──────────────────┴─▶ engine::intake
//! housekeeping of the daemon    ─┬─▶ alarm ─▶ log line, alarm.command
//!                                └─▶ heartbeat ─▶ engine::intake, a dead man's switch
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
//! | [`heartbeat`], [`pulse`] | signs of life: a mail to `admin`, a question to a dead man's switch |
//! | [`output`], [`services`] | what an answer is written to, and what it is made from |
//!
//! Mail never depends on this room: without a socket or an alarm the daemon still receives and delivers, and the
//! commands that read the queue work without a daemon. The format of question and answer is [`crate::protocol`]'s.

pub mod alarm;
mod cause;
pub mod heartbeat;
mod list;
pub mod listing;
pub mod maildrop;
pub mod output;
pub mod pulse;
pub mod requests;
pub mod services;
pub mod socket;
pub mod status;
pub mod submit;
mod summary;

#[cfg(test)]
mod tests;

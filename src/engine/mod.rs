//! Joins the floors below. All mail enters through `intake`, and leaves the queue through `workers`. The rooms, from the
//! lowest up:
//!
//! | room | holds |
//! | --- | --- |
//! | `log` | log lines, the logger behind them, counters |
//! | `host` | the state of this host: configuration, clocks, certificate, keys, users, aliases, mailboxes; the process that writes for system users |
//! | `intake` | the only entry: stages every copy of a message and commits all of them before the client gets 250 |
//! | `inbound` | listeners, connections and their limits |
//! | `queue` | the index of the queue, attempts, notices about them |
//! | `outbound` | look-ups, TLS policy, connection and conversation with another host |
//! | `workers` | the forwarder and its workers: remote, local, digests |
//! | `control` | the control socket, the drop directory, requests of operators, alarms |
//! | `probe` | the test of a route without a message |
//!
//! Threads: `daemon` starts one for each listener, the forwarder, one for the drop directory and one for the control socket; a listener
//! starts one for each connection, the forwarder one for each worker, the control socket one for each question.
//!
//! ```text
//! inbound ─────────────┐            ┌▶ Maildir or mbox
//! control (submit) ────┼▶ intake ───┤
//! notices, digests ────┘            └▶ queue ─▶ workers ─▶ outbound ─▶ next hop
//!                                       ▲          │
//!                                       └─ outcome ┴▶ log, journal, retry, notice ─▶ intake
//! ```

pub mod control;
pub mod daemon;
pub mod host;
pub mod inbound;
pub mod intake;
pub mod log;
pub mod outbound;
pub mod probe;
pub mod queue;
#[cfg(test)]
mod tests;
pub mod workers;

//! Joins the floors below. Its rooms, from the lowest up; what comes in enters by `intake` alone, and what leaves the
//! queue leaves by `workers` alone:
//!
//! | room | holds |
//! | --- | --- |
//! | `log` | log lines, the logger behind them, counters |
//! | `host` | what this host is: configuration, clocks, certificate, keys, users, aliases, mailboxes; the process that writes for system users |
//! | `intake` | the only way in: stages every copy, commits all, then lets the caller answer 250 |
//! | `inbound` | listeners, connections and their limits |
//! | `queue` | the index of the queue, attempts, notices about them |
//! | `outbound` | look-ups, TLS policy, connection and conversation with another host |
//! | `workers` | the forwarder and its workers: remote, local, digests |
//! | `control` | the control socket, the drop directory, what operators ask for, alarms |
//! | `probe` | the walk of a message that is not sent |
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

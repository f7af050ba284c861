//! Joins the floors below into a running MTA. Mail enters only through `intake`, and leaves the queue only through
//! `workers`.
//!
//! ```text
//! inbound ──────────────────┐                         ┌▶ Maildir or mbox
//! control (submit, drops) ──┼▶ intake ────────────────┤
//! notices, digests ─────────┘  stage, commit, then 250└▶ queue file ─▶ queue::index
//!                                                                         │ due
//!   ┌──────────────────────── workers::forwarder ◀────────────────────────┘
//!   │ a thread for each worker
//!   ├▶ workers::remote ─▶ outbound ─▶ next hop
//!   └▶ workers::local ──▶ Maildir, mbox, intake
//!             │ outcomes
//!             ▼
//!      queue::manager ─▶ journal ─▶ notice (intake) ─▶ removal, or back to the index
//! ```
//!
//! # Rooms
//!
//! From the lowest up; a room uses only the rooms above its row, and `daemon` uses all of them.
//!
//! | room | holds |
//! | --- | --- |
//! | `log` | log lines, the logger behind them, counters |
//! | `host` | what this host is: configuration, clocks, certificate, keys, users, aliases, mailboxes; the process that writes for system users |
//! | `intake` | the only way in: stages every copy, commits all, then lets the caller answer 250 |
//! | `inbound` | listeners, connections and their limits |
//! | `queue` | the index of the queue, the manager of its entries, attempts, news for senders |
//! | `outbound` | look-ups, TLS policy, connection and conversation with another host |
//! | `workers` | the forwarder and its workers: remote, local, digests; the egress that they share |
//! | `control` | the control socket, the drop directory, the requests of operators, alarms |
//! | `probe` | the walk of a message that is not sent |
//!
//! # Threads
//!
//! | thread | how many | started by | runs |
//! | --- | --- | --- | --- |
//! | main | 1 | – | waits for signals; calls reload, flush and stop of `daemon` |
//! | `listener` | one for each listening socket | `daemon` | `inbound::listener` |
//! | connection | one for each client, at most `limits.connections` | its listener | `inbound::connection`, `intake` |
//! | `forwarder` | 1 | `daemon` | loads the queue, then the loop of `workers::forwarder`, with the housekeeping of `daemon` |
//! | `worker` | one local; remote ones up to `relay.connections` | the forwarder | `workers::local`, `workers::remote` |
//! | `drops` | 1 | `daemon` | `control::maildrop` |
//! | `mda` | 1, if there is a delivery agent | `host::mda` | hands the agent's answers to those who asked |
//! | control socket | 1, and one for each question | `daemon`; the control socket | `control::socket`, `control::requests` |
//!
//! # Shared objects
//!
//! | object | made by | shared by |
//! | --- | --- | --- |
//! | `SiteHandle`: the configuration | `daemon`, replaced by a reload | all threads |
//! | `Intake` | `daemon` | all that hand mail in |
//! | `QueueIndex` | `daemon` | intake (through `Enqueue`), manager, workers, operators |
//! | `Manager` | `daemon` | forwarder, workers, operators, alarm |
//! | `Egress` | `daemon` | remote workers |
//! | `Services`: the manager and the alarm | `daemon` | control socket, housekeeping |
//! | `ConnectionSlots` | `daemon` | listeners and connections |

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

//! Whole lives of messages, with the forwarder and its workers. See [`crate::engine::tests`] for the world that these
//! tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `answers` | a table: what a peer does at which step, and what it means for the queue and the sender |
//! | `digests` | storm control: what waits, what leaves when in one message, and that a crash loses none of the members |
//! | `life` | whole lives of messages: retries, expiry, notices, schedule |
//! | `logins` | several logins: which host is shown which, and that a failure of one holds no other back |
//! | `refusals` | a table: what is refused, at which step and by whom, and what becomes of it; one message that fails again and again |
//! | `routes` | next hops: order, failures, pauses, reuse of connections, reload |
//! | `workers` | several threads at one queue: nothing is sent twice, nothing is forgotten |
//! | `written` | a box that is named like the mail domain: what the operator wrote leaves, once |

mod answers;
mod digests;
mod life;
mod logins;
mod refusals;
mod routes;
mod workers;
mod written;

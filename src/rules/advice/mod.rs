//! What people read about a failure: the subject of a refusal, hints, known providers, figures for monitors.
//!
//! | file | answers | asked by |
//! | --- | --- | --- |
//! | `hints` | What should the operator change when a step fails? | `probe`, bounces, `queue`, `status`, alarms, the log, `docs/troubleshooting.md` |
//! | `login`, `token_hints`, `network`, `own_host`, `account`, `remote` | the rows of `hints` | |
//! | `row` | Which of several rows counts? | |
//! | `step` | At which step did a failure happen? | |
//! | `refusal` | Does a 5yz reply concern the message, or the account and with it the whole route? | delivery, `probe`, the log |
//! | `authenticity` | What do SPF, DKIM and DMARC say about mail from this host? | `probe` |
//! | `providers` | Which host takes the mail of this address, and on which ports? | `setup` |
//! | `monitor` | Is the queue healthy? | `status --check` |
//!
//! Advice is a full sentence that names the key or the file to change. It never replaces the reply of the host,
//! which is shown in any case.

mod account;
pub mod authenticity;
#[cfg(test)]
mod corpus;
pub mod hints;
mod login;
pub mod monitor;
mod network;
mod own_host;
pub mod providers;
pub mod refusal;
mod remote;
pub mod row;
pub mod step;
mod token_hints;

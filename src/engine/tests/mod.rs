//! The engine in a world of its own: the clock is moved by hand, names come from a table, peers are scripts in memory
//! or another box's real server, and the state lies in a directory of the test's. Five days of retries take
//! milliseconds, and every run is the same but for the jitter and the queue ids.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `world`, `host_tls` | the world itself |
//! | `life` | whole lives of messages: retries, expiry, notices, schedule |
//! | `routes` | next hops: order, failures, pauses, reuse of connections, reload |
//! | `aliased` | aliases: whom they stand for, and that nobody else is cost a copy |
//! | `answers` | a table: what a peer does at which step, and what becomes of queue and sender |
//! | `refusals` | a table: what is refused, at which step and by whom, and what becomes of it; one message that fails again and again |
//! | `names` | a table: what the DNS says, by the real resolver, and what becomes of queue and sender |
//! | `notices` | who is told what: delays, successes, bounces that do not arrive |
//! | `kept` | mail to admin that can't be delivered: held, released, given up at last |
//! | `restart` | crashes at each point of a settlement, and what is in the index afterwards |
//! | `clock` | wall clocks that jump |
//! | `inbound` | the server's side: local copies, large messages, panics, shutdown |
//! | `limits` | times and sizes: just below the limit, at it, and just above |
//! | `digests` | storm control: what waits, what leaves when in one message, and that a crash loses none of it |
//! | `drops` | the drop directory: bounces, trouble of our own, and what is no message |
//! | `submitted` | what this host's own clients submit is repaired, in memory and on disk |
//! | `own` | what counts as this host's own mail, and how its header fields leave |
//! | `recoded` | what a next hop can't take as it is: long lines, and eight bits |
//! | `rewritten` | who mail says it is from once it leaves |
//! | `signed` | DKIM: whose mail is signed, by which key |
//! | `smarthost` | how `setup` finds port and TLS mode |
//! | `tls_policy` | MTA-STS and DANE: what is fetched, kept and followed |
//! | `control` | the control socket |
//! | `operator` | lists, hold, release, remove, bounce, flush, the link, also while mail is delivered |
//! | `alarms` | who is told that mail is stuck, once, and that it moves again |
//! | `counted` | what is counted, and what restarts and crashes leave of it |
//! | `written` | a box that is named like the mail domain: what the operator wrote leaves, once |
//! | `workers` | several threads at one queue: nothing is sent twice, nothing is forgotten |

mod alarms;
mod aliased;
mod answers;
mod clock;
mod control;
mod counted;
mod devices;
mod digests;
mod doors;
mod drops;
mod host_tls;
mod inbound;
mod kept;
mod life;
mod limits;
mod names;
mod notices;
mod operator;
mod own;
mod probe;
mod recoded;
mod refusals;
mod restart;
mod rewritten;
mod routes;
mod signed;
mod smarthost;
mod submit;
mod submitted;
mod tls_policy;
mod workers;
pub(super) mod world;
mod written;

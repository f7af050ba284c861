//! This host: its configuration, clocks, certificate, keys, users, aliases and mailboxes.
//!
//! | file | holds | read or written |
//! | --- | --- | --- |
//! | `site` | the configuration as one immutable value | at start and by a reload |
//! | `clock` | wall time and running time | saved every ten minutes |
//! | `certificate` | the certificate for clients | at start and by a reload; renewed by a handshake |
//! | `client_certificate` | the certificates for smarthosts | when one is first needed, and after a reload |
//! | `dkim_keys` | the keys that sign this host's mail | at start and by a reload |
//! | `logins` | the users file | at start and by a reload |
//! | `aliases_file` | the aliases file | when it has changed |
//! | `forward_file` | `.forward` files of system users | for each recipient |
//! | `routing` | the route of a recipient, the members of an alias | for each recipient |
//! | `advice` | what to change about a failure that a delivery met | for each pause, notice and list |
//! | `admin` | who receives root's mail | for each failure |
//! | `commands` | the process that runs the commands of the configuration | for each command |
//! | `mda` | the process that writes to the mailboxes of system users | for each delivery |
//! | `mboxes` | faults of mboxes, for `check` | by `check` |
//!
//! A file of secrets that others can read is refused: a users file, a DKIM key, the key of the certificate. The fault
//! is logged, and mail goes on without the file.

pub mod admin;
pub mod advice;
pub mod aliases_file;
pub mod certificate;
pub mod client_certificate;
pub mod clock;
pub mod commands;
pub mod dkim_keys;
mod forward_file;
pub mod logins;
pub mod mboxes;
pub mod mda;
pub mod routing;
pub mod site;

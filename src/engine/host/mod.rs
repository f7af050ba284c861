//! What this host is: its configuration, clocks, certificate, keys, users, aliases and mailboxes.

pub mod admin;
pub mod aliases;
pub mod clock;
pub mod delivery_agent;
pub mod dkim;
mod forward;
pub mod logins;
pub mod mboxes;
pub mod routing;
pub mod site;
pub mod tls;

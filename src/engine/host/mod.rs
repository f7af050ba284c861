//! What this host is: its configuration, clocks, certificate, keys, users, aliases and mailboxes.

pub mod admin;
pub mod aliases;
pub mod clock;
pub mod delivery_agent;
pub mod dkim;
pub mod logins;
pub mod mboxes;
pub mod site;
pub mod tls;

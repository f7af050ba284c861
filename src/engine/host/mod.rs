//! What this host is: its configuration, clocks, certificate, keys, users, aliases and mailboxes.

pub mod admin;
pub mod aliases_file;
pub mod certificate;
pub mod clock;
pub mod dkim_keys;
mod forward_file;
pub mod logins;
pub mod mboxes;
pub mod mda;
pub mod routing;
pub mod site;

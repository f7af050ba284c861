//! How this host logs in at a smarthost, and how it knows that host again (`[relay]`).
//!
//! A login belongs to the entry of `relay.smarthost` or `relay.senders` that it was written in or inherited for: no other
//! host is shown its password. Two hops with different logins share neither connections nor pauses.

use super::address::{Domain, Mailbox};
use super::fingerprint::Fingerprint;
use std::path::PathBuf;

/// Where a password, or a token of OAuth, comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum PasswordSource {
    /// The credential of systemd, or the usual file: the login of `[relay]` names no source.
    #[default]
    Usual,
    /// The first line of this file.
    File(PathBuf),
    /// The first line that this command prints.
    Command(String),
    /// The token that `pillarbox login` has fetched and the daemon keeps, by `[oauth]`.
    Token,
}

/// A login at a smarthost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RelayLogin {
    /// The user name; empty: this host does not log in.
    pub username: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// A word of `relay.auth`.
    pub auth: &'static str,
    /// The certificate of this host for the smarthost, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The file of the key's passphrase.
    pub key_password_file: Option<PathBuf>,
    /// The smarthost's certificate or public key: no other one is accepted, and this one whoever signed it.
    pub fingerprint: Option<Fingerprint>,
    /// The name that the smarthost's certificate must have, if not the host's.
    pub tls_name: Option<Domain>,
    /// The address that senders of this host's own mail become, unless `[rewrite]` says otherwise.
    pub identity: Option<Mailbox>,
    /// The configuration has several user names, so that texts have to say which one is meant.
    pub is_one_of_several: bool,
}

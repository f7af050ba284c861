//! Types of values that only the configuration has, and the words for them in the file.
//!
//! Each list of words is both the parser's table and, in error messages, the list of what may be written. Routes and users
//! are types of `rules::routing`, and the service of a listener is one of `smtp::server`.

use crate::mail::address::Mailbox;
use crate::smtp::server::Service;
use log::LevelFilter;

/// A word and its meaning.
pub type Choice<T> = (&'static str, T);

/// The protocol of a listener, and its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerKind {
    /// SMTP between servers (RFC 5321).
    #[default]
    Smtp,
    /// Submission with STARTTLS and AUTH (RFC 6409).
    Submission,
    /// Submission with TLS from the start (RFC 8314 §3.3).
    Submissions,
    /// LMTP (RFC 2033).
    Lmtp,
}

impl ListenerKind {
    /// The protocol that such a listener speaks once TLS, if any, is up.
    #[must_use]
    pub const fn service(self) -> Service {
        match self {
            Self::Smtp => Service::Smtp,
            Self::Submission | Self::Submissions => Service::Submission,
            Self::Lmtp => Service::Lmtp,
        }
    }
}

/// The words of `listener.kind`.
pub static LISTENER_KINDS: [Choice<ListenerKind>; 4] = [
    ("smtp", ListenerKind::Smtp),
    ("submission", ListenerKind::Submission),
    ("submissions", ListenerKind::Submissions),
    ("lmtp", ListenerKind::Lmtp),
];

/// Whether a listener has STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerTls {
    /// No STARTTLS.
    Off,
    /// Clients may use it.
    #[default]
    Offer,
    /// Mail is accepted only within TLS.
    Require,
}

/// The words of `listener.tls`.
pub static LISTENER_TLS: [Choice<ListenerTls>; 3] =
    [("off", ListenerTls::Off), ("offer", ListenerTls::Offer), ("require", ListenerTls::Require)];

/// Who may log in at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerAuth {
    /// Nobody.
    Off,
    /// Users of the users file, if the kind of listener has logins.
    #[default]
    Users,
    /// Clients of trusted networks with any name and password, and users of the users file.
    Any,
}

/// The words of `listener.auth`.
pub static LISTENER_AUTH: [Choice<ListenerAuth>; 3] =
    [("off", ListenerAuth::Off), ("users", ListenerAuth::Users), ("any", ListenerAuth::Any)];

/// Whether TLS is used with MX hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsLevel {
    /// Never.
    Off,
    /// Where the MX host offers it, with any certificate (RFC 7435).
    #[default]
    Opportunistic,
    /// Always, with a certificate that verifies.
    Required,
}

/// The words of `relay.tls`.
pub static TLS_LEVELS: [Choice<TlsLevel>; 3] =
    [("off", TlsLevel::Off), ("opportunistic", TlsLevel::Opportunistic), ("required", TlsLevel::Required)];

/// Which addresses of a next hop are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayFamily {
    /// Both.
    #[default]
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// The words of `relay.family`.
pub static FAMILIES: [Choice<RelayFamily>; 3] =
    [("any", RelayFamily::Any), ("ipv4", RelayFamily::Ipv4), ("ipv6", RelayFamily::Ipv6)];

/// Where accepted mail lies first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// On the disk.
    #[default]
    Disk,
    /// In memory; on the disk later, if it is still there.
    MemoryFirst,
}

/// The words of `queue.storage`.
pub static STORAGES: [Choice<Storage>; 2] = [("disk", Storage::Disk), ("memory-first", Storage::MemoryFirst)];

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// The system's log, by `/dev/log`.
    Syslog,
}

/// The words of `log.target`.
pub static LOG_TARGETS: [Choice<LogTarget>; 2] =
    [("stderr", LogTarget::Stderr), ("syslog", LogTarget::Syslog)];

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub LevelFilter);

impl Default for LogLevel {
    fn default() -> Self {
        Self(LevelFilter::Info)
    }
}

/// The words of `log.level`.
pub static LEVELS: [Choice<LogLevel>; 5] = [
    ("error", LogLevel(LevelFilter::Error)),
    ("warn", LogLevel(LevelFilter::Warn)),
    ("info", LogLevel(LevelFilter::Info)),
    ("debug", LogLevel(LevelFilter::Debug)),
    ("trace", LogLevel(LevelFilter::Trace)),
];

/// Who gets mail instead of others: the value of `admin` and `local.catch_all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressee {
    /// A local user, in lower case.
    User(String),
    /// An address, here or elsewhere.
    Mailbox(Mailbox),
}

/// The words of `oauth.flow`.
pub static FLOWS: [&str; 3] = ["device", "paste", "client"];

/// The words of `oauth.provider`.
pub static PROVIDER_NAMES: [&str; 4] = ["", "google", "microsoft", "microsoft-personal"];

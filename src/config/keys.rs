//! Every key of the configuration, one row each: name, type, default, kind, and what it is for.
//!
//! The macro `tables!` makes three things from a row: a field of a settings struct, the default of that field, and an
//! entry of [`TABLES`], which the parser reads and from which tests write the manual and `etc/pillarbox/pillarbox.toml`.
//! A default is written in tokens that are both Rust and TOML:
//!
//! ```text
//! /// Size of a message.                                       the manual
//! message_size: u64 = "25MiB", one(size(1024));
//! field and key  type  default  kind: what is read, and its bounds
//! ```
//!
//! To add a key, add a row. A default that its own kind does not accept fails a test.

use super::kinds::{
    Complaints, DAY, TomlValue, boolean, choice, count, duration, each, list, one, optional, pairs, path,
    port, size, socket_path, some, string, word,
};
use super::mail_kinds::{
    account, addressee, addressees, ascii_host_name, domain, fingerprint, heartbeat_url, host_name,
    https_url, identity, ip, listen_address, maildir, name_server, network, route, schedule, sender,
    separator, subject_prefix, tenant, users,
};
use super::smarthosts::{MECHANISMS, SenderRoute, SmarthostEntry, entry, senders};
use super::values::{
    Addressee, FAMILIES, FLOWS, LEVELS, LISTENER_AUTH, LISTENER_KINDS, LISTENER_TLS, LOG_TARGETS,
    ListenerAuth, ListenerKind, ListenerTls, LogLevel, LogTarget, PROVIDER_NAMES, RelayFamily, STORAGES,
    Storage, TLS_LEVELS, TlsLevel,
};
use crate::mail::address::{Domain, Mailbox};
use crate::mail::fingerprint::Fingerprint;
use crate::mail::maildir_template::MaildirTemplate;
use crate::mail::network::Network;
use crate::mail::unqualified::Unqualified;
use crate::rules::accounts::oauth::url::HttpsUrl;
use crate::rules::pacing::cron::CronExpression;
use crate::rules::routing::next_hop::Exception;
use crate::rules::routing::route::LocalUsers;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// A key.
pub struct KeyRow {
    /// Its name within its table.
    pub key: &'static str,
    /// Its default, in TOML.
    pub default: &'static str,
    /// Stores a value in the settings; a bad value changes nothing and is complained of.
    pub set: fn(&mut Settings, &TomlValue<'_>, &mut Complaints),
}

/// The text of the manual about a table.
pub struct TableManual {
    /// The purpose of the table.
    pub about: &'static str,
    /// The purpose of each key, in the order of its rows.
    pub rows: &'static [&'static str],
}

/// A table of keys.
pub struct Table {
    /// Its name; empty for the keys in front of all tables.
    pub name: &'static str,
    /// Its keys.
    pub rows: &'static [KeyRow],
    /// For a repeatable table (`[[listener]]`): adds a blank entry.
    pub repeat: Option<fn(&mut Settings)>,
}

impl Table {
    /// Adds an entry with all defaults, if this table is repeatable.
    pub fn add_entry(&self, settings: &mut Settings) {
        if let Some(add_blank) = self.repeat {
            add_blank(settings);
            self.set_defaults(settings);
        }
    }

    fn set_defaults(&self, settings: &mut Settings) {
        for row in self.rows {
            // A test reads every default, so the error can't occur.
            if let Ok(value) = DeValue::parse(row.default) {
                (row.set)(settings, &value, &mut Complaints::new());
            }
        }
    }
}

/// The settings of an empty file: one listener, no signatures, and the default of every other key.
impl Default for Settings {
    fn default() -> Self {
        let mut settings = Self::blank();
        for table in TABLES {
            table.set_defaults(&mut settings);
        }
        settings
    }
}

fn store<T>(slot: Option<&mut T>, value: Option<T>) {
    if let (Some(slot), Some(value)) = (slot, value) {
        *slot = value;
    }
}

/// Makes the structs of the settings and [`TABLES`] from the rows.
macro_rules! tables {
    ($(
        $(#[doc = $about:literal])+
        $table:literal, $repeat:expr, $name:ident of |$settings:ident| $slot:expr => {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:tt, $kind:expr; )+
        }
        $( beside { $( #[doc = $field_doc:literal] $field:ident: $field_type:ty = $initial:expr; )+ } )?
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                $( $(#[doc = $doc])+ pub $key: $type, )+
                $($( #[doc = $field_doc] pub $field: $field_type, )+)?
            }

            impl $name {
                /// All fields empty or zero; [`Table::set_defaults`] fills them in.
                fn blank() -> Self {
                    Self {
                        $( $key: <$type>::default(), )+
                        $($( $field: $initial, )+)?
                    }
                }
            }
        )+

        /// The texts of the manual, in the order of [`TABLES`]; each line begins with a space. Only tests use them, so the
        /// linker leaves these 8 KiB out of the program.
        pub static MANUAL: &[TableManual] = &[$( TableManual {
            about: concat!($($about, "\n"),+),
            rows: &[$( concat!($($doc, "\n"),+), )+],
        }, )+];

        /// Every table, in the order of the manual; the keys in front of all tables come first.
        pub static TABLES: &[Table] = &[$( Table {
            name: $table,
            repeat: $repeat,
            rows: &[$( KeyRow {
                key: stringify!($key),
                default: stringify!($default),
                set: |$settings, value, complaints| store($slot.map(|slot| &mut slot.$key), $kind(value, complaints)),
            }, )+],
        }, )+];
    };
}

/// Shortest and longest wait for a peer, in seconds.
const WAIT: (u64, u64) = (1, DAY);

tables! {
    /// The whole configuration.
    "", None, Settings of |s| Some(s) => {
        /// Name of this host in the greeting, EHLO and Received. Empty: /etc/mailname, else the system's name.
        hostname: Option<Domain> = "", optional(one(host_name));
        /// Local user or address that gets mail for root, postmaster and system users without a mailbox,
        /// unless an alias says otherwise; or a list: all of them get it. Mail for an address in a local domain that no user here
        /// has leaves by the relay.
        admin: Vec<Addressee> = "", addressees;
        /// User that pillarbox becomes after binding, if started as root ("root": it stays root).
        user: String = "pillarbox", one(account);
        /// Directory of queue and drop directory.
        state: PathBuf = "/var/spool/pillarbox", one(path);
        /// Unix socket for sendmail, queue, status and link.
        control: PathBuf = "/run/pillarbox/control.sock", one(socket_path);
    }
    beside {
        /// `[[listener]]`; never empty.
        listeners: Vec<Listener> = vec![Listener::blank()];
        /// `[limits]`.
        limits: Limits = Limits::blank();
        /// `[tls]`.
        tls: Tls = Tls::blank();
        /// `[auth]`.
        auth: Auth = Auth::blank();
        /// `[local]`.
        local: Local = Local::blank();
        /// `[relay]`.
        relay: Relay = Relay::blank();
        /// `[oauth]`.
        oauth: Oauth = Oauth::blank();
        /// `[queue]`.
        queue: Queue = Queue::blank();
        /// `[rewrite]`.
        rewrite: Rewrite = Rewrite::blank();
        /// `[[dkim]]`.
        dkim: Vec<Dkim> = Vec::new();
        /// `[digest]`.
        digest: Digest = Digest::blank();
        /// `[alarm]`.
        alarm: Alarm = Alarm::blank();
        /// `[heartbeat]`.
        heartbeat: Heartbeat = Heartbeat::blank();
        /// `[dns]`.
        dns: Dns = Dns::blank();
        /// `[log]`.
        log: Log = Log::blank();
    }

    /// Limits for clients and for the disk.
    "limits", None, Limits of |s| Some(&mut s.limits) => {
        /// Connections in all; above it 421. Lowered at the start, with a warning, where the limits of open files or memory require it.
        connections: u32 = 64, one(count(1, 65_535));
        /// Connections of one address (IPv6: of one /64). An address of `relay.trusted_networks` may have three quarters of all.
        /// All of 127.0.0.0/8 and ::1 counts as one address. The last eighth is for addresses that have no connection open.
        connections_per_ip: u32 = 16, one(count(1, 65_535));
        /// Size of a message.
        message_size: u64 = "25MiB", one(size(1024));
        /// Recipients of a transaction; RFC 5321 wants at least 100.
        recipients: u32 = 100, one(count(1, 10_000));
        /// 5yz replies in a session; then 421, and the connection is closed. 100 commands without mail have the same effect.
        errors: u32 = 10, one(count(1, 1000));
        /// From a command's first octet to its last, and for the wait before it.
        command_timeout: Duration = "5m", one(duration(WAIT.0, WAIT.1));
        /// From one octet of data to the next. After the first minute the data must also arrive at 500 octets/s on average.
        data_timeout: Duration = "3m", one(duration(WAIT.0, WAIT.1));
        /// A whole session. From 75 % of `connections` on all three timeouts are 10 s for clients without AUTH that are not
        /// trusted, and every client that is outside a transaction for 10 s gets 421.
        session_timeout: Duration = "1h", one(duration(WAIT.0, 7 * DAY));
        /// Messages of one address in a minute; above it 450. 0: no limit.
        messages_per_minute_per_ip: u32 = 0, one(count(0, 1_000_000));
        /// Space left free for other programs on the file systems of `state` and the Maildirs; below it 452.
        free_space: u64 = "1MiB", one(size(0));
    }

    /// TLS for clients.
    "tls", None, Tls of |s| Some(&mut s.tls) => {
        /// Certificate chain, PEM. Empty: pillarbox makes self-signed certificates (EC and RSA) and keeps them below `state`.
        certificate: Option<PathBuf> = "", optional(one(path));
        /// Its private key, PEM; `user` must be able to read it, and others must not.
        key: Option<PathBuf> = "", optional(one(path));
        /// Oldest version: 1.2 | 1.3
        minimum: &'static str = "1.2", one(word(&["1.2", "1.3"]));
    }

    /// Who may log in.
    "auth", None, Auth of |s| Some(&mut s.auth) => {
        /// File with lines NAME:CRYPT-HASH; `pillarbox passwd NAME` prints one.
        users: Option<PathBuf> = "/etc/pillarbox/users", optional(one(path));
    }

    /// Mail that stays here.
    "local", None, Local of |s| Some(&mut s.local) => {
        /// Domains delivered here. Empty text: localhost and hostname. Empty list: none.
        domains: Option<Vec<Domain>> = "", optional(list(domain));
        /// Path of the Maildirs; {user}, {domain} and, at the beginning, {home} are filled in. A file there is an mbox, and mail
        /// is appended to it.
        maildir: MaildirTemplate = "/var/mail/{user}", one(maildir);
        /// Who has a mailbox: "system" (passwd entries), "any" local part, or a list of names.
        users: LocalUsers = "system", users;
        /// Aliases in sendmail's format as plain text, with :include: and "*"; no commands and no files. Read again when
        /// the file changes. Empty: no aliases.
        aliases: Option<PathBuf> = "/etc/aliases", optional(one(path));
        /// Separates user and detail, as in user+detail. Empty: no details.
        separator: Option<char> = "+", optional(one(separator));
        /// Local user or address for mail to unknown users. Empty: 550 5.1.1.
        catch_all: Option<Addressee> = "", optional(one(addressee));
        /// Size of all messages of a Maildir, subfolders included; above it 452 4.2.2. 0: no limit.
        quota: u64 = 0, one(size(0));
    }

    /// Mail for other hosts.
    "relay", None, Relay of |s| Some(&mut s.relay) => {
        /// Networks that may relay without AUTH.
        trusted_networks: Vec<Network> = ["127.0.0.0/8", "::1"], list(network);
        /// Foreign domains accepted from anyone and relayed (backup MX).
        domains: Vec<Domain> = [], list(domain);
        /// Host that takes all relayed mail, or several, tried in order. Empty list: the MX hosts of each domain.
        /// smtps:// (465, TLS) | smtp+starttls:// (587, TLS) | smtp:// (25, TLS where offered) | lmtp://
        /// An entry may be a table with what is its own: { url = "smtps://…", username, password_file, password_command, auth,
        /// certificate, key, key_password_file, fingerprint, tls_name }.
        /// What it leaves out comes from the keys below only if it is the first entry or names the same host: no host is shown
        /// the password of another.
        smarthost: Vec<SmarthostEntry> = [], each(entry);
        /// Login for the smarthost; never sent without verified TLS, except to loopback.
        username: String = "", one(string);
        /// File of the password; only its owner and group may read it.
        password_file: Option<PathBuf> = "", optional(one(path));
        /// Or a command that prints the password; run as `user`, without a shell.
        password_command: String = "", one(string);
        /// auto | plain | login | cram-md5 | scram-sha-256 | xoauth2 | oauthbearer | external (by `certificate`)
        auth: &'static str = "auto", one(word(&MECHANISMS));
        /// Certificate of this host for smarthosts that ask for one, PEM, with its chain. It may be all of the login.
        certificate: Option<PathBuf> = "", optional(one(path));
        /// Its private key, PEM; `user` must be able to read it, and others must not. Empty: it is in the file of `certificate`.
        key: Option<PathBuf> = "", optional(one(path));
        /// File with the passphrase of the key, if it has one.
        key_password_file: Option<PathBuf> = "", optional(one(path));
        /// SHA-256 of the smarthost's certificate or public key: this one and no other is accepted, whoever signed it.
        /// As `openssl x509 -fingerprint -sha256` prints it, or "sha256//…" as curl has it.
        fingerprint: Option<Fingerprint> = "", optional(one(fingerprint));
        /// Name that the smarthost's certificate must have, if not the host's.
        tls_name: Option<Domain> = "", optional(one(host_name));
        /// Smarthosts of single senders, by the envelope sender before it is rewritten, its address or its domain:
        /// { "nas@example.org" = "smtps://…", "@example.org" = { url = "smtps://…", username = … } }. `relay.routes` comes first.
        senders: Vec<SenderRoute> = {}, senders;
        /// TLS with MX hosts: off | opportunistic | required (STARTTLS, verified)
        tls: TlsLevel = "opportunistic", one(choice(&TLS_LEVELS));
        /// Further trust anchors, PEM.
        ca_file: Option<PathBuf> = "", optional(one(path));
        /// DANE for MX hosts, behind a validating resolver.
        dane: bool = true, one(boolean);
        /// MTA-STS for MX hosts.
        mta_sts: bool = true, one(boolean);
        /// Port of MX hosts.
        port: u16 = 25, one(port);
        /// Local addresses to connect from.
        source: Vec<IpAddr> = [], list(ip);
        /// any | ipv4 | ipv6
        family: RelayFamily = "any", one(choice(&FAMILIES));
        /// Connections at once, in all. Half of them are for destinations that answered recently; a host that does not answer loses its connection while others wait for one.
        connections: u32 = 8, one(count(1, 1000));
        /// Connections at once to one destination.
        connections_per_domain: u32 = 2, one(count(1, 1000));
        /// Routes for single domains: { "example.org" = "smtp://10.0.0.9:25", ".example.org" = …,
        /// "bad.example" = "error:5.1.2 no mail there" }
        routes: Vec<Exception> = {}, pairs(route);
    }
    beside {
        /// Logins by a token take it from `[oauth]`.
        has_oauth: bool = false;
    }

    /// Tokens for a login at the smarthost (OAuth 2.0), where `auth` is xoauth2 or oauthbearer and no password_* is set:
    /// `pillarbox login` gets the first one, the daemon keeps it.
    "oauth", None, Oauth of |s| Some(&mut s.oauth) => {
        /// google | microsoft | microsoft-personal. Empty: the URLs below.
        provider: &'static str = "", one(word(&PROVIDER_NAMES));
        /// device (a person types a code elsewhere) | paste (a person pastes the answer of a browser; Google has only this one
        /// for mail) | client (client credentials: an account of the application's own)
        flow: &'static str = "device", one(word(&FLOWS));
        /// Id of the application that you have registered at the provider; none is built in.
        client_id: String = "", one(string);
        /// File of its secret, if it has one; only its owner and group may read it.
        client_secret_file: Option<PathBuf> = "", optional(one(path));
        /// Or its certificate, PEM, which the provider knows.
        certificate: Option<PathBuf> = "", optional(one(path));
        /// And the key for it, PEM: RSA, without a passphrase; only its owner and group may read it.
        key: Option<PathBuf> = "", optional(one(path));
        /// Microsoft's tenant: its id, its domain, or "organizations". Client credentials want one of the first two.
        tenant: String = "organizations", one(tenant);
        /// What the token is for. Empty: the provider's scope for sending mail.
        scope: String = "", one(string);
        /// Where a browser logs in. Empty: the provider's.
        authorization_url: Option<HttpsUrl> = "", optional(one(https_url));
        /// Where device codes come from. Empty: the provider's.
        device_url: Option<HttpsUrl> = "", optional(one(https_url));
        /// Where tokens come from. Empty: the provider's.
        token_url: Option<HttpsUrl> = "", optional(one(https_url));
    }

    /// The queue.
    "queue", None, Queue of |s| Some(&mut s.queue) => {
        /// "disk", or "memory-first" for flash that wears out: what is accepted lies in memory, and moves below `state` after
        /// `memory_grace` if it was not delivered by then, and at SIGTERM. A power cut or a crash of the system loses what lies in
        /// memory, although it was accepted. A change from "disk" needs a restart.
        storage: Storage = "disk", one(choice(&STORAGES));
        /// With "memory-first": the directory in memory, on a tmpfs. It is made at the start. A change needs a restart.
        memory: PathBuf = "/run/pillarbox/queue", one(path);
        /// How long a message may lie there.
        memory_grace: Duration = "10m", one(duration(1, 30 * DAY));
        /// How much may lie there, in whole pages of 4 KiB. A message that does not fit goes below `state` at once.
        memory_max: u64 = "2MiB", one(size(4096));
        /// Pauses before the second attempt, the third and so on; the last one repeats.
        retry: Vec<Duration> = ["1m", "5m", "15m", "30m", "1h", "2h", "4h"], some(duration(1, 30 * DAY));
        /// Mail older than this returns to its sender.
        lifetime: Duration = "5d", one(duration(1, 365 * DAY));
        /// One delay notice to the sender after this time. 0: no notice.
        warn_after: Duration = "4h", one(duration(0, 365 * DAY));
        /// Cron expression: mail is forwarded only when it fires. Empty: at once, and by `retry`.
        schedule: Option<CronExpression> = "", optional(one(schedule));
        /// Messages in the queue. One user other than root and one client may each have a half of them, and of `max_size`.
        max_messages: u32 = 10_000, one(count(1, 10_000_000));
        /// Size of the whole queue. 0: only `limits.free_space` bounds it.
        max_size: u64 = 0, one(size(0));
    }

    /// Senders and form of mail that leaves this host.
    "rewrite", None, Rewrite of |s| Some(&mut s.rewrite) => {
        /// Address for envelope sender, From and Sender of this host's own mail: that of its programs, of clients that log in, and
        /// of `relay.trusted_networks`. The old From stays visible as the display name and in X-Original-From. Empty: `relay.username` if that
        /// is an address, there is a smarthost, and `rewrite.domain` is empty.
        from: Option<Mailbox> = "", optional(one(identity));
        /// Or only a domain, for addresses without a domain or with one of this host.
        domain: Option<Domain> = "", optional(one(ascii_host_name));
        /// Single senders, before the other two keys: by address, or by name for those of this host.
        /// { "root" = "alerts@example.com", "nas@nas.lan" = "nas@example.com" }
        senders: Vec<(Unqualified, Mailbox)> = {}, pairs(sender);
        /// What stands in front of each Subject of this host's own mail as it leaves, such as "[{host}] "; not twice. {host} is the
        /// first label of the hostname.
        subject_prefix: String = "", one(subject_prefix);
        /// Adds what this host's own mail lacks: Date, Message-ID, From, To, MIME-Version; and the domain of this host to bare
        /// addresses. A second To or Cc goes into the first one; of other fields that may be there once the first stays. As mail
        /// leaves, header fields beyond ASCII become encoded words unless the host has SMTPUTF8, header lines over 998 octets are
        /// folded, parts with longer lines or with NULs are encoded, and those of eight bits for a host that takes seven; a Date of
        /// ours that a wrong clock wrote is mended. Own mail is what programs of this host hand over and what clients send that log
        /// in or are in `relay.trusted_networks`. Bcc is taken out of it in any case, and never of mail in transit.
        repair: bool = true, one(boolean);
    }

    /// Storm control for mail that this host submits.
    "digest", None, Digest of |s| Some(&mut s.digest) => {
        /// Number of similar messages within the window that leave at once; the rest wait. 0: off. Messages are similar if sender
        /// and recipients are the same, and the subjects differ only in numbers, dates, ids and addresses.
        after: u32 = 0, one(count(0, 1_000_000));
        /// The window; at its end the waiting messages leave as one multipart/digest.
        window: Duration = "10m", one(duration(1, 7 * DAY));
    }

    /// An alarm when mail is stuck.
    "alarm", None, Alarm of |s| Some(&mut s.alarm) => {
        /// A message older than this raises the alarm, and so does a next hop that has failed for this time. With
        /// `queue.schedule`, make it longer than the schedule lets mail wait.
        stuck_after: Duration = "4h", one(duration(1, 365 * DAY));
        /// Command that is run then, and again when the alarm is over, with the reason in its environment: see pillarbox(8). Run as
        /// `user`, without a shell, for 30 seconds at most. Empty: the alarm is only logged.
        command: String = "", one(string);
    }

    /// Signs of life, for those who would not notice that alerts stay away.
    "heartbeat", None, Heartbeat of |s| Some(&mut s.heartbeat) => {
        /// Mail to `admin` at this interval that says how this host is, with figures since the last one; the first after one
        /// interval. None is written while the last one still waits in the queue. Empty: none.
        every: Option<Duration> = "", optional(one(duration(3600, 365 * DAY)));
        /// https:// URL of a dead man's switch. It is asked each `interval` while mail flows: while the daemon runs, its queue can be
        /// written, the link is not down, and no alarm is on. During an alarm, or if the queue can't be written, it is asked with
        /// /fail behind its path. Empty: none.
        url: Option<HttpsUrl> = "", optional(one(heartbeat_url));
        /// The time between two questions.
        interval: Duration = "1h", one(duration(60, 7 * DAY));
    }

    /// Look-ups in DNS.
    "dns", None, Dns of |s| Some(&mut s.dns) => {
        /// Servers, such as "127.0.0.1:5353". Empty list: those of /etc/resolv.conf.
        servers: Vec<SocketAddr> = [], list(name_server);
        /// Trust the AD bit of a resolver that is not on loopback.
        trusted: bool = false, one(boolean);
        /// Time for an answer.
        timeout: Duration = "5s", one(duration(1, 300));
    }

    /// The log.
    "log", None, Log of |s| Some(&mut s.log) => {
        /// error | warn | info | debug | trace
        level: LogLevel = "info", one(choice(&LEVELS));
        /// stderr (but syslog where that is /dev/null) | syslog
        target: LogTarget = "stderr", one(choice(&LOG_TARGETS));
    }

    /// Sockets that take mail. Repeat the table for further listeners.
    "listener", Some(|s| s.listeners.push(Listener::blank())), Listener of |s| s.listeners.last_mut() => {
        /// Addresses with their ports.
        address: Vec<SocketAddr> = ["127.0.0.1:25", "[::1]:25"], some(listen_address);
        /// smtp | submission (STARTTLS, AUTH) | submissions (implicit TLS, AUTH) | lmtp
        kind: ListenerKind = "smtp", one(choice(&LISTENER_KINDS));
        /// reject | repair (a bare LF becomes CRLF, for old devices; it never ends the data)
        bare_newline: &'static str = "reject", one(word(&["reject", "repair"]));
        /// true: a PROXY v1 or v2 header must come first, from trusted networks only.
        proxy_protocol: bool = false, one(boolean);
        /// STARTTLS: off | offer | require (no mail and no login without it). By "offer", the self-signed certificate is not
        /// offered to loopback clients, most of which would refuse it. "submissions" always has TLS.
        tls: ListenerTls = "offer", one(choice(&LISTENER_TLS));
        /// Oldest version for clients of `relay.trusted_networks`: 1.0 | 1.1 (both with old suites, for old devices) | 1.2 |
        /// 1.3. Others have `tls.minimum` at least. Empty: `tls.minimum`.
        tls_minimum: &'static str = "", one(word(&["", "1.0", "1.1", "1.2", "1.3"]));
        /// off | users (those of `auth.users`, if the kind has logins) | any: clients of `relay.trusted_networks` may log in with any
        /// name and password, without TLS too, and nothing is checked; for other clients the same as "users".
        auth: ListenerAuth = "users", one(choice(&LISTENER_AUTH));
    }

    /// DKIM signatures of this host's own mail. Repeat the table for further keys; all three are needed.
    "dkim", Some(|s| s.dkim.push(Dkim::blank())), Dkim of |s| s.dkim.last_mut() => {
        /// Domain of From, or one above it.
        domain: Option<Domain> = "", optional(one(host_name));
        /// Name of the key in DNS: SELECTOR._domainkey.DOMAIN
        selector: Option<Domain> = "", optional(one(host_name));
        /// Private key, PEM: RSA (2048 bits) or Ed25519; `user` must be able to read it, and others must not.
        key: Option<PathBuf> = "", optional(one(path));
    }
}

#[cfg(test)]
mod tests;

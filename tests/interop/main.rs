//! The real binary on real sockets and a real disk, together with the programs that people use: Postfix's smtp-source and
//! smtp-sink, swaks, curl, msmtp, s-nail, git send-email, Python, mutt, Dovecot, Exim, dnsmasq, unbound, sslscan, strace,
//! libfaketime, and the callers of sendmail: cron, anacron, at, mailx, mailutils, PHP, mdadm, smartd, logwatch.
//!
//! Every test has its own directory and its own ports on 127.0.0.1, so any number of them run side by side. A program that
//! is missing fails its test, which names the Debian package. Measurements use the release binary (see
//! [`harness::measured`]); without one, counts are smaller, and the numbers are printed but not judged.

// Lints allow these within tests, but not in the functions that tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice
)]

/// An SMTP client that does exactly what a test says.
mod client;
/// A place for each test, the daemon, and the programs that it talks to.
mod harness;
/// A directory for each test: that of the library's tests.
#[path = "../../src/test_directory.rs"]
#[allow(dead_code)]
mod test_directory;
/// Reads the traces of strace; tests/faults reads more of them.
#[expect(dead_code)]
mod trace;

/// Aliases that change while the daemon runs.
mod aliases;
/// Thousands of messages for hosts that are down, and hosts that hang while others are served.
mod backlog;
/// Octets, lines and connections that no honest client sends.
mod bad_input;
/// A box with little memory, disk and furniture: a day of its alerts.
mod bare;
/// Debian's programs that send mail, with pillarbox as sendmail.
mod callers;
/// Client certificates, and smarthosts with certificates that nobody else trusts.
mod certificates;
/// The clients and mail readers that people use.
mod clients;
/// Clocks that jump while mail waits.
mod clock;
/// What bash and zsh offer behind `pillarbox`.
mod completions;
/// What the daemon, the agent and the command process may do, tried from within.
mod confinement;
/// `kill -9` under load.
mod crash;
/// Standard error that is closed or blocked, and panics.
mod damage;
/// Files that users own or hold back: pipes, links and lists; and a daemon that is to stop while everything hangs.
mod deputy;
/// Storm control: the alerts of a looping script, and their digests as Python parses them.
mod digest;
/// Signatures, from a client to smtp-sink.
mod dkim;
/// Signatures of the library alone, verified by dkimpy.
mod dkimpy;
/// Exim as an MX host.
mod exim;
/// The filter of fail2ban, against the log lines that it must match and against lookalikes.
mod fail2ban;
/// Processes of pillarbox that are stopped or killed: who waits for them, and for how long.
mod frozen;
/// sendmail with a broken daemon, socket, disk or drop directory.
mod handover;
/// Signs of life: a dead man's switch in Python, and the mail to `admin`.
mod heartbeat;
/// Next hops that hang, dribble and never end.
mod hostile;
/// The unit, scripts and manual pages, as systemd, shells and mandoc read them.
mod installed;
/// From smtp-source into a Maildir.
mod intake;
/// Standard error that is systemd's journal: levels in front of lines.
mod journal;
/// Many clients, and the limits of the system: descriptors and memory.
mod limits;
/// The keys of a listener: old devices, cameras that must log in, clients that check certificates on loopback.
mod listeners;
mod login;
mod logins;
/// An existing mbox: its readers, its locks, and its state after a crash.
mod mbox;
/// Memory of an idle daemon and of its connections, and the size of the binary.
mod memory;
/// `queue.storage = "memory-first"`.
mod memory_first;
/// Notices of delay and success, as Python parses them.
mod notices;
/// Tokens in place of passwords: XOAUTH2 and OAUTHBEARER with Dovecot.
mod oauth;
/// Mail that cannot be delivered now, or never.
mod outcomes;
/// `pillarbox probe` against Postfix, and with a running daemon.
mod probe;
/// `pillarbox queue` and `link`: with and without a daemon, as various users, and while mail is delivered.
mod queue;
/// The commands of README and docs/, on a host of its own.
mod readme;
/// Through the queue and by MX to smtp-sink.
mod relay;
/// Rewritten senders, against a Postfix that allows each login only its own address.
mod rewrite;
/// The rights that the daemon still has once it is ready.
mod rights;
/// docs/screens.md: what the commands show, from real runs.
mod screens;
/// Hostile clients around TLS and AUTH: clear text, silence and floods.
mod secured;
/// sendmail with a daemon: all callers, and processes that are killed.
mod sendmail;
/// Sockets from a service manager, and the reports to it.
mod service;
/// `pillarbox setup` at Postfix, by options and at a terminal; what it writes, and when it writes nothing.
mod setup;
/// SIGTERM, SIGHUP, SIGUSR1, and the exit codes.
mod signals;
/// Through smarthosts and MX hosts that want TLS and a login: Postfix, Dovecot.
mod smarthost;
/// STARTTLS with other people's clients; certificates that are made, swapped and refused.
mod starttls;
/// `pillarbox status` in all its forms, as promtool, Python and monitors read it; the alarm's command.
mod status;
/// The clients that people use, through TLS and AUTH; LMTP; the users file.
mod submission;
/// System calls, syncs and their order, seen by strace.
mod syscalls;
/// MTA-STS with an HTTPS server, DANE with unbound and a signed zone.
mod tls_policy;

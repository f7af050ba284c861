//! The real binary on real sockets and a real disk, beside the programs that others use: Postfix's smtp-source and
//! smtp-sink, swaks, curl, msmtp, s-nail, git send-email, Python, mutt, Dovecot, Exim, dnsmasq, unbound, sslscan, strace,
//! libfaketime, and the callers of sendmail: cron, anacron, at, mailx, mailutils, PHP, mdadm, smartd, logwatch.
//!
//! Every test has its own directory and its own ports on 127.0.0.1, so any number of them run side by side. A program that
//! is missing fails its test and names the Debian package. What is counted or measured runs on the release binary (see
//! [`harness::measured`]); with none, the counts are smaller and the numbers are printed and not judged.

// Lints allow these within tests, but not in what tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice
)]

/// An SMTP client that does exactly what a test says.
mod client;
/// Temporary places, the daemon, and the programs beside it.
mod harness;

/// Aliases that change while the daemon runs.
mod aliases;
/// Thousands of messages for hosts that are away, and hosts that hang while others are served.
mod backlog;
/// Octets, lines and connections that no honest client sends.
mod bad_input;
/// Debian's programs that send mail, with pillarbox in the place of sendmail.
mod callers;
/// The clients and mail readers that people use.
mod clients;
/// Clocks that jump while mail waits.
mod clock;
/// `kill -9` under load.
mod crash;
/// Standard error that is gone or stuck, and panics.
mod damage;
/// Storm control: a looping script's alerts, and what Python reads in the digests.
mod digest;
/// Signatures, from a client to smtp-sink.
mod dkim;
/// Signatures of the library alone, verified by dkimpy.
mod dkimpy;
/// Exim as an MX host.
mod exim;
/// The filter of fail2ban against the log lines that it is for, and against those that only look like them.
mod fail2ban;
/// sendmail with a daemon, a socket, a disk or a drop directory that is not as it should be.
mod handover;
/// The unit, scripts and manual pages, as systemd, shells and mandoc read them.
mod installed;
/// From smtp-source into a Maildir.
mod intake;
/// Crowds, and the limits that the system sets: descriptors and memory.
mod limits;
/// What a listener's own keys do: old devices, cameras that must log in, clients that check certificates on loopback.
mod listeners;
/// An mbox that was there before: who reads it, who locks it, and what a crash leaves in it.
mod mbox;
/// Memory of an idle daemon and of its connections, and the size of the binary.
mod memory;
/// Delays and successes, as Python reads what is told of them.
mod notices;
/// Tokens in the place of passwords: XOAUTH2 and OAUTHBEARER with Dovecot.
mod oauth;
/// What becomes of mail that can't be delivered now, or never.
mod outcomes;
/// `pillarbox probe` at Postfix, and beside a daemon.
mod probe;
/// `pillarbox queue` and `link`: with a daemon, without, as whom, and while mail is delivered.
mod queue;
/// The commands of README and docs/, on a host of its own.
mod readme;
/// Through the queue and by MX to smtp-sink.
mod relay;
/// Who mail is from where that is looked at: Postfix with a login of its own for each sender.
mod rewrite;
/// Rights that the daemon has left when it is ready.
mod rights;
/// What no honest client does where others log in: plain text, silence and floods around TLS and AUTH.
mod secured;
/// sendmail beside the daemon: whoever calls it, and whatever is killed.
mod sendmail;
/// Sockets from a service manager, and what it is told.
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

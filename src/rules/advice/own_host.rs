//! Advice for steps on this host: its configuration, users, queue and mailboxes.

use super::row::Hint;
use super::step::Stage;

const DISK: &[Stage] = &[Stage::Queue, Stage::Maildir];

const fn row(stages: &'static [Stage], when: &'static str, advice: &'static str) -> Hint {
    Hint { stages, about: None, when, advice }
}

/// Rows for `Config`, `Clock`, `Recipient`, `Route`, `Queue`, `Maildir`.
pub(super) const ROWS: &[Hint] = &[
    row(
        &[Stage::Config],
        "",
        "Correct what is named here, or let pillarbox setup write a new file; pillarbox check finds all mistakes.",
    ),
    row(
        &[Stage::Config],
        "client certificate",
        "Correct relay.certificate, relay.key or relay.key_password_file: pillarbox check says which.",
    ),
    row(&[Stage::Recipient], "", "Write one address, such as me@example.com."),
    row(&[Stage::Clock], "", "Set the clock (NTP): with a wrong date no certificate is valid."),
    row(
        &[Stage::Route],
        "no such user",
        "No user has this name: check the spelling, or add the name to local.users, local.aliases or local.catch_all. If \
         the mailbox is elsewhere, its domain must not be local: set hostname (by default /etc/mailname) to a name that only \
         this host has, or set local.domains.",
    ),
    row(
        &[Stage::Route],
        "its domain is local",
        "This host treats the domain as its own: set hostname (by default /etc/mailname) to a name that only this host \
         has, or list in local.domains the domains whose mail stays here.",
    ),
    row(&[Stage::Route], "part of a loop", "The aliases form a loop: correct local.aliases."),
    row(&[Stage::Route], "", "Check local.aliases and relay.routes."),
    row(&[Stage::Maildir], "local.quota", "Make room in the mailbox, or raise local.quota."),
    row(DISK, "no space|free|full|quota", "Make room on the disk, or lower limits.free_space."),
    row(
        DISK,
        "permission|denied",
        "The daemon's user must be able to write there: see pillarbox check; run probe as root or as that user.",
    ),
    row(
        DISK,
        "read-only",
        "The file system is read-only, as after a disk error or with a card that is worn out: see dmesg, and mount it for \
         writing.",
    ),
    row(
        &[Stage::Queue],
        "no daemon",
        "Start the daemon (pillarbox serve), or let cron run: pillarbox queue run.",
    ),
    row(
        &[Stage::Queue, Stage::Send],
        "link is down",
        "The daemon was told that the link is down: run pillarbox link up.",
    ),
    row(
        &[Stage::Queue, Stage::Send],
        "metered",
        "The daemon was told that the link is metered, and sends only urgent mail: run pillarbox queue flush, or link up.",
    ),
    row(
        &[Stage::Queue, Stage::Send],
        "until the next time of queue.schedule",
        "Mail leaves at the times of queue.schedule: pillarbox queue flush all sends it now.",
    ),
    row(
        &[Stage::Queue],
        "queue.max_messages|queue.max_size",
        "The queue is full, and new mail is refused: see pillarbox queue for what holds it up, or raise the limit.",
    ),
    row(
        &[Stage::Queue, Stage::Send],
        "are held|is held",
        "The operator has held them: pillarbox queue release ID lets them go.",
    ),
    row(
        &[Stage::Queue],
        "in drop/",
        "Mail of sendmail lies there until a daemon takes it: start the daemon, or run pillarbox queue run.",
    ),
    row(
        &[Stage::Queue],
        "~paus|~wait",
        "The daemon waits before the next attempt; once the cause is gone, run pillarbox queue flush.",
    ),
    row(
        &[Stage::Send],
        "~waits:",
        "The message stays in the queue, and the daemon sends it: pillarbox queue shows what it waits for.",
    ),
    row(
        &[Stage::Maildir],
        "locked the mbox",
        "Another program has locked this mbox: mail waits until the lock is released. A stale NAME.lock is ignored after five minutes.",
    ),
    row(
        &[Stage::Maildir],
        "mbox",
        "An mbox must be a file that its user owns and can read and write, with only one name: chown or chmod it, or move it away.",
    ),
    row(
        &[Stage::Maildir],
        "",
        "Check local.maildir: each part of the path must be a directory and not a link.",
    ),
    row(
        &[Stage::Clock, Stage::Route, Stage::Queue, Stage::Maildir],
        "hangs, so the probe ends",
        "A disk, a user database or the delivery agent hangs: look for network file systems and NSS services that do not \
         answer.",
    ),
];

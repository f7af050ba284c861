//! The agent's side of an errand: whose mailbox it is, by the configuration and the user database, and the step there
//! with the rights of that user.
//!
//! | refused with | because |
//! | --- | --- |
//! | `EINVAL` | unknown words, or a name that no `Maildirs` makes |
//! | `ENOENT` | there is no such user |
//! | `EPERM` | mail is not delivered to system users; or a Maildir in the home of a user that is not a person |
//!
//! Only one step needs rights that a user has not: making the place of a mailbox in a directory of the administrator's,
//! such as `/var/mail/alice`. An mbox in a directory where a group may write has its `NAME.lock` there, for which the
//! step gets that group, as a mail program with a set-gid bit has it (Debian Policy 11.6).

use super::is_needed;
use super::wire::errand;
use crate::config::{Settings, load};
use crate::mail::date::WallTime;
use crate::rules::routing::route::is_system_uid;
use crate::store::durable::Owner;
use crate::store::maildir::{Errand, MaildirPath, Turn, perform};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::identity::{FileIdentity, as_root, with_all_files};
use crate::sys::lock::Lock;
use crate::sys::user::{self, SystemUser};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a worker trusts what it has learnt about a user.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// What all workers share.
pub(super) struct Mailboxes {
    config: PathBuf,
    /// The template of mailboxes; `None`: mail is not delivered to system users.
    template: Lock<Option<String>>,
    /// Two threads must not make the administrator's directories at once.
    making: Lock<()>,
}

impl Mailboxes {
    pub fn new(config: PathBuf, settings: &Settings) -> Self {
        Self { config, template: Lock::new(template(settings)), making: Lock::new(()) }
    }

    /// Reads the configuration again. To be called in a thread that has served no user: a worker has the ids of the last
    /// one, and a stack that is too small for the parser.
    ///
    /// # Errors
    /// `EINVAL`: the file can't be read, or has mistakes. The old template stays.
    pub fn reload(&self) -> io::Result<u64> {
        // The file may be another user's, as when the process started with all of root's rights.
        let read = with_all_files(|| catch_unwind(AssertUnwindSafe(|| load(&self.config))))?;
        let Ok(Ok(settings)) = read else { return Err(Errno::INVAL.into()) };
        *self.template.lock() = template(&settings);
        Ok(0)
    }

    /// Makes what only root can make of a mailbox, and what its owner can make.
    fn make(&self, path: &MaildirPath, owner: Owner, identity: &FileIdentity) -> io::Result<()> {
        let _turn = Turn::take(path.path());
        if path.is_in_home() {
            path.make_place(Some(owner))?;
        } else {
            let making = self.making.lock();
            let made = as_root(|| path.make_place(Some(owner)));
            identity.assume()?;
            made?;
            // The inside may hang, and is its owner's alone.
            drop(making);
        }
        path.make_inside(Some(owner))
    }
}

fn template(settings: &Settings) -> Option<String> {
    is_needed(settings).then(|| settings.local.maildir.to_string())
}

/// A user, as the database had them.
struct Known {
    asked_for: String,
    since: Duration,
    account: SystemUser,
    identity: FileIdentity,
}

/// Carries out errands in one thread.
pub(super) struct Steps {
    mailboxes: Arc<Mailboxes>,
    /// The user of the last errand: a message takes two.
    known: Option<Known>,
}

impl Steps {
    pub fn new(mailboxes: Arc<Mailboxes>) -> Self {
        Self { mailboxes, known: None }
    }

    /// Carries out an errand.
    ///
    /// # Errors
    /// Those of the table above, or of the step.
    pub fn go(&mut self, user: &str, words: &[&str], sent: Option<&File>) -> io::Result<u64> {
        let [domain, words @ ..] = words else { return Err(Errno::INVAL.into()) };
        let errand = errand(words, sent).ok_or(Errno::INVAL)?;
        let template = self.mailboxes.template.lock().clone().ok_or(Errno::PERM)?;
        let Known { account, identity, .. } = self.look_up(user)?;
        let owner = Owner { uid: account.uid, gid: account.gid };
        let path = MaildirPath::expand(&template, &account.name, domain, Some(&account.home), Some(owner))
            .map_err(|_| Errno::INVAL)?;
        if path.is_in_home() && is_system_uid(account.uid) {
            return Err(Errno::PERM.into());
        }
        let group = if matches!(errand, Errand::Append(..)) { path.group_of_locks() } else { None };
        let identity = group.map_or_else(|| identity.clone(), |gid| identity.clone().with_group(gid));
        identity.assume()?;
        let make = || self.mailboxes.make(&path, owner, &identity);
        perform(&path, Some(owner), errand, WallTime(SystemClock.wall_micros()), &make)
    }

    /// The user, unless the database was asked a moment ago.
    fn look_up(&mut self, user: &str) -> io::Result<&Known> {
        let now = SystemClock.boot();
        let is_fresh = |known: &Known| known.asked_for == user && now.saturating_sub(known.since) < KNOWN_FOR;
        let known = match self.known.take().filter(is_fresh) {
            Some(known) => known,
            None => {
                let account = user::find(user)?.ok_or(Errno::NOENT)?;
                let identity = FileIdentity::of(&account);
                Known { asked_for: user.to_owned(), since: now, account, identity }
            }
        };
        Ok(self.known.insert(known))
    }
}

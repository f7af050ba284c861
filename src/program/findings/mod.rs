//! The problems of a configuration on this host that its text does not show: for `check`, and for the warnings of `serve`
//! and `probe`.
//!
//! | file | looks at | finds |
//! | --- | --- | --- |
//! | [`files`] | every path that the settings name | what is missing, or can't be used by the user who serves |
//! | [`contents`] | keys, certificates, users, aliases, mboxes | what the program could not read at its start |
//! | [`memory`] | the directory of `queue.memory` | what would not lie in memory |
//! | [`doubts`] | routes, names and sockets, together | mail that would be lost, or go where nobody expects it |
//!
//! | command | calls | shows |
//! | --- | --- | --- |
//! | `check` | [`contents::examine`], which reads the file and looks at everything | problems (exit 78), then warnings |
//! | `serve` | [`contents::look`] with the settings that it has read, [`contents::Seen::read`] as `user` | problems, as notices in the log |
//! | `probe` | the same | problems, as warnings of its first step |
//!
//! `serve` and `probe` skip the doubts: a daemon that runs is better than one that waits for a perfect configuration, and
//! routes may ask the user database for every name.
//!
//! A problem can't work; a warning may be meant that way. No file is opened with root's rights. Nothing here changes anything, asks DNS or writes a line: the
//! commands show what was found. The user who starts the program is an argument, and so is the look-up of users, so that
//! tests can be any user.

pub mod contents;
pub mod doubts;
pub mod files;
pub mod memory;
pub mod report;

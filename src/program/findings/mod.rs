//! What is wrong with a configuration on this host, beyond what its text shows: for `check`, and for the warnings of `serve`
//! and `probe`.
//!
//! | file | looks at | finds |
//! | --- | --- | --- |
//! | [`files`] | every path that the settings name | what is missing, or can't be used by the user who serves |
//! | [`contents`] | keys, certificates, users, aliases, mboxes | what the program could not read at its start |
//! | [`doubts`] | routes, names and sockets, together | mail that would be lost, or go where nobody expects it |
//!
//! A problem can't work; a warning may be meant that way. Nothing here changes anything, asks DNS or writes a line: the
//! commands show what was found. Whoever starts the program is an argument, and so is the look-up of users, so tests can
//! be any user.

pub mod contents;
pub mod doubts;
pub mod files;
pub mod report;

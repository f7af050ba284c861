//! The control socket, the drop directory and the alarm. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `alarms` | each reason is reported once, and once when it is over |
//! | `control` | the control socket |
//! | `drops` | the drop directory: bounces, trouble on this host, and files that are no messages |
//! | `heartbeat` | the mail to `admin` and the dead man's switch: when, what, and not too often |
//! | `operator` | lists, hold, release, remove, bounce, flush, the link, also while mail is delivered |
//! | `status` | what `pillarbox status` says first, and what `--check` adds |
//! | `submit` | messages that `sendmail` submits on the control socket |

mod alarms;
mod control;
mod drops;
mod heartbeat;
mod operator;
mod status;
mod submit;

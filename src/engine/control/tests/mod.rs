//! What operators and programs of this host ask for. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `alarms` | who is told that mail is stuck, once, and that it moves again |
//! | `control` | the control socket |
//! | `drops` | the drop directory: bounces, trouble of our own, and what is no message |
//! | `operator` | lists, hold, release, remove, bounce, flush, the link, also while mail is delivered |
//! | `submit` | what `sendmail` hands over by the control socket |

mod alarms;
mod control;
mod drops;
mod operator;
mod submit;

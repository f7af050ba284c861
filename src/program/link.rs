//! `pillarbox link up|down|metered`: tells the daemon whether the network can be reached, for scripts that know (hooks of
//! dial-up links, NetworkManager). Without a daemon nothing is changed, and the command fails: the state lives in the daemon.
//!
//! | word | mail is tried | lifetimes |
//! | --- | --- | --- |
//! | `up` | all | run |
//! | `down` | none | stand still |
//! | `metered` | urgent mail only | of all other mail stand still |

use super::exit::{self, CommandFailure, finish};
use super::remote::client::{DaemonAnswer, ask};
use super::remote::screen::Screen;
use crate::config::load;
use crate::protocol::request::{BadRequest, Request};
use std::ffi::OsString;
use std::path::Path;

/// The words.
pub const ROWS: &str = "\
up\tends all pauses, and tries what waits now
down\ttries nothing, and lets nothing expire
metered\tsends only urgent mail (Priority, X-Priority, Importance)
";

/// Tells the daemon.
///
/// # Errors
/// The operand is no such word, no daemon runs, or this user may not change it.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), CommandFailure> {
    let operands: Vec<_> = operands.iter().map(|word| word.to_string_lossy()).collect();
    let mut words = vec!["link"];
    words.extend(operands.iter().map(|word| &**word));
    let request = Request::parse(&words)
        .map_err(|BadRequest { code, text }| CommandFailure::new(code, format!("link: {text}")))?;
    let settings = load(config).map_err(|problems| CommandFailure::problems(&problems))?;
    match ask(&settings.control, &request, &mut Screen::new())? {
        DaemonAnswer::Answered(code) => finish(code),
        DaemonAnswer::NoDaemon(why) => {
            Err(CommandFailure::new(exit::UNAVAILABLE, format!("link: no daemon answers: {why}")))
        }
    }
}

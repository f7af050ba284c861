//! `pillarbox link up|down|metered`: tells the daemon whether there is a way out, for the scripts of a box that knows.

use super::exit::{self, Failure};
use super::remote::client::{Asked, ask, finish};
use super::remote::screen::Screen;
use crate::config::load;
use crate::protocol::request::{BadRequest, Request};
use std::ffi::OsString;
use std::path::Path;

/// Tells the daemon.
///
/// # Errors
/// The word is none, there is no daemon, or it does not listen to this user.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), Failure> {
    let operands: Vec<_> = operands.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = std::iter::once("link").chain(operands.iter().map(AsRef::as_ref)).collect();
    let request = Request::parse(&words)
        .map_err(|BadRequest { code, text }| Failure::new(code, format!("link: {text}")))?;
    let settings = load(config).map_err(|problems| Failure::problems(&problems))?;
    match ask(&settings.control, &request, &mut Screen::new())? {
        Asked::Answered(code) => finish(code),
        Asked::NoDaemon(why) => {
            Err(Failure::new(exit::UNAVAILABLE, format!("link: no daemon answers: {why}")))
        }
    }
}

//! What operators and programs of this host ask for: the control socket and the drop directory.

pub mod alarm;
pub mod listing;
pub mod maildrop;
pub mod output;
pub mod requests;
pub mod services;
pub mod socket;
pub mod status;
pub mod submit;

#[cfg(test)]
mod tests;

//! What operators and programs of this host ask for: the control socket and the drop directory.

pub mod alarm;
pub mod drops;
pub mod listing;
pub mod operator;
pub mod services;
pub mod socket;
pub mod status;
pub mod submit;

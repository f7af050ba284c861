//! Who may log in: the users file, password hashes, and what is wrong with a file of secrets.

pub mod password;
pub mod secret_shape;
pub mod users;

//! Who may log in: the users file, password hashes, mistakes in a file of secrets; and how this host logs in elsewhere by
//! tokens of OAuth 2.0 ([`oauth`]).
//!
//! A login by AUTH takes these steps: `users` finds the name and its hash, without case; `password` makes the same
//! hash of the password that the client sent; both are compared in constant time. If the name is unknown, the same
//! work is done on another hash, so that the time of the answer does not reveal names.

pub mod oauth;
pub mod password;
pub mod secret_shape;
pub mod users;

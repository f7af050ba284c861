//! The way to another host: look-ups, TLS policy, the connection and the conversation.

mod certificate_check;
pub mod command;
pub mod connect;
pub mod context;
pub mod conversation;
mod host_policy;
pub mod hosts;
pub mod outgoing;
pub mod password;
pub mod sts_policies;
pub mod tls_policy;

#[cfg(test)]
mod tests;

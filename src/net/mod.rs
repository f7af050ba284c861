//! The wire: sockets with deadlines, and the resolver.

pub mod resolver;
pub mod transport;

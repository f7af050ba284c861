//! Walks the way of a message without sending one, and says what is in the way.

pub mod smarthost;
pub mod test_message;
pub mod walk;

#[cfg(test)]
mod tests;

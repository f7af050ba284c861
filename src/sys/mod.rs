//! The system: clock, users, signals. The only folder that may say `unsafe`.

//! The words of mail: addresses, envelopes, header fields, status codes, outcomes, dates and queue ids.
//!
//! This is the lowest floor. Nothing here opens, reads, waits, logs or asks for the time (DESIGN section 2);
//! nothing fails other than by a value that says what was wrong with the text it was given.

pub mod address;
pub mod address_list;
pub mod base64;
pub mod date;
pub mod display_name;
pub mod encoded_word;
pub mod envelope;
pub mod fold;
pub mod header;
pub mod id;
pub mod idna;
pub mod maildir_template;
pub mod mbox;
pub mod message;
pub mod mx;
pub mod network;
pub mod next_hop;
pub mod outcome;
pub mod section_filter;
pub mod status;
pub mod unqualified;

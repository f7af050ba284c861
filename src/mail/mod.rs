//! The nouns of mail: addresses, envelopes, header fields, status codes, outcomes, dates and queue ids.
//!
//! This is the lowest floor. No function here opens, reads, waits, logs or asks for the time.
//! Functions that fail return a value that says what is wrong with their text.
//!
//! | in the envelope | in the content | about delivery |
//! | --- | --- | --- |
//! | [`address`], [`unqualified`], [`envelope`] | [`message`], [`header`], [`section_filter`] | [`outcome`], [`status`] |
//! | [`fold`], [`idna`]: comparing and encoding names | [`address_list`], [`display_name`], [`encoded_word`] | [`next_hop`], [`mx`], [`network`] |
//! | [`id`], [`date`], [`text`], [`hidden`], [`xtext`] | [`base64`], [`json`], [`mbox`] | [`maildir_template`], [`fingerprint`] |

pub mod address;
pub mod address_list;
pub mod base64;
pub mod date;
pub mod display_name;
pub mod encoded_word;
pub mod envelope;
pub mod fingerprint;
pub mod fold;
pub mod header;
pub mod hidden;
pub mod id;
pub mod idna;
pub mod json;
pub mod maildir_template;
pub mod mbox;
pub mod message;
pub mod mx;
pub mod network;
pub mod next_hop;
pub mod outcome;
pub mod relay_login;
pub mod section_filter;
pub mod status;
pub mod text;
pub mod unqualified;
pub mod xtext;

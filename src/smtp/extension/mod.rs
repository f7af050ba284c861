//! Service extensions (RFC 5321 §2.2): one file and one row each.
//!
//! A row says how the extension is offered, and which parameters it adds to MAIL and RCPT. The server walks the rows
//! to write its EHLO reply and to parse parameters; the client parses a peer's EHLO reply by the same keywords.
//! docs/standards.md lists the RFCs and the transcripts.
//!
//! To add an extension: a file with a `ROW`, and its line in [`EXTENSIONS`].

pub mod auth;
pub mod chunking;
pub mod dsn;
pub mod eight_bit_mime;
pub mod enhanced_status_codes;
pub mod limits;
pub mod pipelining;
pub mod requiretls;
pub mod size;
pub mod smtputf8;
pub mod starttls;

use crate::mail::envelope::{Body, Notify, Ret};
use crate::mail::status::EnhancedStatus;
use crate::smtp::command::Parameter;
use crate::smtp::reply::Reply;

/// What the server must know to offer its extensions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer {
    /// Largest accepted message, in octets.
    pub message_size_octets: u64,
    /// Most recipients in a transaction.
    pub recipients: usize,
    /// TLS is available and not active.
    pub starttls: bool,
    /// The client may log in.
    pub auth: bool,
    /// TLS is active.
    pub within_tls: bool,
    /// The client may ask for notices: it is one of this host's own.
    pub dsn: bool,
}

/// How an extension appears in the EHLO reply.
#[derive(Debug)]
pub enum Offered {
    /// Not at all.
    No,
    /// As its keyword.
    Bare,
    /// As its keyword with this argument.
    With(String),
}

/// The parsed parameters of a MAIL command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE, in octets (RFC 1870).
    pub size_octets: Option<u64>,
    /// BODY (RFC 6152).
    pub body: Body,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// RET (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// ENVID, as xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
}

/// The parsed parameters of a RCPT command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// NOTIFY (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// ORCPT: the type of address, a semicolon, and the address as xtext (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

/// Parses the value of one parameter into the parameters of its command.
type Reader<P> = fn(value: Option<&str>, offer: &Offer, into: &mut P) -> Result<(), Reply>;
/// The parameters that an extension adds to a command, with their parsers.
type ParameterReaders<P> = &'static [(&'static str, Reader<P>)];

/// An extension.
pub struct Extension {
    /// Its EHLO keyword.
    pub keyword: &'static str,
    /// The RFC that defines it.
    pub rfc: &'static str,
    /// Whether it is offered at present, and with which argument.
    pub offered: fn(&Offer) -> Offered,
    /// The parameters that it adds to MAIL.
    pub mail_parameters: ParameterReaders<MailParameters>,
    /// The parameters that it adds to RCPT.
    pub rcpt_parameters: ParameterReaders<RcptParameters>,
}

impl Extension {
    /// A row with only a keyword; struct update syntax adds the rest.
    const fn new(keyword: &'static str, rfc: &'static str) -> Self {
        Self { keyword, rfc, offered: |_| Offered::Bare, mail_parameters: &[], rcpt_parameters: &[] }
    }
}

/// Every extension, in the order in which EHLO offers them.
pub const EXTENSIONS: [&Extension; 11] = [
    &pipelining::ROW,
    &size::ROW,
    &eight_bit_mime::ROW,
    &smtputf8::ROW,
    &chunking::ROW,
    &dsn::ROW,
    &enhanced_status_codes::ROW,
    &starttls::ROW,
    &auth::ROW,
    &limits::ROW,
    &requiretls::ROW,
];

/// The lines of the EHLO reply after the first.
#[must_use]
pub fn offered_lines(offer: &Offer) -> Vec<String> {
    let line = |row: &&Extension| match (row.offered)(offer) {
        Offered::No => None,
        Offered::Bare => Some(row.keyword.to_owned()),
        Offered::With(argument) => Some(format!("{} {argument}", row.keyword)),
    };
    EXTENSIONS.iter().filter_map(line).collect()
}

/// Parses the parameters of a MAIL command.
///
/// # Errors
/// The reply: 555 for a parameter of no extension (RFC 5321 §4.1.1.11), 501 for one given twice, or the reply of its
/// own extension to a bad value.
pub fn mail_parameters(parameters: &[Parameter], offer: &Offer) -> Result<MailParameters, Reply> {
    read(parameters, offer, |row| row.mail_parameters)
}

/// Parses the parameters of a RCPT command.
///
/// # Errors
/// The reply, as for [`mail_parameters`].
pub fn rcpt_parameters(parameters: &[Parameter], offer: &Offer) -> Result<RcptParameters, Reply> {
    read(parameters, offer, |row| row.rcpt_parameters)
}

fn read<P: Default>(
    parameters: &[Parameter],
    offer: &Offer,
    readers: fn(&Extension) -> ParameterReaders<P>,
) -> Result<P, Reply> {
    let mut understood = P::default();
    let mut rest = parameters;
    while let Some((parameter, after)) = rest.split_first() {
        rest = after;
        if after.iter().any(|other| other.keyword == parameter.keyword) {
            let text = format!("{} is given twice", parameter.keyword);
            return Err(Reply::new(501, EnhancedStatus::INVALID_ARGUMENTS, text));
        }
        let mut all = EXTENSIONS.iter().flat_map(|row| readers(row));
        let own = all.find(|(keyword, _)| *keyword == parameter.keyword);
        let (_, read) = own.ok_or_else(|| unknown_parameter(parameter))?;
        read(parameter.value.as_deref(), offer, &mut understood)?;
    }
    Ok(understood)
}

/// The reply to a bad value of a parameter.
fn bad_value(text: &'static str) -> Reply {
    Reply::new(501, EnhancedStatus::INVALID_ARGUMENTS, text)
}

fn unknown_parameter(parameter: &Parameter) -> Reply {
    let text = format!("the parameter {} is not supported", parameter.keyword);
    Reply::new(555, EnhancedStatus::INVALID_ARGUMENTS, text)
}

/// What a peer's EHLO reply offers, as far as the client uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerOffer {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): `Some(0)` is an offer without a limit.
    pub size_octets: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// Mechanisms of AUTH (RFC 4954).
    pub auth: Vec<String>,
}

impl PeerOffer {
    /// Parses the lines of an EHLO reply; the first one holds no keyword. Unknown keywords are ignored.
    #[must_use]
    pub fn parse<S: AsRef<str>>(lines: &[S]) -> Self {
        let mut offer = Self::default();
        for line in lines.iter().skip(1) {
            let mut words = line.as_ref().split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default();
            let is = |row: &Extension| keyword.eq_ignore_ascii_case(row.keyword);
            offer.pipelining |= is(&pipelining::ROW);
            offer.eight_bit_mime |= is(&eight_bit_mime::ROW);
            offer.smtputf8 |= is(&smtputf8::ROW);
            offer.chunking |= is(&chunking::ROW);
            offer.dsn |= is(&dsn::ROW);
            offer.starttls |= is(&starttls::ROW);
            offer.requiretls |= is(&requiretls::ROW);
            if is(&size::ROW) {
                offer.size_octets = Some(words.next().and_then(|limit| limit.parse().ok()).unwrap_or(0));
            } else if let Some(first) = auth::first_mechanism(keyword) {
                for mechanism in first.into_iter().chain(words) {
                    if !offer.auth.iter().any(|known| known == mechanism) {
                        offer.auth.push(mechanism.to_owned());
                    }
                }
            }
        }
        offer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_named_once_and_cites_its_rfc() {
        for (i, row) in EXTENSIONS.iter().enumerate() {
            assert!(row.rfc.starts_with("RFC "), "{}", row.keyword);
            assert_eq!(row.keyword, row.keyword.to_ascii_uppercase());
            assert!(!EXTENSIONS.iter().skip(i + 1).any(|other| other.keyword == row.keyword));
        }
    }

    #[test]
    fn the_client_understands_what_the_server_offers() {
        let mut lines = vec!["router.example".to_owned()];
        lines.extend(offered_lines(&Offer {
            message_size_octets: 1000,
            recipients: 3,
            starttls: true,
            dsn: true,
            ..Offer::default()
        }));
        let offer = PeerOffer::parse(&lines);
        let all = PeerOffer {
            pipelining: true,
            size_octets: Some(1000),
            eight_bit_mime: true,
            smtputf8: true,
            chunking: true,
            dsn: true,
            starttls: true,
            ..PeerOffer::default()
        };
        assert_eq!(offer, all);
        assert_eq!(PeerOffer::parse(&["PIPELINING", "size", "X-OTHER 1"]).size_octets, Some(0));
        assert!(!PeerOffer::parse(&["PIPELINING"]).pipelining);
    }

    #[test]
    fn an_offer_of_auth_is_read_in_both_forms() {
        let auth = |lines: &[&str]| PeerOffer::parse(lines).auth.join(" ");
        for line in ["AUTH LOGIN PLAIN", "AUTH=LOGIN PLAIN", "auth=LOGIN PLAIN", "AUTH= LOGIN PLAIN"] {
            assert_eq!(auth(&["mx", line]), "LOGIN PLAIN", "{line}");
        }
        assert_eq!(auth(&["mx", "AUTH LOGIN PLAIN", "AUTH=LOGIN CRAM-MD5"]), "LOGIN PLAIN CRAM-MD5");
        assert_eq!(auth(&["mx", "AUTHX=LOGIN", "XAUTH LOGIN", "AUTH"]), "");
    }

    #[test]
    fn starttls_is_offered_only_where_it_can_be_had() {
        let lines = |starttls| {
            offered_lines(&Offer { message_size_octets: 1000, recipients: 3, starttls, ..Offer::default() })
        };
        let rest =
            |lines: Vec<String>| lines.into_iter().filter(|line| line != "STARTTLS").collect::<Vec<_>>();
        assert!(lines(true).contains(&"STARTTLS".to_owned()));
        assert_eq!(rest(lines(true)), lines(false));
    }

    #[test]
    fn parameters_are_read_by_their_rows() {
        let offer =
            Offer { message_size_octets: 1000, recipients: 3, starttls: true, dsn: true, ..Offer::default() };
        let read = |text: &str| {
            let parameters: Vec<Parameter> = text
                .split_ascii_whitespace()
                .map(|word| {
                    let (keyword, value) =
                        word.split_once('=').map_or((word, None), |(k, v)| (k, Some(v.to_owned())));
                    Parameter { keyword: keyword.to_owned(), value }
                })
                .collect();
            mail_parameters(&parameters, &offer).map_err(|reply| reply.to_string())
        };
        assert_eq!(read(""), Ok(MailParameters::default()));
        assert_eq!(
            read("SIZE=1000 BODY=8bitMIME").map(|p| (p.size_octets, p.body)),
            Ok((Some(1000), Body::EightBitMime))
        );
        for (text, reply) in [
            ("SIZE=1001", "552 5.3.4"),
            ("SIZE=x", "501 5.5.4"),
            ("SIZE=-1", "501 5.5.4"),
            ("SIZE=+1", "501 5.5.4"),
            ("SIZE", "501 5.5.4"),
            ("SIZE=123456789012345678901", "501 5.5.4"),
            ("SIZE=99999999999999999999", "552 5.3.4"),
            ("BODY=BINARYMIME", "501 5.5.4"),
            ("BODY", "501 5.5.4"),
            ("SIZE=1 SIZE=1", "501 5.5.4"),
            ("XFOO=1", "555 5.5.4"),
            ("SMTPUTF8=1", "501 5.5.4"),
            ("RET=ALL", "501 5.5.4"),
            ("RET", "501 5.5.4"),
            ("ENVID=a+zz", "501 5.5.4"),
            ("ENVID", "501 5.5.4"),
            ("NOTIFY=NEVER", "555 5.5.4"),
        ] {
            let answer = read(text).unwrap_err();
            assert!(answer.starts_with(reply), "{text}: {answer}");
        }
    }
}

//! Reads one DNS answer: the records of the asked name, followed along its CNAME chain, or a proven "no".
//!
//! It has no I/O and never panics, whatever the octets (it is a fuzz target). A record counts only if its owner is the
//! asked name or was reached from it by CNAME: anything else a server volunteers is ignored, else any server could
//! speak for any domain. RFC 1035 §4, RFC 1034 §3.6.2 (CNAME), RFC 2308 (negative answers), RFC 2181 §5 and §8.
//! What fails is the server's answer ([`Fault`]); the caller may then ask another server.

use crate::mail::mx::Mx;
use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::name::{Name, ParsedName, ToName};
use domain::base::rdata::{ParseRecordData, UnknownRecordData};
use domain::base::wire::ParseError;
use domain::base::{Message, Ttl};
use domain::rdata;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use std::{fmt, io};

/// A name in wire format; compares without case.
pub type DnsName = Name<Vec<u8>>;

/// So many CNAMEs are followed for one look-up; more is taken for a loop.
pub const CNAMES_MAX: usize = 8;
/// Of one answer so many records are kept.
pub const RECORDS_MAX: usize = 256;
/// No answer is remembered longer than this.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// No "there is none" is remembered longer than this (RFC 2308 §5 allows hours, but a mistake in a zone gets mended).
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(15 * 60);

/// The data of a record that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Of type A or AAAA.
    Address(IpAddr),
    /// Of type MX; the null MX has the exchange ".".
    Mx(Mx),
    /// Of type TXT (its strings joined, as RFC 8461 §3.1 wants them), TLSA and SRV (as on the wire, RFC 6698 §2.1 and
    /// RFC 2782) or PTR (the name in lower case).
    Data(Vec<u8>),
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// These records; never empty.
    Records(Vec<Record>),
    /// The name exists, but has no record of the type.
    NoData,
    /// The name does not exist (NXDOMAIN).
    NoSuchDomain,
    /// The CNAME chain leads to this name, of which the answer says nothing: ask again with it.
    Alias(DnsName),
}

/// An answer that was understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub found: Found,
    /// CNAMEs followed in it; above [`CNAMES_MAX`] the chain was left.
    pub cnames: usize,
    /// How long it may be remembered: the least of all records used; zero: not at all.
    pub ttl: Duration,
    /// The server says that it has validated all of it (the AD bit, RFC 4035 §3.2.3). Worth as much as the server and the
    /// way to it.
    pub is_secure: bool,
}

/// Why a server was of no help. None of these says anything about the name.
#[derive(Debug)]
pub enum Fault {
    /// Nothing came in time.
    Silence,
    /// The system could not send or receive.
    Io(io::Error),
    /// Another response code than NOERROR and NXDOMAIN.
    Code(OptRcode),
    /// It can't be understood, or contradicts itself.
    Malformed,
    /// It is not all there.
    Cut,
    /// It names other servers instead of an answer, or has nothing to say and neither authority nor recursion: this one
    /// does not resolve for us (a "lame" server).
    Referral,
}

impl Fault {
    /// In plain words, to be followed by "for TYPE NAME".
    pub(super) fn text(&self, server: SocketAddr) -> String {
        let what: &dyn fmt::Display = match self {
            Self::Io(error) => return format!("cannot ask {server} ({error})"),
            Self::Code(code) => code,
            Self::Silence => &"no answer",
            Self::Malformed => &"a malformed answer",
            Self::Cut => &"a cut answer",
            Self::Referral => &"a referral or nothing instead of an answer",
        };
        format!("{what} from {server}")
    }
}

impl From<ParseError> for Fault {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::ShortInput => Self::Cut,
            ParseError::Form(_) => Self::Malformed,
        }
    }
}

/// Reads the answer to a question for `name` and `rtype` (A, AAAA, MX, TXT, TLSA, SRV or PTR). That it *is* the answer to the question
/// (id, question section) has been checked before.
///
/// # Errors
/// The [`Fault`]s other than `Silence` and `Io`.
pub fn parse_answer(message: &[u8], name: &DnsName, rtype: Rtype) -> Result<Answer, Fault> {
    let message = Message::from_slice(message).map_err(|_| Fault::Cut)?;
    let code = message.opt_rcode();
    if code != OptRcode::NOERROR && code != OptRcode::NXDOMAIN {
        return Err(Fault::Code(code));
    }
    if message.header().tc() {
        return Err(Fault::Cut);
    }
    let section = message.answer()?;
    let is_secure = message.header().ad();
    let mut chain = Chain { owner: name.clone(), ttl: TTL_MAX };
    for cnames in 0..=CNAMES_MAX {
        let records = chain.records(section, rtype)?;
        if !records.is_empty() {
            // A name that does not exist has no records. Which half is true can't be told.
            return if code == OptRcode::NXDOMAIN {
                Err(Fault::Malformed)
            } else {
                Ok(Answer { found: Found::Records(records), cnames, ttl: chain.ttl, is_secure })
            };
        }
        let Some(target) = chain.alias(section)? else {
            return chain.negative(message, code, cnames);
        };
        chain.owner = target;
    }
    Ok(Answer { found: Found::Alias(chain.owner), cnames: CNAMES_MAX + 1, ttl: chain.ttl, is_secure })
}

/// The way from the asked name along its CNAMEs.
struct Chain {
    /// Where it has come to.
    owner: DnsName,
    /// The least TTL met on it.
    ttl: Duration,
}

impl Chain {
    fn records(&mut self, section: RecordSection<'_, [u8]>, rtype: Rtype) -> Result<Vec<Record>, Fault> {
        let mut found = Vec::new();
        match rtype {
            Rtype::A => self.each(section, |a: rdata::A| found.push(Record::Address(a.addr().into())))?,
            Rtype::AAAA => {
                self.each(section, |a: rdata::Aaaa| found.push(Record::Address(a.addr().into())))?
            }
            Rtype::MX => self.each(section, |mx: rdata::Mx<ParsedName<_>>| {
                // Lower case: the name may be a compressed one that ends in the case-randomised question.
                let exchange = mx.exchange().to_canonical_name::<Vec<u8>>().to_string();
                found.push(Record::Mx(Mx { preference: mx.preference(), exchange }));
            })?,
            Rtype::PTR => self.each(section, |ptr: rdata::Ptr<ParsedName<_>>| {
                let name = ptr.ptrdname().to_canonical_name::<Vec<u8>>().to_string();
                found.push(Record::Data(name.into_bytes()));
            })?,
            Rtype::TXT | Rtype::TLSA | Rtype::SRV => {
                for data in self.data(section, rtype)? {
                    let data = if rtype == Rtype::TXT { joined(&data)? } else { data };
                    found.push(Record::Data(data));
                }
            }
            _ => {}
        }
        found.truncate(RECORDS_MAX);
        Ok(found)
    }

    fn alias(&mut self, section: RecordSection<'_, [u8]>) -> Result<Option<DnsName>, Fault> {
        let mut target = None;
        self.each(section, |cname: rdata::Cname<ParsedName<_>>| target = Some(cname.cname().to_vec()))?;
        Ok(target)
    }

    /// Hands over the data of each record of the type of `D` that the owner has.
    fn each<'a, D: ParseRecordData<'a, [u8]>>(
        &mut self,
        section: RecordSection<'a, [u8]>,
        mut take: impl FnMut(D),
    ) -> Result<(), Fault> {
        for record in section.limit_to_in::<D>() {
            let record = record?;
            if *record.owner() == self.owner {
                self.ttl = self.ttl.min(duration(record.ttl()));
                take(record.into_data());
            }
        }
        Ok(())
    }

    /// The data, as on the wire, of each record of a type that the owner has.
    fn data(&mut self, section: RecordSection<'_, [u8]>, rtype: Rtype) -> Result<Vec<Vec<u8>>, Fault> {
        let mut found = Vec::new();
        for record in section {
            let record = record?;
            if record.rtype() == rtype && record.class() == Class::IN && record.owner() == self.owner {
                self.ttl = self.ttl.min(duration(record.ttl()));
                let record = record.to_record::<UnknownRecordData<&[u8]>>()?;
                found.extend(record.map(|record| record.data().data().to_vec()));
            }
        }
        Ok(found)
    }

    /// What an answer without records at the end of the chain says. Only with the zone's SOA may it be remembered
    /// (RFC 2308 §5); without it, a chain may merely be incomplete, and a list of name servers is a referral (§2.2). Who has
    /// nothing to say, does not know the zone itself and asks nobody else (neither AA nor RA) does not know either, so
    /// that no mail may bounce for it, or go to an address behind which the MX hosts are.
    fn negative(self, message: &Message<[u8]>, code: OptRcode, cnames: usize) -> Result<Answer, Fault> {
        let (mut zone_ttl, is_secure) = (None, message.header().ad());
        for soa in message.authority()?.limit_to_in::<rdata::Soa<ParsedName<_>>>() {
            let soa = soa?;
            if self.owner.ends_with(soa.owner()) {
                let ttl = duration(soa.ttl()).min(duration(soa.data().minimum()));
                zone_ttl = Some(ttl.min(self.ttl).min(NEGATIVE_TTL_MAX));
            }
        }
        let found = match zone_ttl {
            _ if code == OptRcode::NXDOMAIN => Found::NoSuchDomain,
            None if cnames > 0 => {
                return Ok(Answer { found: Found::Alias(self.owner), cnames, ttl: self.ttl, is_secure });
            }
            None if has_name_servers(message)? || !knows(message) => return Err(Fault::Referral),
            _ => Found::NoData,
        };
        Ok(Answer { found, cnames, ttl: zone_ttl.unwrap_or_default(), is_secure })
    }
}

/// The character-strings of a TXT record, one behind the other (RFC 1035 §3.3.14).
fn joined(mut data: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut joined = Vec::with_capacity(data.len());
    while let Some((&length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(length.into()).ok_or(Fault::Malformed)?;
        joined.extend_from_slice(string);
        data = rest;
    }
    Ok(joined)
}

/// The server has authority, or asks those who have.
fn knows(message: &Message<[u8]>) -> bool {
    message.header().aa() || message.header().ra()
}

fn has_name_servers(message: &Message<[u8]>) -> Result<bool, Fault> {
    for record in message.authority()? {
        let record = record?;
        if record.rtype() == Rtype::NS && record.class() == Class::IN {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A TTL with its top bit set is zero (RFC 2181 §8).
fn duration(ttl: Ttl) -> Duration {
    match ttl.as_secs() {
        secs if secs > i32::MAX.unsigned_abs() => Duration::ZERO,
        secs => Duration::from_secs(secs.into()),
    }
}

//! Parses one DNS answer: the records of the name along its CNAME chain, or a proven "no".
//!
//! A record counts only if its owner is the name that was asked for, or a CNAME leads there. Everything else is
//! ignored; otherwise any server could speak for any domain.
//!
//! | the answer | means |
//! | --- | --- |
//! | records of the type at the end of the chain | [`AnswerContent::Records`] |
//! | NXDOMAIN | [`AnswerContent::NoSuchDomain`]; with records it contradicts itself: [`ServerFault::Malformed`] |
//! | no records, and the SOA of the zone | [`AnswerContent::NoData`] |
//! | a CNAME whose target has no records here, no SOA | [`AnswerContent::Alias`]: ask again |
//! | no records, NS records or neither AA nor RA | [`ServerFault::Referral`]: this server does not resolve |
//! | another response code, TC, octets missing | [`ServerFault::Code`], [`ServerFault::Cut`] |
//!
//! RFC 1035 §4, RFC 1034 §3.6.2 (CNAME), RFC 2308 (negative answers), RFC 2181 §5 and §8. The parser has no I/O and
//! must not panic on any input. A [`ServerFault`] says nothing about the name; the caller may ask another server.

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

/// A name in wire format; comparison ignores case.
pub type DnsName = Name<Vec<u8>>;

/// The number of CNAMEs that are followed in one look-up. A longer chain counts as a loop.
pub const CNAMES_MAX: usize = 8;
/// The number of records that are kept of one answer.
pub const RECORDS_MAX: usize = 256;
/// The longest time for which an answer is remembered.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest time for which a negative answer is remembered. RFC 2308 §5 allows hours, but operators correct
/// mistakes in their zones sooner.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(15 * 60);

/// The data of a record that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsRecord {
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
pub enum AnswerContent {
    /// These records; never empty.
    Records(Vec<DnsRecord>),
    /// The name exists, but has no record of the type.
    NoData,
    /// The name at the end of the CNAME chain does not exist (NXDOMAIN): this one.
    NoSuchDomain(DnsName),
    /// The CNAME chain leads to this name, and the answer has no records of it: ask again with it.
    Alias(DnsName),
}

/// An answer that was understood.
#[derive(Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The content.
    pub found: AnswerContent,
    /// The number of CNAMEs in it. Above [`CNAMES_MAX`] the parser stopped.
    pub cnames: usize,
    /// How long it may be remembered: the smallest TTL of all records used. Zero: not at all.
    pub ttl: Duration,
    /// The server says that it has validated everything (the AD bit, RFC 4035 §3.2.3). Only as trustworthy as the
    /// server and the path to it.
    pub is_secure: bool,
}

/// Why a server did not help. No variant says anything about the name.
#[derive(Debug)]
pub enum ServerFault {
    /// No answer came in time.
    Silence,
    /// The system could not send or receive.
    Io(io::Error),
    /// A response code other than NOERROR and NXDOMAIN.
    Code(OptRcode),
    /// The answer is malformed or contradicts itself.
    Malformed,
    /// The answer is incomplete.
    Cut,
    /// The answer names other servers, or is empty and comes with neither authority nor recursion: a "lame" server,
    /// which does not resolve for us.
    Referral,
}

impl ServerFault {
    /// The fault in plain words; "for TYPE NAME" follows.
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

impl From<ParseError> for ServerFault {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::ShortInput => Self::Cut,
            ParseError::Form(_) => Self::Malformed,
        }
    }
}

/// Parses the answer to a question for `name` and `rtype` (A, AAAA, MX, TXT, TLSA, SRV or PTR). The caller has
/// checked that id and question section match.
///
/// # Errors
/// The [`ServerFault`]s other than `Silence` and `Io`.
pub fn parse_answer(message: &[u8], name: &DnsName, rtype: Rtype) -> Result<DnsAnswer, ServerFault> {
    let message = Message::from_slice(message).map_err(|_| ServerFault::Cut)?;
    let code = message.opt_rcode();
    if code != OptRcode::NOERROR && code != OptRcode::NXDOMAIN {
        return Err(ServerFault::Code(code));
    }
    if message.header().tc() {
        return Err(ServerFault::Cut);
    }
    let section = message.answer()?;
    let is_secure = message.header().ad();
    let mut chain = Chain { owner: name.clone(), ttl: TTL_MAX };
    for cnames in 0..=CNAMES_MAX {
        let records = chain.records(section, rtype)?;
        if !records.is_empty() {
            // A name that does not exist has no records. Nothing tells which half of the answer is true.
            return if code == OptRcode::NXDOMAIN {
                Err(ServerFault::Malformed)
            } else {
                Ok(DnsAnswer { found: AnswerContent::Records(records), cnames, ttl: chain.ttl, is_secure })
            };
        }
        let Some(target) = chain.alias(section)? else {
            return chain.negative(message, code, cnames);
        };
        chain.owner = target;
    }
    Ok(DnsAnswer {
        found: AnswerContent::Alias(chain.owner),
        cnames: CNAMES_MAX + 1,
        ttl: chain.ttl,
        is_secure,
    })
}

/// The CNAME chain that starts at the asked name.
struct Chain {
    /// The name at the end of the chain so far.
    owner: DnsName,
    /// The smallest TTL along it.
    ttl: Duration,
}

impl Chain {
    fn records(
        &mut self,
        section: RecordSection<'_, [u8]>,
        rtype: Rtype,
    ) -> Result<Vec<DnsRecord>, ServerFault> {
        let mut found = Vec::new();
        match rtype {
            Rtype::A => self.each(section, |a: rdata::A| found.push(DnsRecord::Address(a.addr().into())))?,
            Rtype::AAAA => {
                self.each(section, |a: rdata::Aaaa| found.push(DnsRecord::Address(a.addr().into())))?
            }
            Rtype::MX => self.each(section, |mx: rdata::Mx<ParsedName<_>>| {
                // Lower case: a compressed name may end in the question, whose case is random.
                let exchange = mx.exchange().to_canonical_name::<Vec<u8>>().to_string();
                found.push(DnsRecord::Mx(Mx { preference: mx.preference(), exchange }));
            })?,
            Rtype::PTR => self.each(section, |ptr: rdata::Ptr<ParsedName<_>>| {
                let name = ptr.ptrdname().to_canonical_name::<Vec<u8>>().to_string();
                found.push(DnsRecord::Data(name.into_bytes()));
            })?,
            Rtype::TXT | Rtype::TLSA | Rtype::SRV => {
                for data in self.data(section, rtype)? {
                    let data = if rtype == Rtype::TXT { joined(&data)? } else { data };
                    found.push(DnsRecord::Data(data));
                }
            }
            _ => {}
        }
        found.truncate(RECORDS_MAX);
        Ok(found)
    }

    fn alias(&mut self, section: RecordSection<'_, [u8]>) -> Result<Option<DnsName>, ServerFault> {
        let mut target = None;
        self.each(section, |cname: rdata::Cname<ParsedName<_>>| target = Some(cname.cname().to_vec()))?;
        Ok(target)
    }

    /// Calls `take` with the data of each record of type `D` of the owner.
    fn each<'a, D: ParseRecordData<'a, [u8]>>(
        &mut self,
        section: RecordSection<'a, [u8]>,
        mut take: impl FnMut(D),
    ) -> Result<(), ServerFault> {
        for record in section.limit_to_in::<D>() {
            let record = record?;
            if *record.owner() == self.owner {
                self.ttl = self.ttl.min(duration(record.ttl()));
                take(record.into_data());
            }
        }
        Ok(())
    }

    /// The wire-format data of each record of the given type of the owner.
    fn data(&mut self, section: RecordSection<'_, [u8]>, rtype: Rtype) -> Result<Vec<Vec<u8>>, ServerFault> {
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

    /// The meaning of an answer without records at the end of the chain. Only with the zone's SOA may it be
    /// remembered (RFC 2308 §5). Without an SOA a chain may be incomplete, and a list of name servers is a referral
    /// (§2.2). A server that has neither authority nor recursion (AA, RA) does not know either: no mail may bounce
    /// because of it, or go to the address of a domain whose MX hosts it does not know.
    fn negative(
        self,
        message: &Message<[u8]>,
        code: OptRcode,
        cnames: usize,
    ) -> Result<DnsAnswer, ServerFault> {
        let (mut zone_ttl, is_secure) = (None, message.header().ad());
        for soa in message.authority()?.limit_to_in::<rdata::Soa<ParsedName<_>>>() {
            let soa = soa?;
            if self.owner.ends_with(soa.owner()) {
                let ttl = duration(soa.ttl()).min(duration(soa.data().minimum()));
                zone_ttl = Some(ttl.min(self.ttl).min(NEGATIVE_TTL_MAX));
            }
        }
        let found = match zone_ttl {
            _ if code == OptRcode::NXDOMAIN => AnswerContent::NoSuchDomain(self.owner),
            None if cnames > 0 => {
                return Ok(DnsAnswer {
                    found: AnswerContent::Alias(self.owner),
                    cnames,
                    ttl: self.ttl,
                    is_secure,
                });
            }
            None if has_name_servers(message)? || !knows(message) => return Err(ServerFault::Referral),
            _ => AnswerContent::NoData,
        };
        Ok(DnsAnswer { found, cnames, ttl: zone_ttl.unwrap_or_default(), is_secure })
    }
}

/// Joins the character-strings of a TXT record (RFC 1035 §3.3.14).
fn joined(mut data: &[u8]) -> Result<Vec<u8>, ServerFault> {
    let mut joined = Vec::with_capacity(data.len());
    while let Some((&length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(length.into()).ok_or(ServerFault::Malformed)?;
        joined.extend_from_slice(string);
        data = rest;
    }
    Ok(joined)
}

/// The server is authoritative, or asks servers that are.
fn knows(message: &Message<[u8]>) -> bool {
    message.header().aa() || message.header().ra()
}

fn has_name_servers(message: &Message<[u8]>) -> Result<bool, ServerFault> {
    for record in message.authority()? {
        let record = record?;
        if record.rtype() == Rtype::NS && record.class() == Class::IN {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A TTL with its top bit set counts as zero (RFC 2181 §8).
fn duration(ttl: Ttl) -> Duration {
    match ttl.as_secs() {
        secs if secs > i32::MAX.unsigned_abs() => Duration::ZERO,
        secs => Duration::from_secs(secs.into()),
    }
}

//! The answers of the DNS about the hosts that receive mail for a domain (RFC 5321 §5.1, RFC 7505).

/// One MX record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mx {
    /// The record with the lowest preference is tried first.
    pub preference: u16,
    /// The host's name: lower case, without a trailing dot; odd octets are escaped as in a zone file.
    pub exchange: String,
}

/// Which hosts receive mail for a domain. A domain that does not exist is an error and not an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxAnswer {
    /// Its MX records, in the order of the reply; never empty.
    Hosts(Vec<Mx>),
    /// The name exists and has no MX record: the domain itself is its only host, the "implicit MX" of RFC 5321 §5.1.
    Implicit,
    /// The null MX: the domain receives no mail (RFC 7505).
    Null,
}

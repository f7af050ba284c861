//! What the DNS says about who takes the mail of a domain (RFC 5321 §5.1, RFC 7505).

/// One MX record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mx {
    /// The lowest is tried first.
    pub preference: u16,
    /// The host's name: lower case, without a trailing dot; odd octets are escaped as in a zone file.
    pub exchange: String,
}

/// The answer to "who takes the mail of this domain?". That the domain does not exist is an error, not an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxAnswer {
    /// Its MX records, in the order of the answer; never empty.
    Hosts(Vec<Mx>),
    /// The name exists and has no MX record: the domain is its own only host, the "implicit MX" of RFC 5321 §5.1.
    Implicit,
    /// It says that it takes no mail (RFC 7505).
    Null,
}

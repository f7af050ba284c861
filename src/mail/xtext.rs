//! The values of ENVID and ORCPT, and their form xtext (RFC 3461 §4, §4.2, §4.4): one check for every way in, so that none
//! puts a command line together that a host refuses.

/// Longest ENVID in octets (RFC 3461 §5.4).
const ENVID_MAX_OCTETS: usize = 100;
/// Longest ORCPT in octets (RFC 3461 §5.4).
const ORCPT_MAX_OCTETS: usize = 500;

/// Whether a text may be the value of ENVID.
#[must_use]
pub fn is_envid(text: &str) -> bool {
    text.len() <= ENVID_MAX_OCTETS && is_xtext(text)
}

/// Whether a text may be the value of ORCPT: a type, a semicolon, and an address of this type.
#[must_use]
pub fn is_orcpt(text: &str) -> bool {
    let parts = text.split_once(';').filter(|_| text.len() <= ORCPT_MAX_OCTETS);
    parts.is_some_and(|(kind, address)| is_atom(kind) && !address.is_empty() && is_address(kind, address))
}

fn is_atom(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether an address fits its type: one of type `utf-8` may hold UTF-8 unchanged (RFC 6533 §3), but no `=`, which no value
/// of a parameter has (RFC 5321 §4.1.2); all others are xtext.
fn is_address(kind: &str, address: &str) -> bool {
    if kind.eq_ignore_ascii_case("utf-8") {
        address.chars().all(|c| c != '=' && !c.is_control() && !c.is_whitespace())
    } else {
        is_xtext(address)
    }
}

/// xtext (RFC 3461 §4): printable ASCII without `+` and `=`, and `+` with two upper-case hexadecimal digits.
#[must_use]
pub fn is_xtext(text: &str) -> bool {
    let mut octets = text.bytes();
    let is_digit = |b: Option<u8>| b.is_some_and(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    while let Some(octet) = octets.next() {
        let fits = match octet {
            b'+' => is_digit(octets.next()) && is_digit(octets.next()),
            b'=' => false,
            octet => octet.is_ascii_graphic(),
        };
        if !fits {
            return false;
        }
    }
    !text.is_empty()
}

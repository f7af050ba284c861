//! Values of fields, judged on their own: which are empty, which lists can be merged or must be written again, and which
//! names lack a domain.

use crate::mail::address::LocalPart;
use crate::mail::address_list::{self, ADDRESSES_MAX, AddressList, AddressSpan};
use crate::mail::display_name::DisplayName;
use crate::mail::header::split_field;
use memchr::memrchr;

/// Whether the list can be merged: every reader finds the same addresses in it.
pub(super) fn is_whole(list: &AddressList) -> bool {
    list.unreadable.is_empty() && !list.is_sloppy && list.addresses.len() <= ADDRESSES_MAX
}

/// A list that strict readers would misread, such as `a@x; b@y`, in the form of RFC 5322 §3.4. `None`: it is correct,
/// or cannot be read.
pub(super) fn tidied(field: &[u8]) -> Option<Vec<u8>> {
    let (_, value) = split_field(field)?;
    let list = address_list::read(value);
    // Without commas, bare words may be a name that lacks its address.
    let is_name = list.lacks_commas && list.addresses.iter().any(|span| span.domain.is_none());
    let is_clear = list.unreadable.is_empty() && list.addresses.len() <= ADDRESSES_MAX && !is_name;
    if !list.is_sloppy || !is_clear || list.addresses.is_empty() {
        return None;
    }
    let print = |span: &AddressSpan| {
        let address = span.read(value)?;
        let name = DisplayName::read(value.get(span.name.clone())?);
        Some(if name.is_empty() { address.to_string() } else { format!("{} <{address}>", name.print()) })
    };
    let addresses: Vec<String> = list.addresses.iter().map(print).collect::<Option<_>>()?;
    let name = field.get(..field.len() - value.len())?;
    Some([name, b" ", addresses.join(",\n ").as_bytes(), b"\n"].concat())
}

/// Whether a value is empty.
fn is_empty(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    value == b"<>" || value.iter().all(|&octet| octet == b',' || octet.is_ascii_whitespace())
}

/// Whether the value counts as missing: an empty one, and a Message-ID without `<…>`, which hosts refuse.
pub(super) fn is_void(name: &str, value: &[u8]) -> bool {
    is_empty(value) || name == "Message-ID" && ![b'<', b'>'].iter().all(|bracket| value.contains(bracket))
}

/// An author whose name has a comma without quotes, as in `Doe, Joe <joe@x>`: the name in quotes. Bare names of this host
/// are no second authors. `None`: the value is something else, or has an encoded word, which readers do not decode in quotes.
pub(super) fn named(field: &[u8]) -> Option<Vec<u8>> {
    let (_, value) = split_field(field)?;
    let list = address_list::read(value);
    let (author, others) = list.addresses.split_last()?;
    let name = value.get(..memrchr(b'<', value)?)?;
    let is_address = |octet: &u8| b"@:;<\"".contains(octet);
    let is_last = author.local_part.start > name.len() && value.trim_ascii_end().ends_with(b">");
    let is_named = !author.name.is_empty() && !name.windows(2).any(|octets| octets == b"=?");
    if others.is_empty() || author.domain.is_none() || !is_last || !is_named || name.iter().any(is_address) {
        return None;
    }
    let address = author.read(value)?;
    let new = format!(" {} <{address}>\n", DisplayName::read(name.trim_ascii()).print());
    Some([field.get(..field.len() - value.len())?, new.as_bytes()].concat())
}

/// Whether a domain completes this local part. An encoded word (RFC 2047) is a name, and unusual dots would need
/// quotes.
pub(super) fn is_bare(local_part: &[u8]) -> bool {
    let text = std::str::from_utf8(local_part).unwrap_or_default();
    let is_right = |local_part: LocalPart| text.starts_with('"') || local_part.to_string() == text;
    !text.starts_with("=?") && LocalPart::parse(text).is_ok_and(is_right)
}

//! Address lists in header fields and arguments (RFC 5322 §3.4): where each address stands within the octets of a
//! value.
//!
//! Parsed as Postfix parses them, so that a mistake in the list does not lose an addressee:
//!
//! - `,` and `;` end a part. A group stands for its members: the text in front of a colon is its name.
//! - In a part with `<…>` only the text in brackets counts; everything in front of it is a display name, whatever it
//!   holds. Elsewhere a missing comma between two addresses is assumed.
//! - Comments, folds and the obsolete forms (§4.4) are understood: blanks around dots and the `@`, quoted strings
//!   between dots, source routes. So are `mailto:`, and a bracket, quote or parenthesis that is never closed.
//! - Quotes, Unicode blanks and invisible characters around an address are not part of it.
//!
//! | value | addresses |
//! | --- | --- |
//! | `Alice <a@b.example>, c@d.example` | `a@b.example`, `c@d.example` |
//! | `friends: a@b.example, c@d.example;` | the members |
//! | `a@b.example c@d.example` | both; `lacks_commas` |
//! | `'a@b.example'`, `mailto:a@b.example` | `a@b.example`; `is_sloppy` |
//! | `Alice` | the bare name `Alice`, which the reader completes |
//! | `a@b@c` | none; `unreadable` |
//!
//! Text that cannot be parsed is reported, and never taken for a local name. Nothing is rewritten, and parsing never
//! fails.

use super::address::{Domain, LocalPart};
use super::encoded_word::text_of;
use super::text::is_invisible;
use super::unqualified::Unqualified;
use std::ops::Range;

/// A list is parsed up to this many addresses: each costs memory, and no person writes more.
pub const ADDRESSES_MAX: usize = 1000;

/// Quotes that people put around an address. The double quote has its own meaning and is handled there.
const QUOTES: [char; 11] = ['\'', '`', '´', '‘', '’', '‚', '“', '”', '„', '«', '»'];

/// The position of an address, without its display name and its brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSpan {
    /// The local-part, with its quotes, and with blanks and comments between its words.
    pub local_part: Range<usize>,
    /// The domain, without the `@`; `None` if the address has none.
    pub domain: Option<Range<usize>>,
    /// The display name as it is written, or else the inside of the last comment beside the address, where old
    /// programs put the name (RFC 5322 appendix A.5); empty if there is neither.
    pub name: Range<usize>,
}

impl AddressSpan {
    /// The address; `None` if an envelope cannot hold it. `value` is the value of the field.
    #[must_use]
    pub fn read(&self, value: &[u8]) -> Option<Unqualified> {
        let quoted = plain(value.get(self.local_part.clone())?)?.replace('\\', "\\\\").replace('"', "\\\"");
        let domain =
            self.domain.as_ref().map(|domain| Domain::parse(&plain(value.get(domain.clone())?)?).ok());
        // Quotes make any text a local-part, such as `a..b`, which occurs.
        let local_part = LocalPart::parse(&format!("\"{quoted}\"")).ok()?;
        if local_part.as_str().is_empty() {
            return None;
        }
        match domain {
            None => Some(Unqualified { local_part, domain: None }),
            Some(domain) => domain.map(|domain| Unqualified { local_part, domain: Some(domain) }),
        }
    }

    /// The range from its beginning to its end.
    #[must_use]
    pub fn whole(&self) -> Range<usize> {
        self.local_part.start..self.domain.as_ref().unwrap_or(&self.local_part).end
    }

    const fn has_domain(&self) -> bool {
        self.domain.is_some()
    }

    /// Removes quotes around the address, and text that cannot be part of a domain: a quote behind it, and
    /// `?subject=…`.
    fn trim(&mut self, value: &[u8]) {
        if let Some(domain) = &mut self.domain
            && let Some(octets) = value.get(domain.clone())
            && let Some(query) = octets.iter().position(|&octet| octet == b'?')
            && octets.iter().skip(query).any(|&octet| octet == b'=')
        {
            domain.end = domain.start + query;
        }
        let text = |range: &Range<usize>| std::str::from_utf8(value.get(range.clone())?).ok();
        let last = self.domain.as_ref().unwrap_or(&self.local_part);
        let quote = |c: char| QUOTES.contains(&c);
        let closing = text(last).and_then(|last| last.chars().next_back()).filter(|&c| quote(c));
        let opening = text(&self.local_part).and_then(|first| first.chars().next()).filter(|&c| quote(c));
        let length = self.local_part.len();
        if let (Some(opening), Some(closing)) = (opening, closing)
            && (self.has_domain() || length > opening.len_utf8() + closing.len_utf8())
            && length > opening.len_utf8()
        {
            self.local_part.start += opening.len_utf8();
        } else if !self.has_domain() {
            return;
        }
        let last = self.domain.as_mut().unwrap_or(&mut self.local_part);
        last.end -= closing.map_or(0, char::len_utf8);
    }
}

/// The result of parsing a value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    /// The addresses, in their order; the empty path `<>` is not among them.
    pub addresses: Vec<AddressSpan>,
    /// Text in place of an address that cannot be parsed.
    pub unreadable: Vec<Range<usize>>,
    /// A comma was missing and has been assumed.
    pub lacks_commas: bool,
    /// A strict parser finds other addresses, or fails: `;` in place of a comma, a group without an end, `mailto:`,
    /// quotes or invisible characters around an address.
    pub is_sloppy: bool,
    /// Where parsing stopped: behind more than [`ADDRESSES_MAX`] addresses, or at the end.
    pub end: usize,
}

/// Parses a list.
#[must_use]
pub fn read(value: &[u8]) -> AddressList {
    let mut scanner = AddressScanner::new(value);
    let mut list = AddressList::default();
    while scanner.at < value.len() && list.addresses.len() + list.unreadable.len() <= ADDRESSES_MAX {
        scanner.part(&mut list);
        list.is_sloppy |= !scanner.ends_well();
        // The separator.
        scanner.at += 1;
    }
    list.end = scanner.at.min(value.len());
    trim_list(value, &mut list.addresses);
    list.is_sloppy |= list.lacks_commas || has_oddities(value, &list.addresses);
    list
}

/// Whether text around an address would be part of it for a strict parser.
fn has_oddities(value: &[u8], addresses: &[AddressSpan]) -> bool {
    let is_quoted = |span: &AddressSpan| {
        let Range { start, end } = span.whole();
        let (before, behind) = (start.checked_sub(1).and_then(|at| value.get(at)), value.get(end));
        let is_ours = |octet: &u8| octet.is_ascii_whitespace() || b",;:<>()".contains(octet);
        !(before.is_none_or(is_ours) && behind.is_none_or(is_ours))
    };
    let is_unseen = |c: char| !c.is_ascii() && (c.is_whitespace() || is_invisible(c));
    addresses.iter().any(is_quoted)
        || text_of(value).contains(is_unseen)
        || value.windows(7).any(|word| word.eq_ignore_ascii_case(b"mailto:"))
}

/// Removes quotes around several addresses: the quote behind the last of them is already removed.
fn trim_list(value: &[u8], addresses: &mut [AddressSpan]) {
    let quote = |at: usize| {
        let text = value.get(at..)?;
        QUOTES.into_iter().find(|quote| text.starts_with(quote.encode_utf8(&mut [0; 4]).as_bytes()))
    };
    if let [first, .., last] = addresses
        && let Some(opening) = quote(first.local_part.start)
        && last.domain.as_ref().is_some_and(|domain| quote(domain.end).is_some())
        && first.local_part.len() > opening.len_utf8()
    {
        first.local_part.start += opening.len_utf8();
    }
}

/// The addresses of a value that can be parsed in only one way; `None` if a part cannot be parsed, a comma is
/// missing, or there are more than [`ADDRESSES_MAX`].
#[must_use]
pub fn spans(value: &[u8]) -> Option<Vec<AddressSpan>> {
    let list = read(value);
    let is_clear = list.unreadable.is_empty() && !list.lacks_commas && list.addresses.len() <= ADDRESSES_MAX;
    is_clear.then_some(list.addresses)
}

/// The text of a part since its last `<…>` or colon: a display name if a `<…>` or colon follows.
struct Phrase {
    /// How many addresses and unreadable pieces there were before it.
    addresses: usize,
    unreadable: usize,
    /// Its position; empty: it has no text yet.
    span: Range<usize>,
}

impl Phrase {
    const fn new(list: &AddressList) -> Self {
        Self { addresses: list.addresses.len(), unreadable: list.unreadable.len(), span: 0..0 }
    }

    fn add(&mut self, span: Range<usize>) {
        self.span = if self.span.is_empty() { span } else { self.span.start..span.end };
    }

    fn has_address(&self, list: &AddressList) -> bool {
        list.addresses.iter().skip(self.addresses).any(AddressSpan::has_domain)
    }

    fn is_too_long(&self, list: &AddressList) -> bool {
        list.addresses.len() - self.addresses + list.unreadable.len() - self.unreadable > ADDRESSES_MAX
    }

    /// It was a name: removes its words from the addresses.
    fn forget(&mut self, list: &mut AddressList) -> Range<usize> {
        list.addresses.truncate(self.addresses);
        list.unreadable.truncate(self.unreadable);
        std::mem::replace(&mut self.span, 0..0)
    }

    /// The part is over: its words were addresses, or a name whose address is missing.
    fn finish(self, value: &[u8], list: &mut AddressList) {
        let words = list.addresses.split_off(self.addresses);
        let pieces = list.unreadable.split_off(self.unreadable);
        let text = |range: &Range<usize>| value.get(range.clone()).unwrap_or_default();
        // A piece that was not meant as an address is a word of a name, and so may the words beside it be.
        let is_name = pieces.iter().any(|piece| !text(piece).contains(&b'@'));
        list.unreadable.extend(if is_name { vec![self.span] } else { pieces });
        list.lacks_commas |= words.len() > 1;
        let is_alone = words.len() == 1;
        let is_address = |word: &AddressSpan| {
            let text = text(&word.local_part);
            let is_part_of_name = !is_alone && (text.contains(&b' ') || text.starts_with(b"=?"));
            word.has_domain() || !(is_name || is_part_of_name || is_quotes(text))
        };
        list.addresses.extend(words.into_iter().filter(is_address));
    }
}

fn is_quotes(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.chars().all(|c| QUOTES.contains(&c)))
}

/// A position within a value, with what was learnt on the way.
struct AddressScanner<'a> {
    value: &'a [u8],
    at: usize,
    /// The inside of the last comment of the part.
    comment: Range<usize>,
    /// Those of `(`, `"` and `[` that are never closed. Later ones are text too: their end is not searched again.
    unclosed: Vec<u8>,
    is_in_group: bool,
}

impl<'a> AddressScanner<'a> {
    const fn new(value: &'a [u8]) -> Self {
        Self { value, at: 0, comment: 0..0, unclosed: Vec::new(), is_in_group: false }
    }

    fn peek(&self) -> Option<u8> {
        self.value.get(self.at).copied()
    }

    /// Skips `octet` if it stands at the current position.
    fn take(&mut self, octet: u8) -> bool {
        let is_here = self.peek() == Some(octet);
        self.at += usize::from(is_here);
        is_here
    }

    /// Parses up to the next separator, or to the end of the value.
    fn part(&mut self, list: &mut AddressList) {
        self.comment = 0..0;
        let first = list.addresses.len();
        let mut phrase = Phrase::new(list);
        loop {
            self.skip_comments();
            self.name_by_comment(list.addresses.get_mut(first..).unwrap_or_default());
            match self.peek() {
                None | Some(b',' | b';') => break,
                Some(b'>') => self.at += 1,
                // The name of a group holds no address: this is `user@host:port` or similar text.
                Some(b':') if phrase.has_address(list) => self.give_up(&mut phrase, list),
                Some(b':') => {
                    phrase.forget(list);
                    self.is_in_group = true;
                    self.at += 1;
                }
                Some(b'<') => {
                    let name = phrase.forget(list);
                    match self.path() {
                        Ok(address) => list.addresses.extend(address.map(|it| AddressSpan { name, ..it })),
                        Err(piece) => list.unreadable.push(piece),
                    }
                    phrase = Phrase::new(list);
                }
                Some(_) => {
                    let start = self.at;
                    match self.address() {
                        Ok(address) => self.add(address, list),
                        Err(piece) => list.unreadable.push(piece),
                    }
                    phrase.add(start..self.at);
                    if phrase.is_too_long(list) {
                        self.give_up(&mut phrase, list);
                    }
                }
            }
        }
        phrase.finish(self.value, list);
        list.lacks_commas |= list.addresses.len() > first + 1;
    }

    /// Whether the part ends as RFC 5322 requires: `;` only behind a group, and a comma after it.
    fn ends_well(&mut self) -> bool {
        match self.peek() {
            None => !self.is_in_group,
            Some(b';') => {
                let rest = self.value.get(self.at + 1..).unwrap_or_default().trim_ascii_start();
                std::mem::take(&mut self.is_in_group) && matches!(rest.first(), None | Some(b',' | b'('))
            }
            Some(_) => true,
        }
    }

    /// Adds an address, or the addresses in a quoted string, where somebody put the whole list in quotes.
    fn add(&self, address: AddressSpan, list: &mut AddressList) {
        let AddressSpan { local_part, domain: None, .. } = &address else {
            return list.addresses.push(address);
        };
        let text = self.value.get(local_part.clone()).unwrap_or_default();
        let inside = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default();
        if inside.contains(&b'@') && !inside.contains(&b'"') && !inside.contains(&b'\\') {
            let inner = read(inside);
            let is_clear = inner.unreadable.is_empty() && inner.end == inside.len();
            if is_clear && !inner.addresses.is_empty() && inner.addresses.iter().all(AddressSpan::has_domain)
            {
                let by = local_part.start + 1;
                let moved = |range: Range<usize>| range.start + by..range.end + by;
                return list.addresses.extend(inner.addresses.into_iter().map(|it| AddressSpan {
                    local_part: moved(it.local_part),
                    domain: it.domain.map(moved),
                    name: moved(it.name),
                }));
            }
        }
        list.addresses.push(address);
    }

    /// Names the last address of the part by the last comment, if it has no name.
    fn name_by_comment(&mut self, addresses: &mut [AddressSpan]) {
        if let Some(last) = addresses.last_mut() {
            let comment = std::mem::replace(&mut self.comment, 0..0);
            if last.name.is_empty() {
                last.name = comment;
            }
        }
    }

    /// Marks the phrase and the rest of the part as unreadable.
    fn give_up(&mut self, phrase: &mut Phrase, list: &mut AddressList) {
        let start = phrase.forget(list).start;
        while self.peek().is_some_and(|octet| !matches!(octet, b',' | b';')) {
            self.at += 1;
        }
        list.unreadable.push(start..self.at);
        *phrase = Phrase::new(list);
    }

    /// Skips blanks, folds, comments, which nest (RFC 5322 §3.2.2), and invisible characters.
    fn skip_comments(&mut self) {
        loop {
            let invisible = self.invisible();
            if invisible > 0 {
                self.at += invisible;
            } else if self.peek() != Some(b'(') || !self.skip_comment() {
                return;
            }
        }
    }

    /// The length of the blank or invisible character at the current position; 0 for any other character.
    fn invisible(&self) -> usize {
        match self.char() {
            Some(c) if c.is_whitespace() || is_invisible(c) => c.len_utf8(),
            Some(_) => 0,
            // U+00A0 in Latin-1.
            None => usize::from(self.peek() == Some(b'\xa0')),
        }
    }

    /// The character at the current position; `None` if it is not valid UTF-8.
    fn char(&self) -> Option<char> {
        let text = |length| std::str::from_utf8(self.value.get(self.at..self.at + length)?).ok();
        (1..=4).find_map(text)?.chars().next()
    }

    /// Skips a comment. False: the comment never ends, so it is text.
    fn skip_comment(&mut self) -> bool {
        let (start, mut depth) = (self.at, 0usize);
        while let Some(octet) = self.peek().filter(|_| !self.unclosed.contains(&b'(')) {
            self.at += 1;
            match octet {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => self.at += 1,
                _ => {}
            }
            if depth == 0 {
                self.comment = start + 1..self.at - 1;
                return true;
            }
        }
        self.at = start;
        self.unclosed.push(b'(');
        false
    }

    /// The range from this octet to its closing one; `None` if it is never closed.
    fn enclosed(&mut self, from: u8, to: u8) -> Option<Range<usize>> {
        let start = self.at;
        if self.unclosed.contains(&from) || !self.take(from) {
            return None;
        }
        while let Some(octet) = self.peek() {
            self.at += if octet == b'\\' { 2 } else { 1 };
            if octet == to {
                return Some(start..self.at);
            }
        }
        self.at = start;
        self.unclosed.push(from);
        None
    }

    /// An atom with its dots, or a quoted string.
    fn word(&mut self) -> Option<Range<usize>> {
        if self.peek() == Some(b'"') {
            return self.enclosed(b'"', b'"');
        }
        let (start, mut end) = (self.at, self.at);
        while let Some(octet) = self.peek() {
            // A name of Windows, `DOMAIN\user`, is not a quoted pair.
            let is_pair = |next: &u8| *next == b' ' || next.is_ascii_punctuation();
            if octet == b'\\' && self.value.get(self.at + 1).is_some_and(is_pair) {
                self.at += 2;
            } else if octet.is_ascii() {
                if !is_word_octet(octet) {
                    break;
                }
                self.at += 1;
            } else {
                match self.char() {
                    Some(c) if c.is_whitespace() => break,
                    None if octet == b'\xa0' => break,
                    Some(c) if is_invisible(c) => {
                        // Part of the word if the word continues.
                        self.at += c.len_utf8();
                        continue;
                    }
                    c => self.at += c.map_or(1, char::len_utf8),
                }
            }
            end = self.at;
        }
        (end > start).then_some(start..end)
    }

    /// Words with dots between them, and blanks and comments around the dots (RFC 5322 §4.4).
    fn dotted(&mut self, is_domain: bool) -> Option<Range<usize>> {
        let mut all = self.word()?;
        loop {
            let (end, comment) = (self.at, self.comment.clone());
            self.skip_comments();
            let is_dot = |at: usize| self.value.get(at) == Some(&b'.');
            let joins = is_dot(self.at) || is_dot(all.end - 1);
            let next = if joins { self.word() } else { None };
            // `a@b. c@d`: the local-part after a domain does not belong to it.
            let is_next = is_domain && {
                self.skip_comments();
                self.peek() == Some(b'@')
            };
            match next.filter(|_| !is_next) {
                Some(next) => {
                    all.end = next.end;
                    self.at = next.end;
                }
                None => {
                    (self.at, self.comment) = (end, comment);
                    return Some(all);
                }
            }
        }
    }

    /// A domain or an address literal.
    fn domain(&mut self) -> Option<Range<usize>> {
        match self.peek() {
            Some(b'[') => self.enclosed(b'[', b']'),
            Some(b'"') => None,
            _ => self.dotted(true),
        }
    }

    /// The address at the current position; `Err`: the range of other text.
    fn address(&mut self) -> Result<AddressSpan, Range<usize>> {
        let start = self.at;
        if let Some(local_part) = self.dotted(false) {
            let (end, comment) = (self.at, self.comment.clone());
            self.skip_comments();
            let mut domain = None;
            if self.take(b'@') {
                self.skip_comments();
                domain = self.domain();
            } else {
                (self.at, self.comment) = (end, comment);
            }
            let is_whole = domain.is_some() || self.at == end;
            let is_at_end = self.invisible() > 0 || self.peek().is_none_or(|next| b",;:<>(".contains(&next));
            if is_whole && is_at_end {
                let mut address = AddressSpan { local_part, domain, name: 0..0 };
                address.trim(self.value);
                return Ok(address);
            }
        }
        // Text that was examined is not examined again.
        self.at = self.at.max(start + 1);
        while self.invisible() == 0 && self.peek().is_some_and(|next| !b",;<>".contains(&next)) {
            self.at += self.char().map_or(1, char::len_utf8);
        }
        Err(start..self.at)
    }

    /// The content of angle brackets: `Ok(None)` for `<>`, `Err` for text that cannot be parsed.
    fn path(&mut self) -> Result<Option<AddressSpan>, Range<usize>> {
        let start = self.at;
        while self.take(b'<') {
            self.skip_comments();
        }
        self.skip_route();
        let address = if self.peek() == Some(b'>') { Ok(None) } else { self.address().map(Some) };
        self.skip_comments();
        match self.peek() {
            None | Some(b',' | b';' | b'>') if address.is_ok() => {
                while self.take(b'>') {}
                return address;
            }
            _ => {}
        }
        while self.peek().is_some_and(|octet| !b",;>".contains(&octet)) {
            self.at += 1;
        }
        self.take(b'>');
        Err(start..self.at)
    }

    /// Skips a source route (RFC 5322 §4.4), `@a,@b:`, or `mailto:`.
    fn skip_route(&mut self) {
        let start = self.at;
        let is_route = match self.word() {
            Some(word) => self.value.get(word).is_some_and(|word| word.eq_ignore_ascii_case(b"mailto")),
            None => self.hops(),
        };
        if !(is_route && self.take(b':')) {
            self.at = start;
        }
        self.skip_comments();
    }

    /// Skips the hosts of a source route; false if there are none.
    fn hops(&mut self) -> bool {
        let start = self.at;
        loop {
            self.skip_comments();
            if self.take(b'@') {
                self.skip_comments();
                if self.domain().is_none() {
                    return false;
                }
            } else if self.at == start || !self.take(b',') {
                return self.at > start;
            }
        }
    }
}

/// `atext` of RFC 5322 §3.2.3 with the dot.
fn is_word_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&octet)
}

/// The text of words, without the blanks and comments between them, and without quotes. `None` if it is not UTF-8.
fn plain(words: &[u8]) -> Option<String> {
    let mut scanner = AddressScanner::new(words);
    let (mut text, mut is_quoted) = (Vec::new(), false);
    loop {
        if !is_quoted {
            scanner.skip_comments();
        }
        let Some(octet) = scanner.peek() else { break };
        scanner.at += 1;
        match octet {
            b'"' => is_quoted = !is_quoted,
            b'\\' => {
                text.extend(scanner.peek());
                scanner.at += 1;
            }
            b'\n' => {}
            octet => text.push(octet),
        }
    }
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    /// The addresses, separated by blanks; one without a domain ends with `@`.
    fn read(value: &str) -> Option<String> {
        let text = |range: Range<usize>| value.get(range).unwrap();
        let spans = spans(value.as_bytes())?;
        let one = |span: AddressSpan| {
            format!("{}@{}", text(span.local_part), span.domain.map(text).unwrap_or_default())
        };
        Some(spans.into_iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn addresses_are_found_where_they_stand() {
        for (value, expected) in [
            ("", ""),
            (" \n ", ""),
            ("root", "root@"),
            (" root", "root@"),
            ("a@b.example", "a@b.example"),
            ("root, a@b.example,\n\tjoe", "root@ a@b.example joe@"),
            (",, a ,,b,", "a@ b@"),
            ("root (Cron Daemon)", "root@"),
            ("(a (b) \\) <c>) root(d, e)", "root@"),
            ("Cron Daemon <root>", "root@"),
            ("\"Daemon, Cron\" <root>, b", "root@ b@"),
            ("\"a\\\" <x>\" < (c) root (d) >", "root@"),
            ("=?utf-8?Q?J=C3=BCrgen?= <j>", "j@"),
            ("Jürgen Müller <jm>", "jm@"),
            ("John Q. Public <jqp@b.example>", "jqp@b.example"),
            ("<@r.example,@s.example:u@b.example>", "u@b.example"),
            ("<@r.example:u>", "u@"),
            ("<>", ""),
            ("Nobody <>", ""),
            ("\"a b\"@c, \"d\"", "\"a b\"@c \"d\"@"),
            ("a@[192.0.2.1], <b@[IPv6:::1]>", "a@[192.0.2.1] b@[IPv6:::1]"),
            ("a @ (x) b.example (y)", "a@b.example"),
            ("undisclosed-recipients:;", ""),
            ("friends: root, a@b.example; , joe", "root@ a@b.example joe@"),
            ("The \"old\" friends (x): A <a>;", "a@"),
            ("a!b%c", "a!b%c@"),
        ] {
            assert_eq!(read(value).as_deref(), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn names_are_found_where_they_stand() {
        for (value, expected) in [
            ("root", [""].as_slice()),
            (" root@a (Cron Daemon)", &["Cron Daemon"]),
            ("\"(Cron Daemon)\" <root>", &["\"(Cron Daemon)\""]),
            ("Cron\n (x) Daemon (y) <root> (z)", &["Cron\n (x) Daemon"]),
            ("=?utf-8?Q?J?= \"A, B\" C<j>", &["=?utf-8?Q?J?= \"A, B\" C"]),
            ("(a) <b> (c (d)\\))", &["c (d)\\)"]),
            ("a (b) (c)", &["c"]),
            ("(x) a, b (y), <c>, d (z) , <>(v)", &["x", "y", "", "z"]),
            ("team: a (b), c; (d), E <f>", &["b", "", "E"]),
        ] {
            let spans = spans(value.as_bytes()).unwrap();
            let names: Vec<_> = spans.iter().map(|span| value.get(span.name.clone()).unwrap()).collect();
            assert_eq!(names, expected, "{value:?}");
        }
    }

    /// What is found; where a comma had to be understood a `+` follows, and then what can't be read in `{}`.
    fn found(value: &str) -> String {
        let list = super::read(value.as_bytes());
        let address =
            |span: &AddressSpan| span.read(value.as_bytes()).map_or("?".into(), |it| it.to_string());
        let mut words: Vec<String> = list.addresses.iter().map(address).collect();
        words.extend(list.lacks_commas.then(|| "+".to_owned()));
        words
            .extend(list.unreadable.iter().map(|range| format!("{{{}}}", value.get(range.clone()).unwrap())));
        words.join(" ")
    }

    #[test]
    fn what_others_write_is_read() {
        for (value, expected) in [
            // A comma is missing, or is another sign.
            ("a@x b@y", "a@x b@y +"),
            ("root boss@far.example", "root boss@far.example +"),
            ("a@x(j) b@y(k)", "a@x b@y +"),
            ("<a@x> <b@y>", "a@x b@y +"),
            ("A B <a@x> C D <b@y>", "a@x b@y +"),
            ("<a@x> b@y", "a@x b@y +"),
            ("a@x.example. b@y", "a@x.example b@y +"),
            ("a@x; b@y", "a@x b@y"),
            ("a@x;b@y;", "a@x b@y"),
            // Groups.
            ("A: a, b; B: c;", "a b c"),
            ("A: a, b;\n\tB: c;, d", "a b c d"),
            ("A: a@x; b@y", "a@x b@y"),
            ("A: a@x, b@y", "a@x b@y"),
            ("A [B]: <a@x>; C.D: E <b@y>;", "a@x b@y"),
            ("g:a@b.c d@e.f;", "a@b.c d@e.f +"),
            ("a: b: c;", "c"),
            ("undisclosed-recipients:", ""),
            ("undisclosed-recipients: ;, a@x", "a@x"),
            // Only what stands in brackets counts.
            ("Team [Ops] <ops@x>", "ops@x"),
            ("root@nas <root@far.example>", "root@far.example"),
            ("a@x b@y <c@z>", "c@z"),
            ("[NAS] Mr. \\\"T\\\" O'Neil (x <c@z>", "c@z"),
            ("\"never closed <c@z>", "c@z"),
            ("Ops (night <c@z>, d@z", "c@z d@z"),
            ("Joe <c@z, d@z", "c@z d@z"),
            ("Joe <<c@z>>", "c@z"),
            ("<c@z,d@z>", "c@z d@z"),
            ("x<y@a.b>", "y@a.b"),
            ("\"John Doe\" jd@x", "jd@x +"),
            ("=?utf-8?Q?J?= jd@x", "jd@x +"),
            // RFC 5322 §4.4 and appendix A.
            ("jdoe@test   . example", "jdoe@test.example"),
            (
                "Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
                "mary@example.net jdoe@test.example",
            ),
            ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "pete@silly.test"),
            (
                "A Group(Some people)\n     :Chris Jones <c@(Chris's host.)public.example>,\n joe@example.org,\n John <jdoe@one.test> (my dear friend); (the end of the group)",
                "c@public.example joe@example.org jdoe@one.test",
            ),
            ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", ""),
            ("Joe Q. Public <john.q.public@example.com>", "john.q.public@example.com"),
            ("\"Giant; \\\"Big\\\" Box\" <sysservices@example.net>", "sysservices@example.net"),
            ("a . \"b c\" (x) . d @ e\n . f", "\"a.b c.d\"@e.f"),
            ("a.\"b\".c@d.e", "a.b.c@d.e"),
            ("\"s\\\"a\"@d.e", "\"s\\\"a\"@d.e"),
            ("f<@g.h@i.j,@k:a@b.c>", "a@b.c"),
            ("wietse\\ venema@x", "\"wietse venema\"@x"),
            ("a@[192.0.2.1] b@[ 192.0.2.2 ]", "a@[192.0.2.1] b@[192.0.2.2] +"),
            ("a..b@c, .d@e, f.@g", "\"a..b\"@c \".d\"@e \"f.\"@g"),
            // What surrounds an address.
            ("mailto:a@x", "a@x"),
            ("<mailto:a@x?subject=b>, MailTo:c@y?cc=d", "a@x c@y"),
            ("'a@x'", "a@x"),
            ("'a@x', 'b@y'", "a@x b@y"),
            ("'a@x, b@y'", "a@x b@y"),
            ("\"a@x\", “b@y”, `c@z'", "a@x b@y c@z"),
            ("\"a@x, b@y\"", "a@x b@y +"),
            ("\"(@)\"", "\"(@)\""),
            ("'<a@x>' 'root'", "a@x root +"),
            ("o'neil@x, o'neil", "o'neil@x o'neil"),
            ("\u{a0}a@x\u{200b}, \u{feff}root\u{a0},\u{200e}<b@y\u{202c}>\u{3000}", "a@x root b@y"),
            ("a\u{200b}@\u{200b}x", "a@x"),
            ("Joe\u{a0}Doe\u{a0}<a@x>", "a@x"),
            ("\u{202e}", ""),
        ] {
            assert_eq!(found(value), expected, "{value:?}");
        }
        assert_eq!(super::read(b"\xa0root\xa0").addresses.first().unwrap().local_part, 1..5);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_is_nobody_here() {
        for (value, expected) in [
            ("a@", "{a@}"),
            ("@b", "{@b}"),
            ("a@b@c", "{a@b@c}"),
            ("a@b c@", "a@b {c@}"),
            ("root, x@, boss@far.example", "root boss@far.example {x@}"),
            ("Team [Ops", "{Team [Ops}"),
            ("Team [Ops] ops@x", "ops@x + {Team [Ops] ops@x}"),
            ("<a b>, c", "c {<a b>}"),
            ("<John Doe>, <a@>, <@r>, <[x]>", " {<John Doe>} {<a@>} {<@r>} {<[x]>}"),
            ("DOMAIN\\user@x", "{DOMAIN\\user@x}"),
            ("a@x:25, b", "b {a@x:25}"),
            ("x @ , b", "b {x @ }"),
            ("joe@ex)ample.com", "{joe@ex)ample.com}"),
            ("\"John", "{\"John}"),
            ("John\" Doe", "{John\" Doe}"),
            ("a\0b, c", "c {a\0b}"),
            ("[a]", "{[a]}"),
        ] {
            assert_eq!(found(value).trim(), expected.trim(), "{value:?}");
            assert_eq!(read(value), None, "{value:?}");
        }
        for value in ["a@-", "a@\"b\"", "\"\"@x", "a@x..y"] {
            assert!(found(value).contains(['?', '{']), "{value:?}: {}", found(value));
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_left_alone() {
        for value in ["John Doe", "a b@c", "a@b c", "<a> b", "a\rb"] {
            assert_eq!(read(value), None, "{value:?}");
        }
        assert!(spans("a,".repeat(ADDRESSES_MAX).as_bytes()).is_some());
        assert_eq!(spans("a,".repeat(ADDRESSES_MAX + 1).as_bytes()), None);
    }

    /// What is too much for one call is there for the next; and none costs more time than its length.
    #[test]
    fn long_lists_are_read_in_pieces() {
        let value = "a@x,".repeat(ADDRESSES_MAX * 3);
        let (mut rest, mut addresses) = (value.as_bytes(), 0);
        while !rest.is_empty() {
            let list = super::read(rest);
            addresses += list.addresses.len();
            rest = &rest[list.end..];
        }
        assert_eq!(addresses, ADDRESSES_MAX * 3);
        for unit in [
            "(", "\"", "[", "<", "a ", "] ", ".", "a. ", "(a", "\"a", "@", ":", ">", "\\", "\u{200b}",
            "a@b. ",
        ] {
            let list = super::read(unit.repeat(50_000).as_bytes());
            assert!(list.addresses.len() + list.unreadable.len() <= ADDRESSES_MAX + 1, "{unit}");
        }
    }

    fn address() -> impl Strategy<Value = String> {
        // With an @ in quotes it would be an address in quotes.
        let local = "[a-z]{1,4}(\\.[a-z0-9+_-]{1,4})?|\"[a-z ,<>:;]{1,5}\"";
        let name = "([A-Z][a-z]{0,4} ){1,2}|\"[a-z ,<>@:;()]{1,5}\" |=\\?utf-8\\?Q\\?[a-z]{1,4}\\?= ";
        let comment = "( \\([a-z ,<>@:;]{0,5}\\))?";
        prop_oneof![
            (local, "(@[a-z]{1,4}\\.example)?", comment).prop_map(|(l, d, c)| format!("{l}{d}{c}")),
            (name, local, "(@[a-z]{1,4}\\.example)?").prop_map(|(n, l, d)| format!("{n}<{l}{d}>")),
        ]
    }

    proptest! {
        /// Another parser finds the same addresses in what is well-formed.
        #[test]
        fn the_addresses_are_those_that_others_find(list in proptest::collection::vec(address(), 1..5)) {
            let value = list.join(",\n ");
            let own = spans(value.as_bytes()).unwrap();
            prop_assert_eq!(own.len(), list.len(), "{}", value);
            let message = format!("To: {value}\n\n");
            let parsed = MessageParser::default().parse(message.as_bytes()).unwrap();
            let theirs: Vec<&str> =
                parsed.to().unwrap().iter().map(|a| a.address.as_deref().or(a.name.as_deref()).unwrap()).collect();
            // It drops quotes, and what stands in a quoted local part confuses it.
            if !own.iter().any(|span| value.as_bytes()[span.local_part.start] == b'"') {
                let own: Vec<&str> = own
                    .into_iter()
                    .map(|span| match span.domain {
                        Some(domain) => value.get(span.local_part.start..domain.end).unwrap(),
                        None => value.get(span.local_part).unwrap(),
                    })
                    .collect();
                prop_assert_eq!(theirs, own, "{}", value);
            }
        }

        #[test]
        fn spans_are_in_order_and_within_the_value(value in "[a\"\\\\(),;:<>@ \n.é\\[\\]]{0,40}") {
            let mut end = 0;
            for span in spans(value.as_bytes()).unwrap_or_default() {
                prop_assert!(end <= span.local_part.start && span.local_part.start < span.local_part.end);
                end = span.local_part.end;
                if let Some(domain) = span.domain {
                    prop_assert!(end < domain.start && domain.start < domain.end);
                    end = domain.end;
                }
                prop_assert!(end <= value.len());
            }
        }
    }
}

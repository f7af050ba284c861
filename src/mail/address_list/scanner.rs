//! The walk through the octets of an address list: words, comments, brackets, and the parts between separators.
//!
//! ```text
//! list    = part *( ( "," / ";" ) part )
//! part    = *( [ name ] "<" path ">" / address / name ":" )
//! address = dotted [ "@" ( dotted / literal ) ]
//! dotted  = word *( "." word )               blanks and comments may stand around the dots
//! word    = atom / quoted-string
//! ```
//!
//! Each octet is looked at a bounded number of times: a bracket, quote or parenthesis that is never closed is remembered, so
//! that its end is not searched again, and a piece that cannot be parsed is skipped as a whole.

use super::{ADDRESSES_MAX, AddressList, AddressSpan, QUOTES, read};
use crate::mail::text::is_invisible;
use std::ops::Range;

/// A position within a value, with what was learnt on the way.
pub(super) struct AddressScanner<'a> {
    value: &'a [u8],
    pub at: usize,
    /// The inside of the last comment of the part.
    comment: Range<usize>,
    /// Those of `(`, `"` and `[` that are never closed. Later ones are text too: their end is not searched again.
    unclosed: Vec<u8>,
    is_in_group: bool,
}

impl<'a> AddressScanner<'a> {
    pub const fn new(value: &'a [u8]) -> Self {
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
    pub fn part(&mut self, list: &mut AddressList) {
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
    pub fn ends_well(&mut self) -> bool {
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

    /// Skips the hosts of a source route; false if there is no host.
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
pub(super) fn plain(words: &[u8]) -> Option<String> {
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

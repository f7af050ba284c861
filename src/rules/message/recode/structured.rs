//! The tokens of structured fields: words, phrases, comments, angle brackets (RFC 5322 §3.2, §3.4) and parameters
//! (RFC 2045 §5.1), as far as encoding needs them. The scanner does not validate: a malformed address list is words
//! between commas.

use super::fields::{Needs, Token, words};
use crate::mail::address::Domain;
use crate::mail::encoded_word::text_of;

/// The longest piece of a parameter's value in encoded form, in octets (RFC 2231 §3).
const PIECE_OCTETS: usize = 50;
/// The longest name of a parameter, and the longest value of a section, that are written in extended form: that can
/// be six times as long, and a line has 998 octets.
const NAME_MAX_OCTETS: usize = 100;
const SECTION_MAX_OCTETS: usize = 100;

/// The tokens of a value. `None`: a quote, a comment or a bracket is not closed.
pub fn tokens(value: &[u8], needs: Needs) -> Option<Vec<Token>> {
    let mut scanner = TokenScanner { value, at: 0, needs, tokens: Vec::new(), words: Vec::new(), depth: 0 };
    while scanner.next()? {}
    (scanner.depth == 0).then_some(scanner.tokens)
}

struct TokenScanner<'a> {
    value: &'a [u8],
    at: usize,
    needs: Needs,
    tokens: Vec<Token>,
    /// The indexes of the words since the last comma or other separator: a phrase, or an address.
    words: Vec<usize>,
    /// The nesting depth of comments.
    depth: usize,
}

impl<'a> TokenScanner<'a> {
    /// Takes one token; false at the end. `None`: the token is not closed.
    fn next(&mut self) -> Option<bool> {
        let blank = self.take_while(|octet| matches!(octet, b' ' | b'\t'));
        let last = self.tokens.last().map(|token| token.text.as_slice());
        let (is_opened, is_divided) = (last == Some(b"("), last == Some(b":"));
        let start = self.at;
        let Some(&first) = self.value.get(self.at) else {
            self.end_words(false);
            if !blank.is_empty() {
                self.tokens.push(Token::glued(blank, b""));
            }
            return Some(false);
        };
        match first {
            b'(' => {
                self.depth += 1;
                self.at += 1;
                let token = Token::new(blank, b"(");
                self.tokens.push(Token { is_glued: is_opened, ..token });
            }
            b')' if self.depth > 0 => {
                self.depth -= 1;
                self.at += 1;
                self.tokens.push(Token::glued(blank, b")"));
            }
            _ if self.depth > 0 => {
                let text = self.comment_word();
                let encoded = self.needs.has(text).then(|| unescaped(text));
                self.tokens.push(Token { encoded, ..Token::glued(blank, text) });
            }
            b'<' => {
                let end = self.value.get(start..)?.iter().position(|&octet| octet == b'>')?;
                self.at += end + 1;
                self.end_words(true);
                let (text, encoded) = self.address(self.value.get(start..self.at)?);
                self.tokens.push(Token { encoded, ..Token::new(blank, &text) });
            }
            b',' | b';' | b':' => {
                self.end_words(first == b':');
                self.at += 1;
                self.tokens.push(Token::glued(blank, &[first]));
            }
            _ => {
                self.word()?;
                let text = self.value.get(start..self.at)?;
                self.words.push(self.tokens.len());
                self.tokens.push(Token { is_glued: is_divided, ..Token::new(blank, text) });
            }
        }
        Some(true)
    }

    fn take_while(&mut self, is_one: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.value.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&octet| !is_one(octet)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn comment_word(&mut self) -> &'a [u8] {
        let start = self.at;
        while let Some(octet) = self.value.get(self.at) {
            match octet {
                b' ' | b'\t' | b'(' | b')' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at = self.at.min(self.value.len());
        self.value.get(start..self.at).unwrap_or_default()
    }

    /// Skips an atom with the quoted strings and literals in it. `None`: one of them is not closed.
    fn word(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(octet) = self.value.get(self.at) {
            match octet {
                b' ' | b'\t' | b'(' | b',' | b';' | b':' | b'<' if self.at > start => break,
                b'"' => self.quoted()?,
                b'[' => {
                    let rest = self.value.get(self.at..).unwrap_or_default();
                    let end = rest.iter().position(|octet| matches!(octet, b']' | b' ' | b'\t'));
                    self.at += end.unwrap_or(0).max(1);
                }
                _ => self.at += 1,
            }
        }
        Some(())
    }

    fn quoted(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let octet = self.value.get(self.at)?;
            self.at += if *octet == b'\\' { 2 } else { 1 };
            if *octet == b'"' {
                return Some(());
            }
        }
    }

    /// Ends the current words: an address if they contain an `@`, otherwise a phrase.
    fn end_words(&mut self, is_phrase: bool) {
        let words = std::mem::take(&mut self.words);
        let has_at = |&place: &usize| self.tokens.get(place).is_some_and(|token| token.text.contains(&b'@'));
        let is_phrase = is_phrase || !words.iter().any(has_at);
        for place in words {
            let Some(token) = self.tokens.get(place) else { continue };
            let text = token.text.clone();
            let (text, encoded) = match is_phrase {
                true if self.needs.has(&text) => (Vec::new(), Some(unquoted(&text))),
                true => (text, None),
                false => self.address(&text),
            };
            if let Some(token) = self.tokens.get_mut(place) {
                (token.text, token.encoded) = (text, encoded);
            }
        }
    }

    /// An address, its domain with A-labels (RFC 5890) if it must be ASCII. An address too long for a line becomes
    /// text, so that at least the message arrives.
    fn address(&self, text: &[u8]) -> (Vec<u8>, Option<String>) {
        let split = || {
            let at = text.iter().rposition(|&octet| octet == b'@')? + 1;
            let (before, domain) = text.split_at_checked(at)?;
            let name = domain.strip_suffix(b">").unwrap_or(domain);
            let ascii = Domain::parse(std::str::from_utf8(name).ok()?).ok()?.to_ascii()?;
            let end = domain.get(name.len()..)?;
            Some([before, ascii.as_bytes(), end].concat())
        };
        let is_needed = self.needs.beyond_ascii && !text.is_ascii();
        let text = is_needed.then(split).flatten().unwrap_or_else(|| text.to_vec());
        let needs = Needs { beyond_ascii: false, ..self.needs };
        let encoded = needs.has(&text).then(|| text_of(&text).into_owned());
        (text, encoded)
    }
}

/// The text of a word with quoted strings.
fn unquoted(word: &[u8]) -> String {
    let (mut octets, mut text, mut is_quoted) = (word.iter(), Vec::new(), false);
    while let Some(&octet) = octets.next() {
        match octet {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => text.extend(octets.next()),
            octet => text.push(octet),
        }
    }
    text_of(&text).into_owned()
}

/// The text of a word in a comment.
fn unescaped(word: &[u8]) -> String {
    let (mut octets, mut text) = (word.iter(), Vec::new());
    while let Some(&octet) = octets.next() {
        text.extend(if octet == b'\\' { octets.next().copied() } else { Some(octet) });
    }
    text_of(&text).into_owned()
}

/// The tokens of a value with parameters. Parameters that need it become extended ones (RFC 2231).
pub fn parameters(value: &[u8], needs: Needs) -> Vec<Token> {
    let mut out = Vec::new();
    for (i, piece) in pieces(value).into_iter().enumerate() {
        if i > 0 {
            out.push(Token::glued(b"", b";"));
        }
        let trimmed = piece.trim_ascii();
        let split = trimmed.iter().position(|&octet| octet == b'=').filter(|_| i > 0);
        let parts =
            split.and_then(|at| Some((trimmed.get(..at)?.trim_ascii(), trimmed.get(at + 1..)?.trim_ascii())));
        match parts.filter(|_| needs.has(trimmed)) {
            // The boundary lines between the parts contain it in octets, not in characters.
            Some((name, _)) if name.eq_ignore_ascii_case(b"boundary") => out.push(Token::new(b" ", trimmed)),
            Some((name, value)) if can_extend(name, value) => extend(name, &unquoted(value), &mut out),
            None if split.is_some() => out.push(Token::new(b" ", trimmed)),
            _ => {
                let ascii = ascii_type(piece).filter(|_| i == 0 && needs.beyond_ascii);
                let piece = ascii.as_deref().unwrap_or(piece);
                let mut list = tokens(piece, needs).unwrap_or_else(|| words(piece, needs));
                if let Some(first) = list.first_mut().filter(|_| i > 0) {
                    first.blank = b" ".to_vec();
                }
                out.append(&mut list);
            }
        }
    }
    out
}

/// The same with a media type in ASCII. It is no text: an encoded word in its place would hide what the parts are, and
/// must not stand there (RFC 2047 §5). `None`: there is no media type.
fn ascii_type(piece: &[u8]) -> Option<Vec<u8>> {
    let end =
        piece.iter().position(|octet| b"/=(".contains(octet)).filter(|&at| piece.get(at) == Some(&b'/'))?;
    let comment = piece.iter().skip(end).position(|&octet| octet == b'(').map_or(piece.len(), |at| end + at);
    let in_ascii = |(at, &octet): (usize, &u8)| if octet.is_ascii() || at >= comment { octet } else { b'_' };
    Some(piece.iter().enumerate().map(in_ascii).collect())
}

/// Splits a value at semicolons outside of quotes.
fn pieces(value: &[u8]) -> Vec<&[u8]> {
    let (mut pieces, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, &octet) in value.iter().enumerate() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => {
                pieces.push(value.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(value.get(start..).unwrap_or_default());
    pieces
}

/// Whether the text around a `=` can become an extended parameter: the name is a token (RFC 2045 §5.1), and a section
/// (RFC 2231 §3), which cannot be split again, fits on a line. Otherwise it is text.
fn can_extend(name: &[u8], value: &[u8]) -> bool {
    let is_token = |octet: &u8| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(octet);
    let is_section = name.strip_suffix(b"*").unwrap_or(name).contains(&b'*');
    (1..=NAME_MAX_OCTETS).contains(&name.len())
        && name.iter().all(is_token)
        && !(is_section && value.len() > SECTION_MAX_OCTETS)
}

/// Appends a parameter in extended form, in as many pieces as it needs.
fn extend(name: &[u8], text: &str, out: &mut Vec<Token>) {
    // An extended parameter may still contain forbidden octets, or be too long.
    let is_extended = name.contains(&b'*');
    let name = String::from_utf8_lossy(name.strip_suffix(b"*").unwrap_or(name)).into_owned();
    let is_piece = name.contains('*');
    let mut parts = vec![if is_extended { String::new() } else { "utf-8''".to_owned() }];
    for c in text.chars() {
        let is_plain = c.is_ascii_alphanumeric() || "-._~".contains(c) || is_extended && "%'".contains(c);
        let octets = c.encode_utf8(&mut [0; 4]).bytes().map(|octet| format!("%{octet:02X}")).collect();
        let written: String = if is_plain { c.into() } else { octets };
        match parts.last_mut() {
            Some(part) if part.len() + written.len() <= PIECE_OCTETS || is_piece => part.push_str(&written),
            _ => parts.push(written),
        }
    }
    let is_single = parts.len() == 1;
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 {
            out.push(Token::glued(b"", b";"));
        }
        let place = if is_single { String::new() } else { format!("*{i}") };
        out.push(Token::new(b" ", format!("{name}{place}*={part}").as_bytes()));
    }
}

//! Address lists as header fields hold them (RFC 5322 §3.4): where each address stands within the octets of a value.
//!
//! Folding, nested comments, quoted strings, display names, groups, source routes and UTF-8 are understood; of the
//! obsolete syntax only what is still met. Nothing is rewritten here, nothing is decoded, and nothing fails other than by
//! saying that the value is no such list.

use super::unqualified::Unqualified;
use std::ops::Range;

/// Lists with more addresses are not read: each costs memory, and no person writes so many.
pub const ADDRESSES_MAX: usize = 1000;

/// Where an address stands, without its display name and its brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSpan {
    /// The local part, with its quotes.
    pub local_part: Range<usize>,
    /// The domain, without the `@`; `None` if the address has none.
    pub domain: Option<Range<usize>>,
    /// The display name as it is written, or else the inside of the last comment beside the address, in which old programs
    /// put the name (RFC 5322 appendix A.5); empty if there is neither.
    pub name: Range<usize>,
}

impl AddressSpan {
    /// The address; `None` if it is none that the envelope could have. `value` is that of the field.
    #[must_use]
    pub fn read(&self, value: &[u8]) -> Option<Unqualified> {
        let text = |range: &Range<usize>| std::str::from_utf8(value.get(range.clone())?).ok();
        let local_part = text(&self.local_part)?;
        let domain = match &self.domain {
            Some(domain) => format!("@{}", text(domain)?),
            None => String::new(),
        };
        let as_is = Unqualified::parse(&format!("{local_part}{domain}"));
        // There are addresses such as `a..b@example.org`, which only quotes make right.
        as_is.or_else(|_| Unqualified::parse(&format!("\"{local_part}\"{domain}"))).ok()
    }
}

/// The addresses of a field's value, in their order; the empty path `<>` is none. `None` if the value is not an address
/// list as a whole, or has more than [`ADDRESSES_MAX`].
#[must_use]
pub fn spans(value: &[u8]) -> Option<Vec<AddressSpan>> {
    let mut scanner = Scanner { value, at: 0, comment: 0..0 };
    let (mut found, mut in_group) = (Vec::<AddressSpan>::new(), false);
    loop {
        scanner.comment = 0..0;
        let words = scanner.words()?;
        let known = found.len();
        match (scanner.peek(), words.as_slice()) {
            (Some(b':'), [_, ..]) if !in_group => {
                in_group = true;
                scanner.at += 1;
                continue;
            }
            (Some(b'<'), words) => {
                let name = words.first().zip(words.last()).map_or(0..0, |(from, to)| from.start..to.end);
                found.extend(scanner.path()?.map(|address| AddressSpan { name, ..address }));
            }
            (_, []) => {}
            (_, [word]) => found.push(scanner.address(word.clone())?),
            // A name and nothing more.
            _ => return None,
        }
        if found.len() > ADDRESSES_MAX {
            return None;
        }
        let mut end = scanner.next_special()?;
        if let Some(last) = found.get_mut(known).filter(|last| last.name.is_empty()) {
            last.name = scanner.comment.clone();
        }
        if end == Some(b';') && in_group {
            in_group = false;
            end = scanner.next_special()?;
        }
        match end {
            None => return (!in_group).then_some(found),
            Some(b',') => {}
            Some(_) => return None,
        }
    }
}

/// Walks through a value. `None` from its methods: the value is malformed.
struct Scanner<'a> {
    value: &'a [u8],
    at: usize,
    /// The inside of the last comment.
    comment: Range<usize>,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.value.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let octet = self.peek()?;
        self.at += 1;
        Some(octet)
    }

    fn expect(&mut self, octet: u8) -> Option<()> {
        self.skip_comments()?;
        (self.take()? == octet).then_some(())
    }

    /// What stands behind blanks and comments; the inner `None` is the end of the value.
    fn next_special(&mut self) -> Option<Option<u8>> {
        self.skip_comments()?;
        Some(self.take())
    }

    /// Passes over blanks, folds and comments, which nest (RFC 5322 §3.2.2).
    fn skip_comments(&mut self) -> Option<()> {
        let mut depth = 0usize;
        while let Some(octet) = self.peek() {
            match octet {
                b'(' => {
                    if depth == 0 {
                        self.comment.start = self.at + 1;
                    }
                    depth += 1;
                }
                b')' if depth > 0 => {
                    depth -= 1;
                    self.comment.end = self.at;
                }
                b'\\' if depth > 0 => self.at += 1,
                b' ' | b'\t' | b'\n' => {}
                _ if depth > 0 => {}
                _ => break,
            }
            self.at += 1;
        }
        (depth == 0).then_some(())
    }

    /// The words in front of the next special character: a display name, the name of a group, or a local part. Only the
    /// first and the last matter, so no more than two are kept.
    fn words(&mut self) -> Option<Vec<Range<usize>>> {
        let mut words = Vec::new();
        loop {
            self.skip_comments()?;
            match self.word()? {
                Some(word) => {
                    words.truncate(1);
                    words.push(word);
                }
                None => return Some(words),
            }
        }
    }

    /// An atom with its dots, or a quoted string; the inner `None`: there is none here.
    fn word(&mut self) -> Option<Option<Range<usize>>> {
        let start = self.at;
        if self.peek() == Some(b'"') {
            self.at += 1;
            loop {
                match self.take()? {
                    b'"' => return Some(Some(start..self.at)),
                    b'\\' => drop(self.take()?),
                    _ => {}
                }
            }
        }
        while self.peek().is_some_and(is_word_octet) {
            self.at += 1;
        }
        Some((self.at > start).then_some(start..self.at))
    }

    /// The address whose local part has been read.
    fn address(&mut self, local_part: Range<usize>) -> Option<AddressSpan> {
        self.skip_comments()?;
        let domain = if self.peek() == Some(b'@') { Some(self.domain()?) } else { None };
        Some(AddressSpan { local_part, domain, name: 0..0 })
    }

    /// From an `@` to the end of the domain or of the literal.
    fn domain(&mut self) -> Option<Range<usize>> {
        self.expect(b'@')?;
        self.skip_comments()?;
        let start = self.at;
        if self.peek() == Some(b'[') {
            while self.take()? != b']' {}
            return Some(start..self.at);
        }
        self.word()?.filter(|word| self.value.get(word.start) != Some(&b'"'))
    }

    /// What stands in angle brackets; the inner `None` for `<>`.
    fn path(&mut self) -> Option<Option<AddressSpan>> {
        self.expect(b'<')?;
        self.skip_comments()?;
        while self.peek() == Some(b'@') {
            // A source route (RFC 5322 §4.4): `@a,@b:`.
            self.domain()?;
            if !matches!(self.next_special()?, Some(b',' | b':')) {
                return None;
            }
            self.skip_comments()?;
        }
        let address = match self.word()? {
            Some(local_part) => Some(self.address(local_part)?),
            None => None,
        };
        self.expect(b'>')?;
        Some(address)
    }
}

/// `atext` of RFC 5322 §3.2.3 with the dot, and the UTF-8 of RFC 6532 or what old programs write in its place.
fn is_word_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || !octet.is_ascii() || b"!#$%&'*+-/=?^_`{|}~.".contains(&octet)
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

    #[test]
    fn what_is_no_list_is_left_alone() {
        for value in [
            "John Doe",
            "a b@c",
            "a@",
            "@b",
            "a@b c",
            "a@b@c",
            "b @ c (x) . ",
            "a; b",
            "a:b",
            "a:b:c;",
            "a:b; c",
            ":;",
            "<a",
            "a>",
            "<a> b",
            "<a b>",
            "<a@>",
            "<@r>",
            "<@r,>x",
            "(a",
            "a)",
            "\"a",
            "\"a\\",
            "a@[b",
            "a@\"b\"",
            "a\\b",
            "a\0b",
            "a\rb",
            "[a]",
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
        assert!(spans("a,".repeat(ADDRESSES_MAX).as_bytes()).is_some());
        assert_eq!(spans("a,".repeat(ADDRESSES_MAX + 1).as_bytes()), None);
    }

    fn address() -> impl Strategy<Value = String> {
        let local = "[a-z]{1,4}(\\.[a-z0-9+_-]{1,4})?|\"[a-z ,<>@:;]{1,5}\"";
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

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

mod scanner;

use self::scanner::{AddressScanner, plain};
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
            // An address with a backslash before its `@`. Printed in quotes, it would be read as one with a domain.
            None if local_part.as_str().contains('@') && !is_name(&local_part.to_string()) => None,
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
    /// quotes or invisible characters around an address, brackets or open quotes in a display name.
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

/// Whether a text is one address without a domain.
fn is_name(text: &str) -> bool {
    matches!(read(text.as_bytes()).addresses.as_slice(), [span] if !span.has_domain())
}

/// Whether text around an address would be part of it for a strict parser.
fn has_oddities(value: &[u8], addresses: &[AddressSpan]) -> bool {
    let is_quoted = |span: &AddressSpan| {
        let Range { start, end } = span.whole();
        let (before, behind) = (start.checked_sub(1).and_then(|at| value.get(at)), value.get(end));
        let is_ours = |octet: &u8| octet.is_ascii_whitespace() || b",;:<>()".contains(octet);
        !(before.is_none_or(is_ours) && behind.is_none_or(is_ours))
    };
    let is_odd_name = |span: &AddressSpan| {
        let is_comment = span.name.start.checked_sub(1).and_then(|at| value.get(at)) == Some(&b'(');
        !is_comment && !is_phrase(value.get(span.name.clone()).unwrap_or_default())
    };
    let is_unseen = |c: char| !c.is_ascii() && (c.is_whitespace() || is_invisible(c));
    addresses.iter().any(|span| is_quoted(span) || is_odd_name(span))
        || text_of(value).contains(is_unseen)
        || value.windows(7).any(|word| word.eq_ignore_ascii_case(b"mailto:"))
}

/// Whether strict parsers read a display name as one: its quotes are closed, and no sign of an address is outside of them.
/// One with an encoded word counts as such, since it would not be decoded in quotes.
fn is_phrase(name: &[u8]) -> bool {
    if name.windows(2).any(|octets| octets == b"=?") {
        return true;
    }
    let (mut octets, mut is_quoted, mut depth) = (name.iter(), false, 0_usize);
    while let Some(octet) = octets.next() {
        match octet {
            b'"' if depth == 0 => is_quoted = !is_quoted,
            b'\\' if is_quoted || depth > 0 => drop(octets.next()),
            b'(' if !is_quoted => depth += 1,
            b')' if !is_quoted && depth > 0 => depth -= 1,
            b')' | b'[' | b']' | b'\\' | b'@' | b':' | b';' | b',' | b'<' | b'>'
                if !is_quoted && depth == 0 =>
            {
                return false;
            }
            _ => {}
        }
    }
    !is_quoted && depth == 0
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

    /// The addresses found; a `+` follows if a comma was missing, and then unreadable text in `{}`.
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
            // An address or a name: it is neither.
            (r"root\@far.example, joe", "? joe"),
            (r"tes\@b.tes|", "?"),
            ("a@x?y", "?"),
            // A comma is missing, or another sign stands in its place.
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
            // Only the text in brackets counts.
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
            // Signs around an address.
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

    /// The addresses beyond one call are left for the next; the time is proportional to the length.
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
        // With an @ it would be an address in quotes.
        let local = "[a-z]{1,4}(\\.[a-z0-9+_-]{1,4})?|\"[a-z ,<>:;]{1,5}\"";
        let name = "([A-Z][a-z]{0,4} ){1,2}|\"[a-z ,<>@:;()]{1,5}\" |=\\?utf-8\\?Q\\?[a-z]{1,4}\\?= ";
        let comment = "( \\([a-z ,<>@:;]{0,5}\\))?";
        prop_oneof![
            (local, "(@[a-z]{1,4}\\.example)?", comment).prop_map(|(l, d, c)| format!("{l}{d}{c}")),
            (name, local, "(@[a-z]{1,4}\\.example)?").prop_map(|(n, l, d)| format!("{n}<{l}{d}>")),
        ]
    }

    proptest! {
        /// Another parser finds the same addresses in well-formed lists.
        #[test]
        fn the_addresses_are_those_that_others_find(list in proptest::collection::vec(address(), 1..5)) {
            let value = list.join(",\n ");
            let own = spans(value.as_bytes()).unwrap();
            prop_assert_eq!(own.len(), list.len(), "{}", value);
            let message = format!("To: {value}\n\n");
            let parsed = MessageParser::default().parse(message.as_bytes()).unwrap();
            let theirs: Vec<&str> =
                parsed.to().unwrap().iter().map(|a| a.address.as_deref().or(a.name.as_deref()).unwrap()).collect();
            // That parser drops quotes, and the content of a quoted local-part confuses it.
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

//! Display names in front of addresses (RFC 5322 §3.4). They are parsed leniently and printed so that every reader
//! accepts them: as one quoted string, or as encoded words (RFC 2047) where ASCII does not suffice.
//!
//! Encoded words are kept unchanged. Whatever the input, the printed form is a phrase in ASCII without control
//! characters except its own folds, so a name cannot add a field or an address. Nothing fails; a name that is too
//! long is cut.

use super::encoded_word::{WORD_MAX_OCTETS, decode, encode, is_encoded_word, text_of};

/// How many octets are kept of a parsed name, and of an addition to it; far more than a reader shows.
const NAME_MAX_OCTETS: usize = 200;

/// A display name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DisplayName {
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// One or several words.
    Text(String),
    /// One encoded word, as it was written.
    Encoded(String),
}

impl DisplayName {
    /// Parses a phrase, the inside of a comment, or any other text in place of a name.
    #[must_use]
    pub fn read(octets: &[u8]) -> Self {
        let mut name = Self::default();
        let (mut word, mut is_quoted) = (String::new(), false);
        let text = text_of(octets);
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => is_quoted = !is_quoted,
                '\\' => word.extend(chars.next().filter(|c| !c.is_control())),
                ' ' | '\t' if is_quoted => word.push(' '),
                ' ' | '\t' => name.push_within(&std::mem::take(&mut word), NAME_MAX_OCTETS),
                c if c.is_control() => {}
                c => word.push(c),
            }
        }
        name.push_within(&word, NAME_MAX_OCTETS);
        name
    }

    /// Whether the name is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether the name is exactly this text, in any case.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        matches!(self.words.as_slice(), [Word::Text(name)] if name.eq_ignore_ascii_case(text))
    }

    /// Appends text, cut to the same length as a name. It must not hold control characters.
    pub fn push(&mut self, text: &str) {
        self.push_within(text, self.octets() + NAME_MAX_OCTETS);
    }

    fn push_within(&mut self, word: &str, most: usize) {
        let room = most.saturating_sub(self.octets());
        let ends = word.char_indices().map(|(at, c)| at + c.len_utf8());
        let cut = word.get(..ends.take_while(|&end| end <= room).last().unwrap_or(0)).unwrap_or_default();
        match self.words.last_mut() {
            _ if cut.is_empty() => {}
            _ if is_encoded_word(word) => {
                self.words.extend((cut == word).then(|| Word::Encoded(word.to_owned())));
            }
            Some(Word::Text(text)) => {
                text.push(' ');
                text.push_str(cut);
            }
            _ => self.words.push(Word::Text(cut.to_owned())),
        }
    }

    fn octets(&self) -> usize {
        self.words.iter().map(|word| word.as_str().len()).sum()
    }

    /// The same name, with other characters where it could be taken for an address: readers and filters show and
    /// score such names as the address itself. Encoded words are decoded for this.
    #[must_use]
    pub fn without_addresses(self) -> Self {
        const SIGNS: [char; 3] = ['@', '<', '>'];
        let mut name = Self::default();
        for word in self.words {
            let text = match &word {
                Word::Text(text) => Some(text.clone()),
                Word::Encoded(encoded) => decode(encoded).filter(|text| text.contains(SIGNS)),
            };
            let clean = match text {
                Some(text) if text.contains(SIGNS) => {
                    let spaced = text.replace(['<', '>'], " ").replace('@', " at ");
                    spaced.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
                }
                Some(text) => text,
                None => {
                    name.words.push(word);
                    continue;
                }
            };
            match name.words.last_mut() {
                _ if clean.is_empty() => {}
                Some(Word::Text(before)) => *before = format!("{before} {clean}"),
                _ => name.words.push(Word::Text(clean)),
            }
        }
        name
    }

    /// The phrase, without a fold at its ends.
    #[must_use]
    pub fn print(&self) -> String {
        if let [Word::Text(text)] = self.words.as_slice()
            && text.is_ascii()
        {
            return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        }
        let mut encoded = Vec::new();
        for (i, word) in self.words.iter().enumerate() {
            match word {
                Word::Encoded(word) => encoded.push(word.clone()),
                Word::Text(text) => {
                    // Blanks between encoded words are not shown.
                    let before = if i > 0 { " " } else { "" };
                    let after = if i + 1 < self.words.len() { " " } else { "" };
                    encode(&format!("{before}{text}{after}"), WORD_MAX_OCTETS, &mut encoded);
                }
            }
        }
        encoded.join("\n ")
    }
}

impl Word {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Encoded(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    /// The name that another parser shows, and the address behind it.
    fn shown(phrase: &str) -> (Option<String>, Option<String>) {
        let message = format!("From: {phrase} <a@b.example>\n\n");
        let parsed = MessageParser::default().parse(message.as_bytes()).unwrap();
        let from = parsed.from().and_then(|from| from.first()).unwrap();
        (from.name.as_deref().map(str::to_owned), from.address.as_deref().map(str::to_owned))
    }

    #[test]
    fn names_are_printed_as_every_reader_takes_them() {
        for (read, printed, expected) in [
            ("root", "\"root\"", "root"),
            ("Cron  \n Daemon", "\"Cron Daemon\"", "Cron Daemon"),
            ("\"Daemon,  \\\"Cron\\\"\" x", "\"Daemon,  \\\"Cron\\\" x\"", "Daemon,  \"Cron\" x"),
            ("(Cron) Daemon \\", "\"(Cron) Daemon\"", "(Cron) Daemon"),
            ("=?utf-8?Q?J=C3=BCrgen?=", "=?utf-8?Q?J=C3=BCrgen?=", "Jürgen"),
            ("=?utf-8?Q?J=C3=BCr?=\n =?utf-8?Q?gen?=", "=?utf-8?Q?J=C3=BCr?=\n =?utf-8?Q?gen?=", "Jürgen"),
            (
                "Dr. =?utf-8?b?SsO8cg==?= \"x, y\"",
                "=?utf-8?Q?Dr=2E_?=\n =?utf-8?b?SsO8cg==?=\n =?utf-8?Q?_x=2C_y?=",
                "Dr. Jür x, y",
            ),
            ("Jürgen Groß", "=?utf-8?Q?J=C3=BCrgen_Gro=C3=9F?=", "Jürgen Groß"),
            ("=?utf-8?Q?a@b?=", "\"=?utf-8?Q?a@b?=\"", "a@b"),
        ] {
            let name = DisplayName::read(read.as_bytes());
            assert_eq!(name.print(), printed);
            assert_eq!(shown(printed), (Some(expected.to_owned()), Some("a@b.example".to_owned())));
            assert_eq!(DisplayName::read(printed.as_bytes()).print(), printed, "read again");
        }
        assert!(DisplayName::read(b" \n\t\"\"\0").is_empty());
        assert_eq!(DisplayName::read(b"J\xfcrgen").print(), "=?utf-8?Q?J=C3=BCrgen?=");
    }

    #[test]
    fn a_name_that_is_an_address_gets_words_in_its_place() {
        for (read, expected) in [
            ("root@nas", "\"root at nas\""),
            ("\"root@nas\" <root@nas>", "\"root at nas root at nas\""),
            ("=?utf-8?Q?root=40nas?=", "\"root at nas\""),
            (
                "=?utf-8?B?PHJvb3RAbmFzPg==?= =?utf-8?Q?=C3=BC?=",
                "=?utf-8?Q?root_at_nas_?=\n =?utf-8?Q?=C3=BC?=",
            ),
            ("Jürgen @ home", "=?utf-8?Q?J=C3=BCrgen_at_home?="),
            ("[NAS]  Alerts", "\"[NAS] Alerts\""),
        ] {
            let name = DisplayName::read(read.as_bytes()).without_addresses();
            assert_eq!(name.print(), expected, "{read}");
        }
        assert!(DisplayName::read(b"<>").without_addresses().is_empty());
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = DisplayName::read("ü".repeat(1000).as_bytes()).print();
        assert_eq!(long.matches("=C3=BC").count(), NAME_MAX_OCTETS / 2);
        assert!(long.lines().all(|line| line.len() <= WORD_MAX_OCTETS + 1), "{long}");
        let mut full = DisplayName::read("a ".repeat(1000).as_bytes());
        full.push("=?utf-8?Q?x?=");
        assert!(full.print().len() <= 2 * NAME_MAX_OCTETS + 2);
    }

    proptest! {
        /// No name adds an address or a field, and a reader shows the name that was parsed.
        #[test]
        fn no_name_escapes(read in "[a-c\"\\\\<>@,;:() \n\r\0ü?=_Q]{0,60}|(=\\?utf-8\\?Q\\?[a-c<\"@\n]{0,4}\\?=[ \"]){1,4}") {
            let name = DisplayName::read(read.as_bytes());
            let printed = name.print();
            prop_assert!(printed.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\n')), "{}", printed);
            prop_assert!(!printed.starts_with('\n') && !printed.replace("\n ", "").contains('\n'));
            if !name.is_empty() {
                let (shown, address) = shown(&printed);
                prop_assert_eq!(address.as_deref(), Some("a@b.example"), "{}", printed);
                match name.words.as_slice() {
                    [Word::Text(text)] if !text.contains("=?") && text.trim() == text => {
                        prop_assert_eq!(shown.as_ref(), Some(text), "{}", printed);
                    }
                    _ => {}
                }
            }
        }
    }
}

//! Header fields for the next hop: text beyond ASCII becomes encoded words (RFC 2047) or extended parameters (RFC
//! 2231), and no line exceeds 998 octets (RFC 5322 §2.1.1).
//!
//! | kind of field | split at | a word that needs it becomes |
//! | --- | --- | --- |
//! | text (Subject, and unknown fields) | blanks | an encoded word |
//! | structured (From, To, …) | the tokens of RFC 5322 | an encoded word in a phrase or comment; A-labels in a domain |
//! | parameters (Content-Type, …) | semicolons | an extended parameter |
//! | tags (DKIM-Signature, …) | blanks, and after `;` or `:` | several pieces |
//!
//! A field that the next hop accepts stays unchanged. Otherwise the words that need it are encoded, and the field is
//! folded again; a reader shows the same text. A malformed field counts as text.

use super::parts::SectionOwner;
use super::{HopSupport, LINE_MAX_OCTETS, structured};
use crate::mail::encoded_word::{WORD_MAX_OCTETS, encode, is_encoded_word, meaning_of, text_of};
use crate::mail::header::split_field;

/// The column at which lines are folded (RFC 5322 §2.1.1). A line with an encoded word is shorter by two (RFC 2047
/// §2).
const LINE_COLUMNS: usize = 78;
const ENCODED_COLUMNS: usize = 76;
/// The longest word that fits on a line.
const WORD_LINE_OCTETS: usize = LINE_MAX_OCTETS - 1;
/// The space on a line below which an encoded word is put on the next line.
const ENCODED_MIN_OCTETS: usize = 30;
/// The longest run of blanks that is kept; a longer one becomes one blank.
const BLANK_MAX_OCTETS: usize = 500;
/// The size of the pieces into which a signature is split.
const TAG_OCTETS: usize = 70;

/// The syntax of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    /// Words.
    Text,
    /// Phrases, addresses, comments, and text in angle brackets.
    Structured,
    /// A value with parameters (RFC 2045 §5.1).
    Parameters,
    /// Tags, whose values may be folded anywhere (RFC 6376 §3.2).
    Tags,
}

/// The fields that are not text.
const FIELDS: [(&str, FieldKind); 42] = [
    ("From", FieldKind::Structured),
    ("Sender", FieldKind::Structured),
    ("Reply-To", FieldKind::Structured),
    ("To", FieldKind::Structured),
    ("Cc", FieldKind::Structured),
    ("Bcc", FieldKind::Structured),
    ("Resent-From", FieldKind::Structured),
    ("Resent-Sender", FieldKind::Structured),
    ("Resent-Reply-To", FieldKind::Structured),
    ("Resent-To", FieldKind::Structured),
    ("Resent-Cc", FieldKind::Structured),
    ("Resent-Bcc", FieldKind::Structured),
    ("Mail-Followup-To", FieldKind::Structured),
    ("Mail-Reply-To", FieldKind::Structured),
    ("Disposition-Notification-To", FieldKind::Structured),
    ("Return-Receipt-To", FieldKind::Structured),
    ("Errors-To", FieldKind::Structured),
    ("Keywords", FieldKind::Structured),
    ("Date", FieldKind::Structured),
    ("Resent-Date", FieldKind::Structured),
    ("Message-ID", FieldKind::Structured),
    ("Resent-Message-ID", FieldKind::Structured),
    ("In-Reply-To", FieldKind::Structured),
    ("References", FieldKind::Structured),
    ("Received", FieldKind::Structured),
    ("Return-Path", FieldKind::Structured),
    ("MIME-Version", FieldKind::Structured),
    ("Content-ID", FieldKind::Structured),
    ("Content-Transfer-Encoding", FieldKind::Structured),
    ("Authentication-Results", FieldKind::Structured),
    ("ARC-Authentication-Results", FieldKind::Structured),
    ("List-Unsubscribe", FieldKind::Structured),
    ("List-Subscribe", FieldKind::Structured),
    ("List-Post", FieldKind::Structured),
    ("List-Help", FieldKind::Structured),
    ("Content-Type", FieldKind::Parameters),
    ("Content-Disposition", FieldKind::Parameters),
    ("DKIM-Signature", FieldKind::Tags),
    ("DomainKey-Signature", FieldKind::Tags),
    ("ARC-Seal", FieldKind::Tags),
    ("ARC-Message-Signature", FieldKind::Tags),
    ("Autocrypt", FieldKind::Tags),
];

/// What is encoded in a field; lines that are too long are folded in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldEncoding {
    /// Nothing.
    Fold,
    /// Text that is not UTF-8.
    KeepUtf8,
    /// Text that is not ASCII.
    Ascii,
}

impl FieldEncoding {
    /// The rule for the fields of a header section. Fields under another host's signature are not encoded; nor are
    /// those of a message within the message, which is content, unless the next hop takes only ASCII.
    #[must_use]
    pub const fn of(support: HopSupport, whose: SectionOwner, is_signed: bool) -> Self {
        match (support, whose) {
            _ if is_signed => Self::Fold,
            (HopSupport::SevenBit, _) => Self::Ascii,
            (_, SectionOwner::Embedded) => Self::Fold,
            (HopSupport::Utf8, _) => Self::KeepUtf8,
            (HopSupport::EightBit, _) => Self::Ascii,
        }
    }

    fn encodes(self, octets: &[u8]) -> bool {
        match self {
            Self::Fold => false,
            Self::KeepUtf8 => std::str::from_utf8(octets).is_err(),
            Self::Ascii => !octets.is_ascii(),
        }
    }

    /// Whether a field can be sent unchanged.
    fn takes(self, field: &[u8]) -> bool {
        !self.encodes(field) && field.split(|&octet| octet == b'\n').all(|line| line.len() <= LINE_MAX_OCTETS)
    }
}

/// A piece of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The blanks before it.
    pub blank: Vec<u8>,
    /// Its written form.
    pub text: Vec<u8>,
    /// Its meaning, if it has to be encoded.
    pub encoded: Option<String>,
    /// If no blank precedes it, no blank may be inserted.
    pub is_glued: bool,
}

impl Token {
    /// A token that is written unchanged.
    #[must_use]
    pub fn new(blank: &[u8], text: &[u8]) -> Self {
        Self { blank: blank.to_vec(), text: text.to_vec(), encoded: None, is_glued: false }
    }

    /// A token that is written unchanged and glued.
    #[must_use]
    pub fn glued(blank: &[u8], text: &[u8]) -> Self {
        Self { is_glued: true, ..Self::new(blank, text) }
    }

    fn is_encoded_word(&self) -> bool {
        std::str::from_utf8(&self.text).is_ok_and(is_encoded_word)
    }
}

/// Which words of a value have to be encoded.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Words beyond ASCII.
    pub beyond_ascii: bool,
    /// Words too long for a line.
    pub long: bool,
}

impl Needs {
    /// Whether this word has to be encoded.
    #[must_use]
    pub fn has(self, word: &[u8]) -> bool {
        self.beyond_ascii && !word.is_ascii() || self.long && word.len() > WORD_LINE_OCTETS
    }
}

/// Whether a field changes.
#[must_use]
pub fn is_changed(field: &[u8], manner: FieldEncoding) -> bool {
    let mut out = Vec::new();
    !manner.takes(field) && {
        put(field, manner, &mut out);
        out != field
    }
}

/// Appends a field, with its line ends, as it is sent.
pub fn put(field: &[u8], manner: FieldEncoding, out: &mut Vec<u8>) {
    let Some((name, value)) = split_field(field).filter(|_| !manner.takes(field)) else {
        return out.extend_from_slice(field);
    };
    let unfolded: Vec<u8> = value.iter().copied().filter(|&octet| octet != b'\n').collect();
    let needs = Needs { beyond_ascii: manner.encodes(&unfolded), long: manner != FieldEncoding::Fold };
    let is_row = |row: &&(&str, FieldKind)| name.eq_ignore_ascii_case(row.0.as_bytes());
    let kind = FIELDS.iter().find(is_row).map_or(FieldKind::Text, |row| row.1);
    let tokens = match kind {
        _ if manner == FieldEncoding::Fold => words(&unfolded, needs),
        FieldKind::Text => words(&unfolded, needs),
        FieldKind::Structured => {
            structured::tokens(&unfolded, needs).unwrap_or_else(|| words(&unfolded, needs))
        }
        FieldKind::Parameters => structured::parameters(&unfolded, needs),
        FieldKind::Tags => tags(&unfolded, needs),
    };
    let start = field.len() - value.len();
    out.extend_from_slice(field.get(..start).unwrap_or_default());
    let mut printer = Printer { out, column: start, is_first: true, kind };
    printer.put_all(&tokens);
    out.extend_from_slice(if field.ends_with(b"\n") { b"\n" } else { b"" });
}

/// The words of a text.
pub(super) fn words(value: &[u8], needs: Needs) -> Vec<Token> {
    let is_blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let (mut tokens, mut rest) = (Vec::new(), value);
    while !rest.is_empty() {
        let (blank, after) =
            rest.split_at(rest.iter().position(|octet| !is_blank(octet)).unwrap_or(rest.len()));
        let (word, after) = after.split_at(after.iter().position(is_blank).unwrap_or(after.len()));
        let encoded = needs.has(word).then(|| meaning_of(word));
        tokens.push(Token { encoded, ..Token::glued(blank, word) });
        rest = after;
    }
    tokens
}

/// The words of tags, split if they are too long.
fn tags(value: &[u8], needs: Needs) -> Vec<Token> {
    let mut tokens = Vec::new();
    for token in words(value, Needs { long: false, ..needs }) {
        if token.text.len() <= WORD_LINE_OCTETS {
            tokens.push(token);
            continue;
        }
        let (mut blank, mut rest) = (token.blank.as_slice(), token.text.as_slice());
        while !rest.is_empty() {
            let piece = rest.get(..TAG_OCTETS).unwrap_or(rest);
            let end = piece.iter().rposition(|octet| matches!(octet, b';' | b':')).map(|at| at + 1);
            let (piece, after) =
                rest.split_at(end.filter(|_| piece.len() < rest.len()).unwrap_or(piece.len()));
            tokens.push(Token::new(std::mem::take(&mut blank), piece));
            rest = after;
        }
    }
    tokens
}

/// Writes a value and folds it.
struct Printer<'a> {
    out: &'a mut Vec<u8>,
    column: usize,
    is_first: bool,
    kind: FieldKind,
}

impl Printer<'_> {
    fn put_all(&mut self, tokens: &[Token]) {
        let mut rest = tokens;
        let mut before: Option<&Token> = None;
        while let Some((token, after)) = rest.split_first() {
            if token.encoded.is_none() {
                // In a phrase an encoded word is surrounded by blanks (RFC 2047 §5 (3)).
                let was_encoded = before.is_some_and(|before| before.encoded.is_some());
                let is_loose = was_encoded && self.kind != FieldKind::Text && token.text != b")";
                let blank: &[u8] = if is_loose && token.blank.is_empty() && !token.text.is_empty() {
                    b" "
                } else {
                    &token.blank
                };
                self.put(blank, &token.text, token.is_glued, LINE_COLUMNS);
                (before, rest) = (Some(token), after);
                continue;
            }
            let is_run = |token: &&Token| token.encoded.is_some();
            let count = rest.iter().take_while(is_run).count();
            let (run, after) = rest.split_at(count);
            self.put_encoded(before, run, after.first());
            (before, rest) = (run.last(), after);
        }
    }

    /// A run of words becomes one text: blanks between encoded words are not displayed (RFC 2047 §6.2).
    fn put_encoded(&mut self, before: Option<&Token>, run: &[Token], after: Option<&Token>) {
        let mut text = String::new();
        let was_word = |token: Option<&Token>| token.is_some_and(Token::is_encoded_word);
        let mut lead = run.first().map(|token| token.blank.clone()).unwrap_or_default();
        if was_word(before) && !was_word(run.first()) && !lead.is_empty() {
            text.push_str(&text_of(&lead));
            lead = b" ".to_vec();
        } else if lead.is_empty() && before.is_some_and(|before| before.text != b"(") {
            lead = b" ".to_vec();
        }
        let mut last = None;
        for token in run {
            if last.is_some() && !(was_word(last) && token.is_encoded_word()) {
                text.push_str(&text_of(&token.blank));
            }
            last = Some(token);
            text.push_str(token.encoded.as_deref().unwrap_or_default());
        }
        if let Some(after) = after.filter(|after| after.is_encoded_word() && !was_word(last)) {
            text.push_str(&text_of(&after.blank));
        }
        let room = ENCODED_COLUMNS.saturating_sub(self.column + lead.len());
        let room = if room < ENCODED_MIN_OCTETS { WORD_MAX_OCTETS } else { room };
        let mut words = Vec::new();
        encode(&text, room, &mut words);
        for word in words {
            self.put(&lead, word.as_bytes(), false, ENCODED_COLUMNS);
            lead = b" ".to_vec();
        }
    }

    fn put(&mut self, blank: &[u8], text: &[u8], is_glued: bool, columns: usize) {
        let blank = if blank.len() > BLANK_MAX_OCTETS { b" " } else { blank };
        let end = self.column + blank.len() + text.len();
        // Not every reader accepts a field that begins with an empty line.
        let most = if self.is_first && columns == LINE_COLUMNS { LINE_MAX_OCTETS } else { columns };
        let may_fold = !blank.is_empty() || !is_glued || end > LINE_MAX_OCTETS;
        if end > most && may_fold && !text.is_empty() {
            self.out.push(b'\n');
            self.column = 0;
            if blank.is_empty() {
                self.out.push(b' ');
                self.column = 1;
            }
        }
        self.out.extend_from_slice(blank);
        self.out.extend_from_slice(text);
        self.column += blank.len() + text.len();
        self.is_first &= text.is_empty();
    }
}

#[cfg(test)]
mod tests;

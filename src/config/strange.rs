//! Characters that word processors, web pages and other systems leave in a configuration, named as such: on the screen they look
//! like what belongs there, so the words of a parser ("expected a value") help nobody.
//!
//! | what | comes from | write |
//! | --- | --- | --- |
//! | `“ ” „ « »` and their like | word processors, web pages | `"` |
//! | a no-break or zero-width space | web pages, some keyboards | a plain space, or nothing |
//! | a text without its end, a colon in place of `=` | haste, other formats | what is missing |
//! | a backslash in `"…"` | paths and passwords of other systems | `\\\\`, or the text in `'…'` |

/// Quotation marks that TOML does not know.
const QUOTES: &str = "“”„‟‘’‚‛«»‹›＂´";
/// Blanks that TOML does not know, and characters without width.
const BLANKS: &str = "\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\
    \u{200b}\u{200c}\u{200d}\u{202f}\u{205f}\u{2060}\u{3000}\u{feff}";

/// What is strange on the line of a mistake in the syntax, with its place: `message` is what the parser says of the text at
/// `at`. `None`: nothing.
pub fn explain(text: &str, at: usize, message: &str) -> Option<(usize, String)> {
    let before = text.get(..at)?;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?;
    if message.contains("escape") || message.contains("unicode") {
        let offset = line.get(..=at.saturating_sub(start)).unwrap_or(line).rfind('\\')?;
        let advice =
            "a backslash begins an escape such as \\n in \"…\"; write \\\\ for one, or the text in '…'";
        return Some((start + offset, advice.to_owned()));
    }
    let is_strange = |(_, c): &(usize, char)| QUOTES.contains(*c) || BLANKS.contains(*c);
    // A string that begins with a plain mark and ends with another goes on to the end of the line.
    let last = || line.char_indices().rfind(|(_, c)| message.contains("string") && QUOTES.contains(*c));
    let Some((offset, c)) = outside_of_strings(line).find(is_strange).or_else(last) else {
        return plain(text, at, message).map(|advice| (at, advice.to_owned()));
    };
    Some((start + offset, sentence(c)))
}

/// The usual mistakes with plain characters.
fn plain(text: &str, at: usize, message: &str) -> Option<&'static str> {
    match message {
        "invalid basic string, expected `\"`" => Some("the text does not end; write \" behind it"),
        "invalid literal string, expected `'`" => Some("the text does not end; write ' behind it"),
        _ if message.contains("unquoted key") && text.get(at..)?.starts_with(':') => {
            Some("a colon stands between key and value; write =")
        }
        _ => None,
    }
}

/// What is wrong with a value that such a blank begins or ends, as copied text does. Within a name it may be meant. `None`: nothing.
pub fn blank_around(text: &str) -> Option<String> {
    [text.chars().next(), text.chars().next_back()]
        .into_iter()
        .flatten()
        .find(|c| BLANKS.contains(*c))
        .map(sentence)
}

fn sentence(c: char) -> String {
    let code = u32::from(c);
    if QUOTES.contains(c) {
        format!("{c} (U+{code:04X}) is no quotation mark of TOML; write \"")
    } else {
        let name = match c {
            '\u{a0}' | '\u{202f}' | '\u{2007}' | '\u{2060}' => "a no-break space",
            '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{feff}' => "a character without width",
            _ => "a space of another kind",
        };
        format!("{name} (U+{code:04X}) stands here; remove it, or write a plain space")
    }
}

/// The characters of a line that are in no string and no comment, with their offsets.
fn outside_of_strings(line: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut open, mut is_escaped, mut is_over) = (None, false, false);
    line.char_indices().filter(move |&(_, c)| {
        match (open, c) {
            _ if is_over => {}
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some('"'), '\\') => is_escaped = true,
            (Some(quote), c) if quote == c => open = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => open = Some(c),
            (None, '#') => is_over = true,
            (None, _) => return true,
        }
        false
    })
}

//! Characters that must not reach a terminal, a log line or an envelope unchanged: the only rules about them.
//!
//! | rule | characters | used by |
//! | --- | --- | --- |
//! | [`is_hostile`] | control characters, marks and overrides of direction, line and paragraph separators | the log, listings, the terminal |
//! | [`is_invisible`] | characters without width, such as joiners and the byte order mark | address lists |
//!
//! A peer chooses most texts that the operator reads: addresses, replies, names of hosts. A control character could move
//! the cursor or forge a log line; an override of direction could make `gpj.exe` look like `exe.jpg` (CVE-2021-42574).
//! Each caller decides how to show such a character: by its number, by `?`, or not at all.

/// Whether a character may only be shown by its number or by a substitute: control characters, and characters that
/// change the direction of text or end a line on a terminal.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character takes no room: marks of direction, joiners, the byte order mark. Readers do not see it, so two
/// addresses that differ by it look the same.
#[must_use]
pub const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_people_is_harmless() {
        assert!("Zürich 山 \u{5d0} 👍 «a»".chars().all(|c| !is_hostile(c) && !is_invisible(c)));
        for c in ['\0', '\n', '\u{1b}', '\u{7f}', '\u{9b}', '\u{200f}', '\u{2028}', '\u{202e}', '\u{2066}'] {
            assert!(is_hostile(c), "{c:?}");
        }
        for c in ['\u{ad}', '\u{200b}', '\u{200d}', '\u{202e}', '\u{2060}', '\u{feff}'] {
            assert!(is_invisible(c), "{c:?}");
        }
    }
}

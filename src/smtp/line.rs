//! Lines of the command phase (RFC 5321 §2.3.8): only CRLF ends a line.
//!
//! The cutter reads from a buffer that the caller fills. It keeps only one thing: whether it is in the middle of a
//! line that is being skipped.
//!
//! | input | result |
//! | --- | --- |
//! | `NOOP` CR LF | `Text` |
//! | `NOOP` LF … CR LF | `Malformed` at the LF; the rest up to the CRLF is skipped |
//! | a CR or NUL within a line | `Malformed` |
//! | more octets than the limit, then CR LF | `TooLong`; the octets need not be kept meanwhile |

/// What the input begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its CRLF.
    Text(&'a [u8]),
    /// A line with a bare CR or LF, or a NUL: never a command, whatever it says. A line with a bare LF is reported at
    /// that LF, so that a client that ends its lines with LF alone gets a reply; but the line ends at its CRLF, and
    /// the octets up to there are skipped.
    Malformed,
    /// A line beyond the limit; it has been skipped to its end.
    TooLong,
}

/// Cuts input into lines.
#[derive(Debug, Default)]
pub struct LineCutter {
    skipped: Option<Skipped>,
}

/// Why the rest of a line is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skipped {
    TooLong,
    /// It was reported as malformed.
    Told,
}

impl LineCutter {
    /// The first line of `input`, and how many octets of the input are consumed: with a line its whole length,
    /// without one the octets of a line that need not be kept. `limit` is in octets, including CRLF.
    pub fn cut<'a>(&mut self, input: &'a [u8], limit: usize) -> (usize, Option<Line<'a>>) {
        let Some(skipped) = self.skipped else { return self.cut_line(input, limit) };
        let mut used = 0;
        let mut lines = input.split_inclusive(|&octet| octet == b'\n');
        if !lines.by_ref().inspect(|line| used += line.len()).any(|line| line.ends_with(b"\r\n")) {
            // A CR may be the first half of the end.
            return (used - usize::from(input.ends_with(b"\r")), None);
        }
        self.skipped = None;
        if skipped == Skipped::TooLong {
            return (used, Some(Line::TooLong));
        }
        let (more, line) = self.cut_line(input.get(used..).unwrap_or_default(), limit);
        (used + more, line)
    }

    fn cut_line<'a>(&mut self, input: &'a [u8], limit: usize) -> (usize, Option<Line<'a>>) {
        let end = input.iter().position(|&octet| octet == b'\n');
        let line = end.and_then(|end| input.get(..end));
        if line.map_or(input.len(), |line| line.len() + 1) > limit - usize::from(line.is_none()) {
            self.skipped = Some(Skipped::TooLong);
            return self.cut(input, limit);
        }
        let Some(line) = line else { return (0, None) };
        let text = line.strip_suffix(b"\r");
        if text.is_none() {
            self.skipped = Some(Skipped::Told);
        }
        let is_text = |text: &&[u8]| !text.iter().any(|&octet| octet == b'\r' || octet == 0);
        (line.len() + 1, Some(text.filter(is_text).map_or(Line::Malformed, Line::Text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `input` in pieces cut at `cuts` and describes each line.
    fn lines(input: &[u8], cuts: &[usize], limit: usize) -> Vec<String> {
        let (mut cutter, mut buffer, mut seen) = (LineCutter::default(), Vec::new(), Vec::new());
        let mut start = 0;
        for &cut in cuts.iter().chain([&input.len()]) {
            let cut = cut.clamp(start, input.len());
            buffer.extend_from_slice(&input[start..cut]);
            start = cut;
            loop {
                let (used, line) = cutter.cut(&buffer, limit);
                let done = line.is_none();
                seen.extend(line.map(|line| format!("{line:?}")));
                buffer.drain(..used);
                if done {
                    break;
                }
            }
            assert!(buffer.len() < limit, "an endless line is kept in memory");
        }
        seen
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let text = |s: &[u8]| format!("{:?}", Line::Text(s));
        assert_eq!(lines(b"NOOP\r\nQUIT\r\n", &[], 20), [text(b"NOOP"), text(b"QUIT")]);
        assert_eq!(lines(b"\r\n", &[], 20), [text(b"")]);
        for malformed in [
            &b"NOOP\n"[..],
            b"NO\rOP\r\n",
            b"NO\0OP\r\n",
            b"NOOP\r\r\n",
            b"\n",
            b"NOOP\nQUIT\r\n",
            b"\nNOOP\n\nQUIT\n\r\n",
            b"NOOP\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
        ] {
            for cut in 0..malformed.len() {
                assert_eq!(lines(malformed, &[cut], 20), ["Malformed"], "{malformed:?} at {cut}");
                let followed = [malformed, b"\r\nNOOP\r\n"].concat();
                assert_eq!(lines(&followed, &[cut], 20).last(), Some(&text(b"NOOP")), "{malformed:?}");
            }
        }
        assert_eq!(lines(b"NOOP\r", &[], 20), [""; 0]);
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_octet_more_does_not() {
        let limit = 10;
        assert_eq!(lines(b"12345678\r\n", &[], limit), [format!("{:?}", Line::Text(b"12345678"))]);
        assert_eq!(
            lines(b"123456789\r\nNOOP\r\n", &[], limit),
            ["TooLong".to_owned(), format!("{:?}", Line::Text(b"NOOP"))]
        );
        assert_eq!(lines(b"123456789\nNOOP\r\n", &[3], limit), ["Malformed"]);
        assert_eq!(lines(b"1234567890\nNOOP\r\n", &[3], limit), ["TooLong"]);
        assert_eq!(lines(&[b'x'; 1000], &[3, 500], limit), [""; 0]);
    }

    /// A simpler cutter that has the whole input.
    fn oracle(input: &str, limit: usize) -> Vec<String> {
        let mut pieces: Vec<&str> = input.split("\r\n").collect();
        let last = pieces.pop().unwrap_or_default();
        let one = |text: &str, octets: usize| match text.find('\n') {
            Some(lf) if lf < limit => "Malformed".to_owned(),
            _ if octets > limit => "TooLong".to_owned(),
            None if !text.contains(['\r', '\0']) => format!("{:?}", Line::Text(text.as_bytes())),
            _ => "Malformed".to_owned(),
        };
        let mut lines: Vec<String> = pieces.into_iter().map(|text| one(text, text.len() + 2)).collect();
        // Of a line without an end, only this is known.
        lines.extend(last.find('\n').filter(|lf| *lf < limit).map(|_| "Malformed".to_owned()));
        lines
    }

    proptest! {
        #[test]
        fn the_split_of_the_input_does_not_matter(
            input in "([A-C]{0,12}(\r\n|\r\n|\n|\r|\0)?){0,8}",
            mut cuts in proptest::collection::vec(0usize..120, 0..8),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(lines(input.as_bytes(), &cuts, 10), oracle(&input, 10));
        }
    }
}

//! Lines of the command phase (RFC 5321 §2.3.8): CRLF ends a line, and nothing else does.
//!
//! Reads from a buffer that the caller fills; keeps nothing but whether it is in the middle of a line that is too long.

/// What stands at the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its CRLF.
    Text(&'a [u8]),
    /// A line with a bare CR or LF, or a NUL: never a command, whatever it says. It counts as ended at its LF, so that
    /// a client that ends its lines with LF alone gets an answer.
    Malformed,
    /// A line beyond the limit; it has been passed over to its end.
    TooLong,
}

/// Cuts input into lines.
#[derive(Debug, Default)]
pub struct LineCutter {
    skipping: bool,
}

impl LineCutter {
    /// The first line of `input`, and how many octets of it are done with: with a line its whole length, without one
    /// those of an over-long line that need not be kept. `limit` is in octets, CRLF included.
    pub fn cut<'a>(&mut self, input: &'a [u8], limit: usize) -> (usize, Option<Line<'a>>) {
        let Some(end) = input.iter().position(|&b| b == b'\n') else {
            if input.len() < limit && !self.skipping {
                return (0, None);
            }
            self.skipping = true;
            return (input.len(), None);
        };
        let length = end + 1;
        let line = if std::mem::take(&mut self.skipping) || length > limit {
            Line::TooLong
        } else {
            match input.get(..end).and_then(|line| line.strip_suffix(b"\r")) {
                Some(text) if !text.iter().any(|&b| b == b'\r' || b == 0) => Line::Text(text),
                _ => Line::Malformed,
            }
        };
        (length, Some(line))
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
        for malformed in [&b"NOOP\n"[..], b"NO\rOP\r\n", b"NO\0OP\r\n", b"NOOP\r\r\n", b"\n"] {
            assert_eq!(lines(malformed, &[], 20), ["Malformed"], "{malformed:?}");
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
        assert_eq!(lines(&[b'x'; 1000], &[3, 500], limit), [""; 0]);
    }

    proptest! {
        #[test]
        fn the_split_of_the_input_does_not_matter(
            input in "([A-C]{0,12}(\r\n|\n|\r|\0)?){0,8}",
            mut cuts in proptest::collection::vec(0usize..120, 0..8),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(lines(input.as_bytes(), &cuts, 10), lines(input.as_bytes(), &[], 1000).into_iter().zip(
                input.split_inclusive('\n')).map(|(line, raw)| if raw.len() > 10 { "TooLong".into() } else { line }).collect::<Vec<_>>());
        }
    }
}

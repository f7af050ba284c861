//! Mail data: the dot codec (RFC 5321 §4.5.2) between the wire and the canonical form of [`crate::mail::message`].
//!
//! Only CR LF . CR LF ends the data. Every variant with a bare CR or LF served the SMTP smuggling attacks of 2023, in
//! which two hosts disagree on where a message ends. The decoder finds the true end and reports that the data was
//! malformed, so that the whole message is refused.
//!
//! | octets on the wire | `bare_newline = "reject"` | `bare_newline = "repair"` |
//! | --- | --- | --- |
//! | CR LF | line end | line end |
//! | CR LF . CR LF | the end | the end |
//! | LF . LF, LF . CR LF, CR LF . LF | malformed, not the end | a line with a dot, not the end |
//! | LF alone | malformed | line end |
//! | CR alone, CR CR LF | malformed | malformed |
//!
//! Memory does not grow with the message: both directions work on pieces of any size, and a piece may end anywhere.

use memchr::{memchr, memchr_iter, memchr2};

/// Where the decoder is within a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LineState {
    /// After a CRLF, or at the very start.
    #[default]
    LineStart,
    /// After a dot at the start of a line; it is not part of the content.
    Dot,
    /// After that dot and a CR.
    DotCr,
    /// Within a line.
    Text,
    /// After a CR.
    Cr,
    /// After a lone LF that is repaired: the start of a line where the data cannot end.
    RepairedStart,
    /// After a dot at such a start.
    RepairedDot,
    /// After the end.
    End,
}

/// Turns the wire form into canonical form, from pieces of any size.
#[derive(Debug, Default)]
pub struct DotDecoder {
    state: LineState,
    /// Whether a lone LF is a line end as well.
    repairs: bool,
    malformed: bool,
    octets: u64,
}

impl DotDecoder {
    /// A decoder for old devices (`bare_newline = "repair"`): a lone LF becomes a line end. It never helps to end the
    /// data, so nothing can be smuggled in behind it. A dot in front of another dot was still added for transparency.
    #[must_use]
    pub fn repairing(repairs: bool) -> Self {
        Self { repairs, ..Self::default() }
    }

    /// Decodes `input`, appends the content to `out`, and returns how many octets of the input belonged to the data:
    /// fewer than all only if the end was found. Once the data is known to be malformed, nothing more is appended.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut rest = input;
        out.reserve(input.len());
        loop {
            rest = self.decode_lines(rest, out);
            let Some((&octet, after)) = rest.split_first() else { break };
            match (self.state, octet) {
                (LineState::End, _) => break,
                (LineState::LineStart, b'.') => self.state = LineState::Dot,
                (LineState::Dot, b'\r') => self.state = LineState::DotCr,
                (LineState::DotCr, b'\n') => self.state = LineState::End,
                (LineState::Cr, b'\n') => self.end_line(out),
                (LineState::LineStart | LineState::Text | LineState::RepairedStart, b'\r') => {
                    self.state = LineState::Cr
                }
                (LineState::RepairedStart, b'.') => self.state = LineState::RepairedDot,
                (LineState::RepairedDot, octet) => {
                    if octet != b'.' {
                        self.push(b".", out);
                    }
                    self.state = LineState::Text;
                    continue;
                }
                (LineState::LineStart | LineState::Text | LineState::RepairedStart, b'\n')
                    if self.repairs =>
                {
                    self.end_line(out);
                    self.state = LineState::RepairedStart;
                }
                // The same after a dot: it cannot be the end, so it is a line with a dot.
                (LineState::Dot, b'\n') if self.repairs => {
                    self.push(b".", out);
                    self.end_line(out);
                    self.state = LineState::RepairedStart;
                }
                (
                    LineState::LineStart | LineState::Text | LineState::RepairedStart | LineState::Dot,
                    b'\n',
                ) => {
                    self.bare(LineState::Text);
                }
                // A second CR may be the one that belongs to the LF.
                (LineState::Cr | LineState::DotCr, b'\r') => self.bare(LineState::Cr),
                (LineState::Cr | LineState::DotCr, _) => {
                    self.bare(LineState::Text);
                    continue;
                }
                (LineState::LineStart | LineState::RepairedStart | LineState::Dot | LineState::Text, _) => {
                    let run = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    let (text, after) = rest.split_at(run);
                    self.push(text, out);
                    self.state = LineState::Text;
                    rest = after;
                    continue;
                }
            }
            rest = after;
        }
        input.len() - rest.len()
    }

    /// Decodes the plain lines that the input begins with, except those with a dot in front, and returns the rest.
    /// Nearly all lines are decoded here, and two searches are all that an octet costs; [`Self::decode`] has the rule for
    /// any octet.
    fn decode_lines<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut rest = input;
        while !self.malformed
            && (self.state == LineState::Text
                || self.state == LineState::LineStart && rest.first() != Some(&b'.'))
            && let Some(after) = pass_plain_line(rest, out)
        {
            self.state = LineState::LineStart;
            rest = after;
        }
        self.octets += (input.len() - rest.len()) as u64;
        rest
    }

    /// Whether the end of the data has been seen.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.state == LineState::End
    }

    /// Whether a bare CR or LF has been seen.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// Octets of the message so far, counted as RFC 1870 does: with CRLF, without the dots added for transparency.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.octets += text.len() as u64;
        if !self.malformed {
            out.extend_from_slice(text);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.push(b"\n", out);
        self.octets += 1;
        self.state = LineState::LineStart;
    }

    fn bare(&mut self, next: LineState) {
        self.malformed = true;
        self.octets += 1;
        self.state = next;
    }
}

/// Appends the first line in canonical form and returns the rest, if the line ends with CRLF and has no other CR or LF.
fn pass_plain_line<'a>(input: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    match input.split_at_checked(memchr2(b'\r', b'\n', input)? + 1)? {
        (line @ [.., b'\r'], [b'\n', rest @ ..]) => {
            out.extend_from_slice(line);
            if let Some(end) = out.last_mut() {
                *end = b'\n';
            }
            Some(rest)
        }
        _ => None,
    }
}

/// Turns the octets of BDAT chunks into canonical form (RFC 3030): like [`DotDecoder`], without dots and without an
/// end.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    after_cr: bool,
    malformed: bool,
    octets: u64,
}

impl ChunkDecoder {
    /// Decodes `input` and appends the content to `out`. Once the data is known to be malformed, nothing more is
    /// appended.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.octets += input.len() as u64;
        let mut rest = input;
        loop {
            while !self.malformed
                && !self.after_cr
                && let Some(after) = pass_plain_line(rest, out)
            {
                rest = after;
            }
            if rest.is_empty() {
                return;
            }
            let (line, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
            rest = after;
            let (text, ends) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
            let (text, cr) = text.strip_suffix(b"\r").map_or((text, false), |text| (text, true));
            let cr_before = std::mem::replace(&mut self.after_cr, cr && !ends);
            // A CR at the end of the previous piece belongs to an LF at the start of this one, or it is bare.
            let has_bare = if cr_before { !(text.is_empty() && !cr && ends) } else { ends && !cr };
            self.malformed |= has_bare || memchr(b'\r', text).is_some();
            if !self.malformed {
                out.extend_from_slice(text);
                if ends {
                    out.push(b'\n');
                }
            }
        }
    }

    /// Whether a bare CR or LF has been seen. `at_end`: no more data follows, so a CR at the end is bare.
    #[must_use]
    pub const fn is_malformed(&self, at_end: bool) -> bool {
        self.malformed || (at_end && self.after_cr)
    }

    /// Octets of the message so far.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }
}

/// Turns canonical form into the wire form, from pieces of any size.
#[derive(Debug)]
pub struct DotEncoder {
    at_line_start: bool,
}

impl Default for DotEncoder {
    fn default() -> Self {
        Self { at_line_start: true }
    }
}

/// Turns canonical form into the octets of a chunk (RFC 3030): one more octet for each line end, and no end mark.
pub fn encode_chunk(content: &[u8], out: &mut Vec<u8>) {
    make_room(content, out);
    let mut rest = content;
    while !rest.is_empty() {
        rest = encode_line(rest, out);
    }
}

/// Makes room for `content` with CRLF as line ends.
fn make_room(content: &[u8], out: &mut Vec<u8>) {
    out.reserve(content.len() + memchr_iter(b'\n', content).count());
}

/// Appends the first line of `content` with CRLF, or its start if it has no end, and returns the rest.
fn encode_line<'a>(content: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (text, after) = content.split_at(memchr(b'\n', content).unwrap_or(content.len()));
    out.extend_from_slice(text);
    match after.split_first() {
        Some((_, rest)) => {
            out.extend_from_slice(b"\r\n");
            rest
        }
        None => after,
    }
}

impl DotEncoder {
    /// Encodes the next piece and appends it to `out`.
    pub fn encode(&mut self, content: &[u8], out: &mut Vec<u8>) {
        make_room(content, out);
        let mut rest = content;
        while !rest.is_empty() {
            if self.at_line_start && rest.first() == Some(&b'.') {
                out.push(b'.');
            }
            rest = encode_line(rest, out);
            self.at_line_start = out.last() == Some(&b'\n');
        }
    }

    /// Appends the end of the data, after a line end if the content lacks its last one.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.at_line_start { b".\r\n" } else { b"\r\n.\r\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes in pieces; returns the content, whether it was malformed, and the octets after the end (`None`: no
    /// end).
    fn decode(wire: &[u8], piece: usize) -> (Vec<u8>, bool, Option<Vec<u8>>) {
        let (mut decoder, mut out, mut used) = (DotDecoder::default(), Vec::new(), 0);
        for piece in wire.chunks(piece.max(1)) {
            used += decoder.decode(piece, &mut out);
            if decoder.is_at_end() {
                return (out, decoder.is_malformed(), Some(wire[used..].to_vec()));
            }
        }
        (out, decoder.is_malformed(), None)
    }

    /// Cuts `input` at each place of `cuts` that is within it.
    fn cut(input: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
        cuts.retain(|&at| at < input.len());
        cuts.sort_unstable();
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([input.len()]);
        starts.zip(ends).map(|(start, end)| &input[start..end]).collect()
    }

    /// What a decoder makes of a message: content, whether it is malformed, its size, and where it ends.
    type Decoded = (Vec<u8>, bool, u64, Option<usize>);

    fn decode_pieces(pieces: &[&[u8]], repairs: bool) -> Decoded {
        let (mut decoder, mut out, mut used) = (DotDecoder::repairing(repairs), Vec::new(), 0);
        for piece in pieces {
            used += decoder.decode(piece, &mut out);
        }
        (out, decoder.is_malformed(), decoder.octets(), decoder.is_at_end().then_some(used))
    }

    /// Decodes octet by octet, so that no plain line is ever seen as a whole.
    fn decode_octets(wire: &[u8], repairs: bool) -> Decoded {
        decode_pieces(&wire.chunks(1).collect::<Vec<_>>(), repairs)
    }

    /// The rule of the standard, for a message that is there as a whole: without content if it is malformed, because what
    /// had been decoded until then is of no use.
    fn decode_whole(wire: &[u8]) -> (Option<Vec<u8>>, Option<usize>) {
        let padded = [b"\r\n", wire].concat();
        let end = padded.windows(5).position(|octets| octets == b"\r\n.\r\n");
        let text = String::from_utf8(padded[..end.unwrap_or(padded.len())].to_vec()).unwrap();
        let mut lines: Vec<String> =
            text.split("\r\n").map(|it| it.strip_prefix('.').unwrap_or(it).into()).collect();
        lines.remove(0);
        let content = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        (
            Some(content.into_bytes())
                .filter(|it| !lines.concat().contains(['\r', '\n']) && end.is_some() && !it.is_empty()),
            end.map(|end| end + 3),
        )
    }

    #[test]
    fn every_split_of_a_message_decodes_like_its_single_octets() {
        for wire in [
            &b"ab\r\n..c\r\n\r\n.d\r\n.\r\nNOOP\r\n"[..],
            b".\r\n.\r\n",
            b"a\rb\r\n.\r\n",
            b"a\nb\n.\nc\n.\r\n..\n\r\n.\r\nx",
            b"a\r\r\n.\r\r\nb\r\n.\r.\r\n.\r\n",
            b"a\0\xff\r\n\0.\r\n.\0\r\n.\r\n.\r\n",
        ] {
            for repairs in [false, true] {
                let expected = decode_octets(wire, repairs);
                for (one, two) in
                    (0..=wire.len()).flat_map(|one| (one..=wire.len()).map(move |two| (one, two)))
                {
                    let pieces = [&wire[..one], &wire[one..two], &wire[two..]];
                    assert_eq!(decode_pieces(&pieces, repairs), expected, "{wire:?} at {one} and {two}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_split_decodes_like_single_octets(
            wire in "(([a.]{0,3}|[a-c]{60,140}|[\0.])(\r\n|\r\n|\r\n|\n|\r|\r\n\\.\r\n)){0,9}",
            cuts in proptest::collection::vec(0_usize..500, 0..6),
            repairs: bool,
        ) {
            let wire = wire.as_bytes();
            let decoded = decode_pieces(&cut(wire, cuts.clone()), repairs);
            prop_assert_eq!(&decoded, &decode_octets(wire, repairs));
            if !repairs {
                let (content, end) = decode_whole(wire);
                prop_assert_eq!(decoded.3, end);
                if let Some(content) = content {
                    prop_assert_eq!((decoded.0, decoded.1), (content, false));
                }
            }
            let (mut chunks, mut out) = (ChunkDecoder::default(), Vec::new());
            cut(wire, cuts).iter().for_each(|piece| chunks.decode(piece, &mut out));
            let is_sound = !String::from_utf8_lossy(wire).replace("\r\n", "").contains(['\r', '\n']);
            prop_assert_eq!(chunks.is_malformed(true), !is_sound);
            if is_sound {
                prop_assert_eq!(out, String::from_utf8_lossy(wire).replace("\r\n", "\n").into_bytes());
            }
        }

        #[test]
        fn any_split_encodes_like_a_replacement_in_the_whole(
            content in "((\\.{0,2}|[a-c]{60,140}|a)\n){0,9}[.a]{0,2}",
            cuts in proptest::collection::vec(0_usize..500, 0..6),
        ) {
            let (mut encoder, mut dots, mut chunk) = (DotEncoder::default(), Vec::new(), Vec::new());
            for piece in cut(content.as_bytes(), cuts) {
                encoder.encode(piece, &mut dots);
                encode_chunk(piece, &mut chunk);
            }
            let wire = content.replace('\n', "\r\n");
            let stuffed = format!("\r\n{wire}").replace("\r\n.", "\r\n..");
            prop_assert_eq!(chunk, wire.into_bytes());
            prop_assert_eq!(dots, stuffed.as_bytes()[2..].to_vec());
        }
    }

    proptest! {
        #[test]
        fn a_chunk_has_an_octet_more_for_each_line_and_comes_back(
            content in "[a.\n]{0,40}", piece in 1_usize..9, other in 1_usize..9
        ) {
            let (mut wire, mut back, mut decoder) = (Vec::new(), Vec::new(), ChunkDecoder::default());
            content.as_bytes().chunks(piece).for_each(|piece| encode_chunk(piece, &mut wire));
            prop_assert_eq!(wire.len(), content.len() + content.matches('\n').count());
            wire.chunks(other).for_each(|piece| decoder.decode(piece, &mut back));
            prop_assert!(!decoder.is_malformed(true));
            prop_assert_eq!(back, content.as_bytes());
        }
    }

    #[test]
    fn transparency() {
        for (wire, content) in [
            (&b".\r\n"[..], &b""[..]),
            (b"a\r\n.\r\n", b"a\n"),
            (b"..\r\n.\r\n", b".\n"),
            (b"..a\r\n.b\r\n.\r\n", b".a\nb\n"),
            (b"\r\n\r\n.\r\n", b"\n\n"),
            (b"a.\r\n.\r\n", b"a.\n"),
            (b"a\0b\xff\r\n.\r\n", b"a\0b\xff\n"),
        ] {
            assert_eq!(decode(wire, 99), (content.to_vec(), false, Some(vec![])), "{wire:?}");
        }
    }

    /// Each of these ended the data for some server in 2023; none of them may end it here.
    #[test]
    fn smuggled_ends_are_no_ends() {
        for end in [
            &b"\n.\n"[..],
            b"\n.\r\n",
            b"\r.\r",
            b"\r\n.\n",
            b"\r\n.\r",
            b"\r.\r\n",
            b"\r.\n",
            b"\n.\r",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\r\n.\r\r\n",
            b"\r\n.\r\r\n",
            b"\n\n.\r\n",
            b"\r\n.\x0b\r\n",
            b"\r\n\r.\r\n",
        ] {
            let wire = [b"a", end, b"MAIL FROM:<x@y>\r\n.\r\n", b"rest"].concat();
            for piece in 1..wire.len() {
                let (_, malformed, rest) = decode(&wire, piece);
                assert_eq!(rest.as_deref(), Some(&b"rest"[..]), "{end:?} in pieces of {piece}");
                assert_eq!(malformed, !end.contains(&0) && !end.contains(&0x0b), "{end:?}");
            }
        }
    }

    #[test]
    fn octets_are_counted_as_rfc_1870_says() {
        let mut decoder = DotDecoder::default();
        decoder.decode(b"..ab\r\n\r\n.\r\n", &mut Vec::new());
        assert_eq!(decoder.octets(), 7);
    }

    fn repair(wire: &[u8], piece: usize) -> (Vec<u8>, bool, Option<usize>) {
        let (mut decoder, mut out, mut used) = (DotDecoder::repairing(true), Vec::new(), 0);
        for piece in wire.chunks(piece) {
            used += decoder.decode(piece, &mut out);
            if decoder.is_at_end() {
                return (out, decoder.is_malformed(), Some(used));
            }
        }
        (out, decoder.is_malformed(), None)
    }

    #[test]
    fn a_lone_lf_is_repaired_and_never_ends_the_data() {
        for (wire, content) in [
            (&b"a\nb\r\n.\r\n"[..], &b"a\nb\n"[..]),
            (b"\n\n\r\n.\r\n", b"\n\n\n"),
            (b"a\n.\r\nb\r\n.\r\n", b"a\n.\nb\n"),
            (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\n"),
            (b"a\r\n.\nb\r\n.\r\n", b"a\n.\nb\n"),
            (b"a\n..b\n.c\r\n.\r\n", b"a\n.b\n.c\n"),
            (b"a\n..\r\n.\r\n", b"a\n.\n"),
            (b"a\n\r\n.\r\n", b"a\n\n"),
        ] {
            for piece in 1..=wire.len() {
                let (out, malformed, end) = repair(wire, piece);
                assert_eq!(
                    (out.as_slice(), malformed, end),
                    (content, false, Some(wire.len())),
                    "{wire:?} by {piece}"
                );
            }
        }
        assert!(repair(b"a\rb\r\n.\r\n", 99).1);
        assert_eq!(repair(b"a\n.\nMAIL FROM:<>\n.\n", 99).2, None);
    }

    fn decode_chunks(wire: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let (mut decoder, mut out) = (ChunkDecoder::default(), Vec::new());
        wire.chunks(piece.max(1)).for_each(|piece| decoder.decode(piece, &mut out));
        assert_eq!(decoder.octets(), wire.len() as u64);
        (out, decoder.is_malformed(true))
    }

    #[test]
    fn chunks_follow_the_same_rule_of_line_ends() {
        for (wire, content) in [
            (&b""[..], Some(&b""[..])),
            (b"a\r\n.\r\nb", Some(b"a\n.\nb")),
            (b"\r\n\r\n", Some(b"\n\n")),
            (b"a\n", None),
            (b"a\r", None),
            (b"a\rb\r\n", None),
            (b"a\r\r\n", None),
            (b"\n\r\n", None),
        ] {
            for piece in 1..=wire.len().max(1) {
                let (out, malformed) = decode_chunks(wire, piece);
                assert_eq!((!malformed).then_some(out.as_slice()), content, "{wire:?} in pieces of {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn decode_is_the_inverse_of_encode(content in "([a.]{0,4}\n){0,6}", piece in 1usize..9) {
            let (mut encoder, mut wire) = (DotEncoder::default(), Vec::new());
            content.as_bytes().chunks(piece).for_each(|p| encoder.encode(p, &mut wire));
            encoder.finish(&mut wire);
            for pieces in [1, piece, 999] {
                prop_assert_eq!(decode(&wire, pieces), (content.clone().into_bytes(), false, Some(vec![])));
            }
        }

        #[test]
        fn the_split_of_the_input_does_not_matter(wire in "[a.\r\n]{0,30}", piece in 1usize..9) {
            prop_assert_eq!(decode(wire.as_bytes(), piece), decode(wire.as_bytes(), 999));
        }

        #[test]
        fn chunks_are_malformed_where_data_would_be(wire in "[a\r\n]{0,20}", piece in 1usize..9) {
            let (out, malformed) = decode_chunks(wire.as_bytes(), piece);
            let (data, data_malformed, _) = decode(format!("{wire}\r\n.\r\n").as_bytes(), 999);
            // The dot completes a CR at the end, which in chunks stays bare.
            if !wire.ends_with('\r') {
                prop_assert_eq!(malformed, data_malformed);
                prop_assert!(malformed || data == [out, b"\n".to_vec()].concat());
            } else {
                prop_assert!(malformed);
            }
        }

        #[test]
        fn repair_finds_the_same_end(wire in "[a.\r\n]{0,40}", piece in 1usize..9) {
            let end = decode(wire.as_bytes(), 999).2.map(|rest| wire.len() - rest.len());
            prop_assert_eq!(repair(wire.as_bytes(), piece).2, end);
        }

        #[test]
        fn the_end_is_the_first_crlf_dot_crlf(wire in "[a.\r\n]{0,40}") {
            let after_crlf = format!("\r\n{wire}");
            let expected = after_crlf.find("\r\n.\r\n").map(|i| after_crlf.as_bytes()[i + 5..].to_vec());
            prop_assert_eq!(decode(wire.as_bytes(), 999).2, expected);
        }
    }
}

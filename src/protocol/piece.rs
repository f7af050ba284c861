//! The pieces of an answer on the control socket: their first line, and how they are read and written.
//!
//! [`super`] shows the format. The daemon writes pieces with [`write`], both clients read them with [`read`]. Lengths are
//! bounded, so a daemon that answers nonsense makes no client allocate more than [`PIECE_MAX_OCTETS`].

use std::io::{self, BufRead, ErrorKind, Read, Write};

/// The longest line ahead of a piece, in octets, line end included.
pub const PIECE_HEAD_MAX_OCTETS: usize = 16;
/// The most octets that a piece carries.
pub const PIECE_MAX_OCTETS: usize = 64 * 1024;

/// The line ahead of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Text for standard output follows, of this many octets.
    Output(usize),
    /// Text for standard error follows, of this many octets.
    Error(usize),
    /// The client may send the message that it announced.
    Go,
    /// The end of the answer, with the exit code.
    End(u8),
}

impl Piece {
    /// The line, without its line end.
    #[must_use]
    pub fn print(self) -> String {
        match self {
            Self::Output(octets) => format!("1 {octets}"),
            Self::Error(octets) => format!("2 {octets}"),
            Self::Go => "3 0".into(),
            Self::End(code) => format!("0 {code}"),
        }
    }

    /// Reads the line. `None` for anything else, and for a piece over [`PIECE_MAX_OCTETS`].
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, number) = line.split_once(' ')?;
        let octets = || number.parse().ok().filter(|octets| *octets <= PIECE_MAX_OCTETS);
        match kind {
            "1" => octets().map(Self::Output),
            "2" => octets().map(Self::Error),
            "3" => (number == "0").then_some(Self::Go),
            "0" => number.parse().ok().map(Self::End),
            _ => None,
        }
    }
}

/// Writes a piece with its octets, in one call. The caller makes the length in `piece` that of `octets`.
///
/// # Errors
/// The client has closed the connection, or does not read within the deadline of the stream.
pub fn write(mut stream: impl Write, piece: Piece, octets: &[u8]) -> io::Result<()> {
    let mut all = format!("{}\n", piece.print()).into_bytes();
    all.extend_from_slice(octets);
    stream.write_all(&all)
}

/// Reads a piece with its octets.
///
/// # Errors
/// The stream ends, its deadline passes, or the line is no piece.
pub fn read(stream: &mut dyn BufRead) -> io::Result<(Piece, Vec<u8>)> {
    let mut head = String::new();
    stream.take(PIECE_HEAD_MAX_OCTETS as u64).read_line(&mut head)?;
    let piece = head.strip_suffix('\n').and_then(Piece::parse).ok_or(ErrorKind::UnexpectedEof)?;
    let length = if let Piece::Output(length) | Piece::Error(length) = piece { length } else { 0 };
    let mut octets = vec![0; length];
    stream.read_exact(&mut octets)?;
    Ok((piece, octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_piece_that_makes_no_sense_is_an_error() {
        for answer in ["", "0", "0 66", "1 5\nabc", "1 99999999\n", "3 1\n", "HTTP/1.1 400 Bad Request\r\n"] {
            assert!(read(&mut answer.as_bytes()).is_err(), "{answer}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_read_as_they_are_written(kind in 0..4, number in 0..=255usize) {
            let (piece, octets) = match kind {
                0 => (Piece::End(number as u8), 0),
                1 => (Piece::Output(number * 256), number * 256),
                2 => (Piece::Go, 0),
                _ => (Piece::Error(number), number),
            };
            let mut stream = Vec::new();
            write(&mut stream, piece, &vec![b'x'; octets]).unwrap();
            prop_assert_eq!(read(&mut stream.as_slice()).unwrap(), (piece, vec![b'x'; octets]));
            prop_assert!(piece.print().len() < PIECE_HEAD_MAX_OCTETS);
        }
    }
}

//! Attachments of `mail -A`: the message becomes multipart/mixed (RFC 2046 §5.1.3), its text the first part, each file another
//! one in base64.

use super::failure;
use crate::mail::base64;
use crate::program::exit::{self, CommandFailure};
use crate::sys;
use crate::sys::file::{self, FileKind};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Octets of a line in base64: 76 characters (RFC 2045 §6.8).
const LINE_OCTETS: usize = 57;
/// Endings of names whose files are text.
const TEXTS: [&str; 6] = [".txt", ".log", ".csv", ".conf", ".cfg", ".diff"];

/// The files of a message, open: a file that can't be read stops the message before it has begun.
pub(super) struct Parts {
    boundary: String,
    charset: &'static str,
    files: Vec<(PathBuf, File)>,
}

/// Opens a file to be sent.
///
/// # Errors
/// It can't be read (66).
pub(super) fn open(path: &Path) -> Result<File, CommandFailure> {
    file::open(path, FileKind::Attachment).map(|(file, _)| file).map_err(|error| unreadable(path, &error))
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> CommandFailure {
    failure(exit::NO_INPUT, &format!("{}: {error}; nothing was sent", path.display()))
}

impl Parts {
    /// Opens the files. `None`: no file is attached. `text` is the beginning of the text, which tells its charset.
    ///
    /// # Errors
    /// One of them can't be read (66).
    pub fn open(paths: &[PathBuf], text: &[u8]) -> Result<Option<Self>, CommandFailure> {
        let files = paths.iter().map(|path| open(path).map(|file| (path.clone(), file)));
        let files: Vec<(PathBuf, File)> = files.collect::<Result<_, _>>()?;
        // A character may be cut at the end of the beginning.
        let is_utf8 = std::str::from_utf8(text).map_or_else(|error| error.error_len().is_none(), |_| true);
        let charset = if is_utf8 { "utf-8" } else { "unknown-8bit" };
        let boundary = format!("=_{:016x}{:016x}", sys::random(), sys::random());
        Ok((!files.is_empty()).then_some(Self { boundary, charset, files }))
    }

    /// The fields of the message, the end of its header section, and the beginning of the text.
    pub fn begin(&self) -> String {
        format!(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{0}\"\n\n--{0}\n\
             Content-Type: text/plain; charset={1}\nContent-Transfer-Encoding: 8bit\n\n",
            self.boundary, self.charset
        )
    }

    /// Writes the files, and the end of the message.
    ///
    /// # Errors
    /// A file can't be read to its end (66).
    pub fn write(self, take: &mut dyn FnMut(&[u8])) -> Result<(), CommandFailure> {
        for (path, mut file) in self.files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            take(format!("\n--{}\n{}", self.boundary, fields(&name)).as_bytes());
            encode(&mut file, take).map_err(|error| unreadable(&path, &error))?;
        }
        take(format!("\n--{}--\n", self.boundary).as_bytes());
        Ok(())
    }
}

/// The header section of a file's part.
fn fields(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let is_text = TEXTS.iter().any(|ending| lower.ends_with(ending));
    let kind = if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    let is_plain = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b" ._-+=@,()".contains(&octet));
    let name = if is_plain {
        format!("filename=\"{name}\"")
    } else {
        // RFC 2231 §4.
        let encode = |octet: u8| match octet {
            b'.' | b'-' | b'_' => char::from(octet).to_string(),
            _ if octet.is_ascii_alphanumeric() => char::from(octet).to_string(),
            _ => format!("%{octet:02X}"),
        };
        format!("filename*=utf-8''{}", name.bytes().map(encode).collect::<String>())
    };
    format!(
        "Content-Type: {kind}\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment;\n {name}\n\n"
    )
}

/// Passes a file on in lines of base64.
fn encode(file: &mut dyn Read, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut octets = Vec::with_capacity(LINE_OCTETS * 256);
    loop {
        octets.clear();
        // Whole lines but for the last one.
        file.take((LINE_OCTETS * 256) as u64).read_to_end(&mut octets)?;
        if octets.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for line in octets.chunks(LINE_OCTETS) {
            text.push_str(&base64::encode(line));
            text.push('\n');
        }
        take(text.as_bytes());
    }
}

//! Password hashes by SHA-crypt (Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", 2008), as crypt(3), `openssl
//! passwd` and `doveadm pw` make them.
//!
//! | part of `{SHA512-CRYPT}$6$rounds=5000$SALT$HASH` | meaning |
//! | --- | --- |
//! | `{SHA512-CRYPT}` | Dovecot's prefix, optional: also `{SHA256-CRYPT}`, `{CRYPT}` |
//! | `$6$` | SHA-512; `$5$`: SHA-256 |
//! | `rounds=5000$` | optional; 1000 to 1000000 |
//! | `SALT` | up to 16 characters |
//! | `HASH` | 86 letters of [`ALPHABET`], or 43 for SHA-256 |
//!
//! A malformed hash is reported when the file is read, not at a login. The cost of a check is bounded: the rounds are
//! capped, and the cost that grows with the square of the password's length ends at [`CREDENTIAL_MAX_OCTETS`].

use crate::smtp::sasl::{CREDENTIAL_MAX_OCTETS, Secret};
use openssl::sha::{Sha256, Sha512};
use std::fmt;

/// The rounds of a hash without `rounds=`.
const ROUNDS_DEFAULT: u32 = 5000;
/// A smaller number counts as this one, as the method says.
const ROUNDS_MIN: u32 = 1000;
/// The most rounds that are accepted: about half a second on a fast machine. The method allows a thousand times more,
/// but a line of a users file must not turn each login into a denial of service.
pub const ROUNDS_MAX: u32 = 1_000_000;
/// The longest salt in characters. Further ones are ignored, as the method says.
pub const SALT_MAX: usize = 16;
/// The letters of salts and hashes, six bits each.
pub const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Dovecot's names of the schemes, and how the rest has to begin.
const PREFIXES: [(&str, &str); 3] = [("{SHA512-CRYPT}", "$6$"), ("{SHA256-CRYPT}", "$5$"), ("{CRYPT}", "$")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HashScheme {
    Sha256,
    Sha512,
}

/// A password's hash, with everything that is needed to hash another password the same way.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: HashScheme,
    rounds: Option<u32>,
    salt: String,
    /// In the letters of [`ALPHABET`].
    hash: String,
}

impl PasswordHash {
    /// Parses `$6$SALT$HASH`, `$6$rounds=N$SALT$HASH`, both also with `$5$` and with one of Dovecot's prefixes.
    ///
    /// # Errors
    /// What is wrong and what to do. The text itself is not quoted: it may be a password in clear.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let known = PREFIXES.iter().find_map(|(prefix, begin)| {
            let rest = text.get(prefix.len()..).filter(|_| starts_with_ignoring_case(text, prefix))?;
            rest.starts_with(begin).then_some(rest)
        });
        let text = known.unwrap_or(text);
        let (scheme, rest) = [("$5$", HashScheme::Sha256), ("$6$", HashScheme::Sha512)]
            .iter()
            .find_map(|(begin, scheme)| Some((*scheme, text.strip_prefix(begin)?)))
            .ok_or("not a hash of $6$ or $5$; make one with pillarbox passwd")?;
        let (rounds, rest) = match rest.strip_prefix("rounds=") {
            Some(rest) => {
                let (number, rest) = rest.split_once('$').ok_or("the hash is cut off")?;
                (Some(rounds(number)?), rest)
            }
            None => (None, rest),
        };
        let (salt, hash) = rest.split_once('$').ok_or("the hash is cut off")?;
        let is_whole = salt.is_ascii()
            && hash.len() == scheme.hash_letters()
            && hash.bytes().all(|letter| ALPHABET.contains(&letter));
        if !is_whole {
            return Err("the hash is cut off, or has characters that don't belong to it");
        }
        let salt = salt.chars().take(SALT_MAX).collect();
        Ok(Self { scheme, rounds, salt, hash: hash.to_owned() })
    }

    /// Hashes a password by SHA-512 in 5000 rounds, the default that every system understands. `salt` must be
    /// [`SALT_MAX`] random letters of [`ALPHABET`].
    #[must_use]
    pub fn make(password: &[u8], salt: &str) -> Self {
        let empty =
            Self { scheme: HashScheme::Sha512, rounds: None, salt: salt.to_owned(), hash: String::new() };
        Self { hash: empty.hash_of(password), ..empty }
    }

    /// Whether this is the password. The time depends only on the password's length; a password that is too long is
    /// wrong at once.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        if password.len() > CREDENTIAL_MAX_OCTETS {
            return false;
        }
        let hash = self.hash_of(password);
        // The comparison panics on different lengths.
        hash.len() == self.hash.len() && openssl::memcmp::eq(hash.as_bytes(), self.hash.as_bytes())
    }

    fn hash_of(&self, password: &[u8]) -> String {
        let rounds = self.rounds.unwrap_or(ROUNDS_DEFAULT);
        encode(self.scheme, &digest(self.scheme, rounds, self.salt.as_bytes(), password))
    }
}

/// The form that [`PasswordHash::parse`] reads, without a prefix.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            HashScheme::Sha256 => "$5$",
            HashScheme::Sha512 => "$6$",
        })?;
        if let Some(rounds) = self.rounds {
            write!(f, "rounds={rounds}$")?;
        }
        write!(f, "{}${}", self.salt, self.hash)
    }
}

/// Does not print the hash: a weak password can be found from it.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

fn rounds(number: &str) -> Result<u32, &'static str> {
    let is_number = (1..=9).contains(&number.len()) && number.bytes().all(|octet| octet.is_ascii_digit());
    let rounds: u32 = number.parse().ok().filter(|_| is_number).ok_or("rounds= has no number")?;
    if rounds > ROUNDS_MAX {
        return Err("the hash has more than 1000000 rounds; make one with fewer");
    }
    Ok(rounds.max(ROUNDS_MIN))
}

impl HashScheme {
    /// The number of letters for 32 or 64 octets.
    const fn hash_letters(self) -> usize {
        match self {
            Self::Sha256 => 43,
            Self::Sha512 => 86,
        }
    }

    /// The digest of all parts in sequence. The result is overwritten when dropped, because the password can be found
    /// from it faster than from the hash.
    fn digest(self, parts: &[&[u8]]) -> Secret {
        Secret::new(match self {
            Self::Sha256 => {
                let mut digest = Sha256::new();
                parts.iter().for_each(|part| digest.update(part));
                digest.finish().to_vec()
            }
            Self::Sha512 => {
                let mut digest = Sha512::new();
                parts.iter().for_each(|part| digest.update(part));
                digest.finish().to_vec()
            }
        })
    }
}

/// The method; the numbers are the steps of its specification.
fn digest(scheme: HashScheme, rounds: u32, salt: &[u8], password: &[u8]) -> Secret {
    // 4–8.
    let b = scheme.digest(&[password, salt, password]);
    // 1–3, 9–12.
    let b_part = repeat(&b, password.len());
    let mut parts = vec![password, salt, b_part.octets()];
    let mut bits = password.len();
    while bits > 0 {
        parts.push(if bits & 1 == 1 { b.octets() } else { password });
        bits >>= 1;
    }
    let mut a = scheme.digest(&parts);
    // 13–16.
    let p = repeat(&scheme.digest(&vec![password; password.len()]), password.len());
    // 17–20.
    let times = 16 + usize::from(a.octets().first().copied().unwrap_or_default());
    let s = repeat(&scheme.digest(&vec![salt; times]), salt.len());
    // 21.
    for round in 0..rounds {
        let (first, last) = if round % 2 == 1 { (p.octets(), a.octets()) } else { (a.octets(), p.octets()) };
        let s: &[u8] = if round % 3 == 0 { &[] } else { s.octets() };
        let p: &[u8] = if round % 7 == 0 { &[] } else { p.octets() };
        a = scheme.digest(&[first, s, p, last]);
    }
    a
}

/// The digest repeated, `length` octets of it.
fn repeat(digest: &Secret, length: usize) -> Secret {
    let mut octets = Vec::with_capacity(length);
    octets.extend(digest.octets().iter().cycle().take(length));
    Secret::new(octets)
}

/// Step 22: three octets make four letters, lowest bits first. The octets come from the three parts of the digest;
/// their order rotates by one place with each group.
fn encode(scheme: HashScheme, digest: &Secret) -> String {
    let octet = |i: usize| u32::from(digest.octets().get(i).copied().unwrap_or_default());
    let (step, groups, last) = match scheme {
        HashScheme::Sha256 => (10, 10, octet(31) << 8 | octet(30)),
        HashScheme::Sha512 => (21, 21, octet(63)),
    };
    let mut text = String::with_capacity(scheme.hash_letters());
    let mut push = |mut bits: u32, letters: usize| {
        for _ in 0..letters {
            text.push(char::from(ALPHABET.get(bits as usize & 63).copied().unwrap_or_default()));
            bits >>= 6;
        }
    };
    for group in 0..groups {
        let at = |part: usize| octet(group + part * step);
        let turn = match scheme {
            HashScheme::Sha256 => [0, 1, 2].map(|i| (i + 2 * group) % 3),
            HashScheme::Sha512 => [0, 1, 2].map(|i| (i + group) % 3),
        };
        let bits = turn.iter().fold(0, |bits, &part| bits << 8 | at(part));
        push(bits, 4);
    }
    push(last, scheme.hash_letters() - groups * 4);
    text
}

#[cfg(test)]
mod tests;

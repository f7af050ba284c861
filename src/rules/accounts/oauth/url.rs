//! `https://` URLs as the configuration and replies have them, and forms (`application/x-www-form-urlencoded`).

use crate::smtp::sasl::Secret;
use std::fmt;

/// The longest URL in octets.
const URL_MAX_OCTETS: usize = 2048;
/// Port of HTTPS.
const PORT: u16 = 443;

/// An `https://` URL without user and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl {
    /// The name of the host, or an IPv4 address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
}

impl HttpsUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?} {what}"));
        let rest = text.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let Some(rest) = rest.and_then(|_| text.get(8..)) else {
            return wrong("does not begin with https://, without which others could read the secrets");
        };
        if text.len() > URL_MAX_OCTETS || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return wrong("is too long, or has characters that no URL has");
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or_default();
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(is_name) {
            return wrong("has no sound host name");
        }
        let Some(port) = port.parse().ok().filter(|&port| port > 0) else {
            return wrong("has no sound port");
        };
        if path.contains('#') {
            return wrong("has a part behind #, which is never sent");
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host: host.to_ascii_lowercase(), port, path })
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path } = self;
        if *port == PORT {
            write!(f, "https://{host}{path}")
        } else {
            write!(f, "https://{host}:{port}{path}")
        }
    }
}

/// A form: names and values, encoded as they are added.
#[derive(Debug)]
pub struct Form(Vec<u8>);

impl Form {
    /// A form with these fields; those with an empty value are left out.
    #[must_use]
    pub fn new(fields: &[(&str, &[u8])]) -> Self {
        // Never grows: a vector that moves leaves its old octets behind, and a form may hold a secret.
        let room = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let mut form = Self(Vec::with_capacity(room));
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            if !form.0.is_empty() {
                form.0.push(b'&');
            }
            form.push(name.as_bytes());
            form.0.push(b'=');
            form.push(value);
        }
        form
    }

    fn push(&mut self, octets: &[u8]) {
        for &octet in octets {
            match octet {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.0.push(octet),
                // `%20` in place of `+` is right in a query, too.
                _ => self.0.extend([b'%', hex(octet >> 4), hex(octet & 15)]),
            }
        }
    }

    /// The text of the form.
    #[must_use]
    pub fn into_secret(mut self) -> Secret {
        Secret::new(std::mem::take(&mut self.0))
    }

    /// The text of a form without secrets.
    #[must_use]
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.into_secret().octets()).into_owned()
    }
}

const fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }
}

/// The value of a field of a form, or of a query; `None`: it is not there, or malformed.
#[must_use]
pub fn field(form: &str, name: &str) -> Option<String> {
    let value = form.split('&').find_map(|part| part.split_once('=').filter(|(own, _)| *own == name));
    let mut octets = Vec::new();
    let mut rest = value?.1.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

fn digit(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read_as_they_are_printed() {
        for (text, expected) in [
            ("https://a.test/token", "https://a.test/token"),
            ("HTTPS://A.test", "https://a.test/"),
            ("https://a.test:443/x?y=z", "https://a.test/x?y=z"),
            ("https://127.0.0.1:8443?x", "https://127.0.0.1:8443/?x"),
        ] {
            let url = HttpsUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), expected);
            assert_eq!(HttpsUrl::parse(expected), Ok(url));
        }
        for (text, why) in [
            ("http://a.test/", "https://"),
            ("", "https://"),
            ("https:/", "https://"),
            ("https://", "host name"),
            ("https://joe@a.test/", "host name"),
            ("https://a b/", "characters"),
            ("https://a.test/\r\nX: y", "characters"),
            ("https://ä.test/", "characters"),
            ("https://a.test:0/", "port"),
            ("https://a.test:x/", "port"),
            ("https://a.test/#x", "#"),
        ] {
            let error = HttpsUrl::parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_form_is_encoded() {
        let form = Form::new(&[("a", b"x y&z=\xc3\xa9"), ("none", b""), ("b~", b"-._~/")]);
        assert_eq!(form.text(), "a=x%20y%26z%3D%C3%A9&b~=-._~%2F");
        assert_eq!(field("a=1&code=x%2Fy+z&b", "code").as_deref(), Some("x/y z"));
        for (form, name) in [("a=%2", "a"), ("a=%zz", "a"), ("a=%ff", "a"), ("ab=1", "a"), ("", "a")] {
            assert_eq!(field(form, name), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(value in "\\PC{1,20}", other in "\\PC{0,5}") {
            let form = Form::new(&[("x", other.as_bytes()), ("name", value.as_bytes())]).text();
            prop_assert_eq!(field(&form, "name"), Some(value));
        }

        #[test]
        fn any_text_is_a_url_or_none(text in "(https://)?[a-z:/?#@.0-9\\[\\]é-]{0,20}") {
            if let Ok(url) = HttpsUrl::parse(&text) {
                prop_assert_eq!(HttpsUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}

//! Where relayed mail goes next (RFC 5321 §2.3.10): to the MX hosts of a domain, or to hosts that the operator named.

use super::address::Domain;
use super::relay_login::RelayLogin;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Port of SMTP between servers (RFC 5321 §4.5.4.2).
pub const PORT_SMTP: u16 = 25;
/// Port of submission with STARTTLS (RFC 6409).
pub const PORT_SUBMISSION: u16 = 587;
/// Port of submission with TLS from the start (RFC 8314 §3.3).
pub const PORT_SUBMISSIONS: u16 = 465;
/// LMTP has no port of its own; RFC 2033 suggests 24, for private mail systems.
pub const PORT_LMTP: u16 = 24;

/// The next hop of a recipient. Messages with the same next hop share connections and pauses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// The MX hosts of the domain (RFC 5321 §5.1), or the address of the literal.
    Mx(Domain),
    /// Named hosts, tried in order; never empty.
    Smarthosts(Vec<Smarthost>),
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(domain) => domain.fmt(f),
            Self::Smarthosts(hosts) => {
                for (i, host) in hosts.iter().enumerate() {
                    write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// The protocol and the TLS policy for a smarthost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `smtp://`: TLS where offered.
    Smtp,
    /// `smtp+starttls://`: STARTTLS required, certificate verified.
    SmtpStartTls,
    /// `smtps://`: TLS from the start, certificate verified.
    Smtps,
    /// `lmtp://` (RFC 2033).
    Lmtp,
}

/// Every scheme with its name and default port.
const SCHEMES: [(&str, Scheme, u16); 4] = [
    ("smtp", Scheme::Smtp, PORT_SMTP),
    ("smtp+starttls", Scheme::SmtpStartTls, PORT_SUBMISSION),
    ("smtps", Scheme::Smtps, PORT_SUBMISSIONS),
    ("lmtp", Scheme::Lmtp, PORT_LMTP),
];

/// A host that accepts relayed mail: `smtps://smtp.example.com`, `smtp://10.0.0.9:2525`, `smtp://[2001:db8::1]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Smarthost {
    /// The protocol and the TLS policy.
    pub scheme: Scheme,
    /// Its name, or its address as a literal.
    pub host: Domain,
    /// Its TCP port.
    pub port: u16,
    /// The login there, for a host of `relay.smarthost` and `relay.senders`. `None`: the host of a route, which is shown no
    /// password.
    pub login: Option<Arc<RelayLogin>>,
}

impl Smarthost {
    /// Parses `SCHEME://HOST[:PORT]`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn parse(url: &str) -> Result<Self, String> {
        let schemes = || SCHEMES.map(|(name, ..)| format!("{name}://")).join(", ");
        let Some((scheme, rest)) = url.split_once("://") else {
            let likely = match url.rsplit_once(':') {
                Some((_, "587")) => "smtp+starttls",
                Some((_, "25")) => "smtp",
                _ => "smtps",
            };
            return Err(format!(
                "\"{url}\" has no scheme; write {likely}://{url}, or another of {}",
                schemes()
            ));
        };
        let Some(&(_, scheme, default_port)) =
            SCHEMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme))
        else {
            return Err(format!("\"{scheme}\" is not a scheme for mail; write one of {}", schemes()));
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(
                "no user or password belongs in the URL; use relay.username and relay.password_file".into()
            );
        }
        let (host, port) = split_port(authority)?;
        let host = parse_host(host).ok_or_else(|| {
            format!("\"{host}\" is neither a host name nor an address; write one such as smtp.example.com")
        })?;
        Ok(Self { scheme, host, port: port.unwrap_or(default_port), login: None })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => {
            (host, Some(rest.strip_prefix(':').ok_or("write a colon between address and port")?))
        }
        None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.contains(':') && !authority.starts_with('[') {
        return Err(format!("write an IPv6 address in brackets: [{authority}]"));
    }
    let port = port.map(|p| {
        p.parse::<u16>()
            .ok()
            .filter(|&p| p > 0)
            .ok_or(format!("\"{p}\" is not a port; write a number from 1 to 65535"))
    });
    Ok((host, port.transpose()?))
}

fn parse_host(host: &str) -> Option<Domain> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(Domain::Literal(ip)),
        Err(_) => Domain::parse(host).ok().filter(|d| d.name().is_some()),
    }
}

impl fmt::Display for Smarthost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            SCHEMES.iter().find(|(_, scheme, _)| *scheme == self.scheme).map_or("smtp", |(name, ..)| name);
        match &self.host {
            Domain::Literal(IpAddr::V6(ip)) => write!(f, "{name}://[{ip}]:{}", self.port)?,
            Domain::Literal(IpAddr::V4(ip)) => write!(f, "{name}://{ip}:{}", self.port)?,
            Domain::Name(host) => write!(f, "{name}://{host}:{}", self.port)?,
        }
        match &self.login {
            Some(login) if login.is_one_of_several && !login.username.is_empty() => {
                write!(f, " as {}", login.username)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_printed() {
        for (url, printed) in [
            ("smtps://smtp.example.com", "smtps://smtp.example.com:465"),
            ("SMTP+STARTTLS://smtp.example.com/", "smtp+starttls://smtp.example.com:587"),
            ("smtp://10.0.0.9:2525", "smtp://10.0.0.9:2525"),
            ("smtp://[::1]", "smtp://[::1]:25"),
            ("lmtp://[2001:db8::1]:2424", "lmtp://[2001:db8::1]:2424"),
        ] {
            let host = Smarthost::parse(url);
            assert_eq!(host.as_ref().map(ToString::to_string), Ok(printed.to_owned()), "{url}");
            assert_eq!(Smarthost::parse(printed), host);
        }
    }

    #[test]
    fn a_bad_url_says_what_to_write() {
        for (url, hint) in [
            ("smtp.example.com", "smtps://"),
            ("https://smtp.example.com", "not a scheme"),
            ("smtp://u:p@smtp.example.com", "relay.username"),
            ("smtp://::1", "brackets"),
            ("smtp://host:0", "not a port"),
            ("smtp://host:99999", "not a port"),
            ("smtp://", "neither a host name"),
            ("smtp://a b", "neither a host name"),
            ("smtp://[::1]25", "colon"),
        ] {
            let error = Smarthost::parse(url).unwrap_err();
            assert!(error.contains(hint), "{url}: {error}");
        }
    }
}

//! The submission host for an address, and the candidates to connect to it: rows of big providers, SRV records (RFC 6186,
//! RFC 8314 §5.1), and the order of the ports (RFC 8314 §3.3).
//!
//! A host without scheme and port is tried like this; a provider whose row says STARTTLS has 587 before 465:
//!
//! 1. TLS from the start, port 465;
//! 2. STARTTLS, port 587;
//! 3. STARTTLS, port 25;
//! 4. clear text, port 25, never with a password.
//!
//! The module only proposes; the caller tries. It queries no DNS. Only parsing a name can fail.

use crate::mail::address::Domain;
use crate::mail::next_hop::{PORT_SMTP, Scheme, Smarthost};

/// The providers: their domains, separated by blanks; their submission host; the scheme to try first.
pub const PROVIDERS: &[(&str, &str, Scheme)] = &[
    ("gmail.com googlemail.com", "smtp.gmail.com", Scheme::Smtps),
    ("outlook.com outlook.de hotmail.com live.com msn.com", "smtp-mail.outlook.com", Scheme::SmtpStartTls),
    // The customers bring their own domains.
    ("", "smtp.office365.com", Scheme::SmtpStartTls),
    ("icloud.com me.com mac.com", "smtp.mail.me.com", Scheme::SmtpStartTls),
    ("yahoo.com yahoo.de yahoo.fr yahoo.co.uk ymail.com", "smtp.mail.yahoo.com", Scheme::Smtps),
    ("aol.com", "smtp.aol.com", Scheme::Smtps),
    ("fastmail.com fastmail.fm", "smtp.fastmail.com", Scheme::Smtps),
    ("gmx.net gmx.de gmx.at gmx.ch", "mail.gmx.net", Scheme::Smtps),
    ("gmx.com", "mail.gmx.com", Scheme::Smtps),
    ("web.de", "smtp.web.de", Scheme::Smtps),
    ("t-online.de", "securesmtp.t-online.de", Scheme::Smtps),
    ("mailbox.org", "smtp.mailbox.org", Scheme::Smtps),
    ("posteo.de posteo.net", "posteo.de", Scheme::Smtps),
    ("proton.me protonmail.com pm.me", "smtp.protonmail.ch", Scheme::SmtpStartTls),
    ("zoho.com", "smtp.zoho.com", Scheme::Smtps),
    ("zoho.eu", "smtp.zoho.eu", Scheme::Smtps),
    ("yandex.com yandex.ru", "smtp.yandex.com", Scheme::Smtps),
];

/// The SRV records for submission, the better one first (RFC 8314 §5.1).
pub const SERVICES: [(&str, Scheme); 2] =
    [("_submissions._tcp", Scheme::Smtps), ("_submission._tcp", Scheme::SmtpStartTls)];

/// The submission host of the provider with this domain.
#[must_use]
pub fn host_of(domain: &str) -> Option<&'static str> {
    let is_theirs =
        |domains: &str| domains.split_ascii_whitespace().any(|their| their.eq_ignore_ascii_case(domain));
    PROVIDERS.iter().find(|(domains, ..)| is_theirs(domains)).map(|&(_, host, _)| host)
}

/// A smarthost as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The login name.
    pub login: Option<String>,
    /// The candidates to connect, in the order in which to try them; never empty. A host with a scheme has one way.
    pub candidates: Vec<Smarthost>,
}

impl Named {
    /// Parses `[SCHEME://][LOGIN@]HOST[:PORT]`. The text before the last `@` is the login, so it may be an address.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) =
            text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        let (login, host) = rest.rsplit_once('@').map_or((None, rest), |(login, host)| (Some(login), host));
        let parse = |scheme: &str| Smarthost::parse(&format!("{scheme}://{host}"));
        let login = login.map(str::to_owned);
        if let Some(scheme) = scheme {
            return Ok(Self { login, candidates: vec![parse(scheme)?] });
        }
        let (tls, starttls, clear) = (parse("smtps")?, parse("smtp+starttls")?, parse("smtp")?);
        let has_port = tls.port == clear.port;
        let name = clear.host.name().unwrap_or_default();
        let first = PROVIDERS.iter().find(|(_, host, _)| host.eq_ignore_ascii_case(name));
        let mut candidates = vec![tls, starttls.clone()];
        if first.is_some_and(|&(.., scheme)| scheme == Scheme::SmtpStartTls) {
            candidates.reverse();
        }
        if !has_port {
            candidates.push(Smarthost { port: PORT_SMTP, ..starttls });
        }
        candidates.push(clear);
        Ok(Self { login, candidates })
    }

    /// Removes the way without verified TLS, unless it was named explicitly: a password must not go there.
    pub fn keep_private(&mut self) {
        if self.candidates.len() > 1 {
            self.candidates.retain(|candidate| candidate.scheme != Scheme::Smtp);
        }
    }
}

/// The best host of SRV records in wire format (RFC 2782): the smallest priority, then the greatest weight, because
/// the choice is made once and shown to a person. `None`: there are no records, or the name `.` denies the service.
/// A record with a compressed name, which RFC 2782 forbids, is skipped.
#[must_use]
pub fn best_host<'a>(records: impl Iterator<Item = &'a [u8]>, scheme: Scheme) -> Option<Smarthost> {
    let ranked = records.filter_map(|data| {
        let (&[p0, p1, w0, w1, port0, port1], name) = data.split_first_chunk()?;
        let host = Domain::parse(&host_name(name)?).ok().filter(|host| host.name().is_some())?;
        let port = u16::from_be_bytes([port0, port1]);
        let rank = (u16::from_be_bytes([p0, p1]), u16::MAX - u16::from_be_bytes([w0, w1]));
        (port > 0).then_some((rank, Smarthost { scheme, host, port, login: None }))
    });
    ranked.min_by_key(|&(rank, _)| rank).map(|(_, host)| host)
}

/// Parses a name of labels with lengths (RFC 1035 §3.1).
fn host_name(mut data: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    loop {
        let (&length, rest) = data.split_first()?;
        if length == 0 {
            return Some(labels.join(".").to_ascii_lowercase());
        }
        let (label, rest) = rest.split_at_checked(length.into())?;
        labels.push(std::str::from_utf8(label).ok()?);
        data = rest;
    }
}

/// Whether a host belongs to the domain. DNS can be forged. A host of the domain itself is proven by its
/// certificate, but any other host has a valid certificate for its own name, so a person has to confirm it (RFC
/// 6186 §6).
#[must_use]
pub fn is_within(host: &Domain, domain: &str) -> bool {
    let Some(name) = host.name() else { return false };
    let at = name.len().checked_sub(domain.len());
    at.and_then(|at| name.split_at_checked(at)).is_some_and(|(before, end)| {
        end.eq_ignore_ascii_case(domain) && (before.is_empty() || before.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(text: &str) -> String {
        let named = Named::parse(text).unwrap();
        let candidates: Vec<String> = named.candidates.iter().map(ToString::to_string).collect();
        format!("{:?} {}", named.login, candidates.join(" "))
    }

    #[test]
    fn each_provider_has_one_row_and_a_host() {
        let mut domains = Vec::new();
        for (of, host, _) in PROVIDERS {
            for domain in of.split(' ').filter(|domain| !domain.is_empty()) {
                assert!(!domains.contains(&domain), "{domain}");
                assert_eq!(host_of(&domain.to_uppercase()), Some(*host));
                domains.push(domain);
            }
            assert!(candidates(host).contains(&format!("smtps://{host}:465")), "{host}");
        }
        assert_eq!((host_of("example.com"), host_of("")), (None, None));
    }

    #[test]
    fn a_bare_name_is_tried_by_each_port_and_a_full_one_as_it_is() {
        for (text, expected) in [
            (
                "mail.example",
                "None smtps://mail.example:465 smtp+starttls://mail.example:587 smtp+starttls://mail.example:25 smtp://mail.example:25",
            ),
            (
                "box@a.example@mail.example:2525",
                "Some(\"box@a.example\") smtps://mail.example:2525 smtp+starttls://mail.example:2525 smtp://mail.example:2525",
            ),
            ("smtps://joe@[::1]:99", "Some(\"joe\") smtps://[::1]:99"),
            ("smtp://10.0.0.9", "None smtp://10.0.0.9:25"),
            (
                "SMTP.office365.com",
                "None smtp+starttls://SMTP.office365.com:587 smtps://SMTP.office365.com:465 smtp+starttls://SMTP.office365.com:25 smtp://SMTP.office365.com:25",
            ),
        ] {
            assert_eq!(candidates(text), expected);
        }
        for text in ["", "a b", "https://a", "a:0", "joe@"] {
            assert!(Named::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_goes_by_verified_tls_unless_the_way_was_named() {
        let kept = |text| {
            let mut named = Named::parse(text).unwrap();
            named.keep_private();
            named.candidates.iter().filter(|candidate| candidate.scheme == Scheme::Smtp).count()
        };
        assert_eq!((kept("mail.example"), kept("mail.example:99"), kept("smtp://mail.example")), (0, 0, 1));
    }

    fn srv(priority: u16, weight: u16, port: u16, labels: &[&str]) -> Vec<u8> {
        let mut data = [priority, weight, port].map(u16::to_be_bytes).concat();
        for label in labels.iter().chain(&[""]) {
            data.push(label.len() as u8);
            data.extend(label.as_bytes());
        }
        data
    }

    fn best(records: &[Vec<u8>]) -> Option<String> {
        best_host(records.iter().map(Vec::as_slice), Scheme::Smtps).map(|host| host.to_string())
    }

    #[test]
    fn the_best_srv_record_is_taken() {
        let records = [
            srv(20, 9, 465, &["c", "example"]),
            srv(10, 1, 465, &["b", "example"]),
            srv(10, 5, 1465, &["A", "example"]),
        ];
        assert_eq!(best(&records).as_deref(), Some("smtps://a.example:1465"));
        for none in [srv(0, 0, 465, &[]), srv(0, 0, 0, &["a"]), vec![0; 5], vec![0, 1, 0, 1, 1, 1, 0xc0, 12]]
        {
            assert_eq!(best(&[none]), None);
        }
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn a_host_of_the_domain_is_known() {
        for (host, domain, expected) in [
            ("mail.example.com", "Example.com", true),
            ("example.com", "example.com", true),
            ("badexample.com", "example.com", false),
            ("mail.example.org", "example.com", false),
            ("com", "example.com", false),
        ] {
            assert_eq!(is_within(&Domain::parse(host).unwrap(), domain), expected, "{host}");
        }
        assert!(!is_within(&Domain::Literal([127, 0, 0, 1].into()), "0.0.1"));
    }

    proptest! {
        #[test]
        fn any_octets_are_a_host_or_none(data in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(host) = best_host([data.as_slice()].into_iter(), Scheme::Smtps) {
                prop_assert!(host.host.name().is_some());
            }
        }
    }
}

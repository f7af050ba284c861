//! What to change when a step fails: rows from the step, the host and the text of the failure to advice in plain words.
//!
//! The patterns are the words of the big providers, of Postfix, Exim and Exchange, and of pillarbox itself; `row` explains
//! how a pattern is read, and which of several rows counts. Wrong advice misleads, so a failure without a row gets none: the
//! reply itself is shown in any case.
//!
//! | rows in | are for | steps |
//! | --- | --- | --- |
//! | `login` | the login and the password | `Auth`, `Password` |
//! | `network` | the connection, DNS, TLS, and what receivers check | `Connect` to `Tls`, `Mx`, `Address`, `Policy`, `Ptr` to `Dmarc` |
//! | `own_host` | this host | `Config`, `Clock`, `Recipient`, `Route`, `Queue`, `Maildir` |
//! | `account`, `remote` | refusals of mail, which also decide whether a route pauses: see `refusal` | `Greeting` to `Rcpt`, `Send` |
//!
//! A test writes all rows into `docs/troubleshooting.md`; another one (`corpus`) has what providers say, and what is told
//! about it.
//!
//! In the output of `probe` the advice stands below the failed step:
//!
//! ```text
//! FAIL auth           0 ms  535 5.7.8 Error: authentication failed
//!                           The user name or the password is wrong: check relay.username …
//! ```

use super::row::{Hint, Peer, fits};
use super::step::Stage;
use super::{account, login, network, own_host, remote, token_hints};
use crate::mail::outcome::Diagnostic;

/// The advice for a step that failed, or deserves a warning, by its text and the host.
#[must_use]
pub fn hint(stage: Stage, text: &str, peer: Peer<'_>) -> Option<&'static str> {
    fits(rows(), stage, text, peer).map(|row| row.advice)
}

/// The advice for the reason of an outcome, or of the pause of a route: that of `probe` for the same failure.
#[must_use]
pub fn advice(diagnostic: &Diagnostic, peer: Peer<'_>) -> Option<&'static str> {
    hint(Stage::of(diagnostic)?, diagnostic.line(), peer)
}

/// All rows.
pub fn rows() -> impl Iterator<Item = &'static Hint> {
    login::ROWS.iter().chain(token_hints::ROWS).chain(network::ROWS).chain(own_host::ROWS).chain(refusals())
}

/// The rows for refusals of mail.
pub(super) fn refusals() -> impl Iterator<Item = &'static Hint> {
    account::ROWS.iter().chain(remote::ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::advice::row::PeerKind;

    fn at(stage: Stage, text: &str, name: &str) -> Option<&'static str> {
        hint(stage, text, Peer { name, kind: PeerKind::Unknown })
    }

    /// A text that only this alternative of a row has in mind, and the host that says it.
    fn said(all: &str) -> (String, String, PeerKind) {
        let (mut name, mut kind) = (String::new(), PeerKind::Unknown);
        let (mut start, mut rest) = ("", Vec::new());
        for part in all.split('&') {
            let part = part.trim_start_matches(['=', '~']);
            match part.chars().next() {
                Some('@') => name = part.replace('@', "smtp."),
                Some('%') => kind = if part == "%mx" { PeerKind::Mx } else { PeerKind::Smarthost },
                Some('^') => start = part.trim_start_matches('^'),
                _ => rest.push(part),
            }
        }
        (format!("{start} {}", rest.join(" ")).trim().to_owned(), name, kind)
    }

    #[test]
    fn every_alternative_of_a_row_leads_to_it() {
        let mut wrong = Vec::new();
        for row in rows() {
            assert!(!row.stages.is_empty() && row.advice.ends_with('.'), "{row:?}");
            assert!(!row.when.chars().any(char::is_uppercase), "texts are in lower case: {row:?}");
            let parts: Vec<&str> = row.when.split(['|', '&']).collect();
            assert!(
                row.when.is_empty()
                    || parts.iter().all(|part| !part.trim_matches(['^', '@', '%', '=', '~']).is_empty()),
                "{row:?}"
            );
            for &stage in row.stages {
                for all in row.when.split('|') {
                    let (text, name, kind) = said(all);
                    let found = hint(stage, &text, Peer { name: &name, kind });
                    if found != Some(row.advice) {
                        wrong.push(format!(
                            "{stage:?} {all}: {}\n    not {}",
                            found.unwrap_or("none"),
                            row.advice
                        ));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The order of the rows is of no account: no two rows match equally well what is known to be said.
    #[test]
    fn the_order_of_the_rows_decides_nothing() {
        use crate::rules::advice::corpus::CORPUS;
        let mut shuffled: Vec<&'static Hint> = rows().collect();
        let mut seed = 1_u64;
        for _ in 0..5 {
            for at in (1..shuffled.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(at, (seed >> 33) as usize % (at + 1));
            }
            for said in CORPUS {
                for &stage in said.stages {
                    let (text, peer) = (crate::rules::advice::row::words(said.text), said.peer());
                    let row = fits(shuffled.iter().copied(), stage, said.text, peer);
                    assert_eq!(row.map(|row| row.advice), hint(stage, said.text, peer), "{}", said.text);
                    let best = row.and_then(|row| row.weight(stage, &text, peer));
                    let equal = rows().filter(|row| row.weight(stage, &text, peer) == best);
                    let advice: Vec<&str> = equal.map(|row| row.advice).collect();
                    assert!(advice.iter().all(|it| *it == advice[0]), "{}: {advice:#?}", said.text);
                }
            }
        }
    }

    #[test]
    fn hosts_are_found_by_parts_of_their_names() {
        let advice = |host: &str| at(Stage::Auth, "535 Incorrect", host).unwrap();
        assert!(advice("smtp.mail.YAHOO.com").contains("app password"));
        assert!(advice("smtp.fastmail.com").contains("app password"));
        assert!(advice("email-smtp.eu-west-1.amazonaws.com").contains("Amazon"));
        assert!(advice("mail.gmx.net").contains("POP3"));
        assert!(advice("smtp.example.com").contains("user name or the password"));
        assert_eq!(at(Stage::Rset, "500", ""), None);
    }

    #[test]
    fn real_words_lead_to_what_is_wrong() {
        for (stage, text, words) in [
            (
                Stage::Auth,
                "535-5.7.8 Username and Password not accepted. Learn more at https://support.google.com",
                "app password",
            ),
            (
                Stage::Auth,
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
                "Microsoft",
            ),
            (Stage::Connect, "not by IPv4: [192.0.2.1]: Network is unreachable (os error 101)", "IPv4"),
            (
                Stage::Connect,
                "connect to mx [192.0.2.1:25]: from 192.0.2.7: Cannot assign requested address (os error 99)",
                "relay.source",
            ),
            (
                Stage::Address,
                "the smarthost smtp.gmial.com can't be resolved: failed to lookup address information: Name or service not known",
                "spelling",
            ),
            (
                Stage::Address,
                "the smarthost a.example can't be resolved: failed to lookup address information: Temporary failure in name resolution",
                "name server",
            ),
            (Stage::Config, "/x.toml: can't be read: No such file or directory (os error 2)", "setup"),
            (Stage::Policy, "mx.b.example is not named by the MTA-STS policy of b.example", "policy"),
            (
                Stage::Greeting,
                "connection to smart.example broke while waiting for the greeting: the host wants a client certificate \
                 (tlsv13 alert certificate required) (port 465)",
                "relay.certificate",
            ),
            (
                Stage::Tls,
                "TLS with mx: the host does not accept the client certificate (sslv3 alert certificate expired)",
                "the fingerprint",
            ),
            (
                Stage::Config,
                "no client certificate for h: \"/k\" is encrypted; name the file",
                "relay.key_password_file",
            ),
            (
                Stage::Tls,
                "TLS with mx: no TLSA record is for the certificate; its TLSA records require TLS (DANE)",
                "TLSA",
            ),
            (Stage::Ptr, "the public address of this host is unknown: it has 10.0.0.5", "NAT"),
            (Stage::Dmarc, "box.example: no DMARC record", "Publish"),
            (Stage::Maildir, "/var/mail/joe: Permission denied (os error 13)", "user"),
            (
                Stage::Queue,
                "no daemon answers: /run/x: No such file or directory (os error 2)",
                "Start the daemon",
            ),
            (Stage::Queue, "the daemon has 2 messages for b.example that wait: the link is down", "link up"),
            (Stage::Queue, "the daemon has 2 messages for b.example that wait: connect to b", "queue flush"),
            (
                Stage::Send,
                "bounced id=1 status=5.7.26 reply=\"550 5.7.26 unauthenticated, SPF and DKIM\"",
                "SPF",
            ),
        ] {
            let advice =
                at(stage, text, if text.contains("google") { "smtp.gmail.com" } else { "smtp.example" })
                    .unwrap_or_else(|| panic!("nothing for {text}"));
            assert!(advice.contains(words), "{text}: {advice}");
        }
    }
}

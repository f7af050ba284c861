//! What to change when a step of a probe fails: rows from the step and the text of the failure to advice in plain words.
//!
//! The patterns are the words of the big providers, of Postfix, Exim and Exchange, and of pillarbox itself; `row`
//! explains how a pattern is read. Wrong advice misleads. So the first matching row counts, rows for one provider stand
//! before general ones, and a failure without a row gets no advice: the reply itself is shown in any case. Replies to
//! mail have their rows in `refusal`, because delivery decides by them, too.
//!
//! | rows for | steps |
//! | --- | --- |
//! | the login and the password | `Auth`, `Password` |
//! | the connection, DNS, TLS | `Connect`, `Mx`, `Address`, `Policy`, `StartTls`, `Tls`, `Greeting` |
//! | checks of receivers | `Ptr`, `Spf`, `Dkim`, `Dmarc` |
//! | this host | `Config`, `Clock`, `Recipient`, `Route`, `Queue`, `Maildir` |
//!
//! A test writes all rows into `docs/troubleshooting.md`.
//!
//! In the output of `probe` the advice stands below the failed step:
//!
//! ```text
//! FAIL auth           0 ms  535 5.7.8 Error: authentication failed
//!                           The user name or the password is wrong: check relay.username …
//! ```

use super::refusal::{LOCKED_ACCOUNT, REFUSALS};
use super::row::{Hint, fits};
use super::step::Stage;

/// The advice for a step that failed, or deserves a warning, by its text and the host's name.
#[must_use]
pub fn hint(stage: Stage, text: &str, host: &str) -> Option<&'static str> {
    let row = fits(HINTS, stage, text, host).or_else(|| fits(REFUSALS, stage, text, host));
    row.map(|row| row.advice)
}

/// All rows, in the order in which they are tried.
pub fn rows() -> impl Iterator<Item = &'static Hint> {
    HINTS.iter().chain(REFUSALS)
}

const AUTH: &[Stage] = &[Stage::Auth];
const CONNECT: &[Stage] = &[Stage::Connect];
const DNS: &[Stage] = &[Stage::Mx, Stage::Address, Stage::Policy];
/// Every step that queries DNS.
const LOOK_UPS: &[Stage] =
    &[Stage::Mx, Stage::Address, Stage::Policy, Stage::Spf, Stage::Dkim, Stage::Dmarc, Stage::Ptr];
const TLS: &[Stage] = &[Stage::StartTls, Stage::Tls];
/// Every step at which a host may say what it thinks of the client certificate: in TLS 1.3 it does so after the handshake.
const SHOWN: &[Stage] = &[Stage::StartTls, Stage::Tls, Stage::Greeting, Stage::Ehlo];
const DISK: &[Stage] = &[Stage::Queue, Stage::Maildir];

const fn row(stages: &'static [Stage], when: &'static str, advice: &'static str) -> Hint {
    Hint { stages, about: None, when, advice }
}

/// Rows for failures on this host, on the way, or before MAIL; the first that matches counts.
const HINTS: &[Hint] = &[
    row(
        &[Stage::Config],
        "client certificate",
        "Correct relay.certificate, relay.key or relay.key_password_file: pillarbox check says which.",
    ),
    row(
        &[Stage::Config],
        "",
        "Correct what is named here, or let pillarbox setup write a new file; pillarbox check finds all mistakes.",
    ),
    row(&[Stage::Recipient], "", "Write one address, such as me@example.com."),
    // The login.
    row(
        AUTH,
        "^external 5",
        "The host takes the client certificate for none of its accounts: its operator has to enter it there; if it stands \
         for several accounts, name one in relay.username.",
    ),
    row(
        AUTH,
        "5.7.139|5.7.30|basic authentication is|smtpclientauthentication is disabled",
        "Microsoft accepts no password here: ask the administrator to allow authenticated SMTP for this mailbox, or use \
         OAuth (relay.auth = \"xoauth2\" and a relay.password_command that prints a token).",
    ),
    row(AUTH, LOCKED_ACCOUNT.0, LOCKED_ACCOUNT.1),
    row(
        AUTH,
        "534&5.7.9|application-specific|app-specific|app password|@gmail&535|@google&535",
        "This account needs an app password: turn on two-step verification, make an app password in the account's \
         security settings (Google: myaccount.google.com/apppasswords), and put it into the password file.",
    ),
    row(
        AUTH,
        "@yahoo&535|@aol&535|@mail.me.com&535|@icloud&535|@fastmail&535|@messagingengine&535",
        "This provider wants an app password, not the account's own: make one in the security settings of the \
         account and put it into the password file.",
    ),
    row(
        AUTH,
        "@gmx&535|@web.de&535|@mail.com&535",
        "Allow POP3 and IMAP in the settings of the mailbox: otherwise this provider accepts no password from programs.",
    ),
    row(
        AUTH,
        "@amazonaws&535",
        "Amazon SES needs SMTP credentials, which are not the access keys: make them in the console of SES.",
    ),
    row(AUTH, "@sendgrid&535", "Set relay.username = \"apikey\"; the password is the API key."),
    row(
        AUTH,
        "^534|^538|encryption required",
        "The host wants TLS before the password: use smtps:// or smtp+starttls:// in relay.smarthost.",
    ),
    row(AUTH, "^4", "The host cannot check logins at the moment: try again later."),
    row(
        AUTH,
        "^535|5.7.8|credentials|authentication fail",
        "The user name or the password is wrong: check relay.username (most providers want the whole address) and the \
         password file; many providers want an app password.",
    ),
    row(
        AUTH,
        "is not sent to",
        "The password is sent only within verified TLS: use smtps:// or smtp+starttls:// in relay.smarthost.",
    ),
    row(
        AUTH,
        "offers no auth",
        "This port accepts no logins: use smtps://HOST (465) or smtp+starttls://HOST (587), or leave relay.username out.",
    ),
    row(
        AUTH,
        "none of them can be used here",
        "Set relay.auth = \"auto\", or to a mechanism that the host offers.",
    ),
    // The password.
    row(
        &[Stage::Password],
        "can be read by|others|permission",
        "Make the password file readable for the daemon's user only: chown pillarbox FILE; chmod 600 FILE.",
    ),
    row(
        &[Stage::Password],
        "no such file|os error 2",
        "Write the password into the named file, or set relay.password_file to another one.",
    ),
    row(&[Stage::Password], "utf-16", "Save the password file as UTF-8."),
    row(&[Stage::Password], "is empty", "Write the password into the first line of the file."),
    row(
        &[Stage::Password],
        "password_command",
        "Run the command by hand as the daemon's user: it must print the password within ten seconds.",
    ),
    // The connection.
    row(
        CONNECT,
        ":25]: timed out",
        "Port 25 is blocked, most often by the internet provider: set relay.smarthost to a host with port 465 or 587, or ask \
         the provider to open port 25.",
    ),
    row(
        CONNECT,
        "not by ipv6|network is unreachable&[[|no route to host&[[|cannot assign&[[",
        "This host has no IPv6 route: add one, or set relay.family = \"ipv4\".",
    ),
    row(CONNECT, "not by ipv4", "This host has no IPv4 route: add one, or set relay.family = \"ipv6\"."),
    row(
        CONNECT,
        "network is unreachable|no route to host|network is down",
        "This host has no route: check its link, address and default route.",
    ),
    row(
        CONNECT,
        "from &assign",
        "This host does not have the address that relay.source names: correct it, or leave it out.",
    ),
    row(
        CONNECT,
        "refused",
        "Nothing listens on this port: check host name and port in relay.smarthost or relay.routes.",
    ),
    row(
        CONNECT,
        "timed out",
        "Nothing answers there: check host name and port, and whether a firewall on the way drops the connection.",
    ),
    // DNS.
    row(
        LOOK_UPS,
        "127.0.0.1:53&refused",
        "There is no name server: /etc/resolv.conf is empty, or names this host, which runs none. Name one there, or in \
         dns.servers.",
    ),
    row(
        LOOK_UPS,
        "no answer|within|temporary failure in name resolution|servfail|cannot ask|refused",
        "The name server does not answer: check /etc/resolv.conf or dns.servers, and the link.",
    ),
    row(DNS, "null mx", "This domain accepts no mail: check the spelling of the address."),
    row(
        DNS,
        "smarthost&this host itself|comes back to this host",
        "Mail for this domain leads back to this host: put the domain into local.domains, or correct its MX or \
         relay.smarthost.",
    ),
    row(
        DNS,
        "smarthost&not known|smarthost&nxdomain|smarthost&no address|smarthost&resolved",
        "DNS does not know the smarthost: check the spelling in relay.smarthost.",
    ),
    row(
        DNS,
        "nxdomain|does not exist|not a domain|not ascii",
        "The domain does not exist: check the spelling of the address.",
    ),
    row(DNS, "no address", "The host has no usable address: check relay.family, and the host's DNS records."),
    row(
        DNS,
        "mta-sts|tlsa",
        "The receiving domain's policy forbids this host: its operator has to correct it; relay.mta_sts and relay.dane \
         switch the checks off.",
    ),
    // TLS.
    row(
        SHOWN,
        "wants a client certificate|want of a client certificate|no client certificate",
        "The host wants a client certificate: name it in relay.certificate, and its key in relay.key.",
    ),
    row(
        SHOWN,
        "not accept the client certificate|because of the client certificate|client certificate not trusted",
        "The host does not take the client certificate: its operator has to trust the issuer or the fingerprint; or name \
         another one in relay.certificate.",
    ),
    row(
        TLS,
        "has not the fingerprint",
        "The host has another certificate than relay.fingerprint says: if its operator renewed it, write the new \
         fingerprint; if nobody did, another host answers in its place.",
    ),
    row(
        TLS,
        "expired|not yet valid",
        "Check the date of this host: if it is wrong, set the clock (NTP); if it is right, the host's operator has to renew \
         the certificate.",
    ),
    row(
        TLS,
        "self-signed|self signed|unable to get local issuer|unable to get issuer|unable to verify",
        "The certificate has an unknown issuer: set relay.ca_file to a file with the issuer's certificate, or install the \
         package ca-certificates; for a host of your own set relay.fingerprint.",
    ),
    row(
        TLS,
        "hostname mismatch|ip address mismatch",
        "The certificate is for another name: use that name in relay.smarthost, or set relay.tls_name to it.",
    ),
    row(
        TLS,
        "wrong version number|packet length too long|record layer failure",
        "This port does not start with TLS: use smtp+starttls:// (587), or port 465 with smtps://.",
    ),
    row(
        TLS,
        "unsupported protocol|protocol version|no protocols|too small|legacy|no shared cipher|handshake failure",
        "The two hosts have no TLS version in common: pillarbox needs TLS 1.2 or newer. The host's operator has to update \
         it; in a trusted network smtp:// works without TLS.",
    ),
    row(
        TLS,
        "tlsa",
        "The certificate does not match the domain's TLSA records: the domain's operator has to correct one of them.",
    ),
    row(
        TLS,
        "does not offer starttls",
        "Use smtps:// if this is port 465, or another port or host: without TLS nothing is sent there.",
    ),
    row(
        &[Stage::Greeting],
        "port 465",
        "This port speaks TLS from the start: use smtps:// in relay.smarthost.",
    ),
    row(
        &[Stage::Greeting],
        "no smtp",
        "The server on this port does not speak SMTP: check host name and port.",
    ),
    // Steps that hang, or that the host cuts off.
    row(
        &[Stage::Ehlo],
        "timed out",
        "The host greets and then says nothing, as a firewall that inspects SMTP or a wrong MTU on the way does: try another \
         port, or a smaller MTU.",
    ),
    row(
        TLS,
        "timed out",
        "The host stops at the TLS handshake, as a firewall that inspects it or a wrong MTU on the way does: try another \
         port, or a smaller MTU.",
    ),
    row(
        AUTH,
        "timed out",
        "The host does not answer the login, as when its user database is down: try again later, then ask its operator.",
    ),
    row(
        &[Stage::Mail, Stage::Rcpt],
        "timed out",
        "The host does not answer this command, as when it waits for a check of its own: the queue tries again; if it stays \
         so, ask its operator.",
    ),
    row(
        &[Stage::Greeting],
        "connection closed|reset",
        "The host closes the connection before it greets: it may refuse the address of this host, or have too many \
         connections. Try again later, or send by a smarthost.",
    ),
    row(
        &[Stage::Ehlo, Stage::StartTls, Stage::Auth],
        "connection closed|reset",
        "The host or a firewall on the way cut the connection at this step: try another port, or ask the host's operator.",
    ),
    row(
        &[Stage::Mail, Stage::Rcpt],
        "connection closed|reset",
        "The host cut the connection at this command, as filters do with clients that they distrust: the queue tries again; \
         if it stays so, send by a smarthost, or ask the host's operator.",
    ),
    row(
        &[Stage::Tls],
        "connection closed|reset|unexpected eof",
        "The host cut the connection within the TLS handshake: check the port, and whether a firewall on the way inspects \
         TLS.",
    ),
    row(
        &[Stage::Clock, Stage::Route, Stage::Queue, Stage::Maildir],
        "hangs, so the probe ends",
        "A disk, a user database or the delivery agent hangs: look for network file systems and NSS services that do not \
         answer.",
    ),
    row(
        &[Stage::Password],
        "hangs, so the probe ends",
        "The file or the relay.password_command hangs: read the file, or run the command, by hand as the daemon's user.",
    ),
    row(
        &[Stage::Ptr, Stage::Spf, Stage::Dkim, Stage::Dmarc, Stage::Mx, Stage::Policy, Stage::Address],
        "hangs, so the probe ends",
        "The look-up of a name hangs: check /etc/resolv.conf or dns.servers, and the link.",
    ),
    row(
        &[
            Stage::Ptr,
            Stage::Spf,
            Stage::Dkim,
            Stage::Dmarc,
            Stage::Mx,
            Stage::Policy,
            Stage::Address,
            Stage::Connect,
        ],
        "time of the probe is over",
        "The steps before took all of the time: look at the slow ones above.",
    ),
    row(
        &[Stage::Greeting],
        "timed out",
        "The host accepts connections and sends no greeting, as a firewall or mail proxy in between does: try another port.",
    ),
    // Checks of receivers.
    row(
        &[Stage::Ptr],
        "no name|does not lead back",
        "Ask the internet provider for a PTR record with the name of this host, whose address must be this one, or send by \
         a smarthost: big providers refuse mail without it.",
    ),
    row(
        &[Stage::Spf, Stage::Ptr],
        "public address",
        "This host is behind NAT: publish its public address for hostname in DNS, so that this can be checked.",
    ),
    row(
        &[Stage::Spf],
        "no spf record",
        "Publish a TXT record of the sender's domain, such as \"v=spf1 a mx -all\".",
    ),
    row(
        &[Stage::Spf],
        "forbids|softfail|neutral",
        "Add the address of this host to the SPF record (ip4:, ip6:), or send by the smarthost of that domain.",
    ),
    row(
        &[Stage::Dkim],
        "no [[dkim]]",
        "Make a key, set up [[dkim]], and publish the key: receivers trust signed mail more.",
    ),
    row(
        &[Stage::Dkim],
        "no txt record|another key",
        "Publish the public half of the key in the named TXT record, or correct domain and selector in [[dkim]].",
    ),
    row(
        &[Stage::Dmarc],
        "no dmarc record",
        "Publish a TXT record _dmarc of the sender's domain, such as \"v=DMARC1; p=none\": big providers require one.",
    ),
    row(
        &[Stage::Dmarc],
        "neither spf nor dkim",
        "Set up [[dkim]] for the sender's domain, add this host to its SPF record, or send by its smarthost: otherwise \
         receivers refuse this mail.",
    ),
    // This host.
    row(&[Stage::Clock], "", "Set the clock (NTP): with a wrong date no certificate is valid."),
    row(
        &[Stage::Route],
        "no such user",
        "No user has this name: check the spelling, or add the name to local.users, local.aliases or local.catch_all. If \
         the mailbox is elsewhere, its domain must not be local: set hostname (by default /etc/mailname) to a name that only \
         this host has, or set local.domains.",
    ),
    row(
        &[Stage::Route],
        "its domain is local",
        "This host treats the domain as its own: set hostname (by default /etc/mailname) to a name that only this host \
         has, or list in local.domains the domains whose mail stays here.",
    ),
    row(&[Stage::Route], "part of a loop", "The aliases form a loop: correct local.aliases."),
    row(&[Stage::Route], "", "Check local.aliases and relay.routes."),
    row(&[Stage::Maildir], "local.quota", "Make room in the mailbox, or raise local.quota."),
    row(DISK, "no space|free|full|quota", "Make room on the disk, or lower limits.free_space."),
    row(
        DISK,
        "permission|denied|read-only",
        "The daemon's user must be able to write there: see pillarbox check; run probe as root or as that user.",
    ),
    row(
        &[Stage::Queue],
        "no daemon",
        "Start the daemon (pillarbox serve), or let cron run: pillarbox queue run.",
    ),
    row(&[Stage::Queue], "link is down", "The daemon was told that the link is down: run pillarbox link up."),
    row(
        &[Stage::Queue],
        "metered",
        "The daemon was told that the link is metered, and sends only urgent mail: run pillarbox queue flush, or link up.",
    ),
    row(
        &[Stage::Queue],
        "paus|wait",
        "The daemon waits before the next attempt; once the cause is gone, run pillarbox queue flush.",
    ),
    row(
        &[Stage::Maildir],
        "locked the mbox",
        "Another program has locked this mbox: mail waits until the lock is released. A stale NAME.lock is ignored after five minutes.",
    ),
    row(
        &[Stage::Maildir],
        "mbox",
        "An mbox must be a file that its user owns and can read and write, with only one name: chown or chmod it, or move it away.",
    ),
    row(
        &[Stage::Maildir],
        "",
        "Check local.maildir: each part of the path must be a directory and not a link.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A text that only this alternative of a row has in mind, and the host that says it.
    fn said(all: &str) -> (String, String) {
        let (hosts, words): (Vec<&str>, Vec<&str>) = all.split('&').partition(|part| part.starts_with('@'));
        let start = words.iter().find_map(|part| part.strip_prefix('^')).unwrap_or_default();
        let rest: Vec<&str> = words.into_iter().filter(|part| !part.starts_with('^')).collect();
        (format!("{start} {}", rest.join(" ")).trim().to_owned(), hosts.concat().replace('@', "smtp."))
    }

    #[test]
    fn every_row_has_something_that_leads_to_it_and_no_part_can_never_be_there() {
        for row in rows() {
            assert!(!row.stages.is_empty() && row.advice.ends_with('.'), "{row:?}");
            assert!(!row.when.chars().any(char::is_uppercase), "texts are in lower case: {row:?}");
            let parts: Vec<&str> = row.when.split(['|', '&']).collect();
            assert!(
                row.when.is_empty() || parts.iter().all(|part| !part.trim_matches(['^', '@']).is_empty()),
                "{row:?}"
            );
            let leads = |&stage: &Stage| {
                row.when.split('|').any(|all| {
                    let (text, host) = said(all);
                    hint(stage, &text, &host) == Some(row.advice)
                })
            };
            assert!(row.stages.iter().all(leads), "earlier rows take all that is for this one: {row:?}");
        }
    }

    #[test]
    fn hosts_are_found_by_parts_of_their_names() {
        let advice = |host: &str| hint(Stage::Auth, "535 Incorrect", host).unwrap();
        assert!(advice("smtp.mail.YAHOO.com").contains("app password"));
        assert!(advice("smtp.fastmail.com").contains("app password"));
        assert!(advice("email-smtp.eu-west-1.amazonaws.com").contains("Amazon"));
        assert!(advice("mail.gmx.net").contains("POP3"));
        assert!(advice("smtp.example.com").contains("user name or the password"));
        assert_eq!(hint(Stage::Rset, "500", ""), None);
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
            let advice = hint(stage, text, "smtp.gmail.com").unwrap_or_else(|| panic!("nothing for {text}"));
            assert!(advice.contains(words), "{text}: {advice}");
        }
    }
}

//! Makes steps of what the probe observes while delivery's code runs.
//!
//! | delivery reports | the probe reports |
//! | --- | --- |
//! | hosts, policy, addresses, password | an ok step each |
//! | a connection | an ok step, then a connection to the other family of addresses |
//! | a positive reply | an ok step |
//! | a refused MAIL or RCPT | a failure, or a warning if the next smarthost is asked |
//! | another negative reply | a pending failure: delivery may go on with HELO, another mechanism, or in clear |
//! | a certificate that is not accepted | its names, issuer, dates and fingerprint in the failure that follows, and the line to write |
//! | a TLS session | the certificate: name, issuer, end date; a warning if it ends within ten days |
//! | a failure without a reply | a pending failure at the step that it belongs to |
//!
//! A failure that delivery reports after a negative reply repeats that reply, and is not reported twice.

use super::{Mark, Walk};
use crate::engine::outbound::context::{Observer, TraceEvent};
use crate::engine::outbound::hosts::Host;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::net::resolver::{DnsRecord, Rtype};
use crate::rules::accounts::secret_shape::flaw;
use crate::rules::advice::refusal::SmarthostRefusal;
use crate::rules::advice::row::PeerKind;
use crate::rules::advice::step::Stage;
use crate::rules::tls::certificate::Certificate;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::smtp::client::Waiting;
use crate::smtp::reply::{Reply, Severity};
use std::net::SocketAddr;
use std::time::Duration;

/// How long the probe waits for a connection to the other family of addresses.
const OTHER_FAMILY_TIMEOUT: Duration = Duration::from_secs(5);
/// What the marks of a firewall in a reply mean.
const REWRITTEN: &str = "a firewall on the way rewrites SMTP";
/// The longest reply in a step, in characters.
const TEXT_MAX_CHARS: usize = 300;
/// A certificate with fewer days left gets a warning. Let's Encrypt clients renew at 30.
const DAYS_LEFT_MIN: i32 = 10;

impl Observer for Walk<'_> {
    fn see(&self, sight: TraceEvent<'_>) {
        match sight {
            TraceEvent::Begins(Stage::Quit) if !self.state.borrow().is_ready => {}
            TraceEvent::Begins(stage) => self.begin(stage),
            // Smarthosts are part of the reported route.
            TraceEvent::Hosts(hosts) if hosts.iter().any(|host| host.smarthost.is_some()) => {
                self.state.borrow_mut().kind = PeerKind::Smarthost;
            }
            TraceEvent::Hosts(hosts) => {
                self.state.borrow_mut().kind = PeerKind::Mx;
                let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
                self.pass(Stage::Mx, &names.join(", "));
            }
            TraceEvent::Policy(policy) => {
                let text = match policy {
                    TlsPolicy::None => return,
                    TlsPolicy::Encrypted => "TLSA records require TLS (DANE)",
                    TlsPolicy::Dane(_) => "TLSA records name the certificate (DANE)",
                    TlsPolicy::Sts => "MTA-STS requires verified TLS",
                    TlsPolicy::StsTesting => "MTA-STS is tested",
                };
                self.pass(Stage::Policy, &text);
            }
            TraceEvent::Addresses(host, addresses) => {
                let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                let list = list.join(", ");
                match self.searched(host) {
                    Some(found) => {
                        let text = format!("{}: {list}, found as {found} in the search domain", host.name);
                        self.report(Stage::Address, Mark::Warn, &text);
                    }
                    None => self.pass(Stage::Address, &format_args!("{}: {list}", host.name)),
                }
                let mut state = self.state.borrow_mut();
                (state.host, state.addresses) = (host.name.clone(), addresses.to_vec());
                state.refused = None;
                let login = host.smarthost.as_ref().and_then(|smarthost| smarthost.login.as_deref());
                state.is_pinned = login.is_some_and(|login| login.fingerprint.is_some());
                state.has_password = false;
            }
            TraceEvent::Password(username, password) => {
                let mut state = self.state.borrow_mut();
                (state.has_password, state.password_flaw) = (true, flaw(password.octets()));
                drop(state);
                self.pass(Stage::Password, &format_args!("found, for the login {username}"));
            }
            TraceEvent::Connected(address) => self.connected(address),
            TraceEvent::Reply(waiting, reply) => self.reply(waiting, reply),
            TraceEvent::Tls { is_verified, certificate } => self.certificate(is_verified, certificate),
            TraceEvent::Refused { certificate } => {
                self.state.borrow_mut().refused = Certificate::parse(certificate, self.world.now.wall);
            }
            TraceEvent::Failed(diagnostic) => self.failed(diagnostic),
        }
    }

    fn is_curious(&self) -> bool {
        true
    }
}

impl Walk<'_> {
    /// The name under which the system found a smarthost with a whole name, if it had to add a search domain.
    fn searched(&self, host: &Host) -> Option<String> {
        let by_system = host.smarthost.is_some() && self.site.settings.dns.servers.is_empty();
        let is_whole = host.name.contains('.') && host.name.parse::<std::net::IpAddr>().is_err();
        let answer =
            (by_system && is_whole).then(|| self.world.resolver.by_system(&host.name).ok()).flatten()?;
        answer.searched(&host.name).map(str::to_owned)
    }

    /// What explains a host without a usable address: a filter of names answers with 0.0.0.0.
    fn filtered(&self, text: &str) -> Option<&'static str> {
        let (_, rest) = text.split_once("the host ")?;
        let (name, _) = rest.split_once(" has no address that can be used")?;
        let is_unspecified =
            |record: &DnsRecord| matches!(record, DnsRecord::Address(ip) if ip.is_unspecified());
        let records = self.world.resolver.records(name, Rtype::A).ok()?.records;
        records.iter().any(is_unspecified).then_some(", because the answer is 0.0.0.0")
    }

    /// Reports the connection, and tries the other family of addresses, too, for a few seconds.
    fn connected(&self, address: SocketAddr) {
        self.pass(Stage::Connect, &format_args!("[{}]:{}", address.ip(), address.port()));
        let is_other = |other: &&SocketAddr| other.is_ipv4() != address.is_ipv4();
        let mut others: Vec<_> = self.state.borrow().addresses.iter().filter(is_other).copied().collect();
        if others.is_empty() {
            return;
        }
        let source = &self.site.settings.relay.source;
        let since = self.state.borrow().stage;
        self.begin(Stage::Connect);
        match self.world.connect.connect(&mut others, source, OTHER_FAMILY_TIMEOUT) {
            Ok((other, _)) => {
                self.pass(Stage::Connect, &format_args!("[{}]:{}", other.ip(), other.port()));
            }
            Err(failures) => {
                let reasons: Vec<String> =
                    failures.iter().map(|(other, error)| format!("[{}]: {error}", other.ip())).collect();
                let family = if address.is_ipv4() { "IPv6" } else { "IPv4" };
                let text = format!("not by {family}: {}", reasons.join(", "));
                self.report(Stage::Connect, Mark::Warn, &text);
            }
        }
        self.state.borrow_mut().stage = since;
    }

    fn reply(&self, waiting: Waiting, reply: &Reply) {
        let stage = Stage::from(waiting);
        let text: String = reply.to_string().chars().take(TEXT_MAX_CHARS).collect();
        let (is_ready, is_refused) = (self.state.borrow().is_ready, self.state.borrow().is_refused);
        match (stage, reply.severity()) {
            (_, Severity::Intermediate) => {}
            (Stage::Quit, _) if !is_ready => {}
            // It follows from the first refusal.
            (Stage::Rcpt, Severity::Transient | Severity::Permanent) if is_refused => {}
            (Stage::Greeting | Stage::Ehlo, Severity::Success) if is_rewritten(&text) => {
                self.state.borrow_mut().is_rewritten = true;
                self.report(stage, Mark::Warn, &format_args!("{text}; {REWRITTEN}"));
            }
            (_, Severity::Success) => self.pass(stage, &text),
            (Stage::Rset | Stage::Quit, _) => self.report(stage, Mark::Warn, &text),
            (Stage::Mail | Stage::Rcpt, severity) => {
                self.state.borrow_mut().is_refused = true;
                self.refuse(waiting, text, severity);
            }
            // Delivery may go on with HELO, another mechanism, or in clear text.
            (_, severity) => {
                let step = self.step(stage, Mark::Fail, text, Some(class(severity)));
                self.state.borrow_mut().pending = Some(step);
            }
        }
    }

    /// Reports a refused MAIL or RCPT. The rule by which delivery would go to the next smarthost decides on the mark.
    fn refuse(&self, waiting: Waiting, text: String, severity: Severity) {
        let mut state = self.state.borrow_mut();
        if let Some(host) = &state.replaceable {
            let is_submission = host.login.is_some();
            let local = Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, waiting.to());
            let remote = Some(state.host.clone());
            let diagnostic = &Diagnostic { reply: Some(text.clone()), remote, ..local };
            let refusal = SmarthostRefusal { diagnostic, is_null_sender: false, is_submission };
            state.gives_way = refusal.of_route().is_some();
        }
        let mark = if state.gives_way { Mark::Warn } else { Mark::Fail };
        drop(state);
        let step = self.step(Stage::from(waiting), mark, text, Some(class(severity)));
        self.end(step);
    }

    fn certificate(&self, is_verified: bool, certificate: &[u8]) {
        let how = if is_verified { "verified" } else { "not verified, because no setting requires it" };
        let Some(shown) = Certificate::parse(certificate, self.world.now.wall) else {
            return self.pass(Stage::Tls, &how);
        };
        let Certificate { name, issuer, ends, days_left, .. } = shown;
        // The end of a certificate that is known by its fingerprint does not count.
        let is_late = days_left < DAYS_LEFT_MIN && !self.state.borrow().is_pinned;
        let soon = if is_late { format!(", in {days_left} days") } else { String::new() };
        let text = format!("certificate of {name} by {issuer}, ends {ends}{soon}; {how}");
        self.report(Stage::Tls, if is_late { Mark::Warn } else { Mark::Ok }, &text);
    }

    fn failed(&self, diagnostic: &Diagnostic) {
        let mut text = diagnostic.line().to_owned();
        let pending = self.state.borrow_mut().pending.take();
        if let Some(step) = pending {
            if diagnostic.reply.as_ref().is_some_and(|reply| reply.starts_with(&step.text)) {
                // The reply was reported before.
                self.state.borrow_mut().pending = Some(step);
                return;
            }
            self.end(super::Step { mark: Mark::Warn, ..step });
        }
        let stage = match (&diagnostic.reply, self.state.borrow().stage) {
            // EHLO did not offer what should come next.
            (None, Stage::Ehlo) if text.contains("STARTTLS") => Stage::StartTls,
            (None, Stage::Ehlo) if text.contains("AUTH") || text.contains("password") => Stage::Auth,
            (_, stage) => stage,
        };
        let refused = self.state.borrow_mut().refused.take();
        if let Some(refused) = refused {
            let is_smarthost = self.state.borrow().kind == PeerKind::Smarthost;
            let line = refused.line(&text).filter(|_| is_smarthost);
            let line = line.map(|line| format!("; if it is the host's own, write {line}"));
            text = format!("{text}; it shows a {refused}{}", line.unwrap_or_default());
        }
        if stage == Stage::Tls {
            text.push_str(&format!("; the clock of this host says {}", self.world.now.wall.to_rfc5322()));
        }
        if stage == Stage::Address {
            text.push_str(self.filtered(&text).unwrap_or_default());
        }
        let state = self.state.borrow();
        if state.is_rewritten && matches!(stage, Stage::Ehlo | Stage::StartTls | Stage::Auth) {
            text.push_str(&format!("; {REWRITTEN}"));
        }
        if stage == Stage::Greeting
            && let Some(address) = state.addresses.first()
        {
            text.push_str(&format!(" (port {})", address.port()));
        }
        drop(state);
        let step = self.step(stage, Mark::Fail, text, Some(diagnostic.status.class));
        self.state.borrow_mut().pending = Some(step);
    }
}

/// Whether a firewall has overwritten what the host said: the greeting with asterisks, a keyword of EHLO with the letter X
/// ("SMTP fixup" and "ESMTP inspection" of Cisco PIX and ASA).
fn is_rewritten(text: &str) -> bool {
    text.contains("****") || text.split_whitespace().any(|word| word.starts_with("XXXX"))
}

const fn class(severity: Severity) -> crate::mail::status::Class {
    use crate::mail::status::Class;
    match severity {
        Severity::Success | Severity::Intermediate => Class::Success,
        Severity::Transient => Class::Transient,
        Severity::Permanent => Class::Permanent,
    }
}

//! What receivers check when this host sends by itself, without a smarthost: the PTR name of its address, and SPF, DKIM
//! and DMARC of the sender's domain.
//!
//! | step | ok | warning | failure |
//! | --- | --- | --- | --- |
//! | `ptr` | a name of the address has that address (iprev, RFC 8601 §2.7.3) | no such name, or no public address is known | |
//! | `spf` | pass for the address | softfail, neutral, no record | fail |
//! | `dkim` | DNS has the public key of this host's signature | no signature is configured; or no record, and SPF passes | no record, or another key |
//! | `dmarc` | SPF or DKIM passes, or the policy asks for no action | no record | neither passes, and the policy asks to reject or to quarantine |
//!
//! The resolver is that of delivery. A look-up that fails is a warning: it proves nothing about what receivers see.
//! Behind NAT this host cannot see its public address; the addresses of its own name take their place.

use super::{Mark, Walk};
use crate::mail::address::Domain;
use crate::net::resolver::{DnsErrorKind, DnsRecord, Resolve, Rtype};
use crate::rules::advice::authenticity::{self, Ask, Spf};
use crate::rules::advice::step::Stage;
use crate::rules::message::dkim;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that stand for the Internet when the source address is looked up: those of the DNS root server k.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(193, 0, 14, 129)), IpAddr::V6(Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1))];

/// The resolver in the form that the rules ask.
struct Dns<'a>(&'a dyn Resolve);

impl Dns<'_> {
    /// The records of a name as text. Empty if the name does not exist.
    ///
    /// # Errors
    /// The look-up fails; in words.
    fn data(&self, name: &str, rtype: Rtype) -> Result<Vec<String>, String> {
        match self.0.records(name, rtype) {
            Ok(set) => Ok(set
                .records
                .into_iter()
                .filter_map(|record| match record {
                    DnsRecord::Data(octets) => Some(String::from_utf8_lossy(&octets).into_owned()),
                    DnsRecord::Address(_) | DnsRecord::Mx(_) => None,
                })
                .collect()),
            Err(error) if error.kind == DnsErrorKind::NoSuchDomain => Ok(Vec::new()),
            Err(error) => Err(error.text),
        }
    }
}

impl Ask for Dns<'_> {
    fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        self.data(name, Rtype::TXT)
    }

    /// Those of DNS alone: receivers do not see `/etc/hosts`, where Debian gives a host's name the address 127.0.1.1.
    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let mut addresses = Vec::new();
        for rtype in [Rtype::A, Rtype::AAAA] {
            let records = match self.0.records(name, rtype) {
                Ok(set) => set.records,
                Err(error) if error.kind == DnsErrorKind::NoSuchDomain => Vec::new(),
                Err(error) => return Err(error.text),
            };
            addresses.extend(records.into_iter().filter_map(|record| match record {
                DnsRecord::Address(ip) => Some(ip),
                DnsRecord::Data(_) | DnsRecord::Mx(_) => None,
            }));
        }
        Ok(addresses)
    }

    fn exchanges(&self, name: &str) -> Result<Vec<String>, String> {
        use crate::mail::mx::MxAnswer;
        match self.0.mx(name) {
            Ok(MxAnswer::Hosts(hosts)) => Ok(hosts.into_iter().map(|mx| mx.exchange).collect()),
            Ok(MxAnswer::Implicit | MxAnswer::Null) => Ok(Vec::new()),
            Err(error) if error.kind == DnsErrorKind::NoSuchDomain => Ok(Vec::new()),
            Err(error) => Err(error.text),
        }
    }
}

impl Walk<'_> {
    /// Makes the four checks for the domain of the sender.
    pub(super) fn check_sender(&self, domain: &Domain) {
        let dns = Dns(self.world.resolver);
        let Some(domain) = domain.name().and_then(|_| domain.to_ascii()) else { return };
        let domain = domain.to_ascii_lowercase();
        self.begin(Stage::Ptr);
        let addresses = self.public_addresses(&dns);
        match &addresses {
            Ok(addresses) => addresses.iter().for_each(|&ip| self.check_name(&dns, ip)),
            Err(text) => self.report(Stage::Ptr, Mark::Warn, &text),
        }
        self.begin(Stage::Spf);
        let passes = addresses.is_ok_and(|addresses| self.check_spf(&dns, &domain, &addresses));
        self.begin(Stage::Dkim);
        let is_signed = self.check_keys(&dns, &domain, passes);
        self.begin(Stage::Dmarc);
        match authenticity::dmarc(&dns, &domain) {
            Ok(None) => self.report(Stage::Dmarc, Mark::Warn, &format_args!("{domain}: no DMARC record")),
            Ok(Some((policy, at))) => {
                let text = format!("{at}: p={policy}");
                if passes || is_signed || policy == "none" {
                    return self.pass(Stage::Dmarc, &text);
                }
                let text = format!("{text}, and neither SPF nor DKIM speaks for mail of {domain} from here");
                self.report(Stage::Dmarc, Mark::Fail, &text);
            }
            Err(text) => self.report(Stage::Dmarc, Mark::Warn, &text),
        }
    }

    /// The addresses of this host that receivers see: its own, or behind NAT those of its name.
    ///
    /// # Errors
    /// No public address is known; in words.
    fn public_addresses(&self, dns: &Dns<'_>) -> Result<Vec<IpAddr>, String> {
        let source = &self.site.settings.relay.source;
        let own: Vec<IpAddr> = if source.is_empty() {
            let found = FAR.into_iter().filter_map(|far| (self.world.own_address)(far));
            found.filter(|&ip| self.site.allows_family(ip)).collect()
        } else {
            source.clone()
        };
        let public = |list: Vec<IpAddr>| -> Vec<IpAddr> {
            list.into_iter().filter(|&ip| authenticity::is_public(ip)).collect()
        };
        let shown: Vec<String> = own.iter().map(ToString::to_string).collect();
        let found = public(own);
        if !found.is_empty() {
            return Ok(found);
        }
        let named = self.site.hostname.to_ascii().map(|name| dns.addresses(&name).unwrap_or_default());
        let found = public(named.unwrap_or_default());
        if found.is_empty() {
            let shown = if shown.is_empty() { "no address".to_owned() } else { shown.join(", ") };
            return Err(format!("the public address of this host is unknown: it has {shown}"));
        }
        Ok(found)
    }

    /// Checks that a PTR name of an address has that address (iprev, RFC 8601 §2.7.3).
    fn check_name(&self, dns: &Dns<'_>, ip: IpAddr) {
        match dns.data(&authenticity::reverse_name(ip), Rtype::PTR) {
            Ok(names) if names.is_empty() => {
                self.report(Stage::Ptr, Mark::Warn, &format_args!("{ip} has no name"));
            }
            Ok(names) => {
                let leads_back =
                    |name: &&String| dns.addresses(name).is_ok_and(|addresses| addresses.contains(&ip));
                match names.iter().find(leads_back) {
                    Some(name) => self.pass(Stage::Ptr, &format_args!("{ip} is {name}")),
                    None => {
                        let text = format!("{ip} is {}, which does not lead back to it", names.join(", "));
                        self.report(Stage::Ptr, Mark::Warn, &text);
                    }
                }
            }
            Err(text) => self.report(Stage::Ptr, Mark::Warn, &text),
        }
    }

    /// Reports the SPF result of each address; returns whether all of them pass.
    fn check_spf(&self, dns: &Dns<'_>, domain: &str, addresses: &[IpAddr]) -> bool {
        let mut passes = true;
        for &ip in addresses {
            let verdict = authenticity::spf(dns, domain, ip);
            passes &= verdict == Spf::Pass;
            let (mark, text) = match verdict {
                Spf::Pass => (Mark::Ok, format!("{domain} lets {ip} send")),
                Spf::Fail => {
                    self.report(Stage::Spf, Mark::Fail, &format_args!("{domain} forbids {ip} to send"));
                    continue;
                }
                Spf::SoftFail => (Mark::Warn, format!("{domain} does not know {ip} (softfail)")),
                Spf::Neutral => (Mark::Warn, format!("{domain} says nothing about {ip} (neutral)")),
                Spf::None => (Mark::Warn, format!("{domain} has no SPF record")),
                Spf::Unknown(text) => (Mark::Warn, text),
            };
            self.report(Stage::Spf, mark, &text);
        }
        passes
    }

    /// Reports the DKIM keys of this host; returns whether a signature with one of them would verify. A missing record is a
    /// warning if SPF passes, because DMARC is satisfied without the signature (RFC 7489 §4.2).
    fn check_keys(&self, dns: &Dns<'_>, domain: &str, spf_passes: bool) -> bool {
        let keys = dkim::choose(&self.site.dkim, domain);
        if keys.is_empty() {
            self.report(Stage::Dkim, Mark::Warn, &format_args!("no [[dkim]] signs mail of {domain}"));
            return false;
        }
        let mut is_signed = false;
        for key in keys {
            let name = key.record_name();
            match dns.texts(&name) {
                Ok(texts) if texts.iter().any(|text| key.is_published_by(text)) => {
                    is_signed = true;
                    self.pass(Stage::Dkim, &format_args!("{name} has the key"));
                }
                Ok(texts) if texts.is_empty() => {
                    let mark = if spf_passes { Mark::Warn } else { Mark::Fail };
                    self.report(Stage::Dkim, mark, &format_args!("{name} has no TXT record"));
                }
                Ok(_) => self.report(Stage::Dkim, Mark::Fail, &format_args!("{name} has another key")),
                Err(text) => self.report(Stage::Dkim, Mark::Warn, &text),
            }
        }
        is_signed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::world::{World, dns_error};
    use crate::net::resolver::RecordSet;

    #[test]
    fn a_name_that_does_not_exist_has_no_address_and_a_failure_is_one() {
        let world = World::new("");
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let found = RecordSet { records: vec![DnsRecord::Address(address)], is_secure: false };
        let missing = |kind| Err(dns_error(kind));
        world.net.records("a.example", Rtype::A, Ok(found));
        world.net.records("a.example", Rtype::AAAA, missing(DnsErrorKind::NoSuchDomain));
        world.net.records("b.example", Rtype::A, missing(DnsErrorKind::Temporary));
        let dns = Dns(&*world.net);
        assert_eq!(dns.addresses("a.example"), Ok(vec![address]));
        assert_eq!(dns.addresses("b.example"), Err("Temporary in the table".to_owned()));
    }
}

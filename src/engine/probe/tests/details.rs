//! Advice with the detail that it needs: a firewall that rewrites SMTP, the target of an alias, a filter of names, a search
//! domain.

use super::probe::{FAR, names, now, probe, smart, world};
use crate::engine::host::site::{Site, current};
use crate::engine::probe::walk::{self, Mark, ProbeContext, ProbeNews, ProbeTime, Step};
use crate::engine::tests::world::*;
use crate::mail::mx::MxAnswer;
use crate::net::resolver::{
    DnsError, DnsErrorKind, DnsRecord, RecordSet, Resolve, Rtype, SystemAnswer, SystemLookUp,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_firewall_that_rewrites_smtp_is_named() {
    let world = world("relay.smarthost = \"smtp+starttls://smart.example:2525\"\n");
    smart(
        &world.net,
        Host::new(|stage, _| match stage {
            Stage::Greeting => reply("220 ****************************************"),
            Stage::Ehlo => reply("250-smart.example\r\n250-XXXXXXXA\r\n250 SIZE 1000000"),
            _ => Say::Yes,
        }),
    );
    let (steps, failures) = probe(&world, FAR);
    assert!(names(&steps).contains("greeting=warn ehlo=warn starttls=FAIL"), "{}", names(&steps));
    for step in steps.iter().filter(|step| step.mark != Mark::Ok) {
        assert!(step.hint.unwrap().contains("A firewall on the way rewrites SMTP"), "{step:?}");
    }
    assert!(failures[0].text.contains("a firewall on the way rewrites SMTP"), "{failures:?}");
}

#[test]
fn an_alias_that_leads_nowhere_names_its_target() {
    let here = world("");
    let aliases = here.state().parent().unwrap().join("aliases");
    std::fs::write(aliases, "list: alice, gone\n").unwrap();
    let (_, failures) = probe(&here, "list");
    let text = "gone@box.example, a member of the alias list@box.example: no such user here";
    assert_eq!(failures.iter().map(|step| step.text.as_str()).collect::<Vec<_>>(), [text]);

    let dns = world("");
    let text = "far.example is a CNAME of gone.example, which does not exist (NXDOMAIN)".to_owned();
    dns.net.mx_answer("far.example", Err(DnsError { kind: DnsErrorKind::NoSuchDomain, text }));
    let (_, failures) = probe(&dns, FAR);
    assert!(failures[0].text.contains("gone.example"), "{failures:?}");
    assert!(failures[0].hint.unwrap().contains("correct the CNAME record"), "{failures:?}");
}

#[test]
fn a_name_that_a_filter_answers_is_told() {
    let world = world("relay.smarthost = \"smtp://ads.example:25\"\n");
    world.net.address("ads.example", &[]);
    let records = vec![DnsRecord::Address("0.0.0.0".parse().unwrap())];
    world.net.records("ads.example", Rtype::A, Ok(RecordSet { records, is_secure: false }));
    let (steps, failures) = probe(&world, FAR);
    assert_eq!(names(&failures), "address=FAIL", "{steps:#?}");
    assert!(
        failures[0].text.ends_with("has no address that can be used, because the answer is 0.0.0.0"),
        "{failures:?}"
    );
    assert!(failures[0].hint.unwrap().contains("blocks this name"), "{failures:?}");
}

/// The tables of a world, and a system that knows the smarthost in its search domain alone.
struct Searching<'a>(&'a Net);

impl Resolve for Searching<'_> {
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        Resolve::mx(self.0, domain)
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        Resolve::addresses(self.0, host)
    }

    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError> {
        Resolve::records(self.0, name, rtype)
    }

    fn system_look_up(&self) -> SystemLookUp {
        |host| {
            let name = Some(format!("{host}.home.lan"));
            Ok(SystemAnswer { addresses: vec![IpAddr::from([127, 0, 0, 1])], name })
        }
    }
}

#[test]
fn an_answer_of_a_search_domain_is_told() {
    let world = world("relay.smarthost = \"smtp://smtp.gmial.com:2525\"\n");
    let site = current(&world.site);
    let mut settings = site.settings.clone();
    settings.dns.servers.clear();
    let site = Arc::new(Site::new(settings, site.hostname.clone(), None));
    let context = ProbeContext {
        resolver: &Searching(&world.net),
        connect: &*world.net,
        maildirs: &world.intake.maildirs,
        now: now(),
        own_address: &|_| None,
        time: ProbeTime::within(Duration::from_secs(60)),
    };
    let mut steps: Vec<Step> = Vec::new();
    let verdict = walk::probe(&site, &context, FAR, &mut |news| {
        if let ProbeNews::Ended(step) = news {
            steps.push(step);
        }
    });
    assert!(verdict.is_accepted(), "{steps:#?}");
    let step = steps.iter().find(|step| step.mark == Mark::Warn).unwrap();
    assert!(step.text.contains("found as smtp.gmial.com.home.lan in the search domain"), "{step:?}");
    assert!(step.hint.unwrap().contains("search domain was added"), "{step:?}");
}

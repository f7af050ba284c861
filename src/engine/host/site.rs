//! The configuration of this host as one immutable value, which every part of the engine shares.
//!
//! A reload makes a new [`Site`] and replaces the one behind the [`SiteHandle`]. Connections and attempts that have
//! begun keep the one that they began with, so no message is judged by two configurations.
//!
//! | from the settings | made here | decides |
//! | --- | --- | --- |
//! | `hostname`, `local`, `relay` | [`RoutePolicy`] | where mail goes |
//! | `relay.trusted_networks`, `relay.domains` | [`AdmissionPolicy`] | who may relay |
//! | `rewrite` | [`RewritePolicy`] | the sender addresses of outgoing mail |
//! | `queue.retry`, `queue.lifetime` | [`RetryPolicy`] | the times of attempts |
//! | `limits`, `hostname` | [`ServerTerms`] | the offer and the limits of a session |
//! | `local.aliases`, `auth.users`, `tls` | files that are read here | aliases, logins, the certificate |
//!
//! Settings that need no conversion are used from [`Site::settings`].

use super::aliases_file::Aliases;
use super::certificate::Tls;
use super::client_certificate::ClientConnectors;
use super::commands::Commands;
use super::logins::Logins;
use crate::config::{Addressee, Listener, ListenerKind, Relay, RelayFamily, Settings};
use crate::mail::address::{Domain, Mailbox};
use crate::mail::next_hop::Smarthost;
use crate::mail::relay_login::RelayLogin;
use crate::net::tls_client::Connector;
use crate::net::transport;
use crate::rules::message::dkim::DkimKey;
use crate::rules::message::rewrite::{Others, RewritePolicy};
use crate::rules::pacing::retry::RetryPolicy;
use crate::rules::routing::admission::AdmissionPolicy;
use crate::rules::routing::next_hop::{Exception, ExceptionTarget, NextHops};
use crate::rules::routing::route::{
    Accounts, Destination, LocalUsers, LookupFailed, RoutePolicy, Routed, SystemAccount,
};
use crate::smtp::command::ClientName;
use crate::smtp::extension::Offer;
use crate::smtp::server::{Home, ServerTerms};
use crate::store::StoreError;
use crate::store::maildir::MaildirPath;
use crate::sys::confinement::Confined;
use crate::sys::lock::Lock;
use crate::sys::user;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The most Maildirs with `users = "any"`: otherwise any sender could create directories without limit.
const ANY_USERS_MAX: usize = 1000;

/// The handle of the current configuration; a reload replaces the value behind it.
pub type SiteHandle = Arc<Lock<Arc<Site>>>;

/// The current configuration of a handle.
#[must_use]
pub fn current(handle: &SiteHandle) -> Arc<Site> {
    Arc::clone(&handle.lock())
}

/// The host as configured.
#[derive(Debug)]
pub struct Site {
    /// All settings.
    pub settings: Settings,
    /// The name of this host.
    pub hostname: Domain,
    /// Its name in EHLO.
    pub client_name: ClientName,
    /// Who may relay.
    pub admission: AdmissionPolicy,
    /// Where mail goes.
    pub routes: RoutePolicy,
    /// The sender addresses of mail that leaves.
    pub rewrite: RewritePolicy,
    /// The aliases.
    pub aliases: Aliases,
    /// When an attempt is repeated.
    pub retry: RetryPolicy,
    /// The certificate; `None`: no TLS for clients.
    pub tls: Option<Tls>,
    /// Who may log in.
    pub logins: Logins,
    /// TLS towards next hops.
    pub connector: Connector,
    /// The same with client certificates.
    pub client_connectors: ClientConnectors,
    /// The keys that sign this host's own mail; empty until the caller has read them.
    pub dkim: Vec<DkimKey>,
    /// The process that runs the commands of the settings; `None` until the caller has started it.
    pub commands: Option<Arc<Commands>>,
    /// What confines this process; nothing until the caller has done it.
    pub confined: Confined,
    /// The terms of a server's session.
    pub terms: Arc<ServerTerms>,
    /// The addresses and ports of the listeners: an MX host with one of them is this host.
    pub listens_on: Vec<SocketAddr>,
}

impl Site {
    /// Makes the policies from the settings.
    #[must_use]
    pub fn new(settings: Settings, hostname: Domain, tls: Option<Tls>) -> Self {
        let listens_on: Vec<SocketAddr> =
            settings.listeners.iter().flat_map(|l| l.address.iter().copied()).collect();
        let own_addresses = listens_on.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
        let mut routes = route_policy(&settings, &hostname, own_addresses);
        let rewrite = rewrite_policy(&settings, &hostname);
        routes.identities = identities(&settings, &rewrite);
        let (limits, queue) = (&settings.limits, &settings.queue);
        let terms = ServerTerms {
            hostname: hostname.to_string(),
            home: Home { of_senders: hostname.clone(), of_recipients: routes.home().clone() },
            offer: Offer {
                message_size_octets: limits.message_size,
                recipients: limits.recipients as usize,
                starttls: tls.is_some(),
                ..Offer::default()
            },
            recipients: limits.recipients as usize,
            errors: limits.errors,
        };
        let takes_logins = |listener: &Listener| {
            matches!(listener.kind, ListenerKind::Submission | ListenerKind::Submissions)
        };
        let logins = settings.auth.users.as_deref().filter(|_| settings.listeners.iter().any(takes_logins));
        let logins = logins.map(Logins::load).unwrap_or_default();
        let admission = AdmissionPolicy {
            trusted_networks: settings.relay.trusted_networks.clone(),
            relay_domains: settings.relay.domains.clone(),
        };
        let retry = RetryPolicy { steps: queue.retry.clone(), lifetime: queue.lifetime };
        Self {
            client_name: client_name(&hostname, &listens_on),
            hostname,
            admission,
            routes,
            rewrite,
            aliases: Aliases::load(settings.local.aliases.as_deref()),
            retry,
            tls,
            connector: Connector::new(settings.relay.ca_file.clone()),
            client_connectors: ClientConnectors::default(),
            logins,
            dkim: Vec::new(),
            commands: None,
            confined: Confined::default(),
            terms: Arc::new(terms),
            listens_on,
            settings,
        }
    }

    /// The sender addresses of mail that leaves by a smarthost: those of its login, unless `[rewrite]` has others for all.
    #[must_use]
    pub fn rewrite_at(&self, smarthost: Option<&Smarthost>) -> Cow<'_, RewritePolicy> {
        let login = smarthost.and_then(|host| host.login.as_deref());
        match login.filter(|_| is_by_login(&self.settings)).map(identity) {
            Some(others) if others != self.rewrite.others => {
                Cow::Owned(RewritePolicy { others, ..self.rewrite.clone() })
            }
            _ => Cow::Borrowed(&self.rewrite),
        }
    }

    /// The Maildir of a routed recipient; `None` if it is not delivered here.
    ///
    /// # Errors
    /// The template gives no valid path for the user, or `users = "any"` has reached [`ANY_USERS_MAX`].
    pub fn maildir(&self, routed: &Routed) -> Result<Option<MaildirPath>, StoreError> {
        let Some(path) = maildir(&self.settings, &self.hostname, routed)? else { return Ok(None) };
        if self.routes.users == LocalUsers::Any && !path.path().exists() && is_crowded(&path) {
            return Err(StoreError::refused(path.path(), "there are 1000 Maildirs already"));
        }
        Ok(Some(path))
    }

    /// Whether an address of an MX host is this host's own.
    #[must_use]
    pub fn is_own_address(&self, address: SocketAddr) -> bool {
        self.listens_on.iter().any(|own| {
            let is_ours = || own.ip().is_unspecified() && transport::is_local_address(address.ip());
            own.port() == address.port() && (own.ip() == address.ip() || is_ours())
        })
    }

    /// Whether an address family may be used.
    #[must_use]
    pub fn allows_family(&self, ip: IpAddr) -> bool {
        match self.settings.relay.family {
            RelayFamily::Any => true,
            RelayFamily::Ipv4 => ip.is_ipv4(),
            RelayFamily::Ipv6 => ip.is_ipv6(),
        }
    }
}

/// The Maildir or mbox of a routed recipient; see [`Site::maildir`]. Without the limit of [`ANY_USERS_MAX`].
///
/// # Errors
/// The template gives no valid path for the user.
pub(crate) fn maildir(
    settings: &Settings,
    hostname: &Domain,
    routed: &Routed,
) -> Result<Option<MaildirPath>, StoreError> {
    let Destination::Maildir(user) = &routed.destination else { return Ok(None) };
    let account = user.account.as_ref();
    let owner = account.map(|account| crate::store::durable::Owner { uid: account.uid, gid: account.gid });
    let template = settings.local.maildir.to_string();
    let domain = routed.mailbox.domain.name().map_or_else(|| hostname.key(), str::to_ascii_lowercase);
    let home = account.map(|account| account.home.as_path());
    let path =
        MaildirPath::expand(&template, &user.name, &domain, home, owner)?.with_quota(settings.local.quota);
    Ok(Some(path))
}

fn is_crowded(path: &MaildirPath) -> bool {
    let path = path.path();
    let Some(Ok(entries)) = path.parent().map(std::fs::read_dir) else { return false };
    entries.take(ANY_USERS_MAX).count() >= ANY_USERS_MAX
}

/// The fault that makes a hostname unfit for EHLO, where RFC 5321 §4.1.1.1 wants a name in DNS; `None` if it is fit.
#[must_use]
pub fn hostname_flaw(hostname: &Domain) -> Option<&'static str> {
    let name = hostname.name().unwrap_or_default();
    let last = name.rsplit('.').next().unwrap_or_default();
    match () {
        () if name.contains('_') => Some("has an underscore, which host names have not"),
        () if last.bytes().all(|octet| octet.is_ascii_digit()) => {
            Some("ends in a number, as an IP address does")
        }
        () if name.starts_with("localhost.") => Some("is every host's name for itself"),
        () if !name.contains('.') => Some("has no dot"),
        () => None,
    }
}

/// The name for EHLO: the hostname if it is fit, else the address literal of a listener, or of loopback.
fn client_name(hostname: &Domain, listens_on: &[SocketAddr]) -> ClientName {
    let good = hostname.name().filter(|_| hostname_flaw(hostname).is_none());
    let address = || {
        let outside =
            listens_on.iter().map(SocketAddr::ip).find(|ip| !ip.is_loopback() && !ip.is_unspecified());
        Domain::Literal(outside.unwrap_or(IpAddr::from([127, 0, 0, 1]))).to_string()
    };
    let name = good.map_or_else(address, str::to_owned);
    ClientName::parse(&name).or_else(|| ClientName::parse("localhost")).unwrap_or_else(ClientName::localhost)
}

pub(crate) fn route_policy(
    settings: &Settings,
    hostname: &Domain,
    own_addresses: Vec<IpAddr>,
) -> RoutePolicy {
    let (local, relay) = (&settings.local, &settings.relay);
    let addressee = |addressee: &Addressee| match addressee {
        Addressee::Mailbox(mailbox) => Some(mailbox.clone()),
        Addressee::User(name) => Mailbox::parse(&format!("{name}@{hostname}")).ok(),
    };
    let mut local_domains = settings.local_domains(hostname);
    // A user name as `admin` or `catch_all` means a user of this host, so its hostname must be a local domain.
    let mut named = settings.admin.iter().chain(&local.catch_all);
    if named.any(|named| matches!(named, Addressee::User(_))) && !local_domains.contains(hostname) {
        local_domains.push(hostname.clone());
    }
    let address = |addressee: &Addressee| match addressee {
        Addressee::Mailbox(mailbox) => Some(mailbox.clone()),
        Addressee::User(_) => None,
    };
    RoutePolicy {
        hostname: hostname.clone(),
        local_domains,
        own_addresses,
        users: local.users.clone(),
        in_homes: local.maildir.uses_home(),
        separator: local.separator,
        catch_all: local.catch_all.as_ref().and_then(addressee),
        admin: settings.admin.iter().filter_map(addressee).collect(),
        identities: Vec::new(),
        written: settings.admin.iter().chain(&local.catch_all).filter_map(address).collect(),
        next_hops: NextHops {
            smarthosts: relay.smarthosts(),
            senders: relay.sender_hosts(),
            exceptions: exceptions(relay),
        },
    }
}

/// The exceptions of `relay.routes`. A host that `relay.smarthost` names, too, has its login there.
fn exceptions(relay: &Relay) -> Vec<Exception> {
    let smarthosts = relay.smarthosts();
    let mut exceptions = relay.routes.clone();
    for exception in &mut exceptions {
        let ExceptionTarget::Hosts(hosts) = &mut exception.target else { continue };
        for host in hosts {
            let bare = |other: &Smarthost| Smarthost { login: None, ..other.clone() };
            let same = smarthosts.iter().find(|other| bare(other) == *host);
            host.login = same.and_then(|other| other.login.clone());
        }
    }
    exceptions
}

/// The sender addresses of mail that leaves. A configured `rewrite.domain` excludes the address of the smarthost's
/// login: the operator then has a smarthost that accepts other senders.
fn rewrite_policy(settings: &Settings, hostname: &Domain) -> RewritePolicy {
    let rewrite = &settings.rewrite;
    let first = || settings.relay.smarthosts().into_iter().next().and_then(|host| host.login);
    let others = match (&rewrite.from, &rewrite.domain) {
        (Some(from), _) => Others::Become(from.clone()),
        (None, Some(domain)) => Others::MoveTo(domain.clone()),
        (None, None) => first().map_or(Others::Stay, |login| identity(&login)),
    };
    RewritePolicy {
        hostname: hostname.clone(),
        local_domains: settings.local_domains(hostname),
        senders: rewrite.senders.clone(),
        others,
        subject_prefix: rewrite.subject_prefix.replace("{host}", &first_label(hostname)),
    }
}

/// The name of this host as people call it: its first label.
fn first_label(hostname: &Domain) -> String {
    let label = hostname.name().and_then(|name| name.split('.').next());
    label.map_or_else(|| hostname.to_string(), str::to_owned)
}

/// Whether the login at the smarthost decides about the senders of this host's own mail.
const fn is_by_login(settings: &Settings) -> bool {
    settings.rewrite.from.is_none() && settings.rewrite.domain.is_none()
}

/// All addresses that this host's mail carries outside.
fn identities(settings: &Settings, rewrite: &RewritePolicy) -> Vec<Mailbox> {
    let mut identities: Vec<Mailbox> = rewrite.identities().cloned().collect();
    if is_by_login(settings) {
        identities.extend(settings.relay.logins().iter().filter_map(|login| login.identity.clone()));
    }
    identities
}

/// What a login makes of the senders of this host's own mail.
fn identity(login: &RelayLogin) -> Others {
    login.identity.clone().map_or(Others::Stay, Others::Become)
}

/// The user database of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemAccounts;

impl Accounts for SystemAccounts {
    fn find(&self, name: &str) -> Result<Option<SystemAccount>, LookupFailed> {
        let found = user::find(name).map_err(|error| LookupFailed(error.to_string()))?;
        Ok(found.map(|a| SystemAccount { name: a.name, uid: a.uid, gid: a.gid, home: a.home }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// Mail to `root` would else be sent to the world.
    #[test]
    fn the_hostname_is_a_local_domain_if_a_user_gets_what_nobody_else_does() {
        let hostname = Domain::parse("box.lan").unwrap();
        for (config, is_local) in [
            ("", false),
            ("admin = \"joe@far.example\"\n", false),
            ("admin = \"joe\"\n", true),
            ("local.catch_all = \"joe\"\n", true),
        ] {
            let settings = parse(&format!("{config}local.domains = \"other.example\"\n"), "f").unwrap();
            let policy = route_policy(&settings, &hostname, Vec::new());
            assert_eq!(policy.local_domains.contains(&hostname), is_local, "{config}");
        }
    }
}

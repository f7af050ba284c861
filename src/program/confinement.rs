//! What the running daemon may open and connect to: all that its configuration names, and what the C library, OpenSSL
//! and the name services read.
//!
//! [`Confinement::begin`] is called at the start and holds for good. Directories are allowed, not files, so that a file
//! may be replaced: a certificate renewed behind its links, aliases, /etc/resolv.conf. What a reload adds elsewhere
//! needs a restart, and [`Confinement::lacks`] says so.
//!
//! | may be | paths |
//! | --- | --- |
//! | read | [`READ`], the directories of all files that the configuration names and of what these link to |
//! | read | with `local.users = "system"`: /home, and the homes of the users of /etc/passwd: for `.forward` |
//! | written | `state`, `queue.memory`, the directory of `control`, the Maildirs unless the delivery agent writes there |
//! | connected to, by TCP | [`PORTS`], `relay.port`, the ports of smarthosts, routes, DNS servers, `oauth.token_url` and `heartbeat.url` |
//!
//! UDP, and Unix sockets with a path, are not restricted: the kernel has no such rules.

use crate::config::{Settings, Storage};
use crate::engine::host::aliases_file;
use crate::engine::host::client_certificate::CertificateFiles;
use crate::engine::outbound::password;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::rules::routing::next_hop::ExceptionTarget;
use crate::rules::routing::route::LocalUsers;
use crate::sys::confinement::{Confined, confine};
use crate::sys::file::{self, FileKind};
use crate::sys::landlock::Access;
use std::fs;
use std::path::{Path, PathBuf};

/// What every daemon reads: configuration, certificates, time zones, name services with their libraries and caches,
/// the kernel's facts, and what may stand in /run in place of /etc.
const READ: [&str; 16] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/opt/etc",
    "/nix/store",
    "/gnu/store",
    "/run",
    "/proc",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/urandom",
    "/dev/random",
    "/var/lib/sss",
    "/var/lib/extrausers",
    "/var/cache/nscd",
];
/// Files of /etc that may be links to elsewhere.
const LINKS: [&str; 4] = ["/etc/resolv.conf", "/etc/hosts", "/etc/localtime", "/etc/mailname"];
/// Variables that name a file or a directory.
const VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "CREDENTIALS_DIRECTORY"];
/// LMTP, SMTP, DNS, LDAP, HTTPS and submission: a reload may add hosts with these ports.
const PORTS: [u16; 9] = [24, 25, 53, 389, 443, 465, 587, 636, 2525];
/// The first uid of a person.
const ORDINARY_UID: u32 = 1000;
/// The most links in a row that are followed.
const LINKS_MAX: usize = 8;

/// What the running daemon is confined to.
#[derive(Debug)]
pub struct Confinement {
    files: Vec<(PathBuf, Access)>,
    ports: Vec<u16>,
    has_agent: bool,
    /// What the kernel could do.
    pub confined: Confined,
}

impl Confinement {
    /// Confines this process. Call it before the first thread. `has_agent`: another process writes the mailboxes.
    #[must_use]
    pub fn begin(config: &Path, settings: &Settings, has_agent: bool) -> Self {
        let mut files = Vec::new();
        let mut allow = |path: &Path, access| {
            if let Some(path) = existing(path, access)
                && !covers(&files, &path, access)
                && !is_everything(&path, access)
            {
                files.push((path, access));
            }
        };
        let config = std::path::absolute(config).unwrap_or_default();
        READ.iter().for_each(|path| allow(Path::new(path), Access::Read));
        let mut linked = vec![config];
        linked.extend(LINKS.into_iter().map(PathBuf::from));
        linked.extend(VARIABLES.into_iter().filter_map(std::env::var_os).map(PathBuf::from));
        for file in &linked {
            directories(file).iter().for_each(|path| allow(path, Access::Read));
        }
        allow(&settings.state, Access::Write);
        allow(settings.control.parent().unwrap_or(&settings.control), Access::Write);
        // Mail may lie there also if it goes to the disk now.
        if settings.queue.storage == Storage::MemoryFirst || settings.queue.memory.exists() {
            allow(&settings.queue.memory, Access::Write);
        }
        for (_, path, access) in needs(settings, has_agent) {
            allow(&path, access);
        }
        for path in included(settings) {
            directories(&path).iter().for_each(|path| allow(path, Access::Read));
        }
        for (home, access) in homes(settings, has_agent) {
            allow(&home, access);
        }
        let mut ports: Vec<u16> = ports(settings).into_iter().map(|(_, port)| port).collect();
        ports.extend_from_slice(&PORTS);
        let confined = confine(&files, &ports, &|what, error| {
            log::warn!(target: "pillarbox", "event=notice text={:?}", format!("not confined by {what}: {error}"));
        });
        Self { files, ports, has_agent, confined }
    }

    /// What the settings of a reload need beyond the confinement, as a line for the operator.
    #[must_use]
    pub fn lacks(&self, settings: &Settings) -> Option<String> {
        let why = "needs a restart: the running daemon has confined itself to what its configuration named at the start";
        // Ports came later than files.
        if self.confined.landlock >= 4
            && let Some((key, port)) =
                ports(settings).into_iter().find(|(_, port)| !self.ports.contains(port))
        {
            return Some(format!("{key}: port {port} {why}"));
        }
        let needs = needs(settings, self.has_agent).into_iter();
        let mut needs = needs.filter_map(|(key, path, access)| Some((key, existing(&path, access)?, access)));
        let (key, path, _) = needs.find(|(_, path, access)| !covers(&self.files, path, *access))?;
        (self.confined.landlock > 0).then(|| format!("{key}: {path:?} {why}"))
    }
}

/// Whether a path is below an allowed one.
fn covers(files: &[(PathBuf, Access)], path: &Path, access: Access) -> bool {
    files.iter().any(|(allowed, given)| *given >= access && path.starts_with(allowed))
}

/// Whether all files of the system could be written. Below a directory that does not exist yet nothing is allowed instead.
fn is_everything(path: &Path, access: Access) -> bool {
    let is_everything = access == Access::Write && path == Path::new("/");
    if is_everything {
        let text =
            "the confinement lets nothing be written in a new directory of /; make it, and start again";
        log::warn!(target: "pillarbox", "event=notice text={text:?}");
    }
    is_everything
}

/// The path without links. Where it does not exist, nothing can be read; but it may be made, in the nearest directory
/// above.
fn existing(path: &Path, access: Access) -> Option<PathBuf> {
    match access {
        Access::Read => fs::canonicalize(path).ok(),
        Access::Write => path.ancestors().find_map(|path| fs::canonicalize(path).ok()),
    }
}

/// The directories of a file, and of all that it links to. A directory stands for itself.
fn directories(file: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = Some(file.to_owned());
    while let Some(file) = next.take_if(|_| found.len() < LINKS_MAX) {
        let parent = file.parent().filter(|parent| !file.is_dir() && *parent != Path::new("/"));
        let Some(directory) = parent else {
            found.push(file);
            break;
        };
        next = fs::read_link(&file).ok().map(|target| directory.join(target));
        found.push(directory.to_owned());
    }
    found
}

/// What the settings name: the key, the directory, and what is done there.
fn needs(settings: &Settings, has_agent: bool) -> Vec<(&'static str, PathBuf, Access)> {
    let (relay, local) = (&settings.relay, &settings.local);
    let mut files = vec![
        ("tls.certificate", settings.tls.certificate.as_deref()),
        ("tls.key", settings.tls.key.as_deref()),
        ("auth.users", settings.auth.users.as_deref()),
        ("local.aliases", local.aliases.as_deref()),
        ("relay.ca_file", relay.ca_file.as_deref()),
        ("oauth.client_secret_file", settings.oauth.client_secret_file.as_deref()),
        ("oauth.certificate", settings.oauth.certificate.as_deref()),
        ("oauth.key", settings.oauth.key.as_deref()),
    ];
    let certificates = CertificateFiles::all(relay);
    for it in &certificates {
        files.push(("relay.certificate", Some(it.certificate.as_path())));
        files.push(("relay.key", it.key.as_deref()));
        files.push(("relay.key_password_file", it.key_password_file.as_deref()));
    }
    let passwords = password::files(relay);
    files.extend(passwords.iter().map(|path| ("relay.password_file", Some(path.as_path()))));
    files.extend(settings.dkim.iter().map(|dkim| ("dkim.key", dkim.key.as_deref())));
    let mut needs = Vec::new();
    for (key, path) in files {
        for directory in path.map(directories).unwrap_or_default() {
            needs.push((key, directory, Access::Read));
        }
    }
    let of_mailboxes = if has_agent { Access::Read } else { Access::Write };
    if let Some(directory) = local.maildir.fixed_directory() {
        needs.push(("local.maildir", directory.to_owned(), of_mailboxes));
    }
    if let Some(access) = of_homes(settings, has_agent) {
        needs.push(("local.maildir and local.users", PathBuf::from("/home"), access));
    }
    needs
}

/// The files that aliases include and that can be read. A reload does not look at them: users may own them, and must not hold
/// it up. A link of a user's is followed nowhere.
fn included(settings: &Settings) -> Vec<PathBuf> {
    let mut files = settings.local.aliases.as_deref().map(aliases_file::files).unwrap_or_default();
    files.retain(|path| file::read_list(path, FileKind::List).is_ok());
    files
}

/// What is done in homes: `.forward` files are read, and mailboxes may be there. `None`: nothing.
fn of_homes(settings: &Settings, has_agent: bool) -> Option<Access> {
    match settings.local.maildir.uses_home() {
        true if !has_agent => Some(Access::Write),
        uses_home => (uses_home || settings.local.users == LocalUsers::System).then_some(Access::Read),
    }
}

/// Where the homes of this host's own users are: the directories above those of people, which may be on a file server that
/// does not answer now, and need not be looked at. Those that a directory service adds are below /home.
fn homes(settings: &Settings, has_agent: bool) -> Vec<(PathBuf, Access)> {
    let Some(access) = of_homes(settings, has_agent) else { return Vec::new() };
    let users = file::read(Path::new("/etc/passwd"), FileKind::System).unwrap_or_default();
    let users = String::from_utf8_lossy(&users);
    let home = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let uid: u32 = fields.next()?.parse().ok()?;
        let home = PathBuf::from(fields.nth(2)?);
        let above = home.parent().filter(|above| *above != Path::new("/")).map(Path::to_owned);
        // The homes of the system's own accounts may be /bin, or /dev.
        let (home, access) = match uid {
            ORDINARY_UID.. => (above.unwrap_or(home), access),
            0 => (home, access),
            _ => (home, Access::Read),
        };
        (home != Path::new("/")).then_some((home, access))
    };
    users.lines().filter_map(home).collect()
}

/// The ports that the settings name, by key.
fn ports(settings: &Settings) -> Vec<(&'static str, u16)> {
    let relay = &settings.relay;
    let mut ports = vec![("relay.port", relay.port)];
    let mut add = |key, hosts: &[Smarthost]| hosts.iter().for_each(|host| ports.push((key, host.port)));
    add("relay.smarthost", &relay.smarthosts());
    for (_, next_hop) in &relay.sender_hosts() {
        if let NextHop::Smarthosts(hosts) = next_hop {
            add("relay.senders", hosts);
        }
    }
    for route in &relay.routes {
        if let ExceptionTarget::Hosts(hosts) = &route.target {
            add("relay.routes", hosts);
        }
    }
    let token_url = settings.oauth.token_end_point().filter(|_| settings.oauth.is_set());
    ports.extend(token_url.map(|url| ("oauth.token_url", url.port)));
    ports.extend(settings.heartbeat.url.as_ref().map(|url| ("heartbeat.url", url.port)));
    ports.extend(settings.dns.servers.iter().map(|server| ("dns.servers", server.port())));
    ports
}

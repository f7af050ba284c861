//! `setup --from`: the answers of the questions, taken from the files of another mailer.
//!
//! | mailer | files | file |
//! | --- | --- | --- |
//! | msmtp | `/etc/msmtprc`, `~/.msmtprc`, the file of `aliases` | [`msmtp`] |
//! | ssmtp | `/etc/ssmtp/ssmtp.conf`, `revaliases` beside it | [`ssmtp`] |
//! | dma | `/etc/dma/dma.conf`, `auth.conf` | [`dma`] |
//! | nullmailer | `/etc/nullmailer/remotes`, `adminaddr` and its like | [`nullmailer`] |
//! | Exim, as Debian configures it | `/etc/exim4/update-exim4.conf.conf`, `passwd.client`, `/etc/email-addresses` | [`exim`] |
//! | Postfix | `/etc/postfix/main.cf`, the file of `smtp_sasl_password_maps` | [`postfix`] |
//!
//! ```text
//! files ─▶ parser of the mailer ─▶ Taken ─┬▶ options that were not given ─▶ questions, test and files, as without --from
//!                                         ├▶ further lines of pillarbox.toml
//!                                         └▶ "not taken over: FILE:LINE: KEY", for each key that says something here
//! ```
//!
//! The parsers are pure: they get text, and ask [`Files`] for other files. An option of the command line counts before what a file
//! says. The address for alerts is the alias of root where the mailer has no key for it. A password is shown nowhere.

mod dma;
mod exim;
mod msmtp;
mod nullmailer;
mod postfix;
mod ssmtp;

use crate::config;
use crate::engine::control::listing::json_text;
use crate::program::exit::{self, CommandFailure};
use crate::program::remote::screen::escaped;
use crate::rules::routing::aliases::{AliasTable, AliasTarget};
use crate::smtp::sasl::Secret;
use crate::sys::file::{self, FileKind};
use std::path::{Path, PathBuf};

/// The aliases that pillarbox reads unless told otherwise.
const ALIASES: &str = "/etc/aliases";
/// The most aliases between root and a person.
const ALIAS_STEPS: usize = 5;

/// Gives the text of another file, if there is one.
pub type Files<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// A mailer.
struct Mailer {
    /// Its name.
    name: &'static str,
    /// The directories of its files; `~` is the home of the caller.
    directories: &'static [&'static str],
    /// The names of its files; the first one leads to the others.
    names: &'static [&'static str],
    /// Reads them.
    take: fn(&Source<'_>, &mut Taken),
}

/// Every mailer, in the order in which its files are looked for: who installed a small one meant it.
const MAILERS: [Mailer; 7] = [
    Mailer { name: "msmtp", directories: &["/etc"], names: &["msmtprc"], take: msmtp::take },
    Mailer { name: "msmtp", directories: &["~"], names: &[".msmtprc"], take: msmtp::take },
    Mailer {
        name: "ssmtp",
        directories: &["/etc/ssmtp"],
        names: &["ssmtp.conf", "revaliases"],
        take: ssmtp::take,
    },
    Mailer { name: "dma", directories: &["/etc/dma"], names: &["dma.conf", "auth.conf"], take: dma::take },
    Mailer {
        name: "nullmailer",
        directories: &["/etc/nullmailer"],
        names: &["remotes", "adminaddr"],
        take: nullmailer::take,
    },
    Mailer {
        name: "Exim",
        directories: &["/etc/exim4"],
        names: &["update-exim4.conf.conf", "passwd.client"],
        take: exim::take,
    },
    Mailer {
        name: "Postfix",
        directories: &["/etc/postfix"],
        names: &["main.cf", "sasl_passwd"],
        take: postfix::take,
    },
];

/// A file, and how to get others.
pub struct Source<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// What it holds.
    pub text: &'a str,
    /// Gives other files.
    pub files: Files<'a>,
    /// The name of this host.
    pub hostname: &'a str,
}

impl Source<'_> {
    /// A file beside this one, with its text.
    fn sibling(&self, name: &str) -> (PathBuf, Option<String>) {
        let path = self.path.with_file_name(name);
        let text = (self.files)(&path);
        (path, text)
    }
}

/// How a mailer talks to its smarthost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// TLS where the host offers it, or none.
    Clear,
    /// STARTTLS.
    StartTls,
    /// TLS from the start.
    Tls,
}

/// A password, as another mailer has it.
#[derive(Default)]
pub enum TakenPassword {
    /// None is found.
    #[default]
    None,
    /// The password.
    Text(Secret),
    /// A command that prints it.
    Command(String),
}

/// What was taken over.
#[derive(Default)]
pub struct Taken {
    /// The address for alerts; empty: unknown.
    pub admin: String,
    /// The smarthost as `--smarthost` has it; empty: unknown.
    pub smarthost: String,
    /// The login there; empty: none.
    pub login: String,
    /// Its password.
    pub password: TakenPassword,
    /// The sender of mail that leaves; empty: the login, or as it is.
    pub sender: String,
    /// Further lines of the configuration: key and value, in TOML.
    pub lines: Vec<(&'static str, String)>,
    /// What was not taken over, in the form `FILE:LINE: KEY; why`.
    pub left: Vec<String>,
    /// The aliases file of the mailer, if it has a key for it.
    aliases: Option<PathBuf>,
}

impl Taken {
    /// Names what is not taken over.
    fn leave(&mut self, path: &Path, line: usize, what: &str) {
        self.left.push(format!("{}:{line}: {what}", path.display()));
    }

    /// Names a key that is not taken over, and why, unless its name says it.
    fn leave_key(&mut self, path: &Path, line: usize, key: &str, why: &str) {
        let sentence = if why.is_empty() { key.to_owned() } else { format!("{key}; {why}") };
        self.leave(path, line, &sentence);
    }

    /// Adds a line with text.
    fn text(&mut self, key: &'static str, value: &str) {
        self.lines.push((key, json_text(value)));
    }

    /// Adds a line with a list.
    fn list<S: AsRef<str>>(&mut self, key: &'static str, values: &[S]) {
        let values: Vec<String> = values.iter().map(|value| json_text(value.as_ref())).collect();
        self.lines.push((key, format!("[{}]", values.join(", "))));
    }

    /// Adds a line with a table of names.
    fn table(&mut self, key: &'static str, rows: &[(String, String)]) {
        let rows: Vec<String> =
            rows.iter().map(|(name, value)| format!("{} = {}", json_text(name), json_text(value))).collect();
        if !rows.is_empty() {
            self.lines.push((key, format!("{{ {} }}", rows.join(", "))));
        }
    }

    /// Sets the smarthost. A password never goes without TLS to another host, so with a login all ways with TLS are tried where
    /// the mailer has none.
    fn host(&mut self, way: Way, host: &str, port: Option<u16>) {
        let host = host.trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let scheme = match way {
            Way::Tls => "smtps://",
            Way::StartTls => "smtp+starttls://",
            Way::Clear if self.login.is_empty() || is_here => "smtp://",
            Way::Clear => "",
        };
        let port = port.or((way != Way::Tls).then_some(25)).map_or(String::new(), |port| format!(":{port}"));
        self.smarthost = format!("{scheme}{host}{port}");
    }

    /// Delivery by MX.
    fn by_mx(&mut self) {
        "mx".clone_into(&mut self.smarthost);
    }

    /// The option that this gives, with its value.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        for (name, value) in
            [("admin", &self.admin), ("smarthost", &self.smarthost), ("sender", &self.sender)]
        {
            let is_login = name == "sender" && *value == self.login;
            if !value.is_empty() && !is_login {
                options.push((name, value.clone()));
            }
        }
        if !self.smarthost.is_empty() {
            // Else the address for alerts would be the login.
            options.push(("username", self.login.clone()));
        }
        if let TakenPassword::Command(command) = &self.password {
            options.push(("password-command", command.clone()));
        }
        options
    }

    /// What was taken over and what was not, for a person. It has no password.
    pub fn report(&self, name: &str, path: &Path) -> String {
        let mut text = format!("Taken over from {name}, {}:\n", path.display());
        let mut row = |key: &str, value: &str| text.push_str(&format!("  {key}: {}\n", escaped(value)));
        for (key, value) in self.options() {
            row(key, if value.is_empty() { "none" } else { &value });
        }
        if matches!(self.password, TakenPassword::Text(_)) {
            row("password", "as it is there");
        }
        for (key, value) in &self.lines {
            row(key, value);
        }
        for left in &self.left {
            text.push_str(&format!("not taken over: {}\n", escaped(left)));
        }
        text
    }

    /// Names the lines with values that pillarbox does not take, instead of writing them.
    fn drop_bad_lines(&mut self, path: &Path) {
        for (key, value) in std::mem::take(&mut self.lines) {
            match config::parse(&format!("{key} = {value}\n"), "") {
                Ok(_) => self.lines.push((key, value)),
                Err(problems) => {
                    let why = problems.into_iter().next().map(|problem| problem.text).unwrap_or_default();
                    self.left.push(format!("{}: {key} = {value}; {why}", path.display()));
                }
            }
        }
    }

    /// Finds the address for alerts in the aliases, and names the file if pillarbox would not read it anyway.
    fn follow_aliases(&mut self, files: Files<'_>) {
        let path = self.aliases.take().unwrap_or_else(|| ALIASES.into());
        let Some(text) = files(&path) else { return };
        if path != Path::new(ALIASES) {
            self.text("local.aliases", &path.to_string_lossy());
        }
        if self.admin.is_empty() {
            self.admin = root_of(&text).unwrap_or_default();
        }
    }
}

/// Who gets the mail of root, by the text of an aliases file. `default` is msmtp's name for all others.
fn root_of(text: &str) -> Option<String> {
    let (table, _) = AliasTable::parse(text, false);
    let mut name = ["root", "default"].into_iter().find(|name| table.has(name)).unwrap_or("root").to_owned();
    let mut found = None;
    for _ in 0..ALIAS_STEPS {
        let Some((_, targets)) = table.find(&name, None) else { return found };
        if targets.len() > 1 {
            return several(targets).or(found);
        }
        let Some(AliasTarget::Address(local_part, domain)) = targets.first() else { return found };
        local_part.as_str().clone_into(&mut name);
        if let Some(domain) = domain {
            return Some(format!("{name}@{domain}"));
        }
        found = Some(name.clone());
    }
    // A circle.
    None
}

/// Several targets of an alias, with commas between them, if all are names or addresses.
fn several(targets: &[AliasTarget]) -> Option<String> {
    let text = |target: &AliasTarget| match target {
        AliasTarget::Address(local_part, Some(domain)) => Some(format!("{}@{domain}", local_part.as_str())),
        AliasTarget::Address(local_part, None) => Some(local_part.as_str().to_owned()),
        _ => None,
    };
    targets.iter().map(text).collect::<Option<Vec<_>>>().map(|texts| texts.join(", "))
}

/// Reads the files of a mailer; without a name, those of the first one that has files in their usual places. Returns what was
/// taken over, and a report.
///
/// # Errors
/// No file is found, it can't be read, or its name is that of no mailer.
pub fn read(file: &str, hostname: &str) -> Result<(Taken, String), CommandFailure> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let usual = |mailer: &Mailer| {
        let directory = |directory: &&str| if *directory == "~" { home.clone() } else { directory.into() };
        let names = mailer.names.first().copied().unwrap_or_default();
        mailer.directories.iter().map(move |it| directory(it).join(names)).find(|path| path.is_file())
    };
    let found: Vec<(&Mailer, PathBuf)> = match file {
        "" => MAILERS.iter().filter_map(|mailer| Some((mailer, usual(mailer)?))).collect(),
        file => vec![named(Path::new(file))?],
    };
    let Some((mailer, path)) = found.first() else {
        let text = "setup: no file of msmtp, ssmtp, dma, nullmailer, Exim or Postfix is found; name one: --from FILE";
        return Err(CommandFailure::new(exit::NO_INPUT, text.into()));
    };
    let octets = file::read(path, FileKind::Configuration).map_err(|error| {
        CommandFailure::new(exit::NO_INPUT, format!("setup: {}: {error}", path.display()))
    })?;
    let files = |path: &Path| {
        let octets = file::read(path, FileKind::Configuration).ok()?;
        Some(String::from_utf8_lossy(&octets).into_owned())
    };
    let taken = take(mailer, path, &String::from_utf8_lossy(&octets), &files, hostname);
    let mut report = taken.report(mailer.name, path);
    for (mailer, path) in found.iter().skip(1) {
        report.push_str(&format!("also found, of {}: {}\n", mailer.name, path.display()));
    }
    Ok((taken, report))
}

/// The mailer of a file, and the file that leads to its others; a directory stands for the file in it.
fn named(path: &Path) -> Result<(&'static Mailer, PathBuf), CommandFailure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for mailer in &MAILERS {
        let first = mailer.names.first().copied().unwrap_or_default();
        if path.is_dir() && path.join(first).is_file() {
            return Ok((mailer, path.join(first)));
        }
        if mailer.names.iter().any(|it| *it == name) {
            return Ok((mailer, path.with_file_name(first)));
        }
    }
    let known: Vec<&str> = MAILERS.iter().filter_map(|mailer| mailer.names.first().copied()).collect();
    let text = format!("setup: {} is no file that --from knows: {}", path.display(), known.join(", "));
    Err(CommandFailure::new(exit::USAGE, text))
}

fn take(mailer: &Mailer, path: &Path, text: &str, files: Files<'_>, hostname: &str) -> Taken {
    let mut taken = Taken::default();
    (mailer.take)(&Source { path, text, files, hostname }, &mut taken);
    taken.follow_aliases(files);
    taken.drop_bad_lines(path);
    taken
}

/// The lines of a file that say something, with their numbers from one; `#` begins a comment.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// A value without the quotes around it.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    let inner = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// Splits a host from its port; an IPv6 address has brackets.
fn host_and_port(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port_of(port)),
        _ => (text, None),
    }
}

/// A port as a number, or by its name in `/etc/services`.
fn port_of(text: &str) -> Option<u16> {
    match text {
        "smtp" => Some(25),
        "smtps" | "submissions" => Some(465),
        "submission" => Some(587),
        number => number.parse().ok(),
    }
}

/// Whether a bundle of trust anchors is that of the system, which counts anyway.
fn is_system_bundle(path: &str) -> bool {
    path == "system"
        || ["/etc/ssl/", "/etc/pki/", "/usr/share/ca-certificates", "/usr/local/share/certs/"]
            .iter()
            .any(|directory| path.starts_with(directory))
            && (path.contains("ca-certificates")
                || path.contains("ca-bundle")
                || path.contains("cert.pem")
                || path.ends_with("certs"))
}

#[cfg(test)]
mod tests;

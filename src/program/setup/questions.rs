//! The three questions: who gets the alerts, which host takes them, and the password there; and a fourth where the login is
//! no address.
//!
//! An answer that was given as an option is not asked for. Without a terminal nothing is asked: what is missing is told by
//! the name of its option. The password alone is then the first line of standard input.

use super::{Options, usage};
use crate::engine::probe::smarthost::propose;
use crate::mail::next_hop::Smarthost;
use crate::mail::unqualified::Unqualified;
use crate::net::resolver::Resolve;
use crate::program::exit::{self, Failure};
use crate::program::terminal::{Mute, check_password, line, prompt};
use crate::rules::advice::providers::Named;
use crate::smtp::sasl::{CREDENTIAL_MAX_OCTETS, Secret};
use rustix::termios::tcgetattr;
use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Longest answer in octets: that of an address.
const ANSWER_MAX_OCTETS: usize = 320;
/// The answer for no smarthost.
const BY_MX: &str = "mx";
/// The answer for the smarthost that is proposed.
const PROPOSED: &str = "auto";

/// Where the password comes from.
pub enum Password {
    /// There is no login.
    None,
    /// It was typed, or came by standard input.
    Typed(Secret),
    /// This file.
    File(String),
    /// This command.
    Command(String),
}

/// The answers.
pub struct Answers {
    /// Who gets the alerts.
    pub admin: String,
    /// How the smarthost may be talked to, in the order in which to try; empty: by MX.
    pub ways: Vec<Smarthost>,
    /// Who logs in there; empty: nobody.
    pub login: String,
    /// The address that mail leaves from; empty: the login's.
    pub sender: String,
    /// The password for it.
    pub password: Password,
}

impl Answers {
    /// Whom the test message goes to. Mail for a user of this host would not meet the smarthost.
    pub fn probed(&self) -> &str {
        let is_remote = |address: &&str| address.contains('@');
        [self.admin.as_str(), &self.login].into_iter().find(is_remote).unwrap_or(&self.admin)
    }
}

/// Asks for what the options do not say.
///
/// # Errors
/// An answer is missing, or makes no sense.
pub fn ask(options: &Options, resolver: &dyn Resolve) -> Result<Answers, Failure> {
    let admin = match options.value("admin") {
        Some(admin) => admin.to_owned(),
        None => answer("admin", "Address that gets the alerts: ")?,
    };
    let wrong = |error: &dyn std::fmt::Display| Failure::new(exit::DATA, format!("setup: {error}"));
    let address = Unqualified::parse(&admin).map_err(|error| wrong(&format!("{admin:?}: {error}")))?;
    let proposal = || propose(resolver, address.domain.as_ref()?);
    let text = match options.value("smarthost") {
        Some(PROPOSED) => match proposal() {
            Some(proposal) if proposal.is_certain => proposal.smarthost,
            Some(proposal) => {
                let text = "is proposed by DNS, which can be forged: name it by --smarthost if it is right";
                return Err(wrong(&format!("{} {text}", proposal.smarthost)));
            }
            None => return Err(usage("there is none to propose; say --smarthost")),
        },
        Some(said) => said.to_owned(),
        None => chosen(proposal)?,
    };
    if text.is_empty() || text.eq_ignore_ascii_case(BY_MX) {
        let (ways, login, password) = (Vec::new(), String::new(), Password::None);
        return Ok(Answers { admin, ways, sender: sender(options, &login)?, login, password });
    }
    let mut named = Named::parse(&text).map_err(|error| wrong(&error))?;
    let own = || if address.domain.is_some() { admin.clone() } else { String::new() };
    let login = options.value("username").map(str::to_owned).or(named.login.take()).unwrap_or_else(own);
    let password = if login.is_empty() { Password::None } else { password(options, &login, &named)? };
    if matches!(password, Password::None) {
        let login = String::new();
        return Ok(Answers { admin, ways: named.ways, sender: sender(options, &login)?, login, password });
    }
    named.keep_private();
    Ok(Answers { admin, ways: named.ways, sender: sender(options, &login)?, login, password })
}

/// The address that mail leaves from. A login that is none, as services such as Amazon SES have them, says nothing about
/// it, and they take mail from the addresses alone that they know.
fn sender(options: &Options, login: &str) -> Result<String, Failure> {
    const NAME: &str = "sender";
    let is_said = options.all("set").any(|line| line.trim_start().starts_with("rewrite"));
    match options.value(NAME) {
        Some(said) => Ok(said.to_owned()),
        None if login.is_empty() || login.contains('@') || is_said => Ok(String::new()),
        None if !std::io::stdin().is_terminal() => Ok(String::new()),
        None => answer(NAME, "Address that this account may send from: "),
    }
}

/// The smarthost that somebody chooses at the terminal.
fn chosen(
    proposal: impl FnOnce() -> Option<crate::engine::probe::smarthost::Proposal>,
) -> Result<String, Failure> {
    const NAME: &str = "smarthost";
    if !std::io::stdin().is_terminal() {
        return Err(missing(NAME));
    }
    let Some(proposal) = proposal() else {
        return answer(NAME, "Smarthost, HOST or LOGIN@HOST (empty: none, by MX): ");
    };
    let proposed = proposal.smarthost;
    let text = answer(NAME, &format!("Smarthost, HOST or LOGIN@HOST (empty: {proposed}; {BY_MX}: none): "))?;
    Ok(if text.is_empty() { proposed } else { text })
}

/// An answer in a line of its own.
fn answer(option: &str, question: &str) -> Result<String, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(missing(option));
    }
    prompt(question);
    let typed = line(input.as_fd(), ANSWER_MAX_OCTETS).map_err(unreadable)?;
    let Some(typed) = typed.filter(|typed| typed.octets().len() <= ANSWER_MAX_OCTETS) else {
        prompt("\n");
        return Err(missing(option));
    };
    Ok(String::from_utf8_lossy(typed.octets()).trim().to_owned())
}

fn password(options: &Options, login: &str, named: &Named) -> Result<Password, Failure> {
    if let Some(file) = options.value("password-file") {
        return Ok(Password::File(file.to_owned()));
    }
    if let Some(command) = options.value("password-command") {
        return Ok(Password::Command(command.to_owned()));
    }
    let input = std::io::stdin();
    let typed = match tcgetattr(&input) {
        Ok(settings) => {
            let _mute = Mute::begin(input.as_fd(), settings).map_err(unreadable)?;
            let host = named.ways.first().map(|way| way.host.to_string()).unwrap_or_default();
            prompt(&format!("Password of {login} at {host} (empty: no login): "));
            let typed = line(input.as_fd(), CREDENTIAL_MAX_OCTETS);
            prompt("\n");
            match typed.map_err(unreadable)? {
                Some(typed) if typed.octets().is_empty() => return Ok(Password::None),
                typed => typed,
            }
        }
        Err(_) => line(input.as_fd(), CREDENTIAL_MAX_OCTETS).map_err(unreadable)?,
    };
    let typed = typed.filter(|typed| !typed.octets().is_empty()).ok_or_else(|| {
        usage(
            "the password is missing; say --password-file, --password-command, or --username \"\" for none, \
             or give it as the first line of standard input",
        )
    })?;
    check_password(login, &typed)
        .map_err(|error| Failure::new(exit::DATA, format!("setup: the password {error}")))?;
    Ok(Password::Typed(typed))
}

fn missing(option: &str) -> Failure {
    usage(&format!("nothing was written, as an answer is missing; say --{option}"))
}

fn unreadable(errno: rustix::io::Errno) -> Failure {
    Failure::new(exit::IO, format!("setup: can't read the answer: {errno}"))
}

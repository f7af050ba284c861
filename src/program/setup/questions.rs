//! The three questions of `setup`: the address for alerts, the smarthost, and the password there; and a fourth if the login is
//! no address.
//!
//! An answer that an option gives is not asked for. Without a terminal nothing is asked, and a missing answer ends the command
//! with the name of its option; only the password is then read, from the first line of standard input.
//!
//! | question | option | empty answer |
//! | --- | --- | --- |
//! | address for alerts | `--admin` | is refused |
//! | smarthost, HOST or LOGIN@HOST | `--smarthost` | the proposed host if DNS or the list of providers has one, else no smarthost |
//! | password | standard input, `--password-file`, `--password-command` | no login |
//! | client id, where the provider takes tokens | `--client-id` | a password all the same |
//! | sender | `--sender` | the login is the sender |
//!
//! A password that the host refuses is asked for again, at a terminal. `--from` gives answers from another mailer's files.
//!
//! The login is that of `--username`, else the one before the host, else the address for alerts. A proposal that only DNS
//! makes can be forged, so scripts have to name that host themselves.

use super::{Options, usage};
use crate::engine::probe::smarthost::propose;
use crate::mail::next_hop::Smarthost;
use crate::mail::unqualified::Unqualified;
use crate::net::resolver::Resolve;
use crate::program::exit::{self, CommandFailure};
use crate::program::terminal::{Mute, check_password, line, prompt};
use crate::rules::accounts::oauth::provider::{of_smarthost, takes_no_password};
use crate::rules::advice::providers::Named;
use crate::smtp::sasl::{CREDENTIAL_MAX_OCTETS, Secret};
use rustix::termios::{Termios, tcgetattr};
use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Longest answer in octets: an address.
const ANSWER_MAX_OCTETS: usize = 320;
/// The answer that means no smarthost.
const BY_MX: &str = "mx";
/// The answer that accepts the proposed smarthost.
const PROPOSED: &str = "auto";

/// The source of the password.
pub enum Password {
    /// No login.
    None,
    /// The terminal, or standard input.
    Typed(Secret),
    /// A file of the operator's.
    File(String),
    /// A command of the operator's.
    Command(String),
    /// A token in its place: of this provider, for the application with this id.
    Token(&'static str, String),
}

/// The answers.
pub struct Answers {
    /// The address for alerts, or several with commas between them.
    pub admin: String,
    /// Ways to reach the smarthost, in the order to try; empty: delivery by MX.
    pub candidates: Vec<Smarthost>,
    /// The login there; empty: no login.
    pub login: String,
    /// The sender of mail that leaves; empty: the login.
    pub sender: String,
    /// The password of the login.
    pub password: Password,
}

impl Answers {
    /// The recipient that the test asks about. Mail for a user of this host would never reach the smarthost.
    pub fn probed(&self) -> &str {
        let is_remote = |address: &&str| address.contains('@');
        let first = self.admins().next().unwrap_or_default();
        self.admins().chain([self.login.as_str()]).find(is_remote).unwrap_or(first)
    }

    /// The addresses for alerts, which commas separate.
    pub fn admins(&self) -> impl Iterator<Item = &str> {
        self.admin.split(',').map(str::trim)
    }
}

/// Asks for every answer that the options do not give.
///
/// # Errors
/// An answer is missing or malformed.
pub fn ask(options: &Options, resolver: &dyn Resolve) -> Result<Answers, CommandFailure> {
    let admin = match options.value("admin") {
        Some(admin) => admin.to_owned(),
        None => answer("admin", "Address that gets the alerts: ")?,
    };
    let wrong = |error: &dyn std::fmt::Display| CommandFailure::new(exit::DATA, format!("setup: {error}"));
    let parsed = |it: &str| Unqualified::parse(it).map_err(|error| wrong(&format!("{it:?}: {error}")));
    let addresses = admin.split(',').map(|it| parsed(it.trim())).collect::<Result<Vec<_>, _>>()?;
    let Some(address) = addresses.first() else { return Err(missing("admin")) };
    let proposal = || propose(resolver, address.domain.as_ref()?);
    let text = match options.value("smarthost") {
        Some(PROPOSED) => match proposal() {
            Some(proposal) if proposal.is_certain => proposal.smarthost,
            Some(proposal) => {
                let text =
                    "is proposed by DNS, which can be forged: confirm it with --smarthost if it is right";
                return Err(wrong(&format!("{} {text}", proposal.smarthost)));
            }
            None => return Err(usage("no smarthost can be proposed; use --smarthost")),
        },
        Some(said) => said.to_owned(),
        None => chosen(proposal)?,
    };
    if text.is_empty() || text.eq_ignore_ascii_case(BY_MX) {
        let (candidates, login, password) = (Vec::new(), String::new(), Password::None);
        return Ok(Answers { admin, candidates, sender: sender(options, &login)?, login, password });
    }
    let mut named = Named::parse(&text).map_err(|error| wrong(&error))?;
    let first = admin.split(',').next().unwrap_or_default().trim();
    let own = || if address.domain.is_some() { first.to_owned() } else { String::new() };
    let login = options.value("username").map(str::to_owned).or(named.login.take()).unwrap_or_else(own);
    let password = if login.is_empty() { Password::None } else { password(options, &login, &named)? };
    if matches!(password, Password::None) {
        let login = String::new();
        return Ok(Answers {
            admin,
            candidates: named.candidates,
            sender: sender(options, &login)?,
            login,
            password,
        });
    }
    named.keep_private();
    Ok(Answers { admin, candidates: named.candidates, sender: sender(options, &login)?, login, password })
}

/// The sender of mail that leaves. The logins of services such as Amazon SES are no addresses, and these services accept only
/// senders that they know.
fn sender(options: &Options, login: &str) -> Result<String, CommandFailure> {
    const NAME: &str = "sender";
    let is_said = options.all("set").any(|line| line.trim_start().starts_with("rewrite"));
    match options.value(NAME) {
        Some(said) => Ok(said.to_owned()),
        None if login.is_empty() || login.contains('@') || is_said => Ok(String::new()),
        None if !std::io::stdin().is_terminal() => Ok(String::new()),
        None => answer(NAME, "Address that this account may send from: "),
    }
}

/// The smarthost, as chosen at the terminal.
fn chosen(
    proposal: impl FnOnce() -> Option<crate::engine::probe::smarthost::Proposal>,
) -> Result<String, CommandFailure> {
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

/// Asks a question, and reads a line.
fn answer(option: &str, question: &str) -> Result<String, CommandFailure> {
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

/// The password: from a file or command of the operator's, the terminal, or the first line of standard input.
fn password(options: &Options, login: &str, named: &Named) -> Result<Password, CommandFailure> {
    if let Some(file) = options.value("password-file") {
        return Ok(Password::File(file.to_owned()));
    }
    if let Some(command) = options.value("password-command") {
        return Ok(Password::Command(command.to_owned()));
    }
    if let Some(token) = token(options, named)? {
        return Ok(token);
    }
    if let Some(taken) = &options.taken_password {
        let copy = Secret::new(taken.octets().to_vec());
        return checked(login, copy);
    }
    let input = std::io::stdin();
    let typed = match tcgetattr(&input) {
        Ok(settings) => match at_terminal(&input, settings, login, named.candidates.first(), "no login")? {
            Some(typed) if typed.octets().is_empty() => return Ok(Password::None),
            typed => typed,
        },
        Err(_) => line(input.as_fd(), CREDENTIAL_MAX_OCTETS).map_err(unreadable)?,
    };
    let typed = typed.filter(|typed| !typed.octets().is_empty()).ok_or_else(|| {
        usage(
            "the password is missing; use --password-file, --password-command, or --username \"\" for none, \
             or give it as the first line of standard input",
        )
    })?;
    checked(login, typed)
}

fn checked(login: &str, typed: Secret) -> Result<Password, CommandFailure> {
    check_password(login, &typed)
        .map_err(|error| CommandFailure::new(exit::DATA, format!("setup: the password {error}")))?;
    Ok(Password::Typed(typed))
}

/// A login by token, where the provider takes no password, or the operator names an application. `None`: by password.
fn token(options: &Options, named: &Named) -> Result<Option<Password>, CommandFailure> {
    const NAME: &str = "client-id";
    let host = named.candidates.first().map(|candidate| candidate.host.to_string()).unwrap_or_default();
    let Some(provider) = of_smarthost(&host) else { return Ok(None) };
    let client_id = match options.value(NAME) {
        Some(said) => said.to_owned(),
        None if !takes_no_password(provider) || !std::io::stdin().is_terminal() => String::new(),
        None => answer(
            NAME,
            &format!(
                "{host} takes tokens in place of passwords. Client id of the application that you registered there (see \
                 docs/recipes.md; empty: a password all the same): "
            ),
        )?,
    };
    Ok((!client_id.is_empty()).then_some(Password::Token(provider, client_id)))
}

/// Asks for a password, without echo; `empty` says what no password means.
fn at_terminal(
    input: &std::io::Stdin,
    settings: Termios,
    login: &str,
    host: Option<&Smarthost>,
    empty: &str,
) -> Result<Option<Secret>, CommandFailure> {
    let _mute = Mute::begin(input.as_fd(), settings).map_err(unreadable)?;
    let host = host.map(|host| host.host.to_string()).unwrap_or_default();
    prompt(&format!("Password of {login} at {host} (empty: {empty}): "));
    let typed = line(input.as_fd(), CREDENTIAL_MAX_OCTETS);
    prompt("\n");
    typed.map_err(unreadable)
}

/// Asks for a password again that the host has refused, at a terminal. Returns whether there is another one.
///
/// # Errors
/// The new password can't be one.
pub fn ask_again(answers: &mut Answers) -> Result<bool, CommandFailure> {
    let input = std::io::stdin();
    let Ok(settings) = tcgetattr(&input) else { return Ok(false) };
    if !matches!(answers.password, Password::Typed(_)) {
        return Ok(false);
    }
    let typed = at_terminal(&input, settings, &answers.login, answers.candidates.first(), "give up")?;
    let Some(typed) = typed.filter(|typed| !typed.octets().is_empty()) else { return Ok(false) };
    answers.password = checked(&answers.login, typed)?;
    Ok(true)
}

/// The failure of an answer that nobody gave.
fn missing(option: &str) -> CommandFailure {
    usage(&format!("nothing was written, because an answer is missing; use --{option}"))
}

fn unreadable(errno: rustix::io::Errno) -> CommandFailure {
    CommandFailure::new(exit::IO, format!("setup: can't read the answer: {errno}"))
}

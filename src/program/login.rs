//! `pillarbox login [NAME]`: gets a token of OAuth 2.0 for a login at a smarthost, tests it there, and keeps it.
//!
//! ```text
//! [oauth] ─▶ flows: device, paste or client ─▶ AUTH at the smarthost ─▶ state/tokens ─▶ the daemon refreshes it
//!                                                 │
//!                                                 └▶ refused: the login before stays
//! ```
//!
//! NAME is needed where several logins take a token. Run by root it becomes `user` first, as the daemon is. A smarthost that
//! can't be reached proves nothing about the token, so it is kept then, too. Afterwards the queue is flushed: mail may have
//! waited for the token.
//!
//! | exit code | when |
//! | --- | --- |
//! | 0 | the token works, and is kept |
//! | 64 | NAME is missing, or no login has it |
//! | 73, 74 | nothing can be kept below `state`: told before anybody is asked |
//! | 75 | the provider has no time, or can't be reached; or the token is kept, and the smarthost can't be reached |
//! | 77 | the person, the provider or the smarthost has said no |
//! | 78 | `[oauth]` is missing or wrong |
//!
//! `--status` shows how each login stands, and fails with 77 if a person has to log in, with 75 if a token has ended and
//! can't be refreshed now.

mod flows;

use self::flows::{Failed, LoginQuestion};
use super::exit::{self, CommandFailure, finish};
use super::privileges;
use super::remote::client::ask;
use super::remote::screen::escaped;
use crate::config::{Settings, host, load};
use crate::engine::control::output::Output;
use crate::engine::daemon::resolver;
use crate::engine::host::site::Site;
use crate::engine::outbound::connect::connect;
use crate::engine::outbound::context::OutboundContext;
use crate::engine::outbound::sts_policies::StsPolicies;
use crate::engine::outbound::tokens::TokenKeeper;
use crate::engine::outbound::tokens::client::OauthClient;
use crate::engine::outbound::tokens::standing::{TokenStanding, TokenState};
use crate::engine::outbound::web::WebWorld;
use crate::engine::queue::index::QueueIndex;
use crate::mail::date::{Now, WallTime};
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::outcome::Diagnostic;
use crate::mail::relay_login::PasswordSource;
use crate::net::connect::TcpConnect;
use crate::net::resolver::Resolver;
use crate::protocol::request::Request;
use crate::rules::accounts::oauth::kept::Kept;
use crate::rules::advice::hints::hint;
use crate::rules::advice::row::{Peer, PeerKind};
use crate::rules::advice::step::Stage;
use crate::sys::clock::{Clock, SystemClock};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// The options of the command line.
pub const ROWS: &str = "--status\twhose token, until when, and what the provider answered last\n";

/// Logs in, or shows how the logins stand.
///
/// # Errors
/// See the table of the module.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), CommandFailure> {
    let words: Vec<_> = operands.iter().map(|word| word.to_string_lossy()).collect();
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().map(AsRef::as_ref).partition(|word| word.starts_with("--"));
    if names.len() > 1 {
        return Err(usage("give one NAME"));
    }
    let settings = load(config).map_err(|problems| CommandFailure::problems(&problems))?;
    if !settings.oauth.is_set() {
        let text = "login: [oauth] is missing in the configuration; docs/recipes.md says how to register an application, \
                    and what to write";
        return Err(CommandFailure::new(exit::CONFIG, text.into()));
    }
    let shows = options.contains(&"--status");
    let name = names.first().copied();
    let account = privileges::account(&settings)?;
    let account = account.as_ref().filter(|account| account.uid != 0);
    if shows {
        privileges::give_up(account)?;
        return status(&settings, name);
    }
    let username = pick(&settings, name)?;
    // Before anybody is asked for anything: makes what is missing, as the daemon does.
    privileges::open_state(&settings, account)
        .map_err(|error| CommandFailure::new(exit::CANT_CREATE, error.to_string()))?;
    privileges::give_up(account)?;
    let hostname = host::name(settings.hostname.as_ref());
    let site = Arc::new(Site::new(settings, hostname, None));
    log_in(&site, &username)
}

fn usage(text: &str) -> CommandFailure {
    CommandFailure::new(exit::USAGE, format!("login: {text}"))
}

/// The user name that logs in.
fn pick(settings: &Settings, name: Option<&str>) -> Result<String, CommandFailure> {
    let names = settings.relay.token_names();
    match (names.as_slice(), name) {
        ([], _) => Err(CommandFailure::new(
            exit::CONFIG,
            "login: no smarthost takes a token; write relay.username and relay.auth = \"xoauth2\", and no password".into(),
        )),
        ([only], None) => Ok(only.clone()),
        (_, None) => Err(usage(&format!("several logins take a token; name one of {}", names.join(", ")))),
        (_, Some(name)) => names
            .iter()
            .find(|own| own.as_str() == name)
            .cloned()
            .ok_or_else(|| usage(&format!("no login by token has the name {name:?}; there is {}", names.join(", ")))),
    }
}

/// Shows how the logins stand.
fn status(settings: &Settings, name: Option<&str>) -> Result<(), CommandFailure> {
    let standing = TokenKeeper::default().standing(settings);
    let chosen: Vec<&TokenStanding> =
        standing.iter().filter(|it| name.is_none_or(|name| name == it.username)).collect();
    if chosen.is_empty() {
        return Err(usage("no login takes a token, or none of that name"));
    }
    for it in &chosen {
        let mut line = escaped(&it.text());
        if it.granted > 0 {
            let granted = WallTime(it.granted.saturating_mul(1_000_000)).to_rfc5322();
            line.push_str(&format!("; the last one came {granted}"));
        }
        say(&format!("{line}\n"));
        if let Some(advice) =
            hint(Stage::Password, &it.answer, Peer::default()).filter(|_| it.state.needs_login())
        {
            say(&format!("  {advice}\n"));
        }
    }
    finish(match () {
        () if chosen.iter().any(|it| it.state.needs_login()) => exit::NO_PERMISSION,
        () if chosen.iter().any(|it| it.state == TokenState::Ended) => exit::TEMPORARY,
        () => exit::OK,
    })
}

/// Gets a token, tests it, and keeps it.
fn log_in(site: &Arc<Site>, username: &str) -> Result<(), CommandFailure> {
    let (resolver, tcp, keeper) = (resolver(&site.settings), TcpConnect::default(), TokenKeeper::default());
    let world = WebWorld { resolver: &resolver, connect: &tcp, site };
    let client = OauthClient::of(&site.settings).map_err(|text| failed(exit::CONFIG, &text))?;
    let (state, file) = (&site.settings.state, client.file_name(username));
    TokenKeeper::can_save(state, &file).map_err(|text| failed(exit::IO, &text))?;
    let proven = client.prove(keeper.now().wall).map_err(|text| failed(exit::CONFIG, &text))?;
    let question = LoginQuestion { world: &world, client: &client, proof: &proven.proof, username };
    let grant = question.ask().map_err(|Failed { code, text }| failed(code, &text))?;
    if grant.refresh.is_none() && !client.is_unattended() {
        say(
            "Warning: the provider gave no refresh token, so this login ends with its first token. Many providers want \
             offline_access in oauth.scope.\n",
        );
    }
    let mut kept = Kept::new(username, &client.token_url.to_string());
    kept.granted(grant, None, keeper.now());
    keeper.try_login(state, &file, kept);
    let tested = test(site, &resolver, &tcp, &keeper, username);
    if let Err((host, diagnostic)) = &tested
        && is_refusal(diagnostic)
    {
        let text = format!("{host} refuses the login: {}; nothing was kept", diagnostic.line());
        let mut failure = failed(exit::NO_PERMISSION, &text);
        let peer = Peer { name: host, kind: PeerKind::Smarthost };
        failure.lines.extend(hint(Stage::Auth, diagnostic.line(), peer).map(|advice| format!("  {advice}")));
        return Err(failure);
    }
    keeper
        .save_login(state, &file)
        .map_err(|text| failed(exit::IO, &format!("the token can't be kept: {text}")))?;
    flush(&site.settings);
    match tested {
        Ok(host) => {
            let username = escaped(username);
            say(&format!(
                "Logged in at {host} as {username}. The token is kept, and the daemon refreshes it.\n"
            ));
            Ok(())
        }
        Err((host, diagnostic)) => Err(failed(
            exit::TEMPORARY,
            &format!("the token is kept, but could not be tested at {host}: {}", diagnostic.line()),
        )),
    }
}

/// A failure, with the advice for it.
fn failed(code: u8, text: &str) -> CommandFailure {
    let mut failure = CommandFailure::new(code, format!("login: {}", escaped(text)));
    failure.lines.extend(hint(Stage::Password, text, Peer::default()).map(|advice| format!("  {advice}")));
    failure
}

/// Logs in at the smarthosts of this login, until one takes it. Returns the host, or that with the failure.
fn test(
    site: &Arc<Site>,
    resolver: &Resolver,
    tcp: &TcpConnect,
    tokens: &TokenKeeper,
    username: &str,
) -> Result<String, (String, Diagnostic)> {
    let (sts, index) = (StsPolicies::default(), QueueIndex::default());
    let now = Now { wall: WallTime(SystemClock.wall_micros()), running: SystemClock.boot() };
    let context = OutboundContext {
        resolver,
        connect: tcp,
        sts: &sts,
        tokens,
        index: &index,
        now,
        observer: &(),
        hop: None,
    };
    let mut last = None;
    for smarthost in hosts(&site.settings, username) {
        let host = smarthost.host.to_string();
        say(&format!("Testing the login at {host}\n"));
        match connect(&context, site, &NextHop::Smarthosts(vec![smarthost])) {
            Ok(conversation) => {
                conversation.leave();
                return Ok(host);
            }
            Err(unreachable) => last = Some((host, unreachable.diagnostic().clone())),
        }
    }
    Err(last.unwrap_or_else(|| {
        (String::new(), Diagnostic::local(crate::mail::status::EnhancedStatus::POLICY_NOW, "no smarthost"))
    }))
}

/// The smarthosts where this user name logs in by a token.
fn hosts(settings: &Settings, username: &str) -> Vec<Smarthost> {
    let of_senders = settings.relay.sender_hosts().into_iter().filter_map(|(_, hop)| match hop {
        NextHop::Smarthosts(hosts) => Some(hosts),
        NextHop::Mx(_) => None,
    });
    let all = settings.relay.smarthosts().into_iter().chain(of_senders.flatten());
    let is_this = |host: &Smarthost| {
        let login = host.login.as_deref();
        login.is_some_and(|login| login.username == username && login.password == PasswordSource::Token)
    };
    all.filter(is_this).collect()
}

/// Whether the host has answered, and refused the login.
fn is_refusal(diagnostic: &Diagnostic) -> bool {
    diagnostic.text == "AUTH" && diagnostic.reply.as_deref().is_some_and(|reply| reply.starts_with('5'))
}

/// Has the daemon, if one runs, try the queue: its mail may have waited for the token.
fn flush(settings: &Settings) {
    let _ = ask(&settings.control, &Request::Flush(Vec::new()), &mut Nothing);
}

/// Shows nothing.
struct Nothing;

impl Output for Nothing {
    fn output(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn error(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to standard output; a closed one is ignored.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

//! The log lines, one variant for each: `key=value`, so that a grep for a queue id shows the life of a message.
//! Values from outside are quoted, and their control characters escaped: no input can forge a line.
//! Message content and passwords are never logged.
//!
//! | `event=` | level | keys | meaning |
//! | --- | --- | --- | --- |
//! | `accepted` | info | `id from to size client tls auth` | a message is durable, one line for each queue id |
//! | `delivered` | info | `id to relay attempt delay status reply` | a mailbox or the next hop has the message |
//! | `deferred` | info | the same | the recipient is tried again |
//! | `bounced` | info | the same | a permanent failure; the sender gets a notice |
//! | `expired` | info, warn | the same | the lifetime has ended: of a message, or (warn) of a held message |
//! | `held` | warn | the same | a failed notice to `admin` is kept in the queue |
//! | `refused` | info, debug | `client helo from to reply` | a command, a message or a submission was refused |
//! | `auth_failed` | info | `client name mechanism` | a login failed; `etc/fail2ban` reads this line |
//! | `connected` | info | `relay tls auth` | a session with a next hop is ready for mail |
//! | `closed` | info, debug | `client reason` | this host ended a session, or the socket failed |
//! | `tls_policy` | warn | `domain reason` | a fault in the TLS policy of a domain |
//! | `paused` | warn | `route seconds about status reason advice` | a next hop is not used for a while |
//! | `digest` | info | `id messages` | several messages have become one |
//! | `clock_jump` | warn | `seconds` | the wall clock jumped |
//! | `operator` | info | `what id uid` | a user has changed a message of the queue |
//! | `token` | info, warn, debug | `login state reason` | a token of OAuth was refreshed (debug), is asked for later, or (warn) was refused |
//! | `alarm` | warn | `state reason id route text` | mail is stuck, or moves again |
//! | `trouble` | error | `doing error` | a failure of this host that mail survives |
//! | `notice` | info | `text` | the daemon has begun or ended something |
//!
//! A key without a value has `-`; an empty value is `""` (the null reverse-path). A value is quoted if it is empty,
//! longer than [`VALUE_MAX_OCTETS`], or has a blank, a quote or a hostile character; `reply`, `reason`, `text`,
//! `doing`, `error` and `name` are always quoted. Quoted values are cut at [`VALUE_MAX_OCTETS`].

use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::mail::text::is_hostile;
use crate::rules::advice::row::About;
use crate::rules::pacing::breaker::RouteFailure;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// The longest value that is logged, in octets: a list of a hundred recipients would exceed what a pipe takes at once.
const VALUE_MAX_OCTETS: usize = 512;

/// A log line.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message was accepted: its 250 follows.
    Accepted {
        /// Its id.
        id: QueueId,
        /// The reverse-path.
        from: &'a ReversePath,
        /// The recipients after routing.
        to: &'a [Mailbox],
        /// Its size on the wire in octets, without transparency (RFC 1870).
        size: u64,
        /// The sender: an address, a user of this host, or a part of this program.
        client: &'a str,
        /// TLS version and cipher.
        tls: Option<&'a str>,
        /// The login.
        auth: Option<&'a str>,
    },
    /// An attempt at a recipient has ended.
    Attempt {
        /// The outcome.
        what: AttemptEnd,
        /// The message.
        id: QueueId,
        /// The recipient.
        to: &'a Mailbox,
        /// The next hop, `local` for a mailbox, `-` if no host was reached.
        relay: &'a str,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The time since the message was accepted.
        delay: Duration,
        /// The enhanced status code (RFC 3463).
        status: EnhancedStatus,
        /// The reply, or the reason.
        reply: &'a str,
    },
    /// A command, a message or a submission was refused. A value that is unknown or does not apply is `-`.
    Refused {
        /// The peer: an address, or a user of this host.
        client: &'a str,
        /// Its name in EHLO.
        helo: &'a str,
        /// The reverse-path, empty for the null one; as it was written, if it is not an address.
        from: &'a str,
        /// The recipient, or all recipients; as it was written, if it is not an address.
        to: &'a str,
        /// The reply.
        reply: &'a str,
    },
    /// A login failed. `etc/fail2ban` depends on the form of this line.
    AuthFailed {
        /// The client.
        client: &'a str,
        /// The name in the login.
        name: &'a str,
        /// The SASL mechanism.
        mechanism: &'a str,
    },
    /// A session with a next hop is ready for mail.
    Connected {
        /// The next hop's name, address and port.
        relay: &'a str,
        /// `none`, `unverified`, `verified`, or the policy by which it was verified: `sts` or `dane`.
        tls: &'a str,
        /// The login.
        auth: Option<&'a str>,
    },
    /// A fault in the TLS policy of a domain (MTA-STS, DANE).
    TlsPolicy {
        /// The domain, or the host.
        domain: &'a str,
        /// The fault.
        reason: &'a str,
    },
    /// A next hop is not used for a while; its messages keep their own retry times.
    Paused {
        /// The next hop.
        route: &'a str,
        /// The length of the pause.
        pause: Duration,
        /// What its refusal is about, if it refused; a word of `rules::advice`.
        about: Option<&'static str>,
        /// The enhanced status code (RFC 3463).
        status: EnhancedStatus,
        /// The reason.
        reason: &'a str,
        /// What the operator should change.
        advice: Option<&'static str>,
    },
    /// This host ended a session because of a limit or an error, or the socket failed.
    Closed {
        /// The client.
        client: &'a str,
        /// The reason.
        reason: &'a str,
    },
    /// A failure of this host that mail survives.
    Trouble {
        /// The action that failed.
        doing: &'a str,
        /// The error.
        error: &'a str,
    },
    /// Several messages have become one.
    Digest {
        /// The id of the digest.
        id: QueueId,
        /// The number of messages in it.
        messages: usize,
    },
    /// The wall clock jumped.
    ClockJump {
        /// The seconds that it jumped forward; negative: back.
        seconds: i64,
    },
    /// A user has changed a message of the queue by a command.
    Operator {
        /// The command's word: `hold`, `release`, `remove` and so on.
        what: &'static str,
        /// The message.
        id: QueueId,
        /// The user.
        uid: u32,
    },
    /// The token of a login (OAuth 2.0) was refreshed, or not.
    Token {
        /// The user name.
        login: &'a str,
        /// `refreshed`, `deferred` or `refused`.
        state: &'static str,
        /// What the provider said, or why it can't be asked.
        reason: &'a str,
    },
    /// Mail is stuck, or moves again.
    Alarm {
        /// `alarm`, or `ok` when it is over.
        state: &'static str,
        /// `stuck` or `route`.
        reason: &'static str,
        /// The message, if it is about one.
        id: &'a str,
        /// The next hop, if it is about one.
        route: &'a str,
        /// The alarm in words.
        text: &'a str,
    },
    /// The daemon has begun or ended something.
    Notice(&'a str),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// In the mailbox, or accepted by the next hop.
    Delivered,
    /// Waiting for the next attempt.
    Deferred,
    /// Failed permanently; the sender gets a notice.
    Bounced,
    /// Its lifetime has ended; the sender gets a notice.
    Expired,
    /// Failed or expired on its way to `admin`: kept in the queue.
    Held,
    /// Kept for `admin` until its time there ended; removed.
    GivenUp,
}

impl AttemptEnd {
    const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Bounced => "bounced",
            Self::Expired | Self::GivenUp => "expired",
            Self::Held => "held",
        }
    }
}

/// Logs a failure of this host that mail survives: the action, and the error.
pub fn trouble(doing: &str, error: &dyn Display) {
    Event::Trouble { doing, error: &error.to_string() }.log();
}

impl<'a> Event<'a> {
    /// The event of a route, or of one smarthost, that pauses.
    #[must_use]
    pub fn paused(
        route: &'a str,
        pause: Duration,
        failure: &'a RouteFailure,
        advice: Option<&'static str>,
    ) -> Self {
        let RouteFailure { reason, refusal } = failure;
        Self::Paused {
            route,
            pause,
            about: refusal.map(About::word),
            status: reason.status,
            reason: reason.line(),
            advice,
        }
    }

    /// Logs the event at its level.
    pub fn log(&self) {
        let level = match self {
            Self::Attempt { what: AttemptEnd::Held | AttemptEnd::GivenUp, .. } => log::Level::Warn,
            Self::Paused { .. } | Self::ClockJump { .. } | Self::TlsPolicy { .. } | Self::Alarm { .. } => {
                log::Level::Warn
            }
            Self::Token { state: "refused", .. } => log::Level::Warn,
            Self::Trouble { .. } => log::Level::Error,
            _ => log::Level::Info,
        };
        self.log_at(level);
    }

    /// Logs the event at debug level: it matters only to an operator who searches for it.
    pub fn log_quietly(&self) {
        self.log_at(log::Level::Debug);
    }

    fn log_at(&self, level: log::Level) {
        log::log!(target: "pillarbox", level, "{self}");
    }
}

impl Event<'_> {
    fn print_accepted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Accepted { id, from, to, size, client, tls, auth } = self else { return Ok(()) };
        let list = List(to);
        let [tls, auth] = [tls, auth].map(|it| it.unwrap_or("-"));
        let (from, to, client) = (LogValue(from), LogValue(&list), LogValue(client));
        let (tls, auth) = (LogValue(&tls), LogValue(&auth));
        write!(f, "event=accepted id={id} from={from} to={to} size={size}")?;
        write!(f, " client={client} tls={tls} auth={auth}")
    }
}

impl Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { .. } => self.print_accepted(f),
            Self::Attempt { what, id, to, relay, attempt, delay, status, reply } => write!(
                f,
                "event={} id={id} to={} relay={} attempt={attempt} delay={}.{:03} status={status} reply={}",
                what.name(),
                LogValue(to),
                LogValue(relay),
                delay.as_secs(),
                delay.subsec_millis(),
                Quoted(reply)
            ),
            Self::Refused { client, helo, from, to, reply } => {
                let [client, helo, from, to] = [client, helo, from, to].map(|it| LogValue(it));
                let reply = Quoted(reply);
                write!(f, "event=refused client={client} helo={helo} from={from} to={to} reply={reply}")
            }
            Self::AuthFailed { client, name, mechanism } => {
                write!(f, "event=auth_failed client={client} name={} mechanism={mechanism}", Quoted(name))
            }
            Self::Connected { relay, tls, auth } => {
                let auth = auth.unwrap_or("-");
                write!(f, "event=connected relay={} tls={tls} auth={}", LogValue(relay), LogValue(&auth))
            }
            Self::TlsPolicy { domain, reason } => {
                write!(f, "event=tls_policy domain={} reason={}", LogValue(domain), Quoted(reason))
            }
            Self::Paused { route, pause, about, status, reason, advice } => {
                let (seconds, about) = (pause.as_secs(), about.unwrap_or("-"));
                let (route, reason, advice) =
                    (LogValue(route), Quoted(reason), Quoted(advice.unwrap_or("-")));
                write!(f, "event=paused route={route} seconds={seconds} about={about} status={status}")?;
                write!(f, " reason={reason} advice={advice}")
            }
            Self::Closed { client, reason } => {
                write!(f, "event=closed client={} reason={}", LogValue(client), Quoted(reason))
            }
            Self::Trouble { doing, error } => {
                write!(f, "event=trouble doing={} error={}", Quoted(doing), Quoted(error))
            }
            Self::ClockJump { seconds } => write!(f, "event=clock_jump seconds={seconds}"),
            Self::Digest { id, messages } => write!(f, "event=digest id={id} messages={messages}"),
            Self::Operator { what, id, uid } => write!(f, "event=operator what={what} id={id} uid={uid}"),
            Self::Alarm { state, reason, id, route, text } => {
                let [id, route] = [id, route].map(|it| if it.is_empty() { &"-" } else { it });
                let (route, text) = (LogValue(route), Quoted(text));
                write!(f, "event=alarm state={state} reason={reason} id={id} route={route} text={text}")
            }
            Self::Token { login, state, reason } => {
                write!(f, "event=token login={} state={state} reason={}", LogValue(login), Quoted(reason))
            }
            Self::Notice(text) => write!(f, "event=notice text={}", Quoted(text)),
        }
    }
}

/// Prints mailboxes with commas between them.
pub struct List<'a>(pub &'a [Mailbox]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mailbox) in self.0.iter().enumerate() {
            write!(f, "{}{mailbox}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Prints a value, in quotes only if it must be quoted; see the top of this file.
struct LogValue<'a>(&'a dyn Display);

impl Display for LogValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let plain = !text.is_empty()
            && text.len() <= VALUE_MAX_OCTETS
            && text.chars().all(|c| !is_hostile(c) && !c.is_whitespace() && c != '"' && c != '\\');
        if plain { f.write_str(&text) } else { Quoted(&text).fmt(f) }
    }
}

/// The text as it appears in the log between quotes: escaped and cut.
#[must_use]
pub fn escaped(text: &str) -> String {
    let quoted = Quoted(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// Prints a value in quotes, with quotes, backslashes and hostile characters escaped, cut at [`VALUE_MAX_OCTETS`].
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (at, c) in self.0.char_indices() {
            if at >= VALUE_MAX_OCTETS {
                f.write_str("…")?;
                break;
            }
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if is_hostile(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    #[test]
    fn the_lines_are_as_the_contract_says() {
        let id = QueueId::new(1, 1);
        let accepted = Event::Accepted {
            id,
            from: &ReversePath::Null,
            to: &[mailbox("a@b"), mailbox("\"c d\"@e")],
            size: 12,
            client: "192.0.2.1",
            tls: None,
            auth: None,
        };
        assert_eq!(
            accepted.to_string(),
            format!(
                "event=accepted id={id} from=\"\" to=\"a@b,\\\"c d\\\"@e\" size=12 client=192.0.2.1 tls=- auth=-"
            )
        );
        let attempt = Event::Attempt {
            what: AttemptEnd::Bounced,
            id,
            to: &mailbox("a@b"),
            relay: "mx.b",
            attempt: 2,
            delay: Duration::from_millis(61_005),
            status: EnhancedStatus::NO_SUCH_USER,
            reply: "550 5.1.1 \"no\"",
        };
        assert_eq!(
            attempt.to_string(),
            format!(
                "event=bounced id={id} to=a@b relay=mx.b attempt=2 delay=61.005 status=5.1.1 reply=\"550 5.1.1 \\\"no\\\"\""
            )
        );
    }

    #[test]
    fn a_refusal_says_who_was_refused_what() {
        let client = "uid 1000";
        let refused =
            Event::Refused { client, helo: "-", from: "", to: "a@b,c@d", reply: "no \"such\" user" };
        assert_eq!(
            refused.to_string(),
            "event=refused client=\"uid 1000\" helo=- from=\"\" to=a@b,c@d reply=\"no \\\"such\\\" user\""
        );
    }

    #[test]
    fn no_input_forges_a_line() {
        let refused = Event::Refused {
            client: "192.0.2.1",
            helo: "my?pc",
            from: "",
            to: "-",
            reply: "502 5.5.1 \"\r\nname=x",
        };
        assert_eq!(
            refused.to_string(),
            "event=refused client=192.0.2.1 helo=my?pc from=\"\" to=- reply=\"502 5.5.1 \\\"\\r\\nname=x\""
        );
        let line =
            Event::Closed { client: "x\nevent=accepted id=1", reason: "\u{1b}[2J\u{202e}" }.to_string();
        assert_eq!(line, "event=closed client=\"x\\nevent=accepted id=1\" reason=\"\\u{1b}[2J\\u{202e}\"");
        // The argument of RCPT as written, which may be any text.
        let turned = Event::Refused { client: "::1", helo: "-", from: "a\u{202e}b@x", to: "-", reply: "no" };
        assert!(turned.to_string().contains("from=\"a\\u{202e}b@x\" "), "{turned}");
        let long = Event::Notice(&"x".repeat(10_000)).to_string();
        assert!(long.len() < 600);
    }
}

//! The log lines, one variant each (INTERFACE section 7): `key=value`, so that one grep for a queue id tells the life
//! of a message. What comes from outside is quoted and its control characters are escaped: no input forges a line.

use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::mail::text::is_hostile;
use crate::rules::advice::row::About;
use crate::rules::pacing::breaker::RouteFailure;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// Longest value that is logged, in octets; a list of a hundred recipients would be larger than a pipe takes at once.
const VALUE_MAX_OCTETS: usize = 512;

/// Something worth a line.
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
        /// Octets as they came over the wire, without transparency.
        size: u64,
        /// Who sent it: an address, or a part of this program.
        client: &'a str,
        /// TLS version and cipher.
        tls: Option<&'a str>,
        /// The login.
        auth: Option<&'a str>,
    },
    /// A recipient's attempt has ended.
    Attempt {
        /// What came of it.
        what: AttemptEnd,
        /// The message.
        id: QueueId,
        /// The recipient.
        to: &'a Mailbox,
        /// The host that was talked to, `local` for a Maildir, `-` where there was nobody to talk to.
        relay: &'a str,
        /// Which attempt this was.
        attempt: u32,
        /// Since the message was accepted.
        delay: Duration,
        /// RFC 3463.
        status: EnhancedStatus,
        /// The reply or the reason.
        reply: &'a str,
    },
    /// A command, a message or a submission was refused. What does not apply or is not known yet is `-`.
    Refused {
        /// The peer: an address, or a user of this host.
        client: &'a str,
        /// The name that it gave itself by EHLO.
        helo: &'a str,
        /// The reverse-path, empty for the null one; as it was written, if it is no address.
        from: &'a str,
        /// The recipient, or all of them; as it was written, if it is no address.
        to: &'a str,
        /// Our reply.
        reply: &'a str,
    },
    /// Somebody failed to log in. Its form is what `etc/fail2ban` goes by.
    AuthFailed {
        /// The client.
        client: &'a str,
        /// The name that was given.
        name: &'a str,
        /// The SASL mechanism.
        mechanism: &'a str,
    },
    /// A next hop is ready for mail.
    Connected {
        /// Its name, address and port.
        relay: &'a str,
        /// `none`, `unverified` or `verified`; verified by a policy: `sts` or `dane`.
        tls: &'a str,
        /// The login.
        auth: Option<&'a str>,
    },
    /// Something about what a domain wants of TLS with its MX hosts; mail goes on.
    TlsPolicy {
        /// The domain, or the host.
        domain: &'a str,
        /// What is wrong.
        reason: &'a str,
    },
    /// A next hop can't be used for a while; its messages stay as they are.
    Paused {
        /// The next hop.
        route: &'a str,
        /// For how long.
        pause: Duration,
        /// What it refuses for, if it does; a word of `rules::refusal`.
        about: Option<&'static str>,
        /// RFC 3463.
        status: EnhancedStatus,
        /// Why.
        reason: &'a str,
    },
    /// A session was ended by us, for a limit or an error.
    Closed {
        /// The client.
        client: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// Something of ours went wrong; mail goes on.
    Trouble {
        /// What was being done.
        doing: &'a str,
        /// What came of it.
        error: &'a str,
    },
    /// Messages have left in one.
    Digest {
        /// Its id.
        id: QueueId,
        /// How many there are in it.
        messages: usize,
    },
    /// The wall clock jumped.
    ClockJump {
        /// Seconds forward, or back if negative.
        seconds: i64,
    },
    /// The operator has done something to a message.
    Operator {
        /// The word for it.
        what: &'static str,
        /// The message.
        id: QueueId,
        /// Who that was.
        uid: u32,
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
        /// In words.
        text: &'a str,
    },
    /// The daemon has begun or ended something.
    Notice(&'a str),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// In the Maildir, or taken over by the next hop.
    Delivered,
    /// To be tried again.
    Deferred,
    /// Failed for good; the sender is told.
    Bounced,
    /// Too old; the sender is told.
    Expired,
    /// Failed for good, or too old, on its way to admin: kept in the queue.
    Held,
    /// Kept for too long.
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

/// Logs a failure of this host that mail survives: what was being done, and why it failed.
pub fn trouble(doing: &str, error: &dyn Display) {
    Event::Trouble { doing, error: &error.to_string() }.log();
}

impl<'a> Event<'a> {
    /// A route, or one smarthost of it, pauses.
    #[must_use]
    pub fn paused(route: &'a str, pause: Duration, failure: &'a RouteFailure) -> Self {
        let RouteFailure { reason, refusal } = failure;
        Self::Paused {
            route,
            pause,
            about: refusal.map(About::word),
            status: reason.status,
            reason: reason.line(),
        }
    }

    /// Hands the event to the logger.
    pub fn log(&self) {
        let level = match self {
            Self::Attempt { what: AttemptEnd::Held | AttemptEnd::GivenUp, .. } => log::Level::Warn,
            Self::Accepted { .. } | Self::Attempt { .. } | Self::Operator { .. } | Self::Notice(_) => {
                log::Level::Info
            }
            Self::Connected { .. } | Self::Refused { .. } | Self::AuthFailed { .. } | Self::Closed { .. } => {
                log::Level::Info
            }
            Self::Digest { .. } => log::Level::Info,
            Self::Paused { .. } | Self::ClockJump { .. } | Self::TlsPolicy { .. } | Self::Alarm { .. } => {
                log::Level::Warn
            }
            Self::Trouble { .. } => log::Level::Error,
        };
        self.log_at(level);
    }

    /// The same for something that matters to nobody, unless it is looked for.
    pub fn log_quietly(&self) {
        self.log_at(log::Level::Debug);
    }

    fn log_at(&self, level: log::Level) {
        log::log!(target: "pillarbox", level, "{self}");
    }
}

impl Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { id, from, to, size, client, tls, auth } => {
                write!(
                    f,
                    "event=accepted id={id} from={} to={} size={size}",
                    LogValue(from),
                    LogValue(&List(to))
                )?;
                write!(
                    f,
                    " client={} tls={} auth={}",
                    LogValue(client),
                    LogValue(&tls.unwrap_or("-")),
                    LogValue(&auth.unwrap_or("-"))
                )
            }
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
            Self::Paused { route, pause, about, status, reason } => write!(
                f,
                "event=paused route={} seconds={} about={} status={status} reason={}",
                LogValue(route),
                pause.as_secs(),
                about.unwrap_or("-"),
                Quoted(reason)
            ),
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
            Self::Notice(text) => write!(f, "event=notice text={}", Quoted(text)),
        }
    }
}

/// Mailboxes with commas between them.
pub struct List<'a>(pub &'a [Mailbox]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mailbox) in self.0.iter().enumerate() {
            write!(f, "{}{mailbox}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A value that is quoted only if it has to be: empty, or with a blank, a quote or a hostile character.
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

/// Text without control characters and not too long, as the log has it between quotes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let quoted = Quoted(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// A value in quotes, with quotes, backslashes and control characters escaped, and cut to a length.
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
        // As RCPT had it, which takes any text for the log.
        let turned = Event::Refused { client: "::1", helo: "-", from: "a\u{202e}b@x", to: "-", reply: "no" };
        assert!(turned.to_string().contains("from=\"a\\u{202e}b@x\" "), "{turned}");
        let long = Event::Notice(&"x".repeat(10_000)).to_string();
        assert!(long.len() < 600);
    }
}

//! What a refusal is about: rows from the step and the text of a reply to the subject of the refusal, and what to do.
//!
//! The first matching row counts; `row` explains how a pattern is read. The status of a full mailbox or of a size comes
//! first, whatever words accompany it; then come the words of providers, of Postfix, Exim and Exchange. The patterns are
//! long on purpose, because delivery towards a smarthost decides by the subject:
//!
//! | subject | a 5yz of a smarthost |
//! | --- | --- |
//! | `Account`, `Sender`, `Limit`, `Relaying`, `Host` | keeps the message and pauses the route: it would refuse the next one, too |
//! | `Message`, `Recipient`, or no row | returns the message |
//!
//! `engine::workers::remote` acts on it (`judge`), and `engine::queue::index` remembers whom to blame (`suspects`).
//! [`SmarthostRefusal::of_route`] has the exceptions: a null sender, and MAIL from this host's own login. `probe` takes its
//! advice from the same rows, and the log has the word of the subject.
//!
//! # When a refusal concerns the route
//!
//! [`SmarthostRefusal::of_route`] takes the first of these that applies:
//!
//! | the refusal | concerns |
//! | --- | --- |
//! | no 5yz reply, or not to MAIL, RCPT or the data | not the route |
//! | code 530, 534, 535 or 538 | the account: the host requires a login |
//! | of a notice (null sender), about the sender or without a known subject | only the notice |
//! | of a notice, to MAIL | only the notice |
//! | with one of the first five subjects above | the route |
//! | about the message | the message |
//! | to MAIL, from this host's own login | the account |
//! | any other | the message or its recipient |

use super::row::{About, Hint, fits};
use super::step::Stage;
use crate::mail::outcome::Diagnostic;
use crate::smtp::client::Waiting;

/// The subject of a reply at a step, if a row matches.
#[must_use]
pub fn about(stage: Stage, reply: &str) -> Option<About> {
    // Many replies repeat an address, whose words are not the host's.
    let words: Vec<&str> = reply.split_whitespace().filter(|word| !word.contains('@')).collect();
    fits(REFUSALS, stage, &words.join(" "), "").and_then(|row| row.about)
}

/// A 5yz reply of a smarthost.
#[derive(Debug, Clone, Copy)]
pub struct SmarthostRefusal<'a> {
    /// The reply, and the command that it answers.
    pub diagnostic: &'a Diagnostic,
    /// The reverse-path was null: then a refusal of the sender concerns only the notice.
    pub is_null_sender: bool,
    /// This host submits its own mail there: then a refusal of MAIL without a known subject counts as the account's. A
    /// host that gets only the mail of some domains (`relay.routes`) may refuse the senders of strangers.
    pub is_submission: bool,
}

impl SmarthostRefusal<'_> {
    /// The subject, if the refusal concerns the route: the route pauses, and the message stays (INTERFACE section 4).
    #[must_use]
    pub fn of_route(&self) -> Option<About> {
        let reply = self.diagnostic.reply.as_deref().filter(|reply| reply.starts_with('5'))?;
        let stage = Stage::from(Waiting::named(&self.diagnostic.text)?);
        if !matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Send) {
            return None;
        }
        let about = about(stage, reply);
        let is_wanted_login = ["530", "534", "535", "538"].iter().any(|code| reply.starts_with(code));
        match about {
            _ if is_wanted_login => Some(About::Account),
            // Postfix refuses a sender at RCPT.
            Some(About::Sender) | None if self.is_null_sender => None,
            _ if stage == Stage::Mail && self.is_null_sender => None,
            Some(about) if about.is_routes() => Some(about),
            Some(About::Message) => None,
            _ => (stage == Stage::Mail && self.is_submission).then_some(About::Account),
        }
    }
}

/// The steps at which the host knows this host.
const US: &[Stage] =
    &[Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Send];
/// The steps at which the host knows this host and no recipient.
const BEFORE_RCPT: &[Stage] = &[Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Auth, Stage::Mail];
/// The steps at which the host knows the message, or a part of it.
const MESSAGE: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Send];
/// A locked account: at AUTH, or at a step without a recipient, where the account must be this host's.
pub(crate) const LOCKED_ACCOUNT: (&str, &str) = (
    "account&locked|account&disabled|account&suspended|account&blocked|account&inactive|5.7.14|web browser|too many&auth|\
     too many&login|too many&attempts",
    "The account is locked: sign in once with a browser, follow the instructions, wait an hour, and try again.",
);

const OWN_SENDER: &str =
    "This login may not use this sender: set rewrite.from to an address that belongs to relay.username.";
const UNKNOWN_RECIPIENT: &str = "The host does not know this recipient: check the spelling of the address.";
const CLOSED_MAILBOX: &str = "The mailbox of the recipient is switched off: its owner has to sign in.";
const BLOCKLISTS: &str =
    "spamhaus|barracuda|spamcop|sorbs|blocklist|blacklist|block list|black list|rbl|dnsbl|listed at";
const ON_A_BLOCKLIST: &str = "The address of this host is on a blocklist, as most addresses of home connections are: ask for removal where the reply \
     says, or send by a smarthost.";
const FULL_MAILBOX: &str = "The mailbox of the recipient is full: its owner has to make room.";

const fn row(stages: &'static [Stage], about: About, when: &'static str, advice: &'static str) -> Hint {
    Hint { stages, about: Some(about), when, advice }
}

/// All rows; the first that matches counts.
pub const REFUSALS: &[Hint] = &[
    row(
        US,
        About::Host,
        "starttls&530|starttls&must issue|5.7.0&starttls|encryption&required|tls&required",
        "The host requires TLS: use smtp+starttls:// or smtps:// in relay.smarthost.",
    ),
    // A mailbox or a size, whatever words accompany the status.
    row(
        MESSAGE,
        About::Message,
        "5.3.4|5.2.3|too large|too big|size limit|message size|size exceeds|attachment size|^552 5.3",
        "The message is larger than the host accepts.",
    ),
    row(MESSAGE, About::Recipient, "5.2.2|4.2.2", FULL_MAILBOX),
    row(
        MESSAGE,
        About::Recipient,
        "5.2.1&rate|5.2.1&too many|5.2.121|5.2.122",
        "The recipient gets more mail than the host accepts at the moment: send fewer messages (digest).",
    ),
    row(MESSAGE, About::Recipient, "5.2.1", CLOSED_MAILBOX),
    // The sender.
    row(
        MESSAGE,
        About::Account,
        "5.1.8&outbound|outboundspam|outgoing blocked|outgoing&suspended|outbound&blocked|unusual sending|\
         blocked from sending|banned from sending|sending&suspended|sending&disabled|sending&paused|5.7.501|5.7.502|5.7.503|5.7.511|\
         5.7.705|5.7.708|your account&suspended|your account&blocked|your account&disabled|your account&locked",
        "The provider has stopped this account from sending: sign in with a browser, follow the instructions, or ask its \
         support.",
    ),
    row(&[Stage::Mail, Stage::Send], About::Account, LOCKED_ACCOUNT.0, LOCKED_ACCOUNT.1),
    row(
        MESSAGE,
        About::Account,
        "not yet activated|activate your|credits exceeded|free accounts are for test|are for test purposes only|upgrade your plan",
        "The provider has not enabled this account for such mail: check its plan and state in the provider's console.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "sender&domain not found|sender&does not resolve|domain of sender|5.1.8|sender verify|\
         sender address rejected: domain",
        "The sender's domain is not in DNS: set rewrite.from, or hostname, to a domain that gets mail.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "is not verified|email address not verified|from address not verified|sender&not verified|domain&not verified|\
         domain is unverified|verified sender|sender identity|sender signature|unconfigured sending domain|\
         sending from&is not allowed|validate your sender",
        "The provider has not verified this sender: verify its address or domain in the provider's console, or set \
         rewrite.from to a verified one.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "5.7.60|sendasdenied|5.2.252|send as this sender|right to send as|relaying disallowed as|not owned by user|\
         not allowed to send as|is not allowed to send:|not allowed to send from|not permitted to send|sender address rejected|\
         sender address is not|sender is not allowed|sender not allowed|from address is not|from header address must|\
         from&must match|5.7.1&sender&permission|unauthorized sender|unauthenticated sender|not authorized to send|\
         not authorised to send|not authorized to use this sender|not authorized to perform|must be same as|\
         must be the same as|must equal authorized|from-address is not|sender denied|sender rejected",
        OWN_SENDER,
    ),
    row(MESSAGE, About::Recipient, "5.1.1|5.1.10", UNKNOWN_RECIPIENT),
    // The amount.
    row(
        MESSAGE,
        About::Limit,
        "per second&too many|sending rate|rate limit|ratelimit|rate-limit|throttl|too fast|4.7.0&rate|4.7.28|\
         emails per second|messages per second",
        "The account sends faster than it may: the queue tries again; send fewer messages at once (digest).",
    ),
    row(
        MESSAGE,
        About::Limit,
        "5.4.5|5.1.90|5.7.232|5.7.233|5.7.236|daily&limit|daily&quota|hourly&limit|hourly&quota|sending limit|\
         sending quota|send limit|send quota|mail limit|email limit|email quota|message quota|relay quota|relay limit|\
         relay&limit exceeded|outgoing&limit|outgoing&quota|outbound&limit|outbound&quota|limit&per day|limit&per hour|\
         limit&per minute|quota&per day|quota&per hour|messages per|emails per|mails per|submission quota|\
         limit for account|account&sending limit|too many messages|too many emails|too many mails|you have exceeded|\
         account&exceeded&messages|messages exceeded|exceeded the max|tenant has exceeded",
        "The account has sent as much as it may: wait a day, or send fewer messages (digest, schedule).",
    ),
    // Relaying.
    row(
        MESSAGE,
        About::Relaying,
        "5.7.68|direct send not allowed",
        "Microsoft 365 accepts this mail only from a login or a connector: log in at smtp.office365.com (relay.username), \
         or ask the administrator for a connector for the address of this host.",
    ),
    row(
        MESSAGE,
        About::Relaying,
        "relay&denied|relaying denied|not permitted to relay|not allowed to relay|relay access|relay not permitted|\
         relay not allowed|relaying not allowed|relaying not permitted|relaying is not|relay&prohibited|do not relay|\
         unable to relay|relay&rejected|relay&refused|refused: relay|for relay&credentials|allowed rcpthosts|\
         cannot deliver mail for|delivery is not allowed to this address|client host rejected: access denied|5.7.54|\
         5.7.64",
        "The host relays only for known clients: log in (relay.username), or check relay.smarthost and relay.routes.",
    ),
    // This host.
    row(
        US,
        About::Host,
        "5.7.25|reverse dns|ptr record|rdns|reverse hostname|reverse lookup|client host rejected: cannot find|reverse-mapping",
        "The address of this host has no name: ask the internet provider for a PTR record with the name of this host, or \
         send by a smarthost.",
    ),
    row(US, About::Host, "client host&blocked|5.7.606|5.7.1&blocked using", ON_A_BLOCKLIST),
    row(BEFORE_RCPT, About::Host, BLOCKLISTS, ON_A_BLOCKLIST),
    // An address in the message may be listed, or the recipient may have chosen the list.
    row(&[Stage::Rcpt, Stage::Send], About::Message, BLOCKLISTS, ON_A_BLOCKLIST),
    row(
        US,
        About::Host,
        "helo command rejected|invalid helo|invalid ehlo|need fully-qualified hostname|helo&fqdn|ehlo&fqdn|helo&host not found",
        "The host rejects the name of this host: set hostname to a full name in DNS, such as mail.example.com.",
    ),
    row(
        US,
        About::Host,
        "greylist|graylist|grey-list|greylisted|4.7.1&try again|450&try again later|451&try again later|4.2.0&grey",
        "The host delays unknown clients (greylisting): there is nothing to do; the queue tries again and gets through.",
    ),
    row(
        MESSAGE,
        About::Account,
        "5.7.30&basic|basic authentication is",
        "Microsoft no longer accepts passwords: use OAuth: relay.auth = \"xoauth2\", [oauth], and \
         pillarbox login (docs/recipes.md).",
    ),
    row(
        MESSAGE,
        About::Account,
        "^530|authentication required|authentication is required|requires auth|auth first|pop before|\
         5.5.1&authentication|must authenticate|not authenticated|smtp auth&required|please log in|\
         5.7.57|5.7.3&authenticat",
        "The host requires a login: set relay.username and put the password into relay.password_file.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "dmarc|5.7.515|required authentication level",
        "The sender's domain requires mail to be signed or sent by its own hosts (DMARC): send by the smarthost of that \
         domain, or set up [[dkim]] for it.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "5.7.23|spf|5.7.26&authenticat",
        "The SPF record of the sender's domain does not name this host: add its address there, or send by the smarthost \
         of that domain.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "5.7.26|dkim",
        "Receivers require authentication of this mail: set up [[dkim]] and the SPF record of the sender's domain, or send \
         by its smarthost.",
    ),
    row(
        &[Stage::Mail],
        About::Message,
        "5.6.7|smtputf8",
        "The host accepts no addresses with UTF-8: set rewrite.from to one without.",
    ),
    row(
        &[Stage::Mail],
        About::Message,
        "5.1.7|^501|^555|5.5.4",
        "The host rejects the syntax of the sender's address: set rewrite.from, or hostname, to a full one.",
    ),
    row(
        MESSAGE,
        About::Recipient,
        "over quota|overquota|mailbox&full|quota exceeded|mailbox size",
        FULL_MAILBOX,
    ),
    row(MESSAGE, About::Recipient, "inactive|mailbox disabled", CLOSED_MAILBOX),
    row(
        MESSAGE,
        About::Recipient,
        "user unknown|no such user|unknown user|recipient&not found|does not exist|mailbox unavailable|\
         unknown recipient|unrouteable|no mailbox",
        UNKNOWN_RECIPIENT,
    ),
    row(
        MESSAGE,
        About::Host,
        "4.3.1|insufficient&storage|out of space",
        "The disk of the host is full: the queue tries again.",
    ),
    row(
        &[Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Mail, Stage::Rcpt, Stage::Send],
        About::Host,
        "^421|too many connections|4.7.0|too busy",
        "The host is busy, or does not trust the address of this host yet: the queue tries again.",
    ),
    row(
        &[Stage::Greeting, Stage::Ehlo],
        About::Host,
        "^554|^550|^5",
        "The host refuses mail from the address of this host: send by a smarthost, or ask its operator.",
    ),
];

#[cfg(test)]
mod tests;

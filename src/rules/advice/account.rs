//! Rows for refusals of mail that are about the account, its sender, its limits, or relaying: they pause the route.
//!
//! See `refusal` for what the subject decides, and `row` for how a pattern is read. Patterns are long on purpose.

use super::row::{About, Hint};
use super::step::Stage;

/// The steps at which the host knows the message, or a part of it.
const MESSAGE: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Send];

const fn row(stages: &'static [Stage], about: About, when: &'static str, advice: &'static str) -> Hint {
    Hint { stages, about: Some(about), when, advice }
}

/// Rows about the account.
pub(super) const ROWS: &[Hint] = &[
    row(
        MESSAGE,
        About::Account,
        "5.1.8&outbound|outboundspam|outgoing blocked|outgoing&suspended|outbound&blocked|unusual sending|\
         blocked from sending|banned from sending|sending&suspended|sending&disabled|sending&paused|=5.7.501|=5.7.502|=5.7.503|\
         =5.7.511|=5.7.705|your account&suspended|your account&blocked|your account&disabled|your account&locked|\
         address locked or deactivated|5.1.8&email outgoing blocked|is not allowed to send: account terminated",
        "The provider has stopped this account from sending: sign in with a browser, follow the instructions, or ask its \
         support.",
    ),
    row(
        MESSAGE,
        About::Account,
        "traffic not accepted from this ip|=5.7.708",
        "Microsoft does not let this organisation send from here yet, as with new or trial subscriptions: its administrator has to \
         ask Microsoft's support.",
    ),
    row(
        &[Stage::Mail, Stage::Send],
        About::Account,
        "account&locked|account&disabled|account&suspended|account&blocked|account&inactive|5.7.14|web browser|too many&auth|\
         too many&login|too many&attempts",
        "The account is locked: sign in once with a browser, follow the instructions, wait an hour, and try again.",
    ),
    row(
        MESSAGE,
        About::Account,
        "not yet activated|not activated|activate your|credits exceeded|free accounts are for test|are for test purposes only|\
         upgrade your plan|insufficient credit|credit balance|not enough credit|no credits|out of credit|free trial has|your trial has|\
         account not yet verified|your account&not verified",
        "The provider has not enabled this account for such mail: check its plan and state in the provider's console.",
    ),
    row(
        MESSAGE,
        About::Account,
        "unauthorized ip|unauthorised ip|525&5.7.1",
        "The provider lets only known addresses of hosts send: add the address of this host to the authorized ones in its \
         console, or turn the restriction off.",
    ),
    row(
        MESSAGE,
        About::Account,
        "account is not available in bridge",
        "Proton Mail Bridge does not have this account: sign in to it there, and set relay.username to its address.",
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
         5.5.1&authentication|authentication credentials invalid|must authenticate|authenticate first|unauthenticated senders not allowed|not authenticated|smtp auth&required|please log in|\
         5.7.57|5.7.3&authenticat",
        "The host requires a login: set relay.username and put the password into relay.password_file.",
    ),
    // The sender.
    row(
        MESSAGE,
        About::Sender,
        "sender&domain not found|sender&does not resolve|domain of sender|5.1.8|sender verify|=sender verify failed|\
         =sender address rejected: domain|invalid dns mx or a/aaaa resource record|sender&has no mx|sender&no mx record|\
         sender&does not exist|requires valid sender domain",
        "The sender's domain is not in DNS: set rewrite.from, or hostname, to a domain that gets mail.",
    ),
    row(
        &[Stage::Mail],
        About::Sender,
        "no mx|does not exist|domain not found|domain not exist|unresolvable",
        "The sender's domain is not in DNS: set rewrite.from, or hostname, to a domain that gets mail.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "is not verified|email address not verified|from address not verified|sender&not verified|domain&not verified|\
         domain is unverified|verified sender|sender identity|sender signature|unconfigured sending domain|\
         sending from&is not allowed|validate your sender|is not allowed to send: the domain is unverified|\
         not a verified sender",
        "The provider has not verified this sender: verify its address or domain in the provider's console, or set \
         rewrite.from to a verified one.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "5.7.60|sendasdenied|5.2.252|send as this sender|right to send as|relaying disallowed as|not owned by user|not owned by auth|\
         not allowed to send as|is not allowed to send:|not allowed to send from|not permitted to send|\
         =sender address rejected|sender address is not|sender is not allowed|sender not allowed|from address is not|\
         from header address must|from&must match|5.7.1&sender&permission|unauthorized sender|unauthenticated sender|\
         not authorized to send|not authorised to send|not authorized to use this sender|not authorized to perform|\
         must be same as|must be the same as|must equal authorized|from-address is not|sender denied|sender rejected|\
         invalid return path|unknown sender address",
        "This login may not use this sender: set rewrite.from to an address that belongs to relay.username.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "dmarc|5.7.26&dmarc policy|5.7.515|required authentication level|5.7.509",
        "The sender's domain requires mail to be signed or sent by its own hosts (DMARC): send by the smarthost of that \
         domain, or set up [[dkim]] for it.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "5.7.23|spf|5.7.26&authenticat|5.7.27|sender policy framework",
        "The SPF record of the sender's domain does not name this host: add its address there, or send by the smarthost \
         of that domain.",
    ),
    row(
        MESSAGE,
        About::Sender,
        "5.7.26|dkim|5.7.30&dkim",
        "Receivers require authentication of this mail: set up [[dkim]] and the SPF record of the sender's domain, or send \
         by its smarthost.",
    ),
    // The amount.
    row(
        MESSAGE,
        About::Limit,
        "per second&too many|sending rate|rate limit|ratelimit|rate-limit|throttl|too fast|4.7.0&rate limit|\
         emails per second|messages per second|thread limit exceeded|concurrent connections limit|4.3.2&concurrent",
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
         account&exceeded&messages|messages exceeded|exceeded the max|too many recipients this hour|defers and failures per hour|tenant has exceeded|exceeded your messaging limits|\
         throttling failure&quota exceeded|=failure sending mail. try again later|\
         is not allowed to send: recipient limit exceeded",
        "The account has sent as much as it may: wait a day, or send fewer messages (digest, schedule).",
    ),
    // Relaying.
    row(
        MESSAGE,
        About::Relaying,
        "=5.7.68|direct send not allowed|tenantinboundattribution",
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
];

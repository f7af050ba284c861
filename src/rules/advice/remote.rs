//! Rows for refusals of mail that are about this host, the message or the recipient. Those about this host pause the route.
//!
//! See `refusal` for what the subject decides, and `row` for how a pattern is read.

use super::row::{About, Hint};
use super::step::Stage;

/// The steps at which the host knows this host.
const US: &[Stage] =
    &[Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Send];
/// The steps at which the host knows this host and no recipient.
const BEFORE_RCPT: &[Stage] = &[Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Auth, Stage::Mail];
/// The steps at which the host knows the message, or a part of it.
const MESSAGE: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Send];
/// The steps at which the host knows a recipient: MAIL is about the sender alone.
const RECIPIENT: &[Stage] = &[Stage::Rcpt, Stage::Send];

const BLOCKLISTS: &str =
    "spamhaus|barracuda|spamcop|sorbs|blocklist|blacklist|block list|black list|rbl|dnsbl|listed at";
const ON_A_BLOCKLIST: &str = "The address of this host is on a blocklist, as most addresses of home connections are: ask for removal where the reply \
     says, or send by a smarthost.";

const fn row(stages: &'static [Stage], about: About, when: &'static str, advice: &'static str) -> Hint {
    Hint { stages, about: Some(about), when, advice }
}

/// Rows about this host, the message or the recipient.
pub(super) const ROWS: &[Hint] = &[
    // This host.
    row(
        &[Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Mail, Stage::Rcpt, Stage::Send],
        About::Host,
        "starttls&530|starttls&must issue|5.7.0&starttls|encryption&required|tls&required|5.7.29|sent over a tls connection",
        "The host requires TLS: use smtp+starttls:// or smtps:// in relay.smarthost.",
    ),
    row(
        US,
        About::Host,
        "5.7.25|reverse dns|ptr record|rdns|reverse hostname|reverse lookup|client host rejected: cannot find|\
         reverse-mapping|dns ptr|dns ptr resource record|failure in dns look-up",
        "The address of this host has no name: ask the internet provider for a PTR record with the name of this host, or \
         send by a smarthost.",
    ),
    row(
        US,
        About::Host,
        "client host&blocked|=5.7.606|5.7.1&blocked using|5.7.1&on our block list (s3150|weren't sent&on our block list|\
         5.7.0&blocked&proofpoint|dnsbl:rbl|^521&block|ip address is block listed|is_blocked|\
         rejected due to listing in spamhaus",
        ON_A_BLOCKLIST,
    ),
    row(BEFORE_RCPT, About::Host, BLOCKLISTS, ON_A_BLOCKLIST),
    row(
        US,
        About::Host,
        "the ip you're using to send mail is not authorized|dialup/transient ip not allowed|unauthorized interface for|\
         dynamic ip|dial-up ip|residential ip",
        "The host takes no mail from the addresses of home connections: send by a smarthost (relay.smarthost).",
    ),
    row(
        US,
        About::Host,
        "ipv6 sending guidelines",
        "Google wants a PTR record and SPF or DKIM for mail over IPv6: publish them, or set relay.family = \"ipv4\".",
    ),
    row(
        US,
        About::Host,
        "unusual rate of unsolicited|temporarily deferred due to&complaints|tss0|permanently deferred|\
         bad reputation|a problem occurred. (ask your postmaster|4.7.650|4.7.651|rate limited due to ip reputation|\
         =rp-001|low reputation|%mx&=5.7.708|reputation of&ip|^4&4.7.500|4.7.28|5.7.28",
        "The host does not trust the address of this host, as it has seen little or bad mail from it: the queue tries again; \
         ask its postmaster where the reply says, or send by a smarthost.",
    ),
    row(
        US,
        About::Host,
        "helo command rejected|invalid helo|invalid ehlo|need fully-qualified hostname|helo&fqdn|ehlo&fqdn|helo&host not found",
        "The host rejects the name of this host: set hostname to a full name in DNS, such as mail.example.com.",
    ),
    row(
        &[Stage::Ehlo],
        About::Host,
        "ehlo argument|helo argument",
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
        &[Stage::StartTls],
        About::Host,
        "^4",
        "The host is busy, or does not trust the address of this host yet: the queue tries again.",
    ),
    row(
        &[Stage::Greeting, Stage::Ehlo],
        About::Host,
        "^5",
        "The host refuses mail from the address of this host: send by a smarthost, or ask its operator.",
    ),
    // The message.
    row(
        MESSAGE,
        About::Message,
        "=5.3.4|=5.2.3|too large|too big|size limit|message size|message size exceeds|size exceeds|attachment size|\
         maximum attachment size|message length exceeded",
        "The message is larger than the host accepts.",
    ),
    // An address in the message may be listed, or the recipient may have chosen the list.
    row(RECIPIENT, About::Message, BLOCKLISTS, ON_A_BLOCKLIST),
    row(
        RECIPIENT,
        About::Message,
        "reject due to policy restrictions|[cs01]|[hm08]|rejected due to local policy|not accepted for policy reasons|\
         [pr(ct",
        "A filter of the host rejected this message: send it in another form, sign it ([[dkim]]), or ask the host's \
         postmaster.",
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
    // The recipient.
    row(
        MESSAGE,
        About::Recipient,
        "=5.2.2|=4.2.2|~over quota|~overquota|~mailbox&~full|~quota exceeded|~mailbox size",
        "The mailbox of the recipient is full: its owner has to make room.",
    ),
    row(
        MESSAGE,
        About::Recipient,
        "=5.2.1&rate|=5.2.1&too many|=5.2.121|=5.2.122|=4.2.1&rate|=4.2.1&too quickly|=deferred due to excessive volume",
        "The recipient gets more mail than the host accepts at the moment: send fewer messages (digest).",
    ),
    row(
        MESSAGE,
        About::Recipient,
        "=5.2.1|~inactive|~mailbox disabled|~mailbox currently suspended",
        "The mailbox of the recipient is switched off: its owner has to sign in.",
    ),
    row(
        RECIPIENT,
        About::Recipient,
        "=5.1.1|=5.1.10|~user unknown|~no such user|~unknown user|~recipient&~not found|~does not exist|~mailbox unavailable|\
         ~unknown recipient|~unrouteable|~no mailbox|~doesn't have a",
        "The host does not know this recipient: check the spelling of the address.",
    ),
];

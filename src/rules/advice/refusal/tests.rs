use super::*;
use crate::mail::status::{Class, EnhancedStatus};

fn diagnostic(to: &str, reply: &str) -> Diagnostic {
    let status = reply.split(' ').nth(1).and_then(EnhancedStatus::parse);
    let status = status.unwrap_or(EnhancedStatus::new(Class::Permanent, 0, 0));
    Diagnostic { status, remote: Some("smtp.example".into()), reply: Some(reply.into()), text: to.into() }
}

fn smarthost() -> Peer<'static> {
    Peer { name: "smtp.example", kind: PeerKind::Smarthost }
}

fn of_route(to: &str, reply: &str) -> Option<About> {
    let diagnostic = diagnostic(to, reply);
    SmarthostRefusal { diagnostic: &diagnostic, is_null_sender: false, is_submission: true }.of_route()
}

const ALL: [&str; 5] = ["MAIL", "RCPT", "DATA", "the final dot", "BDAT"];

/// Replies of providers and mail servers about the account, at any step.
const ACCOUNT: &[(About, &str)] = &[
    (About::Limit, "550 5.4.5 Daily user sending limit exceeded. For more information go to a1b - gsmtp"),
    (About::Limit, "550 5.4.5 Daily SMTP relay limit exceeded for customer"),
    (About::Limit, "550 5.7.1 Daily SMTP relay sending limit exceeded for this user."),
    (About::Limit, "550 5.7.1 Email quota exceeded. Learn more"),
    (
        About::Limit,
        "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
    ),
    (About::Limit, "550 5.7.233 Access denied, tenant has exceeded the external recipient rate limit"),
    (
        About::Limit,
        "554 5.7.0 Your message could not be sent. The limit on the number of allowed outgoing messages was exceeded. Try again later.",
    ),
    (About::Limit, "552 You are over your relay quota"),
    (About::Limit, "550 Requested action not taken: mailbox unavailable Mail send limit exceeded."),
    (
        About::Limit,
        "550 Domain example.com has exceeded the max emails per hour (125/125 (100%)) allowed. Message discarded.",
    ),
    (About::Limit, "550 5.7.0 Requested action not taken: too many emails per second"),
    (About::Limit, "550 5.7.1 policyd: Sender rate limit exceeded"),
    (About::Limit, "554 Sending limit for this account reached"),
    (About::Limit, "550 Emails per day limit exceeded"),
    (About::Limit, "550 5.7.1 Too many recipients this hour"),
    (About::Limit, "550 Message discarded: max defers and failures per hour (5/5 (100%)) allowed"),
    (About::Account, "550 5.7.0 Insufficient credits"),
    (About::Account, "550 5.7.1 Credit balance exhausted"),
    (About::Account, "550 5.7.0 Your free trial has expired"),
    (About::Account, "554 5.7.1 Account not yet verified. Please confirm your e-mail"),
    (About::Account, "550 5.7.0 Authentication credentials invalid"),
    (About::Account, "550 5.7.501 Service unavailable. Account joe@example.com blocked from sending."),
    (About::Account, "550 5.1.8 Access denied, bad outbound sender"),
    (
        About::Account,
        "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed to process message",
    ),
    (About::Account, "554 Message rejected: Sending suspended for this account"),
    (About::Account, "550 Outgoing mail from joe@example.com has been suspended."),
    (About::Account, "550 5.4.6 Unusual sending activity detected. Please try after sometime"),
    (About::Account, "554 5.1.8 Email Outgoing Blocked."),
    (About::Account, "550 5.7.1 Your account has been suspended"),
    (About::Account, "554 5.7.1 This account is currently blocked from sending emails"),
    (About::Account, "502 5.7.0 Please activate your SMTP account"),
    (About::Account, "550 5.7.1 Client was not authenticated"),
    (About::Account, "550 5.7.30 Basic authentication is not supported for Client Submission."),
    (
        About::Sender,
        "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
    ),
    (About::Sender, "554 5.2.252 SendAsDenied; joe@example.com not allowed to send as root@nas"),
    (About::Sender, "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    (About::Sender, "550 5.7.1 joe does not have the right to send as root@nas"),
    (
        About::Sender,
        "554 Message rejected: Email address is not verified. The following identities failed the check: root@nas",
    ),
    (About::Sender, "550 The from address does not match a verified Sender Identity. Mail cannot be sent"),
    (About::Sender, "553 5.7.1 <root@nas>: Sender address rejected: not owned by user joe"),
    (About::Sender, "550 5.1.0 <root@nas>: Sender address rejected: User unknown in virtual mailbox table"),
    (About::Sender, "550 5.1.8 <root@nas>: Sender address rejected: Domain not found"),
    (About::Sender, "553 Relaying disallowed as root@nas"),
    (About::Sender, "553 Sender is not allowed to relay emails"),
    (About::Sender, "550-Requested action not taken: mailbox unavailable Sender address is not allowed."),
    (About::Sender, "550 5.7.0 From address is not one of your addresses."),
    (About::Sender, "550 From header address must match the authenticated address"),
    (About::Sender, "551 5.7.1 Not authorised to send from this header address"),
    (
        About::Sender,
        "550 Domain nas is not allowed to send: The domain is unverified and requires DNS configuration",
    ),
    (
        About::Sender,
        "550 5.7.515 Access denied, sending domain nas does not meet the required authentication level.",
    ),
    (About::Relaying, "554 5.7.1 <me@example.com>: Relay access denied"),
    (About::Relaying, "550 relay not permitted"),
    (About::Relaying, "550 5.7.1 Unable to relay"),
    (About::Relaying, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"),
    (About::Relaying, "550 5.7.0 Mail relay denied [192.0.2.1]."),
    (About::Relaying, "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization"),
    (About::Relaying, "550 nas is currently not permitted to relay through this server."),
    (About::Relaying, "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"),
    (About::Relaying, "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
    (About::Relaying, "554 Relay rejected for policy reasons."),
    (About::Relaying, "550 Relaying not permitted"),
    (About::Relaying, "550 I cannot deliver mail for me@far.example"),
    (About::Relaying, "550 Delivery is not allowed to this address."),
    (About::Relaying, "571 Delivery not authorized, message refused: relaying"),
    (
        About::Account,
        "503 This mail server requires authentication when attempting to send to a non-local address",
    ),
    (About::Account, "503 auth first (#5.5.1)"),
    (About::Account, "550 you must check for new mail before sending mail (POP before SMTP)"),
    (About::Account, "554 Message rejected: Sending paused for this account"),
    (About::Account, "550 Sandbox subdomains are for test purposes only. Please add your own domain"),
    (About::Sender, "550 5.7.1 Domain nas is not allowed to send: The domain is disabled"),
    (About::Limit, "550 5.7.1 Number of messages exceeded for today"),
    (
        About::Sender,
        "554 Access denied: User `arn:aws:iam::1:user/x' is not authorized to perform `ses:SendRawEmail' on resource",
    ),
    (About::Sender, "501 mail from address must be same as authorization user"),
    (About::Sender, "553 Mail from must equal authorized user"),
    (About::Sender, "550 5.7.1 Unconfigured Sending Domain <nas>"),
    (About::Sender, "550 5.7.1 Sending from domain nas is not allowed"),
    (About::Sender, "550 The sender you used is not valid. Validate your sender or authenticate your domain"),
    (About::Sender, "550 The 'From' address you supplied is not a Sender Signature on your account"),
    (About::Sender, "550 5.7.0 From-Address is not one of yours"),
    (About::Sender, "550 5.1.0 Sender denied"),
    // The next message comes from the same host.
    (About::Host, "554 5.7.1 Service unavailable; Client host [192.0.2.99] blocked using zen.spamhaus.org"),
    (About::Host, "550 5.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.99]"),
    (About::Host, "504 5.5.2 <nas>: Helo command rejected: need fully-qualified hostname"),
    (About::Host, "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)"),
    (About::Host, "550 5.7.1 TLS required"),
];

#[test]
fn what_is_the_accounts_is_the_routes_at_each_step() {
    for (about, reply) in ACCOUNT {
        for to in ALL {
            assert_eq!(of_route(to, reply), Some(*about), "{reply:?} to {to}");
        }
        let advice = crate::rules::advice::hints::hint(Stage::Send, reply, smarthost());
        assert!(advice.is_some(), "{reply}");
    }
}

/// Replies about the recipient or the message, whatever words accompany the status.
const OTHERS: &[&str] = &[
    "550 5.1.1 <joe@far.example>: Recipient address rejected: User unknown in relay recipient table",
    "550 5.1.1 The email account that you tried to reach does not exist.",
    "550 No such user here",
    "550 Unrouteable address",
    "550 mailbox unavailable",
    "550 mailbox full",
    "552 5.2.2 The email account that you tried to reach is over quota",
    "552 5.2.2 over your relay quota, daily limit exceeded",
    "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents more. rate limit exceeded",
    "550 5.2.1 account disabled, daily sending limit exceeded",
    "552 5.3.4 Message size exceeds the limit of your account",
    "552 Message size exceeds maximum, outgoing limit",
    "552 5.2.3 Your message exceeded Google's message size limits",
    "554 5.7.1 message content rejected",
    "554 5.7.1 This message looks like spam",
    "550 5.7.1 virus found",
    "552-5.7.0 This message was blocked because its content presents a potential security issue",
    "550 5.6.0 Lines too long",
    "554 5.6.1 bad MIME",
    "554 5.4.6 Too many hops",
    "550 5.7.1 <me@relay.example.com>: Recipient address rejected: Access denied",
    "550 <relay@far.example>: access denied",
    "550 <daily-limit@far.example>: no such user here",
    "554 5.7.1 message contains a URL on a blacklist",
    "554 5.7.1 Blocked: URL listed at dbl.spamhaus.org",
    "550 5.7.1 Recipient not authorized, your IP has been found on a block list",
    "550 you have exceeded the maximum attachment size",
    "550 5.4.1 Recipient address rejected: Access denied",
    "554 delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]",
    "554 30 Sorry, your message cannot be delivered. This mailbox is disabled (554.30).",
    "550 5.7.124 RESOLVER.RST.SenderNotInAllowed; sender not in allowed-senders list",
    "550-5.7.1 This message is not RFC 5322 compliant. There are multiple From headers",
    "554 Transaction failed Reject due to policy restrictions.",
    "550 Administrative prohibition",
    "550 mailbox at mx.industrial.example is suspended",
    "550 Recipient's trial period has ended",
    "550 5.7.1 Recipient account not verified",
    "550 5.7.1 too many incoming mail for this user today",
    "550 5.7.1 You are not allowed to send mail to this list",
    "554 5.7.1 Recipient address rejected: undeliverable address: mailbox inactive",
    "550 5.5.3 Too many recipients",
    "554 5.5.1 no valid recipients",
    "554 Transaction failed",
    "550 5.0.0 no",
];

#[test]
fn what_is_the_recipients_or_the_messages_stays_so_but_at_mail() {
    for reply in OTHERS {
        for to in ["RCPT", "DATA", "the final dot", "BDAT"] {
            assert_eq!(of_route(to, reply), None, "{reply:?} to {to}");
        }
    }
}

#[test]
fn at_mail_all_is_the_accounts_but_size_utf8_and_syntax() {
    for reply in
        ["550 5.7.1 no", "554 no", "550 5.0.0 spam", "503 5.5.1 AUTH first", "550 User unknown", "552 full"]
    {
        assert_eq!(of_route("MAIL", reply), Some(About::Account), "{reply}");
    }
    for reply in [
        "552 5.3.4 too big",
        "552 Message size exceeds fixed limit",
        "550 5.6.7 SMTPUTF8 needed",
        "501 bad address",
        "501 Invalid MAIL FROM address provided",
        "501 5.1.7 bad address",
        "555 5.5.4 unsupported parameter",
        "550 5.1.7 invalid",
        "550 5.5.4 no such parameter",
    ] {
        assert_eq!(of_route("MAIL", reply), None, "{reply}");
    }
    let strange = diagnostic("MAIL", "550 5.7.1 we do not like the senders of others");
    let by_routes = SmarthostRefusal { diagnostic: &strange, is_null_sender: false, is_submission: false };
    assert_eq!(by_routes.of_route(), None);
}

/// Refusals of a notice say nothing about other mail.
#[test]
fn the_null_sender_that_is_refused_is_never_the_routes() {
    let of_null = |to: &str, reply: &str| {
        let diagnostic = diagnostic(to, reply);
        SmarthostRefusal { diagnostic: &diagnostic, is_null_sender: true, is_submission: true }.of_route()
    };
    for (_, reply) in ACCOUNT {
        assert_eq!(of_null("MAIL", reply), None, "{reply}");
    }
    assert_eq!(of_null("MAIL", "501 Invalid MAIL FROM address provided"), None);
    assert_eq!(of_null("RCPT", "553 5.7.1 <>: Sender address rejected: not owned by user joe"), None);
    assert_eq!(of_null("the final dot", "550 5.4.5 Daily user sending limit exceeded"), Some(About::Limit));
}

#[test]
fn what_is_no_5yz_to_a_command_of_a_transaction_is_no_refusal() {
    for (to, reply) in [
        ("MAIL", "450 4.7.1 rate limit"),
        ("AUTH", "535 5.7.8 no"),
        ("EHLO", "550 relay denied"),
        ("the connection", "554 relay denied"),
        ("words of ours", "550 relay denied"),
    ] {
        assert_eq!(of_route(to, reply), None, "{reply} to {to}");
    }
    let own = Diagnostic::local(EnhancedStatus::MESSAGE_TOO_BIG, "MAIL");
    assert_eq!(
        SmarthostRefusal { diagnostic: &own, is_null_sender: false, is_submission: true }.of_route(),
        None
    );
}

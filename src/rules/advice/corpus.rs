//! What the providers that boxes use most say when they refuse, and the advice that follows: a row for each refusal, with its
//! code and the gist of its text.
//!
//! Above each group stands where its texts are from. Those marked "reports" were sent in by people in public issue trackers
//! and forums; those without a source are the words of the issue that asked for this table.
//!
//! Looked for in public and not found: the texts of T-Online's and Infomaniak's smarthosts (logins, senders), OVH's 535, Fastmail's
//! "Not authorised to send from this header address", Brevo's 525 (its help describes it), Yahoo's TSS09, and GMX's "Mail send limit
//! exceeded". Their rows hold what is likely.

use super::hints::hint;
use super::refusal::SmarthostRefusal;
use super::row::{About, Peer, PeerKind};
use super::step::Stage;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;

/// A refusal.
pub(super) struct Said {
    /// The host that says it.
    host: &'static str,
    kind: PeerKind,
    /// The steps at which it is said.
    pub stages: &'static [Stage],
    pub text: &'static str,
    /// A part of the advice.
    advice: &'static str,
    /// The subject, if a smarthost says it to mail and the route has to pause.
    pauses: Option<About>,
}

impl Said {
    pub(super) fn peer(&self) -> Peer<'static> {
        Peer { name: self.host, kind: self.kind }
    }
}

const fn mx(host: &'static str, stages: &'static [Stage], text: &'static str, advice: &'static str) -> Said {
    Said { host, kind: PeerKind::Mx, stages, text, advice, pauses: None }
}

const fn login(host: &'static str, text: &'static str, advice: &'static str) -> Said {
    Said { host, kind: PeerKind::Smarthost, stages: AUTH, text, advice, pauses: None }
}

const fn smart(
    host: &'static str,
    stages: &'static [Stage],
    text: &'static str,
    advice: &'static str,
    pauses: About,
) -> Said {
    Said { host, kind: PeerKind::Smarthost, stages, text, advice, pauses: Some(pauses) }
}

const AUTH: &[Stage] = &[Stage::Auth];
const GREETING: &[Stage] = &[Stage::Greeting];
const MAIL: &[Stage] = &[Stage::Mail];
const RCPT: &[Stage] = &[Stage::Rcpt];
const SEND: &[Stage] = &[Stage::Send];
const ANY: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Send];
const LATE: &[Stage] = &[Stage::Rcpt, Stage::Send];

const GMAIL: &str = "smtp.gmail.com";
const GMAIL_MX: &str = "gmail-smtp-in.l.google.com";
const OFFICE: &str = "smtp.office365.com";
const OFFICE_MX: &str = "far-example.mail.protection.outlook.com";
const OUTLOOK: &str = "smtp-mail.outlook.com";
const OUTLOOK_MX: &str = "outlook-com.olc.protection.outlook.com";
const YAHOO: &str = "smtp.mail.yahoo.com";
const YAHOO_MX: &str = "mta5.am0.yahoodns.net";
const AOL: &str = "smtp.aol.com";
const ICLOUD: &str = "smtp.mail.me.com";
const ICLOUD_MX: &str = "mx01.mail.icloud.com";
const FASTMAIL: &str = "smtp.fastmail.com";
const GMX: &str = "mail.gmx.net";
const GMX_MX: &str = "mx00.emig.gmx.net";
const WEB: &str = "smtp.web.de";
const WEB_MX: &str = "mx-ha02.web.de";
const TELEKOM: &str = "securesmtp.t-online.de";
const TELEKOM_MX: &str = "mx02.t-online.de";
const ZOHO: &str = "smtp.zoho.eu";
const SES: &str = "email-smtp.eu-west-1.amazonaws.com";
const SENDGRID: &str = "smtp.sendgrid.net";
const MAILGUN: &str = "smtp.mailgun.org";
const BREVO: &str = "smtp-relay.brevo.com";
const OVH: &str = "ssl0.ovh.net";
const INFOMANIAK: &str = "mail.infomaniak.com";
const BRIDGE: &str = "127.0.0.1";
const PROTON: &str = "smtp.protonmail.ch";

/// All of them.
#[rustfmt::skip]
pub(super) const CORPUS: &[Said] = &[
    // Gmail: https://support.google.com/a/answer/3726730,
    // https://github.com/Mailu/Mailu/issues/2599 (NotAuthorizedError), https://github.com/firebase/functions-samples/issues/39 (5.7.14),
    // https://github.com/kootenpv/yagmail/issues/111 (WebLoginRequired)
    login(GMAIL, "535-5.7.8 Username and Password not accepted. Learn more at https://support.google.com/mail/?p=BadCredentials", "apppasswords"),
    login("smtp.example", "535-5.7.8 Username and Password not accepted. For more information, go to https://support.google.com/mail/?p=BadCredentials", "apppasswords"),
    login(GMAIL, "534 5.7.9 Application-specific password required. Learn more", "apppasswords"),
    login(GMAIL, "534 5.7.14 Please log in via your web browser and then try again", "sign in once with a browser"),
    login(GMAIL, "534-5.7.9 Please log in with your web browser and then try again. Learn more at https://support.google.com/mail/?p=WebLoginRequired", "sign in once with a browser"),
    login(GMAIL, "454 4.7.0 Too many login attempts, please try again later", "too many logins"),
    login(GMAIL, "454 4.7.0 Temporary authentication failure: connection lost", "try again later"),
    smart(GMAIL, ANY, "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to", "as much as it may", About::Limit),
    smart("smtp-relay.gmail.com", ANY, "550 5.7.1 Daily SMTP relay limit exceeded for customer", "as much as it may", About::Limit),
    smart("smtp-relay.gmail.com", ANY, "550-5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've registered in your Workspace SMTP Relay service does not match", "relays only for known clients", About::Relaying),
    mx(GMAIL_MX, SEND, "550 5.7.1 [192.0.2.99] The IP you're using to send mail is not authorized to send email directly to our servers. Please use the SMTP relay at your service provider instead.", "send by a smarthost"),
    mx(GMAIL_MX, ANY, "550 5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM.", "SPF record"),
    mx(GMAIL_MX, SEND, "550 5.7.26 Unauthenticated email from nas.example is not accepted due to domain's DMARC policy. Please contact the administrator of the domain. SPF, DKIM", "DMARC"),
    mx(GMAIL_MX, SEND, "550 5.7.30 This mail has been blocked because DKIM does not pass", "[[dkim]]"),
    mx(GMAIL_MX, ANY, "550 5.7.25 The IP address sending this message does not have a PTR record setup", "PTR record"),
    mx(GMAIL_MX, SEND, "550-5.7.1 [2001:db8::1] Our system has detected that this message does not meet IPv6 sending guidelines regarding PTR records and authentication.", "relay.family = \"ipv4\""),
    mx(GMAIL_MX, SEND, "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address.", "does not trust the address"),
    mx(GMAIL_MX, RCPT, "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address", "spelling of the address"),
    mx(GMAIL_MX, RCPT, "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time.", "gets more mail"),
    mx(GMAIL_MX, RCPT, "452 4.2.2 The email account that you tried to reach is over quota", "is full"),
    mx(GMAIL_MX, RCPT, "550 5.2.1 The email account that you tried to reach is inactive", "switched off"),
    mx(GMAIL_MX, SEND, "552 5.2.3 Your message exceeded Google's message size limits", "larger"),
    mx(GMAIL_MX, MAIL, "550 5.7.29 The message is not sent over a TLS connection", "requires TLS"),
    // Microsoft 365 and Outlook.com: https://learn.microsoft.com/exchange/mail-flow-best-practices/non-delivery-reports-in-exchange-online
    // (codes 5.7.700 to 5.7.750), https://github.com/OpenCTI-Platform/opencti/issues/12069 (5.7.30),
    // https://github.com/nodemailer/nodemailer/issues/1714 and /1071 (5.7.139, 5.7.3), https://sevencreative.co.uk (S3150),
    // https://pastebin.com/SuB30vi5 (5.7.57), https://pastebin.com/dW4JrGn7 (RP-001)
    login(OFFICE, "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled", "Microsoft accepts no password"),
    login(OUTLOOK, "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [PN0PR01CA0024.PROD.OUTLOOK.COM]", "Microsoft accepts no password"),
    login(OFFICE, "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect. [AB]", "user name or the password is wrong"),
    login(OFFICE, "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.", "Microsoft accepts no password"),
    login(OFFICE, "535 5.7.3 Authentication unsuccessful [DB6P18901CA0015.EURP189.PROD.OUTLOOK.COM]", "Microsoft accepts no password"),
    login(OFFICE, "550 5.7.30 Basic authentication is not supported for Client Submission.", "OAuth"),
    smart(OFFICE, ANY, "550 5.7.30 Basic authentication is not supported for Client Submission.", "OAuth", About::Account),
    smart(OFFICE, MAIL, "530 5.7.57 Client not authenticated to send mail. [BN1P110CA0052.NAMP110.PROD.OUTLOOK.COM]", "requires a login", About::Account),
    smart(OFFICE, ANY, "554 5.2.252 SendAsDenied; joe not allowed to send as root; STOREDRV.Submission", "rewrite.from", About::Sender),
    smart(OFFICE, ANY, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "rewrite.from", About::Sender),
    smart(OFFICE, ANY, "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients", "as much as it may", About::Limit),
    smart(OFFICE, ANY, "550 5.7.501 Service unavailable. Access denied, spam abuse detected", "stopped this account", About::Account),
    smart(OFFICE, ANY, "550 5.7.705 Access denied, tenant has exceeded threshold", "stopped this account", About::Account),
    smart(OFFICE, ANY, "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP. For more information please go to https://go.microsoft.com/fwlink/?LinkID=526655", "does not let this organisation send", About::Account),
    smart(OFFICE_MX, LATE, "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization from unauthorized sources", "connector", About::Relaying),
    smart(OFFICE_MX, LATE, "550 5.7.64 TenantAttribution; Relay Access Denied", "relays only for known clients", About::Relaying),
    mx(OFFICE_MX, ANY, "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP.", "does not trust the address"),
    mx(OFFICE_MX, ANY, "550 5.7.606 Access denied, banned sending IP [192.0.2.99]", "blocklist"),
    mx(OUTLOOK_MX, LATE, "550 5.7.515 Access denied, sending domain nas.example does not meet the required authentication level.", "DMARC"),
    mx(OUTLOOK_MX, MAIL, "550 5.7.1 Unfortunately, messages from [192.0.2.99] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).", "blocklist"),
    mx(OUTLOOK_MX, MAIL, "421 RP-001 Unfortunately, some messages from 192.0.2.99 weren't sent. Please try again. We have limits for how many messages can be sent per hour and per day.", "does not trust the address"),
    mx(OUTLOOK_MX, ANY, "451 4.7.650 The mail server [192.0.2.99] has been temporarily rate limited due to IP reputation. For e-mail delivery information, see https://postmaster.live.com (S775)", "does not trust the address"),
    mx(OUTLOOK_MX, RCPT, "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", "spelling of the address"),
    // Yahoo and AOL: https://github.com/nodemailer/nodemailer/issues/1112 (AUTH005), https://github.com/PHPMailer/PHPMailer/issues/1287
    // (MBR1212), https://secuserve.zammad.com/help/en-us/5-f-a-q/397-deferred-yahoo-said-421-4-7-0-tss04, SLN3436 of help.yahoo.com
    // (TS03), https://senders.yahooinc.com/smtp-error-codes
    login(YAHOO, "535 5.7.0 (#AUTH005) Too many bad auth attempts.", "app password"),
    login(AOL, "535 5.7.0 (#AUTH005) Too many bad auth attempts.", "app password"),
    login("smtp.att.yahoo.com", "535 5.7.0 (#AUTH005) Too many bad auth attempts.", "app password"),
    login(YAHOO, "535 5.7.0 (#MBR1212) Incorrect username or password.", "app password"),
    mx(YAHOO_MX, GREETING, "421 4.7.0 [TSS04] Messages from 192.0.2.99 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes", "does not trust the address"),
    mx(YAHOO_MX, MAIL, "421 4.7.0 [TSS06] Messages from 192.0.2.99 temporarily deferred due to user complaints", "does not trust the address"),
    mx(YAHOO_MX, MAIL, "421 4.7.1 [TS03] All messages from 192.0.2.99 permanently deferred", "does not trust the address"),
    mx(YAHOO_MX, MAIL, "553 5.7.2 [TSS09] All messages from 192.0.2.99 will be permanently deferred; Retrying will NOT succeed.", "does not trust the address"),
    mx(YAHOO_MX, SEND, "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes", "A filter of the host"),
    mx(YAHOO_MX, RCPT, "554 delivery error: dd This user doesn't have a yahoo.com account", "spelling of the address"),
    // AT&T: http://worldnet.att.net/general-info/bls_info/block_enduser.html,
    // https://www.suped.com/learn/blocklists/why-are-att-email-domains-experiencing-a-spike-in-block-bounces
    mx("ff-ip4-mx-vip1.prodigy.net", GREETING, "521 <192.0.2.99> is blocked", "blocklist"),
    mx("ff-ip4-mx-vip1.prodigy.net", ANY, "553 5.3.0 flpd5 DNSBL:RBL 521< 192.0.2.99 >_is_blocked. For assistance forward this error", "blocklist"),
    mx("ff-ip4-mx-vip1.prodigy.net", MAIL, "550 [permfail] bellsouth.net requires valid sender domain", "not in DNS"),
    // iCloud: https://smtp.codes/icloud, https://github.com/TryGhost/Ghost/issues/17012 (From address),
    // https://github.com/minosiants/pencil/issues/57 (CS01), https://github.com/MailCore/mailcore2/issues/1738 (local policy),
    // https://github.com/forwardemail/free-email-forwarding/issues/219 (proofpoint)
    login(ICLOUD, "535 5.7.8 Error: authentication failed: authentication failure", "app password"),
    smart(ICLOUD, SEND, "550 5.7.0 From address is not one of your addresses.", "rewrite.from", About::Sender),
    mx(ICLOUD_MX, SEND, "550 5.7.1 Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137", "A filter of the host"),
    mx(ICLOUD_MX, SEND, "554 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137", "A filter of the host"),
    mx(ICLOUD_MX, &[Stage::Greeting, Stage::Rcpt], "550 5.7.0 Blocked - see https://support.proofpoint.com/dnsbl-lookup.cgi?ip=192.0.2.99", "blocklist"),
    mx(ICLOUD_MX, RCPT, "421 4.7.1 Messages to deferred due to excessive volume. Try again later - https://support.apple.com/en-us/HT204137", "gets more mail"),
    mx(ICLOUD_MX, SEND, "550 5.7.1 Your message was rejected due to nas.example DMARC policy.", "DMARC"),
    mx(ICLOUD_MX, SEND, "550 5.7.1 Mail from IP 192.0.2.99 was rejected due to listing in Spamhaus PBL.", "blocklist"),
    // Fastmail: https://xenocept.com/docs/email-setup/fastmail.html (app passwords),
    // https://brianjohnson.co.za/posts/avoid-fastmail/ (locked)
    login(FASTMAIL, "535 5.7.0 Incorrect username or password", "app password"),
    smart(FASTMAIL, SEND, "551 5.7.1 Not authorised to send from this header address", "rewrite.from", About::Sender),
    smart(FASTMAIL, LATE, "554 5.7.1 Client host rejected: Address locked or deactivated; see http://mail.messagingengine.com/docs/locked.html", "stopped this account", About::Account),
    // GMX and web.de: https://smtp.codes/unitedinternet/, https://postmaster.gmx.com/en/error-messages,
    // https://github.com/infertux/zeyple/issues/49 (sender), https://github.com/LukeSmithxyz/emailwiz/issues/82 (MX),
    // https://github.com/EDSM-NET/FrontEnd/issues/21 (PTR), https://github.com/hitobito/hitobito/issues/2671 (policy),
    // https://github.com/PHPMailer/PHPMailer/issues/1114, https://github.com/nodemailer/nodemailer/issues/1555 (a limit that says "try
    // again later"), https://github.com/authelia/authelia/issues/2571 (policy of the smarthost)
    login(GMX, "535 Authentication credentials invalid", "POP3 and IMAP"),
    login(WEB, "535 Authentication credentials invalid", "POP3 and IMAP"),
    smart(GMX, MAIL, "550-Requested action not taken: mailbox unavailable 550 Sender address is not allowed.", "rewrite.from", About::Sender),
    smart(WEB, MAIL, "550 Requested action not taken: mailbox unavailable Sender address is not allowed.", "rewrite.from", About::Sender),
    smart(GMX, LATE, "550 Requested action not taken: mailbox unavailable Mail send limit exceeded.", "as much as it may", About::Limit),
    smart(GMX, RCPT, "550-Requested action not taken: mailbox unavailable 550 Failure sending mail. Try again later.", "as much as it may", About::Limit),
    smart(WEB, RCPT, "550-Requested action not taken: mailbox unavailable 550 Failure sending mail. Try again later.", "as much as it may", About::Limit),
    Said { host: GMX, kind: PeerKind::Smarthost, stages: SEND, text: "554 Transaction failed Reject due to policy restrictions. For explanation visit https://postmaster.gmx.net/en/error-messages?ip=192.0.2.99&c=hi", advice: "A filter of the host", pauses: None },
    mx(GMX_MX, GREETING, "554 gmx.net (mxgmx017) Nemesis ESMTP Service not available No SMTP service Bad DNS PTR resource record. For explanation visit http://postmaster.gmx.com", "PTR record"),
    mx(GMX_MX, GREETING, "554 gmx.net (mxgmx104) Nemesis ESMTP Service not available No SMTP service IP address is block listed. For explanation visit https://postmaster.gmx.net", "blocklist"),
    mx(WEB_MX, ANY, "550-Requested action not taken: mailbox unavailable 550 invalid DNS MX or A/AAAA resource record", "not in DNS"),
    mx(WEB_MX, ANY, "550 Reject due to SPF policy. The originating IP of the message is not permitted by the domain owner", "SPF record"),
    mx(GMX_MX, SEND, "554 Transaction failed Reject due to policy restrictions. For explanation visit https://postmaster.gmx.net/de/case?c=r0735", "A filter of the host"),
    // T-Online: https://timmehosting.de, https://www.spamresource.com/2020/06/whoops-t-onlinede-not-accepting-mail.html,
    // https://help.creoline.com (dialup)
    login(TELEKOM, "535 5.7.0 Authentication failed", "e-mail password"),
    mx(TELEKOM_MX, GREETING, "554 IP=192.0.2.99 - None/bad reputation. Ask your postmaster for help or to contact for reset. (NOWL)", "does not trust the address"),
    mx(TELEKOM_MX, GREETING, "554 IP=192.0.2.99 - A problem occurred. (Ask your postmaster for help or to contact to clarify.) (BL)", "does not trust the address"),
    mx(TELEKOM_MX, GREETING, "554 IP=192.0.2.99 - Dialup/transient IP not allowed. Use a mailgateway or contact if obsolete. (DIAL)", "home connections"),
    smart(TELEKOM, ANY, "550 5.7.0 From-Address is not one of yours", "rewrite.from", About::Sender),
    // Zoho: https://www.zoho.com/zeptomail/help/api/smtp-error-codes.html, https://github.com/frappe/erpnext/issues/19057 (553),
    // https://help.zoho.com/portal/en/community/topic/issue-with-outgoing-mail (blocked), and
    // …/unable-to-send-message-reason-550-5-4-6-unusual-sending-activity-detected
    login(ZOHO, "535 Authentication Failed", "app password"),
    login(ZOHO, "554 5.1.8 Sender Address Blocked", "account is locked"),
    smart(ZOHO, ANY, "553 Relaying disallowed as root", "rewrite.from", About::Sender),
    smart(ZOHO, ANY, "552 Relaying disallowed as root@nas.example.", "rewrite.from", About::Sender),
    smart(ZOHO, ANY, "554 5.1.8 Email Outgoing Blocked.", "stopped this account", About::Account),
    smart(ZOHO, ANY, "550 5.4.6 Unusual sending activity detected. Please try after sometime", "stopped this account", About::Account),
    // SES: https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-smtp.html, /manage-sending-quotas-errors.html,
    // https://repost.aws/knowledge-center/ses-554-400-message-rejected-error
    login(SES, "535 Authentication Credentials Invalid", "SMTP credentials"),
    smart(SES, ANY, "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1", "provider's console", About::Sender),
    smart(SES, SEND, "554 Message rejected: Sending paused for this account. For more information, please check the inbox", "stopped this account", About::Account),
    smart(SES, ANY, "554 Access denied: User `arn:aws:iam::1:user/x' is not authorized to perform `ses:SendRawEmail' on resource", "rewrite.from", About::Sender),
    Said { host: SES, kind: PeerKind::Smarthost, stages: ANY, text: "454 Throttling failure: Maximum sending rate exceeded.", advice: "faster than it may", pauses: None },
    Said { host: SES, kind: PeerKind::Smarthost, stages: ANY, text: "454 Throttling failure: Daily message quota exceeded.", advice: "as much as it may", pauses: None },
    // SendGrid: https://twilio.com/docs/api/errors/60222, https://github.com/mautic/mautic/issues/8721 (credits),
    // https://github.com/sendgrid/docs/issues/6473 (unauthenticated),
    // https://github.com/WA-WF-Bot/WA-WF-Bot-Public/issues/282 (limits)
    login(SENDGRID, "535 Authentication failed: Bad username / password", "apikey"),
    login(SENDGRID, "451 Authentication failed: Maximum credits exceeded", "its plan"),
    smart(SENDGRID, ANY, "550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.", "provider's console", About::Sender),
    smart(SENDGRID, MAIL, "550 Unauthenticated senders not allowed", "requires a login", About::Account),
    Said { host: SENDGRID, kind: PeerKind::Smarthost, stages: ANY, text: "451 You've exceeded your messaging limits", advice: "as much as it may", pauses: None },
    // Mailgun: https://help.kyriossystems.com/en/articles/13613564 (domains, terminated), https://smtptester.org/guides/mailgun-smtp-test/,
    // https://github.com/leemunroe/grunt-email-workflow/issues/81 (sandbox), https://github.com/coopdevs/timeoverflow/issues/820 (limit)
    login(MAILGUN, "535 Authentication failed", "SMTP users for each domain"),
    smart(MAILGUN, ANY, "550 Domain nas.example is not allowed to send: The domain is unverified and requires DNS configuration.", "provider's console", About::Sender),
    smart(MAILGUN, ANY, "550 Sandbox subdomains are for test purposes only. Please add your own domain or add the address to authorized recipients in Account Settings.", "its plan", About::Account),
    smart(MAILGUN, ANY, "550 Domain nas.example is not allowed to send: Account Terminated", "stopped this account", About::Account),
    Said { host: MAILGUN, kind: PeerKind::Smarthost, stages: ANY, text: "421 Domain nas.example is not allowed to send: recipient limit exceeded, try again after Sun, 05 Oct 2025 19:22:44 UTC", advice: "as much as it may", pauses: None },
    smart(MAILGUN, ANY, "550 Domain nas.example has exceeded the max emails per hour (125/125 (100%)) allowed. Message discarded.", "as much as it may", About::Limit),
    smart(MAILGUN, MAIL, "550 Sender verify failed: the domain of the sender address does not exist", "not in DNS", About::Sender),
    // Brevo: https://help.brevo.com/hc/en-us/articles/5740111683858 (addresses), https://smtptester.org/guides/brevo-smtp-test/,
    // https://github.com/supabase/agent-skills/issues/133 and https://github.com/WPManageNinja/fluent-smtp/issues/157 (not activated),
    // https://github.com/marcpope/borgbackupserver/issues/16 (5.7.0), https://github.com/frappe/frappe/issues/38806 (authenticate first)
    login(BREVO, "535 5.7.8 Authentication failed", "a key from SMTP & API"),
    login(BREVO, "535 5.7.0 Invalid login or password", "a key from SMTP & API"),
    smart(BREVO, MAIL, "502 5.7.0 Please authenticate first", "requires a login", About::Account),
    login(BREVO, "525 5.7.1 Unauthorized IP address", "only known addresses of hosts"),
    smart(BREVO, ANY, "525 5.7.1 Unauthorized IP address", "only known addresses of hosts", About::Account),
    smart(BREVO, ANY, "502 5.7.0 Your SMTP account is not yet activated. Please contact us at contact@sendinblue.com to request activation", "its plan", About::Account),
    login(BREVO, "502 5.7.0 Please activate your SMTP account", "its plan"),
    smart(BREVO, ANY, "550 5.7.1 Sending has been rejected because the sender you used is not valid. Validate your sender or authenticate your domain", "provider's console", About::Sender),
    // OVH: https://docs.ovhcloud.com (locked for spam; 535 for a blocked address: https://github.com/ovh/docs/pull/6139),
    // https://github.com/piwebcam/PiWebcam/pull/43 (5.7.60)
    login(OVH, "535 5.7.1 Authentication failed", "blocked for spam"),
    smart("pro1.mail.ovh.net", ANY, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "rewrite.from", About::Sender),
    // Infomaniak: https://www.infomaniak.com/en/support/faq/admin2/webmail (passwords of addresses); the words are those of Postfix:
    // https://github.com/mailcow/mailcow-dockerized/issues/683
    login(INFOMANIAK, "535 5.7.8 Error: authentication failed: Invalid user or password", "password of this mail address"),
    smart(INFOMANIAK, ANY, "553 5.7.1 <root@nas.example>: Sender address rejected: not owned by user nas@example.com", "rewrite.from", About::Sender),
    // Yandex, whose words others have, too: https://github.com/splitbrain/dokuwiki-plugin-smtp/issues/38, https://github.com/marlam/msmtp/issues/69
    smart("smtp.yandex.ru", MAIL, "553 5.7.1 Sender address rejected: not owned by auth user.", "rewrite.from", About::Sender),
    smart("smtp.yandex.ru", SEND, "550 5.7.0 Sender or From header address rejected: not owned by authorized user", "rewrite.from", About::Sender),
    // Proton: https://github.com/splitbrain/dokuwiki-plugin-smtp/issues/65 (mechanism), https://github.com/shenxn/protonmail-bridge-docker/issues/28 (return path), https://github.com/frappe/frappe/issues/41429
    // (account), https://github.com/emersion/hydroxide/issues/173 (unknown sender), https://proton.me/support/macos-certificate-warning
    login(BRIDGE, "454 4.7.0 invalid username or password", "user name or the password is wrong"),
    login(PROTON, "535 5.7.8 Error: authentication failed: Invalid authentication mechanism", "SMTP token"),
    Said { host: BRIDGE, kind: PeerKind::Smarthost, stages: MAIL, text: "451 4.0.0 backend: invalid return path: not owned by user", advice: "rewrite.from", pauses: None },
    smart(BRIDGE, SEND, "554 5.0.0 Error: The account is not available in Bridge. Verify the outgoing server settings in your mail client and try again", "Bridge does not have this account", About::Account),
    smart(BRIDGE, SEND, "554 5.0.0 Error: transaction failed: unknown sender address", "rewrite.from", About::Sender),
    Said { host: BRIDGE, kind: PeerKind::Smarthost, stages: &[Stage::Tls], text: "TLS with 127.0.0.1: self-signed certificate", advice: "Proton Mail Bridge", pauses: None },
    // The issue that asked for this table.
    mx("mx.far.example", MAIL, "550 5.1.8 sender nas.example has no MX", "not in DNS"),
    mx("mx.far.example", MAIL, "550 sender domain does not exist", "not in DNS"),
    mx("mx.far.example", &[Stage::Tls], "TLS with mx.far.example: self-signed certificate; the MTA-STS policy of the domain requires verified TLS", "relay.mta_sts"),
    mx("mx.far.example", &[Stage::Connect], "connect to mx.far.example [192.0.2.1:25]: Connection refused (os error 111)", "to port 25"),
    mx("mx.far.example", &[Stage::Tls], "TLS with mx.far.example: dh key too small", "too weak"),
    Said { host: "smtp.example", kind: PeerKind::Smarthost, stages: &[Stage::Tls], text: "TLS with smtp.example: EE certificate key too weak", advice: "too weak", pauses: None },
    Said { host: "smtp.example", kind: PeerKind::Smarthost, stages: &[Stage::Password], text: "no password for smtp.example: relay.password_command \"/usr/bin/pass\": exit status: 127", advice: "not there", pauses: None },
    login("smtp.example", "smtp.example offers XOAUTH2 for AUTH, and none of them can be used here", "OAuth only"),
    login("smtp.example", "smtp.example offers NTLM for AUTH, and none of them can be used here", "Windows networks"),
    login("smtp.example", "smtp.example offers GSSAPI NTLM for AUTH, and none of them can be used here", "Windows networks"),
];

#[test]
fn each_refusal_has_its_advice_at_each_step() {
    let mut wrong = Vec::new();
    for said in CORPUS {
        for &stage in said.stages {
            let advice = hint(stage, said.text, said.peer()).unwrap_or("no advice");
            if !advice.contains(said.advice) {
                wrong.push(format!("{} at {}: {}\n    {advice}", said.host, stage.name(), said.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is about the account, the sender, a limit or this host pauses the route, so that no message is returned for it.
#[test]
fn what_a_smarthost_says_of_the_account_pauses_the_route() {
    let mut wrong = Vec::new();
    for said in CORPUS.iter().filter(|said| said.pauses.is_some()) {
        for &stage in said.stages {
            let to = match stage {
                Stage::Mail => "MAIL",
                Stage::Rcpt => "RCPT",
                _ => "the final dot",
            };
            let diagnostic = Diagnostic {
                remote: Some(said.host.to_owned()),
                reply: Some(said.text.to_owned()),
                ..Diagnostic::local(EnhancedStatus::NOT_ACCEPTING, to)
            };
            let refusal =
                SmarthostRefusal { diagnostic: &diagnostic, is_null_sender: false, is_submission: true };
            let pauses = refusal.of_route();
            if pauses != said.pauses {
                wrong.push(format!("{pauses:?} for {} to {to}", said.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each provider of the table has its rows.
#[test]
fn no_provider_is_left_out() {
    for host in [
        GMAIL, OFFICE, OUTLOOK, YAHOO, AOL, ICLOUD, FASTMAIL, GMX, WEB, TELEKOM, ZOHO, SES, SENDGRID,
        MAILGUN, BREVO, OVH, INFOMANIAK, BRIDGE,
    ] {
        let own = CORPUS.iter().filter(|said| said.host == host);
        assert!(own.clone().any(|said| said.stages == AUTH), "{host}: no refused login");
    }
}

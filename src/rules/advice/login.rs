//! Advice for a login that is refused or not possible, and for a password that can't be read.

use super::row::Hint;
use super::step::Stage;

const AUTH: &[Stage] = &[Stage::Auth];
const PASSWORD: &[Stage] = &[Stage::Password];

const fn row(stages: &'static [Stage], when: &'static str, advice: &'static str) -> Hint {
    Hint { stages, about: None, when, advice }
}

/// Rows for `Auth` and `Password`.
pub(super) const ROWS: &[Hint] = &[
    // What the host says.
    row(
        AUTH,
        "basic authentication is|smtpclientauthentication is disabled|5.7.139|5.7.30|security defaults|\
         did not meet the criteria|5.7.3&prod.outlook.com|@office365&5.7.3|@outlook&5.7.3|@office365&^535|@outlook.com&^535",
        "Microsoft accepts no password here: ask the administrator to allow authenticated SMTP for this mailbox, or use \
         OAuth: relay.auth = \"xoauth2\", [oauth], and pillarbox login (docs/recipes.md).",
    ),
    row(
        AUTH,
        "account&locked|account&disabled|account&suspended|account&blocked|account&inactive|5.7.14|web browser|\
         sender address blocked|too many&auth|too many&attempts",
        "The account is locked: sign in once with a browser, follow the instructions, wait an hour, and try again.",
    ),
    row(
        AUTH,
        "^4&too many login attempts|^4&too many auth",
        "There were too many logins in a short time: wait some hours, and look for another program that uses this account.",
    ),
    row(
        AUTH,
        "534&5.7.9|535&support.google.com|535&badcredentials|application-specific|app-specific|app password|@gmail&535|@google&535|@gmail&5.7.8|@google&5.7.8",
        "This account needs an app password: turn on two-step verification, make an app password in the account's \
         security settings (Google: myaccount.google.com/apppasswords), and put it into the password file.",
    ),
    row(
        AUTH,
        "#auth005&too many bad auth attempts|#auth005|@yahoo&#auth|@aol&#auth|@yahoo&535|@aol&535|@mail.me.com&535|@icloud&535|\
         @fastmail&535|@messagingengine&535|@zoho&535",
        "This provider wants an app password, not the account's own: make one in the security settings of the \
         account and put it into the password file.",
    ),
    row(
        AUTH,
        "@gmx&535|@web.de&535|@mail.com&535",
        "Allow POP3 and IMAP in the settings of the mailbox: otherwise this provider accepts no password from programs.",
    ),
    row(
        AUTH,
        "@t-online&535",
        "T-Online wants the e-mail password, which is not that of the customer account: set it in the e-mail settings of the \
         account, and put it into the password file.",
    ),
    row(
        AUTH,
        "@amazonaws&535|@amazonaws&530",
        "Amazon SES needs SMTP credentials, which are not the access keys: make them in the console of SES, in the region of \
         this host.",
    ),
    row(AUTH, "@sendgrid&535", "Set relay.username = \"apikey\"; the password is the API key."),
    row(
        AUTH,
        "@mailgun&535",
        "Mailgun has SMTP users for each domain: take name and password from the domain's settings, not the API key, and \
         smtp.eu.mailgun.org for a domain in the EU.",
    ),
    row(
        AUTH,
        "@brevo&535|@sendinblue&535",
        "Brevo wants the login and a key from SMTP & API in its settings: neither the account's password nor an API key.",
    ),
    row(
        AUTH,
        "@ovh&535",
        "OVH refuses this login: check name and password; an address that is blocked for spam is refused in the same way, and \
         the control panel shows and unblocks it.",
    ),
    row(
        AUTH,
        "@infomaniak&535",
        "Infomaniak wants the password of this mail address, which is not that of the user account: make one for this device \
         in the settings of the address.",
    ),
    row(
        AUTH,
        "@protonmail&535",
        "Proton wants the address of a custom domain and an SMTP token: make one in the settings under IMAP/SMTP.",
    ),
    row(
        AUTH,
        "unauthorized ip|unauthorised ip|ip not authorized|ip address is not authorized|525&5.7.1",
        "The provider lets only known addresses of hosts log in: add the address of this host to the authorized ones in its \
         console, or turn the restriction off.",
    ),
    row(
        AUTH,
        "not yet activated|not activated|activate your|credits exceeded",
        "The provider has not enabled this account for such mail: check its plan and state in the provider's console.",
    ),
    row(
        AUTH,
        "^534|^538|encryption required|must issue&starttls|5.7.0&starttls",
        "The host wants TLS before the password: use smtps:// or smtp+starttls:// in relay.smarthost.",
    ),
    row(AUTH, "^4", "The host cannot check logins at the moment: try again later."),
    row(
        AUTH,
        "^535|5.7.8|~credentials|~authentication fail|credentials were incorrect|5.7.139&credentials were incorrect|\
         @office365&credentials were incorrect|@outlook&credentials were incorrect|\
         invalid username or password|username and password not accepted|incorrect username",
        "The user name or the password is wrong: check relay.username (most providers want the whole address) and the \
         password file; many providers want an app password.",
    ),
    // Without a password, the walk puts "external" in front of the reply.
    row(
        AUTH,
        "=^external 5",
        "The host takes the client certificate for none of its accounts: its operator has to enter it there; if it stands \
         for several accounts, name one in relay.username.",
    ),
    // What pillarbox says.
    row(
        AUTH,
        "is not sent to",
        "The password is sent only within verified TLS: use smtps:// or smtp+starttls:// in relay.smarthost.",
    ),
    row(
        AUTH,
        "offers no auth",
        "This port accepts no logins: use smtps://HOST (465) or smtp+starttls://HOST (587), or leave relay.username out.",
    ),
    row(
        AUTH,
        "none of them can be used here",
        "Set relay.auth = \"auto\", or to a mechanism that the host offers.",
    ),
    row(
        AUTH,
        "offers xoauth2 for auth, and none of them can be used here|\
         offers oauthbearer xoauth2 for auth, and none of them can be used here|\
         offers xoauth2 oauthbearer for auth, and none of them can be used here",
        "The host accepts OAuth only: set relay.auth = \"xoauth2\" and [oauth], and run pillarbox login.",
    ),
    row(
        AUTH,
        "ntlm for auth, and none of them can be used here|gssapi for auth, and none of them can be used here",
        "The host offers only logins of Windows networks, which pillarbox does not have: ask its administrator to allow PLAIN \
         within TLS, or to accept mail from the address of this host without a login.",
    ),
    // The password.
    row(
        PASSWORD,
        "can be read by|others|permission",
        "Make the password file readable for the daemon's user only: chown pillarbox FILE; chmod 600 FILE.",
    ),
    row(
        PASSWORD,
        "no such file|os error 2",
        "Write the password into the named file, or set relay.password_file to another one.",
    ),
    row(PASSWORD, "utf-16", "Save the password file as UTF-8."),
    row(PASSWORD, "is empty", "Write the password into the first line of the file."),
    row(
        PASSWORD,
        "password_command",
        "Run the command by hand as the daemon's user: it must print the password within ten seconds.",
    ),
    row(
        PASSWORD,
        "password_command&no such file|password_command&os error 2|password_command&exit status: 127|\
         password_command&not found",
        "The program of relay.password_command is not there: correct its path, or install it; it is looked for in /usr/local/bin, \
         /usr/bin, /bin and their sbin.",
    ),
    row(
        PASSWORD,
        "hangs, so the probe ends",
        "The file or the relay.password_command hangs: read the file, or run the command, by hand as the daemon's user.",
    ),
];

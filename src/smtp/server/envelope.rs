//! MAIL and RCPT in the server's session: whether they are allowed at this point, what their parameters say, and
//! which domain a bare name gets. The caller decides whether sender and recipient are accepted.

use super::{ServerSession, Service, SessionState, out_of_sequence};
use crate::mail::address::{AddressError, Domain, ForwardPath, ReversePath};
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::Unqualified;
use crate::smtp::command::{CommandError, Parameter};
use crate::smtp::extension::{self, MailParameters, RcptParameters};
use crate::smtp::reply::Reply;

/// The domains that complete bare names from this host's own clients, as for programs that use sendmail.
#[derive(Debug, Clone)]
pub struct Home {
    /// The domain for a bare sender.
    pub of_senders: Domain,
    /// The domain for a bare recipient: a domain of this host.
    pub of_recipients: Domain,
}

impl<R> ServerSession<R> {
    /// Whether the client is trusted or has logged in. Bare names are accepted from such clients alone, since that of a
    /// stranger could mean anyone, and so are the parameters of DSN.
    pub(super) fn is_own(&self) -> bool {
        self.is_trusted || self.login.is_some()
    }

    fn check_bare(
        &self,
        path: &Unqualified,
        bad_path: fn(AddressError) -> CommandError,
    ) -> Result<(), Reply> {
        let is_known = path.domain.is_some() || self.is_own();
        if is_known { Ok(()) } else { Err(bad_path(AddressError::NoDomain).reply()) }
    }

    pub(super) fn check_mail(
        &self,
        path: Option<&Unqualified>,
        parameters: &[Parameter],
    ) -> Result<(ReversePath, MailParameters), Reply> {
        let parameters = match self.state {
            SessionState::Greeted if self.must_start_tls() => {
                // The text is that of RFC 3207 §4.
                let text = "Must issue a STARTTLS command first";
                return Err(Reply::new(530, EnhancedStatus::SECURITY, text));
            }
            SessionState::Greeted if self.service == Service::Submission && self.login.is_none() => {
                return Err(self.login_first());
            }
            SessionState::Greeted => extension::mail_parameters(parameters, &self.offer())?,
            SessionState::Connected => return Err(self.say_hello_first()),
            _ => return Err(out_of_sequence("a transaction is open already; RSET ends it")),
        };
        let Some(path) = path else { return Ok((ReversePath::Null, parameters)) };
        self.check_bare(path, CommandError::BadReversePath)?;
        let mailbox = path.at(&self.terms.home.of_senders);
        if !parameters.smtputf8 && !mailbox.is_ascii() {
            return Err(extension::smtputf8::not_asked_for());
        }
        Ok((ReversePath::Mailbox(mailbox), parameters))
    }

    pub(super) fn check_rcpt(
        &self,
        path: &Unqualified,
        parameters: &[Parameter],
    ) -> Result<(ForwardPath, RcptParameters), Reply> {
        let SessionState::InTransaction(transaction) = &self.state else {
            return Err(out_of_sequence("say MAIL first"));
        };
        if transaction.recipients.len() >= self.terms.recipients {
            let text = format!("at most {} recipients a message", self.terms.recipients);
            return Err(Reply::new(452, EnhancedStatus::TOO_MANY_RECIPIENTS, text));
        }
        let forward_path = path.forward_path(&self.terms.home.of_recipients);
        if let ForwardPath::Mailbox(mailbox) = &forward_path {
            self.check_bare(path, CommandError::BadForwardPath)?;
            if !transaction.parameters.smtputf8 && !mailbox.is_ascii() {
                return Err(extension::smtputf8::not_asked_for());
            }
        }
        Ok((forward_path, extension::rcpt_parameters(parameters, &self.offer())?))
    }
}

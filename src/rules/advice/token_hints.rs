//! What to change when a provider refuses a token of OAuth 2.0: rows as in [`super::hints`], for the step at which the
//! token is fetched.
//!
//! Microsoft numbers its errors (`AADSTS` and five digits or more), which say more than the code of RFC 6749 in front of
//! them: they decide. The texts that the rows are matched with are the provider's, and those of the keeper of tokens.

use super::row::Hint;
use super::step::Stage;

const fn row(when: &'static str, advice: &'static str) -> Hint {
    Hint { stages: &[Stage::Password], about: None, when, advice }
}

/// The rows.
pub(super) const ROWS: &[Hint] = &[
    Hint {
        stages: &[Stage::Auth],
        about: None,
        when: "=(status|=(scope",
        advice: "The smarthost refuses the token: it must be for the account in relay.username, and its scope (oauth.scope) one that the \
                 smarthost takes. At Microsoft, SMTP AUTH must be on for the mailbox, and Exchange must know the application (docs/recipes.md).",
    },
    row(
        "=aadsts65001",
        "Nobody has allowed the application to send mail for this account: run pillarbox login again and accept what it asks for, \
         or have the administrator grant consent (Entra admin center, the application, API permissions).",
    ),
    row(
        "=aadsts700082|=aadsts70008|=aadsts70043|=aadsts700084",
        "The login has ended: Microsoft ends it after 90 days without a refresh, or as often as the tenant wants a sign-in. Run \
         pillarbox login; where that comes often, use flow = \"client\".",
    ),
    row(
        "=aadsts50173|=aadsts50132|=aadsts50133",
        "The password of the account was changed, or its logins were withdrawn: run pillarbox login.",
    ),
    row(
        "=aadsts50076|=aadsts50079|=aadsts50078|=aadsts50074|=aadsts50158",
        "The account has to sign in with a second factor: run pillarbox login, and complete it in the browser.",
    ),
    row(
        "=aadsts53003|=aadsts530003|=aadsts53000|=aadsts530035|=aadsts530036|=aadsts50097",
        "A rule of the tenant (Conditional Access) forbids this login; device codes are often blocked. Ask the administrator for an \
         exception for the application, or use flow = \"client\" with SMTP.SendAsApp.",
    ),
    row(
        "=aadsts7000215",
        "The client's secret is wrong: oauth.client_secret_file must hold its value, not its id. Make a new one (Entra admin \
         center, the application, certificates and secrets) and put it there.",
    ),
    row(
        "=aadsts7000222",
        "The client's secret has expired: make a new one (Entra admin center, the application, certificates and secrets) and put \
         it into oauth.client_secret_file.",
    ),
    row(
        "=aadsts700016",
        "The tenant does not know the application: check oauth.client_id, and that oauth.tenant is the one where it is registered.",
    ),
    row(
        "=aadsts90002|=aadsts900023",
        "There is no such tenant: check oauth.tenant (Entra admin center, overview, tenant id).",
    ),
    row(
        "=aadsts7000218",
        "The application is not allowed to be without a secret: turn on \"Allow public client flows\" (Entra admin center, the \
         application, authentication), or name oauth.client_secret_file.",
    ),
    row("=aadsts700025", "The application is a public client: remove oauth.client_secret_file."),
    row(
        "=aadsts500113|=aadsts50011|redirect_uri_mismatch",
        "The application does not know where the browser goes afterwards: add the redirect URI that docs/recipes.md names for this \
         provider (Microsoft: platform \"Mobile and desktop applications\").",
    ),
    row(
        "=aadsts700024",
        "The clock of this box is wrong, so its proof is too old or too new: set the clock.",
    ),
    row(
        "=aadsts700027|=aadsts7000272",
        "The provider does not know the certificate: upload oauth.certificate (Entra admin center, the application, certificates \
         and secrets).",
    ),
    row(
        "=aadsts50105",
        "The account is not assigned to the application: have the administrator assign it (Entra admin center, enterprise \
         applications, users and groups).",
    ),
    row(
        "=aadsts50034|=aadsts50020|=aadsts90072",
        "The account does not belong to this tenant: check relay.username and oauth.tenant.",
    ),
    row("=aadsts50057", "The account is disabled: ask the administrator."),
    row(
        "=aadsts9002346|=aadsts9002331|=aadsts50194|=aadsts50059",
        "The application is not for this kind of account: personal accounts need provider = \"microsoft-personal\", applications of \
         one tenant that tenant's id in oauth.tenant.",
    ),
    row(
        "=aadsts500011|=aadsts650052|=aadsts650057|=aadsts70011|invalid_scope",
        "The provider does not give the application this scope: check oauth.scope and the application's permissions (Microsoft: \
         SMTP.Send, for client credentials SMTP.SendAsApp; Google: https://mail.google.com/, by flow = \"paste\" alone).",
    ),
    row(
        "access_denied|authorization_declined",
        "The person, or a rule of the provider, has said no: run pillarbox login again and accept what it asks for.",
    ),
    row("expired_token|code_expired", "The code was not typed in time: run pillarbox login again."),
    row(
        "invalid_grant",
        "The login has ended or was withdrawn: run pillarbox login. Google ends it after 7 days while the application is in \
         \"testing\" (publish it in the Google Cloud console), after six months without use, and when the password changes.",
    ),
    row(
        "invalid_client|unauthorized_client|deleted_client|disabled_client",
        "The provider does not know the client, or its secret is wrong: check oauth.client_id and oauth.client_secret_file, and that \
         the application allows this flow.",
    ),
    row(
        "org_internal|admin_policy_enforced|interaction_required",
        "A rule of the organization forbids this login: ask its administrator to allow the application.",
    ),
    row(
        "unsupported_grant_type|unsupported_response_type|invalid_request",
        "The provider does not have this flow, or wants more with it: try another oauth.flow.",
    ),
    row("no token yet", "Run pillarbox login as root; it gets the first token, and the daemon keeps it."),
    row(
        "could not be kept|can be kept|could be kept",
        "There is no room below state, or it can't be written: make room. A new token that can't be kept could be the last one.",
    ),
    row(
        "is refreshed in|can't be refreshed now|can't be asked",
        "The provider does not answer, or has no time: pillarbox asks again by itself. If it stays, check the network and DNS, and \
         that nothing between here and the provider answers in its place.",
    ),
];

#[cfg(test)]
mod tests {
    use crate::rules::advice::hints::hint;
    use crate::rules::advice::row::Peer;
    use crate::rules::advice::step::Stage;

    #[test]
    fn numbers_come_before_codes_and_are_whole() {
        for (text, words) in [
            (
                "the token is refused: invalid_grant: AADSTS700082: The refresh token has expired; run: pillarbox login a",
                "90 days",
            ),
            ("invalid_grant: AADSTS70008: ended", "90 days"),
            ("invalid_client: AADSTS7000215: Invalid client secret provided", "not its id"),
            ("invalid_client: AADSTS7000222: expired", "has expired"),
            ("invalid_client: AADSTS7000218: body must contain client_secret", "Allow public client flows"),
            ("invalid_client: AADSTS700025: public", "remove oauth.client_secret_file"),
            ("unauthorized_client: AADSTS700016: Application not found", "oauth.client_id"),
            ("invalid_request: AADSTS90002: Tenant not found", "no such tenant"),
            ("invalid_grant: AADSTS50173: fresh token", "password of the account"),
            ("invalid_grant: AADSTS50076: MFA", "second factor"),
            ("access_denied: AADSTS53003: Conditional Access", "Conditional Access"),
            ("invalid_grant: AADSTS65001: consent", "consent"),
            ("invalid_request: AADSTS500113: no reply address", "redirect URI"),
            ("invalid_grant: AADSTS70043: sign-in frequency", "90 days"),
            ("invalid_grant: Token has been expired or revoked.", "testing"),
            ("invalid_scope", "by flow = \"paste\""),
            ("there is no token yet; run: pillarbox login a", "as root"),
            ("no new token is fetched, since it could not be kept: No space left", "make room"),
            ("it can't be refreshed now: HTTP status 503, without JSON", "asks again by itself"),
        ] {
            let advice = hint(Stage::Password, text, Peer::default()).unwrap_or_default();
            assert!(advice.contains(words), "{text}: {advice}");
        }
        let refused =
            hint(Stage::Auth, "535 5.7.8 no (status 400, scope https://mail.google.com/)", Peer::default())
                .unwrap();
        assert!(refused.contains("refuses the token"), "{refused}");
    }
}

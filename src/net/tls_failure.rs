//! What a failure of TLS towards another host means, in words: OpenSSL's own without its numbers and source files, and the
//! alerts (RFC 8446 §6.2) by which a host says that it wants a client certificate, or another one.
//!
//! | alert of the host | comes |
//! | --- | --- |
//! | 116, certificate_required | in TLS 1.3, with the first read after the handshake |
//! | 41 to 46, 48, 49: a certificate that is bad, unknown, expired … | in place of the end of the handshake; in TLS 1.3 with the first read |
//! | 40, handshake_failure, after the host's hello | in TLS 1.2, in place of 116 |
//!
//! A host sends 40 in place of its hello where both have no version or cipher in common: then it is not about certificates.

use super::transport::WireError;
use std::io;

/// How the reason begins if the host's certificate is not accepted.
pub const NOT_VERIFIED: &str = "certificate verify failed";

/// What is known of the handshake when it fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// A client certificate was at hand.
    pub has_certificate: bool,
    /// The host's hello has arrived.
    pub is_greeted: bool,
    /// The host's certificate is verified. Otherwise OpenSSL's opinion of it explains nothing.
    pub is_verifying: bool,
}

/// A failure in words.
pub(super) fn other(text: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> WireError {
    WireError::Io(io::Error::other(text))
}

/// The failure of a handshake.
pub(super) fn of_handshake(error: &native_tls::Error, circumstances: Circumstances) -> WireError {
    other(words(&error.to_string(), circumstances))
}

/// The failure of a read or a write within TLS.
pub(super) fn of_stream(error: io::Error, circumstances: Circumstances) -> WireError {
    let text = error.to_string();
    if is_openssl_s(&text) { other(words(&text, circumstances)) } else { error.into() }
}

/// Whether OpenSSL has written the text: `error:0A000086:SSL routines:…`.
fn is_openssl_s(text: &str) -> bool {
    text.starts_with("error:")
}

/// `certificate verify failed (certificate has expired)`, or what an alert says about certificates.
fn words(text: &str, circumstances: Circumstances) -> String {
    let Circumstances { has_certificate, is_greeted, is_verifying } = circumstances;
    // native-tls appends what is wrong with the host's certificate, if anything is.
    let (error, flaw) = match text.rsplit_once(" (").zip(text.strip_suffix(')')) {
        Some(((error, _), rest)) => (error, rest.get(error.len() + " (".len()..)),
        None => (text, None),
    };
    if let Some(flaw) = flaw.filter(|_| is_verifying) {
        // Without the alert, which cannot be sent to a host that has gone, the reason would be that.
        return format!("{NOT_VERIFIED} ({flaw})");
    }
    let reason = reason(error);
    match (alert(error), has_certificate) {
        (Some(41..=46 | 48 | 49 | 116), false) => format!("the host wants a client certificate ({reason})"),
        (Some(41..=46 | 48 | 49 | 116), true) => {
            format!("the host does not accept the client certificate ({reason})")
        }
        (Some(40), false) if is_greeted => {
            format!("the host ends the handshake, as for want of a client certificate ({reason})")
        }
        (Some(40), true) if is_greeted => {
            format!("the host ends the handshake, perhaps because of the client certificate ({reason})")
        }
        _ => reason.to_owned(),
    }
}

/// The reason without OpenSSL's numbers and source files.
fn reason(text: &str) -> &str {
    // error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:../ssl/…:1889:
    let reason = text.strip_prefix("error:").and_then(|rest| rest.split(':').nth(3));
    reason.unwrap_or(text)
}

/// The number of the alert that the host has sent. OpenSSL's words for it differ from version to version.
fn alert(text: &str) -> Option<u8> {
    let (_, rest) = text.split_once("SSL alert number ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Circumstances =
        Circumstances { has_certificate: false, is_greeted: true, is_verifying: false };
    const VERIFYING: Circumstances = Circumstances { is_verifying: true, ..NONE };

    #[test]
    fn openssl_s_numbers_and_files_are_left_out() {
        let verify = "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify \
                      failed:../ssl/statem/statem_clnt.c:2091: (certificate has expired)";
        assert_eq!(words(verify, VERIFYING), "certificate verify failed (certificate has expired)");
        let gone = "unexpected EOF (self-signed certificate)";
        assert_eq!(words(gone, VERIFYING), "certificate verify failed (self-signed certificate)");
        for (text, expected) in [
            (gone, "unexpected EOF"),
            (
                "error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../ssl/record/ssl3_record.c:354:",
                "wrong version number",
            ),
            ("unexpected EOF", "unexpected EOF"),
            ("", ""),
        ] {
            assert_eq!(words(text, NONE), expected);
        }
    }

    /// Of OpenSSL 3.0, 1.1.1 and 3.5.
    #[test]
    fn an_alert_about_a_certificate_says_whose() {
        let required = "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate \
                        required:../ssl/record/rec_layer_s3.c:1605:SSL alert number 116";
        let unknown = "error:14094418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown \
                       ca:../ssl/record/rec_layer_s3.c:1544:SSL alert number 48";
        let failure = "error:0A000410:SSL routines:ssl3_read_bytes:ssl/tls alert handshake \
                       failure:../ssl/record/rec_layer_s3.c:916:SSL alert number 40";
        let internal = "error:0A000438:SSL routines:ssl3_read_bytes:tlsv1 alert internal \
                        error:../ssl/record/rec_layer_s3.c:1605:SSL alert number 80";
        for (text, has_certificate, is_greeted, expected) in [
            (
                required,
                false,
                true,
                "the host wants a client certificate (tlsv13 alert certificate required)",
            ),
            (unknown, false, true, "the host wants a client certificate (tlsv1 alert unknown ca)"),
            (unknown, true, true, "the host does not accept the client certificate (tlsv1 alert unknown ca)"),
            (failure, false, false, "ssl/tls alert handshake failure"),
            (failure, true, false, "ssl/tls alert handshake failure"),
            (
                failure,
                false,
                true,
                "the host ends the handshake, as for want of a client certificate (ssl/tls alert handshake failure)",
            ),
            (
                failure,
                true,
                true,
                "the host ends the handshake, perhaps because of the client certificate (ssl/tls alert handshake failure)",
            ),
            (internal, true, true, "tlsv1 alert internal error"),
        ] {
            let is_verifying = false;
            assert_eq!(words(text, Circumstances { has_certificate, is_greeted, is_verifying }), expected);
        }
    }

    #[test]
    fn errors_of_the_socket_stay_what_they_are() {
        let of = |kind: io::ErrorKind| of_stream(kind.into(), NONE);
        assert!(matches!(of(io::ErrorKind::WouldBlock), WireError::TimedOut));
        assert!(matches!(of(io::ErrorKind::ConnectionReset), WireError::Closed));
    }
}

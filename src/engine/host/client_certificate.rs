//! The certificates by which this host shows smarthosts who it is (`certificate`, `key`, `key_password_file`).
//!
//! | file | read as |
//! | --- | --- |
//! | `certificate` | a chain in PEM; with its key, if no `key` is named: then others must not be able to read it |
//! | `key` | a secret: others must not be able to read it |
//! | `key_password_file` | a secret: its first line is the passphrase of the key |
//!
//! The files are read when a certificate is first needed, and again in a new site (SIGHUP) or when the certificate has
//! ended. A failure is not kept: the next connection reads again.

use crate::config::Relay;
use crate::config::secret_file::{self, SecretFault};
use crate::mail::date::WallTime;
use crate::mail::relay_login::RelayLogin;
use crate::net::client_identity::{self, ClientIdentity, IdentityPart};
use crate::net::tls_client::Connector;
use crate::rules::accounts::secret_shape::first_line;
use crate::sys::file::{self, FileKind};
use crate::sys::lock::Lock;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key; `None`: it is with the chain.
    pub key: Option<PathBuf>,
    /// The passphrase of the key.
    pub key_password_file: Option<PathBuf>,
}

/// A fault of these files: the configuration key that names the one at fault, and a text with the remedy.
pub type ClientCertificateFault = (&'static str, SecretFault);

impl CertificateFiles {
    /// Those of a login; `None`: it has no certificate.
    #[must_use]
    pub fn of(login: &RelayLogin) -> Option<Self> {
        let RelayLogin { certificate, key, key_password_file, .. } = login.clone();
        Some(Self { certificate: certificate?, key, key_password_file })
    }

    /// Those of all logins, each once.
    #[must_use]
    pub fn all(relay: &Relay) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for login in relay.logins() {
            all.extend(Self::of(&login).filter(|files| !all.contains(files)));
        }
        all
    }

    /// The file with the key.
    #[must_use]
    pub fn key(&self) -> &Path {
        self.key.as_deref().unwrap_or(&self.certificate)
    }

    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// A file cannot be read, others can use the key, or the parts cannot be used together.
    pub fn read(&self, now: WallTime) -> Result<ClientIdentity, ClientCertificateFault> {
        let of_key = if self.key.is_some() { "key" } else { "certificate" };
        let secret = secret_file::read(self.key()).map_err(|fault| (of_key, fault))?;
        let chain = match &self.key {
            None => secret.clone(),
            Some(_) => file::read(&self.certificate, FileKind::Certificate).map_err(|error| {
                let text = format!("{:?} can't be read: {error}; name another", self.certificate);
                ("certificate", SecretFault { is_refused: false, text })
            })?,
        };
        let passphrase = self.key_password_file.as_deref().map(secret_file::read).transpose();
        let passphrase = passphrase.map_err(|fault| ("key_password_file", fault))?;
        ClientIdentity::new(&chain, &secret, passphrase.as_deref().map(first_line), now).map_err(|fault| {
            let (key, path) = match (fault.part, &self.key_password_file) {
                (IdentityPart::Passphrase, Some(path)) => ("key_password_file", path.as_path()),
                (IdentityPart::Certificate, _) => ("certificate", self.certificate.as_path()),
                _ => (of_key, self.key()),
            };
            (key, SecretFault { is_refused: false, text: format!("{path:?} {}", fault.text) })
        })
    }
}

/// The connectors with a client certificate, each made when it is first needed.
#[derive(Debug, Default)]
pub struct ClientConnectors(Lock<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    files: CertificateFiles,
    ends: WallTime,
    connector: Arc<Connector>,
}

impl ClientConnectors {
    /// The certificates of all logins with their ends: of the one that connections use, or else of the one that its file holds
    /// now. Its key is not read. An error says in words why the end is unknown.
    #[must_use]
    pub fn ends(&self, relay: &Relay, now: WallTime) -> Vec<(PathBuf, Result<WallTime, String>)> {
        let mut all: Vec<(PathBuf, Result<WallTime, String>)> = Vec::new();
        for files in CertificateFiles::all(relay) {
            let used = self.0.lock().iter().find(|it| it.files == files && it.ends >= now).map(|it| it.ends);
            let end = used.map_or_else(|| end_of_file(&files.certificate), Ok);
            if all.iter().all(|(path, other)| (path, other) != (&files.certificate, &end)) {
                all.push((files.certificate, end));
            }
        }
        all
    }

    /// The connector that shows the certificate of these files; `ca_file` is for the other side's.
    ///
    /// # Errors
    /// The files cannot be used; in words.
    pub fn get(
        &self,
        files: &CertificateFiles,
        ca_file: Option<&Path>,
        now: WallTime,
    ) -> Result<Arc<Connector>, String> {
        let mut kept = self.0.lock();
        if let Some(known) = kept.iter().find(|it| it.files == *files && it.ends >= now) {
            return Ok(Arc::clone(&known.connector));
        }
        kept.retain(|it| it.files != *files);
        let identity = files.read(now).map_err(|(_, fault)| fault.text)?;
        let ends = identity.ends();
        let connector = Arc::new(Connector::with_identity(ca_file.map(Path::to_owned), identity));
        kept.push(Kept { files: files.clone(), ends, connector: Arc::clone(&connector) });
        Ok(connector)
    }
}

/// The end of the certificate in a file.
///
/// # Errors
/// It cannot be read, or holds none; in words.
pub fn end_of_file(path: &Path) -> Result<WallTime, String> {
    let pem = file::read(path, FileKind::Certificate).map_err(|error| error.to_string())?;
    client_identity::end_of(&pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::self_signed;
    use crate::test_directory::TestDirectory;
    use openssl::pkey::PKey;
    use openssl::symm::Cipher;

    const NOW: WallTime = WallTime(1_795_416_810_000_000);
    const DAY: u64 = 86_400_000_000;

    #[test]
    fn a_fault_names_the_key_and_the_file() {
        let directory = TestDirectory::new();
        let pem = self_signed::make("box.example", NOW).unwrap();
        let other = self_signed::make("box.example", NOW).unwrap();
        let locked = PKey::private_key_from_pem(&pem).unwrap();
        let locked = locked.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"sesame").unwrap();
        let both = directory.secret("both.pem", &pem);
        let foreign = directory.secret("foreign.pem", &other);
        let locked = directory.secret("locked.pem", &locked);
        let right = directory.secret("right", b"sesame\r\nx\n");
        let wrong = directory.secret("wrong", b"open\n");
        let open = directory.file_of_mode("open.pem", &pem, 0o644);
        let missing = directory.join("missing");
        let read = |certificate: &PathBuf, key: Option<&PathBuf>, password: Option<&PathBuf>, now| {
            let (key, key_password_file) = (key.cloned(), password.cloned());
            let files = CertificateFiles { certificate: certificate.clone(), key, key_password_file };
            files.read(now).map(drop).map_err(|(key, fault)| (key, fault.text))
        };
        assert_eq!(read(&both, None, None, NOW), Ok(()));
        assert_eq!(read(&both, Some(&locked), Some(&right), NOW), Ok(()));
        assert_eq!(read(&open, Some(&both), None, NOW), Ok(()), "a certificate is no secret");
        let late = WallTime(NOW.0 + 900 * DAY);
        for (certificate, key, password, now, of, file, words) in [
            (&open, None, None, NOW, "certificate", &open, "others may use"),
            (&both, Some(&open), None, NOW, "key", &open, "others may use"),
            (&both, Some(&missing), None, NOW, "key", &missing, "make the file"),
            (&missing, Some(&both), None, NOW, "certificate", &missing, "name another"),
            (&both, Some(&locked), None, NOW, "key", &locked, "is encrypted; name"),
            (&both, Some(&locked), Some(&wrong), NOW, "key_password_file", &wrong, "has another passphrase"),
            (&both, Some(&locked), Some(&missing), NOW, "key_password_file", &missing, "make the file"),
            (&both, Some(&foreign), None, NOW, "key", &foreign, "is not the key of this certificate"),
            (&both, None, None, late, "certificate", &both, "ended on "),
        ] {
            let (key, text) = read(certificate, key, password, now).unwrap_err();
            assert_eq!(key, of, "{text}");
            assert!(text.contains(&format!("{file:?}")) && text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_connector_is_kept_until_its_certificate_has_ended() {
        let directory = TestDirectory::new();
        let path = directory.secret("both.pem", self_signed::make("box.example", NOW).unwrap());
        let files = CertificateFiles { certificate: path.clone(), key: None, key_password_file: None };
        let connectors = ClientConnectors::default();
        let get = |days: u64| connectors.get(&files, None, WallTime(NOW.0 + days * DAY));
        let first = get(0).unwrap();
        assert!(first.has_identity());
        directory.secret("both.pem", b"");
        assert!(Arc::ptr_eq(&first, &get(800).unwrap()), "the file is not read again");
        assert!(get(826).unwrap_err().contains("holds no"));
        let later = WallTime(NOW.0 + 820 * DAY);
        directory.secret("both.pem", self_signed::make("box.example", later).unwrap());
        assert!(!Arc::ptr_eq(&first, &get(826).unwrap()), "a renewed certificate needs no SIGHUP then");
    }

    /// Those that no message has used yet, too, and the one in use although its file has another.
    #[test]
    fn all_certificates_are_told_with_their_ends() {
        let directory = TestDirectory::new();
        let used = directory.secret("used.pem", self_signed::make("box.example", NOW).unwrap());
        let unused = directory.secret("unused.pem", self_signed::make("box.example", NOW).unwrap());
        let broken = directory.secret("broken.pem", b"none");
        let missing = directory.join("missing.pem");
        let text = format!(
            "relay.certificate = {used:?}\nrelay.smarthost = [\"smtps://a.example\", {{ url = \"smtps://b.example\", certificate = {unused:?} }}, \
             {{ url = \"smtps://c.example\", certificate = {broken:?} }}]\n\
             relay.senders = {{ \"x@y.example\" = {{ url = \"smtps://d.example\", certificate = {missing:?} }} }}\n"
        );
        let relay = crate::config::parse(&text, "f").unwrap().relay;
        let connectors = ClientConnectors::default();
        let files = CertificateFiles { certificate: used.clone(), key: None, key_password_file: None };
        connectors.get(&files, None, NOW).unwrap();
        directory.secret("used.pem", b"other");
        let days = |end: &Result<WallTime, String>| end.clone().map(|end| (end.0 - NOW.0) / DAY);
        let all: Vec<_> =
            connectors.ends(&relay, NOW).iter().map(|(path, end)| (path.clone(), days(end))).collect();
        assert_eq!(
            all,
            [
                (used, Ok(824)),
                (unused, Ok(824)),
                (broken, Err("it holds no certificate in PEM".to_owned())),
                (missing, Err("No such file or directory (os error 2)".to_owned())),
            ]
        );
        // The next connection will read the file again.
        let later = WallTime(NOW.0 + 830 * DAY);
        assert!(connectors.ends(&relay, later)[0].1.is_err());
    }
}

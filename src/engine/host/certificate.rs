//! The certificate for clients: the configured one, or one that this host signs itself.
//!
//! | configuration | at start | failure |
//! | --- | --- | --- |
//! | `tls.certificate` and `tls.key` | both are read | an error that names the key of `[tls]`; the daemon does not start |
//! | the same, and others can read the key | as without a configuration; logged | – |
//! | neither | nothing: the self-signed one is read or made when it is needed | logged; STARTTLS is not offered |
//!
//! A configured certificate changes only by a reload. A self-signed one is read from `state`, or made, by a thread behind the
//! listeners if one of them may offer it ([`Tls::prepare`]), else at the first handshake: clients on loopback are
//! not offered it, and a box that only sends alerts needs neither the certificate nor OpenSSL's start of some milliseconds.
//! It has two parts, each with its own key: an EC key, made at once, and an RSA key for old devices. A small processor needs
//! long to make an RSA key, so a thread makes it, and clients get the EC part meanwhile.
//!
//! # Renewal of the self-signed certificate
//!
//! ```text
//! made ──────────────────────────────────── renewal ──────────── end
//!  │ RSA part: some seconds later             │ 30 days before the end
//!  │                                          ▼
//!  │                          the next handshake makes a new one
//!  ▼                          failure: the old one stays, next try after an hour
//! state/tls/self-signed.pem, replaced durably
//! ```
//!
//! | the kept certificate | at its first use |
//! | --- | --- |
//! | valid, for this hostname | used |
//! | for another hostname, damaged, missing, or due for renewal | a new one is made |
//! | without an RSA part, from an older version | used and completed |
//!
//! A renewal holds the lock of the certificate, so other handshakes wait for the EC key: a fraction of a second.

use crate::config::Settings;
use crate::config::secret_file::{self, SecretFault};
use crate::engine::log::event::{Event, trouble};
use crate::mail::address::Domain;
use crate::mail::date::WallTime;
use crate::net::handshake::Handshake;
use crate::net::self_signed;
use crate::net::tls::{Acceptor, IdentityError, Minimum};
use crate::store::state_file::self_signed as store;
use crate::sys::file::{self, FileKind};
use crate::sys::lock::Lock;
use crate::sys::thread;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

const MINUTE_MICROS: u64 = 60_000_000;
/// The time between the renewal of a self-signed certificate and its end.
const RENEWAL: u64 = 30 * 24 * 60 * MINUTE_MICROS;
/// The time after which a failed renewal is tried again.
const RETRY: u64 = 60 * MINUTE_MICROS;

/// The first line of each part in the kept file: a key, followed by its certificate.
const KEY_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";

/// A fault of the configured certificate: the key of `[tls]` that is at fault, and a text with the remedy.
pub type CertificateFault = (&'static str, String);

/// The certificate for clients.
#[derive(Debug)]
pub enum Tls {
    /// The configured one, and the oldest TLS version.
    Configured(Acceptor, Minimum),
    /// One that this host has signed itself.
    SelfSigned(Arc<SelfSigned>),
}

impl Tls {
    /// Reads the configured certificate; without one, the self-signed one is used later. A configured key that others can
    /// read counts as not configured.
    ///
    /// # Errors
    /// The configured certificate or its key cannot be read or used, or only one of them is configured.
    pub fn load(settings: &Settings, hostname: &Domain, now: WallTime) -> Result<Self, CertificateFault> {
        let minimum = version(settings.tls.minimum).unwrap_or(Minimum::Tls12);
        match configured(settings, now) {
            Ok(None) => {}
            Ok(Some(acceptor)) => return Ok(Self::Configured(acceptor, minimum)),
            Err((_, SecretFault { is_refused: true, text })) => {
                trouble("reading the key of the certificate; a self-signed one takes its place", &text);
            }
            Err((key, fault)) => return Err((key, fault.text)),
        }
        let place = Place {
            state: settings.state.clone(),
            hostname: hostname.to_ascii().unwrap_or_else(|| hostname.key()),
        };
        let kept = Lock::new(Kept { current: None, due: WallTime(0) });
        Ok(Self::SelfSigned(Arc::new(SelfSigned {
            place,
            minimum,
            kept,
            is_missing: AtomicBool::new(false),
        })))
    }

    /// Starts a thread that reads or makes the self-signed certificate, so that the first client does not wait for it.
    pub fn prepare(&self, now: WallTime) {
        let Self::SelfSigned(self_signed) = self else { return };
        let this = Arc::clone(self_signed);
        start_thread(move || drop(this.up_to_date(now)));
    }

    /// The end of a configured certificate. A self-signed one is renewed in time by itself.
    #[must_use]
    pub fn configured_end(&self) -> Option<WallTime> {
        match self {
            Self::Configured(acceptor, _) => Some(acceptor.ends()),
            Self::SelfSigned(_) => None,
        }
    }

    /// Whether this host has signed the certificate itself.
    #[must_use]
    pub const fn is_self_signed(&self) -> bool {
        matches!(self, Self::SelfSigned(_))
    }

    /// Whether there is no certificate, since none could be made.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::SelfSigned(self_signed) if self_signed.is_missing.load(Ordering::Relaxed))
    }

    /// Prepares a handshake; `None` without a certificate, or without memory for one. `listener` is the oldest TLS version of the listener for
    /// trusted clients, as in the configuration. It never allows strangers an older version than `tls.minimum`.
    #[must_use]
    pub fn handshake(&self, now: WallTime, listener: &str, is_trusted: bool) -> Option<Handshake> {
        let general = match self {
            Self::Configured(_, minimum) => *minimum,
            Self::SelfSigned(self_signed) => self_signed.minimum,
        };
        let own = version(listener).unwrap_or(general);
        let minimum = if is_trusted { own } else { own.max(general) };
        match self {
            Self::Configured(acceptor, _) => acceptor.handshake(minimum),
            Self::SelfSigned(self_signed) => self_signed.handshake(now, minimum),
        }
    }
}

/// The TLS version of a word of the configuration.
fn version(word: &str) -> Option<Minimum> {
    match word {
        "1.0" => Some(Minimum::Tls10),
        "1.1" => Some(Minimum::Tls11),
        "1.2" => Some(Minimum::Tls12),
        "1.3" => Some(Minimum::Tls13),
        _ => None,
    }
}

/// Reads the configured certificate and its key; `None` if neither is configured.
///
/// # Errors
/// One of them is missing in the configuration, cannot be read, or cannot be used; or others can use the key. With the key
/// of `[tls]` that is at fault.
pub fn configured(
    settings: &Settings,
    now: WallTime,
) -> Result<Option<Acceptor>, (&'static str, SecretFault)> {
    const BOTH: &str = "write both, or neither for a self-signed certificate";
    let fault = |key, text| (key, SecretFault { is_refused: false, text });
    let (certificate, key) = match (&settings.tls.certificate, &settings.tls.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(fault("certificate", format!("the key is missing; {BOTH}"))),
        (None, Some(_)) => return Err(fault("key", format!("the certificate is missing; {BOTH}"))),
    };
    let secret = secret_file::read(key).map_err(|fault| ("key", fault))?;
    let chain = file::read(certificate, FileKind::Certificate).map_err(|error| {
        fault("certificate", format!("{certificate:?} can't be read: {error}; name another"))
    })?;
    let acceptor = Acceptor::new(&[(&chain, &secret)], now);
    acceptor.map(Some).map_err(|error| match error {
        IdentityError::Key | IdentityError::Mismatch => fault("key", format!("{key:?} {error}")),
        _ => fault("certificate", format!("{certificate:?} {error}")),
    })
}

/// The self-signed certificate, with its renewal.
#[derive(Debug)]
pub struct SelfSigned {
    place: Place,
    minimum: Minimum,
    kept: Lock<Kept>,
    /// It could not be made. Whoever asks must not wait for the lock, which is held while one is made.
    is_missing: AtomicBool,
}

#[derive(Debug)]
struct Kept {
    /// `None` before the first use, and while it cannot be made.
    current: Option<Current>,
    /// When it is read or made next.
    due: WallTime,
}

struct Current {
    /// The kept file without its first line: one part, or two.
    pem: Vec<u8>,
    acceptor: Acceptor,
    renewal: WallTime,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the keys.
        f.debug_struct("Current").field("acceptor", &self.acceptor).finish_non_exhaustive()
    }
}

impl Current {
    fn new(pem: Vec<u8>, now: WallTime) -> Result<Self, IdentityError> {
        let parts = parts(&pem);
        let identities: Vec<_> = parts.iter().map(|part| (*part, *part)).collect();
        let acceptor = Acceptor::new(&identities, now)?;
        let renewal = WallTime(acceptor.ends().0.saturating_sub(RENEWAL));
        Ok(Self { acceptor, renewal, pem })
    }
}

/// The parts of the file, cut before each key; the whole text if it has no key.
fn parts(pem: &[u8]) -> Vec<&[u8]> {
    let text = std::str::from_utf8(pem).unwrap_or_default();
    let begins: Vec<usize> = text.match_indices(KEY_BEGIN).map(|(at, _)| at).collect();
    let ends = begins.iter().skip(1).copied().chain([pem.len()]);
    let found: Vec<&[u8]> =
        begins.iter().zip(ends).map(|(&from, to)| pem.get(from..to).unwrap_or_default()).collect();
    if found.is_empty() { vec![pem] } else { found }
}

impl SelfSigned {
    fn handshake(self: &Arc<Self>, now: WallTime, minimum: Minimum) -> Option<Handshake> {
        self.up_to_date(now).current.as_ref()?.acceptor.handshake(minimum)
    }

    /// Reads or makes the certificate, if that is due.
    fn up_to_date(self: &Arc<Self>, now: WallTime) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock();
        if now < kept.due {
            return kept;
        }
        let on_disk = if kept.current.is_none() { self.place.read(now) } else { None };
        match on_disk.map_or_else(|| self.place.renew(now), Ok) {
            Ok(current) => {
                self.complete(&current, now);
                kept.due = current.renewal;
                kept.current = Some(current);
            }
            Err(error) => {
                kept.due = WallTime(now.0.saturating_add(RETRY));
                trouble("making a certificate; STARTTLS is not offered", &error);
            }
        }
        self.is_missing.store(kept.current.is_none(), Ordering::Relaxed);
        kept
    }

    /// Starts a thread that adds the RSA part, unless the certificate has it.
    fn complete(self: &Arc<Self>, current: &Current, now: WallTime) {
        if parts(&current.pem).len() > 1 {
            return;
        }
        let (this, pem) = (Arc::clone(self), current.pem.clone());
        start_thread(move || {
            if let Err(error) = this.add_rsa(pem, now) {
                trouble("making a certificate with an RSA key", &error);
            }
        });
    }

    /// Makes the RSA part and adds it to `pem`, unless the certificate was renewed meanwhile.
    fn add_rsa(&self, mut pem: Vec<u8>, now: WallTime) -> Result<(), String> {
        let rsa = self_signed::make_rsa(&self.place.hostname, now).map_err(|error| error.to_string())?;
        let mut kept = self.kept.lock();
        if kept.current.as_ref().is_some_and(|current| current.pem == pem) {
            pem.extend(rsa);
            let complete = Current::new(pem, now).map_err(|error| error.to_string())?;
            self.place.save(&complete)?;
            kept.current = Some(complete);
        }
        Ok(())
    }
}

fn start_thread(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::start("certificate", work) {
        trouble("starting a thread", &error);
    }
}

/// The directory and the hostname of the certificate.
#[derive(Debug)]
struct Place {
    state: PathBuf,
    hostname: String,
}

impl Place {
    /// The kept certificate, unless it is missing, damaged or due for renewal.
    fn read(&self, now: WallTime) -> Option<Current> {
        let pem = store::load(&self.state, &self.hostname)?;
        Current::new(parts(&pem).concat(), now).ok().filter(|current| now < current.renewal)
    }

    /// Makes a certificate with an EC key, and saves it.
    fn renew(&self, now: WallTime) -> Result<Current, String> {
        let pem = self_signed::make(&self.hostname, now).map_err(|error| error.to_string())?;
        let current = Current::new(pem, now).map_err(|error| error.to_string())?;
        self.save(&current)?;
        Event::Notice("made a self-signed certificate").log();
        Ok(current)
    }

    fn save(&self, current: &Current) -> Result<(), String> {
        store::save(&self.state, &self.hostname, &current.pem).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::test_directory::TestDirectory;
    use std::path::Path;

    const NOW: WallTime = WallTime(1_795_416_810_000_000);
    const DAY: u64 = 24 * 60 * MINUTE_MICROS;

    fn load(state: &Path, hostname: &str, now: WallTime) -> Tls {
        let settings = parse(&format!("state = {state:?}"), "f").unwrap();
        Tls::load(&settings, &Domain::parse(hostname).unwrap(), now).unwrap()
    }

    /// As [`load`], with a certificate that is read or made.
    fn use_it(state: &Path, hostname: &str, now: WallTime) -> Tls {
        let tls = load(state, hostname, now);
        assert!(shakes(&tls, now));
        tls
    }

    fn self_signed(tls: &Tls) -> &Arc<SelfSigned> {
        let Tls::SelfSigned(self_signed) = tls else { panic!("it is configured") };
        self_signed
    }

    fn kept<T>(tls: &Tls, part: impl FnOnce(&Current) -> T) -> T {
        part(self_signed(tls).kept.lock().current.as_ref().unwrap())
    }

    fn ends(tls: &Tls) -> WallTime {
        kept(tls, |current| current.acceptor.ends())
    }

    fn shakes(tls: &Tls, now: WallTime) -> bool {
        tls.handshake(now, "", false).is_some()
    }

    /// Waits until the certificate with the RSA key is there, too, and nothing more is written.
    fn complete(tls: &Tls) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while kept(tls, |current| parts(&current.pem).len()) < 2 {
            assert!(std::time::Instant::now() < end, "it is not made");
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_a_self_signed_one_takes_its_place() {
        let directory = TestDirectory::new();
        let state = directory.path();
        std::fs::create_dir_all(state.join("tmp")).unwrap();
        let pem = crate::net::self_signed::make("box.example", NOW).unwrap();
        let file = directory.file("chain-and-key", pem);
        let text = format!("state = {state:?}\n[tls]\ncertificate = {file:?}\nkey = {file:?}\n");
        let (settings, hostname) = (parse(&text, "f").unwrap(), Domain::parse("box.example").unwrap());
        for (mode, is_taken) in [(0o600, true), (0o640, true), (0o644, false), (0o604, false)] {
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let tls = Tls::load(&settings, &hostname, NOW).unwrap();
            assert_eq!(matches!(tls, Tls::Configured(..)), is_taken, "{mode:o}");
            assert!(shakes(&tls, NOW));
            if !is_taken {
                complete(&tls);
            }
        }
    }

    #[test]
    fn a_self_signed_certificate_is_kept_until_it_ends_soon() {
        let directory = TestDirectory::new();
        let state = directory.path();
        let file = state.join("tls/self-signed.pem");
        let early = load(state, "box.example", NOW);
        assert!(!early.is_missing(), "nobody has tried");
        assert!(!shakes(&early, NOW) && early.is_missing(), "there is no directory for it yet");
        std::fs::create_dir_all(state.join("tmp")).unwrap();
        assert!(!shakes(&early, NOW), "a failure is not repeated for each connection");
        assert!(shakes(&early, WallTime(NOW.0 + RETRY)) && !early.is_missing());
        complete(&early);
        std::fs::remove_dir_all(state.join("tls")).unwrap();
        let later = |days: u64| WallTime(NOW.0 + days * DAY);
        let tls = load(state, "box.example", NOW);
        assert!(!file.exists(), "a box whose clients are all on loopback has none");
        assert!(shakes(&tls, NOW), "nobody waits for the RSA key");
        complete(&tls);
        let first = std::fs::read(&file).unwrap();
        assert_eq!(first.windows(KEY_BEGIN.len()).filter(|part| *part == KEY_BEGIN.as_bytes()).count(), 2);
        assert_eq!(ends(&tls).seconds(), later(824).seconds());
        let renewal = kept(&tls, |current| current.renewal);
        let place = Place { state: state.to_owned(), hostname: "box.example".to_owned() };
        assert!(place.read(WallTime(renewal.0 - 1)).is_some() && place.read(renewal).is_none());

        // A day before its renewal it is still the same, also after a restart; a clock in the past changes nothing.
        for now in [NOW, WallTime(0), later(793)] {
            assert!(shakes(&tls, now));
            assert_eq!(ends(&use_it(state, "box.example", now)), ends(&tls));
        }
        assert_eq!(std::fs::read(&file).unwrap(), first);

        assert!(shakes(&tls, later(794)));
        complete(&tls);
        let second = std::fs::read(&file).unwrap();
        assert_ne!(second, first);
        assert_eq!(ends(&tls).seconds(), later(794 + 824).seconds());
        assert_eq!(ends(&use_it(state, "box.example", later(794))), ends(&tls));

        // A failure keeps the old one, and is not repeated for each connection.
        std::fs::remove_dir(state.join("tmp")).unwrap();
        assert!(shakes(&tls, later(2000)));
        std::fs::create_dir(state.join("tmp")).unwrap();
        assert!(shakes(&tls, later(2000)));
        assert_eq!(std::fs::read(&file).unwrap(), second);
        assert!(shakes(&tls, WallTime(later(2000).0 + RETRY)));
        complete(&tls);
        assert_ne!(std::fs::read(&file).unwrap(), second);

        // Another name and a damaged file are reasons for another one; so is the end at a start.
        for (hostname, now, damage) in [
            ("other.example", NOW, false),
            ("other.example", NOW, true),
            ("other.example", later(900), false),
        ] {
            let before = std::fs::read(&file).unwrap();
            if damage {
                std::fs::write(&file, &before[..before.len() / 2]).unwrap();
            }
            complete(&use_it(state, hostname, now));
            assert_ne!(std::fs::read(&file).unwrap(), before, "{hostname} {damage}");
        }

        // What an older version has made is completed, and stays.
        let both = std::fs::read(&file).unwrap();
        let (first_line, pem) = both.split_at(both.iter().position(|octet| *octet == b'\n').unwrap() + 1);
        let ec = parts(pem)[0];
        std::fs::write(&file, [first_line, ec].concat()).unwrap();
        complete(&use_it(state, "other.example", later(900)));
        let completed = std::fs::read(&file).unwrap();
        assert!(completed.starts_with(&[first_line, ec].concat()) && completed != both);
    }
}

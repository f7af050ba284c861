//! The certificate that clients are shown: the configured one, or one that this host signs itself, keeps below `state`
//! and renews before it ends.
//!
//! May fail: a configured certificate, with the key of the configuration that is to blame; a self-signed one, which is
//! logged, and mail goes on without TLS.

use super::event::Event;
use crate::config::{Settings, files};
use crate::mail::address::Domain;
use crate::mail::date::WallTime;
use crate::net::self_signed;
use crate::net::tls::{Acceptor, Handshake, IdentityError, Minimum};
use crate::store::self_signed as store;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const MINUTE_MICROS: u64 = 60_000_000;
/// A self-signed certificate is renewed so long before it ends.
const RENEWAL: u64 = 30 * 24 * 60 * MINUTE_MICROS;
/// A renewal that failed is tried again after this time.
const RETRY: u64 = 60 * MINUTE_MICROS;

/// What is wrong with a configured certificate: the key of `[tls]` to blame, and what to do.
pub type Blame = (&'static str, String);

/// The certificate of now.
#[derive(Debug)]
pub struct Tls {
    current: Mutex<Current>,
    self_signed: Option<SelfSigned>,
}

#[derive(Debug)]
struct Current {
    acceptor: Acceptor,
    /// When it is renewed, if that is our task.
    renewal: WallTime,
}

impl Tls {
    /// Reads the configured certificate, or reads or makes the self-signed one; `None` if that can't be made. A key that
    /// others can read is refused, and mail goes on as if there were none.
    ///
    /// # Errors
    /// The configured one is of no use.
    pub fn load(settings: &Settings, hostname: &Domain, now: WallTime) -> Result<Option<Self>, Blame> {
        let refused = settings.tls.key.as_deref().and_then(files::open_secret);
        if let Some(error) = &refused {
            Event::Trouble {
                doing: "reading the key of the certificate; a self-signed one takes its place",
                error,
            }
            .log();
        }
        if refused.is_none()
            && let Some(acceptor) = configured(settings, now)?
        {
            let current = Mutex::new(Current { acceptor, renewal: WallTime(u64::MAX) });
            return Ok(Some(Self { current, self_signed: None }));
        }
        let self_signed = SelfSigned {
            state: settings.state.clone(),
            hostname: hostname.to_ascii().unwrap_or_else(|| hostname.key()),
            minimum: minimum(settings),
        };
        let acceptor = self_signed.read(now).map_or_else(|| self_signed.renew(now), Ok);
        Ok(match acceptor {
            Ok(acceptor) => {
                let renewal = renewal(&acceptor);
                let current = Mutex::new(Current { acceptor, renewal });
                Some(Self { current, self_signed: Some(self_signed) })
            }
            Err(error) => {
                Event::Trouble { doing: "making a certificate; STARTTLS is not offered", error: &error }
                    .log();
                None
            }
        })
    }

    /// Makes ready for a handshake; `None` if there is no memory for one.
    #[must_use]
    pub fn handshake(&self, now: WallTime) -> Option<Handshake> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(self_signed) = self.self_signed.as_ref().filter(|_| now >= current.renewal) {
            match self_signed.renew(now) {
                Ok(acceptor) => *current = Current { renewal: renewal(&acceptor), acceptor },
                Err(error) => {
                    current.renewal = WallTime(now.0.saturating_add(RETRY));
                    Event::Trouble { doing: "renewing the certificate", error: &error }.log();
                }
            }
        }
        current.acceptor.handshake()
    }
}

fn renewal(acceptor: &Acceptor) -> WallTime {
    WallTime(acceptor.ends().0.saturating_sub(RENEWAL))
}

fn minimum(settings: &Settings) -> Minimum {
    if settings.tls.minimum == "1.3" { Minimum::Tls13 } else { Minimum::Tls12 }
}

/// Reads the configured certificate and its key; `None` if there is none.
///
/// # Errors
/// They are of no use.
pub fn configured(settings: &Settings, now: WallTime) -> Result<Option<Acceptor>, Blame> {
    const BOTH: &str = "write both, or neither for a self-signed certificate";
    let (certificate, key) = match (&settings.tls.certificate, &settings.tls.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(("certificate", format!("the key is missing; {BOTH}"))),
        (None, Some(_)) => return Err(("key", format!("the certificate is missing; {BOTH}"))),
    };
    let read = |path: &Path, blame| {
        std::fs::read(path).map_err(|error| (blame, format!("{path:?} can't be read: {error}; name another")))
    };
    let (chain, secret) = (read(certificate, "certificate")?, read(key, "key")?);
    let acceptor = Acceptor::new(&chain, &secret, minimum(settings), now);
    acceptor.map(Some).map_err(|error| match error {
        IdentityError::Key | IdentityError::Mismatch => ("key", format!("{key:?} {error}")),
        _ => ("certificate", format!("{certificate:?} {error}")),
    })
}

#[derive(Debug)]
struct SelfSigned {
    state: PathBuf,
    hostname: String,
    minimum: Minimum,
}

impl SelfSigned {
    /// What was made before, unless it is damaged or to be renewed.
    fn read(&self, now: WallTime) -> Option<Acceptor> {
        let pem = store::load(&self.state, &self.hostname)?;
        let acceptor = Acceptor::new(&pem, &pem, self.minimum, now).ok()?;
        (now < renewal(&acceptor)).then_some(acceptor)
    }

    fn renew(&self, now: WallTime) -> Result<Acceptor, String> {
        let pem = self_signed::make(&self.hostname, now).map_err(|error| error.to_string())?;
        let acceptor = Acceptor::new(&pem, &pem, self.minimum, now).map_err(|error| error.to_string())?;
        store::save(&self.state, &self.hostname, &pem).map_err(|error| error.to_string())?;
        Event::Notice("made a self-signed certificate").log();
        Ok(acceptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const NOW: WallTime = WallTime(1_795_416_810_000_000);
    const DAY: u64 = 24 * 60 * MINUTE_MICROS;

    fn load(state: &Path, hostname: &str, now: WallTime) -> Option<Tls> {
        let settings = parse(&format!("state = {state:?}"), "f").unwrap();
        Tls::load(&settings, &Domain::parse(hostname).unwrap(), now).unwrap()
    }

    fn ends(tls: &Tls) -> WallTime {
        tls.current.lock().unwrap().acceptor.ends()
    }

    #[test]
    fn a_self_signed_certificate_is_kept_until_it_ends_soon() {
        let state = std::env::temp_dir().join(format!("pillarbox-tls-{}", std::process::id()));
        let file = state.join("tls/self-signed.pem");
        assert!(load(&state, "box.example", NOW).is_none(), "there is no directory for it yet");
        std::fs::create_dir_all(state.join("tmp")).unwrap();
        let later = |days: u64| WallTime(NOW.0 + days * DAY);
        let tls = load(&state, "box.example", NOW).unwrap();
        let first = std::fs::read(&file).unwrap();
        assert_eq!(ends(&tls).seconds(), later(824).seconds());

        // A day before its renewal it is still the same, also after a restart; a clock in the past changes nothing.
        for now in [NOW, WallTime(0), later(793)] {
            assert!(tls.handshake(now).is_some());
            assert_eq!(ends(&load(&state, "box.example", now).unwrap()), ends(&tls));
        }
        assert_eq!(std::fs::read(&file).unwrap(), first);

        assert!(tls.handshake(later(794)).is_some());
        let second = std::fs::read(&file).unwrap();
        assert_ne!(second, first);
        assert_eq!(ends(&tls).seconds(), later(794 + 824).seconds());
        assert_eq!(ends(&load(&state, "box.example", later(794)).unwrap()), ends(&tls));

        // A failure keeps the old one, and is not repeated for each connection.
        std::fs::remove_dir(state.join("tmp")).unwrap();
        assert!(tls.handshake(later(2000)).is_some());
        std::fs::create_dir(state.join("tmp")).unwrap();
        assert!(tls.handshake(later(2000)).is_some());
        assert_eq!(std::fs::read(&file).unwrap(), second);
        assert!(tls.handshake(WallTime(later(2000).0 + RETRY)).is_some());
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
            load(&state, hostname, now).unwrap();
            assert_ne!(std::fs::read(&file).unwrap(), before, "{hostname} {damage}");
        }
        std::fs::remove_dir_all(&state).unwrap();
    }
}

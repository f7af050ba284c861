//! A scripted provider: an HTTPS server on loopback whose answers a test gives, and a world that logs in by its tokens.

use crate::engine::host::site::current;
use crate::engine::outbound::tokens::client::OauthClient;
use crate::engine::outbound::tokens::{TokenKeeper, TokenWorld};
use crate::engine::tests::world::*;
use crate::mail::date::WallTime;
use crate::net::self_signed;
use crate::rules::accounts::oauth::kept::Kept;
use crate::rules::accounts::oauth::reply::Grant;
use crate::rules::accounts::oauth::url::field;
use crate::smtp::sasl::Secret;
use crate::store::state_file::tokens;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

pub const NAME: &str = "login.test";
pub const JOE: &str = "joe@far.example";

/// Key and certificate of every provider, in PEM, and the file with them.
fn certificate() -> &'static (Vec<u8>, PathBuf) {
    static MADE: OnceLock<(Vec<u8>, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let pem = self_signed::make(NAME, WallTime(now.as_micros().try_into().unwrap())).unwrap();
        let path = std::env::temp_dir().join(format!("pillarbox-provider-{}.pem", std::process::id()));
        std::fs::write(&path, &pem).unwrap();
        (pem, path)
    })
}

/// What a provider answers: a status line with further fields, and the body. `None`: it closes the connection.
pub type Answer = Option<(&'static str, String)>;

pub fn granted(access: &str, refresh: &str, lifetime: u64) -> Answer {
    let refresh =
        if refresh.is_empty() { String::new() } else { format!(",\"refresh_token\":\"{refresh}\"") };
    Some(("200 OK", format!("{{\"access_token\":\"{access}\",\"expires_in\":{lifetime}{refresh}}}")))
}

pub fn refuses(code: &str) -> Answer {
    Some(("400 Bad Request", format!("{{\"error\":\"{code}\",\"error_description\":\"so it is\"}}")))
}

type Script = Box<dyn FnMut(&str) -> Answer + Send>;

/// A scripted provider.
#[derive(Clone)]
pub struct Provider {
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    /// A provider that the world knows by [`NAME`].
    pub fn new(world: &World, script: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let provider = Self { script: Arc::new(Mutex::new(Box::new(script))), asked: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        world.net.address(NAME, &["127.0.0.50"]);
        world.net.peer("127.0.0.50:443", Peer::Socket(listener.local_addr().unwrap()));
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&PKey::private_key_from_pem(&certificate().0).unwrap()).unwrap();
        acceptor.set_certificate(&X509::from_pem(&certificate().0).unwrap()).unwrap();
        let (acceptor, own) = (acceptor.build(), provider.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = acceptor.accept(stream.unwrap()) else { continue };
                let form = read_form(&mut stream);
                own.asked.lock().unwrap().push(form.clone());
                let answer = (own.script.lock().unwrap())(&form);
                if let Some((head, body)) = answer {
                    let length = body.len();
                    let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
                }
                let _ = stream.shutdown();
            }
        });
        provider
    }

    pub fn now_says(&self, script: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// The forms that it was sent since the last call.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// The refresh tokens that it was shown since the last call.
    pub fn take_presented(&self) -> Vec<String> {
        self.take_asked().iter().map(|form| field(form, "refresh_token").unwrap_or_default()).collect()
    }
}

fn read_form(stream: &mut impl Read) -> String {
    let mut octets = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&octets).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                return body.to_owned();
            }
        }
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => octets.extend_from_slice(&buffer[..length]),
            _ => return String::new(),
        }
    }
}

/// A world whose smarthost 127.0.0.10 takes tokens of the provider.
pub fn world(more: &str) -> World {
    let path = &certificate().1;
    World::new(&format!(
        "relay.smarthost = \"smtp://127.0.0.10\"\nrelay.username = \"{JOE}\"\nrelay.auth = \"xoauth2\"\n\
         relay.ca_file = {path:?}\noauth.client_id = \"box\"\noauth.token_url = \"https://{NAME}/token\"\n\
         oauth.device_url = \"https://{NAME}/device\"\n{more}"
    ))
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// Keeps a login, as `pillarbox login` does.
pub fn log_in(world: &World, access: &str, refresh: &str, lifetime: u64) {
    let keeper = keeper(world);
    let mut kept = Kept::new(JOE, &format!("https://{NAME}/token"));
    let refresh = (!refresh.is_empty()).then(|| secret(refresh));
    kept.granted(Grant { access: secret(access), refresh, lifetime }, None, keeper.now());
    keeper.try_login(&world.state(), &file(world), kept);
    keeper.save_login(&world.state(), &file(world)).unwrap();
}

/// The name of the file.
pub fn file(world: &World) -> String {
    OauthClient::of(&current(&world.site).settings).unwrap().file_name(JOE)
}

/// What lies on disk, as text.
pub fn on_disk(world: &World) -> String {
    String::from_utf8(tokens::load(&world.state(), &file(world)).unwrap_or_default()).unwrap()
}

pub fn keeper(world: &World) -> &TokenKeeper {
    &world.forwarder.egress.tokens
}

/// A token, as text.
pub fn token_of(world: &World, keeper: &TokenKeeper) -> Result<String, String> {
    with(world, |it| keeper.token(it, JOE))
}

pub fn token(world: &World) -> Result<String, String> {
    token_of(world, keeper(world))
}

/// The housekeeping.
pub fn keep(world: &World) {
    let _ = with(world, |it| {
        keeper(world).keep(it);
        Ok(secret("x"))
    });
}

pub fn with(
    world: &World,
    ask: impl FnOnce(&TokenWorld<'_>) -> Result<Secret, String>,
) -> Result<String, String> {
    let site = current(&world.site);
    let it = TokenWorld { resolver: &*world.net, connect: &*world.net, site: &site };
    ask(&it).map(|token| String::from_utf8(token.octets().to_vec()).unwrap())
}

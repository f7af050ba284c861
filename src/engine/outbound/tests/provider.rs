//! A scripted provider: a web server whose answers a test gives, and a world that logs in by its tokens.

use crate::engine::host::site::current;
use crate::engine::outbound::tokens::TokenKeeper;
use crate::engine::outbound::tokens::client::OauthClient;
use crate::engine::outbound::web::WebWorld;
use crate::engine::tests::world::*;
use crate::rules::accounts::oauth::kept::Kept;
use crate::rules::accounts::oauth::reply::Grant;
use crate::rules::accounts::oauth::url::field;
use crate::smtp::sasl::Secret;
use crate::store::state_file::tokens;
use std::sync::{Arc, Mutex};

pub const NAME: &str = WEB_NAME;
pub const JOE: &str = "joe@far.example";

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
        let own = provider.clone();
        serve_web(world, move |_, form| {
            own.asked.lock().unwrap().push(form.to_owned());
            (own.script.lock().unwrap())(form)
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

/// A world whose smarthost 127.0.0.10 takes tokens of the provider.
pub fn world(more: &str) -> World {
    let place = World::place();
    let path = place.file("web.pem", web_certificate());
    let config = format!(
        "relay.smarthost = \"smtp://127.0.0.10\"\nrelay.username = \"{JOE}\"\nrelay.auth = \"xoauth2\"\n\
         relay.ca_file = {path:?}\noauth.client_id = \"box\"\noauth.token_url = \"https://{NAME}/token\"\n\
         oauth.device_url = \"https://{NAME}/device\"\n{more}"
    );
    World::at(&config, place)
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
    ask: impl FnOnce(&WebWorld<'_>) -> Result<Secret, String>,
) -> Result<String, String> {
    let site = current(&world.site);
    let it = WebWorld { resolver: &*world.net, connect: &*world.net, site: &site };
    ask(&it).map(|token| String::from_utf8(token.octets().to_vec()).unwrap())
}

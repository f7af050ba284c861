//! A question to a web server: the way out that the tokens of logins and the heartbeat share.

use crate::engine::host::site::Site;
use crate::net::connect::Connect;
use crate::net::https::{HttpsReply, HttpsRequest, exchange};
use crate::net::resolver::Resolve;
use crate::net::transport::Deadline;
use crate::rules::accounts::oauth::url::HttpsUrl;
use std::net::SocketAddr;
use std::time::Duration;

/// What a question needs from outside.
#[derive(Clone, Copy)]
pub struct WebWorld<'a> {
    /// Looks names up.
    pub resolver: &'a dyn Resolve,
    /// Makes connections.
    pub connect: &'a dyn Connect,
    /// The configuration.
    pub site: &'a Site,
}

/// Asks the host of a URL. `patience` is for all from the look-up of its name on; that look-up has its own limits, too.
///
/// # Errors
/// There is no answer; the reason in words. It names the host, and not the path, which may be a secret.
pub fn request(
    world: &WebWorld<'_>,
    url: &HttpsUrl,
    question: &HttpsRequest<'_>,
    patience: Duration,
) -> Result<HttpsReply, String> {
    let deadline = Deadline::after(patience);
    let unreached = |error: String| format!("{} can't be asked: {error}", url.host);
    let found = world.resolver.addresses(&url.host).map_err(|error| unreached(error.text))?;
    let allowed = found.into_iter().filter(|&ip| world.site.allows_family(ip));
    let addresses: Vec<SocketAddr> = allowed.map(|ip| SocketAddr::new(ip, url.port)).collect();
    let reply = exchange(world.connect, &world.site.connector, &addresses, question, deadline);
    reply.map_err(unreached)
}

//! Collects what the sentences of [`summary`](super::summary) are made from. Reads the disk only for its free space,
//! and for certificates.

use super::super::cause;
use super::super::pulse::Asked;
use super::super::summary::{Facts, Route};
use crate::engine::host::advice::advice;
use crate::engine::host::certificate::Tls;
use crate::engine::host::client_certificate::end_of_file;
use crate::engine::host::site::Site;
use crate::engine::outbound::tokens::standing::{TokenStanding, TokenState};
use crate::engine::queue::index::{FailingHop, QueueFacts};
use crate::engine::queue::manager::Manager;
use crate::mail::date::{Now, WallTime};
use crate::rules::advice::monitor::Level;
use crate::store::{free_space, unwritable};
use crate::sys::clock::utc_offset_seconds;
use std::path::Path;
use std::time::Duration;

/// How many routes are shown; those that have failed for longest come first.
const ROUTES_MAX: usize = 100;

/// The facts at one time.
pub(super) fn take(
    manager: &Manager,
    site: &Site,
    now: Now,
    queue: &QueueFacts,
    tokens: &[TokenStanding],
    asked: Option<&Asked>,
) -> Facts {
    let settings = &site.settings;
    let waits = manager.index.wait_facts(now.running);
    let routes = manager.index.failing_hops(ROUTES_MAX);
    let age = |since: Duration| now.running.saturating_sub(since);
    let is_old = |since: Duration| age(since) > settings.alarm.stuck_after;
    let oldest = queue.oldest_moving.filter(|(_, arrival)| is_old(*arrival)).map(|(id, _)| id);
    let why = |id| cause::of_message(manager, id).map(|why| cause::with_advice(site, &why));
    Facts {
        wall: now.wall,
        link: manager.index.link(),
        held: queue.held,
        for_link: waits.for_link,
        for_schedule: waits.for_schedule,
        for_digest: manager.intake.digests.all().len() as u64,
        for_retry: waits.for_retry,
        schedule_in: schedule_in(site, now.wall),
        retry_in: waits.next_retry.map(|due| due.saturating_sub(now.running).as_secs()),
        routes: routes.iter().filter_map(|it| paused_route(site, it, now.running)).collect(),
        for_mailbox: waits
            .for_mailbox
            .map(|id| (id, cause::of_mailbox(manager, id).map(|why| cause::with_advice(site, &why)))),
        oldest: oldest.map(|id| (id, why(id))),
        oldest_kept: queue.oldest_kept.and_then(|id| Some((id, why(id)?))),
        certificates: certificates(site, now.wall),
        tokens: tokens
            .iter()
            .filter(|it| it.state.deserves_look())
            .map(|it| (level(it), it.text()))
            .collect(),
        unreached_switch: asked.and_then(|it| unreached(it, settings.heartbeat.interval, now.running)),
        room: free_space(&settings.state).ok(),
        unwritable: unwritable(&settings.state).map(|error| error.to_string()),
        kept_free: settings.limits.free_space,
        max_octets: settings.queue.max_size,
        memory: manager.memory_facts(),
    }
}

/// Since when and why the dead man's switch is not reached, and whether a question in its time is missing.
fn unreached(asked: &Asked, interval: Duration, now: Duration) -> Option<(u64, String, bool)> {
    let (since, why) = asked.failing.as_ref()?;
    let failing = now.saturating_sub(*since);
    Some((failing.as_secs(), why.clone(), failing >= interval))
}

/// Seconds until the schedule fires.
fn schedule_in(site: &Site, wall: WallTime) -> Option<u64> {
    let expression = site.settings.queue.schedule.as_ref()?;
    let next = expression.next_after(wall, utc_offset_seconds(wall.seconds()))?;
    Some(next.seconds().saturating_sub(wall.seconds()))
}

/// The route to a hop, if it pauses.
pub(super) fn paused_route(site: &Site, hop: &FailingHop, now: Duration) -> Option<Route> {
    let pause = hop.pause.as_ref()?;
    Some(Route {
        name: hop.hop.to_string(),
        waiting: hop.waiting,
        failing: now.saturating_sub(hop.since).as_secs(),
        // During an attempt, `until` is its deadline.
        wait: if pause.trying { 0 } else { pause.until.saturating_sub(now).as_secs() },
        reason: pause.reason.clone(),
        is_refused: pause.refusal.is_some(),
        advice: advice(site, &pause.reason),
    })
}

/// How bad the state of a token is.
fn level(token: &TokenStanding) -> Level {
    match token.state {
        TokenState::NearEnd | TokenState::Ended => Level::Warning,
        _ if token.state.needs_login() => Level::Critical,
        _ => Level::Ok,
    }
}

/// The certificate for clients, those for smarthosts, used yet or not, and that of `[oauth]`, with their ends.
fn certificates(site: &Site, now: WallTime) -> Vec<(String, Result<WallTime, String>)> {
    let settings = &site.settings;
    let shown = |path: &Path| path.display().to_string();
    let own = site.tls.as_ref().and_then(Tls::configured_end);
    let path = settings.tls.certificate.as_deref().map_or_else(String::new, shown);
    let mut all: Vec<_> = own.map(|end| (path, Ok(end))).into_iter().collect();
    let clients = site.client_connectors.ends(&settings.relay, now).into_iter();
    all.extend(clients.map(|(path, end)| (shown(&path), end)));
    let oauth = settings.oauth.certificate_and_key().map(|(path, _)| path);
    all.extend(oauth.map(|path| (shown(path), end_of_file(path))));
    all
}

//! The state as JSON.

use super::{MetricValue, ROWS, Status, alarm_name};
use crate::engine::control::listing::{json_text, wall_time};
use crate::engine::control::summary::Route;
use crate::engine::outbound::tokens::standing::TokenStanding;
use crate::mail::date::Now;
use std::fmt::Write;
use std::time::Duration;

impl Status {
    pub(super) fn json(&self, sees_all: bool) -> String {
        let mut text = format!("{{\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
        for row in &ROWS {
            let key = row.key();
            let _ = match row.value {
                MetricValue::Gauge(get, _) => write!(text, ",\"{key}\":{}", get(self)),
                MetricValue::Counter(count) => {
                    let (since, all) = self.counts(count);
                    write!(text, ",\"{key}\":{{\"since_start\":{since},\"in_all\":{all}}}")
                }
            };
        }
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let none = || "null".to_owned();
        let routes = || list(self.facts.routes.iter().map(|route| route_json(route, self.now)).collect());
        let alarms = || list(self.alarms.iter().map(|alarm| json_text(&alarm_name(alarm))).collect());
        let tokens = || list(self.tokens.iter().map(token_json).collect());
        let lists = if sees_all { [routes(), alarms(), tokens()] } else { [none(), none(), none()] };
        let [routes, alarms, tokens] = lists;
        let _ = writeln!(text, ",\"routes\":{routes},\"alarms\":{alarms},\"tokens\":{tokens}}}");
        text
    }
}

fn route_json(route: &Route, now: Now) -> String {
    let until = wall_time(now, now.running.saturating_add(Duration::from_secs(route.wait)));
    format!(
        "{{\"route\":{},\"next_attempt\":{},\"failing_seconds\":{},\"status\":\"{}\",\"reason\":{},\"advice\":{}}}",
        json_text(&route.name),
        until.seconds(),
        route.failing,
        route.reason.status,
        json_text(route.reason.line()),
        route.advice.map_or_else(|| "null".to_owned(), json_text)
    )
}

/// How the token of a login stands, without the token.
fn token_json(token: &TokenStanding) -> String {
    format!(
        "{{\"login\":{},\"state\":\"{}\",\"ends_in_seconds\":{},\"granted\":{},\"answer\":{}}}",
        json_text(&token.username),
        token.state.word(),
        token.seconds_left.map_or_else(|| "null".to_owned(), |left| left.to_string()),
        token.granted,
        json_text(&token.answer)
    )
}

//! The state in the text format of Prometheus.

use super::{MetricValue, ROWS, Status};
use crate::engine::control::listing::clean;
use crate::engine::control::summary::Route;
use std::fmt::Write;

impl Status {
    pub(super) fn prometheus(&self, sees_all: bool) -> String {
        let mut text = String::new();
        push_head(&mut text, "build_info", "gauge", "The version");
        let _ = writeln!(text, "pillarbox_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        let mut last = "";
        for row in &ROWS {
            let (kind, suffix, value) = match row.value {
                MetricValue::Gauge(get, _) => ("gauge", "", get(self)),
                MetricValue::Counter(count) => ("counter", "_total", self.counts(count).0),
            };
            let name = format!("{}{suffix}", row.name);
            if last != row.name {
                push_head(&mut text, &name, kind, row.about);
            }
            last = row.name;
            let label = row.label.map(|(key, value)| format!("{{{key}=\"{value}\"}}")).unwrap_or_default();
            let _ = writeln!(text, "pillarbox_{name}{label} {value}");
        }
        if sees_all && !self.facts.routes.is_empty() {
            push_head(
                &mut text,
                "route_failing_seconds",
                "gauge",
                "How long a next hop that pauses has not worked",
            );
            for Route { name, failing, .. } in &self.facts.routes {
                let route = label_value(name);
                let _ = writeln!(text, "pillarbox_route_failing_seconds{{route=\"{route}\"}} {failing}");
            }
        }
        text
    }
}

/// Appends the two comment lines ahead of a metric in Prometheus' format.
fn push_head(text: &mut String, name: &str, kind: &str, about: &str) {
    let _ = write!(text, "# HELP pillarbox_{name} {about}\n# TYPE pillarbox_{name} {kind}\n");
}

/// A label's value, escaped for Prometheus' text format.
pub(super) fn label_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        if matches!(c, '"' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

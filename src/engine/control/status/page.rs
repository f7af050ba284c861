//! `pillarbox status --html`: one page with what `status` says, and plots of the last day and month.
//!
//! The page has no script and names no other file, so any web server may show it, and a browser may open it from the disk. It
//! follows the reader's light or dark colours, and fits a telephone. Everything that others wrote is escaped.
//!
//! | plot | bars |
//! | --- | --- |
//! | last day, last 30 days: delivered and failed | recipients in an hour, in a day; failures stand on top in another colour |
//! | last day, last 30 days: waiting | messages in the queue at the end of an hour; the most of a day |

use super::super::listing::{clean, local_time};
use super::Status;
use crate::engine::log::history::Hour;
use crate::rules::advice::monitor::Level;
use std::fmt::Write;

/// The size of a plot, without its labels.
const WIDTH: u64 = 480;
const HEIGHT: u64 = 90;

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#fff;--text:#1b1b1b;--dim:#5a5a5a;--line:#d0d0d0;--ok:#1a7f37;--warn:#9a6700;\
--bad:#c62828;--wait:#3367b0}
@media (prefers-color-scheme:dark){:root{--back:#16181b;--text:#e8e8e8;--dim:#a8a8a8;--line:#3c4044;--ok:#3fb950;\
--warn:#e3b341;--bad:#ff7b72;--wait:#79a8f0}}
body{margin:0 auto;padding:1rem;max-width:62rem;background:var(--back);color:var(--text);\
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
.says{margin:.6rem 0;padding:.6rem .9rem;border-left:.4rem solid var(--ok)}
.says.note{border-color:var(--wait)}.says.warning{border-color:var(--warn)}.says.critical{border-color:var(--bad)}
.first{font-size:1.15rem}
code{font-size:.95em;border:1px solid var(--line);border-radius:.2rem;padding:0 .25rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .5rem .25rem 0;border-bottom:1px solid var(--line);font-weight:normal;\
vertical-align:top}
th{color:var(--dim);overflow-wrap:normal}
.number{text-align:right;white-space:nowrap}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1rem}
figure{margin:0}figcaption,footer{color:var(--dim);font-size:.9rem}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--dim);font-size:13px}
.delivered{fill:var(--ok)}.failed{fill:var(--bad)}.waiting{fill:var(--wait)}.axis{stroke:var(--line)}
footer{margin-top:2rem}
";

impl Status {
    /// The whole page.
    pub(super) fn page(&self, sees_all: bool) -> String {
        let host = html(&self.site.hostname.to_string());
        let mut text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Mail of {host}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Mail of {host}</h1>\n"
        );
        for (place, finding) in self.findings(sees_all).into_iter().enumerate() {
            let level = match finding.level {
                Level::Ok if finding.is_fine => "ok",
                Level::Ok => "note",
                Level::Warning => "warning",
                Level::Critical | Level::Unknown => "critical",
            };
            let first = if place == 0 { " first" } else { "" };
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "<p class=\"says {level}{first}\">{}</p>", with_code(&finding.text));
        }
        text.push_str("<table>\n");
        for (name, value) in self.rows(sees_all) {
            let _ = writeln!(text, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", html(&value));
        }
        text.push_str("</table>\n");
        self.push_plots(&mut text);
        self.push_counters(&mut text);
        let _ = writeln!(
            text,
            "</main>\n<footer>As of {}.</footer>\n</body>\n</html>",
            local_time(self.now.wall)
        );
        text
    }

    fn push_plots(&self, text: &mut String) {
        for (title, bars, hours, names) in [
            ("Last day", 24, 1, ["24 hours ago", "now", "in an hour"]),
            ("Last 30 days", 30, 24, ["30 days ago", "today", "in a day"]),
        ] {
            let (ends, waiting) = spans(&self.hours, Hour::at(self.now.wall).number, bars, hours);
            let [from, to, most] = names;
            let _ = writeln!(text, "<h2>{title}</h2>\n<div class=\"plots\">");
            push_plot(text, &["delivered", "failed"], &ends, [from, to, most]);
            push_plot(text, &["waiting"], &waiting, [from, to, "at once"]);
            text.push_str("</div>\n");
        }
    }

    fn push_counters(&self, text: &mut String) {
        let counters = self.counters();
        if counters.is_empty() {
            return;
        }
        text.push_str(
            "<h2>Counters</h2>\n<table>\n<tr><td></td><th scope=\"col\" class=\"number\">since start</th>\
             <th scope=\"col\" class=\"number\">in all</th></tr>\n",
        );
        for (title, since, all) in counters {
            let title = html(&title);
            let _ = writeln!(
                text,
                "<tr><th scope=\"row\">{title}</th><td class=\"number\">{since}</td><td class=\"number\">{all}</td></tr>"
            );
        }
        text.push_str("</table>\n");
    }
}

/// The numbers of the bars, the oldest first: delivered and failed recipients in `hours` hours each, and the most waiting
/// messages.
fn spans(history: &[Hour], now: u64, bars: usize, hours: u64) -> (Vec<[u64; 2]>, Vec<[u64; 2]>) {
    let (mut ends, mut waiting) = (vec![[0, 0]; bars], vec![[0, 0]; bars]);
    for hour in history {
        let Some(ago) = now.checked_sub(hour.number).and_then(|ago| usize::try_from(ago / hours).ok()) else {
            continue;
        };
        let Some(place) = bars.checked_sub(ago + 1) else { continue };
        if let (Some([delivered, failed]), Some([most, _])) = (ends.get_mut(place), waiting.get_mut(place)) {
            (*delivered, *failed) = (*delivered + hour.delivered, *failed + hour.failed);
            *most = hour.waiting.max(*most);
        }
    }
    (ends, waiting)
}

/// Appends a plot: for each bar the lower and the upper part. `names` are those of its parts.
fn push_plot(text: &mut String, names: &[&str], bars: &[[u64; 2]], [from, to, most]: [&str; 3]) {
    let highest = bars.iter().map(|[lower, upper]| lower + upper).max().unwrap_or_default();
    let step = WIDTH / (bars.len() as u64).max(1);
    let title = names.join(" and ");
    let _ = writeln!(
        text,
        "<figure>\n<figcaption>{}: at most {highest} {most}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"{title}, {from} to {to}: at most {highest} {most}\">",
        legend(names),
        HEIGHT + 22
    );
    for (place, bar) in (0u64..).zip(bars) {
        let mut bottom = HEIGHT;
        for (name, number) in names.iter().zip(bar).filter(|(_, number)| **number > 0) {
            // What is there is seen, however small it is.
            let height = (number * HEIGHT / highest.max(1)).max(2).min(bottom);
            bottom -= height;
            let (x, width) = (place * step + 1, step - 2);
            let _ = writeln!(
                text,
                "<rect class=\"{name}\" x=\"{x}\" y=\"{bottom}\" width=\"{width}\" height=\"{height}\"/>"
            );
        }
    }
    let _ = writeln!(
        text,
        "<line class=\"axis\" x1=\"0\" y1=\"{HEIGHT}\" x2=\"{WIDTH}\" y2=\"{HEIGHT}\"/>\n\
         <text x=\"0\" y=\"{0}\">{from}</text>\n<text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">{to}</text>\n\
         </svg>\n</figure>",
        HEIGHT + 17
    );
}

/// The names of the parts with their colours.
fn legend(names: &[&str]) -> String {
    let one = |name: &&str| {
        format!(
            "<svg class=\"key\" viewBox=\"0 0 10 10\" style=\"display:inline;width:.7em\" aria-hidden=\"true\">\
             <rect class=\"{name}\" width=\"10\" height=\"10\"/></svg> {name}"
        )
    };
    names.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// A sentence, with the commands in it marked.
fn with_code(text: &str) -> String {
    let mut marked = String::new();
    for (place, part) in html(text).split('`').enumerate() {
        match place % 2 {
            0 => marked.push_str(part),
            _ => drop(write!(marked, "<code>{part}</code>")),
        }
    }
    marked
}

/// A text within an element or an attribute.
fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;

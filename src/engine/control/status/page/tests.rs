use super::super::super::summary::{Facts, Route};
use super::super::tests::status;
use super::*;
use crate::engine::host::site::Site;
use crate::engine::log::counters::{COUNTS, Count};
use crate::engine::log::last_ends::{Ends, LastEnd};
use crate::mail::address::{Domain, Mailbox};
use crate::mail::date::WallTime;
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::rules::advice::hints;
use crate::rules::advice::monitor::Figures;
use crate::rules::advice::row::Peer;
use crate::rules::advice::step::Stage;
use std::sync::Arc;

/// Checks that every element is closed where it should be; returns the names of all.
fn elements(page: &str) -> Vec<String> {
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let (mut open, mut all) = (Vec::new(), Vec::new());
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("{piece}"));
        let name = tag.trim_matches('/').split(' ').next().unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{piece}");
        } else if !tag.ends_with('/') && name != "meta" {
            open.push(name.clone());
            all.push(name);
        } else {
            all.push(name);
        }
    }
    assert_eq!(open, Vec::<String>::new());
    all
}

#[test]
fn the_page_is_well_formed_has_no_script_and_names_no_other_file() {
    for messages in [0, 1, 10_000] {
        let mut status = status();
        status.figures.messages = messages;
        for sees_all in [true, false] {
            let page = status.page(sees_all);
            let elements = elements(&page);
            for name in ["script", "link", "img", "a", "iframe", "object"] {
                assert!(!elements.iter().any(|it| it == name), "{name}");
            }
            for word in ["http:", "https:", "url(", "src=", "@import", "onload"] {
                assert!(!page.contains(word), "{word}");
            }
            assert_eq!(elements.iter().filter(|it| *it == "figure").count(), 4);
            assert!(page.contains("prefers-color-scheme:dark") && page.contains("name=\"viewport\""));
        }
    }
}

#[test]
fn the_colour_of_a_sentence_says_how_bad_it_is() {
    use crate::rules::pacing::downtime::Uplink;
    for (link, waits, kept, class) in [
        (Uplink::Up, 0, 0, "ok first"),
        (Uplink::Metered, 1, 0, "note first"),
        (Uplink::Down, 1, 0, "warning first"),
        (Uplink::Up, 0, 1, "critical first"),
    ] {
        let mut status = status();
        status.facts.routes.clear();
        (status.facts.link, status.facts.for_link, status.figures.kept) = (link, waits, kept);
        assert!(status.page(true).contains(&format!("<p class=\"says {class}\">")), "{class}");
    }
}

#[test]
fn what_others_wrote_stays_text() {
    let mut status = status();
    let to = Mailbox::parse("\"<script>\"@far.example").unwrap();
    let reply = "550 <b onload=\"x\">`&\u{1b}".to_owned();
    status.ends = Ends {
        failed: Some(LastEnd { id: QueueId::new(7, 7), to, at: status.now.wall, reply }),
        ..Ends::default()
    };
    let page = status.page(true);
    elements(&page);
    assert!(page.contains("&lt;script&gt;"), "{page}");
    assert!(page.contains("550 &lt;b onload=&quot;x&quot;&gt;`&amp;?</td>"), "{page}");
    assert_eq!(with_code("run `a <b>`, or `c`"), "run <code>a &lt;b&gt;</code>, or <code>c</code>");
    elements(&format!("<!DOCTYPE html>\n<p>{}</p>", with_code("one ` alone")));
    assert!(!status.page(false).contains("far.example"));
}

#[test]
fn the_plots_show_each_hour_of_a_day_and_each_day_of_a_month() {
    let hour = |number, delivered, failed, waiting| Hour { number, delivered, failed, waiting };
    let history = [
        hour(1000, 3, 1, 2),
        hour(999, 4, 0, 9),
        hour(977, 1, 0, 0),
        hour(976, 9, 9, 9),
        hour(281, 5, 0, 1),
        hour(280, 7, 7, 7),
    ];
    let (ends, waiting) = spans(&history, 1000, 24, 1);
    assert_eq!((ends[23], ends[22], ends[0], ends[1]), ([3, 1], [4, 0], [1, 0], [0, 0]));
    assert_eq!((waiting[23], waiting[22]), ([2, 0], [9, 0]));
    let (ends, waiting) = spans(&history, 1000, 30, 24);
    assert_eq!((ends[29], ends[28], ends[0]), ([8, 1], [9, 9], [5, 0]));
    assert_eq!((waiting[29], waiting[28], waiting[0]), ([9, 0], [9, 0], [1, 0]));
    let (ends, _) = spans(&history, 990, 24, 1);
    assert_eq!(ends.iter().flatten().sum::<u64>(), 19, "hours of the future are left out");

    let mut text = String::new();
    push_plot(&mut text, &["delivered", "failed"], &[[0, 0], [30, 10], [0, 1]], ["a", "b", "in an hour"]);
    let bars: Vec<&str> = text.lines().filter(|line| line.starts_with("<rect")).collect();
    assert_eq!(
        bars,
        [
            "<rect class=\"delivered\" x=\"161\" y=\"23\" width=\"158\" height=\"67\"/>",
            "<rect class=\"failed\" x=\"161\" y=\"1\" width=\"158\" height=\"22\"/>",
            "<rect class=\"failed\" x=\"321\" y=\"88\" width=\"158\" height=\"2\"/>",
        ]
    );
    assert!(text.contains("at most 40 in an hour"), "{text}");
}

/// docs/status.html is the page of a box that had a bad day a week ago, and whose mail provider refuses the login now.
/// `UPDATE_EXPECT=1 cargo test --lib the_page_of_the_documents` writes it.
#[test]
fn the_page_of_the_documents_is_this_one() {
    let reply = "535 5.7.8 Error: authentication failed";
    let advice = hints::hint(Stage::Auth, reply, Peer::default());
    let mut status = status();
    let now = status.now.wall.seconds();
    let end = |seconds: u64, to: &str, reply: &str| LastEnd {
        id: QueueId::new((now - seconds) * 1_000_000, 1),
        to: Mailbox::parse(to).unwrap(),
        at: WallTime((now - seconds) * 1_000_000),
        reply: reply.to_owned(),
    };
    let settings = crate::config::parse("", "f").unwrap();
    status.site = Arc::new(Site::new(settings, Domain::parse("nas.example.net").unwrap(), None));
    (status.uptime, status.oldest) = (12 * 86_400, 4200);
    status.figures =
        Figures { messages: 2, octets: 9300, age: 4200, paused: 1, failing: 1, ..Figures::default() };
    status.facts = Facts {
        wall: status.now.wall,
        routes: vec![Route {
            name: "smtps://smtp.example.com".into(),
            waiting: 2,
            failing: 4200,
            wait: 1500,
            reason: Diagnostic {
                reply: Some(reply.into()),
                ..Diagnostic::local(EnhancedStatus::NO_ANSWER, "AUTH")
            },
            is_refused: true,
            advice,
        }],
        ..Facts::default()
    };
    status.ends = Ends {
        delivered: Some(end(7300, "me@example.org", "250 2.0.0 Ok")),
        failed: Some(end(7 * 86_400, "old@example.com", "550 5.1.1 no such user")),
    };
    status.since_start = [0; COUNTS];
    status.in_all = [0; COUNTS];
    for (count, since, all) in [
        (Count::BySmtp, 31, 840),
        (Count::ByDrop, 96, 2711),
        (Count::Octets, 1_204_331, 30_118_204),
        (Count::Relayed, 124, 3530),
        (Count::Deferred, 3, 41),
        (Count::Bounced, 1, 7),
        (Count::ConnectionsTaken, 44, 1102),
    ] {
        status.since_start[count as usize] = since;
        status.in_all[count as usize] = all;
    }
    let hour = Hour::at(status.now.wall).number;
    // A few alerts an hour, a report each night, and a looping script a week ago.
    status.hours = (0..30 * 24)
        .map(|ago| {
            let night = if (hour - ago) % 24 == 3 { 6 } else { 0 };
            let loops = if (168..172).contains(&ago) { 25 } else { 0 };
            let (delivered, waiting) =
                if ago == 0 { (0, 2) } else { ((ago * 7919) % 4 + night + loops, loops / 9) };
            Hour { number: hour - ago, delivered, failed: u64::from(loops > 0) * 3, waiting }
        })
        .collect();
    // The page has the time of this system's zone.
    let mut page = status.page(true);
    for (place, seconds) in [0, 7300, 7 * 86_400].into_iter().enumerate() {
        let at = WallTime((now - seconds) * 1_000_000);
        let shown = ["Mon Nov 23 06:53:30", "Mon Nov 23 04:51:50", "Mon Nov 16 06:53:30"][place];
        page = page.replace(&local_time(at), shown);
    }
    expect_test::expect_file!["../../../../../docs/status.html"].assert_eq(&page);
}

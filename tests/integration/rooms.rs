//! The order within the floors, checked by reading the imports: a room uses only rooms before it in its row, and no
//! files of `src/` import each other in a circle.
//!
//! A module that has code of its own is one unit with the files of its folder, which may use each other freely; a
//! `mod.rs` that only declares modules makes its folder a room.

use super::architecture::{bare, is_word, sources, without_tests, words};
use std::collections::{BTreeMap, BTreeSet};

/// Rooms from the lowest up; a file beside the rooms counts as a room of its own.
const ROOMS: [(&str, &[&str]); 2] = [
    (
        "engine",
        &["log", "host", "intake", "inbound", "queue", "outbound", "workers", "control", "daemon", "probe"],
    ),
    ("rules", &["routing", "accounts", "tls", "advice", "message", "pacing"]),
];

#[test]
fn rooms_use_only_rooms_below_them() {
    let found = upward(&Tree::new(&sources("src")));
    assert!(found.is_empty(), "take what is needed as an argument, or move it down:\n{}", found.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let found = Tree::new(&sources("src")).circles();
    assert!(found.is_empty(), "move what they share into a file below them:\n{found:#?}");
}

#[test]
fn upward_imports_and_circles_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), format!("//! A.\n{text}\n"));
    let mut all = vec![
        file("src/engine/mod.rs", "pub mod log; pub mod host;"),
        file("src/engine/log/mod.rs", "pub mod event;"),
        file("src/engine/log/event.rs", "use crate::engine::{host::site::Site, log}; pub struct Event;"),
        file("src/engine/host/mod.rs", "pub mod site; pub mod tls;"),
        file("src/engine/host/site.rs", "mod part; fn f(_: super::tls::Tls) {} pub struct Site;"),
        file("src/engine/host/site/part.rs", "use super::Site;"),
        file(
            "src/engine/host/tls.rs",
            "pub struct Tls;\n#[cfg(test)]\nmod tests { use super::super::site; }",
        ),
        file("src/engine/host/tests/a.rs", "use crate::engine::daemon;"),
    ];
    let tree = Tree::new(&all);
    assert_eq!(upward(&tree), ["src/engine/log/event.rs: log may not use host"]);
    assert!(tree.circles().is_empty(), "a unit's own files and its tests make no circle");
    all[6].1 += "use crate::engine::host::site::Site;";
    assert_eq!(Tree::new(&all).circles(), [["src/engine/host/site.rs", "src/engine/host/tls.rs"]]);
    all.push(file("src/engine/attic/a.rs", "use crate::engine::log::event;"));
    assert_eq!(upward(&Tree::new(&all))[0], "src/engine/attic/a.rs: attic has no place in ROOMS");
}

/// Imports of a room from a room above it, as `FILE: what is wrong`.
fn upward(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (floor, rooms) in ROOMS {
        let room = |path: &str| {
            let inner = path.strip_prefix("src/")?.strip_prefix(floor)?.strip_prefix('/')?;
            let room = inner.split('/').next()?.trim_end_matches(".rs");
            (room != "mod").then(|| room.to_owned())
        };
        let level = |room: &str| rooms.iter().position(|other| *other == room);
        for (path, targets) in &tree.imports {
            let Some(own) = room(path) else { continue };
            let Some(own_level) = level(&own) else {
                found.push(format!("{path}: {own} has no place in ROOMS"));
                continue;
            };
            let others = targets.iter().filter_map(|target| room(target)).collect::<BTreeSet<_>>();
            let above = others.iter().filter(|other| level(other).is_none_or(|other| other > own_level));
            found.extend(above.map(|other| format!("{path}: {own} may not use {other}")));
        }
    }
    found
}

/// The files of `src/` without their tests, and what they import.
struct Tree {
    /// The path of a file, and the paths of the files that it names.
    imports: BTreeMap<String, BTreeSet<String>>,
    /// The path of a file, and that of the unit which it belongs to.
    units: BTreeMap<String, String>,
}

impl Tree {
    fn new(sources: &[(String, String)]) -> Self {
        let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
        let sources = sources.iter().filter(|(path, _)| !is_test(path));
        let code: BTreeMap<Vec<String>, (String, String)> = sources
            .map(|(path, text)| (module(path), (path.clone(), without_tests(&bare(text)).0)))
            .collect();
        let file = |module: &[String]| code.get(module).map(|(path, _)| path);
        let unit = |module: &[String]| {
            let has_code = |module: &[String]| code.get(module).is_some_and(|(_, code)| has_items(code));
            let above = (2..module.len()).map(|depth| &module[..depth]).find(|module| has_code(module));
            file(above.unwrap_or(module)).cloned().unwrap()
        };
        let units = code.iter().map(|(module, (path, _))| (path.clone(), unit(module))).collect();
        let named = |module: &[String], code: &str| {
            let longest =
                |path: Vec<String>| (1..=path.len()).rev().find_map(|end| file(&path[..end]).cloned());
            paths(code).iter().filter_map(|path| absolute(path, module)).filter_map(longest).collect()
        };
        let imports = code.iter().map(|(module, (path, text))| (path.clone(), named(module, text))).collect();
        Self { imports, units }
    }

    /// Groups of units that reach one another.
    fn circles(&self) -> Vec<Vec<String>> {
        let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (path, targets) in &self.imports {
            let unit = self.units[path].as_str();
            let others =
                targets.iter().map(|target| self.units[target].as_str()).filter(|other| *other != unit);
            arrows.entry(unit).or_default().extend(others);
        }
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            arrows.keys().map(|unit| (*unit, reached(&arrows, unit))).collect();
        let mut circles = BTreeSet::new();
        for (unit, others) in reached.iter().filter(|(unit, others)| others.contains(*unit)) {
            let members =
                others.iter().filter(|other| reached.get(*other).is_some_and(|it| it.contains(unit)));
            circles.insert(members.map(|other| (*other).to_owned()).collect::<Vec<String>>());
        }
        circles.into_iter().collect()
    }
}

/// The units that a unit imports, directly or by others.
fn reached<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(unit) = open.pop() {
        open.extend(arrows.get(unit).into_iter().flatten().copied().filter(|other| seen.insert(*other)));
    }
    seen
}

/// `src/engine/host/site.rs` as `[engine, host, site]`.
fn module(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    parts.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    parts
}

fn has_items(code: &str) -> bool {
    ["fn", "struct", "enum", "impl", "trait"].iter().any(|word| words(code, word).next().is_some())
}

/// A path that begins with `crate`, `self` or `super`, from the top of the library.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let up = path.iter().take_while(|part| *part == "super").count();
    let base: &[String] = match path.first()?.as_str() {
        "crate" => &[],
        "self" => module,
        "super" => module.get(..module.len().checked_sub(up)?)?,
        _ => return None,
    };
    let rest = path.iter().skip_while(|part| matches!(part.as_str(), "crate" | "self" | "super"));
    Some(base.iter().chain(rest).cloned().collect())
}

/// The paths that begin with `crate`, `self` or `super`, with groups in braces written out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate", "self", "super"] {
        for at in words(code, root) {
            let is_first = !code[..at].trim_end().ends_with("::") && !code[at..].starts_with("self.");
            if is_first && code[at + root.len()..].starts_with("::") {
                expand(&code[at..], &[], &mut found);
            }
        }
    }
    found
}

/// Reads one path with all that stands in its braces, and gives what comes after it.
fn expand<'a>(code: &'a str, before: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = before.to_vec();
    let mut rest = code;
    loop {
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        path.push(rest[..length].to_owned());
        rest = &rest[length..];
        let Some(after) = rest.strip_prefix("::") else { break };
        let Some(group) = after.strip_prefix('{') else {
            rest = after;
            continue;
        };
        rest = group.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            rest = expand(rest, &path, found);
            // What follows a name in a group: `as other`, a comma.
            rest = rest.trim_start_matches(|c| !matches!(c, ',' | '}')).trim_start_matches(',').trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    found.push(path);
    rest
}

//! The rules of docs/architecture.md about the source itself, checked by reading it: allowed imports, words that belong to certain
//! places, sizes. A failure says what to do; to change a rule, change its row.
//!
//! The reader knows comments, strings and braces, and no more of Rust: it takes `#[cfg(test)]` items and files of tests
//! out, and looks for words and paths in what is left.

use std::collections::BTreeSet;
use std::path::Path;

/// The floors: what each folder below `src/` may use of the others, as docs/architecture.md has it.
const FLOORS: [(&str, &[&str]); 10] = [
    ("mail", &[]),
    ("smtp", &["mail"]),
    ("rules", &["mail", "smtp"]),
    ("protocol", &["mail", "rules"]),
    ("store", &["mail", "sys"]),
    ("net", &["mail", "sys"]),
    ("sys", &[]),
    ("config", &["mail", "smtp", "rules", "sys"]),
    ("engine", &["mail", "smtp", "rules", "protocol", "store", "net", "sys", "config"]),
    ("program", &["mail", "smtp", "rules", "protocol", "store", "net", "sys", "config", "engine"]),
];

/// Floors without I/O: they get everything as arguments, so tests can pass anything.
const PURE: [&str; 4] = ["mail", "smtp", "rules", "protocol"];
/// Parts of `std` and of other crates that a pure floor may not name.
const IMPURE_MODULES: [&str; 6] = ["fs", "thread", "process", "env", "os", "backtrace"];
const IMPURE_WORDS: [&str; 10] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "SystemTime",
    "Instant",
    "println",
    "eprintln",
];
const IMPURE_CRATES: [&str; 6] = ["rustix", "libc", "dns_lookup", "log", "simple_logger", "signal_hook"];

/// Words that are allowed in some places, each with advice for the others. `.word` is a method call, `::word` the end of
/// a path.
const PLACES: [(&str, &[&str], &str); 17] = [
    ("unsafe", &["src/sys/"], "only src/sys may be unsafe: put a safe function there"),
    (".sync_all", &["src/store/durable.rs"], SYNC),
    (".sync_data", &["src/store/durable.rs"], SYNC),
    ("fsync", &["src/store/durable.rs"], SYNC),
    ("fdatasync", &["src/store/durable.rs"], SYNC),
    (
        "ErrorKind::WouldBlock",
        &["src/net/", "src/engine/log/logger.rs"],
        "src/net turns it into TimedOut: use its transport",
    ),
    // The deadlines of sockets count from the system's own clock.
    ("Instant::now", &["src/sys/clock.rs", "src/net/transport.rs"], NOW),
    ("SystemTime::now", &["src/sys/clock.rs"], NOW),
    ("File::open", &["src/sys/"], OPEN),
    ("File::options", &["src/sys/"], OPEN),
    ("OpenOptions", &["src/sys/"], OPEN),
    ("fs::read", &["src/sys/"], OPEN),
    ("fs::open", &["src/sys/", "src/store/durable/directory.rs"], OPEN),
    ("fs::read_to_string", &["src/sys/"], OPEN),
    ("todo", &[], "unfinished: write it, or leave it out"),
    ("unimplemented", &[], "unfinished: write it, or leave it out"),
    ("dbg", &[], "left over from a search for a bug: take it out"),
];
const SYNC: &str = "only src/store/durable.rs syncs, so that the order of syncs can be read in one place";
const OPEN: &str = "only src/sys/file.rs opens files by path: read them there, by their kind";
const NOW: &str = "only src/sys/clock.rs asks for the time: take it as an argument";

/// The longest file and function without tests, in lines. The aim is 400 and 60.
const FILE_MAX_LINES: usize = 500;
const FUNCTION_MAX_LINES: usize = 60;
const MAIN_MAX_LINES: usize = 60;

#[test]
fn the_source_keeps_its_rules() {
    let files = sources("src");
    assert!(files.len() > 50, "only {} files found", files.len());
    let found: Vec<String> = files.iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_test_is_left_out_without_a_reason() {
    let found: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| sources(folder))
        .flat_map(|(p, t)| ignored(&p, &t))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Code that compiles only for 64 bits, or is wrong elsewhere; tests are compiled for small boxes, too.
#[test]
fn nothing_is_for_64_bits_alone() {
    const ADVICE: [(&str, &str); 3] = [
        ("AtomicU64", "mips has none: take a Mutex, or an AtomicUsize"),
        ("AtomicI64", "mips has none: take a Mutex, or an AtomicIsize"),
        ("Asn1Time::from_unix", "time_t differs: take Asn1Time::from_str_x509 and WallTime::to_generalized"),
    ];
    let files = ["src", "tests"].map(sources).concat();
    let codes: Vec<(&String, String)> = files.iter().map(|(path, text)| (path, bare(text))).collect();
    let found: Vec<String> = codes
        .iter()
        .flat_map(|(path, code)| ADVICE.map(|(word, advice)| (path, words(code, word).count(), advice)))
        .filter(|(_, times, _)| *times > 0)
        .map(|(path, _, advice)| format!("{path}: {advice}"))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    assert_eq!(words(&bare("use std::sync::atomic::AtomicU64;"), "AtomicU64").count(), 1);
}

/// Names made by hand collide, or stay behind.
#[test]
fn tests_get_their_directories_in_one_place() {
    // The program's own temporary file.
    const PLACES: [&str; 2] = ["src/test_directory.rs", "src/store/maildir.rs"];
    let makes = |text: &str| words(&bare(text), "temp_dir").next().is_some();
    let found: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|(path, text)| !PLACES.contains(&path.as_str()) && makes(text))
        .map(|(path, _)| format!("{path}: take a TestDirectory, of src/test_directory.rs"))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    assert!(makes("let a = std::env::temp_dir();") && !makes("// temp_dir()"));
}

#[test]
fn every_folder_is_a_floor_and_every_floor_a_folder() {
    let folders: BTreeSet<String> = sources("src").iter().filter_map(|(path, _)| floor(path)).collect();
    let floors: BTreeSet<String> = FLOORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders, floors, "a new folder needs a row in FLOORS and in docs/architecture.md");
}

/// Each rule finds its violations, and ignores text that only resembles them.
#[test]
fn violations_are_found() {
    for (path, text, expected) in [
        ("src/smtp/a.rs", "use crate::rules::x;", "src/smtp/a.rs:2: smtp may not use rules"),
        ("src/store/a.rs", "fn f() { crate::smtp::x() }", "src/store/a.rs:2: store may not use smtp"),
        (
            "src/mail/a.rs",
            "\nuse crate::{\n    mail::{x, y},\n    net::z,\n};",
            "src/mail/a.rs:5: mail may not use net",
        ),
        ("src/net/a/b.rs", "use super::super::super::store;", "src/net/a/b.rs:2: net may not use store"),
        ("src/sys/mod.rs", "use super::mail::x;", "src/sys/mod.rs:2: sys may not use mail"),
        ("src/config/a.rs", "use crate::engine;", "src/config/a.rs:2: config may not use engine"),
        (
            "src/main.rs",
            "fn main() { pillarbox::engine::run() }",
            "src/main.rs:2: main.rs may not use engine",
        ),
        ("src/mail/a.rs", "use std::net::{IpAddr, TcpStream};", "mail is pure: TcpStream"),
        ("src/rules/a.rs", "use std::{fmt, fs::File};", "rules is pure: std::fs"),
        ("src/smtp/a.rs", "fn f(now: std::time::SystemTime) {}", "smtp is pure: SystemTime"),
        ("src/mail/a.rs", "fn f() { log::warn!(\"x\") }", "mail is pure: warn"),
        ("src/engine/a.rs", "fn f() { unsafe { g() } }", "only src/sys may be unsafe"),
        ("src/engine/a.rs", "fn f() { file\n    .sync_all() }", "src/engine/a.rs:3: .sync_all"),
        ("src/store/a.rs", "fn f() { rustix::fs::fsync(d) }", "only src/store/durable.rs syncs"),
        ("src/engine/a.rs", "fn f() { ErrorKind::WouldBlock }", "use its transport"),
        ("src/engine/a.rs", "fn f() { std::fs::read(p) }", "only src/sys/file.rs opens files"),
        ("src/store/a.rs", "use std::fs::OpenOptions;", "only src/sys/file.rs opens files"),
        ("src/net/a.rs", "fn f() { File::open(p) }", "only src/sys/file.rs opens files"),
        ("src/rules/a.rs", "/* a /* b */ c */ fn f() { todo!() }", "src/rules/a.rs:2: todo"),
        ("src/engine/a.rs", "fn f() -> Instant { Instant::now() }", "only src/sys/clock.rs asks"),
        (
            "src/mail/a.rs",
            "#[cfg(test)]\nmod tests { use crate::net; }\nuse crate::net;",
            "src/mail/a.rs:4: mail may not",
        ),
        ("src/mail/a.rs", "#[cfg(test)]\nmod tests;\nuse crate::net;", "src/mail/a.rs:4: mail may not"),
        ("src/mail/a.rs", "fn f() { '\"'; crate::net::x; \"\" }", "src/mail/a.rs:2: mail may not"),
    ] {
        let found = violations(path, &format!("//! A.\n{text}\n"));
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {text}\n{found:?}\nnot {expected}");
    }
    for (path, text) in [
        ("src/mail/a.rs", "use crate::mail::x; use super::x; use std::net::IpAddr; use std::fmt;"),
        (
            "src/mail/a.rs",
            "// use crate::net;\n/* unsafe /* todo!() */ unsafe */\nconst A: &str = \"unsafe \\\" todo!\";",
        ),
        ("src/mail/a.rs", "const A: &str = r#\"todo!() \" unsafe\"#; const B: &[u8] = b\"unsafe\";"),
        ("src/mail/a.rs", "fn f<'a>(a: &'a str) -> char { '\\'' } // unsafe"),
        ("src/mail/a.rs", "#[cfg(test)]\nmod tests { fn f() { std::fs::read(\"}\"); crate::net::x() } }"),
        ("src/mail/a/tests.rs", "use std::fs; use crate::net;"),
        ("src/mail/tests/b.rs", "use std::fs; use crate::net;"),
        (
            "src/engine/a.rs",
            "use crate::{mail::x, config::{y}}; fn f() { durable::sync_data(file); Errno::WOULDBLOCK }",
        ),
        ("src/sys/a.rs", "fn f() { unsafe { g() } }"),
    ] {
        assert_eq!(violations(path, &format!("//! A.\n{text}\n")), [""; 0], "{path}: {text}");
    }
}

#[test]
fn missing_words_and_long_things_are_found() {
    let only = |path: &str, text: &str| -> String {
        let found = violations(path, text);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    assert!(only("src/mail/a.rs", "use std::fmt;\n").contains("src/mail/a.rs:1: open with `//!`"));
    let body = |lines: usize| format!("//! A.\nfn f(a: [u8; 2]) {{\n{}}}\n", "    g();\n".repeat(lines));
    assert!(only("src/mail/a.rs", &body(FUNCTION_MAX_LINES - 1)).contains(":2: the function f has 61 lines"));
    assert_eq!(violations("src/mail/a.rs", &body(FUNCTION_MAX_LINES - 2)), [""; 0]);
    let long = format!("//! A.\n{}", "const A: u8 = 1;\n".repeat(FILE_MAX_LINES));
    assert!(only("src/mail/a.rs", &long).contains("has 501 lines"));
    let tests = "#[cfg(test)]\nmod tests {\n    const A: u8 = 1;\n}\n".repeat(FILE_MAX_LINES);
    assert_eq!(violations("src/mail/a.rs", &format!("//! A.\n{tests}")), [""; 0]);
    let long = format!("//! A.\n{}", "const A: u8 = 1;\n".repeat(MAIN_MAX_LINES));
    assert!(only("src/main.rs", &long).contains("has 61 lines"));
    let attribute = ["#[", "ignore", "]"].concat();
    assert_eq!(ignored("a.rs", &format!("#[test]\n{attribute}\nfn f() {{}}")).len(), 1);
    assert_eq!(ignored("a.rs", &attribute.replace(']', " = \"takes an hour\"]")), [""; 0]);
}

/// The Rust files below a folder of the project, with their paths from its top.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut files) = (vec![top.join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests/fuzz/target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// The folder below `src/` that a file is in.
fn floor(path: &str) -> Option<String> {
    let (floor, _) = path.strip_prefix("src/")?.split_once('/')?;
    Some(floor.to_owned())
}

/// The violations in a file, as `FILE:LINE: problem; advice`.
fn violations(path: &str, text: &str) -> Vec<String> {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return Vec::new();
    }
    let (code, test_lines) = without_tests(&bare(text));
    let mut found = Vec::new();
    let mut tell = |at: usize, what: String| found.push(format!("{path}:{}: {what}", line_of(&code, at)));
    if !text.starts_with("//! ") {
        tell(
            0,
            "open with `//!`: what the file is, what it never does, which RFC sections, what may fail".into(),
        );
    }
    check_floors(path, &code, &mut tell);
    for (word, places, advice) in PLACES {
        if !places.iter().any(|place| path.starts_with(place)) {
            words(&code, word).for_each(|at| tell(at, format!("{word}: {advice}")));
        }
    }
    let max_lines = if path == "src/main.rs" { MAIN_MAX_LINES } else { FILE_MAX_LINES };
    let lines = text.lines().count() - test_lines;
    if lines > max_lines {
        tell(
            0,
            format!(
                "the file has {lines} lines, {max_lines} are allowed: move a noun into a file of its own"
            ),
        );
    }
    for (at, name, lines) in functions(&code).into_iter().filter(|(.., lines)| *lines > FUNCTION_MAX_LINES) {
        tell(
            at,
            format!(
                "the function {name} has {lines} lines, {FUNCTION_MAX_LINES} are allowed: give its parts names"
            ),
        );
    }
    found
}

fn check_floors(path: &str, code: &str, tell: &mut impl FnMut(usize, String)) {
    let Some(floor) = floor(path) else {
        // main.rs, and lib.rs, which uses nothing.
        for (at, name) in names_after(code, "pillarbox").into_iter().filter(|(_, name)| name != "program") {
            tell(at, format!("main.rs may not use {name}: it picks a program, and the programs do the rest"));
        }
        return;
    };
    let may_use = FLOORS.iter().find(|(name, _)| *name == floor).map_or(&[][..], |(_, may_use)| may_use);
    for (at, name) in names_after(code, "crate").into_iter().chain(names_above(path, code)) {
        if name != floor && !may_use.contains(&name.as_str()) {
            tell(
                at,
                format!(
                    "{floor} may not use {name} (docs/architecture.md, Floors): take what is needed as an argument"
                ),
            );
        }
    }
    if PURE.contains(&floor.as_str()) {
        let modules =
            names_after(code, "std").into_iter().filter(|(_, n)| IMPURE_MODULES.contains(&n.as_str()));
        let modules = modules.map(|(at, name)| (at, format!("std::{name}")));
        let words = IMPURE_WORDS.iter().flat_map(|word| words(code, word).map(|at| (at, (*word).to_owned())));
        let crates = IMPURE_CRATES.iter().flat_map(|root| names_after(code, root));
        for (at, name) in modules.chain(words).chain(crates) {
            tell(
                at,
                format!(
                    "{floor} is pure: {name} belongs to the floors above; take its result as an argument"
                ),
            );
        }
    }
}

/// Tests that never run, without a word about why.
fn ignored(path: &str, text: &str) -> Vec<String> {
    let code = bare(text);
    let places = code.match_indices("#[ignore]").map(|(at, _)| line_of(&code, at));
    places.map(|line| format!("{path}:{line}: say why: #[ignore = \"reason\"]")).collect()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The positions of a whole word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let is_start = !word.starts_with(is_word) || !code[..at].ends_with(is_word);
        is_start && !code[at + word.len()..].starts_with(is_word)
    })
}

/// The names that directly follow `root::`, alone or in braces.
fn names_after(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for at in words(code, root) {
        let Some(rest) = code[at + root.len()..].strip_prefix("::") else { continue };
        let mut start = code.len() - rest.len();
        let Some(group) = rest.strip_prefix('{') else {
            names.push((at, name_at(rest)));
            continue;
        };
        start += 1;
        let (mut depth, mut is_next) = (0, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_next = true,
                c if is_next && is_word(c) => {
                    names.push((start + i, name_at(&group[i..])));
                    is_next = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// The names that a chain of `super::` reaches at the top of the library.
fn names_above(path: &str, code: &str) -> Vec<(usize, String)> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let depth = inner.trim_end_matches("/mod").split('/').count();
    let chain = "super::".repeat(depth);
    let starts = words(code, &chain[..chain.len() - 2]).collect::<Vec<_>>();
    let name = |at: usize| code.get(at + chain.len()..).map(|rest| (at, name_at(rest)));
    starts.into_iter().filter_map(name).filter(|(_, name)| !matches!(name.as_str(), "" | "super")).collect()
}

fn name_at(code: &str) -> String {
    code.chars().take_while(|&c| is_word(c)).collect()
}

/// Each function with its place, name and length in lines.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut functions = Vec::new();
    for at in words(code, "fn") {
        let name = name_at(code[at + 2..].trim_start());
        let item = &code[at..];
        // A type such as `fn(&str)` has no name, and what a trait asks for has no body.
        if let (false, Some(open)) =
            (name.is_empty(), item_start(item).filter(|&i| item[i..].starts_with('{')))
        {
            let lines = item[..open + block_end(&item[open..])].lines().count();
            functions.push((at, name, lines));
        }
    }
    functions
}

/// Where an item's body begins with a brace, or where it ends without one.
fn item_start(code: &str) -> Option<usize> {
    let mut depth = 0;
    code.find(|c| {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        depth == 0 && matches!(c, '{' | ';')
    })
}

/// How long the block is that begins here with its brace; 1 for a semicolon.
fn block_end(code: &str) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return i + 1;
        }
    }
    code.len()
}

/// Blanks, except for line ends, the octets of a range.
fn blank(code: &mut [u8], from: usize, to: usize) {
    code[from..to].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
}

/// Bare code with each `#[cfg(test)]` item blanked, and how many lines these have.
pub(crate) fn without_tests(code: &str) -> (String, usize) {
    let (mut octets, mut lines, mut done) = (code.as_bytes().to_vec(), 0, 0);
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        if at < done {
            continue; // Within a test.
        }
        let item = &code[at + attribute.len()..];
        let length = item_start(item).map_or(item.len(), |open| open + block_end(&item[open..]));
        done = at + attribute.len() + length;
        lines += code[at..done].lines().count();
        blank(&mut octets, at, done);
    }
    (String::from_utf8(octets).unwrap(), lines)
}

/// The source with comments and what stands in quotes blanked; every octet else keeps its place.
pub(crate) fn bare(text: &str) -> String {
    let source = text.as_bytes();
    let mut code = source.to_vec();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let length = match rest {
            [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            [b'"', ..] => quoted(rest, b'"'),
            [b'r', b'"' | b'#', ..] if !text[..at].ends_with(is_word) || text[..at].ends_with('b') => {
                raw(rest)
            }
            [b'\'', b'\\', ..] => quoted(rest, b'\''),
            // A character and its closing quote; else it is a lifetime.
            [b'\'', ..] => {
                let mut chars = text[at + 1..].char_indices().skip(1);
                chars.next().filter(|&(_, c)| c == '\'').map_or(0, |(i, _)| i + 2)
            }
            _ => 0,
        };
        blank(&mut code, at, at + length);
        at += length.max(1);
    }
    String::from_utf8(code).unwrap()
}

/// The length of a block comment, which may hold others.
fn block_comment(source: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < source.len() {
        match &source[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    source.len()
}

/// The length of what stands in quotes with escapes.
fn quoted(source: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < source.len() && source[at] != quote {
        at += if source[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(source.len())
}

/// The length of a raw string; 0 for a raw identifier.
fn raw(source: &[u8]) -> usize {
    let hashes = source[1..].iter().take_while(|&&b| b == b'#').count();
    if source.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let body = &source[2 + hashes..];
    body.windows(end.len()).position(|w| w == end).map_or(source.len(), |i| 2 + hashes + i + end.len())
}

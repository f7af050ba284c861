//! Compares README.md, docs/ and the manual with the code: tables have a line for each row, shown commands and files
//! work, named files exist, links have targets. A failure says which side has too much; usually the text must follow.

use expect_test::expect_file;
use pillarbox::config::keys::{MANUAL, TABLES, Table, TableManual};
use pillarbox::program::sendmail::flags::{FLAGS, LONG_FLAGS};
use pillarbox::rules::advice::hints;
use pillarbox::smtp::extension::EXTENSIONS;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every document, with its path: those at the top, then docs/ by name.
fn documents() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(top().join("docs")).unwrap().map(Result::unwrap);
    // Beside them are the plots.
    let pages = entries.filter(|entry| entry.path().is_file());
    let mut docs: Vec<String> = pages.map(|entry| format!("docs/{}", entry.file_name().display())).collect();
    docs.sort();
    assert!(docs.len() >= 7, "{docs:?}");
    let paths = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned).into_iter().chain(docs);
    paths.map(|path| (path.clone(), read(&path))).collect()
}

const ARCHITECTURE: &str = "docs/architecture.md";
const STANDARDS: &str = "docs/standards.md";

/// The cells of the table that follows a heading of a document, without its two head rows and without backquotes.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let (_, rest) = text
        .split_once(&format!("# {heading}\n"))
        .unwrap_or_else(|| panic!("{document} has no heading {heading}"));
    let lines =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|c| c.trim().replace('`', "")).collect();
    let rows: Vec<Vec<String>> = lines.skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "no table follows the heading {heading} of {document}");
    rows
}

/// A column of such a table.
fn column(document: &str, heading: &str, column: usize) -> BTreeSet<String> {
    let rows = table(document, heading);
    let cells: BTreeSet<String> = rows.iter().map(|row| row[column].clone()).collect();
    assert_eq!(cells.len(), rows.len(), "a row of {heading} in {document} is there twice");
    cells
}

/// A document without its fenced blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The text between single backquotes in the documents, with the path; without fenced blocks.
fn code_spans() -> Vec<(String, String)> {
    let spans = |(path, text): (String, String)| -> Vec<(String, String)> {
        prose(&text).split('`').skip(1).step_by(2).map(|span| (path.clone(), span.to_owned())).collect()
    };
    documents().into_iter().flat_map(spans).collect()
}

/// The names of the folders below a folder, each with a slash.
fn folders(path: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(top().join(path)).unwrap().map(Result::unwrap);
    entries.filter(|entry| entry.path().is_dir()).map(|e| format!("{}/", e.file_name().display())).collect()
}

fn set<'a>(items: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    items.into_iter().map(str::to_owned).collect()
}

/// The advice of `pillarbox probe`; `UPDATE_EXPECT=1 cargo test --test integration advice` rewrites it.
#[test]
fn advice_is_that_of_the_rows() {
    let said = |when: &str| {
        let all = |all: &str| {
            let parts = all.split('&').filter(|part| !part.starts_with(['@', '%']));
            parts.map(|part| part.trim_start_matches(['=', '~', '^'])).collect::<Vec<_>>().join(" … ")
        };
        let shown: Vec<String> =
            when.split('|').filter(|all| !all.starts_with('@')).take(3).map(all).collect();
        if shown.concat().is_empty() { "–".to_owned() } else { shown.join(", ") }
    };
    let mut rows = String::new();
    for row in hints::rows() {
        let steps: Vec<&str> = row.stages.iter().map(|stage| stage.name()).collect();
        let host: Vec<&str> = row.when.split(['|', '&']).filter_map(|part| part.strip_prefix('@')).collect();
        let said = if row.when.starts_with('@') { format!("at {}", host.join(", ")) } else { said(row.when) };
        writeln!(rows, "| {} | {said} | {} |", steps.join(", "), row.advice).unwrap();
    }
    let document = "docs/troubleshooting.md";
    let text = read(document);
    let head = "| step | said | what to do |\n| --- | --- | --- |\n";
    let (before, rest) = text.split_once(head).unwrap();
    let (shown, after) = rest.split_at(rest.find("\n\n").unwrap() + 1);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(top().join(document), format!("{before}{head}{rows}{after}")).unwrap();
    } else {
        assert_eq!(shown, rows);
    }
    // README shows a probe that fails: its text must be the current one.
    let readme = read("README.md");
    let advice: Vec<&str> =
        readme.lines().filter_map(|line| line.strip_prefix("                          ")).collect();
    assert_eq!(advice.len(), 1, "{advice:?}");
    assert!(hints::rows().any(|row| row.advice == advice[0]), "README shows old advice: {}", advice[0]);
}

#[test]
fn dependencies_are_those_of_the_manifest() {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = rest.split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| Some(line.split_once(" =")?.0));
    assert_eq!(column(ARCHITECTURE, "Dependencies", 0), set(names));
}

#[test]
fn extensions_are_those_that_are_offered() {
    let rows: Vec<(String, String)> =
        table(STANDARDS, "Extensions").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(rows, EXTENSIONS.map(|row| (row.keyword.to_owned(), row.rfc.to_owned())));
}

#[test]
fn floors_and_rooms_are_the_folders_of_the_source() {
    assert_eq!(column(ARCHITECTURE, "Floors", 0), folders("src"));
    for (floor, heading) in [("src/engine", "Rooms of the engine"), ("src/rules", "Rooms of the rules")] {
        let mut rooms = folders(floor);
        rooms.remove("tests/");
        assert_eq!(column(ARCHITECTURE, heading, 0), rooms, "{floor}");
    }
}

#[test]
fn commands_are_those_of_the_help() {
    let output = Command::new(env!("CARGO_BIN_EXE_pillarbox")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let rows = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with('-'));
    let offered = set(rows.filter_map(|row| row.split_whitespace().next()));
    assert!(offered.contains("serve"), "{help}");
    for document in ["README.md", "docs/operation.md"] {
        assert_eq!(column(document, "Commands", 0), offered, "{document}");
    }
    for (document, span) in code_spans() {
        let Some(word) = span.strip_prefix("pillarbox ").and_then(|rest| rest.split_whitespace().next())
        else {
            continue;
        };
        let is_known = word.starts_with('-') || offered.contains(word);
        assert!(is_known, "{document} tells of `pillarbox {word}`, which is no command");
    }
    let manual = read("etc/man/man8/pillarbox.8");
    for command in offered {
        assert!(manual.contains(&format!("\n.B {command}\n")), "pillarbox.8 does not tell of {command}");
    }
}

#[test]
fn every_configuration_shown_is_accepted() {
    let mut count = 0;
    for (document, text) in documents() {
        for block in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let problems = pillarbox::config::parse(block, &document).err().unwrap_or_default();
            assert!(problems.is_empty(), "{document}: {block}{}", problems[0]);
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} blocks found");
}

#[test]
fn keys_and_files_that_are_named_exist() {
    let (mut keys, mut files) = (0, 0);
    for (document, span) in code_spans() {
        if let Some((table, key)) = span.split_once('.')
            && let Some(table) = TABLES.iter().find(|t| !t.name.is_empty() && t.name == table)
        {
            assert!(table.rows.iter().any(|row| row.key == key), "{document} names the key {span}");
            keys += 1;
        }
        if ["src/", "tests/", "etc/", "packaging/", "docs/"].iter().any(|folder| span.starts_with(folder)) {
            let path = span.split([' ', '*']).next().unwrap();
            // Placeholders are in capitals.
            let stands_for = |part: &str| part.chars().all(|c| c.is_ascii_uppercase()) && !part.is_empty();
            let parts: Vec<&str> = path.split('/').take_while(|part| !stands_for(part)).collect();
            let path = parts.join("/");
            assert!(top().join(&path).exists(), "{document} names the file {path}");
            files += 1;
        }
    }
    assert!(keys >= 30 && files >= 40, "only {keys} keys and {files} files found");
}

/// Each attack names tests, and each name is that of a test function, a fuzz target, or a file below tests/.
#[test]
fn known_attacks_name_tests_that_exist() {
    let (mut folders, mut functions) = (vec![top().join("src"), top().join("tests")], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let names = text.split("fn ").skip(1).map(|rest| rest.split(|c| !is_name(c)).next().unwrap());
                functions.extend(names.map(str::to_owned));
            }
        }
    }
    let rows = table("SECURITY.md", "Known attacks");
    assert!(rows.len() >= 25, "only {} attacks", rows.len());
    for row in rows {
        let [attack, _, tests] = row.as_slice() else { panic!("{row:?}") };
        for test in tests.split(", ") {
            let exists =
                if test.starts_with("tests/") { top().join(test).exists() } else { functions.contains(test) };
            assert!(exists, "the test {test} against {attack:?} does not exist");
        }
    }
}

/// A length that a person reads in three minutes.
const README_MAX_OCTETS: usize = 10_240;

#[test]
fn the_readme_is_short() {
    let octets = read("README.md").len();
    assert!(octets <= README_MAX_OCTETS, "README.md has {octets} octets: put details into docs/");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut pages = documents();
    pages.push(("tests/README.md".to_owned(), read("tests/README.md")));
    let broken: Vec<String> = pages.iter().flat_map(|(path, text)| broken_links(path, text)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    for (link, is_good) in [
        ("README.md", true),
        ("docs/testing.md#writing-a-transcript", true),
        ("https://example.com/x", true),
        ("docs/nothing.md", false),
        ("docs/testing.md#nothing", false),
        ("#nothing", false),
    ] {
        let broken = broken_links("README.md", &format!("## Something\n[a]({link})\n"));
        assert_eq!(broken.is_empty(), is_good, "{broken:?}");
    }
    assert!(broken_links("docs/a.md", "[a](../README.md) [b](a.md#my-key-c)\n## My `key`: c\n").len() == 1);
    assert_eq!(broken_links("docs/a.md", "[b](#my-key-c)\n## My `key`: c\n"), [""; 0]);
}

/// The broken relative links of a page, each with the missing target.
fn broken_links(path: &str, text: &str) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap();
    let prose = prose(text);
    let links = prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let broken = |link: &str| {
        let (file, heading) = link.split_once('#').map_or((link, None), |(file, h)| (file, Some(h)));
        let target = top().join(folder).join(file);
        if !file.is_empty() && !target.exists() {
            return Some(format!("{path}: no file {link}"));
        }
        let page = if file.is_empty() { Ok(text.to_owned()) } else { std::fs::read_to_string(target) };
        let is_there = heading.is_none_or(|heading| anchors(&page.unwrap()).contains(heading));
        (!is_there).then(|| format!("{path}: no heading {link}"))
    };
    links.filter(|link| !link.contains("://")).filter_map(broken).collect()
}

/// The anchors that forges make of headings: lower case, hyphens for blanks, and no punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let anchor = |line: &str| {
        let is_kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
        let kept: String = line.trim_start_matches('#').trim().chars().filter(is_kept).collect();
        kept.to_lowercase().replace(' ', "-")
    };
    prose(text).lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

#[test]
fn standards_name_what_exists() {
    for row in table(STANDARDS, "Standards") {
        for file in row[1].split(", ") {
            assert!(top().join("src").join(file).exists(), "{}: no src/{file}", row[0]);
        }
        for file in row[2].split(", ").filter(|file| *file != "–") {
            assert!(top().join("tests/transcripts").join(file).exists(), "{}: no transcript {file}", row[0]);
        }
    }
}

#[test]
fn every_rfc_that_the_source_cites_is_in_the_table_of_standards() {
    let cells: String = table(STANDARDS, "Standards").into_iter().map(|row| format!("{} ", row[0])).collect();
    let is_rfc = |word: &&str| word.len() == 4;
    let listed: BTreeSet<&str> = cells.split(|c: char| !c.is_ascii_digit()).filter(is_rfc).collect();
    for (path, text) in sources() {
        for rest in text.split("RFC ").skip(1) {
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            assert!(number.is_empty() || listed.contains(&*number), "{} cites RFC {number}", path.display());
        }
    }
}

#[test]
fn every_flag_of_sendmail_is_in_its_manual() {
    let manual = read("etc/man/man8/sendmail.8").replace("\\-", "-");
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let words: BTreeSet<&str> = manual.split(is_end).filter(|word| word.starts_with('-')).collect();
    let has_mode = |letter: char| letter == 'b' && words.contains("-bm");
    for flag in &FLAGS {
        let is_there = words.contains(&*format!("-{}", flag.letter)) || has_mode(flag.letter);
        assert!(is_there, "sendmail.8 does not tell of -{}", flag.letter);
    }
    let long: BTreeSet<String> =
        LONG_FLAGS.iter().flat_map(|row| row.2.split(' ')).map(|name| format!("--{name}")).collect();
    for name in long.iter().filter(|name| !["--help", "--version"].contains(&name.as_str())) {
        assert!(words.contains(name.as_str()), "sendmail.8 does not tell of {name}");
    }
    // One of them is of `queue run`.
    for word in words.iter().filter(|word| word.starts_with("--") && word.len() > 2 && **word != "--all") {
        assert!(long.contains(*word), "sendmail.8 tells of {word}, which is no flag");
    }
}

#[test]
fn every_log_event_is_in_the_manual() {
    let manual = read("etc/man/man8/pillarbox.8");
    let mut found = BTreeSet::new();
    for (_, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for rest in code.split("event=").skip(1) {
            found
                .insert(rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>());
        }
    }
    assert!(found.len() > 5, "{found:?}");
    for name in found.iter().filter(|name| !name.is_empty()) {
        assert!(manual.contains(&format!("event={name}\n")), "pillarbox.8 does not tell of event={name}");
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![top().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                files.push((path.clone(), std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    files
}

/// pillarbox.toml(5) is made from the rows; `UPDATE_EXPECT=1 cargo test manual` rewrites it.
#[test]
fn the_manual_of_the_configuration_has_every_key() {
    let mut text = String::from(MANUAL_OPENING);
    for (table, chapter) in TABLES.iter().zip(MANUAL) {
        manual_table(&mut text, table, chapter);
    }
    text.push_str(".SH SEE ALSO\n.BR pillarbox (8)\n");
    expect_file!["../../etc/man/man5/pillarbox.toml.5"].assert_eq(&text);
}

const MANUAL_OPENING: &str = r#".\" Written by tests/integration/documentation.rs from the rows of src/config/keys.rs.
.TH PILLARBOX.TOML 5 2026-11-23 pillarbox "File Formats Manual"
.SH NAME
pillarbox.toml \- configuration of pillarbox
.SH SYNOPSIS
.I /etc/pillarbox/pillarbox.toml
.SH DESCRIPTION
The file is TOML.
Every key has a default, shown here behind it, and an empty file is valid.
Unknown keys and bad values are errors;
.B pillarbox check
tells where.
.PP
Durations are "90s", "15m", "4h", "5d" or bare seconds; sizes "64KiB", "25MiB" or bare octets.
One value may stand for a list of one.
"#;

fn manual_table(text: &mut String, table: &Table, chapter: &TableManual) {
    let heading = if table.name.is_empty() {
        "KEYS IN FRONT OF ALL TABLES".to_owned()
    } else {
        table.name.to_uppercase()
    };
    writeln!(text, ".SH {heading}\n{}", roff(chapter.about)).unwrap();
    for (row, about) in table.rows.iter().zip(chapter.rows) {
        let name = match (table.name, table.repeat) {
            ("", _) => row.key.to_owned(),
            (table, Some(_)) => format!("[[{table}]] {}", row.key),
            (table, None) => format!("{table}.{}", row.key),
        };
        write!(text, ".TP\n\\fB{name}\\fR = {}\n{}\n", roff(row.default), roff(about)).unwrap();
    }
}

/// Escapes text for roff: no request, no escape, only ASCII.
fn roff(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        let mut escaped = String::new();
        for c in line.chars() {
            match c {
                '\\' => escaped.push_str("\\e"),
                c if c.is_ascii() => escaped.push(c),
                c => write!(escaped, "\\[u{:04X}]", u32::from(c)).unwrap(),
            }
        }
        let is_request = escaped.starts_with(['.', '\'']);
        lines.push(format!("{}{escaped}", if is_request { "\\&" } else { "" }));
    }
    lines.join("\n")
}

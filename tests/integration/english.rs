//! Phrases that read as translated, or as the opposite of what they mean, such as `# Errors: There is none.` They are
//! banned from comments, texts for users and documents, in the folders whose English has been revised.
//!
//! A phrase also counts across line breaks and comment markers, in any case, but only as whole words: `is_none` and "in
//! handshake" do not count. The library's tests and this file may quote anything.

use std::path::Path;

/// Every text that people read: the source, the documents, and the tests without their data.
const DOCUMENTS: [&str; 19] = [
    "src",
    "docs",
    "etc/man",
    "etc/systemd",
    "packaging",
    "tests/bench",
    "tests/cross",
    "tests/faults",
    "tests/fuzz/parsers.rs",
    "tests/fuzz/run.rs",
    "tests/fuzz/targets.rs",
    "tests/integration",
    "tests/interop",
    "tests/tools",
    "tests/README.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "Makefile",
];

/// The banned phrases, and what to write instead.
const BANNED: [(&str, &str); 17] = [
    ("is none", "name the thing that does not exist"),
    ("are none", "name the things that do not exist"),
    ("none does", "name the failure"),
    ("none is known", "name the failure, or say that no cause is known"),
    ("nothing here fails", "leave it out, or name the one thing that may fail"),
    ("whatever the system says", "an I/O error"),
    ("whatever else the system says", "or another I/O error"),
    ("nobody listens", "say who could eavesdrop, or that the receiver has ended"),
    ("nobody hears", "say who is not notified"),
    ("borne with", "tolerated"),
    ("of now", "the current …"),
    ("in hand", "the current …"),
    ("to be had", "available"),
    ("like ones", "similar …"),
    ("anew", "again"),
    ("goes by", "follows"),
    ("so many at most", "at most N"),
];

#[test]
fn comments_and_documents_are_written_plainly() {
    let texts: Vec<_> = DOCUMENTS.iter().flat_map(|path| documents(path)).collect();
    assert!(texts.len() > 300, "the texts have moved: {}", texts.len());
    let found = texts.iter().map(|(path, text)| hits(path, without_tests(path, text))).collect::<Vec<_>>();
    let found = found.concat();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_banned_phrase_is_found_wherever_it_stands() {
    for (text, line, phrase) in [
        ("/// # Errors\n/// There is none.\n", 2, "is none"),
        ("    // A line that is\n    // none of ours.\n", 1, "is none"),
        ("//! Nothing\n//! here fails.\n", 1, "nothing here fails"),
        ("const A: &str = \"the site of now\";\n", 1, "of now"),
        ("Whatever the\nsystem says.\n", 1, "whatever the system says"),
        ("a\n\n.I What\nis borne\nwith\n", 4, "borne with"),
        ("/// `a` (anew)\n", 1, "anew"),
    ] {
        let found = hits("a", text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(&format!("a:{line}: \"{phrase}\"")), "{text}: {found:?}");
    }
    for text in [
        "if a.is_none() {}",
        "// in handshakes of nowhere",
        "// a renewal; is\n\n// None of them",
        "// is, none",
    ] {
        assert_eq!(hits("a", text), [""; 0], "{text}");
    }
    assert_eq!(without_tests("a.rs", "a\n#[cfg(test)]\nmod tests {\n// anew\n"), "a\n");
    assert_eq!(without_tests("src/a/tests.rs", "// anew"), "");
    assert_eq!(documents("README.md").len(), 1);
    assert!(documents("docs").len() > 3 && documents("etc/man").len() > 3);
}

/// A line for each banned phrase in the text.
fn hits(path: &str, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start().trim_start_matches(['/', '!', '#', '*']);
        // No sentence continues over the end of a paragraph.
        let line = if line.trim().is_empty() { "¶" } else { line };
        words.extend(line.split_whitespace().map(|word| (number + 1, word.to_lowercase())));
    }
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (phrase, advice) in BANNED {
        let parts: Vec<&str> = phrase.split(' ').collect();
        for window in words.windows(parts.len()) {
            let last = parts.len() - 1;
            let fits = window.iter().zip(&parts).enumerate().all(|(i, ((_, word), part))| {
                let word = if i == 0 { word.trim_start_matches(|c| !is_letter(c)) } else { word };
                let word = if i == last { word.trim_end_matches(|c| !is_letter(c)) } else { word };
                word == *part
            });
            if let (true, Some((line, _))) = (fits, window.first()) {
                found.push(format!("{path}:{line}: \"{phrase}\": {advice}"));
            }
        }
    }
    found
}

/// The text of a Rust file before its tests; all of any other file.
fn without_tests<'a>(path: &str, text: &'a str) -> &'a str {
    if path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("/english.rs") {
        return "";
    }
    let is_rust = Path::new(path).extension().is_some_and(|it| it == "rs");
    let end = text.find("#[cfg(test)]\nmod tests {").filter(|_| is_rust);
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// A document, or those below a folder, with their paths from the project's top.
fn documents(path: &str) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut left, mut files) = (vec![top.join(path)], Vec::new());
    while let Some(path) = left.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => left.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => {
                let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

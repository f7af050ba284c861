//! What `check` tells of aliases files, and how a change is noticed.

use super::*;
use crate::test_directory::TestDirectory;
use std::fs;
use std::fs::File;

#[test]
fn every_file_is_looked_at_once() {
    let directory = TestDirectory::new();
    let d = directory.display();
    let file = directory.file(
        "aliases",
        format!("a: :include:{d}/list, :include:{d}/gone\nb: :include:{d}/list, :include:{d}/closed, /x\n"),
    );
    directory.file("list", format!("b\n:include:{d}/deeper\n|y\n"));
    directory.file("deeper", format!(":include:{d}/list, :include:{d}/deeper, c d\n"));
    directory.file("closed", b"");
    // Those that the daemon must be allowed to read.
    let named: Vec<String> =
        files(&file).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(named, ["aliases", "list", "gone", "closed", "deeper"]);
    let readable = |path: &Path| if path.ends_with("closed") { Err("it is closed".into()) } else { Ok(()) };
    let told: Vec<String> = problems(&file, &readable)
        .into_iter()
        .map(|AliasFinding { file, problem, .. }| {
            let name = file.file_name().unwrap().display().to_string();
            match problem {
                Ok(AliasProblem { line, column, text }) => format!("{name}:{line}:{column}: {text}"),
                Err(text) => format!("{name}: {text}"),
            }
        })
        .collect();
    let expected = [
        "aliases:2:",
        "list:3:1: \"|y\" is a command",
        "gone: can't be read: ",
        "closed: it is closed",
        "deeper:1:",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn a_table_is_kept_until_the_file_changes() {
    let directory = TestDirectory::new();
    let file = directory.file("aliases", b"# J\xf6rg, in another character set\na: b\n");
    let aliases = Aliases::load(Some(&file));
    let first = aliases.table().unwrap();
    assert!(first.has("a"));
    assert!(Arc::ptr_eq(&first, &aliases.table().unwrap()), "read once");
    // The same size, the same inode, and perhaps within the same tick: the times of the file are set apart by hand.
    directory.file("aliases", b"# J\xf6rg, in another character set\nc: b\n");
    let late = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    File::options().append(true).open(&file).unwrap().set_modified(late).unwrap();
    assert!(aliases.table().unwrap().has("c"));
    let large = vec![b'#'; 1 << 20];
    directory.file("aliases", &large);
    assert!(aliases.table().is_ok());
    directory.file("aliases", [&large[..], b"#"].concat());
    assert!(aliases.table().unwrap_err().0.ends_with("aliases: larger than 1 MiB"));
    fs::remove_file(&file).unwrap();
    assert!(!aliases.table().unwrap().has("c"), "a missing file is an empty one");
    // Opening a pipe to read would wait until somebody writes.
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(aliases.table().unwrap_err().0.ends_with("this is no file"));
    assert!(!Aliases::load(None).table().unwrap().has("a"));
}

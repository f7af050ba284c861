//! A short run of every fuzz target without libFuzzer: the whole stored corpus, and mutations of it that are the same
//! in each run. An input that fails is written to a file, ready to become a seed.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use targets::{TARGETS, Target};

/// The number of mutated inputs for each target, spread over its seeds.
const MUTATIONS: usize = 2000;
/// The largest mutated input, in octets.
const MAX_OCTETS: usize = 16 * 1024;
/// Tokens of the grammars, inserted at random places.
const TOKENS: [&[u8]; 24] = [
    b"\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r",
    b"\n",
    b"\0",
    b".",
    b" ",
    b"\t",
    b"=",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"@",
    b":",
    b",",
    b"-",
    b"[",
    b"\xff",
    b"\xc3\xbc",
    b"\xc2\x85",
    b"\xc0\x0c",
    b"18446744073709551615",
];

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Marsaglia's xorshift64: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

/// A few changes: octets flipped, taken out, doubled, tokens put in, a piece of another seed.
fn mutated(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut octets = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(octets.len() + 1);
        let end = (at + 1 + random.below(8)).min(octets.len());
        match random.below(6) {
            0 if at < octets.len() => octets[at] ^= 1 << random.below(8),
            1 => drop(octets.drain(at..end)),
            2 => octets.truncate(at),
            3 => drop(octets.splice(at..at, octets[at..end].to_vec())),
            4 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(40)).min(other.len());
                octets.splice(at..end, other[from..to].iter().copied());
            }
            _ => drop(octets.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
        }
    }
    octets.truncate(MAX_OCTETS);
    octets
}

/// Runs the target; if that panics, keeps the input and says how to go on.
fn try_input(name: &str, target: Target, octets: &[u8], from: &Path) {
    if catch_unwind(AssertUnwindSafe(|| target(octets))).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        std::fs::write(&kept, octets).unwrap();
        panic!(
            "the target {name} failed as shown above, with an input made from {}:\n\"{}\"\nmend it, then keep the input: \
             cp {} tests/fuzz/corpus/{name}/NAME-OF-THE-BUG",
            from.display(),
            octets.escape_ascii(),
            kept.display()
        );
    }
}

fn run(name: &str) {
    let (_, target) = TARGETS.iter().find(|(n, _)| *n == name).unwrap();
    let seeds = corpus(name);
    assert!(seeds.len() >= 10, "the corpus of {name} has only {} seeds", seeds.len());
    for (path, seed) in &seeds {
        try_input(name, *target, seed, path);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (path, seed) in seeds.iter().cycle().take(MUTATIONS) {
        let (_, other) = &seeds[random.below(seeds.len())];
        try_input(name, *target, &mutated(seed, other, &mut random), path);
    }
}

/// One test for each target, so that they run side by side and a failure names its own.
macro_rules! tests {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })+

        #[test]
        fn every_target_has_a_test_a_corpus_and_a_program() {
            let tests = [$(stringify!($name)),+];
            assert_eq!(TARGETS.map(|(name, _)| name), tests);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let programs: Vec<&str> = manifest
                .split("[[bin]]\nname = \"")
                .skip(1)
                .map(|rest| rest.split_once('"').unwrap().0)
                .collect();
            assert_eq!(programs, tests);
            let mut folders: Vec<String> = std::fs::read_dir(folder.join("corpus"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            folders.sort();
            assert_eq!(folders, tests);
        }
    };
}

tests! {
    address address_list agent_packet aliases client_session command command_packet configuration control cron data date dkim dns_answer drop_file dsn encoded_word header pem policy_reply proxy_header queue_file recode repair reply rewrite sasl server_session state_file sts_policy system_file users_file
}

/// What pillarbox needs changes, and the fuzz crate, a workspace of its own, keeps a lock file of its own: with an old one
/// `cargo fuzz` looks for versions that nobody has tried.
#[test]
fn the_lock_file_of_the_fuzz_crate_knows_all_that_pillarbox_needs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let manifest = read("Cargo.toml");
    let (_, needed) = manifest.split_once("[dependencies]\n").unwrap();
    let needed =
        needed.lines().take_while(|line| !line.is_empty()).map(|line| line.split_once(" = ").unwrap().0);
    let lock = read("tests/fuzz/Cargo.lock");
    let (_, locked) = lock.split_once("name = \"pillarbox\"\n").unwrap();
    let (locked, _) = locked.split_once("\n]").unwrap();
    let locked = locked.lines().filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next());
    assert_eq!(
        needed.collect::<Vec<_>>(),
        locked.collect::<Vec<_>>(),
        "cargo metadata --manifest-path tests/fuzz/Cargo.toml"
    );
}

/// A mutator that changes nothing would make the tests above idle.
#[test]
fn mutations_differ_from_their_seeds_and_are_the_same_in_each_run() {
    let made = || {
        let mut random = Random(1);
        (0..100).map(|_| mutated(b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", &mut random)).collect::<Vec<_>>()
    };
    let inputs = made();
    assert_eq!(inputs, made());
    let different: std::collections::HashSet<_> = inputs.iter().collect();
    assert!(different.len() > 80, "only {} different ones", different.len());
}

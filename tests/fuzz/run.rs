//! Runs the target that the program is named after under libFuzzer; `Cargo.toml` lists one program for each.
#![no_main]

mod targets;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let (_, target) = targets::TARGETS.iter().find(|(name, _)| *name == env!("CARGO_BIN_NAME")).unwrap();
    target(octets);
});

//! Runs the target that the program is named after under libFuzzer; `Cargo.toml` lists one program for each.
#![no_main]

use std::sync::{Mutex, Once};

/// The octets of all inputs so far.
static OCTETS: Mutex<u64> = Mutex::new(0);

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> i32;
}

/// One more line of libFuzzer's final statistics.
extern "C" fn print_octets() {
    eprintln!("stat::octets:                   {}", OCTETS.lock().unwrap());
}

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    static START: Once = Once::new();
    // SAFETY: the function lives as long as the program, and uses nothing that ends before it.
    START.call_once(|| assert_eq!(unsafe { atexit(print_octets) }, 0));
    *OCTETS.lock().unwrap() += octets.len() as u64;
    let (_, target) = targets::TARGETS.iter().find(|(name, _)| *name == env!("CARGO_BIN_NAME")).unwrap();
    target(octets);
});

//! Whether a panic in a thread ends that thread alone, in a program that was linked as pillarbox is: with this standard
//! library, this linker and these options. `make cross-run` runs it, since nobody can ask pillarbox to panic.

use std::time::{Duration, SystemTime};

fn main() {
    let index = std::env::args().count() + 7;
    let ended = std::thread::spawn(move || {
        let _guard = Guard;
        [1, 2, 3][index]
    });
    assert!(ended.join().is_err(), "the panic was lost");
    let ended = std::panic::catch_unwind(|| std::fs::read_dir("/nowhere").unwrap().count());
    assert!(ended.is_err(), "the panic was lost");
    println!("{}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs());
}

/// Tells that unwinding ran its destructor.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        println!("unwound");
    }
}

//! Chooses the program by its name and arguments. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = std::env::var_os("PILLARBOX_CONFIG");
    ExitCode::from(pillarbox::program::run(std::env::args_os(), environment))
}

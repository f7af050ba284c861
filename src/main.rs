//! Picks the program by its arguments. All else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let raised = rustix::process::geteuid() != rustix::process::getuid()
        || rustix::process::getegid() != rustix::process::getgid();
    let environment = std::env::var_os("PILLARBOX_CONFIG");
    ExitCode::from(pillarbox::program::run(std::env::args_os(), environment, raised))
}

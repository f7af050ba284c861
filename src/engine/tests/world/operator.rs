//! The operator of a world, who asks what `pillarbox queue`, `status` and `link` ask the daemon.

use super::World;
use crate::engine::control::output::{Asker, Output};
use crate::engine::control::requests::answer;
use crate::engine::control::services::Services;
use crate::protocol::request::Request;
use crate::protocol::rights::PeerRights;
use std::io;

pub const ROOT: Asker = Asker { rights: PeerRights::All, uid: 0 };

#[derive(Default)]
struct Said {
    output: Vec<u8>,
    errors: Vec<String>,
}

impl Output for Said {
    fn output(&mut self, octets: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(octets);
        Ok(())
    }

    fn error(&mut self, line: &str) -> io::Result<()> {
        self.errors.push(line.to_owned());
        Ok(())
    }
}

/// The exit code, the output and the errors.
pub fn ask_as(services: &Services, asker: Asker, line: &str) -> (u8, String, Vec<String>) {
    let request = Request::parse(&line.split(' ').collect::<Vec<_>>()).unwrap();
    let mut said = Said::default();
    let code = answer(services, asker, &request, &mut said).unwrap();
    (code, String::from_utf8(said.output).unwrap(), said.errors)
}

/// Asks as root: the exit code, and the output with the errors behind it.
pub fn ask(world: &World, line: &str) -> (u8, String) {
    let (code, output, errors) = ask_as(&world.services, ROOT, line);
    (code, output + &errors.concat())
}

/// Asks as root; panics unless the exit code is 0.
pub fn order(world: &World, line: &str) -> String {
    let (code, output) = ask(world, line);
    assert_eq!(code, 0, "{line}: {output}");
    output
}

//! How many connections the limits of the process allow: its descriptors and its memory (`ulimit`, systemd's
//! `LimitNOFILE=` and `LimitAS=`), divided before the first connection.
//!
//! ```text
//! connections = min( (descriptors − others) / 2, (memory − others) / (600 KiB + 3 KiB for each recipient) ), at least 4
//! ```
//!
//! A missing descriptor is an error that a client gets a reply to. Missing memory ends the process, since neither the
//! standard library nor most C code survives it. So there are never more connections than could all use the most that
//! a connection may ever need. `limits.connections` is only lowered, and the log says so.

use crate::config::Settings;
use crate::sys::{descriptors, memory};

/// Descriptors of everything except connections: standard ones, signals, log, listeners, queue, look-ups.
const OTHER_DESCRIPTORS: u64 = 16;
/// Descriptors of a connection with a next hop: its socket and the queue file.
const WORKER_DESCRIPTORS: u64 = 2;
/// Descriptors of a client's connection: its socket, and one for the files of a message that is being stored. A
/// connection that needs more when no descriptor is left answers 451.
const CONNECTION_DESCRIPTORS: u64 = 2;
/// Descriptors for each connection that the system is asked for, and mostly grants: a message for a Maildir and the
/// queue needs this many.
const WANTED_DESCRIPTORS: u64 = 6;

/// The most memory of a connection: its stack (160 KiB with guard pages and the stack for signals), TLS (70), and 64
/// KiB each of data read, data decoded, and data on its way to a file; the last two may be held twice while they grow.
const CONNECTION_OCTETS: u64 = 600 * 1024;
/// The most memory of an accepted recipient: path, parameters, route, and the copies of these in the envelope.
const RECIPIENT_OCTETS: u64 = 3 * 1024;
/// Memory of everything except connections: the queue's index, a second configuration during a reload, trust anchors.
const OTHER_OCTETS: u64 = 5 * 1024 * 1024;
/// The fewest connections, even if the limits allow less: a server needs some.
const CONNECTIONS_MIN: u64 = 4;

/// The limits of the process, measured before any connection used part of them.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// The memory left, in octets; `None` without a limit.
    octets: Option<u64>,
}

impl Capacity {
    /// Measures the limits. To be called once, before the first connection.
    #[must_use]
    pub fn measure() -> Self {
        Self { octets: memory::left() }
    }

    /// Lowers `limits.connections` to what the limits allow, and logs that.
    pub fn fit(self, settings: &mut Settings) {
        let configured = settings.limits.connections;
        let workers = u64::from(settings.relay.connections);
        let other = OTHER_DESCRIPTORS + workers * WORKER_DESCRIPTORS;
        let descriptors = descriptors::allow(other + u64::from(configured) * WANTED_DESCRIPTORS);
        let of_connection = CONNECTION_OCTETS + u64::from(settings.limits.recipients) * RECIPIENT_OCTETS;
        let by_descriptors = share(descriptors, other, CONNECTION_DESCRIPTORS);
        let by_memory = self.octets.map_or(u64::MAX, |octets| {
            share(octets, OTHER_OCTETS + workers * CONNECTION_OCTETS, of_connection)
        });
        let allowed = by_descriptors.min(by_memory);
        if allowed < u64::from(configured) {
            settings.limits.connections = allowed as u32;
            let what =
                if by_memory < by_descriptors { "memory (ulimit -v)" } else { "open files (ulimit -n)" };
            log::warn!(
                target: "pillarbox",
                "event=notice text=\"the limit of {what} allows {allowed} connections, not the {configured} of \
                 limits.connections; raise it\""
            );
        }
    }
}

/// How often `each` fits into what `others` leave of `all`.
fn share(all: u64, others: u64, each: u64) -> u64 {
    (all.saturating_sub(others) / each).max(CONNECTIONS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn connections(text: &str, octets: Option<u64>) -> u32 {
        let mut settings = config::parse(text, "test.toml").unwrap();
        Capacity { octets }.fit(&mut settings);
        settings.limits.connections
    }

    #[test]
    fn what_fits_stays_as_it_is_and_what_does_not_is_lowered() {
        assert_eq!(connections("", None), 64);
        assert_eq!(connections("", Some(1 << 30)), 64);
        let little = connections("", Some(50 << 20));
        assert!((32..64).contains(&little), "{little}");
        assert_eq!(connections("limits.connections = 10", Some(50 << 20)), 10);
        assert!(connections("limits.recipients = 10000", Some(50 << 20)) < 4 + 1);
        assert_eq!(connections("", Some(0)), 4);
    }

    #[test]
    fn shares_are_exact() {
        for (all, expected) in [(0, 4), (31, 4), (41, 4), (42, 5), (43, 5), (44, 6), (64, 16)] {
            assert_eq!(share(all, 32, 2), expected, "{all}");
        }
    }
}

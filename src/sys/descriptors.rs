//! File descriptors: how many this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit to `wanted`, or as far as the system allows, and returns the resulting limit. It is not raised
/// further: programs that close all descriptors up to the limit would take long.
pub fn allow(wanted: u64) -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return u64::MAX };
    let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if raised <= current {
        return current;
    }
    limit.current = Some(raised);
    setrlimit(Resource::Nofile, limit).map_or(current, |()| raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_never_lowered_and_never_above_what_is_allowed() {
        let before = getrlimit(Resource::Nofile);
        assert_eq!(allow(1), before.current.unwrap_or(u64::MAX));
        let all = allow(u64::MAX);
        assert!(before.maximum.is_none_or(|maximum| all <= maximum), "{all} of {before:?}");
        assert!(before.current.is_none_or(|current| current <= all), "{all} of {before:?}");
    }
}

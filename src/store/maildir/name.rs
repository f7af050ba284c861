//! The names of delivered files: made here, and recognised by making them once more.

use crate::mail::date::WallTime;

/// How many octets of the host name go into a file name: the whole name must stay within 255 octets.
const HOST_MAX_OCTETS: usize = 128;

/// The host name as file names spell it.
pub(super) fn spell_host(host: &str) -> String {
    let mut name = String::new();
    for c in host.chars() {
        match c {
            '/' => name.push_str("\\057"),
            ':' => name.push_str("\\072"),
            c if c.is_ascii_graphic() && c != ',' => name.push(c),
            _ => name.push('_'),
        }
        if name.len() >= HOST_MAX_OCTETS {
            break;
        }
    }
    name
}

/// A name that no other delivery has: time, process, number and host, which [`spell_host`] has spelt.
pub(super) fn compose(now: WallTime, pid: u32, number: u64, host: &str) -> String {
    format!("{}.M{}P{pid}Q{number}.{host}", now.seconds(), now.subsec_micros())
}

/// The final name of a file with this many octets.
pub(super) fn with_size(name: &str, octets: u64) -> String {
    format!("{name},S={octets}")
}

/// Whether [`super::Maildirs`] makes such names for files in `tmp`.
#[must_use]
pub fn is_composed(name: &str) -> bool {
    let parts = || {
        let (seconds, rest) = name.split_once(".M")?;
        let (micros, rest) = rest.split_once('P')?;
        let (pid, rest) = rest.split_once('Q')?;
        let (number, host) = rest.split_once('.')?;
        let micros =
            seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)?;
        Some(compose(WallTime(micros), pid.parse().ok()?, number.parse().ok()?, &spell_host(host)))
    };
    parts().is_some_and(|made| made == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_made_here_are_recognised() {
        for host in ["box.example", "a/b:c,d é", "", &"/".repeat(255)] {
            let name = compose(WallTime(1_795_416_810_000_042), 7, u64::MAX >> 1, &spell_host(host));
            assert!(is_composed(&name) && name.len() < 255, "{name}");
            assert!(!is_composed(&with_size(&name, 5)), "{name}");
        }
        for name in [
            "",
            "..",
            ".forward",
            "dovecot.index",
            "1.M2P3Q4.",
            "1.M2P3Q4.a/b",
            "1.M2P3Q4./../../etc/passwd",
            "1.M2P3Q4.a:b",
            "01.M2P3Q4.host",
            "1.M+2P3Q4.host",
            "1.M2P3Q4.host\n",
            "1.M2P3.host",
            "1.M9999999P3Q4.host",
        ] {
            assert_eq!(is_composed(name), name == "1.M2P3Q4.", "{name:?}");
        }
    }
}

//! Memory: what the C library would otherwise reserve for itself, and how much this process may use.
//!
//! An allocation that fails ends the process. So code that is about to need memory for a client asks here first, and
//! nothing here allocates to find out.

use super::file;
use rustix::process::{Resource, getrlimit};

/// What a process that has just started has mapped, if the system does not report it.
const MAPPED_AT_START: u64 = 16 << 20;

/// Limits the heap to two arenas. glibc makes one for each thread, up to eight per core: with a hundred connections
/// that is a gigabyte of address space, and some pages of memory for each. Where address space is limited there is
/// only one arena: a second one would take 64 MiB of it at once.
#[allow(unsafe_code)]
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    {
        let arenas = if limit().is_some() { 1 } else { 2 };
        // SAFETY: mallopt takes two numbers and no pointer; it is called before the first thread is started. No crate
        // wraps it.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
        }
    }
}

/// Octets that this process may still map; `None` if nothing limits it.
#[must_use]
pub fn left() -> Option<u64> {
    let status = file::of_kernel("/proc/self/status");
    let mapped = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    let mapped = mapped.and_then(|kib| kib.parse::<u64>().ok()).map_or(MAPPED_AT_START, |kib| kib * 1024);
    limit().map(|limit| limit.saturating_sub(mapped))
}

/// The limit of address space or of data (`ulimit -v`, `-d`; systemd's `LimitAS=`, `LimitDATA=`).
fn limit() -> Option<u64> {
    [Resource::As, Resource::Data].into_iter().filter_map(|resource| getrlimit(resource).current).min()
}

/// Whether this many octets could be mapped at present. They are not kept: the answer only tells how near the limit
/// is.
#[must_use]
#[allow(unsafe_code)]
pub fn can_have(octets: usize) -> bool {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place that the system chooses touches no memory of ours, and it is unmapped as it
    // was mapped, before any code could use it. Vec::try_reserve would move the heap's threshold for mappings
    // instead.
    unsafe {
        let mapping = libc::mmap(std::ptr::null_mut(), octets, access, kind, -1, 0);
        mapping != libc::MAP_FAILED && libc::munmap(mapping, octets) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_can_be_had_and_no_more_than_there_are_addresses() {
        assert!(can_have(1 << 20));
        assert!(!can_have(usize::MAX >> 1));
        assert!(!can_have(0));
    }
}

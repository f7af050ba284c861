//! Memory: what the C library would otherwise take for itself.

/// Limits the heap to two arenas. glibc makes one for each thread up to eight a core: with a hundred connections that is
/// a gigabyte of address space and some pages of memory for each.
#[allow(unsafe_code)]
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and no pointer; it is called before the first thread is started. No crate wraps it.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

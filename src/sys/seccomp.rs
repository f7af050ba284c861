//! A filter of system calls (seccomp): what this thread, and the threads that it starts, may ask of the kernel.
//!
//! | a call | gets |
//! | --- | --- |
//! | in a row of calls below | done |
//! | in [`RULES`] | done or EPERM, by one of its arguments |
//! | in [`DENIED`], or of another processor's numbers | EPERM: no program may try something else instead |
//! | any other | ENOSYS, as on an older kernel, so that the C library takes an older call |
//!
//! No call ends the process. To allow a call, add it to a row; where the `libc` crate has no name for it on some
//! processor, to that processor's row. Calls that came with Linux 5.1 or later have the same number everywhere
//! ([`new`]).

use libc::{c_int, c_long, sock_filter, sock_fprog};
use std::io;

/// Files and directories.
#[rustfmt::skip]
const FILES: &[c_long] = &[
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_preadv, libc::SYS_pwritev,
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_lseek, libc::SYS_fstat,
    libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_dup, libc::SYS_dup3, libc::SYS_fcntl,
    libc::SYS_flock, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_copy_file_range, libc::SYS_sendfile, libc::SYS_splice, libc::SYS_renameat2, libc::SYS_linkat,
    libc::SYS_unlinkat, libc::SYS_mkdirat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_utimensat, libc::SYS_umask, libc::SYS_inotify_init1, libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch, libc::SYS_pipe2, libc::SYS_memfd_create, new(452), // fchmodat2
];
/// Sockets; `socket` itself is among the [`RULES`].
#[rustfmt::skip]
const SOCKETS: &[c_long] = &[
    libc::SYS_socketpair, libc::SYS_connect, libc::SYS_accept4, libc::SYS_bind, libc::SYS_listen,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_sendto,
    libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg,
    libc::SYS_shutdown,
];
/// Waiting, locks and clocks. Name services of systemd set timers.
#[rustfmt::skip]
const WAITS: &[c_long] = &[
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_eventfd2, libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_nanosleep, libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall, libc::SYS_sched_yield, libc::SYS_clock_gettime, libc::SYS_clock_getres,
    libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_signalfd4,
];
/// Memory; `mmap` and `mprotect` are among the [`RULES`].
#[rustfmt::skip]
const MEMORY: &[c_long] = &[
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_membarrier, libc::SYS_mincore,
];
/// This process, its threads and its signals; `clone` is among the [`RULES`], and `tgkill` may only reach this process.
#[rustfmt::skip]
const PROCESS: &[c_long] = &[
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_rt_sigtimedwait, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_getpid,
    libc::SYS_getppid, libc::SYS_gettid, libc::SYS_getuid, libc::SYS_getgid, libc::SYS_geteuid, libc::SYS_getegid,
    libc::SYS_getgroups, libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getpgid, libc::SYS_getsid,
    libc::SYS_capget, libc::SYS_prlimit64, libc::SYS_getrusage, libc::SYS_sysinfo, libc::SYS_uname,
    libc::SYS_getrandom, libc::SYS_getpriority, libc::SYS_sched_getaffinity, libc::SYS_sched_getscheduler,
    libc::SYS_sched_getparam, libc::SYS_getcpu, libc::SYS_set_robust_list, libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    // musl's raise and abort.
    #[cfg(target_env = "musl")]
    libc::SYS_tkill,
];
/// Older forms, which newer processors never had.
#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm", target_arch = "mips", target_arch = "mips64"))]
#[rustfmt::skip]
const OLDER: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_getdents,
    libc::SYS_dup2, libc::SYS_rename, libc::SYS_renameat, libc::SYS_link, libc::SYS_unlink, libc::SYS_mkdir,
    libc::SYS_rmdir, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_pipe, libc::SYS_poll,
    libc::SYS_epoll_wait, libc::SYS_pause, libc::SYS_getpgrp,
];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "arm",
    target_arch = "mips",
    target_arch = "mips64"
)))]
const OLDER: &[c_long] = &[];
/// Forms for 64-bit sizes and times on processors of 32 bits.
#[cfg(all(target_pointer_width = "32", any(target_arch = "x86", target_arch = "arm", target_arch = "mips")))]
#[rustfmt::skip]
const WIDER: &[c_long] = &[
    libc::SYS__llseek, libc::SYS_stat64, libc::SYS_fstat64, libc::SYS_lstat64, libc::SYS_statfs64,
    libc::SYS_fstatfs64, libc::SYS_fcntl64, libc::SYS_ftruncate64, libc::SYS_sendfile64, libc::SYS_sigreturn,
    libc::SYS_sigaction, libc::SYS_sigprocmask,
    // clock_gettime64, clock_getres_time64, clock_nanosleep_time64, utimensat_time64, pselect6_time64, ppoll_time64,
    // recvmmsg_time64, rt_sigtimedwait_time64, futex_time64, timerfd_settime64
    new(403), new(406), new(407), new(412), new(413), new(414), new(417), new(421), new(422), new(411),
];
#[cfg(not(all(
    target_pointer_width = "32",
    any(target_arch = "x86", target_arch = "arm", target_arch = "mips")
)))]
const WIDER: &[c_long] = &[];
/// Forms for numbers of users and groups with 32 bits; elsewhere the usual calls have them.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
#[rustfmt::skip]
const NUMBERS: &[c_long] = &[
    libc::SYS_chown32, libc::SYS_fchown32, libc::SYS_lchown32, libc::SYS_getuid32, libc::SYS_getgid32,
    libc::SYS_geteuid32, libc::SYS_getegid32, libc::SYS_getgroups32, libc::SYS_getresuid32, libc::SYS_getresgid32,
];
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const NUMBERS: &[c_long] = &[];

/// What only some processors have, or the crate names only for some. `rseq` and where need be `fstatat64`, `pread64`
/// and `pwrite64` are given by number.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OWN: &[c_long] = &[
    libc::SYS_newfstatat, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_accept, libc::SYS_fadvise64,
    libc::SYS_select, libc::SYS_time, libc::SYS_getrlimit, libc::SYS_arch_prctl, 334,
];
/// `socketcall` makes any socket: its arguments lie in memory, where a filter can't look, and glibc knows no other way to have a
/// socket here. Landlock, and the lack of capabilities, still bound what it is good for.
#[cfg(target_arch = "x86")]
#[rustfmt::skip]
const OWN: &[c_long] = &[
    libc::SYS_fstatat64, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_fadvise64, libc::SYS_fadvise64_64,
    libc::SYS_select, libc::SYS__newselect, libc::SYS_time, libc::SYS_getrlimit, libc::SYS_ugetrlimit,
    libc::SYS_set_thread_area, libc::SYS_socketcall, 386,
];
/// The last ones are ARM's own: cacheflush, set_tls, get_tls; before them arm_fadvise64_64.
#[cfg(target_arch = "arm")]
#[rustfmt::skip]
const OWN: &[c_long] = &[
    327, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_accept, libc::SYS_send, libc::SYS_recv,
    libc::SYS__newselect, libc::SYS_ugetrlimit, 398, 270, 0xf_0002, 0xf_0005, 0xf_0006,
];
#[cfg(target_arch = "aarch64")]
#[rustfmt::skip]
const OWN: &[c_long] = &[
    libc::SYS_newfstatat, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_accept, libc::SYS_fadvise64,
    libc::SYS_renameat, libc::SYS_getrlimit, 293,
];
/// Beside those: _newselect, fadvise64.
#[cfg(target_arch = "mips")]
#[rustfmt::skip]
const OWN: &[c_long] = &[
    4293, 4200, 4201, libc::SYS_accept, libc::SYS_send, libc::SYS_recv, 4142, 4254, libc::SYS_time,
    libc::SYS_getrlimit, libc::SYS_set_thread_area, libc::SYS_cacheflush, 4367,
];
#[cfg(target_arch = "mips64")]
#[rustfmt::skip]
const OWN: &[c_long] = &[
    libc::SYS_newfstatat, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_accept, libc::SYS_fadvise64,
    libc::SYS__newselect, libc::SYS_getrlimit, libc::SYS_set_thread_area, libc::SYS_cacheflush, 5327,
];
/// The last two are RISC-V's own: riscv_hwprobe, riscv_flush_icache.
#[cfg(target_arch = "riscv64")]
#[rustfmt::skip]
const OWN: &[c_long] = &[
    libc::SYS_newfstatat, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_accept, libc::SYS_fadvise64,
    libc::SYS_getrlimit, 293, 258, 259,
];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "arm",
    target_arch = "aarch64",
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "riscv64"
)))]
const OWN: &[c_long] = &[];

/// What the delivery agent may do beyond that: act as a user, and take the rights of one on.
#[rustfmt::skip]
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
pub const AGENT: &[c_long] = &[
    libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_capset,
];
/// The same, with both forms of numbers.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
#[rustfmt::skip]
pub const AGENT: &[c_long] = &[
    libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_capset, libc::SYS_setfsuid32, libc::SYS_setfsgid32, libc::SYS_setgroups32, libc::SYS_setresuid32,
    libc::SYS_setresgid32,
];

/// Calls by which an attacker would gain something.
#[rustfmt::skip]
const DENIED: &[c_long] = &[
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd, libc::SYS_process_madvise, libc::SYS_kcmp,
    libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, #[cfg(not(target_env = "musl"))] libc::SYS_tkill, libc::SYS_pidfd_send_signal, libc::SYS_bpf,
    libc::SYS_seccomp, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fsmount, libc::SYS_mount_setattr,
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_kexec_load,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_perf_event_open,
    libc::SYS_userfaultfd, libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at, libc::SYS_mknodat,
    libc::SYS_symlinkat, libc::SYS_personality, libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff,
    libc::SYS_sethostname, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_acct,
    libc::SYS_quotactl, libc::SYS_syslog, libc::SYS_fanotify_init, libc::SYS_setuid, libc::SYS_setgid,
    libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_capset,
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm", target_arch = "mips", target_arch = "mips64"))]
    libc::SYS_fork,
];

/// Calls that depend on an argument: its number, the bits of it that count, some values, and whether these are allowed
/// or all others.
type Rule<'a> = (c_long, u32, u32, &'a [u32], bool);
#[cfg(not(any(target_arch = "mips", target_arch = "mips64")))]
const EXECUTABLE: u32 = libc::PROT_EXEC as u32;
#[cfg(not(any(target_arch = "mips", target_arch = "mips64")))]
const WRITABLE_AND_EXECUTABLE: u32 = EXECUTABLE | libc::PROT_WRITE as u32;
#[rustfmt::skip]
const RULES: &[Rule<'_>] = &[
    // Netlink: getaddrinfo looks for this host's addresses.
    (libc::SYS_socket, 0, !0, &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_NETLINK as u32], true),
    // Threads, and no processes.
    (libc::SYS_clone, 0, libc::CLONE_THREAD as u32, &[libc::CLONE_THREAD as u32], true),
    // Whether a process lives, for the locks of mboxes.
    (libc::SYS_kill, 1, !0, &[0], true),
    // Not what a terminal would take for typed.
    (libc::SYS_ioctl, 1, !0, &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32], false),
    // Names of threads; by the C library, names of memory; by rustix, what the kernel told this program at its start.
    (libc::SYS_prctl, 0, !0, &[libc::PR_SET_NAME as u32, libc::PR_GET_NAME as u32, 0x5356_4d41, 0x4155_5856], true),
    // No code that was written by this process. Libraries of the C library's name services are still loaded. MIPS has
    // processors whose libraries run code on the stack.
    #[cfg(not(any(target_arch = "mips", target_arch = "mips64")))]
    (libc::SYS_mprotect, 2, EXECUTABLE, &[EXECUTABLE], false),
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    (libc::SYS_mmap, 2, WRITABLE_AND_EXECUTABLE, &[WRITABLE_AND_EXECUTABLE], false),
    #[cfg(any(target_arch = "x86", target_arch = "arm"))]
    (libc::SYS_mmap2, 2, WRITABLE_AND_EXECUTABLE, &[WRITABLE_AND_EXECUTABLE], false),
    #[cfg(any(target_arch = "mips", target_arch = "mips64"))]
    (libc::SYS_mprotect, 0, 0, &[0], true),
    #[cfg(any(target_arch = "mips", target_arch = "mips64"))]
    (libc::SYS_mmap, 0, 0, &[0], true),
    #[cfg(target_arch = "mips")]
    (libc::SYS_mmap2, 0, 0, &[0], true),
];

/// The number of a call that is the same for all processors but MIPS, which adds one for its kind of program.
const fn new(number: c_long) -> c_long {
    number
        + if cfg!(target_arch = "mips") {
            4000
        } else if cfg!(target_arch = "mips64") {
            5000
        } else {
            0
        }
}

/// The processor and its order of octets, as the kernel names them (include/uapi/linux/audit.h).
const PROCESSOR: Option<u32> = if cfg!(target_arch = "x86_64") && cfg!(target_pointer_width = "64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "x86") {
    Some(0x4000_0003)
} else if cfg!(target_arch = "arm") {
    Some(0x28 | LITTLE)
} else if cfg!(target_arch = "aarch64") {
    Some(0x8000_00b7 | LITTLE)
} else if cfg!(target_arch = "mips") {
    Some(0x08 | LITTLE)
} else if cfg!(target_arch = "mips64") {
    Some(0x8000_0008 | LITTLE)
} else if cfg!(target_arch = "riscv64") {
    Some(0x8000_00f3 | LITTLE)
} else {
    None
};
const LITTLE: u32 = if cfg!(target_endian = "little") { 0x4000_0000 } else { 0 };

// include/uapi/linux/bpf_common.h and seccomp.h
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERROR: u32 = 0x0005_0000;
const REFUSE: u32 = ERROR | libc::EPERM as u32;
const UNKNOWN: u32 = ERROR | libc::ENOSYS as u32;
const SET_MODE_FILTER: c_long = 1;
/// Without it some kernels before 5.16 slow every thread with a filter down.
const SPEC_ALLOW: c_long = 4;
const MODE_FILTER: c_int = 2;

/// Installs the filter for good, with `more` calls allowed. `rights::restrain` must have been called.
///
/// # Errors
/// The kernel has no such filters, or this program has none for the processor.
#[allow(unsafe_code)]
pub fn install(more: &[c_long]) -> io::Result<()> {
    let process = rustix::process::getpid().as_raw_pid() as u32;
    let mut program = program(more, PROCESSOR.ok_or(io::ErrorKind::Unsupported)?, process);
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the calls, which copy it. The kernel checks it.
    let is_done = unsafe {
        [SPEC_ALLOW, 0]
            .into_iter()
            .any(|flags| libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) == 0)
            || libc::prctl(libc::PR_SET_SECCOMP, MODE_FILTER, &raw const program) == 0
    };
    if is_done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The filter as the kernel runs it, for each call from the first step on.
fn program(more: &[c_long], processor: u32, process: u32) -> Vec<sock_filter> {
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let mut steps = vec![
        step(LOAD, 4, 0, 0),
        step(IF_EQUAL, processor, 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(LOAD, 0, 0, 0),
    ];
    let ranges = |steps: &mut Vec<sock_filter>, rows: &[&[c_long]], verdict: u32| {
        // In order. `sort` would bring its code along for some hundred numbers.
        let mut calls: Vec<u32> = Vec::new();
        for call in rows.concat() {
            let at = calls.partition_point(|other| *other < call as u32);
            if calls.get(at) != Some(&(call as u32)) {
                calls.insert(at, call as u32);
            }
        }
        for range in calls.chunk_by(|a, b| a + 1 == *b) {
            if let (Some(first), Some(last)) = (range.first(), range.last()) {
                steps.extend([
                    step(IF_AT_LEAST, *first, 0, 2),
                    step(IF_GREATER, *last, 1, 0),
                    step(RETURN, verdict, 0, 0),
                ]);
            }
        }
    };
    ranges(&mut steps, &[FILES, SOCKETS, WAITS, MEMORY, PROCESS, OLDER, WIDER, NUMBERS, OWN, more], ALLOW);
    let own_signals: Rule<'_> = (libc::SYS_tgkill, 0, !0, &[process], true);
    for (call, argument, bits, values, are_allowed) in RULES.iter().chain([&own_signals]) {
        let (found, other) = if *are_allowed { (ALLOW, REFUSE) } else { (REFUSE, ALLOW) };
        // Arguments have 64 bits each; only the lower half counts.
        let place = 16 + 8 * argument + if cfg!(target_endian = "little") { 0 } else { 4 };
        steps.push(step(IF_EQUAL, *call as u32, 0, 3 + 2 * values.len() as u8));
        steps.extend([step(LOAD, place, 0, 0), step(AND, *bits, 0, 0)]);
        for value in *values {
            steps.extend([step(IF_EQUAL, *value, 0, 1), step(RETURN, found, 0, 0)]);
        }
        steps.push(step(RETURN, other, 0, 0));
    }
    ranges(&mut steps, &[DENIED], REFUSE);
    steps.push(step(RETURN, UNKNOWN, 0, 0));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{packet, process, rights};
    use crate::test_directory::TestDirectory;
    use std::net::{TcpListener, TcpStream, ToSocketAddrs};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// What a process with the filter finds: lines `name errno`.
    fn tried(more: &'static [c_long], tries: impl FnOnce() -> Vec<(&'static str, i32)>) -> Vec<String> {
        let (here, there) = packet::pair().unwrap();
        process::start(c"tries", there, move |socket| {
            rights::restrain().unwrap();
            install(more).unwrap();
            let lines: Vec<String> =
                tries().into_iter().map(|(name, found)| format!("{name} {found}")).collect();
            packet::send(&socket, lines.join("\n").as_bytes(), &[]).unwrap();
        })
        .unwrap();
        let mut octets = [0; 4096];
        let (text, _) = packet::receive(&here, &mut octets).expect("the process has ended early");
        String::from_utf8_lossy(text).lines().map(str::to_owned).collect()
    }

    /// The error of a call with plain numbers; 0: none.
    #[allow(unsafe_code)]
    fn call(number: c_long, arguments: [c_long; 3]) -> i32 {
        let [a, b, c] = arguments;
        // SAFETY: the calls of these tests fail, or get no pointer.
        let result = unsafe { libc::syscall(number, a, b, c, 0, 0) };
        if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
    }

    fn errno<T>(result: io::Result<T>) -> i32 {
        result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
    }

    #[test]
    fn what_would_help_an_attacker_is_refused_and_the_process_lives() {
        let of = |number, arguments| call(number, arguments);
        let found = tried(&[], || {
            vec![
                ("exec", errno(Err::<(), _>(Command::new("/bin/true").exec()))),
                ("fork", errno(Command::new("/bin/true").spawn())),
                ("namespace", of(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0])),
                ("packet", of(libc::SYS_socket, [17, 3, 0])),
                ("alg", of(libc::SYS_socket, [38, 5, 0])),
                ("kill", of(libc::SYS_kill, [1, libc::SIGCONT.into(), 0])),
                ("signal", of(libc::SYS_tgkill, [1, 1, 0])),
                ("ptrace", of(libc::SYS_ptrace, [0, 0, 0])),
                ("bpf", of(libc::SYS_bpf, [0, 0, 0])),
                ("mount", of(libc::SYS_mount, [0, 0, 0])),
                ("keys", of(libc::SYS_keyctl, [0, 0, 0])),
                ("uring", of(libc::SYS_io_uring_setup, [1, 0, 0])),
                ("uid", of(libc::SYS_setuid, [0, 0, 0])),
                ("dumpable", of(libc::SYS_prctl, [4, 1, 0])),
                ("fsuid", of(libc::SYS_setfsuid, [0, 0, 0])),
                ("typed", of(libc::SYS_ioctl, [0, libc::TIOCSTI as c_long, 0])),
                ("newer", of(libc::SYS_clone3, [0, 0, 0])),
                ("never", of(9999, [0, 0, 0])),
            ]
        });
        let (perm, nosys) = (libc::EPERM, libc::ENOSYS);
        let names = "exec fork namespace packet alg kill signal ptrace bpf mount keys uring uid dumpable fsuid typed newer never";
        let expected = names.split(' ').map(|name| match name {
            "fsuid" | "newer" | "never" => format!("{name} {nosys}"),
            name => format!("{name} {perm}"),
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    #[allow(unsafe_code)]
    fn no_memory_becomes_code() {
        let found = tried(&[], || {
            let of = |protection| {
                // SAFETY: a new mapping at a place that the system chooses; it stays until the process ends.
                let place = unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        protection,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
                if place == libc::MAP_FAILED {
                    io::Error::last_os_error().raw_os_error().unwrap_or(-1)
                } else {
                    0
                }
            };
            // SAFETY: as above.
            let place = unsafe {
                let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, kind, -1, 0)
            };
            let protect = call(libc::SYS_mprotect, [place as c_long, 4096, libc::PROT_EXEC.into()]);
            vec![
                ("both", of(libc::PROT_WRITE | libc::PROT_EXEC)),
                // As a library is loaded.
                ("code", of(libc::PROT_READ | libc::PROT_EXEC)),
                ("later", protect),
            ]
        });
        assert_eq!(found, ["both 1", "code 0", "later 1"]);
    }

    #[test]
    fn what_the_daemon_does_works() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let directory = TestDirectory::new();
        let scratch = directory.join("scratch");
        let found = tried(&[], || {
            let thread = std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().is_ok());
            let written = std::fs::write(&scratch, "x").and_then(|()| std::fs::remove_file(&scratch));
            vec![
                ("thread", errno(thread)),
                ("file", errno(written)),
                ("directory", errno(std::fs::read_dir("/").map(|all| all.count()))),
                ("connect", errno(TcpStream::connect(address))),
                ("look-up", errno(("localhost", 25).to_socket_addrs())),
                ("user", errno(crate::sys::user::find("root"))),
                ("alive", call(libc::SYS_kill, [1, 0, 0])),
                ("random", i32::from(crate::sys::random() == 0)),
                // A message for an mbox; a look-up by the name service of systemd.
                (
                    "memory",
                    errno(
                        rustix::fs::memfd_create(c"x", rustix::fs::MemfdFlags::CLOEXEC).map_err(Into::into),
                    ),
                ),
                ("timer", call(libc::SYS_timerfd_create, [libc::CLOCK_MONOTONIC.into(), 0, 0])),
                ("nobody", errno(crate::sys::user::find("no-such-user-here"))),
                ("itself", i32::from(signal_hook::low_level::raise(libc::SIGURG).is_err())),
            ]
        });
        assert_eq!(
            found,
            [
                "thread 0",
                "file 0",
                "directory 0",
                "connect 0",
                "look-up 0",
                "user 0",
                "alive 0",
                "random 0",
                "memory 0",
                "timer 0",
                "nobody 0",
                "itself 0"
            ]
        );
    }

    #[test]
    fn the_agent_may_act_as_users_and_run_nothing() {
        let found = tried(AGENT, || {
            vec![
                ("fsuid", call(libc::SYS_setfsuid, [-1, 0, 0])),
                ("exec", errno(Err::<(), _>(Command::new("/bin/true").exec()))),
            ]
        });
        assert_eq!(found, ["fsuid 0", "exec 1"]);
    }

    /// Jumps reach no further than 255 steps, and the kernel takes at most 4096.
    #[test]
    fn the_program_is_one_that_every_kernel_takes() {
        let steps = program(AGENT, 1, 1);
        assert!(steps.len() < 1000, "{}", steps.len());
        let end = steps.len();
        for (at, step) in steps.iter().enumerate() {
            assert!(at + 1 + usize::from(step.jt.max(step.jf)) < end.max(at + 2), "{at}");
        }
        for row in [FILES, SOCKETS, WAITS, MEMORY, PROCESS, OLDER, WIDER, OWN] {
            assert!(
                row.iter().all(|call| !DENIED.contains(call) && !RULES.iter().any(|rule| rule.0 == *call))
            );
        }
    }
}

"""This machine: its commands, clock, processor groups and kinds of store, and the lock of those who measure."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "bench"
TOOLS = WORK / "tools"
# Where the mail under measurement lies.
STORES = {"disk": WORK / "state", "tmpfs": pathlib.Path(f"/dev/shm/pillarbox-bench-{os.getuid()}")}
IS_ROOT = os.getuid() == 0
# The hierarchy of cgroup v2, which counts processor time without any controller.
HIERARCHIES = [pathlib.Path("/sys/fs/cgroup/unified"), pathlib.Path("/sys/fs/cgroup")]
GROUPS = next((path for path in HIERARCHIES if (path / "cgroup.controllers").exists()), None)
LIBC = ctypes.CDLL(None, use_errno=True)

os.environ["PATH"] += ":/usr/sbin:/sbin"


def now():
    """Seconds of the monotonic clock, which the tools use too."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def output(command, **options):
    """What a command prints; its failure, with all of it, is an error."""
    done = subprocess.run(
        [str(word) for word in command],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        **options,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}: {done.stdout}")
    return done.stdout


def die_with_parent():
    """For preexec_fn: the child ends with this program, however that ends."""
    LIBC.prctl(1, signal.SIGKILL)


def flush(path):
    """Writes the file system of a path to its device, so that one measurement does not pay for the one before it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        LIBC.syncfs(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone():
    """Only one measurement at a time on this machine: others wait here, and may take the same lock with flock(1)."""
    lock = pathlib.Path("/tmp/measuring.lock")
    # That of another user can only be read.
    if not lock.exists():
        lock.touch()
    descriptor = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def describe():
    """The machine in a line, for the tables."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    system = output(["findmnt", "-no", "FSTYPE", "-T", WORK]).strip()
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, {system}"

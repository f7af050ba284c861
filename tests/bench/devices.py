"""Devices with a new file system, and what reaches them: writes, octets, erase blocks.

A loop device has requests, and an erase block of 128 KiB counts as often as something in it is written between two flushes, as
a simple chip without a cache of its own would have to erase it. Bare flash (MTD) is emulated in memory by modules of the
kernel; there the writes and erasures are those that the file system asks for."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import time

import machine
from machine import WORK, flush, output

MIB = 1024 * 1024
ERASE_BLOCK = 128 * 1024
SECTOR = 512
TRACING = pathlib.Path("/sys/kernel/tracing")
REQUEST = re.compile(r"block_rq_issue: \d+,\d+ (\S+) \d+ \(.*?\) (\d+) \+ (\d+)")
MTD_WRITE = re.compile(r" pillarbox_write: .* octets=(\d+)")
MTD_ERASE = re.compile(r" pillarbox_erase: ")
LOST = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+)")


class Device:
    """A new file system that is mounted where the store `flash` is. Each class makes its kind of device, and counts there."""

    # Modules that the kernel must have besides the file system.
    MODULES = []
    # What the tables say of the device behind the name of the file system, and what the third figure counts.
    NAME, BLOCKS = "", "erase blocks"

    def __init__(self, kind, system, make):
        self.kind, self.system, self.command, self.mounts = kind, system, make, []
        self.place = self.store = WORK / "flash"
        self.trace = TRACING / "instances/pillarbox-bench"

    def make(self):
        """Makes the device and the file system. The result is what mount calls it."""
        raise NotImplementedError

    def remove(self):
        raise NotImplementedError

    def begin(self):
        """Begins to trace."""
        raise NotImplementedError

    def end(self):
        raise NotImplementedError

    def reset(self):
        """Counts from here on."""
        with contextlib.suppress(OSError):
            (self.trace / "trace").write_text("")

    def counted(self):
        """Writes, octets, erase blocks."""
        raise NotImplementedError

    def __enter__(self):
        if self.command and not shutil.which(self.command[0]):
            raise RuntimeError(f"{self.command[0]} is not installed")
        try:
            self.mount(["-t", self.system, "-o", "noatime", self.make()], self.place)
            if self.kind.startswith("overlay"):
                self.store = WORK / "flash.overlay"
                lower = WORK / "flash.lower"
                for directory in (lower, self.place / "upper", self.place / "work"):
                    directory.mkdir(exist_ok=True)
                layers = f"lowerdir={lower},upperdir={self.place}/upper,workdir={self.place}/work"
                self.mount(["-t", "overlay", "-o", layers, "overlay"], self.store)
            machine.STORES["flash"] = self.store
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.trace.exists():
            self.end()
            self.trace.rmdir()
        for place in reversed(self.mounts):
            output(["umount", "-l", place])
        self.remove()

    def mount(self, words, place):
        place.mkdir(parents=True, exist_ok=True)
        output(["mount", *words, place])
        self.mounts.append(place)

    def traced(self):
        text = (self.trace / "trace").read_text()
        if (found := LOST.search(text)) and found[1] != found[2]:
            raise RuntimeError("the kernel's trace has overflown")
        return text

    def count(self, act, times=1):
        """What each time costs, the file system synced after it."""
        # Twice: ubifs may have something left to commit after a commit.
        for _ in range(2):
            flush(self.store)
            time.sleep(0.2)
        self.reset()
        for _ in range(times):
            act()
            flush(self.store)
        return [figure and figure / times for figure in self.counted()]


class Loop(Device):
    """A loop device. Its requests and octets are the kernel's own count."""

    loop = None
    image = WORK / "flash.image"

    def make(self):
        with open(self.image, "wb") as file:
            file.truncate(256 * MIB)
        output([*self.command, self.image])
        # It is a part of the kernel, or a module that nobody has asked for yet.
        modprobe("loop")
        self.loop = pathlib.Path(output(["losetup", "--find", "--show", self.image]).strip())
        return self.loop

    def remove(self):
        if self.loop:
            output(["losetup", "--detach", self.loop])
        self.image.unlink(missing_ok=True)

    def begin(self):
        """Traces this device alone; without a trace no erase blocks are counted."""
        with contextlib.suppress(OSError):
            self.trace.mkdir(exist_ok=True)
            number = os.stat(self.loop).st_rdev
            event = self.trace / "events/block/block_rq_issue"
            # The kernel's own form of a device number.
            (event / "filter").write_text(f"dev == {os.major(number) << 20 | os.minor(number)}")
            (event / "enable").write_text("1")

    def end(self):
        (self.trace / "events/block/block_rq_issue/enable").write_text("0")

    def reset(self):
        super().reset()
        self.before = self.written()

    def written(self):
        numbers = list(map(int, pathlib.Path(f"/sys/block/{self.loop.name}/stat").read_text().split()))
        return numbers[4], numbers[6] * SECTOR

    def counted(self):
        return [*(new - old for new, old in zip(self.written(), self.before)), self.blocks()]

    def blocks(self):
        if not self.trace.exists():
            return None
        count, seen = 0, set()
        for kinds, start, sectors in REQUEST.findall(self.traced()):
            if kinds.startswith("F"):
                count, seen = count + len(seen), set()
            if "W" in kinds and int(sectors):
                first, last = int(start), int(start) + int(sectors) - 1
                blocks = [sector * SECTOR // ERASE_BLOCK for sector in (first, last)]
                seen.update(range(blocks[0], blocks[1] + 1))
        return count + len(seen)


class Mtd(Device):
    """Bare flash. Probes at the entries of the kernel's functions see each write and each erasure."""

    BLOCKS = "erasures"
    # The module that emulates the chip, with its parameters, and the start of the chip's name.
    CHIP, LABEL = [], ""
    # The function that every write goes through; its arguments are (mtd, offset, octets, …).
    WRITE = "mtd_write"

    def make(self):
        output(["modprobe", *self.CHIP])
        chips = pathlib.Path("/proc/mtd").read_text()
        return "mtd" + re.search(rf'^mtd(\d+): .*"{self.LABEL}', chips, re.M)[1]

    def remove(self):
        subprocess.run(["modprobe", "-r", self.CHIP[0]], check=False)

    def begin(self):
        probes = f"p:pillarbox_write {self.WRITE} octets=$arg3:u64\np:pillarbox_erase mtd_erase\n"
        (TRACING / "kprobe_events").write_text(probes)
        self.trace.mkdir(exist_ok=True)
        (self.trace / "events/kprobes/enable").write_text("1")

    def end(self):
        (self.trace / "events/kprobes/enable").write_text("0")
        (TRACING / "kprobe_events").write_text("")

    def counted(self):
        text = self.traced()
        octets = list(map(int, MTD_WRITE.findall(text)))
        return [len(octets), sum(octets), len(MTD_ERASE.findall(text))]


class Nand(Mtd):
    """A NAND chip of 256 MiB with pages of 2 KiB, as its id says, and UBI on it."""

    MODULES = ["nandsim", "ubi"]
    CHIP, LABEL = ["nandsim", "id_bytes=0x20,0xaa,0x00,0x15"], "NAND simulator"
    NAME = " on emulated NAND"

    def make(self):
        number = super().make().removeprefix("mtd")
        output(["modprobe", "ubi"])
        output(["ubiattach", "-d", "0", "-m", number])
        output(["ubimkvol", "/dev/ubi0", "-N", "flash", "-m"])
        return "ubi0_0"

    def remove(self):
        if pathlib.Path("/dev/ubi0").exists():
            output(["ubidetach", "-d", "0"])
        super().remove()


class Nor(Mtd):
    """A NOR chip of 32 MiB, in which each octet can be written for itself."""

    MODULES = ["mtdram"]
    CHIP, LABEL = ["mtdram", "total_size=32768", "erase_size=128"], "mtdram"
    NAME = " on emulated NOR"
    # That of the chip's driver: jffs2 writes by mtd_writev, into which the compiler may have put mtd_write.
    WRITE = "ram_write"


EXT4 = ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
# The device, the file system, and what makes it; an overlay lies on ext4.
KINDS = {
    "ext4": (Loop, "ext4", EXT4),
    "ext4, fast_commit": (Loop, "ext4", [*EXT4, "-O", "fast_commit"]),
    "ext4 without a journal": (Loop, "ext4", [*EXT4, "-O", "^has_journal"]),
    "overlay on ext4": (Loop, "ext4", EXT4),
    "f2fs": (Loop, "f2fs", ["mkfs.f2fs", "-q", "-f"]),
    "btrfs": (Loop, "btrfs", ["mkfs.btrfs", "-q", "-f"]),
    "ubifs": (Nand, "ubifs", ["ubimkvol"]),
    "jffs2": (Nor, "jffs2", []),
}


def modprobe(*words):
    """Whether it succeeds; False without modprobe."""
    try:
        return not subprocess.run(["modprobe", "-q", *words], check=False).returncode
    except FileNotFoundError:
        return False


def lack(kind):
    """What this kernel has not, and such a device needs."""
    device, system, _ = KINDS[kind]
    modprobe(system)
    if system not in pathlib.Path("/proc/filesystems").read_text().split():
        return system
    return next((module for module in device.MODULES if not modprobe("-n", module)), None)


@contextlib.contextmanager
def device(kind):
    if lacking := lack(kind):
        raise RuntimeError(f"this kernel has no {lacking}")
    made, *rest = KINDS[kind]
    with made(kind, *rest) as it:
        yield it

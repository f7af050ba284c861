"""What is made once, below target/bench/: the tools, and a Debian root for each peer.

debootstrap makes one Debian; each peer has a copy, with its packages, the users of the bench and no DNS. No service is
started while packages are installed."""

import os
import platform
import shutil
import socket

from machine import TOOLS, TOP, WORK, output, say
from peers import FIRST_UID, USERS

SOURCES = TOP / "tests/bench/tools"
BASE = WORK / "base"
HOSTS = "127.0.0.1 localhost mx.bench.test mx sink.test {}\n".format(socket.gethostname())
NAMES = "".join(f"{table}: files\n" for table in ("passwd", "group", "shadow", "hosts", "services", "protocols"))


def make_tools():
    TOOLS.mkdir(parents=True, exist_ok=True)
    for source in SOURCES.glob("*.c"):
        tool = TOOLS / source.stem
        if not tool.exists() or tool.stat().st_mtime < max(
            path.stat().st_mtime for path in (source, SOURCES / "sink.h")
        ):
            output(["cc", "-O2", "-Wall", "-Wextra", "-static", "-pthread", "-o", tool, source])


def root(peer):
    """The root of a peer; builds of pillarbox share one."""
    return WORK / "roots" / ("pillarbox" if peer.binary else peer.name)


def chroot(directory, *command):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    return output(["chroot", directory, *command], env=environment)


def make_base():
    if (BASE / "home/.done").exists():
        return
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    mirror = os.environ.get("MIRROR", "http://deb.debian.org/debian")
    say(f"debootstrap makes a Debian {codename} in {BASE}, once")
    WORK.mkdir(parents=True, exist_ok=True)
    # The openssl package brings the libraries that pillarbox was built with.
    output(["debootstrap", "--variant=minbase", "--include=ca-certificates,openssl", codename, BASE, mirror])
    policy = BASE / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    for number in range(USERS):
        name = f"user{number + 1}"
        chroot(BASE, "useradd", "-M", "-u", str(FIRST_UID + number), "-U", "-s", "/bin/sh", "-d", f"/home/{name}", name)
    for directory in ("tools", "shared", "home"):
        (BASE / directory).mkdir(exist_ok=True)
    (BASE / "home/.done").touch()


def make_root(peer):
    place = root(peer)
    if not (place / "etc/.done").exists():
        say(f"installs {' '.join(peer.packages) or peer.name} in {place}")
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        output(["cp", "-a", BASE, place])
        shutil.copy("/etc/resolv.conf", place / "etc/resolv.conf")
        (place / "etc/mailname").write_text("mx.bench.test\n")
        (place / "etc/hosts").write_text(HOSTS)
        if peer.packages:
            chroot(place, "apt-get", "update", "-qq")
            chroot(place, "apt-get", "install", "-qy", "--no-install-recommends", *peer.packages)
        # While measuring nothing may wait for a name server.
        (place / "etc/nsswitch.conf").write_text(NAMES)
        (place / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        (place / "etc/.done").touch()
    for path, text in peer.files.items():
        file = place / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for directory in peer.spool:
        (place / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for command in peer.commands:
        chroot(place, "sh", "-c", command)

"""What mail costs flash: writes, octets and erase blocks that reach a device, for each piece of work, by file system."""

import contextlib
import os
import pathlib
import platform
import shutil
import socket
import struct
import threading
import time

import machine
from devices import KINDS
from load import LOCAL, REMOTE, Sink, send_each
from machine import TOOLS, TOP, output
from peers import SINK_PORT

TIMES = 10
# Where mail lies first with queue.storage = "memory-first".
MEMORY = pathlib.Path(f"/dev/shm/pillarbox-bench-queue-{os.getuid()}")
CLONE_NEWNET = 0x40000000


def settle(box):
    """Until no worker is left: the last one syncs what was removed."""
    pids = box.pids()
    box.wait_for(lambda: not any("worker" in names(pid) for pid in pids), 60, "end of its workers")


def names(pid):
    """Of the threads of a process."""
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            found.append(path.read_text().strip())
    return found


def clock(box, seconds):
    """Moves the clocks of a box that was started with them."""
    with open(box.shared / "clock", "r+b" if (box.shared / "clock").exists() else "wb") as file:
        file.write(struct.pack("=qq", seconds, seconds))


def clocked(box):
    """The words in front of a program whose clocks can be moved."""
    library = TOOLS / "clock.so"
    output(["cc", "-O1", "-shared", "-fPIC", "-o", library, TOP / "tests/tools/clock.c", "-ldl"])
    clock(box, 0)
    return ["/usr/bin/env", f"LD_PRELOAD={library}", f"TEST_CLOCK={box.shared}/clock", "TEST_NAPS=1"]


def restart(box, before=()):
    box.kill()
    box.open()
    box.before = clocked(box) if before == "clock" else list(before)
    box.start()
    box.settle()


def stop(box):
    """Stops it as a service manager does."""
    for pid in box.pids():
        os.kill(pid, 15)
    box.starter.wait(30)


def hour(box, device, each=lambda minute: None):
    """An hour of a daemon, by its clocks."""

    def pass_by():
        for minute in range(1, 61):
            hour.seconds += 60
            clock(box, hour.seconds)
            time.sleep(0.12)
            each(minute)

    return device.count(pass_by)


@contextlib.contextmanager
def memory_first(box):
    """The box with `queue.storage = "memory-first"`; False for a build that does not know it."""
    text = box.config.read_text()
    box.config.write_text(f'queue.storage = "memory-first"\nqueue.memory = "{MEMORY}"\n{text}')
    try:
        restart(box)
        knows = True
    except RuntimeError:
        knows = False
    yield knows
    box.config.write_text(text)
    restart(box)
    shutil.rmtree(MEMORY, ignore_errors=True)


class Busy:
    """A next hop that answers 451 to every recipient."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", SINK_PORT))
        self.server = threading.Thread(target=self.serve, daemon=True)
        self.server.start()

    def __exit__(self, *_):
        # A thread in accept would hold the port.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.server.join()
        self.listener.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client):
        with client, client.makefile("rb") as lines:
            client.sendall(b"220 busy.test\r\n")
            for line in lines:
                verb = line[:4].upper()
                client.sendall({b"RCPT": b"451 4.3.0 later\r\n", b"DATA": b"503 no\r\n"}.get(verb, b"250 ok\r\n"))
                if verb == b"QUIT":
                    break


def costs(box, device):
    """Each piece of work with what it costs: requests, octets, erase blocks."""
    row = {}
    box.start()
    box.settle()

    def local():
        # It is there before the reply.
        send_each(1, LOCAL[0])

    def relay(sink):
        before = sink.get(Sink.MESSAGES)
        send_each(1, REMOTE[0])
        sink.wait(before + 1)
        settle(box)

    with Sink() as sink:
        local()
        relay(sink)
        row["maildir"] = device.count(local, TIMES)
        row["relay"] = device.count(lambda: relay(sink), TIMES)
        # Standard error goes to a file on the device.
        restart(box, ["/bin/sh", "-c", f'exec "$0" "$@" 2>>{box.state}/log'])
        relay(sink)
        row["log"] = device.count(lambda: relay(sink), TIMES)
        restart(box)

    def attempt():
        box.run(["/usr/sbin/pillarbox", "queue", "flush"])
        settle(box)

    # The hop pauses after the first message, so the others are not tried by themselves.
    row["deferred"] = device.count(lambda: (send_each(1, REMOTE[0]), settle(box)), TIMES)
    for file in (box.state / "spool/queue").iterdir():
        box.run(["/usr/sbin/pillarbox", "queue", "remove", file.name])
    send_each(1, REMOTE[0])
    settle(box)
    row["unreachable"] = device.count(attempt, TIMES)
    with Busy():
        row["attempt"] = device.count(attempt, TIMES)
    with Sink() as sink:
        attempt()
        sink.wait(1)
        with memory_first(box) as is_known:
            if is_known:
                relay(sink)
                row["memory"] = device.count(lambda: relay(sink), TIMES)
    restart(box, "clock")
    hour.seconds = 0
    with Sink() as sink:
        local()
        relay(sink)
        hour(box, device)
        row["idle"] = hour(box, device)

        def alert(minute):
            if minute % 5 == 0:
                relay(sink)

        row["alerts"] = hour(box, device, alert)
    send_each(1, REMOTE[0])
    settle(box)
    hour(box, device)
    row["waiting"] = hour(box, device)
    row["stop"] = device.count(lambda: stop(box))
    return {"costs": row}


def leave_network():
    """Takes a loopback of its own: here other work goes on, and no client of that may find the ports."""
    if machine.LIBC.unshare(CLONE_NEWNET):
        raise RuntimeError("flash needs root, for loop devices and a network of its own")
    output(["ip", "link", "set", "lo", "up"])


def origin(kind):
    """What the tables have to say of a device."""
    device = KINDS[kind][0]
    is_virtual = "QEMU" in machine.describe()
    return {"device": device.NAME, "blocks": device.BLOCKS, "kernel": platform.release() if is_virtual else None}

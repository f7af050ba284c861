"""The main table: messages a second into Maildirs and to the next hop, calls of sendmail, starts, a queue that drains, memory.

A row of the table is one amount of work. In each round its limit is measured first, then each peer; the order rotates.
"""

import time

import machine
from box import Box
from load import KIB, LOCAL, MIB, REMOTE, Arrivals, Client, Sink, Source, limit
from machine import median, now

CRON = (
    "From: user1@bench.test (Cron Daemon)\nTo: user1@remote.test\nSubject: Cron <user1@mx> run-parts\n\n"
    + ("x" * 70 + "\n") * 12
)

# Store, size, sessions, whether a session keeps its connection.
INBOUND = [
    ("disk", KIB, 1, True),
    ("disk", KIB, 1, False),
    ("disk", KIB, 8, True),
    ("disk", KIB, 64, True),
    ("disk", KIB, 64, False),
    ("disk", MIB, 8, True),
    ("disk", MIB, 64, True),
    ("tmpfs", KIB, 1, True),
    ("tmpfs", KIB, 64, True),
    ("tmpfs", MIB, 8, True),
]
RELAY = [("disk", KIB, 1, True), ("disk", KIB, 16, True), ("tmpfs", KIB, 1, True), ("tmpfs", KIB, 16, True)]


def count(size, sessions):
    return {1: 40, 8: 96}.get(sessions, 128) if size >= MIB else {1: 500, 8: 2000}.get(sessions, 2500)


def inbound(box, size, sessions, is_kept, while_sending=lambda: None):
    """From SMTP into Maildirs, until the last file is there."""
    box.start()
    box.settle()
    number, warm = count(size, sessions), max(20, 2 * sessions)
    arrivals = Arrivals(warm, box.maildirs())
    Source(warm, KIB, sessions, is_kept, LOCAL).wait()
    arrivals.wait()
    for directory in box.maildirs():
        for file in directory.iterdir():
            file.unlink()
    machine.flush(box.state)
    arrivals, cpu, start = Arrivals(number, box.maildirs()), box.cpu(), now()
    source = Source(number, size, sessions, is_kept, LOCAL)
    while source.is_sending():
        while_sending()
        time.sleep(0.05)
    source.wait()
    seconds = arrivals.wait() - start
    return {"rate": number / seconds, "cpu": (box.cpu() - cpu) / number}


def relay(box, size, sessions, is_kept):
    """From SMTP to the next hop, until that has all."""
    with Sink() as sink:
        box.start()
        box.settle()
        number, warm = count(size, sessions), max(20, 2 * sessions)
        Source(warm, KIB, sessions, is_kept, REMOTE).wait()
        sink.wait(warm)
        time.sleep(0.1)
        machine.flush(box.state)
        cpu, start = box.cpu(), now()
        source = Source(number, size, sessions, is_kept, REMOTE)
        seconds = sink.wait(warm + number) - start
        source.wait()
        time.sleep(0.05)
        return {"rate": number / seconds, "cpu": (box.cpu() - cpu) / number}


def sendmail(box, calls=40):
    """`sendmail -t` as cron calls it: one after the other until each has arrived, then back to back for the processor time of
    the call and of all that it set off."""
    with Sink(box.shared) as sink:
        box.start()
        box.settle()
        (box.shared / "message").write_text(CRON)
        user = 0 if box.is_bare else 2001

        def call(number, until):
            command = ["/tools/call", number, user, box.inside("message"), until, "/usr/sbin/sendmail", "-t"]
            lines = [tuple(map(int, line.split())) for line in box.run(command).splitlines()]
            if len(lines) != number or any(line[3] for line in lines):
                raise RuntimeError(f"{box.peer.name}: a call of sendmail failed: {lines[:3]}")
            return lines

        call(3, box.inside("sink"))
        lines = call(calls, box.inside("sink"))
        cpu, before = box.cpu(), sink.get(Sink.MESSAGES)
        call(calls, "-")
        sink.wait(before + calls)
        time.sleep(0.3)
        return {
            "call": median([line[0] for line in lines]) / 1e6,
            "call_cpu": median([line[1] for line in lines]) / 1e6,
            "arrival": median([line[2] for line in lines]) / 1e6,
            # Without cgroups the calls, which have ended, are not in it.
            "cpu": (box.cpu() - cpu) / calls if box.group else None,
        }


def start(box, times=5):
    """exec to 220, and the processor time of it; the first start, which makes what is kept, does not count."""
    box.start()
    box.settle()
    taken, used = [], []
    for _ in range(times):
        box.kill()
        box.open()
        cpu = box.cpu()
        taken.append(box.start())
        time.sleep(0.2)
        used.append(box.cpu() - cpu)
    return {"start": median(taken), "cpu": median(used) if box.group else None}


def memory(box):
    """Idle, and with 100 connections."""
    box.start()
    box.settle()
    arrivals = Arrivals(1, box.maildirs())
    client = Client()
    client.send([LOCAL[0]])
    client.quit()
    arrivals.wait()
    time.sleep(0.5)
    idle = box.memory()
    clients = [Client() for _ in range(100)]
    time.sleep(0.2)
    full = box.memory()
    for client in clients:
        client.quit()
    return {"idle": idle["rss"], "idle_pss": idle["pss"], "connections": full["rss"], "connections_pss": full["pss"]}


def peak(box, size):
    """The most memory while 64 sessions send."""
    seen = {}

    def look():
        for key, value in box.memory().items():
            seen[key] = max(seen.get(key) or 0, value or 0) or None

    inbound(box, size, 64, True, look)
    return {"peak": seen["rss"], "peak_pss": seen["pss"]}


def queue(box, number, patience=60):
    """Mail that waits for a next hop that is down; then a kill, a restart, the next hop is back, a flush."""
    box.start()
    box.settle()
    idle = box.memory()
    start = now()
    Source(number, KIB, 16, True, REMOTE).wait()
    taken = now() - start
    box.settle()
    full, queued = box.memory(), box.queued()
    box.kill()
    machine.flush(box.state)
    box.open()
    row = {"queued": queued, "accepted": number / taken, "restart": box.start()}
    box.settle()
    row |= {
        # What it does behind the greeting is in it.
        "restart_cpu": box.cpu(),
        "octets": (box.memory()["rss"] - idle["rss"]) / number,
        "octets_full": (full["rss"] - idle["rss"]) / number,
        "idle": idle["rss"],
    }
    if box.peer.binary:
        begin = now()
        listed = len(box.run(["/usr/sbin/pillarbox", "queue"]).splitlines())
        row |= {"list": now() - begin, "listed": listed}
    with Sink() as sink:
        cpu, begin = box.cpu(), now()
        flush = box.popen(box.peer.flush, stdout=-3, stderr=-3)
        if box.peer.binary:
            flush.wait()
            row["flush"] = now() - begin
        row["drained"] = number / (sink.wait(number, patience) - begin)
        row["drain_cpu"] = (box.cpu() - cpu) / number
        flush.kill()
        flush.wait()
    return row


def rate_rows(stores):
    for function, rows in ((inbound, INBOUND), (relay, RELAY)):
        for store, *work in rows:
            if store in stores:
                yield function.__name__, {"store": store} | dict(
                    zip(("size", "sessions", "kept"), work)
                ), function, work


def main_rows(stores, number):
    """What the main table measures in a round: scenario, parameters, and a function of a box with its arguments. The order is
    that of the table. The rows that vary little or take long are in the first round only."""
    yield from rate_rows(stores)
    yield "sendmail", {}, sendmail, ()
    yield "start", {}, start, ()
    yield "peak", {"size": KIB}, peak, (KIB,)
    yield "peak", {"size": MIB}, peak, (MIB,)
    if number == 0:
        yield "memory", {}, memory, ()
        yield "queue", {"n": 10_000}, queue, (10_000,)


def slow_rows():
    """What is measured on one core, too."""
    for scenario, parameters, function, work in rate_rows(["disk"]):
        if parameters["size"] == KIB and parameters["sessions"] in (1, 8, 16) and parameters["kept"]:
            yield scenario, parameters, function, work


def row_limit(scenario, parameters):
    if scenario in ("inbound", "relay"):
        return limit(parameters["store"], parameters["size"], parameters["sessions"], parameters["kept"])
    return None

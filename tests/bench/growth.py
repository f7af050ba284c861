"""Cost that grows: the same work with a thousand times more of something. Each function returns costs by name, in seconds or
octets; none may grow faster than what it grows with."""

import time

from load import KIB, LOCAL, REMOTE, Client, Sink, Source
from machine import WORK, flush, now
from peers import USERS
from rates import queue


def queued(box, size):
    """Deferred messages: a restart, a list, a flush, a drain, and the memory for all of them."""
    row = queue(box, size)
    if row["listed"] < size:
        raise RuntimeError(f"{row['listed']} of {size} messages are listed")
    return {
        "restart": row["restart"],
        "processor of the restart": row["restart_cpu"],
        "list": row["list"],
        "flush": row["flush"],
        "drain": size / row["drained"],
        "memory": row["octets"] * size,
        "memory before the restart": row["octets_full"] * size,
    }


def sessions(box, size):
    """Sixteen messages from each of so many clients at once."""
    box.start()
    box.settle()
    number = 16 * size
    Source(size, KIB, size, True, LOCAL).wait()
    flush(box.state)
    idle = box.memory()["rss"]
    most, cpu, start = idle, box.cpu(), now()
    source = Source(number, KIB, size, True, LOCAL)
    while source.is_sending():
        most = max(most, box.memory()["rss"])
        time.sleep(0.02)
    source.wait()
    return {"until all are sent": now() - start, "processor": box.cpu() - cpu, "memory": max(most - idle, 4096)}


def recipients(box, size):
    """One message for so many recipients, of this host and of another."""
    with Sink() as sink:
        box.start()
        box.settle()
        client = Client()
        client.send(LOCAL[:1])
        start = now()
        client.send([f"r{number}@bench.test" for number in range(size)])
        local = now() - start
        start = now()
        client.send([f"r{number}@remote.test" for number in range(size)])
        for _ in range(60_000):
            if sink.get(Sink.RECIPIENTS) >= size and box.queued() == 0:
                break
            time.sleep(0.001)
        else:
            raise RuntimeError(f"the sink has {sink.get(Sink.RECIPIENTS)} of {size} recipients")
        return {"local": local, "relay": now() - start}


def aliases_file(size):
    """Aliases of one name each, and one of everybody."""
    path = WORK / f"run/aliases.{size}"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"alias{number}: user{number % USERS + 1}" for number in range(size)]
    everybody = ", ".join(f"alias{number}" for number in range(size))
    path.write_text("\n".join([*lines, f"everybody: {everybody}", ""]))
    return {"local.aliases": str(path)}


def aliases(box, size):
    """A start with so many aliases, the memory for them, 200 messages to the last one, and one to all."""
    start = box.start()
    box.settle()
    client = Client()
    client.send([f"alias{size - 1}@bench.test"])
    memory, begin = box.memory()["rss"], now()
    for _ in range(200):
        client.send([f"alias{size - 1}@bench.test"])
    one = now() - begin
    begin = now()
    client.send(["everybody@bench.test"])
    return {"start": start, "memory": memory, "200 messages": one, "a message to all": now() - begin}


def maildir(box, size):
    """A hundred messages into a Maildir that holds so many already."""
    place = box.maildirs()[0].parent / "cur"
    for number in range(size):
        (place / f"{number}.old:2,S").touch()
    flush(box.state)
    box.start()
    box.settle()
    client = Client()
    client.send(LOCAL[:1])
    begin = now()
    for _ in range(100):
        client.send(LOCAL[:1])
    return {"100 messages" + (" with a quota" if "local.quota" in box.keys else ""): now() - begin}


def header(box, size):
    """Messages whose header section has so many octets: of many fields, and of one folded field; ten of each, here and out."""
    many = b"".join(b"X-Field-%d: %s\r\n" % (number, b"x" * 60) for number in range(max(1, size // 80)))
    folded = b"X-Field: x\r\n" + b" " + b"\r\n ".join([b"x" * 70] * max(1, size // 73)) + b"\r\n"
    row = {}
    with Sink() as sink:
        box.start()
        box.settle()
        client = Client()
        client.send(LOCAL[:1])
        for name, text in (("fields", many), ("one field", folded)):
            begin = now()
            for _ in range(10):
                client.send(LOCAL[:1], text)
            row[f"{name}, local"] = now() - begin
            before, begin = sink.get(Sink.MESSAGES), now()
            for _ in range(10):
                client.send(REMOTE[:1], text)
            row[f"{name}, relay"] = sink.wait(before + 10) - begin
    return row


def no_keys(_):
    return {}


# What grows, the store, the keys of the configuration for a size, the sizes, and what is measured. Where a device is not the
# point, the mail lies on tmpfs.
SERIES = [
    ("queued messages", "disk", no_keys, (1000, 10_000, 100_000), queued),
    ("sessions", "tmpfs", no_keys, (1, 4, 16, 64, 256), sessions),
    ("recipients", "tmpfs", lambda _: {"limits.recipients": 10_000}, (1, 10, 100, 1000, 10_000), recipients),
    ("aliases", "tmpfs", aliases_file, (10, 100, 1000, 10_000), aliases),
    ("messages in the Maildir", "disk", no_keys, (1, 1000, 10_000, 100_000), maildir),
    ("messages in the Maildir", "disk", lambda _: {"local.quota": 1 << 40}, (1, 1000, 10_000, 100_000), maildir),
    ("octets of the header section", "tmpfs", no_keys, (1024, 16 * 1024, 128 * 1024, 1024 * 1024), header),
]

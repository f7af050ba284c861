"""The traffic: Postfix's smtp-source, a client of our own, the sink, and what waits for files in Maildirs."""

import mmap
import os
import socket
import struct
import subprocess
import time

from machine import STORES, TOOLS, WORK, die_with_parent, now, output
from peers import PORT, SINK_PORT, USERS

KIB, MIB = 1024, 1024 * 1024
LOCAL = [f"user{number + 1}@bench.test" for number in range(USERS)]
REMOTE = [f"user{number + 1}@remote.test" for number in range(USERS)]


class Source:
    """Messages by smtp-source, one process for each recipient, at most eight. `is_kept`: a session sends all its messages
    on one connection, else each has a connection."""

    def __init__(self, count, size, sessions, is_kept, recipients, port=PORT):
        processes = {1: 1, 8: 4}.get(sessions, min(8, sessions))
        self.children = []
        for number in range(processes):
            share, width = ((total + processes - 1 - number) // processes for total in (count, sessions))
            if share:
                command = [
                    "smtp-source",
                    "-s",
                    min(width, share) or 1,
                    "-m",
                    share,
                    "-l",
                    size,
                    "-f",
                    "sender@load.test",
                    "-t",
                    recipients[number % len(recipients)],
                    "-M",
                    "load.test",
                    *(["-d"] if is_kept else []),
                    f"127.0.0.1:{port}",
                ]
                self.children.append(
                    subprocess.Popen(
                        [str(word) for word in command],
                        text=True,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        preexec_fn=die_with_parent,
                    )
                )

    def is_sending(self):
        return not all(isinstance(child.poll(), int) for child in self.children)

    def wait(self):
        """Until all is sent; an error of any is raised."""
        for child in self.children:
            text, _ = child.communicate(timeout=600)
            if child.returncode or text.strip():
                raise RuntimeError(f"smtp-source: exit code {child.returncode}: {text.strip()[:300]}")


class Arrivals:
    """Waits for files in Maildirs; made before the mail is sent."""

    def __init__(self, count, directories, patience=20):
        self.count = count
        self.child = subprocess.Popen(
            [TOOLS / "arrive", str(count), str(patience), *directories],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.child.stdout.readline()

    def wait(self):
        """The time of the last one. Fewer or more files than expected are an error."""
        last, listed = map(int, self.child.communicate()[0].split())
        if listed != self.count:
            raise RuntimeError(f"{listed} of {self.count} messages arrived")
        return last / 1e9


class Sink:
    """The next hop. Its counters are those of tools/sink.h."""

    MESSAGES, SESSIONS, FIRST, LAST, RECIPIENTS, ARRIVALS, KEPT = 0, 1, 2, 3, 4, 8, 65536

    def __init__(self, directory=WORK / "run"):
        directory.mkdir(parents=True, exist_ok=True)
        self.file = directory / "sink"
        with open(self.file, "wb+") as file:
            file.truncate((self.ARRIVALS + self.KEPT) * 8)
            self.memory = mmap.mmap(file.fileno(), 0)
        self.file.chmod(0o666)
        self.child = None

    def __enter__(self):
        self.child = subprocess.Popen([TOOLS / "sink", str(SINK_PORT), self.file], preexec_fn=die_with_parent)
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", SINK_PORT), 1).close()
                return self
            except OSError:
                time.sleep(0.005)
        raise RuntimeError("the sink does not start")

    def __exit__(self, *_):
        if self.child:
            self.child.kill()
            self.child.wait()

    def get(self, number):
        return struct.unpack_from("<Q", self.memory, number * 8)[0]

    def wait(self, count, patience=20):
        """Until so many messages are there in all: the time of the last one."""
        seen, since = -1, now()
        while (messages := self.get(self.MESSAGES)) < count:
            if messages != seen:
                seen, since = messages, now()
            elif now() - since > patience:
                raise RuntimeError(f"the sink has {seen} of {count} messages")
            time.sleep(0.002)
        return self.get(self.LAST) / 1e9


class Client:
    """A connection for single messages."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), 300)
        self.replies = self.socket.makefile("rb")
        self.reply(2)
        self.command("EHLO load.test")

    def reply(self, code):
        while True:
            line = self.replies.readline()
            if line[3:4] != b"-":
                break
        if line[:1] != b"%d" % code:
            raise RuntimeError(f"{code}yz expected: {line.decode(errors='replace').strip() or 'closed'}")

    def command(self, text, code=2):
        self.socket.sendall(text.encode() + b"\r\n")
        self.reply(code)

    def send(self, recipients, header=b"Subject: bench\r\n", body=b"x" * 70 + b"\r\n"):
        """A message; the recipients are pipelined, a hundred at a time."""
        self.command("MAIL FROM:<sender@load.test>")
        for start in range(0, len(recipients), 100):
            some = recipients[start : start + 100]
            self.socket.sendall("".join(f"RCPT TO:<{recipient}>\r\n" for recipient in some).encode())
            for _ in some:
                self.reply(2)
        self.command("DATA", 3)
        self.socket.sendall(
            b"From: <sender@load.test>\r\nTo: <a@bench.test>\r\nDate: Mon, 30 Nov 2026 00:00:00 +0000\r\n"
            + header
            + b"\r\n"
            + body
            + b".\r\n"
        )
        self.reply(2)

    def quit(self):
        self.command("QUIT")
        self.socket.close()


def send_each(count, recipient, size=KIB):
    """Messages one after the other, with a connection each."""
    for _ in range(count):
        client = Client()
        client.send([recipient], body=(b"x" * 70 + b"\r\n") * max(1, (size - 140) // 72))
        client.quit()


def durable_rate(store, size, threads, seconds=0.5):
    """How often a second this store makes a file of that size durable, with one sync for each."""
    place = STORES[store] / "durable"
    place.mkdir(parents=True, exist_ok=True)
    try:
        return float(output([TOOLS / "durable", place, size, threads, seconds]))
    finally:
        output(["rm", "-rf", place])


def dialogue_rate(count, size, sessions, is_kept):
    """Messages a second from smtp-source to the sink, with no peer between."""
    with Sink() as sink:
        start = now()
        source = Source(count, size, sessions, is_kept, REMOTE, SINK_PORT)
        last = sink.wait(count)
        source.wait()
        return count / (last - start)


def limit(store, size, sessions, is_kept):
    """What no peer that syncs each message by itself can exceed here and now. One session pays for the dialogue and then for the
    sync; of more sessions the slower of the two binds."""
    few = size >= MIB
    durable = durable_rate(store, size, 1 if sessions == 1 else 8)
    dialogue = dialogue_rate(
        {1: 40}.get(sessions, 128) if few else {1: 600}.get(sessions, 2500), size, sessions, is_kept
    )
    return 1 / (1 / durable + 1 / dialogue) if sessions == 1 else min(durable, dialogue)

"""What mail costs beside time: system calls, syncs and octets a message, the wake-ups of an idle daemon, and instructions."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from load import KIB, LOCAL, REMOTE, Arrivals, Sink, Source, send_each
from machine import TOOLS, WORK, die_with_parent, flush, now
from rates import CRON

SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs")
CALL = re.compile(r"^(?:\d+ +)?([a-z_0-9]+)\(")


def traced(box, act):
    """The system calls of all processes while something is done, by name."""
    trace = WORK / "run/trace"
    attached = [word for pid in box.pids() for word in ("-p", str(pid))]
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", trace, *attached], stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    time.sleep(1)
    act()
    time.sleep(0.3)
    strace.send_signal(signal.SIGINT)
    strace.wait()
    calls = {}
    for line in trace.read_text(errors="replace").splitlines():
        if found := CALL.match(line):
            calls[found[1]] = calls.get(found[1], 0) + 1
    return calls


def written(box):
    """Octets that its processes have given to the system, and those that the file systems have to write."""
    octets = [0, 0]
    for pid in box.pids():
        with contextlib.suppress(OSError):
            lines = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
            octets = [octets[0] + int(lines["wchar"]), octets[1] + int(lines["write_bytes"])]
    return octets


def deliver(box, sink, count, recipient, sessions=None):
    """Messages with a connection each, by one client or by several at once, until all have arrived."""
    before = sink.get(Sink.MESSAGES)
    arrivals = Arrivals(count, box.maildirs()) if recipient == LOCAL else None
    if sessions:
        Source(count, KIB, sessions, False, recipient).wait()
    else:
        send_each(count, recipient[0])
    if not arrivals:
        sink.wait(before + count)
        return
    arrivals.wait()
    for directory in box.maildirs():
        for file in directory.iterdir():
            file.unlink()


def messages(box):
    """A message with a connection each, into a Maildir and to the next hop; and the syncs that 8 and 64 sessions share."""
    row = {}
    with Sink() as sink:
        box.start()
        box.settle()
        for name, recipient in (("maildir", LOCAL), ("relay", REMOTE)):
            deliver(box, sink, 20, recipient)
            calls = traced(box, lambda: deliver(box, sink, 50, recipient))
            flush(box.state)
            before = written(box)
            deliver(box, sink, 200, recipient)
            time.sleep(0.3)
            given, dirtied = (after - start for after, start in zip(written(box), before))
            row |= {
                f"{name}_calls": sum(calls.values()) / 50,
                f"{name}_syncs": sum(calls.get(call, 0) for call in SYNCS) / 50,
                f"{name}_given": given / 200,
                f"{name}_written": dirtied / 200,
                f"{name}_by_name": {call: n / 50 for call, n in sorted(calls.items(), key=lambda item: -item[1])},
            }
        for sessions in (8, 64):
            calls = traced(box, lambda: deliver(box, sink, 640, LOCAL, sessions))
            row[f"syncs_{sessions}"] = sum(calls.get(call, 0) for call in SYNCS) / 640
    return row


def switches(box):
    """How often threads have gone to sleep of themselves: each is a wake-up, sooner or later."""
    seen = {}
    for pid in box.pids():
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                text = (task / "status").read_text()
                seen[task.name] = (
                    (task / "comm").read_text().strip(),
                    int(re.search(r"\nvoluntary_ctxt_switches:\s*(\d+)", text)[1]),
                )
    return seen


def idle(box, seconds=180):
    """A daemon that has nothing to do, after it has delivered a message; then what it calls when it wakes."""
    with Sink() as sink:
        box.start()
        for recipient in (LOCAL, REMOTE):
            deliver(box, sink, 2, recipient)
    # Until the threads that wait for more work have ended.
    time.sleep(45)
    before, cpu, start = switches(box), box.cpu(), now()
    time.sleep(seconds)
    hours = (now() - start) / 3600
    threads = {}
    for task, (thread, number) in switches(box).items():
        threads[thread] = threads.get(thread, 0) + (number - before.get(task, ("", 0))[1]) / hours
    used = (box.cpu() - cpu) / hours * 24
    calls = traced(box, lambda: time.sleep(seconds / 2))
    return {
        "wakeups": sum(threads.values()),
        "cpu_day": used,
        "threads": {name: n for name, n in threads.items() if n},
        "calls_hour": sum(calls.values()) / (seconds / 2) * 3600,
    }


VALGRIND = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]


def instructions(box):
    """Instructions of a start, of a message into a Maildir and of one to the next hop, and of a call of sendmail: millions
    of processor time alike on every machine, however busy. Of pillarbox, without a root."""
    counts = WORK / "run/instructions"
    valgrind = [shutil.which("valgrind"), *VALGRIND, f"--log-file={counts}.%p"]

    def counted(act):
        for file in counts.parent.glob("instructions.*"):
            file.unlink()
        act()
        texts = [file.read_text() for file in counts.parent.glob("instructions.*")]
        found = [re.search(r"I +refs: +([\d,]+)", text) for text in texts]
        return sum(int(refs[1].replace(",", "")) for refs in found if refs)

    def serve(count, recipient):
        with Sink() as sink:
            box.start()
            if count:
                deliver(box, sink, count, recipient)
            for pid in box.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            box.starter.wait(60)
        box.kill()
        box.open()

    # The first start makes keys, which are kept.
    box.start()
    box.settle()
    box.kill()
    box.open()
    # The daemon's seccomp filter lets no program make code at run time, as valgrind does.
    box.before = [str(TOOLS / "unconfined"), *valgrind]
    row = {"start": counted(lambda: serve(0, LOCAL))}
    for name, recipient in (("maildir", LOCAL), ("relay", REMOTE)):
        few, many = (counted(lambda: serve(count, recipient)) for count in (20, 120))
        row[name] = (many - few) / 100
    (box.shared / "message").write_text(CRON)
    with Sink():
        box.before = []
        box.start()
        # Only the call is counted.
        box.before = valgrind
        command = ["/tools/call", 1, 0, box.inside("message"), "-", "/usr/sbin/sendmail", "-t"]
        row["sendmail"] = counted(lambda: box.run(command))
    return row

"""A running peer: in a root and namespaces of its own, or pillarbox as a plain process where there are no roots."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import machine
from machine import GROUPS, IS_ROOT, STORES, TOOLS, WORK, die_with_parent, now, output
from peers import FIRST_UID, PORT, USERS, pillarbox_config
from roots import root


class Box:
    """A peer on a store. `is_bare`: without a root; pillarbox then takes `keys` of its configuration besides, and has a
    Maildir for every local part. `cores`: the processors that it may use. `before`: words in front of the program's."""

    def __init__(self, peer, store="disk", is_bare=False, keys=None, cores=None, before=()):
        self.peer, self.is_bare, self.cores, self.before = peer, is_bare, cores, list(before)
        self.state = STORES[store] / peer.name
        self.shared = WORK / "run" / peer.name
        self.group = GROUPS / f"pillarbox-bench-{os.getpid()}" if IS_ROOT and GROUPS else None
        self.config = self.state / "pillarbox.toml"
        self.keys = keys or {}
        self.top = self.starter = None

    def __enter__(self):
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(parents=True)
        if self.is_bare:
            places = {
                "user": output(["id", "-un"]).strip(),
                "state": str(self.state / "spool"),
                "local.users": "any",
                "control": str(self.state / "control"),
                "local.maildir": str(self.state / "home/{user}/Maildir"),
            }
            self.config.write_text(pillarbox_config(places=places, keys=self.keys))
        else:
            for number, directory in enumerate(self.peer.spool):
                output(["cp", "-a", str(root(self.peer)) + directory, self.state / str(number)])
        for number in range(USERS):
            home = self.state / f"home/user{number + 1}"
            for directory in (home, home / "Maildir", home / "Maildir/tmp", home / "Maildir/new", home / "Maildir/cur"):
                directory.mkdir(parents=True, mode=0o700)
                if not self.is_bare:
                    os.chown(directory, FIRST_UID + number, FIRST_UID + number)
        machine.flush(self.state)
        self.open()
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.state, ignore_errors=True)

    def open(self):
        """Makes the namespaces, with a process 1; the state stays as it is."""
        shutil.rmtree(self.shared, ignore_errors=True)
        self.shared.mkdir(parents=True)
        self.shared.chmod(0o777)
        if self.group:
            self.group.mkdir(exist_ok=True)
        if self.is_bare:
            return
        place = root(self.peer)
        binds = [(TOOLS, "/tools"), (self.shared, "/shared"), (self.state / "home", "/home")]
        binds += [(self.state / str(number), directory) for number, directory in enumerate(self.peer.spool)]
        if self.peer.binary:
            binds.append((self.peer.binary, "/usr/sbin/pillarbox"))
        script = [
            "set -e",
            "hostname mx.bench.test",
            f"mount -t tmpfs none {place}/dev",
            f"mount -t tmpfs none {place}/run",
            f"cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty {place}/dev/",
            f"mkdir -p -m 1777 {place}/dev/shm {place}/run/lock",
            f"mount -t proc proc {place}/proc",
        ]
        script += [f"mount --bind {source} {place}{target}" for source, target in binds]
        script += [f"exec chroot {place} /tools/init /shared/syslog /shared/ready"]
        with open(self.shared / "namespaces", "w") as log:
            self.top = subprocess.Popen(
                ["unshare", "-m", "-u", "-p", "-f", "--kill-child=KILL", "sh", "-c", "\n".join(script)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self.join,
            )
        self.wait_for(lambda: (self.shared / "ready").exists(), 10, "its namespaces")
        self.init = int(pathlib.Path(f"/proc/{self.top.pid}/task/{self.top.pid}/children").read_text().split()[0])

    def wait_for(self, is_so, seconds, what):
        start = now()
        while not is_so():
            if now() - start > seconds:
                raise RuntimeError(f"{self.peer.name}: no {what} in {seconds} s")
            time.sleep(0.005)

    def join(self):
        """In a child: it ends with this program, and its processor time is that of the peer."""
        die_with_parent()
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        if self.cores:
            os.sched_setaffinity(0, self.cores)

    def inside(self, path):
        """A file of `shared`, as the peer sees it."""
        return str(self.shared / path) if self.is_bare else f"/shared/{path}"

    def words(self, command):
        """A command of the peer, in its root and namespaces."""
        if not self.is_bare:
            return ["nsenter", "-t", str(self.init), "-m", "-p", "-r", "-w", "--", *map(str, command)]
        binary = {
            "/usr/sbin/pillarbox": self.before + [str(self.peer.binary), "-c", str(self.config)],
            "/usr/sbin/sendmail": self.before + [str(self.peer.binary), "sendmail", "-C", str(self.config)],
        }
        return [word for part in command for word in binary.get(str(part), [str(part).replace("/tools", str(TOOLS))])]

    def popen(self, command, **options):
        return subprocess.Popen(
            self.words(command), stdin=subprocess.DEVNULL, text=True, preexec_fn=self.join, **options
        )

    def run(self, command):
        """What a command of the peer prints on standard output."""
        child = self.popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return child.communicate(timeout=600)[0]

    def start(self):
        """Seconds from exec to 220; nothing for a peer that does not listen."""
        if not self.peer.start:
            return None
        with open(self.shared / "output", "a") as log:
            if "smtp" not in self.peer.takes:
                self.starter = self.popen(self.peer.start, stdout=log, stderr=log)
                time.sleep(0.5)
                return None
            self.starter = self.popen(["/tools/start", PORT, *self.peer.start], stdout=subprocess.PIPE, stderr=log)
        taken = int(self.starter.stdout.readline() or -1)
        if taken < 0:
            raise RuntimeError(f"{self.peer.name} does not start: {(self.shared / 'output').read_text()}")
        return taken / 1e6

    def settle(self):
        """Until it uses less than a twentieth of a processor: a first start makes keys, a full queue is read."""
        for _ in range(90):
            cpu, begin = self.cpu(), now()
            time.sleep(0.5)
            if (self.cpu() - cpu) / (now() - begin) < 0.05:
                return

    def kill(self):
        """Ends all its processes at once; the state stays."""
        pids = self.pids()
        if self.top:
            pids.append(self.init)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for child in (self.starter, self.top):
            if child:
                child.wait(20)
        self.starter = self.top = None
        if self.group and self.group.exists():
            with contextlib.suppress(RuntimeError):
                self.wait_for(self.remove_group, 10, "end")

    def remove_group(self):
        with contextlib.suppress(OSError):
            self.group.rmdir()
            return True
        return False

    def pids(self):
        """Its processes, without those of the bench."""
        if self.group:
            with contextlib.suppress(FileNotFoundError):
                ours = {process.pid for process in (self.top, self.starter) if process} | {getattr(self, "init", 0)}
                pids = [int(pid) for pid in (self.group / "cgroup.procs").read_text().split()]
                return [pid for pid in pids if pid not in ours and name(pid) not in ("start", "call", "init")]
            return []
        found = children(self.starter.pid) if self.starter else []
        return [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*") if session(path) in found]

    def cpu(self):
        """Seconds of processor time of all its processes, also of ended ones where there are cgroups."""
        if self.group:
            return int((self.group / "cpu.stat").read_text().split()[1]) / 1e6
        ticks = 0
        for pid in self.pids():
            ticks += sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident octets, summed over the processes: with shared pages in each, and divided by their users, which only root
        may read."""
        rss, pss = 0, 0 if IS_ROOT else None
        for pid in self.pids():
            with contextlib.suppress(OSError):
                rss += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
                if IS_ROOT:
                    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                    pss += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        return {"rss": rss, "pss": pss}

    def queued(self):
        """Files in its queue."""
        if self.is_bare:
            return len(os.listdir(self.state / "spool/queue"))
        count = 0
        for path in self.peer.queue:
            number = next(i for i, directory in enumerate(self.peer.spool) if path.startswith(directory))
            place = str(self.state / str(number)) + path[len(self.peer.spool[number]) :]
            count += sum(file.endswith(self.peer.suffix) for _, _, files in os.walk(place) for file in files)
        return count

    def maildirs(self):
        return [self.state / f"home/user{number + 1}/Maildir/new" for number in range(USERS)]


def name(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    return "start"


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def session(process):
    with contextlib.suppress(OSError):
        return os.getsid(int(process.name))
    return None

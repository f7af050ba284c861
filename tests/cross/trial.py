#!/usr/bin/env python3
"""Runs a cross-built pillarbox through what a box asks of it: trial.py FAMILY ROOT PROGRAM EMULATOR OTHER CLOCK_EMULATOR.

FAMILY is ARCH-LIBC. ROOT is the chroot that packaging/cross/prepare makes; PROGRAM and OTHER are programs in there, EMULATOR
the words before PROGRAM, "" where this processor runs it. OTHER is one of another family, which reads the queue of PROGRAM and
delivers from it. CLOCK_EMULATOR runs PROGRAM on a processor whose clock this machine can set; "" leaves the year 2040 out.

Every step prints a line; the first that fails ends the trial with exit code 1. Nothing leaves loopback."""
import atexit
import base64
import json
import os
import pathlib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time

family, root, program, emulator, other, clock_emulator = sys.argv[1:7]
emulator, clock_emulator = emulator.split(), clock_emulator.split()
arch, libc = family.split("-")
inner = pathlib.Path("/trial")
outer = pathlib.Path(root) / "trial"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
CLOCK = "2040-06-01 12:00:00"
PASSWORD = "correct horse"
ports = {}
daemons = []


def step(text):
    print(f"{family}: {text}", flush=True)


def expect(condition, *what):
    if not condition:
        log = outer / "log"
        print(*what, log.read_text()[-3000:] if log.exists() else "", f"{family}: FAILED", sep="\n", file=sys.stderr)
        sys.exit(1)


def soon(question, *what, seconds=90):
    """Waits: an emulated processor is slow, and this machine may be busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        time.sleep(0.2)
    expect(False, "did not become so:", *what)


def words(arguments, binary=None, user=None, clock=None):
    """The command line of a program in the chroot."""
    line = ["chroot", root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "PILLARBOX_CONFIG=/trial/pillarbox.toml"]
    if user:
        line += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    binary = binary or program
    if clock:
        # Not by the program faketime, which would keep the daemon's signals to itself.
        line += ["env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME=@{clock}", *clock_emulator, "-U", "LD_PRELOAD"]
        return line + [binary, *arguments]
    return line + (emulator if binary != other else []) + [binary, *arguments]


def run(*arguments, code=0, stdin="", **how):
    done = subprocess.run(words(list(arguments), **how), input=stdin, capture_output=True, text=True, timeout=180)
    expect(done.returncode == code, f"{arguments} ended with {done.returncode}, not {code}:", done.stdout, done.stderr)
    return done.stdout


def has_ended(daemon):
    return daemon.poll() in range(-64, 256)


def serve(**how):
    """Starts the daemon, and waits until it answers."""
    with open(outer / "log", "a") as log:
        daemon = subprocess.Popen(words(["serve"], **how), stdout=log, stderr=log)
    daemons.append(daemon)

    def answers():
        expect(not has_ended(daemon), f"the daemon ended with {daemon.returncode}")
        try:
            socket.create_connection(("127.0.0.1", ports["smtp"]), 5).close()
        except OSError:
            return False
        return (outer / "control.sock").exists()

    soon(answers, "the daemon is ready")
    return daemon


def stop(daemon, how=signal.SIGTERM, code=0):
    daemon.send_signal(how)
    expect(daemon.wait(60) == code, f"the daemon ended with {daemon.returncode}, not {code}")


@atexit.register
def cleanup():
    for daemon in daemons:
        if not has_ended(daemon):
            daemon.kill()
            daemon.wait()


def openssl(*arguments, clock=None):
    before = ["faketime", "-f", f"@{clock}"] if clock else []
    done = subprocess.run([*before, "openssl", *map(str, arguments)], capture_output=True, text=True)
    expect(done.returncode == 0, f"openssl {arguments[0]} failed:", done.stderr)


def certificates(clock=None):
    """An authority, a certificate of it for localhost, and one that nobody trusts."""
    for name in ["ca", "foreign"]:
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={name}",
                "-keyout", outer / f"{name}.key", "-out", outer / f"{name}.pem", clock=clock)
    (outer / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, issuer in [("server", "ca"), ("stranger", "foreign")]:
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-keyout",
                outer / f"{name}.key", "-out", outer / f"{name}.csr", clock=clock)
        openssl("x509", "-req", "-days", "20", "-in", outer / f"{name}.csr", "-CA", outer / f"{issuer}.pem", "-CAkey",
                outer / f"{issuer}.key", "-set_serial", "7", "-extfile", outer / "extensions", "-out", outer / f"{name}.pem", clock=clock)
    secret("server.key", (outer / "server.key").read_text())


def secret(name, text):
    """Writes a file that only root and the daemon may read."""
    (outer / name).write_text(text)
    shutil.chown(outer / name, "root", gid("pillarbox"))
    os.chmod(outer / name, 0o640)


def entry(file, name):
    """The fields of a line of the chroot's passwd or group."""
    lines = (line.split(":") for line in (pathlib.Path(root) / "etc" / file).read_text().splitlines())
    return next(line for line in lines if line[0] == name)


def gid(name):
    return int(entry("group", name)[2])


class Smarthost(threading.Thread):
    """An SMTP server with STARTTLS and AUTH PLAIN that keeps what it gets: (was TLS, login, recipients, data)."""

    def __init__(self, certificate):
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(outer / f"{certificate}.pem", outer / f"{certificate}.key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.messages = []
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.guarded, args=[client], daemon=True).start()

    def guarded(self, client):
        try:
            self.session(client)
        except (OSError, ValueError):
            pass  # The client refused the certificate, or has gone.

    def session(self, client):
        lines, tls, login, recipients = client.makefile("rb"), False, None, []
        say = lambda text: client.sendall(text.encode() + b"\r\n")
        say("220 smarthost")
        while line := lines.readline():
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                say("250-smarthost\r\n250-8BITMIME\r\n250 AUTH PLAIN" if tls else "250-smarthost\r\n250 STARTTLS")
            elif verb == b"STARTTLS":
                say("220 go")
                client = self.context.wrap_socket(client, server_side=True)
                lines, tls = client.makefile("rb"), True
            elif verb == b"AUTH":
                login = base64.b64decode(line.split()[2]).split(b"\0")[1:]
                say("235 in")
            elif verb == b"DATA":
                say("354 go")
                data = b""
                while not data.endswith(b"\r\n.\r\n"):
                    data += lines.readline()
                self.messages.append((tls, login, recipients, data))
                recipients = []
                say("250 taken")
            elif verb == b"QUIT":
                return say("221 bye")
            else:
                if verb == b"RCPT":
                    recipients.append(line.decode().split("<")[1].split(">")[0])
                say("250 ok")

    def got(self, marker):
        return next((message for message in list(self.messages) if marker.encode() in message[3]), None)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def configure(smarthost, stranger):
    (outer / "pillarbox.toml").write_text(f'''
hostname = "box.test"
state = "{inner}/state"
control = "{inner}/control.sock"
local.domains = ["box.test"]
local.aliases = ""
local.maildir = "/home/{{user}}/Maildir"
tls.certificate = "{inner}/server.pem"
tls.key = "{inner}/server.key"
auth.users = "{inner}/users"
queue.retry = ["1h"]
relay.smarthost = {{ url = "smtp+starttls://localhost:{smarthost.port}", username = "alerts", password_file = "{inner}/password" }}
relay.ca_file = "{inner}/ca.pem"
relay.routes = {{ "waits.test" = "smtp+starttls://localhost:{stranger.port}" }}
[[listener]]
address = "127.0.0.1:{ports["smtp"]}"
[[listener]]
address = "127.0.0.1:{ports["submission"]}"
kind = "submission"
''')


def prepare(clock=None):
    shutil.rmtree(outer, ignore_errors=True)
    outer.mkdir(mode=0o755)
    shutil.rmtree(pathlib.Path(root) / "home/box/Maildir", ignore_errors=True)
    for name in ["smtp", "submission"]:
        ports[name] = free_port()
    certificates(clock)
    secret("password", PASSWORD)
    shutil.chown(outer, uid("pillarbox"), gid("pillarbox"))
    smarthost, stranger = Smarthost("server"), Smarthost("stranger")
    configure(smarthost, stranger)
    return smarthost, stranger


def uid(name):
    return int(entry("passwd", name)[2])


def message(marker, body="x\n"):
    return f"From: a@far.test\nTo: b@box.test\nSubject: {marker}\n\n{body}"


def mailbox(marker):
    """The file of a message that the user box has."""
    for file in (pathlib.Path(root) / "home/box/Maildir/new").glob("*"):
        if marker in file.read_text():
            return file


def by_smtp(marker, recipient, body="x\n", port="smtp", login=None, verified_by=None):
    with smtplib.SMTP("127.0.0.1", ports[port], local_hostname="client.test", timeout=120) as client:
        if verified_by:
            context = ssl.create_default_context(cafile=verified_by)
            client._host = "localhost"
            client.starttls(context=context)
        if login:
            client.login(*login)
        client.sendmail("a@far.test", recipient, message(marker, body))
        return client.sock.version() if verified_by else None


def waiting(**how):
    return sorted(line["id"] for line in listed(**how))


def panics():
    """Unwinding, by a small program that was linked alike."""
    for clock in [None, CLOCK] if clock_emulator else [None]:
        lines = run(binary=f"{program.replace('programs/', 'programs/unwind-')}", clock=clock).split()
        expect(lines[0] == "unwound" and (int(lines[1]) > 2**31) == bool(clock), lines)
    step("a panic ends its thread alone")


def listed(**how):
    """The queue without the next attempt, which is at another moment for each who asks without a daemon."""
    lines = [json.loads(line) for line in run("queue", "--json", **how).splitlines()]
    return [{name: value for name, value in line.items() if name != "next_attempt"} for line in lines]


def first_start():
    version = run("--version")
    machine = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "arm-", "mipsel": "mips-", "riscv64": "riscv64"}[arch]
    expect(machine in version, "the version does not name the processor:", version)
    secret("users", run("passwd", "alice", stdin=PASSWORD + "\n"))
    run("check")
    step(f"--version, passwd and check: {version.splitlines()[0]}")
    stop(serve())
    run("sendmail", "box@box.test", stdin="Subject: while-down\n\nx\n", user="box")
    expect(not mailbox("while-down"), "delivered by nobody")
    daemon = serve()
    soon(lambda: mailbox("while-down"), "the message from the drop directory is delivered")
    step("serve; a message that sendmail left while it was down arrived")
    return daemon


def local_mail():
    by_smtp("by-smtp", ["box@box.test"])
    file = mailbox("by-smtp")
    expect(file is not None, "250, but not in the Maildir")
    expect(file.stat().st_uid == uid("box"), "the file is not its user's")
    with smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=120) as client:
        client.helo("client.test")
        client.mail("a@far.test")
        expect(client.rcpt("nobody-here@box.test")[0] == 550, "an unknown user is accepted")
    step("SMTP to the Maildir of a user of /etc/passwd, whose file it is; 550 for an unknown one")
    version = by_smtp("by-tls", ["box@box.test"], body="line\n" * 600_000, verified_by=outer / "ca.pem")
    expect(mailbox("by-tls").stat().st_size > 3_000_000, "3 MB have become less")
    step(f"3 MB by verified STARTTLS ({version})")


def relayed(smarthost, stranger):
    by_smtp("submitted", ["c@far.test"], port="submission", login=("alice", PASSWORD), verified_by=outer / "ca.pem")
    tls, login, recipients, _ = soon(lambda: smarthost.got("submitted"), "the smarthost has the message")
    expect(tls and login == [b"alerts", PASSWORD.encode()] and recipients == ["c@far.test"], tls, login, recipients)
    step("submission with STARTTLS and AUTH; relay by verified STARTTLS with a password")
    run("sendmail", "-t", stdin="To: d@far.test\nCc: box@box.test\nSubject: by-sendmail\n\nx\n", user="box")
    soon(lambda: smarthost.got("by-sendmail") and mailbox("by-sendmail"), "sendmail -t reached both recipients")
    step("sendmail -t by a user, to a far recipient and a local one")
    by_smtp("waits", ["e@waits.test", "f@waits.test"])
    soon(lambda: "certificate" in run("queue"), "the queue names the certificate")
    expect(not stranger.messages, "a stranger got mail")
    step("a smarthost with another authority's certificate got nothing: the message waits")


def killed(daemon):
    before = waiting()
    expect(len(before) == 1, "one message waits, not:", before)
    stop(daemon, signal.SIGKILL, -signal.SIGKILL)
    daemon = serve()
    expect(waiting() == before, "another queue after kill -9")
    step("kill -9 and a restart: the queue is kept")
    daemon.send_signal(signal.SIGHUP)
    soon(lambda: "configuration read again" in (outer / "log").read_text(), "SIGHUP is logged")
    by_smtp("after-reload", ["box@box.test"])
    expect(mailbox("after-reload") is not None, "250, but not in the Maildir")
    run("status")
    stop(daemon)
    step("SIGHUP, status; SIGTERM ends it with 0")


def exchanged(smarthost):
    """Queues between families: what one wrote, the other lists alike, and delivers."""
    expect(listed() == listed(binary=other), "the two families list the queue differently:", listed(), listed(binary=other))
    text = (outer / "pillarbox.toml").read_text().replace('relay.routes = {', '#').replace('queue.retry = ["1h"]', 'queue.retry = ["1s"]')
    waits = (outer / "pillarbox.toml").read_text()
    (outer / "pillarbox.toml").write_text(text)
    daemon = serve(binary=other)
    run("queue", "run", binary=other)
    soon(lambda: smarthost.got("waits"), "the other family delivers")
    stop(daemon)
    (outer / "pillarbox.toml").write_text(waits)
    daemon = serve(binary=other)
    by_smtp("other-way", ["g@waits.test"])
    soon(lambda: "certificate" in run("queue", binary=other), "it waits")
    stop(daemon)
    expect(listed() == listed(binary=other), "the two families list the queue differently:", listed(), listed(binary=other))
    (outer / "pillarbox.toml").write_text(text)
    daemon = serve()
    run("queue", "run")
    soon(lambda: smarthost.got("other-way"), "this family delivers what the other wrote")
    stop(daemon)
    step(f"queues are exchanged with {pathlib.Path(other).name}, both ways: listed alike, delivered")


def in_2040():
    """The clock of a box whose 32 bits have run out."""
    year = CLOCK
    smarthost, _ = prepare(clock=year)
    secret("users", run("passwd", "alice", stdin=PASSWORD + "\n", clock=year))
    run("check", clock=year)
    daemon = serve(clock=year)
    by_smtp("in-2040", ["box@box.test"])
    file = mailbox("in-2040")
    expect(file is not None and " Jun 2040 " in file.read_text(), "no date of 2040 in it:", file and file.read_text())
    run("sendmail", "-t", stdin="To: d@far.test\nSubject: relay-2040\n\nx\n", user="box", clock=year)
    # Debian 12 has 32-bit times in the OpenSSL of these two, which then takes every certificate for one of the future.
    if family in ("armhf-gnu", "mipsel-gnu"):
        soon(lambda: "certificate" in run("queue", clock=year), "the queue names the certificate")
        expect(not smarthost.messages, "relayed, though")
        step("in 2040: check, serve, SMTP, sendmail and queue; no TLS is verified, by Debian's OpenSSL with 32-bit times")
    else:
        soon(lambda: smarthost.got("relay-2040"), "relayed in 2040")
        step("in 2040: check, serve, SMTP, sendmail, queue and relay by verified TLS")
    expect("2040" in run("queue", clock=year) + run("status", "--all", clock=year) + (outer / "log").read_text(), "2040 is nowhere")
    stop(daemon)


def memory(daemon):
    """RSS of the daemon, and how much of it is no file's, where it is not the emulator's."""
    if emulator:
        return
    for task in pathlib.Path("/proc").glob("[0-9]*/smaps_rollup"):
        try:
            rows = dict(line.split()[:2] for line in task.read_text().splitlines()[1:])
        except OSError:
            continue
        if task.parent.name == str(daemon.pid):
            step(f"idle after these: RSS {int(rows['Rss:'])} KiB, of which no file has {int(rows['Anonymous:'])} KiB")


def main():
    smarthost, stranger = prepare()
    panics()
    daemon = first_start()
    local_mail()
    relayed(smarthost, stranger)
    memory(daemon)
    killed(daemon)
    exchanged(smarthost)
    if clock_emulator:
        in_2040()
    shutil.rmtree(outer)
    step("all steps succeeded" + (f", emulated by {emulator[0]}" if emulator else ""))


main()

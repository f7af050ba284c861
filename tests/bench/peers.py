"""The mail servers that are compared: a row each, with their Debian packages and a configuration that does the same work.

All deliver to Maildirs of user1 to user16, relay the rest to the sink, and keep their own defaults of durability. What else is
set removes limits that would bind on this work, as their administrators would."""

import dataclasses
import json
import os
import pathlib

PORT, SINK_PORT = 12525, 12526
USERS, FIRST_UID = 16, 2001

# Of pillarbox, in chroots and without.
PILLARBOX = {
    "hostname": "bench.test",
    "local.domains": ["bench.test", "localhost"],
    "limits.connections": 2000,
    "limits.connections_per_ip": 2000,
    "relay.smarthost": f"smtp://127.0.0.1:{SINK_PORT}",
    "relay.tls": "off",
    "relay.connections": 20,
    "relay.connections_per_domain": 20,
    # A client has at most half of it.
    "queue.max_messages": 1_000_000,
}


def pillarbox_config(**tables):
    """The text of a configuration: tables are dictionaries of keys with their dots."""
    keys = PILLARBOX.copy()
    for table in tables.values():
        keys |= table
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join([*lines, "[[listener]]", f'address = "127.0.0.1:{PORT}"', ""])


CHROOT = {
    "user": "root",
    "state": "/var/spool/pillarbox",
    "control": "/run/pillarbox.sock",
    "local.maildir": "{home}/Maildir",
    "log.target": "syslog",
}


@dataclasses.dataclass
class Peer:
    name: str
    packages: list = dataclasses.field(default_factory=list)
    # What it takes: smtp (from other hosts), queue (it keeps and flushes).
    takes: frozenset = frozenset()
    # Its directories on the store under measurement.
    spool: list = dataclasses.field(default_factory=list)
    files: dict = dataclasses.field(default_factory=dict)
    # Shell commands in the chroot, after the files are written.
    commands: list = dataclasses.field(default_factory=list)
    start: list = None
    flush: list = None
    # Below `spool`: where files are counted as queued messages, and how their names end.
    queue: list = dataclasses.field(default_factory=list)
    suffix: str = ""
    # Of pillarbox: the program.
    binary: pathlib.Path = None


SERVER = frozenset({"smtp", "queue"})


def pillarbox(name, variable, default):
    path = os.environ.get(variable, default)
    return path and Peer(
        name,
        takes=SERVER,
        spool=["/var/spool/pillarbox"],
        binary=pathlib.Path(path).resolve(),
        files={"/etc/pillarbox/pillarbox.toml": pillarbox_config(chroot=CHROOT)},
        commands=["touch /usr/sbin/pillarbox", "ln -sf pillarbox /usr/sbin/sendmail"],
        start=["/usr/sbin/pillarbox", "serve"],
        flush=["/usr/sbin/pillarbox", "queue", "flush"],
        queue=["/var/spool/pillarbox/queue"],
    )


POSTFIX = """compatibility_level = 3.6
myhostname = mx.bench.test
mydomain = bench.test
myorigin = bench.test
mydestination = bench.test
alias_maps =
alias_database =
home_mailbox = Maildir/
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:%d
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_tls_security_level = none
smtp_tls_security_level = none
biff = no
mailbox_size_limit = 0
message_size_limit = 104857600
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
default_process_limit = 300
initial_destination_concurrency = 20
default_destination_concurrency_limit = 20
local_destination_concurrency_limit = 20
qmgr_message_active_limit = 20000
qmgr_message_recipient_limit = 20000
""" % SINK_PORT

EXIM = r"""primary_hostname = mx.bench.test
domainlist local_domains = bench.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = %d
acl_smtp_rcpt = accept
acl_smtp_data = accept
host_lookup =
dns_ipv4_lookup = *
rfc1413_query_timeout = 0s
tls_advertise_hosts =
smtp_accept_max = 0
smtp_accept_max_per_connection = 1000000
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 512
message_size_limit = 100M
split_spool_directory = true
remote_max_parallel = 4
keep_environment =
qualify_domain = bench.test
begin routers
smarthost:
  driver = manualroute
  domains = ! +local_domains
  transport = relay
  route_list = * 127.0.0.1 byname
  host_find_failed = defer
  self = send
  no_more
user:
  driver = accept
  check_local_user
  transport = maildir
begin transports
relay:
  driver = smtp
  port = %d
  allow_localhost
  hosts_try_fastopen =
  hosts_avoid_tls = *
maildir:
  driver = appendfile
  directory = $home/Maildir
  maildir_format
begin retry
*  *  F,2h,1m; G,16h,1h,1.5; F,4d,6h
""" % (PORT, SINK_PORT)

OPENSMTPD = f"""smtp limit max-mails 1000000
smtp max-message-size 100M
mda limit max-session 50
mda limit max-session-per-user 50
mta limit max-conn-per-host 20
mta limit max-conn-per-route 20
mta limit conn-delay-route 0
mta limit conn-delay-relay 0
mta limit conn-delay-connector 0
mta limit task-hiwat 20000
scheduler limit max-inflight 20000
listen on 127.0.0.1 port {PORT}
action "local" maildir
action "relay" relay host smtp://127.0.0.1:{SINK_PORT}
match from any for domain "bench.test" action "local"
match from any for any action "relay"
"""

ALL = [
    pillarbox("pillarbox", "PILLARBOX", "target/release/pillarbox"),
    pillarbox("before", "BEFORE", None),
    Peer(
        "postfix",
        ["postfix"],
        SERVER,
        ["/var/spool/postfix", "/var/lib/postfix"],
        {"/etc/postfix/main.cf": POSTFIX},
        [
            "test -e /etc/postfix/master.orig || cp /etc/postfix/master.cf /etc/postfix/master.orig",
            "cp /etc/postfix/master.orig /etc/postfix/master.cf",
            "postconf -F '*/*/chroot=n'",
            "postconf -MX smtp/inet",
            f"postconf -M '127.0.0.1:{PORT}/inet=127.0.0.1:{PORT} inet n - n - - smtpd'",
        ],
        ["/usr/sbin/postfix", "start"],
        ["/usr/sbin/postqueue", "-f"],
        [f"/var/spool/postfix/{name}" for name in ("maildrop", "incoming", "active", "deferred")],
    ),
    # Its queue is drained by a process for each runner, so several are started.
    Peer(
        "exim",
        ["exim4-daemon-light"],
        SERVER,
        ["/var/spool/exim4", "/var/log/exim4"],
        {"/etc/exim4/exim4.conf": EXIM},
        [],
        ["/usr/sbin/exim4", "-bd", "-q5m"],
        ["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8; do exim4 -qff & done; wait"],
        ["/var/spool/exim4/input"],
        "-H",
    ),
    # Debian's version never syncs its queue.
    Peer(
        "opensmtpd",
        ["opensmtpd"],
        frozenset({"smtp"}),
        ["/var/spool/smtpd"],
        {"/etc/smtpd.conf": OPENSMTPD},
        ["mkdir -p /var/spool/smtpd", "chmod 711 /var/spool/smtpd"],
        ["/usr/sbin/smtpd"],
    ),
    # These have only a sendmail; msmtp has no queue, and ends when the next host has the message.
    Peer(
        "nullmailer",
        ["nullmailer"],
        spool=["/var/spool/nullmailer"],
        files={
            "/etc/nullmailer/remotes": f"127.0.0.1 smtp --port={SINK_PORT}\n",
            "/etc/nullmailer/defaultdomain": "bench.test\n",
        },
        commands=[
            "rm -f /etc/nullmailer/me",
            "chown mail /etc/nullmailer/remotes",
            "chmod 600 /etc/nullmailer/remotes",
            "test -p /var/spool/nullmailer/trigger || mkfifo /var/spool/nullmailer/trigger",
            "chmod 622 /var/spool/nullmailer/trigger",
            "chown mail:root /var/spool/nullmailer/trigger",
        ],
        start=["/usr/bin/setpriv", "--reuid=mail", "--regid=mail", "--clear-groups", "/usr/sbin/nullmailer-send"],
    ),
    Peer(
        "dma",
        ["dma"],
        spool=["/var/spool/dma"],
        files={"/etc/dma/dma.conf": f"SMARTHOST 127.0.0.1\nPORT {SINK_PORT}\nMAILNAME /etc/mailname\n"},
    ),
    Peer(
        "msmtp",
        ["msmtp-mta"],
        files={
            "/etc/msmtprc": f"account default\nhost 127.0.0.1\nport {SINK_PORT}\nfrom user1@bench.test\nsyslog LOG_MAIL\n"
        },
    ),
]
BY_NAME = {peer.name: peer for peer in ALL if peer}

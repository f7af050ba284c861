"""Tables and plots from the lines of results. Cells hold medians over the rounds, costs that grow the least of them."""

import json
import re
import time

import machine
import plot
from machine import median, say

ORDER = ["pillarbox", "before", "postfix", "exim", "opensmtpd", "nullmailer", "dma", "msmtp"]
# How much more than linear a step may cost: what noise does to a median.
TOLERANCE = 1.5
# Costs below these are noise: seconds, octets.
LEAST = {"s": 0.05, "B": 4 * 1024 * 1024}


class Rows:
    """The lines of results, or some of them."""

    def __init__(self, rows):
        self.rows = rows

    def where(self, **wanted):
        return Rows([row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())])

    def each(self, *keys):
        """The different values of some keys, in the order of the lines, with their lines."""
        found = dict.fromkeys(tuple(row.get(key) for key in keys) for row in self.rows)
        return [(values, self.where(**dict(zip(keys, values)))) for values in found]

    def median(self, key, factor=1.0):
        value = median([row.get(key) for row in self.rows])
        return value and value * factor

    def least(self, key):
        return min((row[key] for row in self.rows if row.get(key)), default=0)

    def peers(self):
        return [name for name in ORDER if any(row["peer"] == name for row in self.rows)]


def number(value, unit=""):
    if not isinstance(value, (int, float)):
        return "–"
    return (f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}") + unit


def table(head, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def figures(title, rows, names, factor=1.0):
    """A table with a column for each peer and a line for each figure: names are its key and what it is."""
    peers = rows.peers()
    lines = [
        [name, *[number(rows.where(peer=peer).median(key, factor)) for peer in peers]] for key, name in names.items()
    ]
    return "\n" + table([title, *peers], lines) if peers else ""


def work(scenario, store, size, sessions, is_kept):
    words = [
        f"{'relay' if scenario == 'relay' else 'Maildir'} {'1M' if size > 1024 else '1K'}",
        f"{sessions} session{'s' if sessions > 1 else ''}",
        *([] if is_kept else ["a connection each"]),
        store,
    ]
    return ", ".join(words)


def rate_cell(rows):
    good = [row for row in rows.rows if "rate" in row]
    if not good:
        return "–"
    share = median([row["rate"] / row["limit"] for row in good])
    failed = f" ({len(rows.rows) - len(good)} failed)" if len(good) < len(rows.rows) else ""
    return f"{number(rows.median('rate'))}/s, {number(share * 100)} %, {number(rows.median('cpu', 1e3))} ms{failed}"


def rates(rows, cores=None):
    """Messages a second, share of the limit, and processor time."""
    some = Rows([row for row in rows.where(cores=cores).rows if row["scenario"] in ("inbound", "relay")])
    peers, lines = some.peers(), []
    for values, same in some.each("scenario", "store", "size", "sessions", "kept"):
        cells = [rate_cell(same.where(peer=peer)) for peer in peers]
        lines.append([work(*values), number(same.median("limit"), "/s"), *cells])
    return table(["work", "limit", *peers], lines) if lines else ""


# What the main table has beside rates: scenario, what tells its rows apart, keys, factor, unit, and the name of the line.
MIB, PAIR = 2**-20, " MiB"
REST = [
    ("start", {}, ("start", "cpu"), 1e3, " ms", "exec → 220 / CPU"),
    ("queue", {}, ("restart",), 1e3, " ms", "10,000 deferred: restart → 220"),
    ("queue", {}, ("drained",), 1, "/s", "10,000 deferred: drain"),
    ("queue", {}, ("drain_cpu",), 1e3, " ms", "10,000 deferred: CPU a message of the drain"),
    ("memory", {}, ("idle", "idle_pss"), MIB, PAIR, "RSS / PSS idle"),
    ("memory", {}, ("connections", "connections_pss"), MIB, PAIR, "RSS / PSS with 100 connections"),
    ("peak", {"size": 1024}, ("peak", "peak_pss"), MIB, PAIR, "most RSS / PSS, 1K, 64 sessions"),
    ("peak", {"size": 1024 * 1024}, ("peak", "peak_pss"), MIB, PAIR, "most RSS / PSS, 1M, 64 sessions"),
]
CALLS = {"call": "call", "arrival": "arrival at the next hop", "call_cpu": "CPU of the call", "cpu": "CPU in all"}


def rest(rows):
    """Starts, the queue, memory; and calls of sendmail."""
    peers = rows.where(scenario="start").peers() or rows.where(scenario="memory").peers()
    lines = []
    for scenario, parameters, keys, factor, unit, name in REST:
        some = [rows.where(scenario=scenario, peer=peer, **parameters) for peer in peers]
        cells = [" / ".join(number(mine.median(key, factor)) for key in keys) + unit for mine in some]
        lines.append([name, *cells])
    text = table(["", *peers], lines) if peers else ""
    return text + figures("`sendmail -t`, ms", rows.where(scenario="sendmail"), CALLS, 1e3)


MESSAGE = {
    "maildir_calls": "system calls, Maildir",
    "relay_calls": "system calls, relay",
    "maildir_syncs": "syncs, Maildir",
    "relay_syncs": "syncs, relay",
    "syncs_8": "syncs, Maildir, 8 sessions",
    "syncs_64": "syncs, Maildir, 64 sessions",
    "maildir_given": "octets written, Maildir",
    "relay_given": "octets written, relay",
    "maildir_written": "octets that reach the file system, Maildir",
    "relay_written": "octets that reach the file system, relay",
}
IDLE = {"wakeups": "wake-ups an hour", "calls_hour": "system calls an hour", "cpu_day": "seconds of CPU a day"}
COUNTED = {
    "start": "start and stop",
    "maildir": "a message, Maildir",
    "relay": "a message, relay",
    "sendmail": "a call of `sendmail -t`",
}


def wear(rows):
    messages = rows.where(scenario="wear")
    text = figures("a message of 1 KiB, a connection each", messages, MESSAGE)
    for (peer,), mine in messages.each("peer"):
        for path in ("maildir", "relay") if peer in ("pillarbox", "before") else ():
            calls = mine.rows[-1].get(f"{path}_by_name", {}).items()
            text += f"\n{peer}, {path}: " + ", ".join(f"{call} {number(n)}" for call, n in calls if n >= 0.5) + ".\n"
    text += figures("idle", rows.where(scenario="idle"), IDLE)
    return text + figures("million instructions", rows.where(scenario="instructions"), COUNTED, 1e-6)


WORKS = {
    "maildir": "a message into a Maildir",
    "relay": "a message that is relayed at once",
    "log": "the same, with the log in a file there",
    "memory": 'the same, with `queue.storage` "memory-first"',
    "deferred": "a message that has to wait, with its first attempt",
    "unreachable": "a further attempt, while the next hop can't be reached",
    "attempt": "a further attempt, which the next hop answers with 451",
    "idle": "an hour without mail",
    "alerts": "an hour with 12 messages that are relayed at once",
    "waiting": "an hour with a message that waits",
    "stop": "the stop after it",
}


def flash(rows):
    """A table for each file system: octets, write requests and erase blocks."""
    text = ""
    for (system,), same in rows.where(scenario="flash").each("system"):
        known = {row["peer"]: row["costs"] for row in same.rows if "costs" in row}
        if not known:
            text += f"\n{system}: {same.rows[-1].get('error')}.\n"
            continue
        peers = [name for name in ORDER if name in known]
        cells = [[name, *[wear_cell(known[peer].get(key)) for peer in peers]] for key, name in WORKS.items()]
        text += "\n" + table([f"{device_name(same.rows[-1])}: KiB, writes, {same.rows[-1]['blocks']}", *peers], cells)
    return text


def device_name(row):
    kernel = f", Linux {row['kernel']} in a virtual machine" if row["kernel"] else ""
    return row["system"] + row["device"] + kernel


def wear_cell(cost):
    requests, octets, blocks = cost or [None] * 3
    return f"{number(octets and octets / 1024)}, {number(requests)}, {number(blocks)}"


def unit(what):
    return "B" if what.startswith("memory") else "s"


# What a row of growth has beside costs.
PARAMETERS = {"scenario", "peer", "series", "store", "n", "round", "time", "load", "error"}


def growth(rows, directory):
    """A table, plots below the directory, and the steps that are worse than linear."""
    lines, worse, links = [], [], []
    for (series,), same in rows.where(scenario="growth").each("series"):
        panels = []
        for what in dict.fromkeys(key for row in same.rows for key in row if key not in PARAMETERS):
            costs = {}
            for (peer,), mine in same.each("peer"):
                # The cheapest of the rounds is the one with the least of others' work in it.
                points = {n: some.least(what) for (n,), some in mine.each("n")}
                costs[peer] = {n: cost for n, cost in points.items() if cost > 0}
                cells = [f"{plot.si(n, '')}: {plot.si(cost, unit(what))}" for n, cost in costs[peer].items()]
                lines.append([series, what, peer, ", ".join(cells)])
                worse += [f"{peer}: {series}, {what}: {step}" for step in steps(costs[peer], unit(what))]
            panels.append((what, unit(what), {peer: points for peer, points in costs.items() if points}))
        name = series.replace(" ", "-") + ".svg"
        (directory / name).write_text(plot.figure(series, [panel for panel in panels if panel[2]]))
        links.append(f"![Cost by {series}](plots/{name})\n")
    verdict = "Steps that are worse than linear: " + ("; ".join(worse) or "not one") + ".\n"
    text = table(["what grows", "cost", "build", "size: cost"], lines) + "\n" + verdict + "\n" + "\n".join(links)
    return text if lines else "", worse


def steps(costs, kind):
    """The steps at which a cost grew more than its cause, beyond noise."""
    points = sorted(costs.items())
    return [
        f"{plot.si(c, kind)} at {plot.si(n, '')}, {plot.si(d, kind)} at {plot.si(m, '')}"
        for (n, c), (m, d) in zip(points, points[1:])
        if d > LEAST[kind] and d / max(c, LEAST[kind]) > TOLERANCE * m / n
    ]


def write(results, directory, document):
    """Writes tables.md and the plots; with a document, into it too. The result is 1 if pillarbox has a step worse than linear."""
    rows = Rows([json.loads(line) for line in results.read_text().splitlines()])
    plots = document.parent / "plots" if document else directory / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    grown, worse = growth(rows, plots)
    sections = {
        "main": rates(rows) + "\n" + rest(rows),
        "slow": rates(rows, 1),
        "wear": wear(rows),
        "flash": flash(rows),
        "growth": grown,
    }
    origin = f"{time.strftime('%Y-%m-%d')}, {machine.describe()}.\n\n"
    sections = {name: origin + text.strip() + "\n" for name, text in sections.items() if text.strip()}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tables.md").write_text("\n".join(f"## {name}\n\n{text}" for name, text in sections.items()))
    if document:
        page = document.read_text()
        for name, text in sections.items():
            page = re.sub(
                rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda found: found[1] + text + found[2], page, flags=re.S
            )
        document.write_text(page)
    print((directory / "tables.md").read_text())
    for step in worse:
        say("worse than linear:", step)
    return 1 if any(step.startswith("pillarbox") for step in worse) else 0

"""Tables and plots from the lines of results. Cells hold medians over the rounds."""
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
LEAST = {"s": 0.01, "B": 1024 * 1024}


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
        return None if value is None else value * factor

    def peers(self):
        return [name for name in ORDER if any(row["peer"] == name for row in self.rows)]


def number(value, unit=""):
    if value is None:
        return "–"
    return (f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}") + unit


def table(head, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def work(scenario, store, size, sessions, is_kept):
    name = {"inbound": "Maildir", "relay": "relay"}[scenario.replace("slow ", "")]
    kind = "" if sessions == 1 and is_kept else ", a connection each" if not is_kept else ""
    return f"{name} {'1M' if size > 1024 else '1K'}, {sessions} session{'s' if sessions > 1 else ''}{kind}, {store}"


def rate_cell(rows):
    share = median([row["rate"] / row["limit"] for row in rows.rows if row.get("rate") and row.get("limit")])
    failed = sum("error" in row for row in rows.rows)
    cell = f"{number(rows.median('rate'))}/s, {number(share and share * 100)} %, {number(rows.median('cpu', 1e3))} ms"
    return ("–" if failed == len(rows.rows) else cell) + (f" ({failed} failed)" if failed and failed < len(rows.rows) else "")


def rates(rows, prefix=""):
    """Messages a second, share of the limit, and processor time."""
    some = Rows([row for row in rows.rows if row["scenario"] in (f"{prefix}inbound", f"{prefix}relay")])
    peers, lines = some.peers(), []
    for values, same in some.each("scenario", "store", "size", "sessions", "kept"):
        lines.append([work(*values), f"{number(same.median('limit'))}/s", *[rate_cell(same.where(peer=peer)) for peer in peers]])
    return table(["work", "limit", *peers], lines) if lines else ""


def rest(rows):
    """What the main table has beside rates."""
    lines, peers = [], [peer for peer in rows.peers() if any(row["scenario"] != "sendmail" and row["peer"] == peer for row in rows.rows)]

    def line(name, cell):
        lines.append([name, *[cell(peer) for peer in peers]])

    def values(scenario, peer, keys, factor, unit, **parameters):
        some = rows.where(scenario=scenario, peer=peer, **parameters)
        return " / ".join(number(some.median(key, factor)) for key in keys) + unit if some.rows else "–"
    line("exec → 220 / CPU", lambda peer: values("start", peer, ["start", "cpu"], 1e3, " ms"))
    line("10,000 deferred: restart", lambda peer: values("queue", peer, ["restart"], 1e3, " ms"))
    line("10,000 deferred: drain", lambda peer: values("queue", peer, ["drained"], 1, "/s"))
    line("10,000 deferred: CPU a message of the drain", lambda peer: values("queue", peer, ["drain_cpu"], 1e3, " ms"))
    line("RSS / PSS idle", lambda peer: values("memory", peer, ["idle", "idle_pss"], 2 ** -20, " MiB"))
    line("RSS / PSS with 100 connections", lambda peer: values("memory", peer, ["connections", "connections_pss"], 2 ** -20, " MiB"))
    line("most RSS / PSS, 1K, 64 sessions", lambda peer: values("peak", peer, ["peak", "peak_pss"], 2 ** -20, " MiB", size=1024))
    line("most RSS / PSS, 1M, 64 sessions", lambda peer: values("peak", peer, ["peak", "peak_pss"], 2 ** -20, " MiB", size=1024 * 1024))
    text = table(["", *peers], lines) if rows.where(scenario="start").rows else ""
    calls = rows.where(scenario="sendmail")
    if calls.rows:
        lines = [[peer, *[number(calls.where(peer=peer).median(key, 1e3)) for key in ("call", "arrival", "call_cpu", "cpu")]] for peer in calls.peers()]
        text += "\n" + table(["`sendmail -t`, ms", "call", "arrival at the next hop", "CPU of the call", "CPU in all"], lines)
    return text


def wear(rows):
    text = ""
    some = rows.where(scenario="wear")
    if some.rows:
        names = {"maildir_calls": "system calls a message, Maildir", "relay_calls": "system calls a message, relay",
                 "maildir_syncs": "syncs a message, Maildir", "relay_syncs": "syncs a message, relay", "syncs_8": "syncs a message, 8 sessions",
                 "syncs_64": "syncs a message, 64 sessions", "maildir_given": "octets written a message, Maildir",
                 "relay_given": "octets written a message, relay", "maildir_written": "octets that reach the file system, Maildir",
                 "relay_written": "octets that reach the file system, relay"}
        text += table(["1 KiB, a connection each", *some.peers()],
                      [[name, *[number(some.where(peer=peer).median(key)) for peer in some.peers()]] for key, name in names.items()])
        for peer in [peer for peer in some.peers() if peer in ("pillarbox", "before")]:
            for path in ("maildir", "relay"):
                calls = some.where(peer=peer).rows[-1].get(f"{path}_by_name", {})
                text += f"\n{peer}, {path}: " + ", ".join(f"{call} {number(count)}" for call, count in calls.items() if count >= 0.5) + ".\n"
    some = rows.where(scenario="idle")
    if some.rows:
        names = {"wakeups": "wake-ups an hour", "calls_hour": "system calls an hour", "cpu_day": "seconds of CPU a day"}
        text += "\n" + table(["idle", *some.peers()],
                             [[name, *[number(some.where(peer=peer).median(key)) for peer in some.peers()]] for key, name in names.items()])
    some = rows.where(scenario="instructions")
    if some.rows:
        names = {"start": "start and stop", "maildir": "a message, Maildir", "relay": "a message, relay", "sendmail": "a call of `sendmail -t`"}
        text += "\n" + table(["million instructions", *some.peers()],
                             [[name, *[number(some.where(peer=peer).median(key, 1e-6)) for peer in some.peers()]] for key, name in names.items()])
    return text


def unit(what):
    return "B" if what.startswith("memory") else "s"


def growth(rows, directory):
    """A table, plots below the directory, and the steps that are worse than linear."""
    lines, worse, links = [], [], []
    some = rows.where(scenario="growth")
    for (series,), same in some.each("series"):
        panels = []
        for (what,), costs in same.each("what"):
            by_peer = {}
            for peer in costs.peers():
                mine = costs.where(peer=peer)
                by_peer[peer] = {n: points.median("cost") for (n,), points in mine.each("n") if points.median("cost")}
                lines.append([series, what, peer, ", ".join(f"{plot.si(n, '')}: {plot.si(max(cost, 0), unit(what))}" for n, cost in by_peer[peer].items())])
                worse += [f"{peer}: {series}, {what}: {step}" for step in steps(by_peer[peer], unit(what))]
            by_peer = {peer: {n: max(cost, 1e-5) for n, cost in line.items()} for peer, line in by_peer.items() if line}
            if by_peer:
                panels.append((what, unit(what), by_peer))
        name = series.replace(" ", "-") + ".svg"
        (directory / name).write_text(plot.figure(series, panels))
        links.append(f"![Cost by {series}](plots/{name})\n")
    if not lines:
        return "", []
    verdict = "Steps that are worse than linear: " + ("; ".join(worse) + "." if worse else "not one.")
    return table(["what grows", "cost", "build", "size: cost"], lines) + "\n" + verdict + "\n\n" + "\n".join(links), worse


def steps(costs, kind):
    """The steps at which a cost grew more than its cause, beyond noise."""
    points = sorted(costs.items())
    return [f"{plot.si(c, kind)} at {plot.si(n, '')}, {plot.si(d, kind)} at {plot.si(m, '')}" for (n, c), (m, d) in zip(points, points[1:])
            if d > LEAST[kind] and d / max(c, LEAST[kind]) > TOLERANCE * m / n]


def write(results, directory, document):
    """Writes tables.md and the plots; with a document, into it too. The result is 1 if pillarbox has a step worse than linear."""
    rows = Rows([json.loads(line) for line in results.read_text().splitlines()])
    plots = document.parent / "plots" if document else directory / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    grown, worse = growth(rows, plots)
    sections = {"main": rates(rows) + "\n" + rest(rows), "slow": rates(rows, "slow "), "wear": wear(rows), "growth": grown}
    origin = f"{time.strftime('%Y-%m-%d')}, {machine.describe()}.\n\n"
    sections = {name: origin + text.strip() + "\n" for name, text in sections.items() if text.strip()}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tables.md").write_text("\n".join(f"## {name}\n\n{text}" for name, text in sections.items()))
    if document:
        page = document.read_text()
        for name, text in sections.items():
            page = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda found: found[1] + text + found[2], page, flags=re.S)
        document.write_text(page)
    print((directory / "tables.md").read_text())
    for step in worse:
        say("worse than linear:", step)
    return 1 if any(step.startswith("pillarbox") for step in worse) else 0

"""Measures pillarbox beside other mail servers: python3 tests/bench [options] [SCENARIO…]

Scenarios: main, slow (main with one core), wear, flash (as root), idle, instructions, growth; all of them by default. The results are lines
of JSON in target/bench/results.jsonl, and then tables and plots in target/bench/report/. PILLARBOX and BEFORE are two
builds to compare."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import devices
import flash
import growth
import machine
import rates
import report
import roots
import wear
from box import Box
from machine import TOP, WORK, say
from peers import BY_NAME

SCENARIOS = ["main", "slow", "wear", "flash", "idle", "instructions", "growth"]
SENDMAIL = ["nullmailer", "dma", "msmtp"]
ONE_CORE = {0}


class Bench:
    def __init__(self, options):
        self.options = options
        self.peers = [BY_NAME[name] for name in options.peers if name in BY_NAME]
        self.builds = [peer for peer in self.peers if peer.binary]
        if options.bare:
            self.peers = self.builds
        self.servers = [peer for peer in self.peers if "smtp" in peer.takes]
        self.queues = [peer for peer in self.peers if "queue" in peer.takes]
        self.results = options.results
        self.turn = 0

    def in_turn(self, peers):
        """The peers, each time from another one on."""
        self.turn += 1
        first = self.turn % len(peers) if peers else 0
        return peers[first:] + peers[:first]

    def measure(self, scenario, peer, function, arguments=(), limit=None, parameters=None, **options):
        """Appends a line of results: what a function finds out about a peer, or its error."""
        row = {"scenario": scenario, "peer": peer.name, **(parameters or {})}
        try:
            with Box(peer, row.get("store", "disk"), **({"is_bare": self.options.bare} | options)) as box:
                row |= function(box, *arguments)
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"[:500]
        if limit:
            row["limit"] = limit
        self.append(row)

    def append(self, row):
        with open(self.results, "a") as file:
            file.write(json.dumps(row | {"time": round(time.time()), "load": os.getloadavg()[0]}) + "\n")
        say(
            " ".join(
                f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
            )
        )

    def main(self):
        for number in range(self.options.rounds):
            for scenario, parameters, function, arguments in rates.main_rows(self.options.stores, number):
                peers = {"sendmail": self.peers, "queue": self.queues}.get(scenario, self.servers)
                self.row(scenario, peers, function, arguments, parameters | {"round": number})

    def slow(self):
        for number in range(self.options.rounds):
            for scenario, parameters, function, arguments in rates.slow_rows():
                parameters |= {"round": number, "cores": len(ONE_CORE)}
                self.row(scenario, self.servers, function, arguments, parameters, cores=ONE_CORE)

    def row(self, scenario, peers, function, arguments, parameters, **options):
        with machine.alone():
            limit = rates.row_limit(scenario, parameters)
            for peer in self.in_turn(peers):
                self.measure(scenario, peer, function, arguments, limit, parameters, **options)

    def wear(self):
        for peer in self.servers:
            with machine.alone():
                self.measure("wear", peer, wear.messages)

    def flash(self):
        flash.leave_network()
        foreign = [kind for kind in self.options.systems if devices.lack(kind) and not self.options.own_kernel]
        for kind in self.options.systems:
            for peer in self.builds if kind not in foreign else []:
                parameters = {"system": kind, "store": "flash"} | flash.origin(kind)
                try:
                    with machine.alone(), devices.device(kind) as device:
                        self.measure("flash", peer, flash.costs, [device], None, parameters, is_bare=True)
                except RuntimeError as error:
                    self.append({"scenario": "flash", "peer": peer.name, "error": str(error)} | parameters)
        if foreign:
            with machine.alone():
                self.flash_elsewhere(foreign)

    def flash_elsewhere(self, kinds):
        """Under Debian's kernel, by this program; its rows become ours."""
        say(f"measures {', '.join(kinds)} in a virtual machine: {devices.lack(kinds[0])} is not in this kernel")
        share = WORK / "elsewhere"
        share.mkdir(exist_ok=True)
        rows = share / "results.jsonl"
        rows.unlink(missing_ok=True)
        builds = [f"{name}={os.environ.get(name, '')}" for name in ("PILLARBOX", "BEFORE")]
        bench = ["env", *builds, "python3", "tests/bench", "flash", "--own-kernel", "--results", rows]
        bench += ["--systems", "/".join(kinds), "--peers", ",".join(peer.name for peer in self.builds)]
        done = subprocess.run([TOP / "tests/bench/kernel", share, *bench], cwd=TOP, check=False)
        for line in rows.read_text().splitlines() if rows.exists() else []:
            self.append(json.loads(line))
        if done.returncode:
            for kind in kinds:
                error = f"this kernel has no {devices.lack(kind)}, and tests/bench/kernel failed"
                self.append({"scenario": "flash", "peer": "pillarbox", "system": kind, "error": error})

    def idle(self):
        for peer in self.servers:
            self.measure("idle", peer, wear.idle)

    def instructions(self):
        for peer in self.builds:
            self.measure("instructions", peer, wear.instructions, is_bare=True)

    def growth(self):
        for number in range(self.options.rounds):
            for series, store, keys, sizes, function in growth.SERIES:
                for size in sizes:
                    parameters = {"series": series, "store": store, "n": size, "round": number}
                    for peer in self.in_turn(self.builds):
                        with machine.alone():
                            self.measure(
                                "growth", peer, function, [size], None, parameters, is_bare=True, keys=keys(size)
                            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument(
        "--peers",
        type=lambda text: text.split(","),
        default=["pillarbox", "before", "postfix", *SENDMAIL],
        help="of: " + ", ".join(BY_NAME),
    )
    parser.add_argument("--rounds", type=int, default=2, help="how often each row of main and growth is measured")
    parser.add_argument("--stores", type=lambda text: text.split(","), default=list(machine.STORES), help="disk,tmpfs")
    parser.add_argument(
        "--bare", action="store_true", help="pillarbox alone, without roots: no root and no network are needed"
    )
    parser.add_argument(
        "--systems",
        type=lambda text: text.split("/"),
        default=list(devices.KINDS),
        help="for flash, with / between them: " + "/".join(devices.KINDS),
    )
    parser.add_argument(
        "--own-kernel",
        action="store_true",
        help="flash: no virtual machine for file systems that this kernel lacks",
    )
    parser.add_argument("--results", type=pathlib.Path, default=WORK / "results.jsonl", help="the file of the results")
    parser.add_argument("--document", type=pathlib.Path, help="a document whose tables and plots are replaced by these")
    options = parser.parse_args()
    if unknown := [kind for kind in options.systems if kind not in devices.KINDS]:
        parser.error(f"unknown file systems: {', '.join(unknown)}")
    bench = Bench(options)
    for peer in bench.builds:
        if not peer.binary.exists():
            parser.error(f"there is no {peer.binary}; PILLARBOX and BEFORE name the builds, --peers leaves one out")
    roots.make_tools()
    if not options.bare and options.scenarios != ["flash"]:
        roots.make_base()
        for peer in bench.peers:
            roots.make_root(peer)
    # The results of earlier runs are kept aside.
    if bench.results.exists():
        bench.results.rename(WORK / f"results.{int(bench.results.stat().st_mtime)}.jsonl")
    for scenario in options.scenarios or SCENARIOS:
        begin = time.time()
        getattr(bench, scenario)()
        say(f"{scenario}: {time.time() - begin:.0f} s")
    sys.exit(report.write(bench.results, WORK / "report", options.document))


if __name__ == "__main__":
    main()

"""Measures pillarbox beside other mail servers: python3 tests/bench [options] [SCENARIO…]

Scenarios: main, slow (main with one core), wear, idle, instructions, growth; all of them by default. The results are lines
of JSON in target/bench/results.jsonl, and then tables and plots in target/bench/report/. PILLARBOX and BEFORE are two
builds to compare."""

import argparse
import json
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True

import growth
import machine
import rates
import report
import roots
import wear
from box import Box
from machine import WORK, say
from peers import BY_NAME

SCENARIOS = ["main", "slow", "wear", "idle", "instructions", "growth"]
SENDMAIL = ["nullmailer", "dma", "msmtp"]
ONE_CORE = {0}
SLOW = {("inbound", "disk", 1024, 1), ("inbound", "disk", 1024, 8), ("relay", "disk", 1024, 16)}


class Bench:
    def __init__(self, options):
        self.options = options
        self.peers = [BY_NAME[name] for name in options.peers if name in BY_NAME]
        self.results = WORK / "results.jsonl"
        self.turn = 0

    def add(self, scenario, peer, measured, **parameters):
        """Appends a line of results, and shows it."""
        row = {"scenario": scenario, "peer": peer, **parameters, **measured}
        with open(self.results, "a") as file:
            file.write(json.dumps(row | {"time": round(time.time()), "load": os.getloadavg()[0]}) + "\n")
        say(
            " ".join(
                f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
            )
        )

    def measure(self, scenario, peers, function, arguments=(), limit=None, parameters=None, **options):
        """A row: each peer does the same work, one after the other, in an order that rotates."""
        parameters, self.turn = parameters or {}, self.turn + 1
        first = self.turn % len(peers) if peers else 0
        limit = limit() if limit else None
        for peer in peers[first:] + peers[:first]:
            try:
                with Box(peer, parameters.get("store", "disk"), self.options.bare, **options) as box:
                    measured = function(box, *arguments)
            except Exception as error:
                measured = {"error": str(error)[:500]}
            self.add(scenario, peer.name, measured | ({"limit": limit} if limit else {}), **parameters)

    def main(self, cores=None):
        servers = [peer for peer in self.peers if "smtp" in peer.takes]
        for number in range(self.options.rounds):
            for scenario, parameters, function, arguments in rates.main_rows(self.options.stores):
                if (
                    cores
                    and (scenario, parameters["store"], parameters.get("size"), parameters.get("sessions")) not in SLOW
                ):
                    continue
                peers = self.peers if scenario == "sendmail" else servers
                # The long rows are in the first round only.
                if number and scenario in ("memory", "queue"):
                    continue
                with machine.alone():
                    self.measure(
                        scenario if not cores else f"slow {scenario}",
                        peers,
                        function,
                        arguments,
                        lambda: rates.row_limit(scenario, parameters),
                        parameters | {"round": number},
                        cores=cores,
                    )

    def slow(self):
        self.main(ONE_CORE)

    def wear(self):
        with machine.alone():
            self.measure("wear", [peer for peer in self.peers if "smtp" in peer.takes], wear.messages)

    def idle(self):
        self.measure("idle", [peer for peer in self.peers if "smtp" in peer.takes], wear.idle)

    def builds(self):
        return [peer for peer in self.peers if peer.binary]

    def instructions(self):
        for peer in self.builds():
            with Box(peer, is_bare=True) as box:
                self.add("instructions", peer.name, wear.instructions(box))

    def growth(self):
        for number in range(min(2, self.options.rounds)):
            for series, keys, sizes, function in growth.SERIES:
                for size in sizes:
                    self.turn += 1
                    builds = self.builds() if self.turn % 2 else self.builds()[::-1]
                    for peer in builds:
                        with machine.alone(), Box(peer, is_bare=True, keys=keys(size)) as box:
                            for what, cost in function(box, size).items():
                                self.add(
                                    "growth", peer.name, {"cost": cost}, series=series, what=what, n=size, round=number
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
    parser.add_argument("--rounds", type=int, default=3, help="how often each row of main and growth is measured")
    parser.add_argument("--stores", type=lambda text: text.split(","), default=list(machine.STORES), help="disk,tmpfs")
    parser.add_argument(
        "--bare", action="store_true", help="pillarbox alone, without roots: no root and no network are needed"
    )
    parser.add_argument("--document", type=pathlib.Path, help="a document whose tables and plots are replaced by these")
    options = parser.parse_args()
    bench = Bench(options)
    for peer in bench.builds():
        if not peer.binary.exists():
            parser.error(f"there is no {peer.binary}; PILLARBOX and BEFORE name the builds, --peers leaves one out")
    roots.make_tools()
    if options.bare:
        bench.peers = bench.builds()
    else:
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

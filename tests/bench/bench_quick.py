#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit bench migrate and bench huge, --quick --json: valid JSON of schema 1, and figures that can be.

Usage: bench_quick.py GODWIT [--floors]. Times are never looked at. With --floors ratios to memcpy
are, which a host that is merely slow or busy does not change much: each floor is some 0.6 of the
lowest ratio that was seen on a busy host, so a row that comes to cost twice as much fails. A row
below its floor is measured again alone, up to seven times, at last half a minute apart, as whoever
keeps the host busy may do it for a while; one good measurement is enough.
GODWIT_BENCH_FLOORS=0 leaves them out.
"""
import json
import os
import subprocess
import sys
import time

CASES = {"single", "scattered-512", "contiguous-512", "large", "shared-512", "huge-2m", "mmu-2m",
         "writer-512", "writer-large", "budget-50", "budget-100", "budget-500", "first-touch",
         "query", "protect", "mmu-clear"}
HUGE_CASES = {"move", "move-all", "move-hugetlb", "move-writer", "split", "collapse",
              "collapse-writer", "scan"}
SKIPPED = 77
# The lowest ratio of a case with one copy thread, in a plain build and in one with checks.
FLOORS = {"single": (0.012, 0.012), "scattered-512": (0.025, 0.022), "shared-512": (0.11, 0.09),
          "contiguous-512": (0.36, 0.22), "large": (0.33, 0.22), "huge-2m": (0.40, 0.36),
          "mmu-2m": (0.36, 0.26), "query": (5, 4), "protect": (0.3, 0.3)}


def check_spread(spread):
    assert 0 < spread["min"] <= spread["median"] <= spread["max"], spread


def check_row(row):
    assert row["name"] == "{case}/{blocker}/{arena}/{copy_threads}".format(**row), row
    assert row["blocker"] in ("signal", "userfaultfd"), row
    if "skipped" in row:
        assert row["skipped"] and "ratio" not in row, row
        return False
    check_spread(row["ratio"])
    check_spread(row["page_ns"])
    assert row["clock"] in ("cpu", "wall"), row
    assert row["rounds"] >= 1 and row["pages"] >= 1 and row["pages_per_s"] > 0, row
    assert row["not_moved"] == 0 or row["writer"], row
    assert ("overruns" in row) == ("pause_budget_us" in row), row
    assert ("stalls" in row) == row["writer"], row
    if row["writer"]:
        stalls = row["stalls"]
        assert 0 <= stalls["p50_us"] <= stalls["p99_us"] <= stalls["max_us"], row
    return True


def run(godwit, *options, command="migrate"):
    return subprocess.run([godwit, "bench", command, *options], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)


def floor_of(report, row):
    if row["case"] not in FLOORS or row["copy_threads"] != 1 or "skipped" in row:
        return 0
    return FLOORS[row["case"]][report["debug_build"]]


def measure_again(godwit, row):
    done = run(godwit, "--quick", "--rounds", "8", "--json", "--filter", row["name"])
    assert done.returncode == 0, (done.returncode, done.stderr)
    again = [r for r in json.loads(done.stdout)["rows"] if r["name"] == row["name"]]
    return again[0]["ratio"]["median"]


def check_floors(godwit, report):
    kernel = [int(n) for n in report["host"]["kernel"].split("-")[0].split(".")[:2]]
    if kernel < [5, 13]:
        print("no floors: the host cannot move page tables of shared memory")
        return
    for row in report["rows"]:
        floor = floor_of(report, row)
        seen = [row["ratio"]["median"]] if floor else []
        while seen and seen[-1] < floor and len(seen) < 8:
            time.sleep(2 ** len(seen) / 4)
            seen.append(measure_again(godwit, row))
        assert not seen or seen[-1] >= floor, \
            f"{row['name']}: ratios {seen} to memcpy, all below {floor}"


def check_usage(godwit):
    for bad in (["--rounds", "0"], ["--rounds", "x"], ["--nonsense"], ["word"],
                ["--against", "x"], ["--against"]):
        done = run(godwit, *bad)
        assert done.returncode == 2 and done.stderr and not done.stdout, (bad, done)


def check_table(godwit):
    done = run(godwit, "--quick", "--rounds", "1", "--filter", "query/signal")
    assert done.returncode == 0, done
    assert any(line.startswith("query") for line in done.stdout.splitlines()), done.stdout
    assert "\033" not in done.stdout + done.stderr, "colour or progress without a terminal"


def check_against_host(godwit):
    done = run(godwit, "--against", "host", "--quick", "--rounds", "1", "--json")
    if done.returncode == SKIPPED and not done.stdout:
        assert "one node with memory" in done.stderr, done
        return
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    assert report["against"] == "host", report
    for row in report["rows"]:
        assert "skipped" in row or row["kernel_page_ns"] > 0 and not row["elsewhere"], row


def check_huge(godwit):
    done = run(godwit, "--quick", "--json", command="huge")
    assert done.returncode == 0, (done.returncode, done.stderr)
    report = json.loads(done.stdout)
    assert report["schema"] == 1 and report["command"] == "bench huge", report
    assert {row["case"] for row in report["rows"]} == HUGE_CASES, report["rows"]
    assert any(check_row(row) for row in report["rows"]), "no row has figures"
    assert run(godwit, "--rounds", "0", command="huge").returncode == 2
    # With arenas of every kind: what the host has not is said, and the rest is measured.
    done = run(godwit, "--rounds", "1", "--json", "--filter", "move-hugetlb/signal", command="huge")
    assert done.returncode == 0, (done.returncode, done.stderr)
    rows = json.loads(done.stdout)["rows"]
    assert {row["arena"] for row in rows} == {"4k", "2m", "pool"}, rows
    assert any([check_row(row) for row in rows]), rows


def main():
    godwit = sys.argv[1]
    check_usage(godwit)
    done = run(godwit, "--quick", "--json")
    if done.returncode == SKIPPED:
        print("nothing can be measured on this host")
        return SKIPPED
    assert done.returncode == 0, (done.returncode, done.stderr)
    report = json.loads(done.stdout)
    assert report["schema"] == 1 and report["command"] == "bench migrate", report
    assert isinstance(report["debug_build"], bool) and report["host"]["kernel"], report
    assert {row["case"] for row in report["rows"]} == CASES, report["rows"]
    measured = sum(check_row(row) for row in report["rows"])
    assert measured, "no row has figures"
    if "--floors" in sys.argv[2:] and os.environ.get("GODWIT_BENCH_FLOORS") != "0":
        check_floors(godwit, report)
    check_table(godwit)
    check_against_host(godwit)
    check_huge(godwit)
    print(f"{measured} of {len(report['rows'])} rows measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())

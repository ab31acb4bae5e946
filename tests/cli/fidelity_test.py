#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Is docs/fidelity.md out of date? scripts/fidelity must see what matters, and nothing else.

Usage: fidelity_test.py FIDELITY: the script. No kernel is booted: its functions get made-up runs.
"""
import importlib.machinery
import importlib.util
import sys

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("fidelity", sys.argv[1])
fidelity = importlib.util.module_from_spec(importlib.util.spec_from_loader("fidelity", loader))
loader.exec_module(fidelity)

RELEASES = {"6.12": "Linux 6.12 (6.12.117+deb12-amd64)", "6.1": "Linux 6.1 (6.1.0-56-amd64)"}
ORDER = ["tests/real-kernel/a.gw", "examples/b.gw"]


def run(lines=10, differs=None, once=(), example="1", twice=False):
    """A kernel that played both stories; in the first one a line may differ."""
    found = [{"line": 3, "command": "A move", "engine": "0", "host": example,
              "differs": differs}] * (1 + twice) if differs else []
    kernel = {name: ([], {"story": name, "result": "held"}) for name in ORDER}
    return fidelity.Run(kernel, {ORDER[0]: (found, lines), ORDER[1]: ([], 5)}, list(once))


def page(releases=RELEASES, order=ORDER, **more):
    return fidelity.page_of(order, {"6.12": run(**more), "6.1": run()}, releases)


def judge(there, now):
    (verdict,) = fidelity.judge_page(there, now)
    return verdict


def main():
    there = page(differs="reason")
    newer = {"6.12": "Linux 6.12 (6.12.118+deb12-amd64)", "6.1": "Linux 6.1 (6.1.0-57-amd64)"}
    for noise in (there, page(releases=newer, differs="reason"), page(differs="reason", once=ORDER),
                  page(differs="reason", example="2"), page(differs="reason", twice=True)):
        assert judge(there, noise).kind == "passed", judge(there, noise)
    for change in (page(differs="reason", lines=11), page(), page(differs="another"),
                   page(differs="reason", order=ORDER + ["examples/c.gw"]),
                   there + "a line of not-shown.md\n"):
        verdict = judge(there, change)
        assert verdict.kind == "failed" and "scripts/fidelity --write" in verdict.why, verdict
    assert "is now '| observations compared | 16 | 15 |'" in judge(
        there, page(differs="reason", lines=11)).why

    class Options:
        all = True

    failed = [fidelity.Verdict("failed", "6.12 a", "")]
    both = {"6.12": run(), "6.1": run()}
    for kernels, verdicts in (({"6.12": run()}, []), (both, failed)):
        (verdict,) = fidelity.judge_written(Options, ORDER, kernels, RELEASES, verdicts)
        assert verdict.kind == "skipped", verdict
    (verdict,) = fidelity.judge_written(Options, ORDER, both, RELEASES, [])
    assert verdict.kind == "failed" and "out of date" in verdict.why, verdict


main()

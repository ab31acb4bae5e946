#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the file tables of ARCHITECTURE.md: every source file with the first sentence of its essay."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDERS = {
    "base": "nothing about memory: lists, locks, waits, failure injection, trace",
    "machine": "what stands for hardware",
    "phys": "frames, zones, buddy, LRU",
    "virt": "spaces, page tables, faults, objects, policies",
    "migrate": "moving pages",
    "thp": "transparent huge pages",
    "hugetlb": "pools of huge pages",
    "ksm": "same-page merging",
    "cma": "contiguous memory",
    "compact": "compaction",
    "balance": "NUMA balancing",
    "engine": "assembling a machine; the public functions",
    "text": "Linux's texts and tunables by path",
    "host": "the running kernel",
    "lab": "stories",
    "cli": "the command",
}


def first_sentence(path):
    lines = []
    for line in path.read_text().splitlines()[1:]:
        if not line.startswith("//") or line.strip() == "//":
            break
        lines.append(line[2:].strip())
    text = " ".join(lines)
    end = re.search(r"\.(\s|$)", text)
    return text[: end.start()] if end else text


def main():
    for folder, what in FOLDERS.items():
        files = sorted((ROOT / "src" / folder).glob("*.c"))
        if not files:
            continue
        print(f"### src/{folder}: {what}\n\n| file | what |\n|---|---|")
        for path in files:
            print(f"| {path.name} | {first_sentence(path)} |")
        print()


main()

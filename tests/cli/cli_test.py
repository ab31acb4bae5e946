#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the command does with what it cannot choose: names of processes, full disks, rights.

Usage: cli_test.py GODWIT HOSTS REAL_KERNEL: the command, a folder with recorded machines
(tests/data/host), and the script.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

GODWIT, HOSTS, REAL_KERNEL = map(os.path.abspath, sys.argv[1:4])
with open(GODWIT, "rb") as program:
    # ThreadSanitizer keeps its shadow where the tasks of a story on the host have their memory.
    HOST_MEMORY = b"__tsan_init" not in program.read()


def godwit(*words, **more):
    return subprocess.run([GODWIT, *words], capture_output=True, timeout=300,
                          stdin=subprocess.DEVNULL, **more)


def machine(folder, process, mapping):
    """A copy of a recorded machine whose process 42, and its first mapping, have these names."""
    shutil.copytree(os.path.join(HOSTS, "2node"), folder, symlinks=True, dirs_exist_ok=True)
    of_process = os.path.join(folder, "proc/42")
    with open(os.path.join(of_process, "status"), "r+b") as f:
        lines = f.read().split(b"\n")
        lines[0] = b"Name:\t" + process
        f.seek(0)
        f.write(b"\n".join(lines))
        f.truncate()
    with open(os.path.join(of_process, "smaps"), "r+b") as f:
        first, rest = f.read().split(b"\n", 1)
        f.seek(0)
        f.write(b" ".join(first.split()[:5]) + b" " + mapping + b"\n" + rest)
        f.truncate()


def test_names():
    """Control characters never reach the terminal, and what is no UTF-8 never gets out."""
    with tempfile.TemporaryDirectory() as folder:
        machine(folder, b"a\x1b[31m\xffb\xc3\xa9", b"/x\x1b]0;y\x07\xc0\x80z")
        table = godwit("where", "--root", folder, "42")
        assert table.returncode == 0, table
        table.stdout.decode("utf-8")
        assert all(c == 10 or 32 <= c < 127 or c >= 160 for c in table.stdout.decode().encode(
            "utf-32-le")[::4]), table.stdout
        assert rb"a\x1b[31m\xffb" in table.stdout and b"\xc3\xa9" in table.stdout, table.stdout
        assert rb"/x\x1b]0;y\x07\xc0\x80z" in table.stdout, table.stdout
        text = godwit("where", "--json", "--root", folder, "42")
        assert text.returncode == 0, text
        view = json.loads(text.stdout.decode("utf-8"))
        assert view["name"] == "a\x1b[31m\\xffb\u00e9", view["name"]
        assert view["mappings"][0]["name"] == "/x\x1b]0;y\x07\\xc0\\x80z", view["mappings"][0]


def test_name_of_process():
    """The kernel escapes a newline and a backslash in a name; the name is what it was again."""
    with tempfile.TemporaryDirectory() as folder:
        machine(folder, rb"a\nb\\n\c", b"/x")
        view = json.loads(godwit("where", "--json", "--root", folder, "42").stdout)
        assert view["name"] == "a\nb\\n\\c", view["name"]
        table = godwit("where", "--root", folder, "42").stdout
        assert rb", a\x0ab\n\c, " in table, table


def test_ended():
    """One error for a process that has ended, whatever could still be read of it."""
    with tempfile.TemporaryDirectory() as folder:
        machine(folder, b"a\nState:\tZ (zombie)", b"/x")
        for words in ([], ["--json"]):
            run = godwit("where", *words, "--root", folder, "42")
            assert (run.returncode, run.stdout) == (1, b""), run
            assert run.stderr == b"godwit: process 42 ended\n", run
        machine(folder, b"a", b"/x")
        with open(os.path.join(folder, "proc/42/numa_maps"), "r+") as f:
            lines = [line for line in f if not line.startswith("202000000000")]
            f.seek(0)
            f.writelines(lines)
            f.truncate()
        table = godwit("where", "--root", folder, "42").stdout
        assert b"\n?: not told, the process changed its memory meanwhile" in table, table
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        run = godwit("where", str(child.pid))
        assert run.returncode == 1 and run.stderr.endswith(b" ended\n"), run


def test_damaged_distance():
    """A distance that is no number is not shown as one."""
    with tempfile.TemporaryDirectory() as folder:
        machine(folder, b"a", b"/x")
        name = "sys/devices/system/node/node1/distance"
        for text in ("20 -5\n", "20 1x\n", "20 99999999999\n"):
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)
            for words in (["nodes"], ["where", "42"]):
                run = godwit(words[0], "--root", folder, *words[1:])
                assert run.returncode == 1 and not run.stdout, run
                assert run.stderr == f"godwit: {name} is damaged\n".encode(), run


def test_newline():
    """A newline, which the kernel writes as four characters, is one again; not on a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        machine(folder, b"a", rb"/x\012y\040\z")
        view = json.loads(godwit("where", "--json", "--root", folder, "42").stdout)
        assert view["mappings"][0]["name"] == "/x\ny\\040\\z", view["mappings"][0]
        table = godwit("where", "--root", folder, "42").stdout
        assert rb"/x\x0ay\040\z" in table, table


def test_page_sizes():
    """Pages by size and node; what a recorded machine cannot be asked is a question mark."""
    folder = os.path.join(HOSTS, "4node-thp")
    view = json.loads(godwit("where", "--json", "--root", folder, "42").stdout)
    by_address = {m["address"]: m for m in view["mappings"]}
    assert by_address["101000000000"]["page_sizes"] == [
        {"page_bytes": 2 << 20, "kind": "hugetlb", "resident_bytes": 6 << 20,
         "node_bytes": {"0": 0, "1": 0, "2": 6 << 20, "3": 0}}], view
    mixed = by_address["100000000000"]["page_sizes"]
    assert [(s["page_bytes"], s["kind"], s["node_bytes"]) for s in mixed] == [
        (4096, "base", None), (2 << 20, "thp", None)], mixed
    assert [s["kind"] for s in view["total"]["page_sizes"]] == ["base", "thp", "hugetlb"], view
    for sums in view["mappings"] + [view["total"]]:
        assert sum(s["resident_bytes"] for s in sums["page_sizes"]) == sums["resident_bytes"], sums
    table = godwit("where", "--total", "--root", folder, "42").stdout.decode()
    rows = [line.split() for line in table.splitlines()]
    assert ["sum", "14M", "?", "?", "?", "?", "2M", "thp"] in rows, table
    assert ["sum", "6M", "-", "-", "6M", "-", "2M", "hugetlb"] in rows, table
    assert rows[-2][0] == "?:" and rows[-1][0] == "4K:", table
    # The sums of the table, and no others: an object of schema 2.
    assert view["schema"] == 2 and "by_page_size" not in view, view
    told = [f"{s['resident_bytes'] >> 20}M" for s in view["total"]["page_sizes"]
            if s["page_bytes"] > 4096]
    assert told == [row[1] for row in rows if row[0] == "sum" and row[-1] != "4K"], table


def test_huge_without_access():
    """smaps of older kernels does not count huge entries without access; numa_maps does."""
    with tempfile.TemporaryDirectory() as folder:
        machine(folder, b"a", b"/x")
        of_process = os.path.join(folder, "proc/42")
        with open(os.path.join(of_process, "smaps"), "a") as f:
            f.write("7fffffff0000000-7fffffff0800000 ---p 00000000 00:00 0 \nSize: 8192 kB\n"
                    "KernelPageSize: 4 kB\nRss: 0 kB\nAnonymous: 0 kB\nAnonHugePages: 0 kB\n")
        with open(os.path.join(of_process, "numa_maps"), "a") as f:
            f.write("7fffffff0000000 default anon=2048 dirty=2048 N1=2048 kernelpagesize_kB=4\n")
        view = json.loads(godwit("where", "--json", "--root", folder, "42").stdout)
        mapping = view["mappings"][-1]
        assert mapping["address"] == "7fffffff0000000", mapping
        assert mapping["resident_bytes"] == mapping["huge_bytes"] == 8 << 20, mapping
        assert [s["kind"] for s in mapping["page_sizes"]] == ["thp"], mapping
        assert mapping["page_sizes"][0]["node_bytes"]["1"] == 8 << 20, mapping


def test_full_disk():
    """Output that cannot be written is a failure, whatever the command."""
    with tempfile.TemporaryDirectory() as folder:
        story, report = os.path.join(folder, "a.gw"), os.path.join(folder, "report")
        with open(story, "w") as f:
            f.write("machine nodes=2 memory=8M\ntask A\nA map b 16K\nA write b 1\n")
        with open(report, "wb") as f:
            f.write(godwit("lab", "run", "--backend", "soft", "--json", story).stdout)
        for words in (["nodes"], ["nodes", "--json"], ["where", str(os.getpid())],
                      ["where", "--json", str(os.getpid())], ["check"], ["check", "--json"],
                      ["lab", "run", "--backend", "soft", story],
                      ["lab", "run", "--backend", "soft", "--json", story],
                      ["lab", "compare", "--results", report, report],
                      ["bench", "--help"], ["help"], ["--version"]):
            with open("/dev/full", "wb") as full:
                run = subprocess.run([GODWIT, *words], stdout=full, stderr=subprocess.PIPE,
                                     stdin=subprocess.DEVNULL, timeout=300)
            assert run.returncode == 1 and b"cannot write the output" in run.stderr, (words, run)


def test_refused():
    """Who is root already is not told to become it; the kernel's reason is always there."""
    run = godwit("where", "1")
    if run.returncode:
        assert (b"root may look" in run.stderr) == (os.geteuid() != 0), run
        assert b"Permission denied" in run.stderr or b"not permitted" in run.stderr, run


def play(text, *words):
    """A story from standard input, on the engine."""
    return subprocess.run([GODWIT, "lab", "run", *words, "-"], input=text.encode(),
                          capture_output=True, timeout=300)


def play_longer(found, text, *words):
    """A story with pauses of N: on a busy machine it may take long ones until it is as expected."""
    for pause in "20ms", "200ms", "2s", "20s":
        run = play(text.replace("sleep N", "sleep " + pause), *words)
        if run.returncode == 77 or found(run):
            break
    return run


BACKENDS = ["soft", "signal", "userfaultfd"]
LOADED = "machine nodes=1\ntask A\nA map b 1M%s\nA load b writes threads=2\n%s\n"


def test_load_dies():
    """A load that meets memory it may not access ends; the stop, or the end, says of what."""
    for backend in BACKENDS:
        for how, then in (" ro", "sleep N"), ("", "A protect b[0:64K] none\nsleep N"), (
                "", "A unmap b[64K:64K]\nsleep N"), (
                "", "A protect b[0:64K] none\nA protect b[64K:64K] none\nsleep N"):
            run = play_longer(lambda run: run.returncode == 1,
                              LOADED % (how, then + "\nA stop b"), "--backend", backend)
            if run.returncode == 77:
                continue
            assert run.returncode == 1 and b"SIGSEGV at 0x" in run.stdout, (backend, then, run)
            assert b", 1 failed" in run.stdout, run
            run = play_longer(lambda run: run.returncode == 1, LOADED % (how, then),
                              "--backend", backend)
            assert run.returncode == 1 and b"load ended with SIGSEGV at 0x" in run.stdout, run
            run = play_longer(lambda run: run.returncode == 0,
                              LOADED % (how, then + "\nA stop b\nexpect signal SIGSEGV"),
                              "--backend", backend)
            assert run.returncode == 0, run
            run = play_longer(lambda run: run.returncode == 1,
                              LOADED % (how, then + "\nA stop b\nexpect vmstat pgmigrate_fail 0"),
                              "--backend", backend)
            assert run.returncode == 1, run
        run = play(LOADED % ("", "sleep 5ms\nA stop b"), "--backend", backend)
        assert run.returncode in (0, 77), run


def test_load_exit():
    """The threads of a load are gone before their task is."""
    for backend in BACKENDS:
        for wait in "", "sleep 5ms\n":
            for _ in range(3):
                run = play(LOADED % ("", wait + "exit A\nsleep 5ms\ntask B"),
                           "--backend", backend)
                assert run.returncode in (0, 77), (backend, wait, run)
        run = play(LOADED % (" ro", "sleep 5ms\nexit A"), "--backend", backend)
        assert run.returncode in (1, 77) and (
            run.returncode == 77 or b"SIGSEGV at 0x" in run.stdout), run


def test_says():
    """What is not in the build is named; a migrate says what it returned, 0 too."""
    for line, word in (("A advise b mergeable", b"advice mergeable"),
                       ("set sys/kernel/mm/ksm/run 1", b"the value 1 of sys/kernel/mm/ksm/run")):
        run = play("machine nodes=1\ntask A\nA map b 64K\n" + line + "\n")
        assert run.returncode == 2 and word in run.stdout + run.stderr, run
    run = play("machine nodes=2 memory=8M\ntask A\nA migrate from=0 to=1\n", "--backend", "soft")
    assert run.returncode == 0 and b"return 0" in run.stdout, run


STAYED = """machine nodes=2
task A
A map b 256K
A write b 1
A map z 64K
A read z
fork B from A
A write b[64K:64K] 2
A pin b[96K:8K]
"""


def test_stayed():
    """What mbind, migrate and move leave where it is, at the names of the story, and why."""
    shared = "mapped by several spaces and MOVE_ALL not given (mapped 2 times)"
    pinned = "node 0   pinned for long-term use (line 9 of the story)"
    run = play(STAYED + "A mbind b bind:1 move\nA mbind z bind:1 move\nA migrate from=0 to=1\n"
               "A move b[96K:4K] to=1\nB mbind b bind:0,1 move\n", "--backend", "soft")
    assert run.returncode == 0, run
    said = [line.strip() for line in run.stdout.decode().splitlines() if " stayed " in line]
    assert said == [
        f"stayed  A.b[0:64K]      16 pages  node 0   {shared}",
        f"stayed  A.b[96K:8K]     2 pages   {pinned}",
        f"stayed  A.b[128K:128K]  32 pages  node 0   {shared}",
        "stayed  A.z  16 pages  no node  the shared zero page does not move",
        f"stayed  A.b[96K:8K]  2 pages  {pinned}",
        f"stayed  A.b[96K:4K]  1 page  {pinned}"], run.stdout.decode()
    run = play(STAYED + "A mbind b bind:1 move\n", "--backend", "soft", "--json")
    answer = [json.loads(line) for line in run.stdout.splitlines()][-2]
    assert answer["stayed_more"] == 0 and len(answer["stayed"]) == 3, answer
    assert answer["stayed"][1] == {
        "range": "A.b[96K:8K]", "pages": 2, "page_size": 4096, "node": 0, "why": "PINNED",
        "text": "pinned for long-term use", "detail": "line 9 of the story"}, answer


def test_stayed_long():
    """A long list is cut short for people, and whole for programs up to 512 entries."""
    own = "".join(f"A write b[{8 * i}K:4K] 2\n" for i in range(600))
    story = ("machine nodes=2\ntask A\nA map b 4800K\nA write b 1\nfork B from A\n" + own +
             "A mbind b bind:1 move\n")
    run = play(story, "--backend", "soft")
    said = [line for line in run.stdout.decode().splitlines() if " stayed " in line]
    assert len(said) == 8 and said[-1] == "          stayed  593 pages of 4K more", run
    answer = [json.loads(line) for line in play(story, "--backend", "soft", "--json")
              .stdout.splitlines()][-2]
    assert len(answer["stayed"]) == 512 and answer["stayed_more"] == 88, answer


def test_stayed_size():
    """A page that stayed is told with its size."""
    story = ("machine nodes=2 memory=64M\nset sys/kernel/mm/transparent_hugepage/%s/enabled always\n"
             "task A\nA map b 2M\nA write b 1\nfork B from A\nA move b to=1\n")
    for sizes, told in ("hugepages-64kB", b"32 pages of 64K"), ("hugepages-2048kB", b"1 page of 2M"):
        run = play(story % sizes, "--backend", "soft")
        assert run.returncode == 0 and b"stayed  A.b  " + told in run.stdout, run


def test_stayed_part():
    """A huge page whose first 4 KiB are not mapped is where the rest of it is mapped."""
    story = ("machine nodes=2 memory=64M\nset sys/kernel/mm/transparent_hugepage/enabled always\n"
             "task A\nA map a 4M align=2M\nA write a 1\nA unmap a[0:4K]\nA pin a[8K:4K]\n"
             "%s\n")
    for call, last in (("A mbind a[4K:4092K] bind:1 move", 1), ("A migrate from=0 to=1", 1),
                       ("A move a to=1", 2)):
        run = play(story % call, "--backend", "soft")
        said = [line.split()[1] for line in run.stdout.decode().splitlines() if " stayed " in line]
        assert said[-last:] == ["A.a[4K:2044K]", "A.a[2M:2M]"][:last], run


def test_keep_huge_of_pool():
    """What the numbers of keep_huge are of; and a page of a pool has a reason in full, once."""
    story = ("machine nodes=2 memory=64M\nmachine hugepages=1@0\ntask A cpu=0\nA map h 2M hugetlb\n"
             "A write h 1\nfill node=1\n%s\nexpect errno ENOMEM\n")
    for call in ("A move h to=1 keep_huge", "A migrate from=0 to=1 keep_huge",
                 "A mbind h bind:1 move keep_huge"):
        run = play(story % call, "--backend", "soft")
        out = run.stdout.decode()
        assert "transparent huge pages of 2M taken up: 0 moved whole, 0 stayed, 0 split\n" in out, run
        assert out.count("(node 1: ") == 1 and out.count(" kB in a row)") == 1, run


def test_smaps_offset_of_pool():
    """Private memory of a pool is of a file without a name, in Linux: smaps has the offset in it."""
    story = ("machine nodes=1 memory=64M\nmachine hugepages=3@0\ntask A\nA map h 6M hugetlb\n"
             "A write h 1\nA unmap h[0:2M]\nA protect h[4M:2M] r\nshow smaps A.h\n"
             "A remap h[4M:2M] x\nshow smaps A.x\n")
    out = play(story, "--backend", "soft").stdout.decode()
    heads = [line.split()[1:3] for line in out.splitlines() if "/anon_hugepage" in line]
    assert heads == [["rw-p", "00200000"], ["r--p", "00400000"], ["r--p", "00400000"]], out


def test_same_run():
    """On soft a story without a load runs the same whatever the seed, to the last counter."""
    story = ("machine nodes=2 memory=8M\ntask A\nA map b 1M\nA write b 1\nfork B from A\n"
             "B write b[0:64K] 2\nA move b to=1\nB migrate from=0 to=1\nA where b\n")
    runs = {play(story, "--json", "--backend", "soft", "--seed", seed).stdout for seed in "112"}
    assert len(runs) == 1, runs


SEEDED = ("machine nodes=2 memory=32M cpus=2\ntask A\nA map b 256K\nA write b 1\n"
          "A load b writes threads=2\nA move b to=1\nA move b to=0\nfork B from A cpu=1\n"
          "B load b reads\nB move b to=1 all\nsleep 1ms\nA stop b\nB stop b\nshow trace\n"
          "show vmstat pgfault\n")


def seeded(story, seed, *words):
    run = play(story, "--backend", "soft", "--seed", str(seed), *words)
    return run.returncode, run.stdout, run.stderr


def test_seeds():
    """On soft the seed decides what threads do when: it repeats a run, another one does not."""
    def runs(file, times, *words):
        run = godwit("lab", "run", "--backend", "soft", *words, *[file] * times)
        lines = run.stdout.splitlines()
        part = len(lines) // times
        assert run.returncode == 0 and not run.stderr, run
        return [b"\n".join(lines[i * part:(i + 1) * part]) for i in range(times)]

    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "seeded.gw")
        with open(file, "w") as f:
            f.write(SEEDED)
        for words in ["--seed", "7"], ["--seed", "7", "--json"]:
            same = runs(file, 10, *words) + runs(file, 10, *words)
            assert len(same) == 20 and len(set(same)) == 1, same
        totals, accesses = set(), set()
        for seed in range(1, 21):
            lines = [json.loads(line) for line in
                     runs(file, 1, "--seed", str(seed), "--json")[0].splitlines()]
            assert "seed" not in lines[-1], lines
            totals.add(lines[-1]["counters"]["pgfault"])
            accesses.add(tuple((line["accesses"], line["stall_ns"]) for line in lines
                               if line.get("command") == "stop"))
        assert len(totals) > 1 and len(accesses) > 10, (totals, accesses)


def test_same_numbers():
    """What a report calls a space and a file is the story's own: no pointer, no inode."""
    story = ("machine nodes=1 memory=64M\n"
             "set sys/kernel/mm/transparent_hugepage/enabled always\n"
             "task A\nA map buf 2M align=2M\nA write buf 1\nA split buf\nmark\nkhugepaged 1\n"
             "show trace\nA map file 64K disk=file\nA read file\nshow smaps A.file\n")
    runs = {play(story, "--backend", "soft", "--seed", "1").stdout for _ in range(3)}
    assert len(runs) == 1, runs
    assert b"mm_khugepaged_scan_pmd: mm=1, " in runs.copy().pop(), runs
    assert b" rw-s 00000000 00:01 1 " in runs.pop(), runs


def test_split_trace():
    """As in Linux a leaf that is split is frozen without an event, and restored with one a page."""
    story = ("machine nodes=2 memory=64M\n"
             "set sys/kernel/mm/transparent_hugepage/enabled always\n"
             "task A\nA map a 2M align=2M\nA write a 1\nmark\nA split a\nshow trace\n")
    leaf = play(story, "--backend", "soft").stdout
    assert leaf.count(b" set_migration_pte: ") == 0, leaf
    assert leaf.count(b" remove_migration_pte: ") == 512, leaf
    # A hole makes a table of the leaf, whose entries are taken one by one.
    table = play(story.replace("mark", "A unmap a[1M:4K]\nmark"), "--backend", "soft").stdout
    assert table.count(b" set_migration_pte: ") == 511, table


def test_engine_kernel():
    """The engine follows Linux 6.12: what needs more is skipped, with the reason."""
    for version, code in ("6.12", 0), ("6.1", 0), ("6.13", 77), ("7.0", 77):
        run = play(f"machine nodes=1 memory=16M\nneeds kernel>={version}\ntask A\n")
        assert run.returncode == code, run
        assert code == 0 or f"needs kernel>={version}: the engine is 6.12" in (
            run.stdout.decode()), run


def test_not_yet():
    """What is missing is what is said, not the command."""
    run = play("machine nodes=1 memory=16M\ntask A\nA map b 64K\nA advise b mergeable\n")
    assert b"the advice mergeable is not yet in this build, expected 'advise' without it" in (
        run.stdout + run.stderr), run


def test_show_unknown():
    """A name that is no counter's is not passed over."""
    run = play("machine nodes=1 memory=16M\ntask A\nshow vmstat nosuch pgfault\n")
    assert run.returncode == 1 and b"there is no counter 'nosuch'" in run.stdout, run


def test_bench_nothing():
    """A filter that leaves no row says so."""
    run = godwit("bench", "migrate", "--quick", "--filter", "nosuch")
    assert run.returncode == 77 and b"--filter nosuch: no row has this text" in run.stderr, run


def test_seed_told():
    """The seed of a story that fails is told, also one that was chosen, and repeats it."""
    story = SEEDED + "expect return 5\n"
    code, out, err = seeded(story, 12345, "--json")
    assert code == 1 and err == b"godwit: - failed with --seed 12345\n", err
    assert json.loads(out.splitlines()[-1])["seed"] == 12345, out
    chosen = play(story, "--backend", "soft", "--json")
    seed = json.loads(chosen.stdout.splitlines()[-1])["seed"]
    assert chosen.stderr == b"godwit: - failed with --seed %d\n" % seed, chosen
    assert seeded(story, seed, "--json") == (1, chosen.stdout, chosen.stderr)
    run = play(SEEDED, "--backend", "signal", "--seed", "1")
    assert run.returncode == 2 and b"--seed is for --backend soft" in run.stderr, run


# In place of real-kernel: plays what it is given on the engine. A story that says so ends the
# machine.
SCRIPT = """#!/bin/sh
while [ "$1" != -- ]; do
    [ "$1" != --append ] || quiet=$2
    [ "$1" != --with ] || [ -f "$2" ] || { echo "--with $2: no such file" >&2; exit 125; }
    shift
done
shift 8
[ "$1" = --timeout ] || exit 125
limit=$2
shift 2
case $quiet in *numa_balancing=disable*) ;; *) exit 125 ;; esac
for story; do
    if grep -q "# panic" "$story"; then
        echo '{"schema":1,"line":1,"task":"A","command":"map","return":0,"errno":null}'
        exit 125
    fi
    "$GODWIT" lab run --backend soft --json --timeout "$limit" "$story"
done
"""

STORY = "machine nodes=2 memory=8M\ntask A\nA map b 16K\nA write b 1\nA where b\n"
SAME = ": 4 lines, 0 differ, 0 differ as marked"


def compare(stories, text=None, options=()):
    """Compares stories, by name, with what the script makes of them; the run, and what is left."""
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "real-kernel")
        for name, content in {"real-kernel": SCRIPT, **stories}.items():
            with open(os.path.join(folder, name), "w") as f:
                f.write(content)
        os.chmod(script, 0o755)
        env = dict(os.environ, GODWIT_REAL_KERNEL=script, GODWIT=GODWIT, TMPDIR=folder)
        run = subprocess.run([GODWIT, "lab", "compare", "--kernel", "vm", "--backend", "soft",
                              *options, *(stories or ["-"])], input=text, capture_output=True,
                             env=env, timeout=300, cwd=folder, text=True)
        assert set(os.listdir(folder)) == {"real-kernel", *stories}, os.listdir(folder)
        return run


def test_compare_input():
    """A story on standard input can be played in a virtual machine, which has another one."""
    run = compare({}, STORY)
    assert run.returncode == 0, run
    assert run.stdout == f"compare -{SAME}\n", run


def test_compare_bad():
    """A file that is no story, or cannot be played here, is told; the others are compared."""
    run = compare({"a.gw": STORY, "bad.gw": STORY + "A frobs b\n", "b.gw": STORY,
                   "cannot.gw": "machine nodes=2 memory=8M\ntask A\nksmd 1\n"})
    assert run.returncode == 2, run
    assert run.stdout.splitlines() == [f"compare a.gw{SAME}", f"compare b.gw{SAME}"], run
    assert "bad.gw:6:3: " in run.stderr and "cannot.gw:3:1: 'ksmd' is not" in run.stderr, run


def test_compare_panic():
    """A story that ends the machine is played once more, then told; the others are compared."""
    run = compare({"a.gw": STORY, "bad.gw": STORY + "# panic\n", "b.gw": STORY, "c.gw": STORY})
    assert run.returncode == 1, run
    assert run.stdout.splitlines() == [
        f"compare a.gw{SAME}", "compare bad.gw: skipped: the machine gave no result",
        f"compare b.gw{SAME}", f"compare c.gw{SAME}"], run
    assert "godwit: bad.gw: the machine gave no result" in run.stderr, run
    booted = [line for line in run.stderr.splitlines() if "booting" in line]
    assert [line.rpartition("for ")[2] for line in booted] == [
        "4 stories", "3 stories", "2 stories"], run
    run = compare({name: STORY + "# panic\n" for name in ("a.gw", "b.gw", "c.gw", "d.gw")})
    assert run.returncode == 1 and run.stderr.count("booting") == 2, run


# A load is at work all the time: on soft an idle machine would be through the sleep at once.
LONG = ("machine nodes=1 memory=256M\ntask A\nA map b 4K\nA load b writes\nsleep 600s\n"
        "A stop b\nA write b 1\n")
SHORT = "machine nodes=1 memory=256M\ntask A\nA map b 4K\nA write b 1\nA where b\n"
LATE = "line 5: did not end within %s s"


def with_limits(test):
    """Whether a story ends in time is for the machine to say: with a longer limit it does."""
    for limit in "1", "10":
        try:
            return test(limit, LATE % limit)
        except AssertionError as failure:
            print(f"with a limit of {limit} s: {failure}")
    return test("30", LATE % "30")


def test_timeout():
    """A story that takes too long ends there, which is told; those behind it are played."""
    with_limits(timeout_here)


def timeout_here(limit, late):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in ("a.gw", LONG), ("b.gw", SHORT):
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)
        run = godwit("lab", "run", "--backend", "soft", "--timeout", limit, "--json",
                     "a.gw", "b.gw", cwd=folder)
        assert run.returncode == 1, run
        ends = [end for end in map(json.loads, run.stdout.splitlines()) if "story" in end]
        assert [(end["story"], end["result"], end["reason"]) for end in ends] == [
            ("a.gw", "failed", late), ("b.gw", "held", None)], ends
        if not HOST_MEMORY:
            return print("nothing is played on this host: ThreadSanitizer")
        run = godwit("lab", "compare", "--kernel", "here", "--backend", "soft", "--timeout", limit,
                     "a.gw", "b.gw", cwd=folder)
        lines = run.stdout.decode().splitlines()
        assert run.returncode == 1 and len(lines) == 2, run
        # Where no story can be played on the host both are skipped.
        if b"skipped" not in run.stdout:
            assert lines == ["compare a.gw: 3 lines, 0 differ, 0 differ as marked; stopped: "
                             + late, f"compare b.gw{SAME}"], run


def blocks_interrupts(pid):
    """Whether Ctrl-C waits there until the story is told."""
    with open(f"/proc/{pid}/status") as f:
        blocked = next(line for line in f if line.startswith("SigBlk:"))
    return bool(int(blocked.split()[1], 16) & 1 << signal.SIGINT - 1)


def test_interrupted():
    """After Ctrl-C nothing more is played, and what was not is told."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in ("a.gw", LONG), ("b.gw", SHORT):
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)
        for words in ["run"], ["compare", "--kernel", "here"]:
            with subprocess.Popen([GODWIT, "lab", *words, "--backend", "soft", "a.gw", "b.gw"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
                                  stdin=subprocess.DEVNULL) as run:
                while not blocks_interrupts(run.pid):
                    time.sleep(0.05)
                run.send_signal(signal.SIGINT)
                out, err = run.communicate(timeout=300)
            assert run.returncode == 1, (words, out, err)
            assert b"interrupted: b.gw was not played" in err, (words, out, err)
            assert b"b.gw" not in out, (words, out, err)


def test_timeout_vm():
    """The limit of a command is the virtual machine's, too."""
    with_limits(timeout_vm)


def timeout_vm(limit, late):
    run = compare({"a.gw": LONG, "b.gw": SHORT}, options=("--timeout", limit))
    assert run.returncode == 1, run
    assert run.stdout.splitlines() == [
        f"compare a.gw: 3 lines, 0 differ, 0 differ as marked; stopped: {late}",
        f"compare b.gw{SAME}"], run


def test_results_missing():
    """A story that one report does not have is a failure; one that is skipped there is not."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"a.gw": SHORT, "b.gw": STORY, "c.gw": SHORT,
                           "host.gw": "only host\n" + SHORT}.items():
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)

        def report(name, *stories):
            run = godwit("lab", "run", "--backend", "soft", "--json", *stories, cwd=folder)
            assert run.returncode == 0, run
            with open(os.path.join(folder, name), "wb") as f:
                f.write(run.stdout)

        def results(left, right):
            run = godwit("lab", "compare", "--results", left, right, cwd=folder)
            return run.returncode, run.stdout.decode().splitlines()

        report("all", "a.gw", "b.gw", "c.gw", "host.gw")
        report("some", "a.gw", os.path.join(folder, "c.gw"), "host.gw")
        good = [f"compare a.gw{SAME}", f"compare c.gw{SAME}"]
        skipped = "compare host.gw: skipped: only host"
        missing = "compare b.gw: skipped: no result from the other machine"
        assert results("all", "all") == (0, [good[0], f"compare b.gw{SAME}", good[1], skipped])
        assert results("all", "some") == (1, [good[0], missing, good[1], skipped])
        code, lines = results("some", "all")
        assert code == 1 and len(lines) == 4 and lines[3] == missing, lines


def test_licence():
    """A story's comments are in the report; its licence is not."""
    with tempfile.TemporaryDirectory() as folder:
        story = os.path.join(folder, "a.gw")
        with open(story, "w") as f:
            f.write("# SPDX-License-Identifier: MIT\n#\n# What it shows.\n" + STORY)
        run = godwit("lab", "run", "--backend", "soft", story)
        assert run.returncode == 0 and b"SPDX" not in run.stdout, run
        assert b"# What it shows." in [line.strip() for line in run.stdout.splitlines()], run


def test_no_build():
    """A machine is not booted without the godwit that it was told to take."""
    run = subprocess.run([REAL_KERNEL, "--build", "/nonexistent", "--", "true"],
                         capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
    assert run.returncode == 125 and b"--build /nonexistent: no such" in run.stderr, run


def test_option_values():
    """The end of the options is no value of one."""
    run = subprocess.run([REAL_KERNEL, "--nodes", "--", "true"],
                         capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
    assert run.returncode == 125 and b"--nodes needs a value" in run.stderr, run


TOOLS = """bash env sed sort tail cut find flock mkdir cat rm dirname uname true false grep ldd
mktemp touch""".split()
KERNELS = "linux-image-6.12.{}-amd64-unsigned"


def ordinary_user():
    """Nobody, when root plays the tests."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def real_kernel_as_user(folder, *words):
    """Runs the script as a user who has no sudo, and an apt-get that fails."""
    env = {"PATH": os.path.join(folder, "bin"), "XDG_CACHE_HOME": os.path.join(folder, "cache"),
           "HOME": folder}
    script = os.path.join(folder, "scripts/real-kernel")
    run = subprocess.run([script, "--fetch", *words], capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, timeout=300, env=env, cwd="/",
                         preexec_fn=ordinary_user)
    return run.returncode, run.stderr


def test_no_root():
    """Without root real-kernel says what it is needed for, or does with the kernel it has."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(os.path.dirname(REAL_KERNEL), os.path.join(folder, "scripts"))
        tools, old = os.path.join(folder, "bin"), KERNELS.format(1)
        os.mkdir(tools)
        for name in TOOLS:
            os.symlink(shutil.which(name), os.path.join(tools, name))

        def stub(name, text):
            with open(os.path.join(tools, name), "w") as f:
                f.write("#!/bin/sh\n" + text)
            os.chmod(os.path.join(tools, name), 0o755)

        stub("apt-get", "echo no network >&2; exit 100\n")
        stub("apt-cache", f"case $* in *6*12*) echo {KERNELS.format(2)} - a kernel;; esac\n")
        for name in "busybox", "cpio", "mkfs.ext4", "xz", "zstd", "python3", "setpriv":
            stub(name, "")
        cache = os.path.join(folder, "cache/godwit/kernel")
        os.makedirs(cache)
        for path in os.path.dirname(cache), cache:
            os.chmod(path, 0o777)
        code, err = real_kernel_as_user(folder)
        assert code == 125 and "root is needed for: apt-get install qemu-system-x86" in err, err
        stub("qemu-system-x86_64", "")
        code, err = real_kernel_as_user(folder, "--kernel", "9.99")
        assert code == 125 and "no kernel 9.99: apt has no linux-image-9.99" in err, err
        assert "root is needed for: apt-get update" in err, err
        os.mkdir(os.path.join(cache, old))
        with open(os.path.join(cache, old, "release"), "w") as f:
            f.write("6.12.1-amd64\n")
        code, err = real_kernel_as_user(folder, "--verbose")
        assert code == 0 and f"cannot fetch {KERNELS.format(2)}: using {old}" in err, err
        assert "kernel 6.12.1-amd64" in err, err


def test_left_changes():
    """A run that may change nothing says that a killed one has left changes."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        story, left = os.path.join(folder, "a.gw"), os.path.join(folder, "godwit.restore")
        program = shutil.copy(GODWIT, os.path.join(folder, "godwit"))
        with open(story, "w") as f:
            f.write(SHORT if HOST_MEMORY else "task A\n")

        def advised(entries):
            with open(left, "w") as f:
                f.write("# pid 1\n" + entries)
            run = subprocess.run([program, "lab", "run", "--on", "host", story], timeout=300,
                                 capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd="/",
                                 env=dict(os.environ, XDG_RUNTIME_DIR=folder),
                                 preexec_fn=ordinary_user)
            if run.returncode == 77:
                print(run.stdout)
                return None
            assert run.returncode == 0, run
            return "`godwit lab restore` puts them back" in run.stderr

        assert advised("set proc/sys/kernel/numa_balancing 1\n") in (True, None)
        assert advised("") in (False, None)


def test_image_cache():
    """Of the machines' images those used last are kept, as many as fit; none that may be in use."""
    library = os.path.join(os.path.dirname(REAL_KERNEL), "lib/guest-image.sh")
    with tempfile.TemporaryDirectory() as folder:
        ages = {"new": 1, "hour": 60, "two-hours": 120, "day": 1440, "weeks": 20000}
        for name, minutes in ages.items():
            path = os.path.join(folder, name + ".cpio")
            with open(path, "wb") as f:
                f.truncate(4 << 20)
            os.utime(path, (time.time() - 60 * minutes,) * 2)

        def prune(megabytes):
            run = subprocess.run(["bash", "-c", '. "$0"; image_prune "$1"', library, folder],
                                 capture_output=True, check=True,
                                 env=dict(os.environ, GODWIT_IMAGE_CACHE_MB=megabytes))
            assert not run.stderr + run.stdout, run
            return {name for name in ages if os.path.exists(os.path.join(folder, name + ".cpio"))}

        assert prune("100") == {"new", "hour", "two-hours", "day"}
        assert prune("9") == {"new", "hour"}
        assert prune("1") == {"new"}


def test_ended_by_hand():
    """Ctrl-A x is a way out: no evidence of a failure. A panic, or a QEMU that fails, is one."""
    run_machine = os.path.join(os.path.dirname(REAL_KERNEL), "lib/run-machine.py")
    with tempfile.TemporaryDirectory() as folder:
        qemu = os.path.join(folder, "qemu")
        with open(qemu, "w") as f:
            f.write("#!/usr/bin/env python3\nimport os, re, sys\n"
                    "control, log = (int(re.search(f'id={name},fd=(\\\\d+)', ' '.join(\n"
                    "    sys.argv))[1]) for name in ('control', 'log'))\n"
                    "os.write(control, b'up\\n')\nos.read(control, 99)\n"
                    "os.write(log, os.environ['SAYS'].encode())\n"
                    "print('qemu: warning', file=sys.stderr)\n"
                    "sys.exit(int(os.environ['STATUS']))\n")
        os.chmod(qemu, 0o755)
        by_hand = b"real-kernel: the machine was ended by hand (Ctrl-A x)\n"
        for says, status, expected in (("booted", "0", by_hand), ("booted", "1", b"warning"),
                                       ("Kernel panic", "0", b"the kernel panicked"),
                                       ("reboot: Power down", "0", b"warning")):
            run = subprocess.run(
                [sys.executable, run_machine, "--temporary", os.path.join(folder, "t"), "--accel",
                 "tcg,thread=single", "--cpus", "1", "--timeout", "200", "--boot-timeout", "200",
                 "--log", "", "--verbose", "0", "--command", "sh", "--append", "", "--interactive",
                 qemu], capture_output=True, timeout=300, stdin=subprocess.DEVNULL,
                env=dict(os.environ, SAYS=says, STATUS=status))
            assert run.returncode == 125 and expected in run.stderr, run
            assert (run.stderr == by_hand) == (expected == by_hand), run


def main():
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_")]
    for test in tests:
        print(test.__name__, flush=True)
        test()


main()

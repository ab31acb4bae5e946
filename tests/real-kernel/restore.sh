#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Is the machine as it was after a player has died? Usage: restore.sh [SERIES]... (6.12)
#
# In a machine with four nodes a story changes tunables, pools and cgroups and falls asleep; then what
# plays it is killed, in three ways, and the machine must be as before:
#
#   the player                    its guardian puts everything back by itself
#   the player and the guardian   godwit lab restore does, once
#   both                          the next story that is played does
#   the player, by SIGTERM        it does itself
#
# And godwit bench, which fills pools of huge pages for its time when it is allowed to.
#
# Exit 0 when all held, 1 when something failed, 77 when there is no QEMU or no kernel to be had.
# With the argument "guest" this is the part inside the machine (a busybox shell).

set -u

sys=/sys/kernel/mm

# ---- Inside the machine -------------------------------------------------------------------------

# What a story must leave as it found it.
state() {
    grep -H . $sys/transparent_hugepage/enabled $sys/transparent_hugepage/shmem_enabled \
        $sys/transparent_hugepage/khugepaged/scan_sleep_millisecs $sys/ksm/run \
        $sys/ksm/pages_to_scan $sys/ksm/sleep_millisecs $sys/lru_gen/enabled \
        /proc/sys/kernel/numa_balancing /proc/sys/vm/compaction_proactiveness \
        /sys/devices/system/node/node*/hugepages/*/nr_hugepages \
        /proc/sys/vm/nr_overcommit_hugepages
    find /sys/fs/cgroup -type d | sort
    ls /sys/kernel/tracing/instances
}

# Nothing as it is after boot, nor as a story wants it.
prepare() {
    echo always >$sys/transparent_hugepage/enabled
    echo 12345 >$sys/transparent_hugepage/khugepaged/scan_sleep_millisecs
    echo 1 >$sys/ksm/run
    echo 5 >/proc/sys/vm/nr_overcommit_hugepages
    echo 3 >/sys/devices/system/node/node2/hugepages/hugepages-2048kB/nr_hugepages
    mkdir -p /sys/fs/cgroup/mine
    cat >/tmp/long.gw <<'STORY'
machine nodes=4 memory=256M
machine hugepages=2@1
task A cpu=0
A map huge 4M hugetlb
A write huge 1
A map a 1M
A write a 1
A mems 1-2
A map b 1M
A write b 1
A pin b
fill node=3 leave=64M
set sys/kernel/mm/ksm/pages_to_scan 321
mark
set sys/kernel/mm/ksm/sleep_millisecs 77
sleep 600s
show trace
STORY
    cat >/tmp/short.gw <<'STORY'
machine nodes=4 memory=256M
task A
A map a 4K
A write a 1
STORY
    state >/tmp/before
}

# Starts the story and waits until it sleeps; sets player.
play() {
    godwit lab run --on host /tmp/long.gw >/tmp/out 2>&1 &
    player=$!
    for try in $(seq 6000); do
        [ "$(cat $sys/ksm/sleep_millisecs)" = 77 ] && return
        usleep 100000
    done
    echo "FAILED  the story does not come to its sleep"
    cat /tmp/out
}

# check WHAT COMMAND...
check() {
    what=$1
    shift
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        echo "  after $try tries"
    fi
}

changed() { ! state | cmp -s - /tmp/before; }

# Soon: whoever restores may need a moment.
restored() {
    for try in $(seq 600); do
        state >/tmp/now
        cmp -s /tmp/now /tmp/before && return
        usleep 100000
    done
    diff /tmp/before /tmp/now
    return 1
}

all_processes() {
    for process in /proc/[0-9]*; do
        tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q 'godwit lab run' &&
            echo "${process#/proc/}"
    done
}

# Moves huge pages of the pool, against the kernel.
bench() {
    godwit bench migrate --against host --quick --filter hugetlb "$@" >/tmp/out 2>&1
}

# shellcheck disable=SC2046 # each process is a word
in_guest() {
    try=0
    prepare
    play
    check "a story changes the machine" changed
    kill -9 $player
    check "the player killed: its guardian restores" restored

    play
    kill -9 $(all_processes)
    usleep 500000
    check "the player and its guardian killed: all stays changed" changed
    godwit lab restore >/tmp/restore
    check "godwit lab restore restores" restored
    check "it says how many" grep -Eq '^[1-9][0-9]* changes put back' /tmp/restore
    godwit lab restore >/tmp/restore
    check "it has nothing left to do" grep -q '^0 changes put back' /tmp/restore

    play
    kill -9 $(all_processes)
    godwit lab run --on host /tmp/short.gw >/tmp/out 2>&1
    check "both killed: the next story restores" restored

    play
    kill -TERM $player
    check "the player ended by SIGTERM: it restores" restored
    play
    godwit lab restore >/tmp/out 2>&1
    check "restore leaves a story alone that is being played" changed
    kill -9 $player
    check "and is not needed after it" restored

    su godwit -c 'godwit bench migrate --against host --quick --filter hugetlb' >/tmp/out 2>&1
    check "bench says whose pool is empty, and what to do" \
        grep -q 'node 0 has 0 free huge pages in its pool, not 2; --allow-system-changes' /tmp/out
    bench --allow-system-changes
    check "bench fills the pools when it may" grep -q '^hugetlb .*signal' /tmp/out
    check "and puts them back" restored
    bench
    check "root may on this machine" grep -q '^hugetlb .*signal' /tmp/out
    check "and that is put back, too" restored
}

if [ "${1-}" = guest ]; then
    in_guest
    exit 0
fi

# ---- Outside ------------------------------------------------------------------------------------

cd "$(dirname "$0")/../.." || exit 1
failed=0
[ $# -gt 0 ] || set -- 6.12
for series in "$@"; do
    scripts/real-kernel --kernel "$series" --fetch || {
        echo "skipped: real-kernel cannot get QEMU or a kernel $series"
        exit 77
    }
    echo "-- $series"
    out=$(scripts/real-kernel --kernel "$series" --timeout 3600 -- \
        sh tests/real-kernel/restore.sh guest </dev/null)
    status=$?
    echo "$out"
    if [ $status != 0 ] || [ -z "$out" ] || echo "$out" | grep -q '^FAILED'; then
        failed=1
    fi
done
exit $failed

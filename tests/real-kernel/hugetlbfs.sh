#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# The engine's hugetlb pools on the host's. Usage: hugetlbfs.sh [SERIES]... (6.12 and 6.1)
#
# In a machine with four nodes, each of which has reserved huge pages, the unit test of it runs, and
# the engine plays the stories about hugetlb with its bytes on these nodes and its pools on these
# pages, with either blocker; the kernel of that machine is asked about every page after every command.
# GODWIT_BUILD: where godwit was built (build). Exit 0 when all held, 1 when something failed, 77 when
# there is no QEMU or no kernel to be had.

set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${GODWIT_BUILD:-build}

# shellcheck disable=SC2016 # the guest's shell expands
in_guest='
failed=0
hugetlbfs_test >/tmp/test 2>&1 || failed=1
grep -q SKIPPED /tmp/test && failed=1
[ $failed = 0 ] && grep PASSED /tmp/test || cat /tmp/test
for blocker in signal userfaultfd; do
    godwit lab run --bind-nodes --hugetlbfs --backend $blocker "$@" >/tmp/run 2>&1 || {
        failed=1
        grep -E "FAILED|, [1-9][0-9]* failed" /tmp/run | tail -n 40
    }
    echo "$blocker: $(grep -c "^story .*, 0 failed" /tmp/run) stories held"
done
free=$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages)
[ "$free" = "$HUGE" ] || { echo "FAILED  $free of $HUGE pages are free afterwards"; failed=1; }
exit $failed'

stories=(
    protect read-fault cow-parent cow-child fork-untouched remap dontneed private-object
    reserve-shared move-shared move-after-fork move-full-target move-surplus-to-pool pool-shrink
)
stories=("${stories[@]/#/tests/real-kernel/hugetlb-}")
stories=("${stories[@]/%/.gw}")
kernels=("$@")
((${#kernels[@]})) || kernels=(6.12 6.1)
failed=0
for series in "${kernels[@]}"; do
    scripts/real-kernel --kernel "$series" --fetch || {
        echo "skipped: real-kernel cannot get QEMU or a kernel $series"
        exit 77
    }
    echo "-- $series"
    scripts/real-kernel --kernel "$series" --build "$build" --append hugepages=256 --memory 2G \
        --with "$build/tests/unit/hugetlbfs_test" --timeout 3600 -- \
        env HUGE=256 sh -c "$in_guest" \
        sh "${stories[@]}" </dev/null || {
        echo "FAILED  exit status $?"
        failed=1
    }
done
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Is a page really where the engine says? Usage: physical.sh [SERIES]... (6.12 and 6.1)
#
# In a machine with four nodes the engine plays stories with its bytes on these nodes, with either
# blocker, and the kernel of that machine is asked about every page after every command: the examples,
# and of the stories here one for each way in which pages move or change hands. The machines run side
# by side. Exit 0 when all held, 1 when something failed, 77 when there is no QEMU or no kernel to be
# had.

set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

stories=(
    move-several-targets move-over-1024 move-there-and-back move-duplicates-two-nodes
    move-shared-object-two-tasks move-all-after-fork move-while-loaded move-private-file
    move-file-of-disk move-zero-page move-read-only-map move-locked
    mbind-move mbind-move-interleave mbind-shared-object-part mbind-later-faults
    migrate-pages-swap migrate-pages-overlap migrate-pages-object migrate-pages-other-task
    cpuset-moves-pages cpuset-keeps-places cow-after-migration cow-by-policy fork-three-generations
    remap-then-move remap-part protect-keeps-places dontneed-shared unmap-part pinned-among-others
    populate
)
stories=("${stories[@]/#/tests/real-kernel/}")

# A process plays them all. Stories for more nodes than four, or for the host only, are skipped.
# shellcheck disable=SC2016 # the guest's shell expands
in_guest='
export GODWIT_DISK=/disk
for blocker in signal userfaultfd; do
    echo "== $blocker"
    godwit lab run --bind-nodes --backend $blocker examples/*.gw "$@" 2>&1
    status=$?
    [ $status = 0 ] || echo "FAILED  exit status $status with the $blocker blocker"
done'

# What a machine printed: a line for each blocker, and what failed.
# shellcheck disable=SC2016 # awk expands
summary='
function tell() {
    if (!blocker) return
    printf "%s: %d stories held, %d skipped; asked %d times: ", blocker, held, skipped, asked
    printf "%d pages and %d lines of numa_maps agree, %d pages not mapped yet\n", \
        pages, lines, unmapped
    if (!held || !pages) { print "FAILED  no page was seen"; bad = 1 }
}
/^== / { tell(); blocker = $2; held = skipped = asked = pages = lines = unmapped = 0; next }
/^story .*: skipped: / { skipped++; next }
/^story .*, 0 failed/ { held++; story = ""; next }
/^the kernel, asked/ {
    gsub(/[^0-9 ]/, ""); asked += $1; pages += $2; lines += $3; unmapped += $4; next
}
/^story |^FAILED|^real-kernel:|FAILED/ { print; bad = 1 }
END { tell(); exit bad }'

# One kernel; its exit status is that of the machine, or 1.
ask() {
    scripts/real-kernel --kernel "$1" --timeout 3600 -- sh -c "$in_guest" \
        sh "${stories[@]/%/.gw}" </dev/null >"$out/$1" 2>&1 || echo "FAILED  exit status $?" >>"$out/$1"
    local bad=0
    awk "$summary" "$out/$1" >"$out/$1.summary" || bad=1
    {
        echo "-- $1"
        # What failed comes last, where the end of a long report is read.
        ((bad)) && grep -v '^ *[0-9]* ' "$out/$1" | tail -n 12
        cat "$out/$1.summary"
    } >"$out/$1.told"
    return $bad
}

kernels=("$@")
((${#kernels[@]})) || kernels=(6.12 6.1)
for series in "${kernels[@]}"; do
    scripts/real-kernel --kernel "$series" --fetch || {
        echo "skipped: real-kernel cannot get QEMU or a kernel $series"
        exit 77
    }
done
failed=0 asking=()
for series in "${kernels[@]}"; do
    ask "$series" &
    asking+=($!)
done
for process in "${asking[@]}"; do
    wait "$process" || failed=1
done
for series in "${kernels[@]}"; do
    cat "$out/$series.told"
done
exit $failed

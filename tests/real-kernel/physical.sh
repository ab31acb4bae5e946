#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Is a page really where the engine says? Usage: physical.sh [SERIES]... (6.12)
#
# In a machine with four nodes the engine plays stories with its bytes on these nodes, with either
# blocker, and the kernel of that machine is asked about every page after every command: the examples,
# and of the stories here one for each way in which pages move or change hands. Exit 0 when all held, 1 when something failed, 77 when there is no QEMU or no kernel to be had.

set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
failed=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT

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

# Stories for more nodes than four, or for the host only, are skipped by the command.
# shellcheck disable=SC2016 # the guest's shell expands
in_guest='
export GODWIT_DISK=/disk
for blocker in signal userfaultfd; do
    held=0 skipped=0
    for story in examples/*.gw "$@"; do
        godwit lab run --bind-nodes --backend $blocker "$story" >/tmp/out 2>&1
        case $? in
        0) held=$((held + 1)); grep "^the kernel, asked" /tmp/out >>/tmp/asked.$blocker ;;
        77) skipped=$((skipped + 1)) ;;
        *) echo "FAILED  $blocker $story"; cat /tmp/out ;;
        esac
    done
    echo "$blocker: $held stories held, $skipped skipped"
    sed "s/[^0-9 ]//g" /tmp/asked.$blocker | awk -v blocker=$blocker "
        { asked += \$1; pages += \$2; lines += \$3; unmapped += \$4 }
        END { printf \"%s: asked %d times: %d pages and %d lines of numa_maps agree, \", \
                blocker, asked, pages, lines
              printf \"%d pages not mapped yet\n\", unmapped
              exit !pages }" || echo "FAILED  $blocker: no page was seen"
done'

kernels=("$@")
((${#kernels[@]})) || kernels=(6.12)
for series in "${kernels[@]}"; do
    scripts/real-kernel --kernel "$series" --fetch || {
        echo "skipped: real-kernel cannot get QEMU or a kernel $series"
        exit 77
    }
    echo "-- $series"
    scripts/real-kernel --kernel "$series" --timeout 1800 -- sh -c "$in_guest" \
        sh "${stories[@]/%/.gw}" </dev/null |
        tee "$out"
    if ((PIPESTATUS[0])) || grep -q '^FAILED' "$out"; then
        failed=1
    fi
done
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do the stories hold on real kernels? Usage: stories.sh [SERIES]... (6.1 and 6.12)
#
# Plays the examples and the stories of this folder on the host machine, in each of the machines
# that they ask for. A story plays in one of them and is skipped in the others. Exit 0 when all held,
# 1 when something failed, 77 when there is no QEMU or no kernel to be had.

set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
failed=0

# play SERIES OPTION...: all stories in one boot. What failed is shown whole.
play() {
    local series=$1 out status
    shift
    # shellcheck disable=SC2016 # the guest's shell expands
    out=$(scripts/real-kernel --kernel "$series" "$@" -- sh -c '
        for story in examples/*.gw tests/real-kernel/*.gw; do
            godwit lab run --on host "$story" >/tmp/out 2>&1
            case $? in
            0) echo "held    $story" ;;
            77) ;;
            *) echo "FAILED  $story"; cat /tmp/out ;;
            esac
        done
        left=$(cat /run/godwit.restore; ls /sys/kernel/tracing/instances
            find /sys/fs/cgroup -name "godwit*")
        [ -z "$left" ] || echo "FAILED  left behind: $left"' </dev/null)
    status=$?
    echo "-- $series $*"
    echo "$out"
    if ((status)) || grep -q '^FAILED' <<<"$out"; then
        failed=1
    fi
}

kernels=("$@")
((${#kernels[@]})) || kernels=(6.1 6.12)
for series in "${kernels[@]}"; do
    scripts/real-kernel --kernel "$series" --fetch || {
        echo "skipped: real-kernel cannot get QEMU or a kernel $series"
        exit 77
    }
    play "$series" --nodes 2 --memory 640M
    play "$series" --nodes 4 --memory 320M
    play "$series" --nodes 6 --memory 160M
    if [[ $series == 6.1 ]]; then
        play "$series" --nodes 4 --memory 320M --cgroup v1
    fi
done
exit $failed

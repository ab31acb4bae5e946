#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Records the files of this machine that the host layer reads, as a folder that tests use as a root.
#
#     record.sh FOLDER [PID]
#
# The process, if one is given, is recorded as number 42. Run it in scripts/real-kernel, with
# --share. Times, addresses of the kernel and names of users are in none of these files.

set -eu
to=$1
mkdir -p "$to"

copy() {
    for file in "$@"; do
        [ -f "$file" ] && [ -r "$file" ] || continue
        mkdir -p "$to/${file%/*}"
        cat "$file" >"$to$file" 2>/dev/null || rm -f "$to$file"
    done
}

copy /proc/cmdline /proc/meminfo /proc/vmstat /proc/mounts /proc/swaps /proc/zoneinfo \
    /proc/buddyinfo /proc/sys/kernel/osrelease /proc/sys/kernel/numa_balancing \
    /proc/sys/vm/compaction_proactiveness /sys/devices/system/cpu/online
copy /sys/devices/system/node/online /sys/devices/system/node/has_memory
copy /sys/devices/system/node/node*/cpulist /sys/devices/system/node/node*/meminfo \
    /sys/devices/system/node/node*/distance /sys/devices/system/node/node*/numastat \
    /sys/devices/system/node/node*/hugepages/*/*_hugepages
copy /sys/kernel/mm/hugepages/*/*_hugepages /sys/kernel/mm/ksm/run /sys/kernel/mm/lru_gen/enabled
copy /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/mm/transparent_hugepage/shmem_enabled \
    /sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs \
    /sys/kernel/mm/transparent_hugepage/hugepages-*/*enabled \
    /sys/kernel/mm/transparent_hugepage/hugepages-*/stats/nr_anon
copy /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/cgroup.subtree_control
sed -i "s/ GODWIT_RUN=[0-9a-f]*//" "$to/proc/cmdline"
if [ $# -gt 1 ]; then
    mkdir -p "$to/proc/42"
    for file in status smaps numa_maps maps; do
        cat "/proc/$2/$file" >"$to/proc/42/$file"
    done
fi

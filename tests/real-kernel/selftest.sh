#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does scripts/real-kernel keep what it promises? Usage: selftest.sh [SERIES]... (6.1 and 6.12)
#
# For each kernel: the nodes asked for are there, exit status, output and error come back exactly,
# the file systems are mounted, and a command or kernel that does not end is ended. Exit 0 when all
# held, 1 when something failed, 77 when there is no QEMU or no kernel to be had.

set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 series=''

main() {
    local kernels=("$@")
    ((${#kernels[@]})) || kernels=(6.1 6.12)
    for series in "${kernels[@]}"; do
        scripts/real-kernel --kernel "$series" --fetch || {
            echo "skipped: real-kernel cannot get QEMU or a kernel $series"
            exit 77
        }
        test_boot_time
        test_streams
        test_machine
        test_topology
        test_share
        test_timeout
        test_panic
        test_no_boot
        test_cgroup_v1
        test_shell
    done
    test_image
    test_missing
    test_usage
    ((failed == 0)) || {
        echo "$failed failed"
        exit 1
    }
    echo "all passed"
}

# Runs the machine with its output in files; leaves the exit status in status.
run() {
    scripts/real-kernel --kernel "$series" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
}

# check WHAT COMMAND...: the command must succeed.
check() {
    if "${@:2}"; then
        echo "ok      $series $1"
        return
    fi
    failed=$((failed + 1))
    echo "FAILED  $series $1 (status $status)"
    sed 's/^/  out: /' "$work/out" | head -c 2000 | tr -d '\0'
    sed 's/^/  err: /' "$work/err" | head -c 2000
}

out_is() { [[ $(<"$work/out") == "$1" ]]; }

test_boot_time() {
    local start=${EPOCHREALTIME/./} end
    run -- uname -r
    end=${EPOCHREALTIME/./}
    check "uname says $(<"$work/out")" grep -q "^$series\." "$work/out"
    check "exit status 0, nothing on standard error" test "$status $(wc -c <"$work/err")" = "0 0"
    echo "        $series from start to end in $(((end - start) / 1000)) ms"
}

# 1 MiB of random bytes through standard input and back through both outputs.
test_streams() {
    head -c 1M /dev/urandom >"$work/in"
    scripts/real-kernel --kernel "$series" \
        -- sh -c 'cat >/tmp/in; cat /tmp/in; cat /tmp/in >&2; exit 3' <"$work/in" \
        >"$work/out" 2>"$work/err"
    status=$?
    check "exit status 3" test $status = 3
    check "standard input to standard output, 1 MiB, exact" cmp "$work/in" "$work/out"
    check "standard error apart, 1 MiB, exact" cmp "$work/in" "$work/err"
    run -- sh -c '(sleep 1000 &); printf "%s|" "$@"; kill -9 $$' \
        sh 'two words' "it's" '' $'a\nb' '*'
    check "arguments arrive as they are, and a process left behind does not matter" \
        out_is $'two words|it\'s||a\nb|*|'
    check "exit status 137 for signal 9" test $status = 137
}

test_machine() {
    # shellcheck disable=SC2016 # for the shell of the machine
    run -- sh -c '
        set -e
        cat /sys/devices/system/node/has_memory /sys/devices/system/node/node3/cpulist
        for type in debugfs tracefs cgroup2 hugetlbfs; do grep -q " $type " /proc/mounts; done
        grep -q " /tmp tmpfs " /proc/mounts
        grep -q " /dev/shm tmpfs " /proc/mounts
        dd if=/dev/urandom of=/disk/file bs=64k count=16 2>/dev/null
        sync
        grep -q "/disk ext4" /proc/mounts
        grep -q cpuset /sys/fs/cgroup/cgroup.subtree_control
        echo 2 >/sys/devices/system/node/node2/hugepages/hugepages-2048kB/nr_hugepages
        test -d /sys/kernel/mm/hugepages/hugepages-1048576kB
        test -d /godwit/tests/real-kernel
        ping -c 1 -q 127.0.0.1 >/dev/null
        su godwit -c "id -u; echo x >/disk/mine"
    '
    check "4 nodes, file systems, huge pages, loopback, user 1000" out_is $'0-3\n3\n1000'
    check "exit status 0 of that" test $status = 0
}

test_topology() {
    run --topology 'memory=512M,256M,0 cpus=0-1@0,2@1,3@2 distance=10,20,40,20,10,30,40,30,10' \
        -- sh -c 'cd /sys/devices/system/node; cat has_memory has_cpu node*/cpulist node*/distance'
    check "a memoryless node, cpus and distances as asked" \
        out_is $'0-1\n0-2\n0-1\n2\n3\n10 20 40\n20 10 30\n40 30 10'
}

test_share() {
    mkdir -p "$work/share"
    echo there >"$work/share/there"
    run --share "$work/share" -- sh -c 'cat /share/there; echo back >/share/back'
    check "--share reads and writes this host's directory" \
        test "$(<"$work/out") $(cat "$work/share/back")" = "there back"
}

# On a busy host the machine may need longer to begin.
test_timeout() {
    local start limit
    for limit in 2 20 200; do
        start=$SECONDS
        run --timeout $limit -- sh -c 'echo begun; sleep 2000'
        ! out_is begun || break
    done
    check "--timeout: status 124, what was written is there" \
        test "$status $(<"$work/out")" = "124 begun"
    check "--timeout says so" \
        grep -q "real-kernel: the command did not end within $limit s" "$work/err"
    check "--timeout takes effect" test $((SECONDS - start)) -lt 1800
}

test_panic() {
    run -- sh -c 'echo c >/proc/sysrq-trigger; sleep 1000'
    check "a panic: status 125" test $status = 125
    check "a panic is shown" grep -q 'Kernel panic' "$work/err"
    run -- poweroff -f
    check "a machine that turns itself off: status 125" test $status = 125
}

# A kernel without a first process panics: once more, then it is given up.
test_no_boot() {
    run --append "rdinit=/nothing root=/dev/nothing" -- true
    check "no boot: status 125" test $status = 125
    check "no boot: tried twice, and it is said" \
        test "$(grep -c 'trying again' "$work/err") $(grep -c 'the kernel panicked$' "$work/err")" = "1 1"
    run --boot-timeout 1 -- true
    check "a boot that takes too long: tried twice, status 125" \
        test "$status $(grep -c 'did not start the command within 1 s' "$work/err")" = "125 2"
    run --qemu -no-such-option -- true
    check "QEMU that refuses to start is not tried again, and heard" \
        test "$status $(grep -c 'trying again' "$work/err") $(grep -c 'invalid option' "$work/err")" \
        = "125 0 1"
}

# As on a machine where something is not there: a folder of links is all of PATH.
test_missing() {
    local path=$work/bin name
    mkdir -p "$path"
    for name in bash sed tr dirname uname mkdir flock tail grep find sort cut cat ldd; do
        ln -sf "$(command -v $name)" "$path/$name"
    done
    status=0
    PATH=$path XDG_CACHE_HOME=$work/cache scripts/real-kernel -- true \
        >"$work/out" 2>"$work/err" </dev/null || status=$?
    check "no QEMU, and no apt-get: status 125" test $status = 125
    check "it says what is missing" grep -q 'qemu-system-x86.* missing' "$work/err"
    status=0
    XDG_CACHE_HOME=$work/cache scripts/real-kernel --kernel 0.9 -- true \
        >"$work/out" 2>"$work/err" </dev/null || status=$?
    check "no such kernel: status 125" test $status = 125
    check "it says which" grep -q 'no kernel 0.9' "$work/err"
}

# The second machine of the same content packs nothing; another content another image.
test_image() {
    local cache=$work/cache2 first
    mkdir -p "$cache/godwit"
    ln -sfn "${XDG_CACHE_HOME:-$HOME/.cache}/godwit/kernel" "$cache/godwit/kernel"
    XDG_CACHE_HOME=$cache scripts/real-kernel --kernel "$series" -- true </dev/null
    first=$(stat -c '%n %i %Y' "$cache"/godwit/image/*.cpio)
    touch -d '1 hour ago' "$cache"/godwit/image/*.cpio
    XDG_CACHE_HOME=$cache scripts/real-kernel --kernel "$series" -- true </dev/null
    check "the image is packed once" \
        test "$(stat -c '%n %i' "$cache"/godwit/image/*.cpio)" = "${first% *}"
    echo x >"$work/file"
    XDG_CACHE_HOME=$cache scripts/real-kernel --kernel "$series" --with "$work/file" -- \
        cat "$work/file" </dev/null >"$work/out"
    check "another content is another image" test "$(ls "$cache/godwit/image" | wc -l)" = 2
    check "and it is there" out_is x
}

# Waits until a pattern is on the terminal.
seen() {
    local tries
    for ((tries = 0; tries < 3000; tries++)); do
        grep -q "$1" "$work/out" && return
        sleep 0.2
    done
}

# On a terminal: a shell, with this terminal's size, and its exit status. What is typed while the
# machine boots waits for it.
test_shell() {
    command -v script >/dev/null || return 0
    : >"$work/out"
    script -qfc "stty rows 33 cols 99; scripts/real-kernel --kernel $series; echo status=\$?" \
        "$work/out" >/dev/null 2>"$work/err" \
        < <(
            echo 'tty; stty size; echo in=$((6 * 7))' && seen 'in=42' &&
                echo 'exit 5' && seen 'status='
        )
    check "a shell: its answer" grep -q 'in=42' "$work/out"
    check "a shell has a terminal, of this one's size" \
        test "$(grep -c -e '^/dev/hvc0' -e '^33 99' "$work/out")" = 2
    check "a shell: exit status 5" grep -q '^status=5' "$work/out"
}

test_cgroup_v1() {
    run --cgroup v1 -- cat /sys/fs/cgroup/cpuset/cpuset.memory_migrate
    if [[ $series == 6.1 ]]; then
        check "cpuset of cgroup v1" out_is 0
    else
        check "no cpuset of cgroup v1, and it is said" grep -q 'no version 1 cpuset' "$work/err"
    fi
}

test_usage() {
    run --no-such-option 1
    check "a wrong option: status 125" test $status = 125
    run --help
    check "--help" grep -q 'EXIT STATUS' "$work/out"
}

main "$@"

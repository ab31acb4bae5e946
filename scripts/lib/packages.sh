# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # real-kernel sets what is not set here
#
# What real-kernel needs from Debian: a few tools, and the kernel (sourced by real-kernel).
#
# packages_install_missing   installs the tools that are not there, with apt-get.
# kernel_find SERIES         sets kernel_dir to an unpacked kernel of the series: the newest that
#                            apt knows, fetched when it is not in the cache; sets kernel_release.
#
# Package lists may be stale or absent: apt-get update runs once when something cannot be found or
# fetched, if we may. When that does not help either, a kernel that is in the cache already is good
# enough, for an ordinary user as for root.
# Kernels are unpacked aside and renamed, under a lock: a directory that exists is complete.

have_root() { ((EUID == 0)) || command -v sudo >/dev/null; }

# Whoever calls it has asked have_root, and says so himself: here all output may go to a file.
as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        sudo "$@"
    fi
}

packages_updated=0
packages_update() {
    ((packages_updated == 0)) || return 1
    packages_updated=1
    if ! have_root; then
        say "root is needed for: apt-get update; going on with the package lists that are there"
        return 1
    fi
    say "updating the package lists (apt-get update)"
    as_root apt-get -q -o Acquire::Retries=3 update >"$cache/apt.log" 2>&1
}

packages_install_missing() {
    mkdir -p "$cache" || die "cannot write to $cache"
    local missing=()
    packages_missing
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]} (apt-get install)"
    if packages_install "${missing[@]}" ||
        { packages_update && packages_install "${missing[@]}"; }; then
        packages_missing
    fi
    ((${#missing[@]} == 0)) || {
        tail -n 5 "$cache/apt.log" >&2
        die "cannot install ${missing[*]}: install them by hand"
    }
}

# Fills missing: the packages of the commands that are not there. Only a static busybox will do.
packages_missing() {
    local pair PATH=$PATH:/sbin:/usr/sbin
    missing=()
    for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio \
        mkfs.ext4:e2fsprogs xz:xz-utils zstd:zstd python3:python3 setpriv:util-linux; do
        command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    if [[ ${missing[*]} != *busybox* ]] && ldd "$(command -v busybox)" >/dev/null 2>&1; then
        missing+=(busybox-static)
    fi
}

packages_install() {
    command -v apt-get >/dev/null || die "$* missing, and there is no apt-get to install them"
    have_root || die "root is needed for: apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 \
        install "$@" >"$cache/apt.log" 2>&1
}

kernel_find() {
    local series=$1 package
    mkdir -p "$cache/kernel"
    exec {kernel_lock}>"$cache/kernel/lock"
    flock "$kernel_lock"
    package=$(kernel_newest "$series")
    if [[ -z $package ]] && packages_update; then
        package=$(kernel_newest "$series")
    fi
    if [[ -z $package || ! -d $cache/kernel/$package ]]; then
        kernel_fetch_or_keep "$series"
    fi
    exec {kernel_lock}>&-
    kernel_dir=$cache/kernel/$package
    kernel_release=$(<"$kernel_dir/release")
    note "kernel $kernel_release"
}

# The newest package of a series; nothing for real-time or cloud kernels. The answer is
# remembered until apt's lists change: asking takes half a second.
kernel_newest() {
    local memory=$cache/kernel/newest-$1 found
    if [[ ! $memory -nt /var/lib/apt/lists ]]; then
        found=$(apt-cache search --names-only \
            "^linux-image-${1//./\\.}\\.[0-9.]+(-[0-9]+|[+](deb|bpo)[0-9]+)-amd64-unsigned$" \
            2>/dev/null | cut -d' ' -f1 | sort -V | tail -n 1) || true
        [[ $found ]] || return 0
        echo "$found" >"$memory"
    fi
    cat "$memory"
}

# Changes the caller's package to the one that can be used.
kernel_fetch_or_keep() {
    local cached
    if [[ $package ]] && kernel_fetch "$package"; then
        return
    fi
    if packages_update; then
        package=$(kernel_newest "$1")
        if [[ $package ]] && { [[ -d $cache/kernel/$package ]] || kernel_fetch "$package"; }; then
            return
        fi
    fi
    cached=$(find "$cache/kernel" -mindepth 1 -maxdepth 1 -name "linux-image-$1.*" -printf '%f\n' |
        sort -V | tail -n 1)
    if [[ -z $cached ]]; then
        [[ ! -s $cache/apt.log ]] || tail -n 3 "$cache/apt.log" >&2
        die "no kernel ${1}: apt has ${package:-no linux-image-$1.*-amd64-unsigned}" \
            "and it cannot be fetched"
    fi
    say "cannot fetch ${package:-a kernel $1}: using $cached"
    package=$cached
}

kernel_fetch() {
    local work=$cache/kernel/new.$$
    say "fetching $1 (apt-get download)"
    rm -rf "$work"
    mkdir -p "$work"
    if (cd "$work" && apt-get -q -o Acquire::Retries=3 download "$1" && dpkg -x ./*.deb unpacked) \
        >"$cache/apt.log" 2>&1 &&
        kernel_unpack "$work"; then
        mv "$work/kernel" "$cache/kernel/$1"
        rm -rf "$work"
        return 0
    fi
    rm -rf "$work"
    return 1
}

# Keeps the kernel, its configuration and the modules that a machine without hardware can use.
kernel_unpack() {
    local from=$1/unpacked from_modules to=$1/kernel release
    release=$(basename "$from"/boot/vmlinuz-*)
    release=${release#vmlinuz-}
    if [[ -d $from/usr/lib/modules ]]; then
        from_modules=$from/usr/lib/modules/$release
    else
        from_modules=$from/lib/modules/$release
    fi
    mkdir -p "$to" && mv "$from_modules" "$to/modules" || return 1
    rm -rf "$to"/modules/kernel/sound "$to"/modules/kernel/drivers/{gpu,media,net,usb,scsi,iio} \
        "$to"/modules/kernel/drivers/{infiniband,staging,hwmon,input,mmc,mfd,i2c,message}
    mv "$from/boot/config-$release" "$to/config" && echo "$release" >"$to/release" &&
        kernel_extract "$from/boot/vmlinuz-$release" "$to/vmlinux"
}

# Takes the kernel proper out of a boot image, by the image's own header (the x86 boot protocol:
# setup_sects at 0x1f1, payload_offset at 0x248, payload_length at 0x24c, whose last four bytes are
# a length). QEMU enters it directly: decompressing under emulation would take seconds each time.
kernel_extract() {
    local sectors offset length magic tool
    sectors=$(od -An -tu1 -j497 -N1 "$1")
    offset=$(od -An -tu4 -j584 -N4 "$1")
    length=$(od -An -tu4 -j588 -N4 "$1")
    offset=$(((sectors + 1) * 512 + offset))
    magic=$(od -An -tx1 -j"$offset" -N4 "$1" | tr -d ' ')
    case $magic in
    fd377a58) tool=xz ;;
    28b52ffd) tool=zstd ;;
    1f8b*) tool=gzip ;;
    *) die "the kernel image $1 is compressed in an unknown way ($magic)" ;;
    esac
    dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count=$((length - 4)) status=none |
        "$tool" -dc >"$2"
}

# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # real-kernel sets what is not set here
#
# The initial file system of the machine (sourced by real-kernel).
#
# image_build   sets image to a cpio archive with guest/init, busybox, the kernel modules, godwit
#               with its shared libraries, the files of --with, and the checkout's examples and
#               tests.
#
# The archive is named by a hash of all that goes into it, so that only the first run after a
# change packs it. It is not compressed: the machine would spend more time on that than on the
# copy. Programs lie at the paths they have on this host, because they find their libraries
# relative to themselves, and are linked into PATH.
#
# image_prune DIR   keeps the folder within GODWIT_IMAGE_CACHE_MB (1024): each image that is packed
#                   costs some MB, and each build of godwit packs one. The images used last stay;
#                   those of the last ten minutes do in any case, a machine may be about to read
#                   them. What was not used for a week is removed, and what a killed run left.

# What every machine loads, and what --share and --modules add; guest/init loads them. Names that
# the kernel has built in, or does not have, resolve to nothing.
image_modules=(virtio_pci virtio_console virtio_blk crc32c_generic ext4 9p 9pnet_virtio)

image_build() {
    local extra=() programs=() files=() work
    IFS=, read -ra extra <<<"$modules"
    image_programs
    mapfile -t files < <(image_files)
    work=$({
        printf '%s\n' "$kernel_dir" "${extra[@]}" "${programs[@]}"
        stat -c '%a %n' -- "${files[@]}"
        sha256sum -- "${files[@]}"
    } | sha256sum)
    image=$cache/image/${work%% *}.cpio
    if [[ -e $image ]]; then
        touch -c "$image"
        return
    fi
    note "packing $image"
    mkdir -p "$cache/image"
    image_prune "$cache/image"
    work=$(mktemp -d "$cache/image/new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    image_fill "$work/root"
    (cd "$work/root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$work/cpio"
    mv "$work/cpio" "$image"
    rm -rf "$work"
    trap - EXIT
}

image_prune() {
    local limit=$((${GODWIT_IMAGE_CACHE_MB:-1024} * 1048576)) used=0 minutes size file
    find "$1" -maxdepth 1 -name '*.cpio' -mtime +7 -delete || true
    find "$1" -maxdepth 1 -name 'new.*' -mtime +1 -exec rm -rf {} + || true
    while read -r _ minutes size file; do
        used=$((used + size))
        if ((used > limit && minutes)); then
            rm -f "$file"
        fi
    done < <(
        find "$1" -maxdepth 1 -name '*.cpio' \( -mmin +10 -printf '%T@ 1 %s %p\n' \
            -o -printf '%T@ 0 %s %p\n' \) |
            sort -rn || true # another run may prune, too
    )
}

# Fills programs: godwit, when it is built, and the files of --with.
image_programs() {
    local file godwit
    godwit=$(find "$build" -maxdepth 3 -name godwit -type f -perm -u+x 2>/dev/null |
        head -n 1) || true
    if [[ $godwit ]]; then
        programs+=("$(realpath "$godwit")")
    elif ((build_named)); then
        die "--build $build: no godwit there"
    else
        note "no godwit in $build: the machine goes without"
    fi
    for file in "${with[@]}"; do
        [[ -f $file ]] || die "--with $file: no such file"
        [[ $(realpath -s "$file") != /@(dev|proc|run|sys|disk|share)/* ]] ||
            die "--with $file: the machine has its own $(dirname "$file"); copy it elsewhere"
        programs+=("$(realpath -s "$file")")
    done
}

# All files of this host that go into the image, except the kernel's.
image_files() {
    local program
    printf '%s\n' "$scripts/guest/init" "$scripts/lib/guest-image.sh" "$(command -v busybox)"
    find "$checkout/examples" "$checkout/tests/real-kernel" "$checkout/tests/story" -type f \
        2>/dev/null | LC_ALL=C sort || true
    for program in "${programs[@]}"; do
        printf '%s\n' "$program"
        ldd "$program" 2>/dev/null | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' || true
    done
}

image_fill() {
    local root=$1 file name
    mkdir -p "$root"/{bin,sbin,etc,root,proc,sys,dev,run,tmp,var,share,disk,lib,godwit} \
        "$root"/usr/{bin,sbin,local/bin} "$root/home/godwit"
    cp "$(command -v busybox)" "$root/bin/busybox"
    busybox --list | while read -r name; do
        [[ $name == busybox ]] || ln -s busybox "$root/bin/$name"
    done
    ln -s /bin/env "$root/usr/bin/env"
    cp "$scripts/guest/init" "$root/init"
    chmod 755 "$root/init"
    printf '%s\n' root:x:0:0:root:/root:/bin/sh godwit:x:1000:1000::/home/godwit:/bin/sh \
        >"$root/etc/passwd"
    printf '%s\n' root:x:0: godwit:x:1000: >"$root/etc/group"
    echo '127.0.0.1 localhost' >"$root/etc/hosts"
    image_add_modules "$root"
    for file in "${files[@]}"; do
        if [[ $file == "$checkout"/@(examples|tests)/* ]]; then
            install -D -m "$(stat -c %a "$file")" "$file" "$root/godwit/${file#"$checkout"/}"
        fi
    done
    for file in "${programs[@]}"; do
        image_add_program "$root" "$file"
    done
}

image_add_program() {
    local file
    while read -r file; do
        [[ -e $1$file ]] || install -D -m 755 "$file" "$1$file"
    done < <(
        printf '%s\n' "$2"
        ldd "$2" 2>/dev/null | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' || true
    )
    [[ $2 == /usr/local/bin/* ]] || ln -sf "$2" "$1/usr/local/bin/$(basename "$2")"
}

# Copies the modules, unpacked, and lists each set in the order in which it must be loaded.
image_add_modules() {
    local name
    mkdir -p "$1/lib/modules"
    for name in "${image_modules[@]}" "${extra[@]}"; do
        image_module "$1/lib/modules" "$name" "$1/lib/modules/$name.list"
    done
    for name in "${extra[@]}"; do
        [[ -s $1/lib/modules/$name.list ]] || grep -qs "/${name//_/[-_]}\.ko$" \
            "$kernel_dir/modules/modules.builtin" || die "--modules: this kernel has no $name"
    done
}

# Appends a module to a list, after those it depends on (they are named in the module itself).
image_module() {
    local to=$1/$2.ko list=$3 name=${2//_/[-_]}.ko from dependency
    from=$(find "$kernel_dir/modules/kernel" \( -name "$name" -o -name "$name.*" \) -print -quit)
    if [[ -z $from ]] || grep -qsx "$2" "$list"; then
        return 0
    fi
    case $from in
    *.xz) xz -dc "$from" >"$to" ;;
    *.zst) zstd -dcq "$from" >"$to" ;;
    *) cp "$from" "$to" ;;
    esac
    for dependency in $(image_depends "$to"); do
        image_module "$1" "$dependency" "$list"
    done
    echo "$2" >>"$list"
}

image_depends() {
    tr '\0' '\n' <"$1" | sed -n '/^depends=/ { s/^depends=//; s/,/ /g; s/-/_/g; p; }'
}

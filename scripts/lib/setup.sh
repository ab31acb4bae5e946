# SPDX-License-Identifier: MIT
# Sourced by the scripts: install what is missing, saying so first. Debian 12 names.

build_packages=(gcc clang meson ninja-build pkg-config git python3 libnuma-dev libxxhash-dev
	libjson-c-dev libsmartcols-dev libcmocka-dev scdoc)
test_packages=(libclang-rt-14-dev util-linux)

have_package() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# ensure_packages NAME...: apt-get install those that are not there.
ensure_packages() {
	local missing=() name sudo=()
	for name in "$@"; do
		have_package "$name" || missing+=("$name")
	done
	[ ${#missing[@]} -eq 0 ] && return 0
	if ! command -v apt-get >/dev/null; then
		echo "error: this script installs Debian packages, and there is no apt-get here." >&2
		echo "       Please install by other means: ${missing[*]}" >&2
		return 1
	fi
	if [ "$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null; then
			echo "error: not root and no sudo: cannot install ${missing[*]}" >&2
			return 1
		fi
		sudo=(sudo)
	fi
	echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
	if ! apt_install "${sudo[@]}"; then
		echo "  (refreshing the package lists first)"
		"${sudo[@]}" apt-get update -qq >/dev/null || true
		if ! apt_install "${sudo[@]}"; then
			echo "error: apt-get could not install ${missing[*]}; its last words:" >&2
			tail -n 5 "$apt_log" >&2
			return 1
		fi
	fi
}

apt_install() {
	apt_log=${TMPDIR:-/tmp}/godwit-apt.$$.log
	"$@" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		-o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 "${missing[@]}" >"$apt_log" 2>&1
}

# configure DIR OPTION...: meson setup once. A directory that was made here for other options is made
# anew; one that was not made here keeps what is in it.
configure() {
	local dir=$1 stamp how=()
	shift
	stamp="$dir/.configured-with"
	if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$*" ]; then
		if [ -f "$stamp" ]; then
			rm -rf "$dir" # made here, for something else
		elif [ -f "$dir/meson-private/coredata.dat" ]; then
			echo "$dir was configured by hand: it stays, with the options it needs."
			how=(--reconfigure)
		fi
		meson setup "${how[@]}" "$dir" "$@" >"${TMPDIR:-/tmp}/godwit-meson.$$.log" 2>&1 || {
			tail -n 20 "${TMPDIR:-/tmp}/godwit-meson.$$.log" >&2
			return 1
		}
		printf '%s' "$*" >"$stamp"
	fi
}

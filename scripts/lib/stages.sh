# SPDX-License-Identifier: MIT
# Sourced by scripts/test: one function a stage. Each counts what passed, failed and was skipped.

quick_stages=(style unit user install)
all_stages=(style unit user install race asan tsan kernel)
passed=0 failed=0 skipped=0
failures=()

list_stages() {
	cat <<'TEXT'
style     layers, licence lines, lengths
unit      gcc build: unit tests, failure sweeps, every story on each backend, a small benchmark
asan      AddressSanitizer and UndefinedBehaviorSanitizer: the same, and the races
tsan      ThreadSanitizer (clang, with its thread-safety analysis): the same, and the races
user      as an ordinary user: stories on the engine with the signal blocker
install   meson install into a scratch folder, and a program built against what it installed
race      stress on real memory, seeded races, random operations against a model
kernel    the same stories on real Linux kernels in QEMU, compared with the engine
TEXT
}

# count WHAT NAME [WHY]: passed, failed or skipped, and a line for the reader.
count() {
	case $1 in
	passed) passed=$((passed + 1)) ;;
	failed)
		failed=$((failed + 1))
		failures+=("$2")
		printf '  FAILED   %s%s\n' "$2" "${3:+: $3}"
		;;
	skipped)
		skipped=$((skipped + 1))
		printf '  skipped  %s%s\n' "$2" "${3:+: $3}"
		;;
	esac
}

# check NAME COMMAND...: one test by its exit status (77: skipped).
check() {
	local name=$1 log status
	shift
	log=$(mktemp)
	"$@" >"$log" 2>&1
	status=$?
	case $status in
	0) count passed "$name" ;;
	77) count skipped "$name" "$(tail -n 1 "$log")" ;;
	*)
		count failed "$name" "exit status $status"
		tail -n 40 "$log" | sed 's/^/    | /'
		;;
	esac
	rm -f "$log"
	return $status
}

run_stage() {
	local name=$1 since=$SECONDS before=$((passed + failed + skipped))
	if ! declare -F "stage_$name" >/dev/null; then
		echo "error: no stage '$name'; there are: ${all_stages[*]}" >&2
		exit 2
	fi
	printf '== %s: %s\n' "$name" "$(list_stages | sed -n "s/^$name  *//p")"
	"stage_$name"
	printf '   %s: %d tests in %d s\n' "$name" $((passed + failed + skipped - before)) \
		$((SECONDS - since))
}

# build DIR OPTION...: configure and compile; a failure counts as one.
build() {
	local dir=$1 log
	log=$(mktemp)
	if configure "$@" && ninja -C "$dir" >"$log" 2>&1; then
		rm -f "$log"
		return 0
	fi
	count failed "build $dir"
	grep -E -A6 'error|FAILED' "$log" | head -n 40 | sed 's/^/    | /'
	rm -f "$log"
	return 1
}

# meson_tests DIR ARGS...: run them and read each result from meson's own log.
meson_tests() {
	local dir=$1 line name result
	shift
	meson test -C "$dir" --no-rebuild --num-processes 2 "$@" >"$dir/test-output.txt" 2>&1
	while IFS=$'\t' read -r result name; do
		case $result in
		OK | EXPECTEDFAIL) count passed "$name" ;;
		SKIP) count skipped "$dir $name" ;;
		*)
			count failed "$dir $name" "$result"
			;;
		esac
	done < <(python3 - "$dir/meson-logs/testlog.json" <<'PY'
import json, sys
for line in open(sys.argv[1]):
    test = json.loads(line)
    print(test["result"], test["name"], sep="\t")
    if test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL"):
        tail = ((test.get("stdout") or "") + (test.get("stderr") or "")).splitlines()[-40:]
        print(*("    | " + l for l in tail), sep="\n", file=sys.stderr)
PY
	)
}

stage_style() {
	check "layers, licences, lengths" scripts/check-layers
	check "ARCHITECTURE.md lists the files" scripts/architecture --check
}

# What the tests of the gcc build reached of the rare branches; judged when all of them have run.
marks=$PWD/build/marks-reached.txt
unit_ran=false

stage_unit() {
	build build || return
	rm -f "$marks"
	GODWIT_MARKS=$marks meson_tests build --no-suite race
	unit_ran=true
}

stage_race() {
	build build || return
	GODWIT_STRESS_SECONDS=${GODWIT_STRESS_SECONDS:-60} GODWIT_MARKS=$marks \
		meson_tests build --suite race
	! $unit_ran || check "every mark was reached" scripts/marks "$marks"
}

stage_asan() {
	build build-asan -Db_sanitize=address,undefined -Db_lundef=false &&
		ASAN_OPTIONS=detect_leaks=1 meson_tests build-asan --timeout-multiplier 4
}

stage_tsan() {
	CC=clang build build-tsan -Db_sanitize=thread -Db_lundef=false &&
		TSAN_OPTIONS=halt_on_error=1 meson_tests build-tsan --timeout-multiplier 8
}

# As an ordinary user: what needs no rights must work without them. Everything is copied to where
# any user can read it.
stage_user() {
	local dir story as=()
	build build || return
	dir=$(mktemp -d)
	chmod 755 "$dir"
	cp build/src/cli/godwit examples/*.gw "$dir"
	[ "$(id -u)" -eq 0 ] && as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	check "user: godwit check" "${as[@]}" "$dir/godwit" check
	for story in "$dir"/*.gw; do
		check "user: $(basename "$story") (signal)" \
			"${as[@]}" "$dir/godwit" lab run --backend signal "$story"
	done
	rm -rf "$dir"
}

# What meson install leaves: a program builds and runs with it, and only gw_* is visible.
stage_install() {
	local dir
	build build || return
	dir=$(mktemp -d)
	check "install: meson install" meson install -C build --no-rebuild --destdir "$dir"
	check "install: a program builds with pkg-config and runs" use_installed "$dir"
	check "install: the library shows only gw_*" only_gw "$dir"
	check "install: manual pages" manual_pages "$dir"
	rm -rf "$dir"
}

use_installed() {
	local dir=$1 lib
	lib=$(dirname "$(find "$dir" -name libgodwit.so | head -n 1)")
	local -x PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dir # not for later stages
	# shellcheck disable=SC2046 # the flags are words
	cc -std=gnu17 -o "$dir/driver" examples/driver.c examples/store.c \
		$(pkg-config --cflags --libs godwit) -pthread &&
		LD_LIBRARY_PATH=$lib "$dir/driver" 2000
}

# The names that the library shows, without their versions.
exported() {
	nm -D --defined-only "$(find "$1" -name libgodwit.so | head -n 1)" |
		awk '$2 != "A" {sub(/@.*/, "", $3); print $3}'
}

only_gw() {
	local others
	others=$(exported "$1" | grep -v '^gw_')
	[ -z "$others" ] || {
		echo "visible besides gw_*: $others"
		return 1
	}
}

manual_pages() {
	local page missing=0
	for page in man/*.scd; do
		page=$(basename "$page" .scd)
		find "$1" -name "$page" | grep -q . || {
			echo "not installed: $page"
			missing=1
		}
	done
	# Every function has one: its own, or one that leads to the page that tells of it.
	for page in $(exported "$1" | grep '^gw_'); do
		find "$1" -path "*/man3/$page.3" | grep -q . || {
			echo "no page of the name $page"
			missing=1
		}
	done
	while read -r page; do
		find "$1" -path "*/$page" | grep -q . || {
			echo "a page leads to $page, which is not there"
			missing=1
		}
	done < <(find "$1" -path '*/man3/*' -exec sed -n 's/^\.so //p' {} + | sort -u)
	return $missing
}

# A boot plays many stories; every story counts once for the engine and once for each kernel. Which
# kernels: GODWIT_KERNELS (6.12 and 6.1).
stage_kernel() {
	local result name why series results options=() status
	build build || return
	for series in ${GODWIT_KERNELS:-6.12 6.1}; do
		options+=(--kernel "$series")
	done
	results=$(mktemp)
	scripts/fidelity --tests "${options[@]}" >"$results"
	status=$?
	[ $status = 0 ] || [ $status = 1 ] || [ $status = 77 ] ||
		count failed scripts/fidelity "exit status $status"
	while IFS=$'\t' read -r result name why; do
		count "$result" "$name" "$why"
	done <"$results"
	rm -f "$results"
	kernel_others
}

# The engine's nodes on the nodes of a real machine; a player that is killed; the machine itself.
kernel_others() {
	# shellcheck disable=SC2086 # a word each
	check "kernel: every page is where the engine says" \
		tests/real-kernel/physical.sh ${GODWIT_KERNELS:-6.12 6.1}
	# shellcheck disable=SC2086 # a word each
	check "kernel: the engine's hugetlb pools on the kernel's" \
		tests/real-kernel/hugetlbfs.sh ${GODWIT_KERNELS:-6.12 6.1}
	check "kernel: what a killed player leaves is put back" \
		tests/real-kernel/restore.sh ${GODWIT_KERNELS:-6.12 6.1}
	check "kernel: scripts/real-kernel keeps its word" tests/real-kernel/selftest.sh 6.12
}

summary() {
	local name
	echo
	for name in "${failures[@]}"; do
		echo "failed: $name"
	done
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ]
}

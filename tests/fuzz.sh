#!/usr/bin/env bash
# Fuzzes what strangers write: builds the targets of tests/fuzz with libFuzzer's instrumentation, and
# runs each for a while in bounded memory. Ends with 1 if one of them found something.
#
#   tests/fuzz.sh [SECONDS] [TARGET…]
#
# SECONDS are for each target (60; 600 before a release), TARGETs those of tests/fuzz/src/targets.rs
# (all). What is found lies in target/fuzz/findings/TARGET, to be run again with
#
#   RENEWD_FUZZ_TARGET=TARGET target/fuzz/HOST/release/renewd-fuzz FILE
#
# and, mended, goes to tests/fuzz/seeds/TARGET, from where tests/seeds.rs takes it. What was learnt
# stays in target/fuzz/corpus. Needs a C++ compiler beside the usual toolchain.
#
# Not here: what holds on the seeds, which the ordinary tests ask (tests/seeds.rs).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

seconds=60
if [[ ${1-} =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
folder=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
program=$folder/$host/release/renewd-fuzz
# As `-Zsanitizer=fuzzer` and cargo-fuzz would set it, by options that the stable compiler has.
coverage=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1
)

all_targets() { sed -n 's/^    ("\([a-z0-9_]*\)", .*/\1/p' tests/fuzz/src/targets.rs; }

# With --target, so that build scripts and macros are not instrumented.
build() {
    RUSTFLAGS="${coverage[*]}" CARGO_TARGET_DIR=$folder cargo build --quiet --locked --release \
        --manifest-path tests/fuzz/Cargo.toml --target "$host"
}

run() {
    local target=$1 corpus=$folder/corpus/$1 findings=$folder/findings/$1 seeds=("tests/fuzz/seeds/$1")
    [ "$target" != config ] || seeds+=(examples)
    mkdir -p "$corpus" "$findings"
    RENEWD_FUZZ_TARGET=$target "$program" -max_total_time="$seconds" -max_len=16384 -timeout=60 \
        -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -artifact_prefix="$findings/" \
        "$corpus" "${seeds[@]}" 2>&1
}

build
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(all_targets)
failed=()
for target in "${targets[@]}"; do
    [ -d "tests/fuzz/seeds/$target" ] || { echo "fuzz: no target $target" >&2 && exit 2; }
    printf '=== %s, %s s\n' "$target" "$seconds"
    run "$target" || failed+=("$target")
done
[ "${#failed[@]}" -eq 0 ] || { printf 'fuzz: FOUND something: %s\n' "${failed[*]}" && exit 1; }
printf 'fuzz: nothing found by %s targets\n' "${#targets[@]}"

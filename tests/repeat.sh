#!/usr/bin/env bash
# Runs the suites whose tests wait for time, signals or other programs again and again: a test that
# fails once in twenty rounds is a fault of its own.
#
#   tests/repeat.sh [ROUNDS [AT_ONCE]]
#
# 20 rounds, two of them at once, which is also a load for each other. Builds first, fetches nothing
# (tests/peers.sh does). What a failing round printed stays in target/repeat/ROUND.log.
#
# Not here: what runs in virtual time (tests/catalogue), which no load can make slow; what waits only
# for one program to end, with a limit of a minute and more (issuance, accounts, revocation, chains,
# keys, most of dns and providers), since a round is to take minutes; kills at each point of the code
# (crash, but for its random moments), which load makes slow and not different.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1

rounds=${1:-20}
at_once=${2:-2}
logs=$PWD/target/repeat
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 3))}
# Parts of the names of tests, by the program that has them.
library=(
    api::connections daemon:: deploy::serve deploy::verify observe::alert::deliver solver::dns01::hostile solver::listener
    store::pulse sys::notify sys::process
)
whole=(
    alert_delivery:: ari:: canary:: crash::killed_at_random daemon:: deploy:: deployer:: disks:: dns::a_ dry_run::
    expiry:: preflight:: processes:: refusals:: standins:: supervision:: truths::
)

round() {
    cargo test --locked --all-features --quiet --lib -- "${library[@]}" &&
        cargo test --locked --all-features --quiet --test store -- whenever_the_process_dies &&
        cargo test --locked --all-features --quiet --test it -- "${whole[@]}"
}

# Prints what became of round $1.
tell() {
    local log=$logs/$1.log started=$SECONDS result=passed
    round >"$log" 2>&1 || result=FAILED
    printf 'round %s: %s in %s s, %s tests\n' "$1" "$result" "$((SECONDS - started))" \
        "$(awk '/^test result:/ { count += $4 } END { print count + 0 }' "$log")"
    [ "$result" = passed ] || sed -n 's/^test \(.*\) \.\.\. FAILED$/  \1/p; s/^    \([a-z_:0-9]*\)$/  \1/p' "$log" | sort -u
    [ "$result" = passed ]
}

rm -rf "$logs"
mkdir -p "$logs"
cargo test --locked --all-features --no-run --quiet || exit 1
failed=0
for ((first = 1; first <= rounds; first += at_once)); do
    started=()
    for ((number = first; number < first + at_once && number <= rounds; number++)); do
        tell "$number" &
        started+=("$!")
    done
    for it in "${started[@]}"; do wait "$it" || failed=$((failed + 1)); done
done
printf '%s of %s rounds failed\n' "$failed" "$rounds"
[ "$failed" -eq 0 ]

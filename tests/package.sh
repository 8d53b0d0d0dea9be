#!/usr/bin/env bash
# Builds the Debian package, with the dev profile, and holds it to what is promised: its list of
# files, lintian, its units (verify, and at most 2.0 by `systemd-analyze security`), its man pages,
# its snippet for nginx and its maintainer scripts.
#
#   tests/package.sh [--accept]
#
# --accept makes the list of this build the expected one (packaging/contents.txt). As root it
# installs the tools that are missing; otherwise it says which.
#
# Not here: the package in a running system, which is tests/machine.sh.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1

expected=packaging/contents.txt
folder=$PWD/target/package
root=$folder/root
accept=no
[ "${1-}" != --accept ] || accept=yes
failed=()

check() {
    local name=$1
    shift
    if "$@"; then
        printf 'package: ok: %s\n' "$name"
    else
        failed+=("$name")
        printf 'package: FAILED: %s\n' "$name"
    fi
}

# The programs and the packages that hold them.
tools() {
    local entry missing=()
    for entry in dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev lintian:lintian man:man-db systemd-analyze:systemd; do
        command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "package: missing, and only root can install it: apt-get install ${missing[*]}"
        return 1
    fi
    { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$folder/apt.log" 2>&1 ||
        { tail -n 20 "$folder/apt.log" && return 1; }
}

contents() {
    dpkg-deb -c "$deb" | awk '$1 !~ /^d/ { sub(/^\./, "", $6); print $1, $2, $6 }' | sort -k 3 >"$folder/contents.txt"
    if [ "$accept" = yes ]; then
        { sed -n '/^#/p' "$expected" && cat "$folder/contents.txt"; } >"$folder/accepted.txt" && cp "$folder/accepted.txt" "$expected"
        return
    fi
    diff -u --label expected --label built <(sed '/^#/d' "$expected") "$folder/contents.txt" ||
        { echo "package: if that is as it should be: tests/package.sh --accept" && return 1; }
}

lint() { lintian --allow-root --tag-display-limit 0 --fail-on error --suppress-tags bad-distribution-in-changes-file "$deb"; }

# The units as they would be found on a machine, but with the program and the pages of this build.
verify() {
    local unit output
    mkdir -p "$folder/units"
    for unit in "$root"/usr/lib/systemd/system/*; do
        sed "s|/usr/bin/renewd|$root/usr/bin/renewd|" "$unit" >"$folder/units/${unit##*/}"
    done
    output=$(MANPATH=$root/usr/share/man SYSTEMD_UNIT_PATH=$folder/units: systemd-analyze verify "$folder"/units/* 2>&1) &&
        [ -z "$output" ] || { printf '%s\n' "$output" && return 1; }
}

# systemd's own mark for what a unit could do, from 0.0 to 10.0.
security() {
    local unit score result=0
    for unit in "$folder"/units/*.service; do
        score=$(systemd-analyze security --offline=true "$unit" 2>/dev/null | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
        printf 'package: exposure of %s: %s\n' "${unit##*/}" "${score:-unknown}"
        awk -v score="${score:-10}" 'BEGIN { exit !(score <= 2.0) }' || result=1
    done
    return "$result"
}

pages() {
    local page output result=0
    for page in "$root"/usr/share/man/man?/*.gz; do
        output=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
        [ -z "$output" ] || { printf '%s: %s\n' "${page##*/}" "$output" && result=1; }
        lexgrog "$page" >/dev/null || { echo "${page##*/}: no line for whatis(1)" && result=1; }
    done
    return "$result"
}

# The completions are programs of other shells: those that are here must at least read them.
completions() {
    bash -n "$root/usr/share/bash-completion/completions/renewd" || return 1
    ! command -v zsh >/dev/null || zsh -n "$root/usr/share/zsh/vendor-completions/_renewd" || return 1
    ! command -v fish >/dev/null || fish -n "$root/usr/share/fish/vendor_completions.d/renewd.fish"
}

# nginx reads the snippet, and the configuration of the compose example.
nginx_reads() {
    local bin=$PWD/target/peers/bin work=$folder/nginx
    [ -x "$bin/nginx" ] || tests/peers.sh >&2 || return 1
    mkdir -p "$work/certs/example.com/current" "$work/logs"
    "$bin/openssl" req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=example.com -days 1 \
        -keyout "$work/certs/example.com/current/privkey.pem" -out "$work/certs/example.com/current/fullchain.pem" 2>/dev/null || return 1
    cat >"$work/snippet.conf" <<CONF
pid $work/nginx.pid;
events {}
http {
    access_log off;
    $(printf '%s_temp_path /tmp/x; ' client_body proxy fastcgi uwsgi scgi | sed "s|/tmp/x|$work/temporary|g")
    server { listen 127.0.0.1:8080; include $root/etc/nginx/snippets/renewd-acme-challenge.conf; }
}
CONF
    # What may itself lie below /tmp is put in last.
    sed -e "s|/tmp/|$work/|" -e "s|/var/lib/renewd|$work|" packaging/container/nginx.conf >"$work/compose.conf"
    local conf
    for conf in snippet compose; do
        timeout 20 "$bin/nginx" -e stderr -t -p "$work" -c "$work/$conf.conf" >"$work/$conf.log" 2>&1 ||
            { cat "$work/$conf.log" && return 1; }
    done
}

# The list in the program and the bill of materials beside it name exactly what a build for this
# machine takes in, as Cargo.lock has it.
dependencies() {
    local host work=$folder/dependencies
    host=$(rustc -vV | sed -n 's/^host: //p')
    mkdir -p "$work"
    cargo tree --locked --edges normal,build --target "$host" --prefix none --format '{p}' | awk '{ sub(/^v/, "", $2); print $1, $2 }' | sort -u >"$work/built"
    awk '/^name = /{ name = $3 } /^version = /{ gsub(/"/, "", name); gsub(/"/, "", $3); print name, $3 }' Cargo.lock | sort -u >"$work/locked"
    objcopy -O binary --set-section-flags .dep-v0=alloc --only-section .dep-v0 "$root/usr/bin/renewd" "$work/section" &&
        python3 - "$work" "$root/usr/share/doc/renewd/renewd.cdx.json" <<'PYTHON' || return 1
import json, sys, zlib
from pathlib import Path

work = Path(sys.argv[1])
packages = json.loads(zlib.decompress((work / "section").read_bytes()))["packages"]
bill = json.loads(Path(sys.argv[2]).read_text())
components = [bill["metadata"]["component"], *bill["components"]]
for name, listed in {"in_program": packages, "in_bill": components}.items():
    text = "".join(sorted(f"{it['name']} {it['version']}\n" for it in listed))
    (work / name).write_text(text)
assert [it["name"] for it in packages if it.get("root")] == ["renewd"]
assert all(len(it["hashes"][0]["content"]) == 64 and it["licenses"] for it in bill["components"])
PYTHON
    [ "$(wc -l <"$work/built")" -gt 200 ] && [ -z "$(comm -23 "$work/built" "$work/locked")" ] &&
        diff <(LC_ALL=C sort "$work/built") <(LC_ALL=C sort "$work/in_program") &&
        diff <(LC_ALL=C sort "$work/built") <(LC_ALL=C sort "$work/in_bill")
}

scripts() {
    local script result=0
    for script in packaging/debian/p* packaging/rpm/*.sh packaging/container/*.sh; do
        sh -n "$script" || result=1
    done
    return "$result"
}

# A purge, with every path below a folder and nobody to delete: certificates that a server names stay,
# all else goes, and nothing that a link leads to.
purge() {
    local work=$folder/purge state=$folder/purge/var/lib/renewd tool left
    rm -rf "$work"
    mkdir -p "$work/bin" "$work/etc/nginx" "$work/elsewhere/home" "$state/private" "$state"/certs/{used,unused,.left}
    echo "ssl_certificate $state/certs/used/current/fullchain.pem;" >"$work/etc/nginx/site.conf"
    touch "$state/certs/used/key" "$state/private/key" "$work/elsewhere/home/precious"
    ln -s "$work/elsewhere" "$state/certs/planted"
    for tool in getent userdel groupdel systemctl deb-systemd-helper chown; do
        printf '#!/bin/sh\nexit 1\n' >"$work/bin/$tool"
    done
    # Only root could do that.
    printf '#!/bin/sh\necho "$@" >>%s\n' "$work/chown.log" >"$work/bin/chown"
    chmod 755 "$work"/bin/*
    sed -E "s#/(var|run|etc)(/| |\$)#$work/\\1\\2#g" packaging/debian/postrm >"$work/postrm"
    PATH=$work/bin:$PATH sh "$work/postrm" purge 2>"$work/purge.log" || { cat "$work/purge.log" && return 1; }
    left=$(cd "$work/var/lib" && find . -mindepth 1 | sort | tr '\n' ' ')
    [ "$left" = './renewd ./renewd/certs ./renewd/certs/used ./renewd/certs/used/key ' ] || { echo "left: $left" && return 1; }
    # Nobody else can change the folders while something is deleted in them, and they are given back.
    [ "$(sed 's/^[0-9:]* //; s|.*/renewd|renewd|' "$work/chown.log" | tr '\n' ' ')" = 'renewd renewd/certs renewd/certs renewd ' ] ||
        { cat "$work/chown.log" && return 1; }
    # The folder itself as a link.
    rm -rf "$state/certs" && ln -s "$work/elsewhere" "$state/certs"
    PATH=$work/bin:$PATH sh "$work/postrm" purge 2>"$work/purge.log" || { cat "$work/purge.log" && return 1; }
    [ -e "$work/elsewhere/home/precious" ] || { echo 'what a link leads to was deleted' && return 1; }
    rm "$state/certs" && PATH=$work/bin:$PATH sh "$work/postrm" purge && [ ! -e "$state" ]
}

mkdir -p "$folder"
tools || exit 1
started=$SECONDS
deb=$(packaging/build.sh --profile dev | tail -n 1) && [ -f "$deb" ] || { echo 'package: it was not built' && exit 1; }
rm -rf "$root" "$folder/units"
dpkg-deb -x "$deb" "$root" || exit 1

check 'the list of files' contents
check 'lintian' lint
check 'units: verify' verify
check 'units: security' security
check 'man pages' pages
check 'completions' completions
check 'configurations for nginx' nginx_reads
check 'what it is made of' dependencies
check 'maintainer scripts' scripts
check 'a purge' purge
printf 'package: %s, %s bytes, in %s s\n' "${deb##*/}" "$(stat -c %s "$deb")" "$((SECONDS - started))"
[ "${#failed[@]}" -eq 0 ]

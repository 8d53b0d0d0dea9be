#!/usr/bin/env bash
# Builds the Debian 12 machine that tests/machine.sh runs copies of: systemd and the servers of the
# steps, nothing of ours. About a minute, and then it is only looked at.
#
#   tests/machine/base.sh FOLDER
#
# The packages come from wherever this machine's own apt takes them.
#
# Not here: starting it, and the package under test (tests/machine.sh).
set -euo pipefail

base=$1
suite=bookworm
packages=systemd,systemd-sysv,dbus
servers=(ca-certificates nginx-light postgresql mosquitto python3 curl openssl procps)

# A change of this file is another machine.
stamp=$(cksum <"${BASH_SOURCE[0]}")
if [ "$(cat "$base.stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi

# The first address of the suite in apt's own configuration, whichever form that is written in.
mirror() {
    apt-get indextargets --format '$(SITE) $(RELEASE) $(CODENAME)' 'Created-By: Packages' |
        awk -v suite="$suite" '$2 == suite || $3 == suite { print $1; exit }'
}

mirror=$(mirror)
[ -n "$mirror" ] || { echo "base: apt on this machine has no source for Debian $suite" >&2 && exit 1; }

rm -rf -- "$base" "$base.stamp"
mkdir -p -- "$(dirname -- "$base")"
log=$base.log
echo "base: debootstrap of $suite (about a minute, once)" >&2
build() {
    debootstrap --variant=minbase --include="$packages" "$suite" "$base" "$mirror"
    # No server of the base is started while it is built: it is not a machine yet.
    printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
    chmod 0755 "$base/usr/sbin/policy-rc.d"
    DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$base" \
        apt-get install --yes --no-install-recommends "${servers[@]}"
    rm -f -- "$base/usr/sbin/policy-rc.d"
    # Each run copies the rest.
    rm -rf -- "$base"/usr/share/{doc,info,locale,man} "$base"/var/lib/apt/lists/* "$base"/var/cache/apt/*
    mkdir -p -- "$base/usr/share/man" "$base/usr/share/doc" "$base/var/cache/apt/archives/partial"
}
build >"$log" 2>&1 || { tail -n 40 "$log" >&2 && exit 1; }
echo "$stamp" >"$base.stamp"

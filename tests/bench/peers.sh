#!/bin/sh
# Fetches certbot and lego, with which the bench peers_crash compares, from Debian's packages.
#
# Both are unpacked with what they need and the machine lacks below target/bench-peers; nothing else
# on the machine changes, and no package is installed. Prints their versions.
#
# Not here: the peers that tests run against, which are tests/peers.sh.
set -eu

project=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
peers=$project/target/bench-peers
root=$peers/root

mkdir -p "$peers/deb" "$peers/bin" "$root"
if [ ! -x "$peers/bin/lego" ] || [ ! -x "$peers/bin/certbot" ]; then
    # A simulation: it names what would be installed, and installs nothing.
    packages=$(apt-get -s -qq install --no-install-recommends certbot lego | sed -n 's/^Inst \([^ ]*\) .*/\1/p')
    [ -n "$packages" ] || { echo "$0: apt knows no certbot and lego: run apt-get update" >&2 && exit 1; }
    # shellcheck disable=SC2086
    (cd "$peers/deb" && apt-get download -q $packages >&2)
    for deb in "$peers/deb"/*.deb; do dpkg-deb -x "$deb" "$root"; done
    # Debian's Python finds its modules beside these, which it lacks.
    cat >"$peers/bin/certbot" <<'SCRIPT'
#!/bin/sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../root" && pwd)
PYTHONPATH=$root/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 "$root/usr/bin/certbot" "$@"
SCRIPT
    chmod 0755 "$peers/bin/certbot"
    ln -sf ../root/usr/bin/lego "$peers/bin/lego"
fi
"$peers/bin/certbot" --version
"$peers/bin/lego" --version

#!/bin/sh
# Fetches the real peers that tests and the quickstart run against, and that this machine lacks:
# pebble with pebble-challtestsrv (Debian unstable), nginx, prometheus-alertmanager, openssl, curl,
# BIND's named, dig and nsupdate, PowerDNS with its LMDB backend, Knot, acme.sh (Debian unstable),
# and moto from PyPI, which speaks Route 53.
#
#   tests/peers.sh [PROGRAM…]
#
# With PROGRAMs, by the names that they have in target/peers/bin, only these.
#
# Everything is unpacked below target/peers; nothing else on the machine changes, no package is
# installed, no service is started, and root is not needed. The programs end up in
# target/peers/bin, one version a line in target/peers/versions. Run it as often as you like: with
# all in place it only prints the versions.
#
# Not here: starting any of them, which is tests/support.
set -eu

project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
peers=$project/target/peers
root=$peers/root
bin=$peers/bin
stamp=$peers/versions

say() { printf 'peers: %s\n' "$*" >&2; }
fail() {
    printf 'peers: error: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf 'peers: hint: %s\n' "$hint" >&2; done
    exit 1
}

# The programs, in the order in which they are looked for.
programs='pebble pebble-challtestsrv nginx prometheus-alertmanager openssl curl named dig nsupdate pdns_server knotd acme.sh moto_server'

# Those that are asked for.
wanted=${*:-$programs}

# The release of moto that tests were written for.
moto=5.2.1

# Which package holds program $1.
package_of() {
    case $1 in
        pebble-challtestsrv) echo pebble ;;
        named) echo bind9 ;;
        dig | nsupdate) echo bind9-dnsutils ;;
        pdns_server) echo pdns-server ;;
        knotd) echo knot ;;
        *) echo "$1" ;;
    esac
}

# The version that program $1 names itself, in one line.
version_of() {
    case $1 in
        pebble | pebble-challtestsrv) echo "$(package_of "$1") $(cat "$peers/pebble.version")" ;;
        nginx) "$bin/nginx" -v 2>&1 | sed -n '1s/^nginx version: //p' ;;
        prometheus-alertmanager) "$bin/$1" --version 2>&1 | sed -n '1s/ (.*//p' ;;
        openssl) "$bin/openssl" version 2>&1 | sed -n '1s/ (.*//p' ;;
        named) "$bin/named" -v 2>/dev/null | sed 's/ <.*//' ;;
        dig) "$bin/dig" -v 2>&1 | sed -n '1s/^DiG/dig/p' ;;
        nsupdate) "$bin/nsupdate" -V 2>&1 | sed -n 1p ;;
        # PowerDNS can do nothing without a backend.
        pdns_server) [ -s "$(backend_path)" ] && "$bin/pdns_server" --version 2>&1 | sed -n 's/.*\(PowerDNS [A-Za-z ]*[0-9][^ ]*\).*/\1/p' | sed -n 1p ;;
        knotd) "$bin/knotd" --version 2>&1 | sed -n 1p ;;
        acme.sh) sed -n 's/^VER=/acme.sh /p' "$bin/acme.sh" | sed -n 1p ;;
        # Its own start takes seconds.
        moto_server) find "$peers/python" -maxdepth 1 -name 'moto-*.dist-info' | sed 's,.*/moto-\(.*\)\.dist-info,moto \1,' ;;
        curl) "$bin/curl" --version 2>&1 | sed -n '1s/ (.*//p' ;;
    esac
}

# Where the one backend of PowerDNS is that needs no database of its own.
backend_path() { find "$root/usr/lib" /usr/lib -name liblmdbbackend.so 2>/dev/null | head -n 1; }

# Whether program $1 runs.
is_there() { [ -x "$bin/$1" ] && [ -n "$(version_of "$1" 2>/dev/null)" ]; }

# Whether what is there was put there by this very script.
is_ours() { [ -s "$stamp" ] && [ "$(sed -n '1s/^script //p' "$stamp")" = "$(cksum <"$0")" ]; }

all_there() {
    is_ours || return 1
    for program in $wanted; do
        is_there "$program" || return 1
    done
}

# Runs apt tool $2 on the private lists of suite $1: no lock, no list and no cache of the system
# is touched, so it needs no root. A mirror that has not moved for days will do: what it holds is
# signed all the same.
apt() {
    suite=$1
    tool=$2
    shift 2
    state=$peers/apt/$suite
    "$tool" -q -o "Dir::Etc::SourceList=$state/none.list" -o "Dir::Etc::SourceParts=$state/sources" \
        -o "Dir::Etc::Preferences=$state/none" -o "Dir::Etc::PreferencesParts=$state/none.d" \
        -o "Dir::State=$state/state" -o "Dir::State::Lists=$state/lists" \
        -o Dir::State::Status=/var/lib/dpkg/status -o "Dir::Cache=$state/cache" \
        -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false \
        -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 "$@"
}

# Writes the machine's own package source for its release, with the suite changed to unstable.
# Both forms of source files are understood; mirror, signing key and options stay as they are.
unstable_source() {
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || fail 'this is not a Debian release: /etc/os-release has no VERSION_CODENAME'
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        # A stanza a record: the first that has the release among its suites is taken.
        stanza=$(awk -v RS= -v name="$codename" '
            match($0, "(^|\n)Suites:[^\n]*[ \t]" name "([ \t\n]|$)") && !/(^|\n)Enabled:[ \t]*no/ { print; exit }
        ' "$file")
        if [ -n "$stanza" ]; then
            printf '%s\n' "$stanza" | sed -e '/^#/d' -e 's/^Types:.*/Types: deb/' \
                -e 's/^Suites:.*/Suites: unstable/' -e 's/^Components:.*/Components: main/' >"$1.sources"
            return
        fi
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        line=$(sed -nE "s/^deb[[:space:]]+((\\[[^]]*\\][[:space:]]+)?[^[:space:]]+)[[:space:]]+$codename[[:space:]].*/deb \\1 unstable main/p" "$file" | head -n 1)
        if [ -n "$line" ]; then
            printf '%s\n' "$line" >"$1.list"
            return
        fi
    done
    fail "no package source for $codename in /etc/apt" \
        'a Debian machine with a working apt is needed to fetch the peers'
}

# Makes the private apt folders of suite $1 (stable: the machine's own sources; or unstable) and
# fetches its lists, once a run.
lists_of() {
    state=$peers/apt/$1
    [ ! -e "$state/fresh" ] || return 0
    rm -rf "$state/sources"
    mkdir -p "$state/sources" "$state/none.d" "$state/state" "$state/lists/partial" \
        "$state/cache/archives/partial"
    if [ "$1" = unstable ]; then
        unstable_source "$state/sources/peers"
    else
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
            if [ -s "$file" ]; then cp "$file" "$state/sources/"; fi
        done
    fi
    say "reading the package lists of $1"
    apt "$1" apt-get update >"$state/update.log" 2>&1 || {
        cat "$state/update.log" >&2
        fail "cannot read the package lists of $1" 'see the lines of apt above; is the network there?'
    }
    : >"$state/fresh"
}

# Fetches package $2 of suite $1 and unpacks it below $root; prints the file's path.
unpack() {
    lists_of "$1"
    mkdir -p "$peers/deb/$2"
    rm -f "$peers/deb/$2"/*.deb
    (cd "$peers/deb/$2" && apt "$1" apt-get download "$2") >"$peers/deb/$2/log" 2>&1 || {
        cat "$peers/deb/$2/log" >&2
        fail "cannot fetch the package $2" 'see the lines of apt above'
    }
    for deb in "$peers/deb/$2"/*.deb; do
        dpkg-deb -x "$deb" "$root" || fail "cannot unpack $deb"
        say "unpacked $(dpkg-deb -f "$deb" Package) $(dpkg-deb -f "$deb" Version)"
        echo "$deb"
    done
}

# Where the unpacked libraries are, as a search path.
library_path() {
    find "$root/usr/lib" "$root/lib" -maxdepth 1 -type d -name '*-linux-gnu*' 2>/dev/null | tr '\n' ':'
}

missing_libraries() { LD_LIBRARY_PATH=$(library_path) ldd "$1" 2>/dev/null | sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p'; }

# Fetches the library packages that package file $2 depends on, and those that these depend on,
# until program $1 finds all it is linked to.
fetch_libraries() {
    linked=$1
    pending=$2
    for _ in 1 2 3 4 5; do
        [ -n "$(missing_libraries "$linked")" ] || return 0
        next=
        for deb in $pending; do
            # Of alternatives the first; libc6 must be the machine's own.
            for library in $(dpkg-deb -f "$deb" Pre-Depends Depends | sed 's/^[A-Za-z-]*: //' | tr ',' '\n' |
                sed -E 's/\|.*//; s/\(.*//; s/:any//; s/[[:space:]]//g' | grep '^lib\|^zlib\|^bind9-libs$' | grep -v '^libc6$'); do
                [ ! -d "$peers/deb/$library" ] || continue
                next="$next $(unpack stable "$library")"
            done
        done
        pending=$next
    done
    [ -z "$(missing_libraries "$linked")" ] ||
        fail "$linked lacks libraries: $(missing_libraries "$linked" | tr '\n' ' ')" \
            'install the packages that hold them'
}

# Debian's alertmanager reads its templates from one absolute path, which only an installed package
# has. In our unpacked copy $1 the path loses its leading slash (and doubles another, so that the
# length stays), and the program is run from the folder where that relative path leads to ours.
relocate_alertmanager() {
    LC_ALL=C sed -i 's,/usr/share/prometheus/alertmanager,usr//share/prometheus/alertmanager,g' "$1"
    cat >"$bin/prometheus-alertmanager" <<SCRIPT
#!/bin/sh
cd -- "\$(dirname -- "\$0")/../root" && exec ".${1#"$root"}" "\$@"
SCRIPT
    chmod 0755 "$bin/prometheus-alertmanager"
}

# Fetches PowerDNS' backend, unless the machine has one, and the libraries that it is linked to.
provide_backend() {
    [ -z "$(backend_path)" ] || return 0
    debs=$(unpack stable pdns-backend-lmdb)
    fetch_libraries "$(backend_path)" "$debs"
}

# Fetches acme.sh's package, of which only the scripts are used: they read what is beside them.
provide_acme_sh() {
    unpack unstable acme.sh >/dev/null
    script=$(find "$root/usr" -path '*/acme.sh/acme.sh' -type f | head -n 1)
    [ -n "$script" ] || fail 'package acme.sh holds no acme.sh'
    ln -sf "../root${script#"$root"}" "$bin/acme.sh"
}

# Installs moto and what it needs into a folder of its own, which can be moved.
provide_moto() {
    rm -rf "$peers/python"
    python3 -m pip --version >/dev/null 2>&1 || fail 'python3 with pip is missing' 'install python3-pip'
    say 'installing moto'
    timeout 300 python3 -m pip install -q --disable-pip-version-check --no-cache-dir --only-binary :all: \
        --target "$peers/python" "moto[server]==$moto" >&2 || fail 'moto cannot be installed'
    cat >"$bin/moto_server" <<'SCRIPT'
#!/bin/sh
PYTHONPATH=$(CDPATH='' cd -- "$(dirname -- "$0")/../python" && pwd) PYTHONDONTWRITEBYTECODE=1 \
    exec python3 -m moto.server "$@"
SCRIPT
    chmod 0755 "$bin/moto_server"
}

# Makes program $1 runnable as $bin/$1: the machine's own if it has one, else the unpacked one.
provide() {
    program=$1
    case $program in
        acme.sh) provide_acme_sh && return ;;
        moto_server) provide_moto && return ;;
        pdns_server) provide_backend ;;
    esac
    package=$(package_of "$program")
    suite=stable
    # Debian 12's own pebble has neither profiles nor ARI.
    [ "$package" != pebble ] || suite=unstable
    if [ "$suite" = stable ]; then
        own=$(PATH=$PATH:/usr/sbin:/sbin command -v "$program" || true)
        if [ -n "$own" ]; then
            ln -sf "$own" "$bin/$program"
            return
        fi
    fi
    path=$(find "$root/usr/sbin" "$root/usr/bin" -name "$program" 2>/dev/null | head -n 1)
    if [ -z "$path" ]; then
        debs=$(unpack "$suite" "$package")
        path=$(find "$root/usr/sbin" "$root/usr/bin" -name "$program" 2>/dev/null | head -n 1)
        [ -n "$path" ] || fail "package $package holds no program $program"
        [ "$package" != pebble ] || dpkg-deb -f "$debs" Version >"$peers/pebble.version"
        [ -z "$(missing_libraries "$path")" ] || fetch_libraries "$path" "$debs"
    fi
    if [ "$program" = prometheus-alertmanager ]; then
        relocate_alertmanager "$path"
        return
    fi
    # Where libraries had to be unpacked too, the program must be told where they are.
    if ldd "$path" 2>/dev/null | grep -q 'not found'; then
        rm -f "$bin/$program"
        cat >"$bin/$program" <<SCRIPT
#!/bin/sh
root=\$(CDPATH='' cd -- "\$(dirname -- "\$0")/../root" && pwd)
libraries=\$(find "\$root/usr/lib" "\$root/lib" -maxdepth 1 -type d -name '*-linux-gnu*' 2>/dev/null | tr '\n' ':')
export LD_LIBRARY_PATH="\$libraries"
exec "\$root${path#"$root"}" "\$@"
SCRIPT
        chmod 0755 "$bin/$program"
    else
        ln -sf "../root${path#"$root"}" "$bin/$program"
    fi
}

for program in $wanted; do
    case " $programs " in
        *" $program "*) ;;
        *) fail "there is no program $program" "it is one of: $programs" ;;
    esac
done
for tool in apt-get dpkg-deb ldd flock; do
    command -v "$tool" >/dev/null || fail "$tool is missing" 'the peers come from Debian packages'
done
mkdir -p "$peers" "$root" "$bin"
# Two runs at once would unpack over each other.
exec 9>"$peers/lock"
flock -w 900 9 || fail 'another run of this script holds target/peers/lock'

if ! all_there; then
    # What another version of this script put there is fetched anew as a whole.
    is_ours || rm -rf "$root" "$bin" "$stamp"
    rm -rf "$peers/deb" "$peers/apt"
    mkdir -p "$root" "$bin" "$peers/deb"
    for program in $wanted; do
        is_there "$program" || provide "$program"
        [ -n "$(version_of "$program")" ] || fail "$program does not run" "try: $bin/$program --version"
    done
    rm -rf "$peers/deb" "$peers/apt"
    echo "script $(cksum <"$0")" >"$stamp.new"
    for program in $programs; do
        ! is_there "$program" || echo "$program $(version_of "$program")" >>"$stamp.new"
    done
    mv "$stamp.new" "$stamp"
fi
sed '1d' "$stamp"

#!/usr/bin/env bash
# Shows the Debian package in a real systemd machine: installed, serving, renewed, frozen, attacked,
# upgraded, removed. Debian 12 with nginx, PostgreSQL and Mosquitto boots in a container of its own;
# the CA (Pebble) runs in it too, so nothing leaves it.
#
#   tests/machine.sh [--deb FILE] [--keep]
#
# --deb takes a package instead of building one; --keep leaves the machine running when a step
# failed and says how to enter it. Needs root, and installs debootstrap, systemd-nspawn and nsenter if
# they are missing; the base is made once, below target/machine. Each run works on a copy, and at the
# end it, its processes and its control groups are gone, whatever happened.
#
# Not here: what is shown (tests/machine/steps.sh, which runs inside), and how the base is made
# (tests/machine/base.sh).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

fail() { printf 'machine: error: %s\n' "$1" >&2; shift; printf 'machine: hint: %s\n' "$@" >&2; exit 1; }

deb=
keep=no
while [ $# -gt 0 ]; do
    case $1 in
        --deb) deb=${2:?--deb needs a file} && shift 2 ;;
        --keep) keep=yes && shift ;;
        *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
done

[ "$(id -u)" -eq 0 ] || fail 'a machine can only be booted by root' 'run tests/machine.sh as root, in a machine that you can spare'
missing=()
for tool in debootstrap:debootstrap systemd-nspawn:systemd-container nsenter:util-linux; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
folder=$PWD/target/machine
mkdir -p "$folder"
if [ "${#missing[@]}" -gt 0 ]; then
    { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$folder/apt.log" 2>&1 ||
        fail "packages are missing: ${missing[*]}" "apt-get install ${missing[*]}" "see $folder/apt.log"
fi
exec 9>"$folder/lock"
flock -w 900 9 || fail 'another run holds target/machine/lock for more than 15 minutes' 'wait for it, or end it'

started=$SECONDS
machine=
nspawn=
groups=()

# Ends the machine and takes away every trace of it.
clean_up() {
    local code=$? group
    trap - EXIT INT TERM
    if [ "$keep" = yes ] && [ "$code" -ne 0 ] && [ -n "$nspawn" ]; then
        printf 'machine: kept; enter: nsenter -t %s -m -u -i -p -n bash; end: kill %s; then rm -r %s\n' \
            "$(init_of "$nspawn")" "$nspawn" "$machine" >&2
        exit "$code"
    fi
    if [ -n "$nspawn" ]; then
        # Nothing in it is worth an orderly shutdown; with its init all of it ends, and so does nspawn.
        kill -KILL "$(init_of "$nspawn")" 2>/dev/null || kill -TERM "$nspawn" 2>/dev/null || true
        timeout 20 tail --pid="$nspawn" -f /dev/null || kill -KILL "$nspawn" 2>/dev/null || true
        wait "$nspawn" 2>/dev/null || true
    fi
    # The kernel takes the last processes out of them a moment later.
    for group in "${groups[@]}"; do
        timeout 10 sh -c 'while [ -d "$1" ]; do
            find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null
            sleep 0.1
        done' sh "$group" || printf 'machine: control group %s was left behind\n' "$group" >&2
    done
    [ -z "$machine" ] || rm -rf --one-file-system -- "$machine"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Also when nobody reads on: what is left to print is not worth a machine that stays.
trap 'exit 129' HUP
trap 'exit 141' PIPE

init_of() { pgrep -P "$1" | head -n 1; }

# A control group of our own in each hierarchy that systemd uses, so that two machines, or one and
# its host, never share one. Where that is not ours to make, the machine takes the one we are in.
make_groups() {
    local root own
    for root in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
        [ -e "$root/cgroup.procs" ] || continue
        case $root in
            */systemd) own=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup) ;;
            *) own=$(sed -n 's/^0:://p' /proc/self/cgroup) ;;
        esac
        own=$root${own%/}/renewd-machine.$$
        if mkdir "$own" 2>/dev/null; then groups+=("$own"); fi
    done
}

#------------------------------------------------------------------------------- what goes in

tests/peers.sh >/dev/null
if [ -z "$deb" ]; then
    deb=$(packaging/build.sh --profile dev | tail -n 1)
fi
[ -s "$deb" ] || fail "there is no package at ${deb:-(no path printed)}" 'packaging/build.sh --profile dev must print it as its last line'
tests/machine/base.sh "$folder/base"
prepared=$SECONDS

# A copy, not a layer over the base: the agent looks at what kind of file system it is on.
machine=$(mktemp -d "$folder/run.XXXXXX")
chmod 0755 "$machine"
cp -a --reflink=auto "$folder/base/." "$machine/"
mkdir -p "$machine/lab"
cp -L target/peers/bin/pebble target/peers/bin/pebble-challtestsrv "$machine/lab/"
cp -R tests/machine/. "$machine/lab/"
cp -- "$deb" "$machine/lab/renewd.deb"
echo lab >"$machine/etc/hostname"
# Nothing of Debian's own is to happen by the clock.
rm -f -- "$machine"/etc/systemd/system/timers.target.wants/*

#------------------------------------------------------------------------------- boot

make_groups
boot() {
    local group
    for group in "${groups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs" || true; done
    # systemd-nspawn wants a /run of its own to write to; --register=no since there may be no
    # systemd on this host to tell.
    exec unshare -m --propagation private sh -c 'mount -t tmpfs tmpfs /run
        exec systemd-nspawn --quiet -D "$1" -b --register=no --keep-unit --console=pipe --private-network' \
        sh "$machine"
}
boot >"$folder/console.log" 2>&1 </dev/null 9>&- &
nspawn=$!

# Runs $@ inside, as root and with nothing of this environment.
inside() {
    nsenter -t "$(init_of "$nspawn")" -m -u -i -p -n env -i \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"
}
runs() {
    kill -0 "$nspawn" 2>/dev/null || { tail -n 20 "$folder/console.log" >&2; fail 'the machine does not boot' 'see the lines above'; }
    # Also `degraded` is up: the steps say what they miss.
    [ -n "$(init_of "$nspawn")" ] && inside systemctl is-system-running 2>/dev/null | grep -qE '^(running|degraded)$'
}
end=$((SECONDS + 60))
until runs; do
    [ "$SECONDS" -lt "$end" ] || { tail -n 20 "$folder/console.log" >&2; fail 'the machine was not up within 60 s' 'see the lines above'; }
    sleep 0.2
done

#------------------------------------------------------------------------------- the steps

result=0
# In the background, since bash sees a signal only between two commands, or while it waits.
inside timeout --kill-after=10 900 /lab/steps.sh 9>&- &
wait "$!" || result=$?
printf 'machine: %s s, and %s s before that for package and base\n' "$((SECONDS - prepared))" "$((prepared - started))"
exit "$result"

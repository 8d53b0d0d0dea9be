#!/bin/bash
# Lets renewd change DNS by the scripts of an installed acme.sh: one for each of its providers.
#
#   [solver.dns]
#   type = "dns-01"
#   provider = "program"
#   program = ["/usr/local/lib/renewd/acme-sh-dns.sh", "dns_nsupdate"]
#   options = { NSUPDATE_SERVER = "ns1.example.com" }   # what the script asks for, if it is no secret
#   key_file = "dns.env"                                # lines NAME=value with its secrets
#
# The word behind the program is the script's name in acme.sh's folder dnsapi. acme.sh is looked for
# where packages and its own installer put it, or in the folder that ACME_SH_HOME names. Programs
# that the script needs are looked for in the folders of ACME_SH_PATH too.
#
# renewd calls it with: add|remove NAME VALUE ZONE. Nothing is kept: credentials come from renewd
# each time, and what acme.sh would write down goes to a folder that is removed at the end.
#
# Mind: some scripts (dns_nsupdate is one) remove every TXT record of the name, those of others too.
# Not here: installing acme.sh.
set -euo pipefail
umask 077

fail() {
    printf 'acme-sh-dns: %s\n' "$1" >&2
    exit 2
}

[[ $# -eq 5 ]] || fail 'usage: acme-sh-dns.sh SCRIPT add|remove NAME VALUE ZONE'
script=$1 name=$3 value=$4
[[ $script =~ ^dns_[A-Za-z0-9_]+$ ]] || fail "not the name of a script of acme.sh: $script"
case $2 in
    add) function=${script}_add ;;
    remove) function=${script}_rm ;;
    *) fail "neither add nor remove: $2" ;;
esac
# acme.sh hands both on to other programs, not always in quotes.
[[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*$ ]] || fail 'the name has characters that no record of ours has'
[[ $value =~ ^[A-Za-z0-9_-]+$ ]] || fail 'the value has characters that no value of ours has'

home=
for folder in "${ACME_SH_HOME:-}" /usr/share/acme.sh /usr/local/share/acme.sh /root/.acme.sh; do
    if [[ -n $folder && -r $folder/acme.sh ]]; then
        home=$folder
        break
    fi
done
[[ -n $home ]] || fail 'acme.sh is not installed: set ACME_SH_HOME to the folder that holds it'
[[ -r $home/dnsapi/$script.sh ]] || fail "acme.sh has no script $home/dnsapi/$script.sh"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export HOME=$work LE_WORKING_DIR=$work LE_CONFIG_HOME=$work
export PATH=${ACME_SH_PATH:+$ACME_SH_PATH:}$PATH

# From here on it is acme.sh's code, which is not written for strict shells.
set +eu
set +o pipefail
# Called with words that are no option, acme.sh runs them: it defines its functions and finds its
# folders.
# shellcheck source=/dev/null
. "$home/acme.sh" _initpath >&2 || fail "$home/acme.sh can't be used"
# shellcheck source=/dev/null
. "$home/dnsapi/$script.sh" || fail "$home/dnsapi/$script.sh can't be used"
"$function" "$name" "$value" >&2 || fail "$script did not $2 $name"

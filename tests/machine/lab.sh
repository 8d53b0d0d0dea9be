# What the steps share: waiting, comparing, the CA and the servers of the lab, and what they serve.
#
# Sourced inside the machine, as root, with `set -eEuo pipefail`. What one step learns and another
# needs is a file below /lab/state.
#
# Not here: the steps.

lab=/lab
state=$lab/state
ca=$lab/ca
live=/var/lib/renewd/certs
configuration=/etc/renewd/renewd.toml

#------------------------------------------------------------------------------- words of the steps

fail() { printf '  %s\n' "$@" >&2; exit 1; }

# Asks the command $3… until it succeeds, for $1 seconds; $2 says what is waited for.
await() {
    local limit=$1 what=$2 end=$((SECONDS + $1))
    shift 2
    until "$@" >"$state/awaited" 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "not within $limit s: $what" "$(tail -n 20 "$state/awaited")"
        sleep 0.2
    done
}

# Compares $2 and $3; $1 says what they are.
same() { [ "$2" = "$3" ] || fail "$1: $3, and not $2"; }
differ() { [ -n "$3" ] && [ "$2" != "$3" ] || fail "$1: ${3:-nothing}, as before"; }

# Demands that text $2 says $3 (an extended regular expression); $1 says whose it is.
says() { grep -qE -- "$3" <<<"$2" || fail "$1 does not say: $3" "$2"; }

# Demands that the command $2… fails; $1 says what. What it printed is in $said.
refused() {
    local what=$1
    shift
    if said=$("$@" 2>&1); then fail "was accepted: $what" "$said"; fi
}

keep() { printf '%s\n' "$2" >"$state/$1"; }
kept() { cat "$state/$1"; }

property() { systemctl show --property "$2" --value "$1"; }

# Whether unit $1 has been in no other state than active since $2 (its InvocationID).
same_run() { [ "$(property "$1" InvocationID)" = "$2" ] && [ "$(property "$1" ActiveState)" = active ]; }

# A moment for `journal_since`; the journal is flushed first, so nothing older comes after it.
now_in_journal() { journalctl --sync && journalctl -n 1 --show-cursor | sed -n 's/^-- cursor: //p'; }
# What unit $2 has written since the moment $1, with the fields of each line.
journal_since() {
    journalctl --sync
    journalctl --no-pager --all --output verbose --after-cursor "$1" -u "$2" | grep -E '^ +(MESSAGE|RENEWD_[A-Z_]+)='
}

#------------------------------------------------------------------------------- the CA

# Starts Pebble: certificates are valid for 90 days, and proven by http on port 80 of this machine.
start_ca() {
    mkdir -p "$ca"
    cat >"$ca/openssl.cnf" <<'CONFIG'
[req]
distinguished_name = name
prompt = no
[name]
CN = lab root
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
CONFIG
    local ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    openssl req -config "$ca/openssl.cnf" -x509 -extensions root "${ec[@]}" -days 2 \
        -keyout "$ca/root.key" -out "$ca/root.pem"
    openssl req -config "$ca/openssl.cnf" "${ec[@]}" -subj /CN=localhost -keyout "$ca/server.key" -out "$ca/server.csr"
    openssl x509 -req -in "$ca/server.csr" -CA "$ca/root.pem" -CAkey "$ca/root.key" -set_serial 1 \
        -days 2 -extfile "$ca/openssl.cnf" -extensions server -out "$ca/server.pem"
    cat >"$ca/pebble.json" <<JSON
{ "pebble": {
  "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
  "certificate": "$ca/server.pem", "privateKey": "$ca/server.key",
  "httpPort": 80, "tlsPort": 443, "keyAlgorithm": "ecdsa",
  "retryAfter": { "authz": 1, "order": 1 },
  "profiles": { "default": { "description": "90 days", "validityPeriod": 7776000 } }
} }
JSON
    systemd-run --quiet --unit lab-dns "$lab/pebble-challtestsrv" -defaultIPv4 127.0.0.1 -defaultIPv6 '' -http01 '' \
        -https01 '' -tlsalpn01 '' -doh '' -dnsserver 127.0.0.1:8053 -management 127.0.0.1:8055
    systemd-run --quiet --unit lab-ca --setenv PEBBLE_VA_NOSLEEP=1 --setenv PEBBLE_AUTHZREUSE=0 \
        "$lab/pebble" -config "$ca/pebble.json" -dnsserver 127.0.0.1:8053
    await 30 'the CA answers' curl -sSf --cacert "$ca/root.pem" https://localhost:14000/dir
    # What visitors trust; Pebble makes it anew at every start.
    curl -sSf --cacert "$ca/root.pem" https://localhost:15000/roots/0 -o "$ca/visitors.pem"
}

# How many orders the CA has taken, and how many certificates it has issued: its own words.
orders() { journalctl --sync && journalctl --no-pager --output cat -u lab-ca | grep -c 'Added order ' || true; }
issued() { journalctl --sync && journalctl --no-pager --output cat -u lab-ca | grep -c 'Issued certificate ' || true; }
accounts() {
    journalctl --no-pager --output cat -u lab-ca | sed -n 's/.*There are now \([0-9]*\) accounts in memory.*/\1/p' | tail -n 1
}

# Runs `renewd $2…` and demands that the CA takes exactly $1 more orders for it.
renewd_with_orders() {
    local expected=$1 before
    shift
    before=$(orders)
    renewd "$@" || fail "renewd $* ended with $?"
    same "orders at the CA for renewd $*" "$((before + expected))" "$(orders)"
    same 'accounts at the CA' 1 "$(accounts)"
}

#------------------------------------------------------------------------------- what is served

# What $1 (host name) shows on port $2; more arguments go to s_client.
leaf_of() {
    local name=$1 port=$2
    shift 2
    timeout 10 openssl s_client -connect "127.0.0.1:$port" -servername "$name" "$@" </dev/null 2>/dev/null |
        openssl x509 -noout -serial
}
serial_of() { leaf_of "$@" | sed -n 's/^serial=//p'; }
site_serial() { serial_of site.example 443; }
# The serial of the certificate called $1 in the folder that servers are told of.
held_serial() { openssl x509 -noout -serial -in "$live/$1/current/fullchain.pem" | sed -n 's/^serial=//p'; }

# Whether renewd says of certificate $1 that every server serves it.
served() { renewd status "$1" --json | tr -d ' \n' | grep -q '"condition":"served"'; }

# One whole handshake and request, trusting the CA alone.
visit() {
    curl -sSf --max-time 10 --cacert "$ca/visitors.pem" --resolve site.example:443:127.0.0.1 https://site.example/
}
# Visits until $state/enough is there: a line for each, `good` or what went wrong.
visit_on_and_on() {
    until [ -e "$state/enough" ]; do
        if visit >/dev/null 2>"$state/visit-error"; then echo good; else tr '\n' ' ' <"$state/visit-error" && echo; fi
    done >"$state/visits"
}
# Runs the command $@ among visits without end, and demands that none of them failed.
under_visits() {
    rm -f "$state/enough"
    visit_on_and_on &
    local visitor=$! result=0
    await 20 'visitors come' test -s "$state/visits"
    "$@" || result=$?
    : >"$state/enough"
    wait "$visitor"
    [ "$result" -eq 0 ] || exit "$result"
    if grep -vx good "$state/visits"; then fail 'visits failed, see above'; fi
    echo "  $(wc -l <"$state/visits") visits, none failed" >&2
}

# Who owns what the agent has on disk: generations come and go, their owner stays.
owners() { find /var/lib/renewd -printf '%u\n' | sort -u | tr '\n' ' '; }

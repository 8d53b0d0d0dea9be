#!/usr/bin/env bash
# Shows renewd at work on this machine alone: a real CA (Pebble), a real nginx, a first
# certificate, then a forced renewal under load, without one failed request.
#
#   examples/quickstart.sh [--keep]
#
# Everything lives in one temporary folder and on free ports of 127.0.0.1; root is not needed, and
# nothing is installed. --keep leaves it all running and says how to look around and how to stop.
# RENEWD=PATH uses a built renewd instead of building one.
#
# It ends with 0 only if everything it announces was really seen.
set -euo pipefail

project=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
peers=$project/target/peers/bin
# The name is resolved by Pebble's own DNS server, to 127.0.0.1.
name=quickstart.example
keep=no
case ${1-} in
    '') ;;
    --keep) keep=yes ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac

step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR-}" ] || step() { printf '\n==> %s\n' "$*"; }

folder=
pids=()
# Shows what is known of a failure; the folder's logs go away with it.
fail() {
    printf '\nquickstart: %s\n' "$1" >&2
    local log
    for log in "$folder"/*.log; do
        [ -s "$log" ] && printf -- '--- last lines of %s\n' "${log##*/}" >&2 && tail -n 25 "$log" >&2
    done
    exit 1
}

stop_all() {
    local pid
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        # Only our own children are waited for, so a reused id can't be meant.
        timeout 25 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

clean_up() {
    local code=$?
    trap - EXIT INT TERM
    if [ "$keep" = yes ] && [ "$code" -eq 0 ]; then exit 0; fi
    stop_all
    [ -z "$folder" ] || rm -rf -- "$folder"
    exit "$code"
}
trap clean_up EXIT
trap 'printf "quickstart: stopped at line %s: %s\n" "$LINENO" "$BASH_COMMAND" >&2' ERR
trap 'exit 130' INT
trap 'exit 143' TERM

# Asks the command $3… every quarter of a second until it succeeds, for $1 seconds; $2 says what.
await() {
    local limit=$1 what=$2 end=$((SECONDS + $1))
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "not within $limit s: $what"
        sleep 0.25
    done
}

# Starts $2… in the background with its output in $1.log; its id is in $started.
start() {
    local log=$folder/$1.log
    shift
    "$@" >>"$log" 2>&1 </dev/null &
    started=$!
    pids+=("$started")
}

given=' '
# Sets $port to one that nobody listens on, below the range that Linux gives to outgoing connections.
free_port() {
    while :; do
        port=$((10000 + RANDOM % 22000))
        if [[ $given != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            given+="$port "
            return
        fi
    done
}

#------------------------------------------------------------------------------- programs

step 'fetching what is missing: pebble, nginx, openssl, curl'
"$project/tests/peers.sh" pebble pebble-challtestsrv nginx openssl curl

if [ -z "${RENEWD-}" ]; then
    step 'building renewd (some minutes the first time)'
    (cd "$project" && cargo build --release --locked)
    RENEWD=${CARGO_TARGET_DIR:-$project/target}/release/renewd
fi
RENEWD=$(CDPATH='' cd -- "$(dirname -- "$RENEWD")" && pwd)/$(basename -- "$RENEWD")
[ -x "$RENEWD" ] || fail "no program at $RENEWD"

#------------------------------------------------------------------------------- the lab

folder=$(mktemp -d "${TMPDIR:-/tmp}/renewd-quickstart.XXXXXX")
cd -- "$folder"
for it in acme management dns dns_management http https; do
    free_port
    declare "$it=$port"
done

step "a CA on 127.0.0.1: Pebble, in $folder"
cat >openssl.cnf <<CONFIG
[req]
distinguished_name = name
prompt = no
[name]
CN = quickstart lab root
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
CONFIG
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
{
    "$peers/openssl" req -config openssl.cnf -x509 -extensions root "${ec[@]}" -days 2 \
        -keyout lab-root.key -out lab-root.pem
    "$peers/openssl" req -config openssl.cnf "${ec[@]}" -subj /CN=localhost -keyout pebble.key -out pebble.csr
    "$peers/openssl" x509 -req -in pebble.csr -CA lab-root.pem -CAkey lab-root.key -set_serial 1 \
        -days 2 -extfile openssl.cnf -extensions server -out pebble.pem
} >openssl.log 2>&1 || fail "openssl could not make Pebble's own certificate"
cat >pebble.json <<JSON
{ "pebble": {
  "listenAddress": "127.0.0.1:$acme", "managementListenAddress": "127.0.0.1:$management",
  "certificate": "pebble.pem", "privateKey": "pebble.key",
  "httpPort": $http, "tlsPort": $https, "keyAlgorithm": "ecdsa",
  "retryAfter": { "authz": 1, "order": 1 },
  "profiles": { "default": { "description": "90 days", "validityPeriod": 7776000 } }
} }
JSON
start dns "$peers/pebble-challtestsrv" -defaultIPv4 127.0.0.1 -defaultIPv6 '' -http01 '' -https01 '' \
    -tlsalpn01 '' -doh '' -dnsserver "127.0.0.1:$dns" -management "127.0.0.1:$dns_management"
# Nonces are rejected and validations delayed as Pebble does it of itself: renewd must cope.
start pebble "$peers/pebble" -config pebble.json -dnsserver "127.0.0.1:$dns"
curl() { "$peers/curl" --silent --show-error --fail --noproxy '*' --max-time 20 "$@"; }
lab() { curl --cacert lab-root.pem "https://localhost:$1"; }
await 30 'Pebble answers' lab "$acme/dir" >/dev/null 2>>curl.log
# What a visitor of the site has to trust; Pebble makes it anew at every start.
lab "$management/roots/0" >site-root.pem

step "nginx on 127.0.0.1, with no certificate yet: http on $http, where the CA looks for http-01"
mkdir -p webroot
nginx=("$peers/nginx" -p "$folder" -c "$folder/nginx.conf" -e "$folder/nginx-error.log")
# Writes nginx.conf; $1 is the TLS part.
write_nginx_config() {
    [ "$(id -u)" -ne 0 ] || echo 'user root;' # the worker of root's nginx could not enter our folder
    cat <<CONFIG
worker_processes 1;
daemon off;
pid nginx.pid;
error_log nginx-error.log;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path temporary; proxy_temp_path temporary; fastcgi_temp_path temporary;
    uwsgi_temp_path temporary; scgi_temp_path temporary;
    server {
        listen 127.0.0.1:$http;
        location /.well-known/acme-challenge/ { root $folder/webroot; }
        location / { return 404; }
    }
    $1
}
CONFIG
}
write_nginx_config '' >nginx.conf
start nginx "${nginx[@]}"
master=$started
nginx_runs() { [ "$(cat nginx.pid 2>/dev/null)" = "$master" ]; }
await 30 'nginx runs' nginx_runs

#------------------------------------------------------------------------------- renewd

step "renewd, with this configuration ($folder/renewd.toml):"
cat >renewd.toml <<TOML
state_dir = "state"
run_dir = "run"
deployer = "direct"
contact = ["mailto:ops@example.com"]
terms_of_service_agreed = true
default_ca = "lab"

[ca.lab]
directory = "https://localhost:$acme/dir"
trust = "lab-root.pem"

[solver.docroot]
type = "http-01"
webroot = "webroot"

[target.nginx]
test = ["${nginx[0]}", "-p", "$folder", "-c", "$folder/nginx.conf", "-e", "$folder/nginx-error.log", "-t"]
reload = { command = ["${nginx[0]}", "-p", "$folder", "-c", "$folder/nginx.conf", "-e", "$folder/nginx-error.log", "-s", "reload"] }
verify = [{ address = "127.0.0.1:$https" }]

[[certificate]]
name = "site"
domains = ["$name"]
solver = "docroot"
targets = ["nginx"]
TOML
sed 's/^/    /' renewd.toml
chmod 0644 renewd.toml
renewd() { "$RENEWD" "$@" --config "$folder/renewd.toml"; }
start renewd "$RENEWD" run --config "$folder/renewd.toml"

step 'nginx gets its TLS part as soon as the files are there: at first a placeholder'
live=$folder/state/certs/site/current
placeholder_there() { [ -s "$live/fullchain.pem" ] && [ -s "$live/privkey.pem" ]; }
await 30 'renewd wrote its placeholder' placeholder_there
write_nginx_config "server {
        listen 127.0.0.1:$https ssl;
        server_name $name;
        ssl_certificate $live/fullchain.pem;
        ssl_certificate_key $live/privkey.pem;
        location / { default_type text/plain; return 200 'hello over TLS\\n'; }
    }" >nginx.conf.new
mv nginx.conf.new nginx.conf
"${nginx[@]}" -s reload || fail 'nginx refuses its configuration'

served() { renewd status site --json 2>>status.log | tr -d ' \n' | grep -q '"condition":"served"'; }
await 180 'the first certificate is served' served
renewd status site

# What nginx really answers, in openssl's words.
show() {
    "$peers/openssl" s_client -connect "127.0.0.1:$https" -servername "$name" </dev/null 2>/dev/null |
        "$peers/openssl" x509 -noout -subject -issuer -serial -dates
}
serial() { show | sed -n 's/^serial=//p'; }
step 'what nginx serves, as openssl sees it'
show || fail 'openssl gets no certificate from nginx'
first=$(serial)

#------------------------------------------------------------------------------- renewal

step 'a forced renewal, while a client asks nginx again and again, trusting only the CA'
visit() { curl --cacert site-root.pem --resolve "$name:$https:127.0.0.1" "https://$name:$https/"; }
# One line for each request; a new connection and a full handshake each time.
visitor() {
    until [ -e enough ]; do
        if visit >/dev/null 2>>visitor-errors.log; then echo good; else echo bad; fi
    done
}
start visits visitor
visitor=$started
count() { grep -c "^$1" visits.log || true; }
some_visits() { [ "$(count good)" -ge 5 ]; }
await 30 'the client gets answers' some_visits

timeout 180 "$RENEWD" renew --force site --wait 120s --config "$folder/renewd.toml" ||
    fail "renewd renew --force site ended with $?"
other_serial() { second=$(serial) && [ -n "$second" ] && [ "$second" != "$first" ]; }
await 60 'nginx serves another serial' other_serial
await 60 'renewd sees it served' served
before=$(count good)
more_visits() { [ "$(count good)" -ge $((before + 5)) ]; }
await 30 'the client gets answers with the new certificate' more_visits
: >enough
wait "$visitor"

step 'what nginx serves now'
show || fail 'openssl gets no certificate from nginx'

#------------------------------------------------------------------------------- result

step 'result'
good=$(count good)
bad=$(count bad)
printf '%-28s %s\n' 'serial before' "$first" 'serial now' "$second" \
    'nginx master process' "$master$(nginx_runs && kill -0 "$master" && echo ', the same all the time')" \
    'requests during the renewal' "$((good + bad))" 'failed requests' "$bad"
nginx_runs && kill -0 "$master" || fail 'nginx was started anew'
[ "$bad" -eq 0 ] || fail "$bad of $((good + bad)) requests failed"
printf '\nAs it should be: renewed, served by the same nginx, and nobody noticed.\n'

if [ "$keep" = yes ]; then
    running=
    for it in "${pids[@]}"; do [ "$it" = "$visitor" ] || running+=" $it"; done
    cat <<TEXT

It keeps running. Look around:
    $RENEWD status --config $folder/renewd.toml
    $RENEWD renew --force site --config $folder/renewd.toml
    $peers/curl --cacert $folder/site-root.pem --resolve $name:$https:127.0.0.1 https://$name:$https/
    tail -f $folder/renewd.log
Stop it:
    kill$running && sleep 5 && rm -r $folder
TEXT
fi

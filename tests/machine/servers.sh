# Steps: servers that read their key as their own user.
#
# PostgreSQL takes no key of a foreign owner, so it is handed an installed copy; Mosquitto reads the
# folder of its certificate by its group. Sourced by steps.sh.

postgresql_and_mosquitto_serve_as_their_own_users() {
    cat >/etc/renewd/conf.d/servers.toml <<'TOML'
[[certificate]]
name = "database"
domains = ["db.example"]
targets = ["postgresql"]

[target.postgresql]
install = [
    { file = "fullchain", path = "/etc/postgresql/tls/{name}.pem", owner = "postgres", group = "postgres" },
    { file = "privkey", path = "/etc/postgresql/tls/{name}.key", owner = "postgres", group = "postgres", mode = "0600" },
]

[[certificate]]
name = "broker"
domains = ["mqtt.example"]
targets = ["mosquitto"]
read_group = "mosquitto"
TOML
    mkdir -p /etc/postgresql/tls
    take_drop_ins
    systemctl restart renewd
    await 20 'the placeholder of the broker' test -s "$live/broker/current/fullchain.pem"
    cat >/etc/mosquitto/conf.d/tls.conf <<MOSQUITTO
listener 8883
allow_anonymous true
certfile $live/broker/current/fullchain.pem
keyfile $live/broker/current/privkey.pem
MOSQUITTO
    systemctl restart mosquitto
    cat >/etc/postgresql/15/main/conf.d/tls.conf <<'POSTGRESQL'
ssl = on
ssl_cert_file = '/etc/postgresql/tls/database.pem'
ssl_key_file = '/etc/postgresql/tls/database.key'
POSTGRESQL
    await 60 'the key of the database is installed' test -s /etc/postgresql/tls/database.key
    systemctl reload postgresql
    await 60 'renewd says that the database is served' served database
    await 60 'renewd says that the broker is served' served broker
    same 'what PostgreSQL serves' "$(held_serial database)" "$(database_serial)"
    same 'what Mosquitto serves' "$(held_serial broker)" "$(broker_serial)"
    same 'user of Mosquitto' mosquitto "$(ps -o user= -p "$(property mosquitto MainPID)")"
    same 'user of PostgreSQL' postgres "$(ps -o user= -C postgres | sort -u)"
}

database_serial() { serial_of db.example 5432 -starttls postgres; }
broker_serial() { serial_of mqtt.example 8883; }

# Puts the drop-ins in place that `renewd check --systemd` prints for this configuration.
take_drop_ins() {
    renewd check --systemd --json >"$state/drop-ins.json" || fail "renewd check --systemd ended with $?"
    python3 - "$state/drop-ins.json" <<'PYTHON'
import json, pathlib, sys
for drop_in in json.load(open(sys.argv[1]))["files"]:
    path = pathlib.Path(drop_in["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(drop_in["content"])
    print("drop-in", path, drop_in["content"], sep="\n")
PYTHON
    systemctl daemon-reload
    systemctl stop renewd-deployer.service
}

postgresql_and_mosquitto_serve_what_was_renewed() {
    local database broker
    database=$(database_serial)
    broker=$(broker_serial)
    local master
    master=$(property postgresql@15-main MainPID)
    renewd_with_orders 2 renew --force database broker
    differ 'serial that PostgreSQL serves' "$database" "$(database_serial)"
    differ 'serial that Mosquitto serves' "$broker" "$(broker_serial)"
    same 'what PostgreSQL serves' "$(held_serial database)" "$(database_serial)"
    same 'what Mosquitto serves' "$(held_serial broker)" "$(broker_serial)"
    same 'first process of PostgreSQL' "$master" "$(property postgresql@15-main MainPID)"
    same 'the installed key' 'postgres:postgres 600' "$(stat -c '%U:%G %a' /etc/postgresql/tls/database.key)"
    same 'the key for the group' 'renewd:mosquitto 640' "$(stat -Lc '%U:%G %a' "$live/broker/current/privkey.pem")"
    # A group member reads it, and nobody else.
    setpriv --reuid mosquitto --regid mosquitto --clear-groups cat "$live/broker/current/privkey.pem" >/dev/null ||
        fail 'mosquitto cannot read its key'
    refused 'a read by nobody' setpriv --reuid nobody --regid nogroup --clear-groups cat "$live/broker/current/privkey.pem"
    refused 'a read of another key by mosquitto' \
        setpriv --reuid mosquitto --regid mosquitto --clear-groups cat "$live/site/current/privkey.pem"
}

keys_are_only_where_the_configuration_says() {
    local name generation
    for name in site database broker; do
        generation=$(readlink -f "$live/$name/current")
        {
            printf '%s\n' "$generation/combined.pem" "$generation/privkey.pem"
            [ "$name" != database ] || echo /etc/postgresql/tls/database.key
        } | sort >"$state/expected"
        python3 "$lab/copies.py" "$generation/privkey.pem" | sort >"$state/found"
        diff "$state/expected" "$state/found" || fail "the key of $name is elsewhere than it should be, see above"
    done
}

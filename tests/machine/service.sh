# Steps: a daemon's life under systemd: renewal, reload, watchdog, stop.
#
# Sourced by steps.sh.

a_forced_renewal_by_root_changes_no_owner_and_orders_once() {
    local before first cursor
    before=$(owners)
    same 'owners of the state' 'renewd ' "$before"
    first=$(site_serial)
    cursor=$(now_in_journal)
    renewd_with_orders 1 renew --force site
    differ 'serial that nginx serves' "$first" "$(site_serial)"
    same 'what nginx serves' "$(held_serial site)" "$(site_serial)"
    same 'owners of the state' "$before" "$(owners)"
    same 'master process of nginx' "$(kept nginx_master)" "$(property nginx MainPID)"
    says "the deployer's journal" "$(journal_since "$cursor" renewd-deployer)" VERB=reload
    served site || fail 'renewd does not say that it is served'
    # Not due: nothing is asked of the CA.
    renewd_with_orders 0 renew site
}

a_bind_mount_of_the_folder_follows_a_renewal() {
    local jail=/srv/jail first
    mkdir -p "$jail/tls"
    mount --bind "$live/site" "$jail/tls"
    mount -o remount,bind,ro "$jail/tls"
    first=$(openssl x509 -noout -serial -in "$jail/tls/current/fullchain.pem")
    renewd_with_orders 1 renew --force site
    differ 'serial in the mounted folder' "$first" "$(openssl x509 -noout -serial -in "$jail/tls/current/fullchain.pem")"
    same 'serial in the mounted folder' "serial=$(site_serial)" "$(openssl x509 -noout -serial -in "$jail/tls/current/fullchain.pem")"
    umount "$jail/tls"
}

a_faulty_file_is_refused_by_reload_and_changes_nothing() {
    local run cursor before shown asked
    asked=$(orders)
    run=$(property renewd InvocationID)
    before=$(renewd status --json | tr -d ' \n' | grep -o '"domains":\[[^]]*\]')
    cursor=$(now_in_journal)
    write_configuration '[[certificate]]
domains = ["other.example"]
targetz = ["nginx"]'
    refused 'a faulty file' systemctl reload renewd
    shown="$said $(journal_since "$cursor" renewd)"
    # File and line of the fault, and what was meant.
    says 'the journal' "$shown" 'renewd\.toml:[0-9]+'
    says 'the journal' "$shown" 'targetz'
    same_run renewd "$run" || fail 'the daemon did not go on' "$(systemctl status renewd)"
    same 'what is wanted' "$before" "$(renewd_daemon_domains)"
    write_configuration ''
    systemctl reload renewd || fail 'the mended file is refused'
    same_run renewd "$run" || fail 'the daemon did not go on after the mended file'
    served site || fail 'site is not served after the reload'
    same 'orders at the CA' "$asked" "$(orders)"
}

# What the daemon itself wants at this moment: its status file, whatever stands in the configuration.
renewd_daemon_domains() { tr -d ' \n' </run/renewd/status.json | grep -o '"domains":\[[^]]*\]'; }

a_frozen_daemon_is_restarted_by_the_watchdog() {
    local before restarts pid serial
    differ 'watchdog of the unit as shipped' 0 "$(property renewd WatchdogUSec)"
    # Our 60 seconds would do, but nobody wants to wait for them here.
    mkdir -p /etc/systemd/system/renewd.service.d
    printf '[Service]\nWatchdogSec=5\nTimeoutAbortSec=2\nRestartSec=1\n' >/etc/systemd/system/renewd.service.d/lab-watchdog.conf
    systemctl daemon-reload
    systemctl restart renewd
    await 30 'renewd is up again' served site
    pid=$(property renewd MainPID)
    # A healthy daemon is left alone for longer than the limit.
    sleep_until_watchdog_was_fed "$pid"
    before=$(orders)
    serial=$(site_serial)
    restarts=$(property renewd NRestarts)
    kill -STOP "$pid"
    restarted() { [ "$(property renewd NRestarts)" -gt "$restarts" ] && [ "$(property renewd ActiveState)" = active ]; }
    await 40 'systemd restarts the frozen daemon' restarted
    differ 'process of the daemon' "$pid" "$(property renewd MainPID)"
    says 'the journal' "$(journalctl --no-pager -u renewd -n 60)" 'Watchdog timeout'
    await 30 'renewd says that site is served' served site
    same 'serial' "$serial" "$(site_serial)"
    same 'orders at the CA' "$before" "$(orders)"
    rm /etc/systemd/system/renewd.service.d/lab-watchdog.conf
    systemctl daemon-reload
    systemctl restart renewd
}

# Waits until systemd has heard from process $1 twice more, which a daemon that says nothing after
# READY never reaches.
sleep_until_watchdog_was_fed() {
    local first second
    fed() { [ "$(property renewd WatchdogTimestampMonotonic)" != "$1" ]; }
    first=$(property renewd WatchdogTimestampMonotonic)
    await 10 'the daemon feeds its watchdog' fed "$first"
    second=$(property renewd WatchdogTimestampMonotonic)
    await 10 'the daemon feeds its watchdog again' fed "$second"
    same 'process of the daemon' "$1" "$(property renewd MainPID)"
}

the_service_stops_in_time() {
    stop_in_time
    systemctl start renewd
    await 30 'renewd says that site is served' served site
}

the_service_stops_in_time_while_an_order_is_under_way() {
    local before asked
    before=$(issued)
    # A web server that takes the CA's connection and says nothing: the order hangs in the middle.
    systemctl kill --signal STOP nginx
    renewd renew --force site >"$state/asked" 2>&1 &
    asked=$!
    proof_is_there() { find /run/renewd/acme-challenge -type f | grep -q .; }
    await 20 'a proof for the CA is there' proof_is_there
    stop_in_time
    wait "$asked" && fail 'renew said that all is well though the daemon was stopped'
    ! proof_is_there || fail 'the proof was left behind' "$(find /run/renewd/acme-challenge)"
    systemctl kill --signal CONT nginx
    systemctl start renewd
    renewd renew site --force || fail "the renewal after the stop ended with $?"
    await 30 'renewd says that site is served' served site
    same 'owners of the state' 'renewd ' "$(owners)"
    # The stopped order was gone on with, or lost its proof and was placed anew: never both.
    [ "$(issued)" -le $((before + 2)) ] || fail "$(issued) certificates were issued, $before before"
}

stop_in_time() {
    local from=$SECONDS
    systemctl stop renewd
    [ $((SECONDS - from)) -le 20 ] || fail "it took $((SECONDS - from)) s to stop"
    echo "  stopped in $((SECONDS - from)) s" >&2
    same 'how it ended' success "$(property renewd Result)"
    same 'exit code' 0 "$(property renewd ExecMainStatus)"
}

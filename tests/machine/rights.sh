# Steps: what a program that runs as `renewd` can make the deployer do, and what root leaves behind.
#
# Sourced by steps.sh.

an_attack_on_the_deployer_changes_nothing_and_is_logged() {
    local before cursor said line missing=0 as_renewd
    as_renewd=(setpriv --reuid renewd --regid renewd --clear-groups --no-new-privs)
    before=$(hash_of_etc)
    touch "$state/before-attack"
    cursor=$(now_in_journal)
    "${as_renewd[@]}" python3 "$lab/attack.py" /var/lib/renewd /run/renewd/deployer.sock >"$state/refusals" ||
        fail "the attack ended with $?"
    same 'everything below /etc' "$before" "$(hash_of_etc)"
    same 'what has changed elsewhere' '' "$(changed_since "$state/before-attack")"
    same 'master process of nginx' "$(kept nginx_master)" "$(property nginx MainPID)"
    [ "$(wc -l <"$state/refusals")" -ge 60 ] || fail 'fewer refusals than attacks' "$(cat "$state/refusals")"
    # What is not logged is counted, and the count is told a little later.
    counted() { journal_since "$cursor" renewd-deployer | grep 'too many calls to log them all'; }
    await 20 "the deployer's journal says how many calls it left out" counted
    said=$(journal_since "$cursor" renewd-deployer)
    while read -r line; do
        grep -qF -- "${line:0:300}" <<<"$said" || { missing=$((missing + 1)) && echo "not in the journal: $line"; }
    done <"$state/refusals"
    same 'refusals that are not in the journal' 0 "$missing"
    # Who is not the daemon does not even get a connection, or no answer but no; nor does the daemon
    # get past the deployer to systemd.
    refused 'a connection by nobody' setpriv --reuid nobody --regid nogroup --clear-groups curl -sS --max-time 5 \
        --unix-socket /run/renewd/deployer.sock http://deployer/
    refused 'a reload past the deployer' "${as_renewd[@]}" systemctl reload nginx
    refused 'a unit past the deployer' "${as_renewd[@]}" systemd-run --wait true
    echo "  $(wc -l <"$state/refusals") attacks refused and logged" >&2
}

# What has changed since the file $1 was touched, but for logs, the data of servers, and what the
# attacker and the deployer may write to.
changed_since() {
    find / -xdev \( -path /lab -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /var/lib/postgresql \
        -o -path /var/lib/mosquitto -o -path /var/lib/renewd -o -path /var/lib/renewd-deployer -o -path /etc/postgresql/tls \) -prune \
        -o -cnewer "$1" -print
}

a_renewal_right_after_the_attack_works() {
    local first
    first=$(site_serial)
    renewd_with_orders 1 renew --force site
    differ 'serial that nginx serves' "$first" "$(site_serial)"
    renewd_with_orders 1 renew --force database
    same 'what PostgreSQL serves' "$(held_serial database)" "$(database_serial)"
}

root_renews_without_the_daemon_and_owns_nothing() {
    local before first
    systemctl stop renewd
    before=$(owners)
    first=$(site_serial)
    renewd_with_orders 1 renew --force site
    same 'owners of the state' "$before" "$(owners)"
    differ 'serial that nginx serves' "$first" "$(site_serial)"
    same 'what nginx serves' "$(held_serial site)" "$(site_serial)"
    systemctl start renewd
    await 30 'the daemon takes it from there' served site
    same 'what nginx serves' "$(held_serial site)" "$(site_serial)"
}

the_timer_renews_instead_of_the_daemon() {
    local next before
    before=$(orders)
    systemctl disable --now renewd
    systemctl enable --now renewd-renew.timer
    same 'state of the timer' active "$(property renewd-renew.timer ActiveState)"
    next=$(systemctl list-timers --no-pager --no-legend renewd-renew.timer)
    says 'the list of timers' "$next" '^[A-Z][a-z]{2} [0-9]{4}-'
    systemctl start renewd-renew.service
    same 'result of the round' success "$(property renewd-renew.service Result)"
    same 'state of the daemon' inactive "$(property renewd ActiveState)"
    same 'orders at the CA' "$before" "$(orders)"
    # Now something is due: the round orders, installs and reloads as the daemon would.
    rm -r "$live/broker"
    systemctl start renewd-renew.service
    same 'result of the round' success "$(property renewd-renew.service Result)"
    same 'orders at the CA' "$((before + 1))" "$(orders)"
    same 'what Mosquitto serves' "$(held_serial broker)" "$(broker_serial)"
    same 'owners of the state' 'renewd ' "$(owners)"
    # And back: starting the daemon ends the timer, since one of the two does the work.
    systemctl disable --now renewd-renew.timer
    systemctl enable --now renewd
    await 30 'renewd says that site is served' served site
}

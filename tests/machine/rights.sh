# Steps: what a program that runs as `renewd` can make the deployer do, and what root leaves behind.
#
# Sourced by steps.sh.

an_attack_on_the_deployer_changes_nothing_and_is_logged() {
    local before cursor said case
    before=$(hash_of_etc)
    cursor=$(now_in_journal)
    python3 "$lab/attack.py" || fail "the attack ended with $?"
    same 'everything below /etc' "$before" "$(hash_of_etc)"
    same 'master process of nginx' "$(kept nginx_master)" "$(property nginx MainPID)"
    said=$(journal_since "$cursor" renewd-deployer)
    while read -r case; do says "the deployer's journal" "$said" "$case"; done <"$state/attack-log"
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
    before=$(owners_only)
    first=$(site_serial)
    renewd_with_orders 1 renew --force site
    same 'owners of the state' "$before" "$(owners_only)"
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
    same 'owners of the state' 'renewd ' "$(owners_only)"
    # And back: starting the daemon ends the timer, since one of the two does the work.
    systemctl disable --now renewd-renew.timer
    systemctl enable --now renewd
    await 30 'renewd says that site is served' served site
}

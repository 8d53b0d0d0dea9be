#!/usr/bin/env bash
# Runs the steps inside the machine, one after the other, each as a process with a time limit. A
# step is a function whose name says what it shows; a line each, and of one that failed all that is
# known.
#
#   /lab/steps.sh [STEP]
#
# Not here: the steps themselves (the files that are sourced), and the machine (tests/machine.sh).
set -eEuo pipefail

lab=/lab
source "$lab/lab.sh"
source "$lab/arrival.sh"
source "$lab/service.sh"
source "$lab/servers.sh"
source "$lab/rights.sh"
source "$lab/departure.sh"

# In this order: each begins where the one before has ended.
steps=(
    the_package_is_installed_and_nothing_runs_without_certificates
    the_shipped_configuration_passes_check
    the_lab_has_a_ca_and_a_web_server
    the_service_is_up_hardened_and_not_root
    the_first_certificate_is_served_by_nginx_through_the_deployer
    a_forced_renewal_by_root_changes_no_owner_and_orders_once
    a_bind_mount_of_the_folder_follows_a_renewal
    a_faulty_file_is_refused_by_reload_and_changes_nothing
    a_frozen_daemon_is_restarted_by_the_watchdog
    the_service_stops_in_time
    the_service_stops_in_time_while_an_order_is_under_way
    postgresql_and_mosquitto_serve_as_their_own_users
    postgresql_and_mosquitto_serve_what_was_renewed
    keys_are_only_where_the_configuration_says
    an_attack_on_the_deployer_changes_nothing_and_is_logged
    a_renewal_right_after_the_attack_works
    root_renews_without_the_daemon_and_owns_nothing
    the_timer_renews_instead_of_the_daemon
    an_upgrade_keeps_serving_and_orders_nothing
    a_downgrade_keeps_serving_and_orders_nothing
    remove_keeps_state_and_what_is_served
    purge_keeps_what_a_server_still_names_and_says_so
)
step_limit=120

if [ $# -gt 0 ]; then
    trap 'echo "  at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR
    "$1"
    exit
fi

# What is known of the units, for who reads a failure: what they wrote since the moment $1.
show_units() {
    systemctl --no-pager --lines 0 --full status renewd.service renewd-deployer.service renewd-deployer.socket
    journalctl --no-pager --output short-iso --after-cursor "$1" -u 'renewd*' -u nginx -u 'postgresql@*' -u mosquitto | tail -n 80
}

mkdir -p "$state"
failed=0
passed=0
for step in "${steps[@]}"; do
    started=$SECONDS
    cursor=$(now_in_journal)
    name=${step//_/ }
    if timeout --kill-after=10 "$step_limit" "$0" "$step" >"$state/output" 2>&1; then
        passed=$((passed + 1))
        printf 'ok      %s (%s s)\n' "$name" "$((SECONDS - started))"
        grep '^  ' "$state/output" || true
    else
        failed=$((failed + 1))
        printf 'FAILED  %s (%s s)\n' "$name" "$((SECONDS - started))"
        cat "$state/output"
        show_units "$cursor" 2>&1 | sed 's/^/    | /' || true
        # Without the package or the lab nothing else can be shown.
        case $step in the_package_is* | the_lab_has*) break ;; esac
    fi
done
printf 'machine: %s steps ok, %s FAILED, of %s\n' "$passed" "$failed" "${#steps[@]}"
[ "$failed" -eq 0 ] && [ "$passed" -eq "${#steps[@]}" ]

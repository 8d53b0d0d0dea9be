# Steps: upgrade, downgrade, remove, purge, all with the certificate in use.
#
# Sourced by steps.sh.

an_upgrade_keeps_serving_and_orders_nothing() {
    local serial before
    serial=$(site_serial)
    before=$(orders)
    package_of_version 99.0.0 "$lab/newer.deb"
    under_visits install_package "$lab/newer.deb"
    same 'version installed' 99.0.0 "$(dpkg-query -W -f '${Version}' renewd)"
    it_serves_on "$serial" "$before"
}

a_downgrade_keeps_serving_and_orders_nothing() {
    local serial before
    serial=$(site_serial)
    before=$(orders)
    under_visits install_package --allow-downgrades "$lab/renewd.deb"
    differ 'version installed' 99.0.0 "$(dpkg-query -W -f '${Version}' renewd)"
    it_serves_on "$serial" "$before"
}

install_package() { DEBIAN_FRONTEND=noninteractive apt-get install --yes "$@"; }

# The daemon is there again with what it had: serial $1 is served and the CA knows of $2 orders.
it_serves_on() {
    await 30 'renewd is up after the installation' served site
    same 'state of renewd.service' active "$(property renewd ActiveState)"
    same 'state of the socket' active "$(property renewd-deployer.socket ActiveState)"
    same 'serial' "$1" "$(site_serial)"
    same 'orders at the CA' "$2" "$(orders)"
    same 'failed units' '' "$(systemctl --failed --plain --no-legend)"
    same 'master process of nginx' "$(kept nginx_master)" "$(property nginx MainPID)"
    same 'program of the daemon' /usr/bin/renewd "$(readlink "/proc/$(property renewd MainPID)/exe")"
}

# Packs what is in the package under test as version $1 into file $2.
package_of_version() {
    local folder=$lab/repacked
    rm -rf "$folder"
    dpkg-deb -R "$lab/renewd.deb" "$folder"
    sed -i "s/^Version: .*/Version: $1/" "$folder/DEBIAN/control"
    dpkg-deb -Znone -b "$folder" "$2" >/dev/null
    rm -rf "$folder"
}

remove_keeps_state_and_what_is_served() {
    local serial state_before
    serial=$(site_serial)
    state_before=$(find "$live" -name '*.pem' | sort | xargs sha256sum)
    DEBIAN_FRONTEND=noninteractive under_visits apt-get remove --yes renewd
    [ -z "$(pgrep -x renewd)" ] || fail 'renewd still runs' "$(pgrep -ax renewd)"
    same 'certificates and keys' "$state_before" "$(find "$live" -name '*.pem' | sort | xargs sha256sum)"
    [ -s "$configuration" ] || fail 'the configuration is gone'
    nginx -t
    systemctl restart nginx
    same 'serial after a restart of nginx' "$serial" "$(site_serial)"
    same 'failed units' '' "$(systemctl --failed --plain --no-legend)"
}

purge_keeps_what_a_server_still_names_and_says_so() {
    local serial
    serial=$(site_serial)
    # Nobody names the broker's any more: its server was told of another.
    rm /etc/mosquitto/conf.d/tls.conf
    said=$(DEBIAN_FRONTEND=noninteractive apt-get purge --yes renewd 2>&1) || fail "purge ended with $?" "$said"
    says 'purge' "$said" "$live/site"
    nginx -t
    systemctl restart nginx
    same 'serial after purge' "$serial" "$(site_serial)"
    [ ! -e "$live/broker" ] || fail 'the certificate that nobody names was kept'
    [ ! -e /var/lib/renewd/private ] || fail 'account keys were kept'
    [ ! -e /etc/renewd ] || [ -z "$(ls /etc/renewd/renewd.toml 2>/dev/null)" ] || fail 'the configuration was kept'
    # Without nginx naming it nothing is needed; what was kept is readable for its servers alone.
    same 'mode of the key that was kept' 'privkey.pem 600' "$(stat -Lc '%n %a' "$live/site/current/privkey.pem" | sed 's,.*/,,')"
    same 'failed units' '' "$(systemctl --failed --plain --no-legend)"
}

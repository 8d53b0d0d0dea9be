# Steps: from `apt-get install` to the first certificate that is served.
#
# Sourced by steps.sh.

the_package_is_installed_and_nothing_runs_without_certificates() {
    # What it depends on must be there or in itself: the machine has no network.
    DEBIAN_FRONTEND=noninteractive apt-get install --yes "$lab/renewd.deb"
    renewd --version
    getent passwd renewd >/dev/null || fail 'there is no user renewd'
    getent group renewd-admin >/dev/null || fail 'there is no group renewd-admin'
    for unit in renewd.service renewd-renew.service renewd-renew.timer renewd-deployer.service; do
        same "$unit" inactive "$(property "$unit" ActiveState)"
    done
    same 'failed units' '' "$(systemctl --failed --plain --no-legend)"
    [ -z "$(pgrep -x renewd)" ] || fail 'renewd runs though no certificate is configured'
    systemd-analyze verify --man=no /usr/lib/systemd/system/renewd*.service /usr/lib/systemd/system/renewd*.timer \
        /usr/lib/systemd/system/renewd*.socket 2>&1 || fail 'systemd finds fault with the units'
}

the_shipped_configuration_passes_check() {
    local said
    said=$(renewd check 2>&1) || fail "renewd check ended with $?" "$said"
    # As shipped it may be given certificates: not by everybody, and not by the daemon itself.
    same 'owner and mode of the configuration' 'root:root 644' "$(stat -c '%U:%G %a' "$configuration")"
}

the_lab_has_a_ca_and_a_web_server() {
    # The nginx of a site that has no TLS yet, with the snippet that the package brings.
    rm -f /etc/nginx/sites-enabled/default
    cat >/etc/nginx/sites-available/site.conf <<'NGINX'
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    include snippets/renewd-acme-challenge.conf;
    location / { return 404; }
}
NGINX
    ln -s ../sites-available/site.conf /etc/nginx/sites-enabled/site.conf
    nginx -t
    systemctl reload nginx
    start_ca
    keep nginx_master "$(property nginx MainPID)"
}

the_service_is_up_hardened_and_not_root() {
    install -m 0644 "$ca/root.pem" /etc/renewd/lab-root.pem
    write_configuration ''
    renewd check || fail "renewd check ended with $?"
    systemctl enable --now renewd
    same 'state of renewd.service' active "$(property renewd ActiveState)"
    same 'type of renewd.service' notify "$(property renewd Type)"
    local pid
    pid=$(property renewd MainPID)
    same 'user of the daemon' renewd "$(ps -o user= -p "$pid")"
    same 'capabilities of the daemon' 0000000000000000 "$(sed -n 's/^CapEff:\t//p' "/proc/$pid/status")"
    same 'no new privileges' 1 "$(sed -n 's/^NoNewPrivs:\t//p' "/proc/$pid/status")"
    # Sandboxed in truth: what it sees as its root file system can't be written, but for its own.
    for folder in /etc /usr /var/lib/dpkg /srv; do
        ! nsenter -t "$pid" -m -- setpriv --reuid renewd --clear-groups test -w "$folder" || fail "the daemon can write to $folder"
        findmnt -n -o OPTIONS -T "$folder" -N "$pid" | grep -qE '(^|,)ro(,|$)' || fail "$folder is not read-only for the daemon"
    done
}

the_first_certificate_is_served_by_nginx_through_the_deployer() {
    local said cursor
    cursor=$(now_in_journal)
    await 20 'a placeholder for nginx to start with' test -s "$live/site/current/fullchain.pem"
    cat >>/etc/nginx/sites-available/site.conf <<NGINX
server {
    listen 443 ssl;
    listen [::]:443 ssl;
    server_name site.example www.site.example;
    ssl_certificate $live/site/current/fullchain.pem;
    ssl_certificate_key $live/site/current/privkey.pem;
    location / { default_type text/plain; return 200 'hello over TLS'; }
}
NGINX
    nginx -t
    systemctl reload nginx
    await 60 'renewd says that the certificate is served' served site
    same 'what nginx serves' "$(held_serial site)" "$(site_serial)"
    visit
    same 'accounts at the CA' 1 "$(accounts)"
    same 'orders at the CA' 1 "$(orders)"
    same 'master process of nginx' "$(kept nginx_master)" "$(property nginx MainPID)"
    said=$(journal_since "$cursor" renewd-deployer)
    says "the deployer's journal" "$said" 'VERB=test'
    says "the deployer's journal" "$said" 'VERB=reload'
    # An administrator who just reads sees which certificate is meant.
    said=$(journalctl --no-pager --output cat -u renewd)
    says 'the journal' "$said" '^certificate renewed .*certificate=site'
}

# The configuration of the lab, as an administrator writes it; $1 is added at its end.
write_configuration() {
    cat >"$configuration.new" <<TOML
contact = ["mailto:ops@site.example"]
terms_of_service_agreed = true
default_ca = "lab"
include = ["conf.d/*.toml"]

[ca.lab]
directory = "https://localhost:14000/dir"
trust = "lab-root.pem"

[[certificate]]
name = "site"
domains = ["site.example", "www.site.example"]
targets = ["nginx"]

$1
TOML
    mv "$configuration.new" "$configuration"
}

# One line for everything below /etc: names, kinds, owners, modes, contents.
hash_of_etc() {
    (
        cd /etc
        find . -printf '%p %y %u:%g %m %l\n' | sort
        find . -type f -print0 | sort -z | xargs -0 sha256sum
    ) | sha256sum
}

# After unpacking; $1 is 1 for an installation and 2 for an upgrade. Whether units start by
# themselves is the distribution's preset to say; as a rule they don't.
systemd-sysusers renewd.conf || :
systemd-tmpfiles --create renewd.conf || :

# Servers are confined where SELinux is in force: certificates get the type that all of them may read,
# and challenge files that of a web server's content. One of the two spellings of /run is refused,
# which one depends on the policy's age.
if command -v semanage >/dev/null 2>&1 && command -v restorecon >/dev/null 2>&1; then
    label() { semanage fcontext -a -t "$1" "$2" >/dev/null 2>&1 || semanage fcontext -m -t "$1" "$2" >/dev/null 2>&1; }
    label cert_t '/var/lib/renewd/certs(/.*)?' || :
    label httpd_sys_content_t '/run/renewd/acme-challenge(/.*)?' ||
        label httpd_sys_content_t '/var/run/renewd/acme-challenge(/.*)?' || :
    restorecon -R /var/lib/renewd /run/renewd || :
fi

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" -eq 1 ]; then
    systemctl --no-reload preset renewd.service renewd-deployer.socket renewd-renew.timer >/dev/null 2>&1 || :
    echo 'renewd: name a certificate in /etc/renewd/renewd.toml, then: renewd check && systemctl enable --now renewd'
elif [ -d /run/systemd/system ]; then
    # The next request starts the new one; its socket stays.
    systemctl stop renewd-deployer.service || :
    systemctl try-restart renewd.service || :
fi

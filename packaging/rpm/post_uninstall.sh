# After removal ($1 is 0) state and configuration stay, and so do the rules for SELinux: without
# them the next relabelling would take certificates away from the servers that use them.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" -eq 0 ] && [ -d /var/lib/renewd/certs ]; then
    echo 'renewd: /var/lib/renewd stays: servers may use its certificates, which nobody renews any more'
fi

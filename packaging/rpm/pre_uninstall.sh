# Before removal ($1 is 0) everything of ours is stopped; servers go on with the files that they
# have. An upgrade ($1 is 1) restarts what runs when it is in place.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now renewd-renew.timer renewd.service renewd-deployer.socket >/dev/null 2>&1 || :
    systemctl stop renewd-restart.timer renewd-renew.service renewd-deployer.service >/dev/null 2>&1 || :
fi

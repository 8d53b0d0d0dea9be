#!/bin/sh
# Runs nginx, and has it load a new certificate within ten seconds: renewd, in another container,
# can't tell it to. Only the link `current` is looked at: it is switched once a renewal, when all
# behind it is there.
set -eu

certificate=/var/lib/renewd/certs/example.com/current

# renewd puts down a placeholder at its start, but that may be after ours.
waited=0
until [ -e "$certificate/fullchain.pem" ]; do
    waited=$((waited + 1))
    [ "$waited" -le 120 ] || { echo "no $certificate after two minutes: see the log of renewd" >&2 && exit 1; }
    sleep 1
done

(
    loaded=$(readlink "$certificate")
    while sleep 10; do
        current=$(readlink "$certificate")
        [ "$current" != "$loaded" ] || continue
        # A configuration that nginx would not take is tried again: somebody is mending it.
        nginx -t && nginx -s reload && loaded=$current
    done
) &
exec nginx -g 'daemon off;'

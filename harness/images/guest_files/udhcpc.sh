#!/bin/sh
# Called by udhcpc with the answer of the DHCP server in the environment.
case "$1" in
bound | renew)
    # shellcheck disable=SC2154
    ip addr replace "$ip/${mask:-24}" dev "$interface"
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    ;;
esac

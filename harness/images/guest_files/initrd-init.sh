#!/bin/busybox sh
# First program of the guest: loads the few modules the root disk needs and hands over to it.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
for module in $($bb cat /modules.order); do
    $bb insmod "/modules/$module" || $bb echo "shakedown-guest: cannot load $module"
done
tries=0
while [ ! -b /dev/vda ] && [ "$tries" -lt 600 ]; do
    $bb usleep 100000
    tries=$((tries + 1))
done
$bb mount -t ext4 -o rw,noatime /dev/vda /root || {
    $bb echo "shakedown-guest: no root disk"
    $bb poweroff -f
}
$bb umount /proc
$bb mount --move /dev /root/dev
exec $bb switch_root /root /usr/lib/shakedown/init

#!/bin/sh
# Process 1 of the guest. A service manager would cost a minute of boot under emulation and hide which
# threads run; the guest needs a network, SSH and an orderly power-off, nothing else.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
say() { echo "shakedown-guest: $*" >/dev/ttyS0; }

if [ "$1" = poweroff ]; then
    say powering off
    sync
    echo o >/proc/sysrq-trigger
    exit 0
fi

mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o nosuid,nodev shm /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 run /run
mount -t tmpfs -o nosuid,nodev tmp /tmp
mkdir -p /run/sshd /run/shakedown
say "init $(cut -d' ' -f1 /proc/uptime)"

# The keys come from the host that booted us (QEMU fw_cfg): none is in the image.
keys=/sys/firmware/qemu_fw_cfg/by_name/opt/org.shakedown
umask 077
mkdir -p /run/shakedown/keys
for name in authorized_keys host_key; do
    # Base64, because what QEMU hands over is one line of text.
    base64 -d "$keys/$name/raw" >"/run/shakedown/keys/$name" ||
        say "no $name was handed to this guest: it cannot be reached"
done
umask 022

ip link set lo up
ip link set eth0 up
# The host may hand us our address as well, sparing a DHCP exchange; otherwise ask for one.
if [ -e "$keys/address/raw" ]; then
    ip addr add "$(cat "$keys/address/raw")" dev eth0
else
    busybox udhcpc -i eth0 -q -n -t 30 -T 1 -s /usr/lib/shakedown/udhcpc >/run/shakedown/udhcpc.log 2>&1 ||
        say "no address: $(tail -n 1 /run/shakedown/udhcpc.log)"
fi

# Without udev nobody else loads NVIDIA's driver. A GPU at which it hangs must not keep sshd from starting.
if grep -qs 0x10de /sys/bus/pci/devices/*/vendor; then
    {
        if ! { modprobe nvidia && modprobe nvidia-uvm && modprobe nvidia-drm; }; then
            say "NVIDIA's driver could not be loaded: $(tail -n 1 /run/shakedown/modprobe.log)"
        fi
        : >/run/shakedown/driver-tried
    } >/run/shakedown/modprobe.log 2>&1 &
    tries=0
    until [ -e /run/shakedown/driver-tried ] || [ $((tries += 1)) -gt 300 ]; do sleep 0.2; done
fi
/usr/sbin/sshd || say "sshd did not start"
say "ready $(cut -d' ' -f1 /proc/uptime)"

# The power button of the virtual machine ends it (ACPI).
modprobe -a button evdev 2>/dev/null
busybox acpid -c /usr/lib/shakedown/acpi -l /run/shakedown/acpid.log 2>/dev/null
trap : TERM INT HUP
while :; do
    sleep 86400 &
    wait $!
done

# Prints what a guest's kernel says of its own PCI devices and NUMA nodes. Reads only.
# usage: sh -s -- NONCE
# Works with BusyBox. The first line names the nonce; a part begins with a line "NONCE TITLE".
# File content cannot know the nonce, so it cannot forge a part.
LC_ALL=C
export LC_ALL
nonce=$1

printf 'shakedown-placement 1 guest %s\n' "$nonce"
part() { printf '\n%s %s\n' "$nonce" "$1"; }

# The resolved path names every bridge above a device.
part pci.paths
for device in /sys/bus/pci/devices/*; do
    place=$(cd -P "$device" 2>/dev/null && pwd)
    [ -z "$place" ] || printf '%s %s\n' "${device##*/}" "$place"
done

part pci.files
cd /sys/bus/pci/devices 2>/dev/null &&
    grep -aHs '' ./*/vendor ./*/device ./*/class ./*/numa_node ./*/local_cpulist

part nodes
cd /sys/devices/system/node 2>/dev/null &&
    grep -aHs '' ./node*/cpulist ./node*/distance ./node*/meminfo

part end
exit 0

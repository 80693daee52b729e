# Prints what a guest's kernel says of its own PCI devices and NUMA nodes. Reads only.
# Works with BusyBox.

# The resolved path names every bridge above a device.
frame pci.paths
for device in /sys/bus/pci/devices/*; do
    place=$(cd -P "$device" 2>/dev/null && pwd)
    [ -z "$place" ] || printf '%s %s\n' "${device##*/}" "$place"
done

frame pci.files
cd /sys/bus/pci/devices 2>/dev/null &&
    grep -aHs '' ./*/vendor ./*/device ./*/class ./*/numa_node ./*/local_cpulist

frame nodes
cd /sys/devices/system/node 2>/dev/null &&
    grep -aHs '' ./node*/cpulist ./node*/distance ./node*/meminfo

return 0

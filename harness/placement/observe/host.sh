# Prints where a QEMU process really runs: threads, cgroups, memory, hostdevs. Reads only.
# Arguments: TARGET [PCI-ADDRESS ...]   TARGET: a pid, or a domain name known to libvirt
# POSIX shell, grep, sed, tr, sort, cat, ls: candidate hosts need nothing else. Few processes are started,
# since on an emulated host each one costs tens of milliseconds.
target=$1
shift

case $target in
*[!0-9]*)
    pid=
    IFS= read -r pid 2>/dev/null <"/run/libvirt/qemu/$target.pid"
    ;;
*) pid=$target ;;
esac
case $pid in
'' | *[!0-9]*) pid=0 ;;
esac

# Every line carries its file's name (-H), so a line cannot claim to come from another file.
tasks() {
    grep -aHsE '^((Name|Tgid|Pid|PPid|Cpus_allowed_list|Mems_allowed_list):|[0-9]+:|[0-9]+ \()' "$@"
}

frame uptime
up=
IFS= read -r up 2>/dev/null </proc/uptime
printf '%s\n' "$up"

frame target
printf '%s\n' "$target"

frame pid
printf '%s\n' "$pid"

# Of the command line only the name and the NUMA nodes: it also holds the guest's keys (-fw_cfg).
frame options
{ tr '\000\012' '\012?' <"/proc/$pid/cmdline"; } 2>/dev/null |
    sed -n -e '/^-name$/{' -e 'N' -e 'p' -e '}' -e '/^-numa$/{' -e 'N' -e 'p' -e '}'

frame tasks
tasks "/proc/$pid/task/"*/status "/proc/$pid/task/"*/cgroup "/proc/$pid/task/"*/stat

# Kernel threads that work for this guest (vhost-PID, kvm-nx-lpage-recovery-PID, kvm-pit/PID).
frame kthreads
grep -alsE "^(vhost-|kvm-.*[-/]|kvm-pit/)$pid\$" /proc/[0-9]*/comm | {
    set --
    while IFS= read -r file; do
        set -- "$@" "${file%/comm}/status" "${file%/comm}/cgroup" "${file%/comm}/stat"
    done
    [ $# -eq 0 ] || tasks "$@"
}

frame cgroups
cat "/proc/$pid/task/"*/cgroup 2>/dev/null | sort -u | sed -n \
    -e 's/^0::/2 /p' \
    -e 's/^[0-9][0-9]*:\([^:]*,\)\{0,1\}cpuset\(,[^:]*\)\{0,1\}:/1 /p' | {
    set --
    while IFS=' ' read -r kind path; do
        case $kind in
        2) set -- "$@" "/sys/fs/cgroup$path/cpuset.cpus.effective" "/sys/fs/cgroup$path/cpuset.mems.effective" ;;
        1) set -- "$@" "/sys/fs/cgroup/cpuset$path/cpuset.effective_cpus" \
            "/sys/fs/cgroup/cpuset$path/cpuset.effective_mems" ;;
        esac
    done
    [ $# -eq 0 ] || grep -aHs '' "$@"
}

frame limits
cat "/proc/$pid/limits" 2>/dev/null

for address in "$@"; do
    frame "device $address"
    device=/sys/bus/pci/devices/$address
    for link in driver iommu_group; do
        place=$(cd -P "$device/$link" 2>/dev/null && pwd)
        printf '%s=%s\n' "$link" "${place##*/}"
    done
    for node in "$device"/vfio-dev/vfio*; do
        [ -e "$node" ] && printf 'cdev=%s\n' "${node##*/}"
    done
done

frame fds
ls -lq "/proc/$pid/fd" 2>/dev/null | grep -a ' -> /dev/vfio/'

# Mappings of libraries are left out: guest RAM is never one of them.
frame numa_maps
grep -avE ' file=/(usr/lib|lib|lib32|lib64)/' "/proc/$pid/numa_maps" 2>/dev/null

# Once more: a worker thread may have come or gone meanwhile.
frame tasks.again
tasks "/proc/$pid/task/"*/status "/proc/$pid/task/"*/cgroup "/proc/$pid/task/"*/stat

return 0

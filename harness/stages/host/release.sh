# What a guest could leave behind on this host: RUN DIRECTORY CLAIM_ROOT... -- ADDRESS... Answers frames: rows of tabs
# for devices, hugepages and processes, and a name a line for split, qemu (domains), network, files and claims.
set -u
run=$1 directory=$2
shift 2
roots=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    roots="$roots $1"
    shift
done
shift

frame devices
for address in "$@"; do
    d="/sys/bus/pci/devices/$address"
    if [ ! -e "$d/vendor" ]; then
        printf '%s\t0\t\t\t\n' "$address"
        continue
    fi
    driver=
    [ -e "$d/driver" ] && driver=$(cd -P "$d/driver" && echo "${PWD##*/}")
    methods=
    [ -r "$d/reset_method" ] && read -r methods < "$d/reset_method"
    config=$(od -An -tx1 -N16 "$d/config" 2>/dev/null)
    printf '%s\t1\t%s\t%s\t%s\n' "$address" "$driver" "$methods" "$config"
done

# Functions that have virtual functions now.
frame split
for address in "$@"; do
    [ ! -e "/sys/bus/pci/devices/$address/virtfn0" ] || printf '%s\n' "$address"
done

frame hugepages
for pool in /sys/devices/system/node/node[0-9]*/hugepages/hugepages-*kB; do
    [ -r "$pool/free_hugepages" ] || continue
    node=${pool#/sys/devices/system/node/node}
    size=${pool##*-}
    read -r free < "$pool/free_hugepages"
    printf '%s\t%s\t%s\n' "${node%%/*}" "${size%kB}" "$free"
done

# QEMU processes, and which guest each is: a command line also holds keys and secrets of other tenants. `comm`
# is cut to 15 characters; a process that is exiting has no command line any more.
guest_of() {
    { tr '\000\n\t' '\n??' < "/proc/$1/cmdline"; } 2>/dev/null | head -c 65536 | sed -n \
        -e '1s/^.*$/qemu/p' -e '/^-name$/{' -e 'N' -e 's/\n/ /p' -e '}' | tr '\n' ' ' | cut -c1-300
}
frame processes
for p in /proc/[0-9]*; do
    comm=
    { read -r comm < "$p/comm"; } 2>/dev/null || continue
    case $comm in
        qemu* | kvm) printf '%s\t%s\n' "${p#/proc/}" "$(guest_of "${p#/proc/}")" ;;
    esac
done

# libvirt keeps the definition of everything that runs below /run/libvirt, our metadata included. Quotes
# keep a run from matching another whose key it begins.
for kind in qemu network; do
    frame "$kind"
    for file in "/run/libvirt/$kind"/*.xml; do
        [ -e "$file" ] || continue
        if grep -qF 'urn:shakedown:run:1' "$file" && grep -qF -e "run='$run'" -e "run=\"$run\"" "$file"; then
            name=${file##*/}
            printf '%s\n' "${name%.xml}"
        fi
    done
done

frame files
[ ! -d "$directory" ] || find "$directory" -mindepth 1

frame claims
for root in $roots; do
    for file in "$root"/claims/*; do
        [ -e "$file" ] || continue
        read -r owner rest < "$file"
        [ "$owner" = "$run" ] && printf '%s\n' "${file##*/}"
    done
done
return 0

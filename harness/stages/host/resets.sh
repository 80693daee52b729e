# Try the reset of functions, one after the other. Arguments: ADDRESS... Answers a frame of rows:
#   resets   ADDRESS TAB attempted(0|1) accepted(0|1|) methods-before methods-after answers(0|1|) words
set -u

methods() {
    list=
    [ -r "$d/reset_method" ] && read -r list < "$d/reset_method"
    echo "$list"
}

row() {
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$address" "$1" "$2" "$before" "$3" "$4" \
        "$(printf %s "$5" | tr '\t\n' '  ' | cut -c1-300)"
}

frame resets
for address in "$@"; do
    d="/sys/bus/pci/devices/$address"
    before=
    if [ ! -e "$d/vendor" ]; then
        row 0 '' '' '' "no such device"
        continue
    fi
    before=$(methods)
    if [ -e "$d/virtfn0" ]; then
        row 0 '' "$before" '' "it has virtual functions, which a reset would take from whoever uses them"
        continue
    fi
    driver=
    [ -e "$d/driver" ] && driver=$(cd -P "$d/driver" && echo "${PWD##*/}")
    case $driver in
        '' | vfio-pci) ;;
        *) row 0 '' "$before" '' "bound to $driver: a device in use is not reset"; continue ;;
    esac
    group=$(cd -P "$d/iommu_group" 2>/dev/null && echo "${PWD##*/}")
    # An open VFIO node, of the group or (iommufd) of the device, is a running guest, whoever owns it.
    if ! command -v find >/dev/null; then
        row 0 '' "$before" '' "this host has no find, so nobody can tell whether a process uses the device"
        continue
    fi
    user=
    for node in ${group:+"/dev/vfio/$group"} "$d"/vfio-dev/vfio*; do
        case $node in
            "$d"/*) [ -e "$node" ] || continue; node="/dev/vfio/devices/${node##*/}" ;;
        esac
        find /proc/[0-9]*/fd -lname "$node" 2>/dev/null | grep -q . && user=$node
    done
    if [ -n "$user" ]; then
        row 0 '' "$before" '' "$user is open in a process: a device in use is not reset"
        continue
    fi
    if [ ! -e "$d/reset" ]; then
        row 1 0 "$before" '' "the kernel offers no reset for this function"
        continue
    fi
    # The printf program, not the built-in one: it names the kernel's error.
    if words=$( { env printf 1 > "$d/reset"; } 2>&1 ); then accepted=1; else accepted=0; fi
    after=$(methods)
    answers=0
    for _ in 1 2 3 4 5; do
        case $(od -An -tx1 -N4 "$d/config" 2>/dev/null) in
            '' | *'ff ff ff ff') sleep 1 ;;
            *) answers=1; break ;;
        esac
    done
    row 1 "$accepted" "$after" "$answers" "$words"
done
return 0

# Which processes have GPUs open that NVIDIA's driver holds. Arguments: ADDRESS... Answers frames:
#   blind   (empty) where processes of other users cannot be looked at
#   held    rows ADDRESS TAB NODE TAB PID TAB NAME
set -u

[ "$(id -u)" = 0 ] && command -v find >/dev/null || frame blind

frame held
for address in "$@"; do
    minor=$(sed -n 's/^Device Minor:[[:space:]]*\([0-9]*\)$/\1/p' "/proc/driver/nvidia/gpus/$address/information" 2>/dev/null)
    # Where the driver does not tell which one it is, each of its GPUs may be this one.
    nodes="/dev/nvidia${minor:-[0-9]*}"
    for drm in "/sys/bus/pci/devices/$address"/drm/card[0-9]* "/sys/bus/pci/devices/$address"/drm/renderD*; do
        [ -e "$drm" ] && nodes="$nodes /dev/dri/${drm##*/}"
    done
    for node in $nodes; do
        find /proc/[0-9]*/fd -lname "$node" 2>/dev/null | while IFS= read -r fd; do
            p=${fd%/fd/*}
            # A process names itself as it likes.
            name=$({ tr -d '\t\n' < "$p/comm"; } 2>/dev/null)
            printf '%s\t%s\t%s\t%s\n' "$address" "$node" "${p##*/}" "$name"
        done
    done
done
return 0

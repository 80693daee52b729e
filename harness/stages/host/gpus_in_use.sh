# Which processes have GPUs open that their drivers hold. Arguments: for each GPU its ADDRESS, the file that
# tells its number as `Device Minor: N`, and what the name of its file in /dev begins with, or nothing.
# Answers frames:
#   blind   (empty) where processes of other users cannot be looked at
#   held    rows ADDRESS TAB NODE TAB PID TAB NAME
set -u

[ "$(id -u)" = 0 ] && command -v find >/dev/null || frame blind

frame held
while [ "$#" -ge 3 ]; do
    address=$1
    minor=$(sed -n 's/^Device Minor:[[:space:]]*\([0-9]*\)$/\1/p' "$2" 2>/dev/null)
    # Where the driver does not tell which one it is, each of its GPUs may be this one.
    nodes=${3:+/dev/$3${minor:-[0-9]*}}
    shift 3
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

# Watches whether guests live, for as long as its standard input is held. It only reads.
#     PERIOD STATUS [DOMAIN SERIAL]...     STATUS: the folder of libvirt's status files
# It needs a POSIX shell, cat, sleep, stat, tail and base64. A look costs two processes, and one more for each
# guest; the rest is done by the shell itself. Of each guest, by its number from 0, it tells in marks:
#   uptime SECONDS           with every look
#   pid N PID                of its QEMU, when it is first seen
#   state N [STATE REASON]   libvirt's own words, from its status file, when they change
#   cpu N TICKS              processor time of its QEMU so far
#   console N SIZE BASE64    the end, 2048 bytes at most, of what was added to its serial console
#   gone N PID               its QEMU ended
# What a guest writes comes as Base64, which holds no line break. harness/telemetry/guest/vitals.py reads it.
set -f
period=$1 folder=$2
shift 2

# What libvirt has in its status file of a domain: sets state, reason and pid, empty where it has none. The file
# begins with a comment; its third element or so is <domstatus state='running' reason='booted' pid='4711'>.
status() {
    state='' reason='' pid='' lines=0
    [ -r "$1" ] || return 0
    while [ "$lines" -lt 40 ] && IFS= read -r line; do
        lines=$((lines + 1))
        case $line in
            *"<domstatus "*" reason='"*" pid='"*)
                state=${line#* state=\'} reason=${line#* reason=\'} pid=${line#* pid=\'}
                state=${state%%\'*} reason=${reason%%\'*} pid=${pid%%\'*}
                break
                ;;
        esac
    done <"$1"
    case $pid in '' | *[!0-9]*) pid='' ;; esac
}

# Processor time of a process in ticks; fails for one that is not there, or only waits to be buried. Its name
# may hold anything, so fields are counted from the last parenthesis on.
ticks_of() {
    [ -r "/proc/$1/stat" ] || return 1
    { IFS= read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086  # fields of a line
    set -- ${line##*) }
    case $1 in Z | X) return 1 ;; esac
    ticks=$((${12} + ${13}))
}

look() {
    read -r uptime _ </proc/uptime
    mark uptime "$uptime"
    number=0
    while [ $# -ge 2 ]; do
        domain=$1 serial=$2
        shift 2
        eval "known=\${pid_$number:-} told=\${told_$number:-} last=\${size_$number:-0} dead=\${dead_$number:-}"
        status "$folder/$domain.xml"
        if [ -n "$pid" ] && [ "$pid" != "$known" ] && [ "$pid" != "$dead" ]; then
            known=$pid
            mark pid "$number" "$pid"
        fi
        if [ "$state $reason" != "$told" ]; then
            told="$state $reason"
            [ -z "$state" ] || mark state "$number" "$state" "$reason"
        fi
        size=$(stat -c %s -- "$serial" 2>/dev/null) || size=$last
        [ "$size" -ge "$last" ] || last=0
        if [ "$size" -gt "$last" ]; then
            new=$((size - last))
            [ "$new" -le 2048 ] || new=2048
            mark console "$number" "$size" "$(tail -c "$new" -- "$serial" | base64 -w 0)"
        fi
        # After the console: whoever hears that it is gone has its last words.
        if [ -n "$known" ]; then
            if ticks_of "$known"; then
                mark cpu "$number" "$ticks"
            else
                mark gone "$number" "$known"
                dead=$known known=''
            fi
        fi
        eval "pid_$number=\$known told_$number=\$told size_$number=\$size dead_$number=\$dead"
        number=$((number + 1))
    done
}

{
    while :; do
        look "$@"
        sleep "$period" >/dev/null 2>&1 # which may outlive us, and must not hold the connection open
    done
} </dev/null &
watch=$!
cat >/dev/null
kill "$watch" 2>/dev/null
wait
return 0

# Follows a candidate host while loads run: samples, looks at its tasks, and its kernel's log. It only reads.
#     PERIOD EVERY OURS LIBVIRT URI ADDRESS...     ends when its standard input does
# Every PERIOD seconds a sample, and with every EVERYth one a look: who ran where, and each CPU's times.
# What must not change is asked with each sample too, or more slowly, and printed only when it did.
# OURS is what the names of this run's domains begin with, LIBVIRT the directory of libvirt's running domains, URI
# that of its daemon; OURS is empty where there are none.
# It needs a POSIX shell, grep and find (GNU), awk, date, sleep, cat and getconf, and virsh for libvirt's events. A sample
# costs five processes.
#
# Samples and kernel log share one output, so every writer writes whole lines, and a line says what it is:
#   NONCE WORDS               marks (harness/scripts/prelude.sh): `sample N`, `look N` and their `end N`, `kernel STATUS`, `bye UPTIME`,
#                             `watch NAME UPTIME` and its `end NAME`, or `same NAME UPTIME`, `events STATUS`,
#                             `clock UPTIME SECONDS`: the time of day at that time
#   PATH:LINE                 of a file, by grep; PCI functions by their path below /sys/bus/pci/devices
#   task TGID TID PPID SESSION CPU TICKS START STATE NAME
#   DATE TIME: event ...      and lines after a tab, of virsh
#   PRIORITY,SEQUENCE,MICROSECONDS,...;TEXT           as /dev/kmsg has it, and ` KEY=VALUE` lines of a record
# harness/telemetry/host/lines.py reads it.
period=$1 every=$2 ours=$3 libvirt=$4 uri=$5
shift 5
cd /sys/bus/pci/devices 2>/dev/null || cd /

files=''
uevents=''
for address in "$@"; do
    uevents="$uevents $address/uevent"
    for name in vendor current_link_speed current_link_width aer_dev_correctable aer_dev_nonfatal aer_dev_fatal; do
        files="$files $address/$name"
    done
done
# Of the AER counters (drivers/pci/pcie/aer.c) the sums, and single ones that are not zero.
dull='^(RxErr|BadTLP|BadDLLP|Rollover|Timeout|NonFatalErr|CorrIntErr|HeaderOF|Undefined|DLP|SDES|TLP|FCP|CmpltTO'
dull="$dull|CmpltAbrt|UnxCmplt|RxOF|MalfTLP|ECRC|UnsupReq|ACSViol|UncorrIntErr|BlockedTLP|AtomicOpBlocked"
dull="$dull|TLPBlockedErr|PoisonTLPBlocked|DMWrReqBlocked|IDECheck|MisIDETLP|PCRC_CHECK|TLPXlatBlocked) 0\$"

sample() {
    mark sample "$1"
    # shellcheck disable=SC2086  # addresses hold no blanks
    grep -aHsvE --line-buffered -e "$dull" /proc/uptime $files \
        /sys/devices/system/node/node[0-9]*/hugepages/hugepages-*/free_hugepages \
        /sys/class/hwmon/hwmon*/name /sys/class/hwmon/hwmon*/temp*_label /sys/class/hwmon/hwmon*/temp*_input
    mark end "$1"
}

# -- what must not change ------------------------------------------------------------------------------

say() {
    IFS=' ' read -r up _ </proc/uptime
    was=''
    eval "was=\${was_$name-none}"
    if [ "$found" = "$was" ]; then
        mark same "$name" "$up"
        return
    fi
    eval "was_$name=\$found"
    mark watch "$name" "$up"
    [ -z "$found" ] || printf '%s\n' "$found" | grep -a --line-buffered ''
    mark end "$name"
}

ask() {
    name=$1 pattern=$2
    shift 2
    found=$(grep -aHsE -e "$pattern" /dev/null "$@")
    say
}

links() {
    name=$1
    shift
    found=$("$@" 2>/dev/null)
    say
}

# Files of each QEMU of ours, below /proc/PID; their numbers hold no blanks.
of() {
    list=
    for pid in $pids; do
        for file in "$@"; do list="$list /proc/$pid/$file"; done
    done
}

# Of every cgroup beside that of QEMU's main thread: libvirt makes one for each vCPU. Its names hold backslashes,
# which an unquoted pattern takes for its own: they are led by another.
cpusets() {
    list=
    for pid in $pids; do
        while IFS=: read -r number controllers path; do
            case $number:,$controllers, in
            0:,,) place=/sys/fs/cgroup$path ;;
            *:*,cpuset,*) place=/sys/fs/cgroup/cpuset$path ;;
            *) continue ;;
            esac
            case $place in *[!A-Za-z0-9_./@:\\-]*) continue ;; esac
            place=$(printf '%s' "${place%/*}" | sed 's/\\/\\\\/g')
            list="$list $place/*/cpuset.*effective* $place/cgroup.events"
        done <"/proc/$pid/cgroup"
    done 2>/dev/null
}

watch() {
    pids=
    if [ -n "$ours" ]; then
        for file in "$libvirt/$ours"*.pid; do
            pid=
            IFS= read -r pid 2>/dev/null <"$file"
            case $pid in '' | *[!0-9]*) ;; *) pids="$pids $pid" ;; esac
        done
    fi
    # shellcheck disable=SC2046,SC2086,SC2154  # patterns are meant to be expanded; they hold no blanks
    {
        : rows
    }
}

# Kernel threads (flag 0x200000) belong to the kernel and are left out. A name may hold anything, even a line
# break, so the fields are counted from the last parenthesis on, and the ids are taken from the path.
look() {
    IFS=' ' read -r up _ </proc/uptime
    mark clock "$up" "$(date +%s.%N)" # libvirt's events say the time of day only
    mark look "$1"
    grep -aHs --line-buffered -E '^(cpu[0-9]|btime )' /proc/stat
    grep -aHs '' /proc/[0-9]*/task/[0-9]*/stat | awk '{
        colon = index($0, ":")
        split(substr($0, 1, colon - 1), path, "/")
        rest = substr($0, colon + 1)
        last = match(rest, /\)[^)]*$/)
        if (!last || split(substr(rest, last + 2), f, " ") < 37 || int(f[7] / 2097152) % 2) next
        first = index(rest, "(")
        name = substr(rest, first + 1, last - first - 1)
        print "task", path[3], path[5], f[2], f[4], f[37], f[12] + f[13], f[20], f[1], name
    }' | grep -a --line-buffered ''
    grep -aHs --line-buffered '' "$libvirt"/*.pid
    mark end "$1"
}

samples() {
    count=0
    while :; do
        sample "$count"
        watch "$count"
        [ $((count % every)) -ne 0 ] || look "$count"
        count=$((count + 1))
        sleep "$period" >/dev/null 2>&1 # which may outlive us, and must not hold the connection open
    done
}

# A reader that the kernel overtakes gets an error and begins again with the oldest record there is: the
# sequence numbers show what it had before, and what it lost.
kernel() {
    reader=
    trap '[ -z "$reader" ] || kill "$reader" 2>/dev/null; exit 0' TERM
    while :; do
        cat /dev/kmsg &
        reader=$!
        wait "$reader"
        mark kernel $?
        sleep "$period" >/dev/null 2>&1 &
        wait $!
    done
}

# What happened to domains, counted by libvirt: also what was over again before anybody looked.
events() {
    reader=
    trap '[ -z "$reader" ] || kill "$reader" 2>/dev/null; exit 0' TERM
    while [ -n "$ours" ]; do
        virsh -r -q -c "$uri" event --all --loop --timestamp 2>/dev/null &
        reader=$!
        wait "$reader"
        mark events $?
        reader=
        sleep 30 >/dev/null 2>&1 &
        wait $!
    done
}

mark self $$ "$PPID" "$(getconf CLK_TCK)"
kernel </dev/null &
follower=$!
events </dev/null &
listener=$!
samples </dev/null &
sampler=$!
cat >/dev/null
kill "$sampler" "$follower" "$listener" 2>/dev/null
wait
mark bye "$(cat /proc/uptime)"
return 0

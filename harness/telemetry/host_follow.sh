# Follows a candidate host while loads run: samples, looks at its tasks, and its kernel's log. It only reads.
#     sh -c SCRIPT sh NONCE PERIOD EVERY ADDRESS...     ends when its standard input does
# Every PERIOD seconds a sample, and with every EVERYth one a look: who ran where, and each CPU's times.
# It needs a POSIX shell, grep (GNU), awk, sleep, cat and getconf. A sample costs two processes.
#
# Samples and kernel log share one output, so every writer writes whole lines, and a line says what it is:
#   NONCE WORDS               marks: `sample N`, `look N` and their `end N`, `kernel STATUS`, `bye UPTIME`
#   PATH:LINE                 of a file, by grep; PCI functions by their path below /sys/bus/pci/devices
#   task TGID TID PPID SESSION CPU TICKS STATE NAME
#   PRIORITY,SEQUENCE,MICROSECONDS,...;TEXT           as /dev/kmsg has it, and ` KEY=VALUE` lines of a record
# No file can hold the nonce, which is new for each run. harness/telemetry/host.py reads it.
LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
export LC_ALL PATH
nonce=$1 period=$2 every=$3
shift 3
cd /sys/bus/pci/devices 2>/dev/null || cd /

files=
for address in "$@"; do
    for name in vendor current_link_speed current_link_width aer_dev_correctable aer_dev_nonfatal aer_dev_fatal; do
        files="$files $address/$name"
    done
done
# Of the AER counters (drivers/pci/pcie/aer.c) the sums, and single ones that are not zero.
dull='^(RxErr|BadTLP|BadDLLP|Rollover|Timeout|NonFatalErr|CorrIntErr|HeaderOF|Undefined|DLP|SDES|TLP|FCP|CmpltTO'
dull="$dull|CmpltAbrt|UnxCmplt|RxOF|MalfTLP|ECRC|UnsupReq|ACSViol|UncorrIntErr|BlockedTLP|AtomicOpBlocked"
dull="$dull|TLPBlockedErr|PoisonTLPBlocked|DMWrReqBlocked|IDECheck|MisIDETLP|PCRC_CHECK|TLPXlatBlocked) 0\$"

mark() { printf '%s %s\n' "$nonce" "$*"; }

sample() {
    mark sample "$1"
    # shellcheck disable=SC2086  # addresses hold no blanks
    grep -aHsvE --line-buffered -e "$dull" /proc/uptime $files \
        /sys/devices/system/node/node[0-9]*/hugepages/hugepages-*/free_hugepages \
        /sys/class/hwmon/hwmon*/name /sys/class/hwmon/hwmon*/temp*_label /sys/class/hwmon/hwmon*/temp*_input
    mark end "$1"
}

# Kernel threads (flag 0x200000) belong to the kernel and are left out. A name may hold anything, even a line
# break, so the fields are counted from the last parenthesis on, and the ids are taken from the path.
look() {
    mark look "$1"
    grep -aHs --line-buffered '^cpu[0-9]' /proc/stat
    grep -aHs '' /proc/[0-9]*/task/[0-9]*/stat | awk '{
        colon = index($0, ":")
        split(substr($0, 1, colon - 1), path, "/")
        rest = substr($0, colon + 1)
        last = match(rest, /\)[^)]*$/)
        if (!last || split(substr(rest, last + 2), f, " ") < 37 || int(f[7] / 2097152) % 2) next
        first = index(rest, "(")
        name = substr(rest, first + 1, last - first - 1)
        print "task", path[3], path[5], f[2], f[4], f[37], f[12] + f[13], f[1], name
    }' | grep -a --line-buffered ''
    grep -aHs --line-buffered '' /run/libvirt/qemu/*.pid
    mark end "$1"
}

samples() {
    count=0
    while :; do
        sample "$count"
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

printf 'shakedown-host 1 %s\n' "$nonce"
mark self $$ "$PPID" "$(getconf CLK_TCK)"
kernel </dev/null &
follower=$!
samples </dev/null &
sampler=$!
cat >/dev/null
kill "$sampler" "$follower" 2>/dev/null
wait
mark bye "$(cat /proc/uptime)"

# Keyed jobs in a guest: started once, found again after a lost connection, collected whole.
#
#   start   --key K -- ARGV...      start detached; a key that exists is not started again
#   wait    --key K --timeout S     block until the job ends or S whole seconds passed
#   collect --key K [--timeout S] [--max BYTES]   status line, then stdout, then stderr
#   stop    --key K [--grace S]     end the job's whole session; safe to call twice
#
# Every verb takes [--base DIR] (default /run/shakedown/jobs) and answers with a frame `status`, one JSON line:
#   {"key", "state", "created", "pid", "exit", "stopped", "started", "ended", "now", "boot",
#    "stdout_bytes", "stderr_bytes", "stdout_total", "stderr_total"}
# state: running | done (it ended; "exit" is its status, 128+n for signal n) | lost (it is gone and left
# no status) | absent (no such key). Times are seconds since boot. `collect` adds frames `stdout` and `stderr`
# of stdout_bytes and stderr_bytes bytes: the last --max bytes (default 1 MiB) of each.
# Exit status: 0 with a status, 2 for wrong usage, 1 when the base cannot be written.
#
# Shell, not Python: on an emulated guest a Python process costs seconds, a shell hundredths. flock(1)
# (util-linux, essential in Debian) is the truth about life: the job's supervisor holds the lock for as
# long as it lives, so waiting needs no polling and a killed supervisor is noticed at once.
set -u
umask 077

usage() {
    printf '%s\n' "$1" >&2
    leave 2
}

number() { case $1 in '' | *[!0-9]* | ?????????*) usage "not a whole number: $1" ;; esac; }

uptime_now() { read -r now _ < /proc/uptime; echo "$now"; }

# Field 22 of /proc/PID/stat: when the process started, in clock ticks since boot. With the pid, the boot and
# the pid namespace it names one process for good, whatever numbers are reused.
born() {
    { read -r line < "/proc/$1/stat"; } 2> /dev/null || return 1
    set -- ${line##*) }
    { read -r boot < /proc/sys/kernel/random/boot_id; } 2> /dev/null || return 1
    echo "${20} $boot $(readlink /proc/self/ns/pid)"
}

slot() { { read -r value < "$dir/$1"; } 2> /dev/null && echo "$value" || echo "$2"; }

size() { if [ -f "$1" ]; then stat -c %s "$1"; else echo 0; fi; }

held() { [ -f "$dir/lock" ] && ! flock -n -s "$dir/lock" true; }

# Nobody is in the middle of starting this key: starts hold the base's lock.
settle() { if [ -f "$base/.lock" ]; then flock -s "$base/.lock" true; fi; }

state() {
    if [ ! -d "$dir" ]; then echo absent
    elif [ -f "$dir/status" ]; then echo "done"
    elif held; then echo running
    elif [ -f "$dir/status" ]; then echo "done" # it ended between the two looks
    else echo lost; fi
}

report() { # $1: created (true|false), $2 and $3: bytes of stdout and stderr that follow
    frame status
    at=$(state); code=null ended=null
    # Only what was over at that look: a job that ends meanwhile is told with the next report.
    if [ "$at" = "done" ]; then code=$(slot status null); ended=$(slot ended null); fi
    stopped=false; [ -f "$dir/stopped" ] && stopped=true
    out=$(size "$dir/stdout"); err=$(size "$dir/stderr")
    printf '{"key":"%s","state":"%s","created":%s,"pid":%s,"exit":%s,"stopped":%s,' \
        "$key" "$at" "$1" "$(slot pid null)" "$code" "$stopped"
    printf '"started":%s,"ended":%s,"now":%s,"boot":"%s",' \
        "$(slot started null)" "$ended" "$(uptime_now)" "$(slot boot '')"
    printf '"stdout_bytes":%s,"stderr_bytes":%s,"stdout_total":%s,"stderr_total":%s}\n' "$2" "$3" "$out" "$err"
}

# The supervisor: inherits the job's lock on descriptor 9, keeps it to its own end, and hides it from the
# job, whose stray children must not look like a running job.
supervise() {
    trap : TERM INT HUP # a signal to the session ends the job; this shell stays to write down how
    # Nothing of the caller's shell or the machine's settings but where programs and libraries lie: with
    # a list of visible GPUs or LIBGL_ALWAYS_SOFTWARE set somewhere, a healthy GPU would seem lost or slow. A home
    # beside the jobs, so that caches (GPU drivers keep one) go with them.
    home=${base%/*}/home
    mkdir -p "$home"
    env -i "PATH=$PATH" "HOME=$home" ${LD_LIBRARY_PATH:+"LD_LIBRARY_PATH=$LD_LIBRARY_PATH"} \
        ${TMPDIR:+"TMPDIR=$TMPDIR"} "$@" < /dev/null > "$dir/stdout" 2> "$dir/stderr" 8>&- 9>&-
    status=$?
    uptime_now > "$dir/ended"
    echo "$status" > "$dir/status.new"
    mv "$dir/status.new" "$dir/status"
    # What a stopped job left in its session goes with this shell: 0 is its own group, and nobody else's.
    if [ -f "$dir/stopped" ]; then kill -s KILL 0; fi
}

start() {
    mkdir -p "$base" || fail "cannot make $base"
    exec 8> "$base/.lock" || fail "cannot write $base/.lock"
    flock -x 8
    if ! mkdir "$dir" 2> /dev/null; then
        [ -d "$dir" ] || fail "cannot make $dir"
        report false 0 0
        return
    fi
    exec 9> "$dir/lock"
    flock -x 9
    cat /proc/sys/kernel/random/boot_id > "$dir/boot"
    uptime_now > "$dir/started"
    # shellcheck disable=SC2154  # the prelude sets the nonce
    setsid sh "$0" "$nonce" supervise --base "$base" --key "$key" -- "$@" < /dev/null > /dev/null 2>&1 8>&- &
    pid=$!
    born "$pid" > "$dir/born"
    echo "$pid" > "$dir/pid"
    report true 0 0
}

await() { if held; then flock -s -w "$1" "$dir/lock" true; fi; }

collect() {
    await "$timeout"
    out=$(size "$dir/stdout"); err=$(size "$dir/stderr")
    keep_out=$((out < max ? out : max)); keep_err=$((err < max ? err : max))
    report false "$keep_out" "$keep_err"
    # The sizes were promised on the status line: a job that still writes must not change them.
    frame stdout
    [ "$keep_out" -gt 0 ] && tail -c "+$((out - keep_out + 1))" "$dir/stdout" | head -c "$keep_out"
    frame stderr
    [ "$keep_err" -gt 0 ] && tail -c "+$((err - keep_err + 1))" "$dir/stderr" | head -c "$keep_err"
    return 0
}

# The session of a job is its supervisor's: while that one lives, no other group can have its number. It is
# looked at before each signal, since it may have ended meanwhile.
tell() { held && [ "$(born "$pid")" = "$(slot born '?')" ] && kill -s "$1" -- "-$pid" 2> /dev/null; }

stop() {
    pid=$(slot pid '')
    if [ -n "$pid" ] && held && [ "$(born "$pid")" = "$(slot born '?')" ]; then
        : > "$dir/stopped"
        tell TERM
        await "$grace"
        tell KILL
        await 5
    fi
    report false 0 0
}

[ $# -gt 0 ] || usage "start, wait, collect or stop"
verb=$1; shift
base=/run/shakedown/jobs key='' timeout=0 grace=5 max=1048576
while [ $# -gt 0 ]; do
    case $1 in
        --) shift; break ;;
        --base | --key | --timeout | --grace | --max) [ $# -gt 1 ] || usage "$1 needs a value" ;;
        *) usage "unknown option $1" ;;
    esac
    case $1 in
        --base) base=$2 ;;
        --key) key=$2 ;;
        --timeout) number "$2"; timeout=$2 ;;
        --grace) number "$2"; grace=$2 ;;
        --max) number "$2"; max=$2 ;;
    esac
    shift 2
done
case $key in '' | .* | *[!A-Za-z0-9._-]*) usage "a key is letters, digits, '.', '_' and '-'" ;; esac
[ ${#key} -le 128 ] || usage "key longer than 128 characters"
dir=$base/$key
case $verb in
    start) [ $# -gt 0 ] || usage "nothing to start"; start "$@" ;;
    supervise) supervise "$@" ;;
    wait) settle; await "$timeout"; report false 0 0 ;;
    collect) settle; collect ;;
    stop) settle; stop ;;
    *) usage "unknown verb $verb" ;;
esac
return 0

# Hold the lease of a run for as long as beats arrive on standard input: RUN SECONDS new|again ROOT...
# End of input (the controller died or let go) or SECONDS without a beat (the link died) frees it.
# again: only where nobody removed the lease meanwhile, as a run does that clears another's claims.
umask 077
run=$1 seconds=$2 mode=$3
shift 3
for root in "$@"; do
    mkdir -p "$root/claims" "$root/runs" 2>/dev/null && [ -w "$root/runs" ] && break
    root=
done
[ -n "$root" ] || { echo "no directory for leases can be written: $*"; exit 1; }
command -v flock >/dev/null || { echo "no flock on this host (util-linux)"; exit 1; }
[ "$mode" = new ] || [ -e "$root/runs/$run" ] || { echo cleared; exit 1; }
exec 8>>"$root/runs/$run" || { echo "cannot open $root/runs/$run"; exit 1; }
flock -n 8 || { echo held; exit 1; }
# The file may have been removed between opening and locking it: then this lock protects nothing.
[ "$(stat -c %i "$root/runs/$run")" = "$(stat -L -c %i /proc/self/fd/8)" ] || { echo "the lease changed hands, try again"; exit 1; }
echo . > "$root/runs/$run.beat"
echo holding
while beat=$(timeout "$seconds" head -c 1) && [ -n "$beat" ]; do
    echo . > "$root/runs/$run.beat"
done

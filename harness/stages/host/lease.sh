# Hold the lease of a run for as long as beats arrive on standard input: RUN SECONDS new|again ROOT...
# End of input (the controller died or let go) or SECONDS without a beat (the link died) frees it.
# again: only where nobody removed the lease meanwhile, as a run does that clears another's claims.
# Its first mark says whether it has the lease: `holding`, `held` by another, `cleared`, or `cannot WORDS`.
umask 077
run=$1 seconds=$2 mode=$3
shift 3
cannot() {
    mark cannot "$@"
    leave 1
}
for root in "$@"; do
    mkdir -p "$root/claims" "$root/runs" 2>/dev/null && [ -w "$root/runs" ] && break
    root=
done
[ -n "$root" ] || cannot "write into any directory for leases: $*"
command -v flock >/dev/null || cannot "lock: no flock on this host (util-linux)"
[ "$mode" = new ] || [ -e "$root/runs/$run" ] || { mark cleared; leave 1; }
exec 8>>"$root/runs/$run" || cannot "open $root/runs/$run"
flock -n 8 || { mark held; leave 1; }
# The file may have been removed between opening and locking it: then this lock protects nothing.
[ "$(stat -c %i "$root/runs/$run")" = "$(stat -L -c %i /proc/self/fd/8)" ] || cannot "keep the lease: it changed hands, try again"
echo . > "$root/runs/$run.beat"
mark holding
while beat=$(timeout "$seconds" head -c 1) && [ -n "$beat" ]; do
    echo . > "$root/runs/$run.beat"
done
return 0

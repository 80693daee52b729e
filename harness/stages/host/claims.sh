# Exclusive claims on devices of this host. Answers frames: `claims` with a row of tabs for each claim that stands in
# the way or is listed, and `taken` or `released`, empty.
#   take RUN CONTROLLER STARTED GRACE ROOT... -- ADDRESS...
#   list GRACE ROOT... --
#   release RUN ROOT... -- ADDRESS...        (no address: everything of RUN, its lease file too)
# Every command runs under one mutex, so that several devices are taken together or not at all.
set -u
umask 077
tab=$(printf '\t')

# The root is the first directory that can be used; all runs of one user agree on it.
open_root() {
    for root in "$@"; do
        if mkdir -p "$root/claims" "$root/runs" 2>/dev/null && [ -w "$root/claims" ]; then
            return 0
        fi
    done
    fail "no directory for claims can be written: $*"
}

# live: the run's lease is held. quiet: free, but its last beat is younger than the grace. gone: neither.
state_of() {
    lease="$root/runs/$1"
    age=
    if [ -e "$lease" ] && ! flock -n "$lease" true; then
        state=live
        return
    fi
    state=gone
    if [ -e "$lease.beat" ]; then
        age=$(($(date +%s) - $(stat -c %Y "$lease.beat")))
        [ "$age" -ge "$2" ] || state=quiet
    fi
}

show() {
    IFS=$tab read -r run controller started < "$1" || run=
    state_of "$run" "$2"
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "${1##*/}" "$run" "$controller" "$started" "$state" "$age"
}

owner() {
    IFS=$tab read -r run rest < "$1" || run=
}

take() {
    mine=$1 controller_=$2 started_=$3 grace=$4
    shift 4
    rm -f "$root"/.new.*  # what killed runs left; ours is the only one that works here now
    blocked=0
    for address in "$@"; do
        [ -e "$root/claims/$address" ] || continue
        owner "$root/claims/$address"
        [ "$run" = "$mine" ] && continue
        show "$root/claims/$address" "$grace"
        blocked=1
    done
    [ "$blocked" -eq 0 ] || return 0
    for address in "$@"; do
        [ -e "$root/claims/$address" ] && continue
        # A file of its own: one that a killed run left half linked is another's claim by now.
        new=$(mktemp "$root/.new.XXXXXXXX") || fail "cannot make a file in $root"
        printf '%s\t%s\t%s\n' "$mine" "$controller_" "$started_" > "$new" || fail "cannot write $new"
        ln "$new" "$root/claims/$address" || fail "cannot create $root/claims/$address"
        rm -f "$new"
    done
    frame taken
}

release() {
    mine=$1
    shift
    all=0
    if [ $# -eq 0 ]; then
        all=1
        set -- "$root"/claims/*
    fi
    for address in "$@"; do
        address=${address##*/}
        [ -e "$root/claims/$address" ] || continue
        owner "$root/claims/$address"
        if [ "$run" = "$mine" ]; then
            rm -f "$root/claims/$address" || fail "cannot remove $root/claims/$address"
        fi
    done
    [ "$all" -eq 0 ] || rm -f "$root/runs/$mine" "$root/runs/$mine.beat"
    frame released
}

command -v flock >/dev/null || fail "no flock on this host (util-linux)"
command=$1
shift
case $command in
    take) fixed=4 ;;
    list) fixed=1 ;;
    release) fixed=1 ;;
    *) fail "unknown command $command" ;;
esac
one=${1-} two=${2-} three=${3-} four=${4-}
shift "$fixed"
roots=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    roots="$roots $1"
    shift
done
shift
# Roots and addresses are words without blanks: the caller sees to that.
# shellcheck disable=SC2086
open_root $roots
exec 9>"$root/mutex" || fail "cannot open $root/mutex"
flock -w 20 9 || fail "another run has been changing claims for 20 s"
frame claims
case $command in
    take) take "$one" "$two" "$three" "$four" "$@" ;;
    release) release "$one" "$@" ;;
    list)
        for file in "$root"/claims/*; do
            [ -e "$file" ] && show "$file" "$one"
        done
        ;;
esac
return 0

# Comes before every script that Shakedown runs on a host or in a guest, and frames what it prints.
#   shakedown 1 SCRIPT NONCE     the first line. A login message may stand before it.
#   NONCE TITLE                  a frame: its content goes on to the next line that begins with the nonce
#   NONCE part NAME COUNT        the end of a part, and how many frames it had; for parts that run at the same time
#   NONCE exit STATUS COUNT      the last line: exit status, and frames since the last part. It is missing where the
#                                script died or its output was cut off.
# Each question has a new nonce, so no file or process of the machine can hold it and pass for a frame. A script is
# the body of a function: one that arrives cut off is a syntax error and does nothing. It ends with `return STATUS`, or
# with `fail WORDS`. POSIX sh, BusyBox included. harness/scripts/protocol.py reads what it prints.
LC_ALL=C
case ":${PATH:=/usr/bin:/bin}:" in *:/usr/sbin:*) ;; *) PATH=$PATH:/usr/sbin:/sbin ;; esac
export LC_ALL PATH

# mark WORDS: a line by itself, for output that is read while it grows. All who write there write whole lines.
mark() { printf '%s %s\n' "$nonce" "$*"; }

# frame TITLE: begins a frame. What was printed before it need not end with a line break.
frame() {
    frames=$((frames + 1))
    printf '\n%s %s\n' "$nonce" "$*"
}

part() {
    printf '\n%s part %s %s\n' "$nonce" "$1" "$frames"
    frames=0
}

leave() {
    printf '\n%s exit %s %s\n' "$nonce" "$1" "$frames"
    exit "$1"
}

# fail WORDS: the script cannot do what it was asked for, and says why. Not in a subshell.
fail() {
    frame failed
    printf '%s\n' "$*"
    printf '%s\n' "$*" >&2
    leave 1
}

# run SCRIPT NONCE ARGUMENT...
run() {
    [ -n "${2-}" ] || exit 64 # this very line arrived cut off
    nonce=$2 frames=0
    printf 'shakedown 1 %s %s\n' "$1" "$nonce"
    shift 2
    answer "$@"
    leave $?
}

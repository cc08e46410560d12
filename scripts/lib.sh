# shellcheck shell=bash
# What the scripts share: messages, process ids, ports. Sourced, never run.

# Messages go to standard error, so that standard output stays usable by programs.
say() { printf '%s\n' "$*" >&2; }

# die MESSAGE [WHAT TO DO NEXT]
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    if [ $# -gt 1 ]; then printf '  -> %s\n' "$2" >&2; fi
    exit 1
}

# The path of a folder, made absolute; the folder is created.
absolute_dir() {
    mkdir -p -- "$1" || die "can't create the folder $1" "choose another with --home DIR"
    (cd -- "$1" && pwd -P)
}

# port_open HOST PORT: does something listen there?
port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# A loopback port that nothing listens on, outside the range the kernel gives to clients.
free_port() {
    local port try
    for try in $(seq 1 200); do
        port=$((20000 + (RANDOM * 32768 + RANDOM + try) % 12000))
        if ! port_open 127.0.0.1 "$port"; then
            echo "$port"
            return
        fi
    done
    die "found no free port between 20000 and 32000"
}

# is_running PID MARK: is that process alive, no zombie, and does its command line hold MARK?
# (A pid file may outlive its process and the number may have been given to another.)
is_running() {
    local pid=$1 mark=$2 line
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    [ -r "/proc/$pid/cmdline" ] || return 1
    line=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
    [ -n "$line" ] && [[ $line == *"$mark"* ]]
}

# pid_of FILE MARK: the process id in FILE if that process is alive, else nothing.
pid_of() {
    local pid
    [ -r "$1" ] || return 0
    read -r pid _ <"$1" || true
    if is_running "${pid:-}" "$2"; then echo "$pid"; fi
}

# wait_gone PID MARK SECONDS: waits until the process has ended.
wait_gone() {
    local tries=$(($3 * 10))
    while is_running "$1" "$2"; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then return 1; fi
        sleep 0.1
    done
}

# stop_process NAME PID MARK SIGNAL SECONDS: asks, waits, and only then kills, by process id alone.
stop_process() {
    local name=$1 pid=$2 mark=$3 signal=$4 seconds=$5
    is_running "$pid" "$mark" || return 0
    kill "-$signal" "$pid" 2>/dev/null || true
    if ! wait_gone "$pid" "$mark" "$seconds"; then
        say "$name (process $pid) did not stop within $seconds s; killing it"
        kill -KILL "$pid" 2>/dev/null || true
        wait_gone "$pid" "$mark" 10 || die "$name (process $pid) can't be stopped" "kill -9 $pid"
    fi
}

# start_process PIDFILE LOG COMMAND…: starts it in a session of its own, so that Ctrl-C in the
# terminal reaches only the script, which then stops things in order.
start_process() {
    local pidfile=$1 log=$2
    shift 2
    rm -f -- "$pidfile" # an earlier process's number would be taken for this one's
    # shellcheck disable=SC2016  # expanded by the inner shell
    setsid bash -c 'echo $$ >"$1"; shift; exec "$@"' start "$pidfile" "$@" \
        >>"$log" 2>&1 </dev/null 9>&- &
    local tries=100
    until [ -s "$pidfile" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "could not start $1"
        sleep 0.05
    done
}

# without_login URL: the same server and database without user and password. What runs for long gets
# this one: it logs in as its own role, and the owner's password does not stand in its environment.
without_login() { printf '%s\n' "$1" | sed -E 's#^([a-z]+://)[^@/]*@#\1#'; }

# Runs a command as root: directly, or through sudo where that asks no password.
can_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# A random secret of 32 bytes in hex.
random_hex() { od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; }
random_uuid() { cat /proc/sys/kernel/random/uuid; }

# write_secret FILE TEXT: mode 600 from the first moment on.
write_secret() {
    (
        umask 077
        printf '%s\n' "$2" >"$1.new"
        mv -f -- "$1.new" "$1"
    )
}

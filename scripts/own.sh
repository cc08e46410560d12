# shellcheck shell=bash disable=SC2154
# A Daybook of one's own for measurements and failure tests: services, secrets and roles in a
# temporary folder, all stopped at the end. Sourced after lib.sh; wants $root, and $keep set where
# the folder is to stay; $brokers, where Kafka is to have more than one. PROGRAM in the
# environment is the program to run instead of one that is built.

home=$(mktemp -d "${TMPDIR:-/tmp}/daybook-own.XXXXXX")
chmod 711 "$home"
declare -A roles=()
stop_role() {
    local pid=${roles[$1]:-}
    if [ -n "$pid" ]; then stop_process "$1" "$pid" "daybook ${1%%-*}" TERM 30; fi
    unset "roles[$1]"
}
# What else is to end first.
before_finish() { :; }
finish() {
    local status=$? role
    trap - EXIT INT TERM
    before_finish
    for role in "${!roles[@]}"; do stop_role "$role"; done
    if [ -n "$keep" ]; then
        "$root/scripts/services" stop --home "$home" || true
        say "Kept: $home"
    else
        "$root/scripts/services" remove --home "$home" || true
        rm -rf -- "$home"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$root/scripts/services" install --toolchain --home "$home" >&2
if [ -n "${PROGRAM:-}" ]; then
    bin=$PROGRAM
else
    cargo build --release -p daybook --manifest-path "$root/Cargo.toml" >&2
    target=$(cargo metadata --manifest-path "$root/Cargo.toml" --format-version 1 --no-deps 2>/dev/null |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    bin=${target:-$root/target}/release/daybook
fi
unset DATABASE_URL KAFKA_BROKERS DAYBOOK_DATABASE_URL DAYBOOK_KAFKA_BROKERS DAYBOOK_READ_DATABASE_URL
"$root/scripts/services" start --home "$home" --brokers "${brokers:-1}" >&2
# shellcheck source=/dev/null
. "$home/services.env"
port=$(free_port)
url=http://127.0.0.1:$port
export DAYBOOK_SECRETS_DIR=$home/secrets DAYBOOK_PROJECTIONS_DIR=$root/projections
export DAYBOOK_LISTEN=127.0.0.1:$port
DAYBOOK_METRICS_LISTEN=127.0.0.1:$(free_port)
export DAYBOOK_METRICS_LISTEN
"$bin" secrets create >&2
"$bin" migrate >&2

# start_role NAME: a process of its own, with a login of its own. Of a role with several processes
# they are called relay-1, relay-2 and so on.
start_role() {
    start_process "$home/$1.pid" "$home/$1.log" \
        env DATABASE_URL="$(without_login "$DATABASE_URL")" \
        DAYBOOK_READ_DATABASE_URL="$(without_login "${DAYBOOK_READ_DATABASE_URL:-}")" "$bin" "${1%%-*}"
    roles[$1]=$(cat -- "$home/$1.pid")
}
wait_ready() {
    local tries=600
    until [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "$url/readyz" || true)" = 200 ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { cat "$home"/*.log >&2; die "Daybook was not ready within a minute"; }
        sleep 0.1
    done
}
sql() { psql -X -q -A -t "$DATABASE_URL" -c "$1"; }
now() { date +%s.%N; }
# since START: seconds, to the tenth
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'; }
per_s() { awk -v n="$1" -v s="$2" 'BEGIN { printf "%d", n / (s > 0 ? s : 1) }'; }
# wait_until WHAT SQL: until the statement answers t; gives up after 15 minutes
wait_until() {
    local tries=9000
    until [ "$(sql "$2")" = t ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "waited 15 minutes for $1"
        sleep 0.1
    done
}
head="(select coalesce(max(position), 0) from journal.events)"
wait_read_models() {
    wait_until "the read models" "select count(*) > 0 and min(position) >= $head from projection.checkpoints"
}

# Keeps a throwaway PostgreSQL cluster for as long as standard input is open. However the process at the other end of the
# pipe ended, by a signal too, the input ends then, and the server and its folder go. Never run as root.
#
#   sh -c "$(cat supervisor.sh)" supervisor <folder of the binaries> [setting=value ..]
#
# Commands, one a line: `kill` (a crash), `stop` (in order), `start`, `quit`. The start-up and each command are answered by
# lines that explain a failure, if there was one, and then `ok` or `failed`. The first is `ok <port> <folder>`.
set -u
# What ends the owner must not end this process before it has cleaned up.
trap '' HUP INT QUIT TERM PIPE
umask 077
cd /
# A locale that is not installed stops the server.
LC_ALL=C
export LC_ALL

bin=$1
shift

# The path of a socket has at most 103 bytes, and the list of its folders needs quotes around unusual ones.
parent=${TMPDIR:-/tmp}
case $parent in
*[!A-Za-z0-9_./-]* | [!/]*) parent=/tmp ;;
esac
if [ "${#parent}" -gt 60 ] || ! [ -w "$parent" ]; then
    parent=/tmp
fi
folder=$(mktemp -d "${parent%/}/crm-pg.XXXXXX" 2>&1) || {
    printf '%s\nfailed\n' "$folder"
    exit 1
}
data=$folder/data
log=$folder/log

create() {
    "$bin/initdb" -D "$data" -A trust -U postgres --no-sync -E UTF8 --locale=C </dev/null >"$log" 2>&1 || return 1
    {
        printf "%s = '%s'\n" listen_addresses 127.0.0.1 unix_socket_directories "$folder" \
            fsync off synchronous_commit off full_page_writes off max_connections 200 \
            log_min_messages log log_checkpoints off
        # The last of two settings counts.
        for setting in "$@"; do
            printf "%s = '%s'\n" "${setting%%=*}" "$(printf '%s' "${setting#*=}" | sed "s/'/''/g")"
        done
    } >>"$data/postgresql.conf"
}

begin() {
    : >"$log"
    "$bin/pg_ctl" start -D "$data" -l "$log" -w -t 120 -o "-p $port" </dev/null >>"$folder/pg_ctl.log" 2>&1
}

# Takes a port below those that systems give to outgoing connections: one of these could take the port of a server that is
# down for a moment.
begin_somewhere() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
        port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
        begin && return
        grep -q 'could not create any TCP/IP sockets' "$log" || return 1
    done
    return 1
}

halt() {
    [ -f "$data/postmaster.pid" ] || return 0
    "$bin/pg_ctl" stop -D "$data" -m "$1" -w -t 60 </dev/null >>"$folder/pg_ctl.log" 2>&1
}

answer() {
    if [ "$1" -eq 0 ]; then
        echo "ok${2:+ $2}"
    else
        for file in "$folder/pg_ctl.log" "$log"; do
            [ ! -f "$file" ] || tail -n 12 "$file"
        done
        echo failed
    fi
}

create "$@" && begin_somewhere
started=$?
answer "$started" "${port:-0} $folder"

while [ "$started" -eq 0 ] && read -r command; do
    case $command in
    kill) halt immediate ;;
    stop) halt fast ;;
    start) begin ;;
    quit) break ;;
    *) false ;;
    esac
    answer $?
done

halt immediate || kill -KILL "$(head -n 1 "$data/postmaster.pid")"
# A last process of the server may still write.
rm -rf "$folder" || { sleep 1 && rm -rf "$folder"; }

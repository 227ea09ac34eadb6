# Sourced by the scripts beside it: where the three local nodes are and how one is started and stopped.
#
# Node N (1, 2, 3) listens on 127.0.0.1: state machines 7400+N, keys 8090+N, HTTP 9090+N, peers 7500+N. Its settings,
# data, log and process id are in $KONTIKI_LOCAL/nodeN/. The nodes talk to each other under mutual TLS, with
# certificates of an authority of their own in $KONTIKI_LOCAL/certs/.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
local_folder=${KONTIKI_LOCAL:-/var/tmp/kontiki-local}
build_folder=${KONTIKI_BUILD:-$root/build/release}
kontikid=$build_folder/kontikid
kontiki=$build_folder/kontiki
nodes=(1 2 3)
readonly WAIT_SECONDS=30 # for a node to start or stop: a large log is recovered in a fraction of it

# A tool that a demonstration starts must not be led elsewhere by the caller's own settings.
unset "${!KONTIKI_@}" "${!RSTMDB_@}"

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

rcp_address() { printf '127.0.0.1:%d' $((7400 + $1)); }
kv_address() { printf '127.0.0.1:%d' $((8090 + $1)); }
http_address() { printf '127.0.0.1:%d' $((9090 + $1)); }
peer_address() { printf '127.0.0.1:%d' $((7500 + $1)); }

# Joins the addresses of all nodes with commas: all_addresses rcp_address
all_addresses() {
    local node list=
    for node in "${nodes[@]}"; do
        list+=${list:+,}$("$1" "$node")
    done
    printf '%s' "$list"
}

# The tool with the whole cluster as its endpoints.
tool() {
    "$kontiki" --endpoint "$(all_addresses rcp_address)" "$@"
}

# The tool with one node as its only endpoint.
tool_at() { # node arguments...
    local node=$1
    shift
    "$kontiki" --endpoint "$(rcp_address "$node")" "$@"
}

node_folder() { printf '%s/node%d' "$local_folder" "$1"; }

check_node() {
    case ${1:-} in
    1 | 2 | 3) ;;
    *) fail "a node is 1, 2 or 3" ;;
    esac
}

# Prints the process id of a running node; false if it does not run. A number that another program got since is not it.
node_pid() {
    local pid file
    file=$(node_folder "$1")/kontikid.pid
    [ -e "$file" ] || return 1
    pid=$(cat "$file")
    [ -n "$pid" ] && [ -e "/proc/$pid/cmdline" ] || return 1
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "--config $(node_folder "$1")/kontiki.yaml" || return 1
    printf '%s' "$pid"
}

running_nodes() {
    local node
    for node in "${nodes[@]}"; do
        if node_pid "$node" >/dev/null; then
            printf '%s\n' "$node"
        fi
    done
}

certificate_folder() { printf '%s/certs' "$local_folder"; }

# Once: every node's certificate and key, and the authority that signed them.
make_certificates() {
    local list
    [ ! -e "$(certificate_folder)/node${nodes[-1]}.pem" ] || return 0
    list=$(IFS=, && printf '%s' "${nodes[*]}")
    mkdir -p "$local_folder"
    "$kontiki" certs "$(certificate_folder)" --nodes "$list" --days 3650 >/dev/null ||
        fail "no certificates could be made in $(certificate_folder)"
}

write_settings() { # node
    local folder node
    folder=$(node_folder "$1")
    mkdir -p "$folder"
    {
        printf '# Written by deploy/local; changes here are lost.\n'
        printf 'node: {id: %d}\n' "$1"
        printf 'network: {bind_addr: "%s"}\n' "$(rcp_address "$1")"
        printf 'listen: {kv: {address: "%s"}}\n' "$(kv_address "$1")"
        printf 'admin: {address: "%s"}\n' "$(http_address "$1")"
        printf 'storage: {data_dir: "%s/data"}\n' "$folder"
        printf 'cluster:\n  name: local\n'
        printf '  tls: {ca: "%s", cert: "%s", key: "%s"}\n' "$(certificate_folder)/ca.pem" \
            "$(certificate_folder)/node$1.pem" "$(certificate_folder)/node$1-key.pem"
        printf '  members:\n'
        for node in "${nodes[@]}"; do
            printf '    - "%d@%s"\n' "$node" "$(peer_address "$node")"
        done
    } >"$folder/kontiki.yaml"
}

start_node() { # node; returns when the process runs, not when it serves
    local folder
    folder=$(node_folder "$1")
    [ -x "$kontikid" ] || fail "$kontikid is not there: deploy/local/up builds it"
    make_certificates
    write_settings "$1"
    setsid "$kontikid" --config "$folder/kontiki.yaml" >>"$folder/kontikid.log" 2>&1 </dev/null &
    printf '%s\n' "$!" >"$folder/kontikid.pid"
    disown
}

# Waits until the nodes named serve and agree on a leader.
wait_nodes() { # node...
    local node list=
    for node in "$@"; do
        list+=${list:+,}$(http_address "$node")
    done
    if ! "$kontiki" --admin-endpoint "$list" --timeout-ms $((WAIT_SECONDS * 1000)) cluster wait >/dev/null; then
        for node in "$@"; do
            say "--- end of $(node_folder "$node")/kontikid.log"
            tail -n 15 "$(node_folder "$node")/kontikid.log"
        done
        fail "node $* did not serve within $WAIT_SECONDS s"
    fi
}

wait_gone() { # node pid
    local tenths
    for ((tenths = 0; tenths < WAIT_SECONDS * 10; tenths++)); do
        [ -e "/proc/$2" ] || break
        sleep 0.1
    done
    [ ! -e "/proc/$2" ] || fail "node $1 (process $2) did not end within $WAIT_SECONDS s"
    rm -f "$(node_folder "$1")/kontikid.pid"
}

stop_node() { # node [signal]
    local pid
    pid=$(node_pid "$1") || return 0
    kill "-${2:-TERM}" "$pid"
    wait_gone "$1" "$pid"
}

now_ms() {
    printf '%s' $(($(date +%s%N) / 1000000))
}

print_how_to_connect() {
    cat <<END

The cluster serves; any node takes any request.
    state machines   $(all_addresses rcp_address)
    keys             $(all_addresses kv_address)
    HTTP             $(all_addresses http_address)   (/status /metrics /readyz /healthz)
    data and logs    $local_folder/node{1,2,3}/
    certificates     $(certificate_folder)/   (between the nodes: mutual TLS 1.3)
Try:
    export KONTIKI_ENDPOINTS=$(all_addresses rcp_address)
    $kontiki cluster status
    $kontiki kv set greeting hello && $kontiki kv get greeting
    $kontiki --help
    deploy/local/kill-leader    deploy/local/start N    deploy/local/stop N [--kill]
    deploy/local/status         deploy/local/down [--wipe]
END
}

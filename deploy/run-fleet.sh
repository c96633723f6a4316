#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make fleet: three nodes on this machine that share one data folder (placement any), Redis between them and HAProxy in front, in the foreground.
# State is kept in build/fleet (make clean forgets it). The balancer's ports: PENFOLD_POP3_PORT (1110), PENFOLD_IMAP_PORT (1143), PENFOLD_LMTP_PORT
# (1024); the nodes' own are the twelve from PENFOLD_FLEET_PORT (2000) + 4 on.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${PENFOLD:-build/penfold}
FLEET=${PENFOLD_FLEET:-build/fleet}
POP3=${PENFOLD_POP3_PORT:-1110}
IMAP=${PENFOLD_IMAP_PORT:-1143}
LMTP=${PENFOLD_LMTP_PORT:-1024}
BASE=${PENFOLD_FLEET_PORT:-2000}
HAPROXY=$(command -v haproxy || echo /usr/sbin/haproxy)
for tool in redis-server "$HAPROXY"; do
	command -v "$tool" >/dev/null || { echo "$tool is needed: deploy/install-deps.sh redis-server haproxy" >&2; exit 1; }
done
mkdir -p "$FLEET"
FLEET=$(cd "$FLEET" && pwd)

port() { echo $((BASE + 4 * $1 + $2)); } # NODE, 0 pop3 1 imap 2 lmtp 3 http
for n in 1 2 3; do
	cat >"$FLEET/n$n.yaml" <<YAML
data: $FLEET/data
node: n$n
placement: any
# an empty Redis is waited for so long before anything is taken: in earnest keep the default, 15 s
redis: { address: "unix:$FLEET/redis.sock", ttl_ms: 3000, renew_ms: 500, margin_ms: 500 }
default_domain: demo.example
hostname: mail.demo.example
shards: 1
listeners:
  - { protocol: pop3, address: "127.0.0.1:$(port $n 0)", proxy_protocol: required }
  - { protocol: imap, address: "127.0.0.1:$(port $n 1)", proxy_protocol: required }
  - { protocol: lmtp, address: "127.0.0.1:$(port $n 2)", proxy_protocol: required }
http: { address: "127.0.0.1:$(port $n 3)" }
limits: { exempt: ["127.0.0.0/8"] }
YAML
done
{
	cat <<CFG
defaults
    mode tcp
    timeout connect 5s
    timeout client 35m
    timeout server 35m
    option httpchk
    http-check send meth GET uri /readyz
    http-check expect status 200
    default-server check inter 500ms fall 2 rise 1 send-proxy-v2
CFG
	i=0
	for way in "pop3 $POP3" "imap $IMAP" "lmtp $LMTP"; do
		printf '\nlisten %s\n    bind 127.0.0.1:%s\n    balance roundrobin\n' ${way% *} ${way#* }
		for n in 1 2 3; do echo "    server n$n 127.0.0.1:$(port $n $i) port $(port $n 3)"; done
		i=$((i + 1))
	done
} >"$FLEET/haproxy.cfg"

pf() { "$BIN" --config "$FLEET/n1.yaml" "$@"; }
if [ ! -e "$FLEET/data/directory.db" ]; then
	pf tenant add demo >/dev/null
	pf domain add demo.example --tenant demo >/dev/null
	echo 'ann secret' | pf account add ann@demo.example --password-stdin >/dev/null
	echo 'bob secret' | pf account add bob@demo.example --password-stdin >/dev/null
fi

# Each in a session of its own: Ctrl-C is for this script, which ends them in order.
children=()
finish() { # the nodes first: they let their accounts go in Redis
	trap - INT TERM EXIT
	for ((i = ${#children[@]} - 1; i >= 0; i--)); do
		kill -TERM "${children[i]}" 2>/dev/null || :
		wait "${children[i]}" 2>/dev/null || :
	done
}
trap finish EXIT
trap 'exit 0' INT TERM
setsid redis-server --port 0 --unixsocket "$FLEET/redis.sock" --save '' --appendonly no --maxmemory-policy noeviction --dir "$FLEET" --loglevel warning >"$FLEET/redis.log" 2>&1 &
children+=($!)
for _ in $(seq 100); do [ -S "$FLEET/redis.sock" ] && break; sleep 0.1; done
setsid "$HAPROXY" -db -f "$FLEET/haproxy.cfg" >"$FLEET/haproxy.log" 2>&1 &
children+=($!)
for n in 1 2 3; do
	setsid "$BIN" --config "$FLEET/n$n.yaml" serve 2>"$FLEET/n$n.log" &
	children+=($!)
done
# A login through the balancer: then nodes, directory and Redis are there, and accounts can be taken.
logs_in() {
	local line word
	{ exec 3<>"/dev/tcp/127.0.0.1/$POP3"; } 2>/dev/null || return 1
	for word in '' 'USER ann' 'PASS ann secret' QUIT; do
		[ -z "$word" ] || printf '%s\r\n' "$word" >&3 2>/dev/null || break
		IFS= read -r -t 5 line <&3 || line=
		[ "${line#+OK}" != "$line" ] || break
	done
	exec 3>&-
	[ "$word" = QUIT ]
}
ready=0
for _ in $(seq 200); do
	jobs -rp | grep -qx "${children[1]}" || break
	logs_in && { ready=1; break; }
	sleep 0.2
done
if [ $ready = 0 ]; then
	echo "The fleet did not start. $FLEET/*.log say why:" >&2
	tail -n 2 "$FLEET"/*.log >&2
	exit 1
fi

cat <<TEXT

Three nodes (n1, n2, n3) are running behind HAProxy. POP3 on 127.0.0.1:$POP3, IMAP on 127.0.0.1:$IMAP, LMTP on 127.0.0.1:$LMTP. Ctrl-C stops all.

  deliver one by LMTP     swaks --protocol LMTP --server 127.0.0.1:$LMTP --to ann@demo.example
  read mail by POP3       curl -s -u 'ann@demo.example:ann secret' pop3://127.0.0.1:$POP3/
  who is on a node        $BIN --config $FLEET/n1.yaml who
  empty one, bring back   $BIN --config $FLEET/n2.yaml drain; $BIN --config $FLEET/n2.yaml undrain
  what they say           tail -f $FLEET/n?.log

TEXT
wait -n "${children[@]}" || :
echo "A part of the fleet has ended; $FLEET/*.log say why." >&2
exit 1

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make run: a server in the foreground with tenant demo, domain demo.example, two accounts and some delivered mail.
# State is kept in build/demo (make clean forgets it). Ports: PENFOLD_POP3_PORT (1110), PENFOLD_IMAP_PORT (1143),
# PENFOLD_LMTP_PORT (1024).
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${PENFOLD:-build/penfold}
DEMO=${PENFOLD_DEMO:-build/demo}
POP3=${PENFOLD_POP3_PORT:-1110}
IMAP=${PENFOLD_IMAP_PORT:-1143}
LMTP=${PENFOLD_LMTP_PORT:-1024}
mkdir -p "$DEMO"
cat >"$DEMO/penfold.yaml" <<YAML
data: $PWD/$DEMO/data
default_domain: demo.example
hostname: mail.demo.example
listeners:
  - { protocol: pop3, address: "127.0.0.1:$POP3" }
  - { protocol: imap, address: "127.0.0.1:$IMAP" }
  - { protocol: lmtp, address: "127.0.0.1:$LMTP" }
limits: { exempt: ["127.0.0.0/8"] }
YAML
pf() { "$BIN" --config "$DEMO/penfold.yaml" "$@"; }

pf config check >/dev/null
first=0
if [ ! -e "$DEMO/data/directory.db" ]; then
  first=1
  pf tenant add demo >/dev/null
  pf domain add demo.example --tenant demo >/dev/null
  echo 'ann secret' | pf account add ann@demo.example --password-stdin >/dev/null
  echo 'bob secret' | pf account add bob@demo.example --password-stdin >/dev/null
fi

pf serve &
SERVER=$!
trap 'kill -TERM $SERVER 2>/dev/null || true' INT TERM
ready=0
for _ in $(seq 100); do
  kill -0 $SERVER 2>/dev/null || break
  if { exec 3<>"/dev/tcp/127.0.0.1/$LMTP"; } 2>/dev/null; then ready=1; exec 3>&-; break; fi
  sleep 0.1
done
if [ $ready = 0 ]; then
  echo "The server did not start; the lines above say why. Is port $POP3, $IMAP or $LMTP in use? (PENFOLD_POP3_PORT, PENFOLD_IMAP_PORT, PENFOLD_LMTP_PORT)" >&2
  wait $SERVER; exit 1
fi

# One message by LMTP, spoken in plain bash: every step waits for its reply.
deliver() { # recipient subject
  exec 3<>"/dev/tcp/127.0.0.1/$LMTP"
  expect() { local line; while IFS= read -r -t 10 line <&3; do case $line in [45]*) echo "LMTP: $line" >&2; return 1;; [23]??" "*) return 0;; esac; done; return 1; }
  say() { printf '%s\r\n' "$@" >&3; }
  expect; say "LHLO demo"; expect
  say "MAIL FROM:<welcome@penfold.example>"; expect
  say "RCPT TO:<$1>"; expect
  say "DATA"; expect
  say "From: Penfold <welcome@penfold.example>" "To: $1" "Subject: $2" "Date: $(LC_ALL=C date -R)" \
      "Message-ID: <$RANDOM.$$.$(date +%s)@penfold.example>" "" "$2." "" "Delivered by LMTP, stored for good, waiting for POP3 and IMAP." "."
  expect; say "QUIT"; expect; exec 3>&-
}
if [ $first = 1 ]; then
  for n in 1 2 3; do deliver ann@demo.example "Welcome, message $n"; done
  deliver bob@demo.example "Welcome, Bob"
fi

cat <<TEXT

Penfold is running. POP3 on 127.0.0.1:$POP3, IMAP on 127.0.0.1:$IMAP, LMTP on 127.0.0.1:$LMTP. Ctrl-C stops it.

  read mail by POP3       curl -s -u 'ann@demo.example:ann secret' pop3://127.0.0.1:$POP3/        (list)
                          curl -s -u 'ann@demo.example:ann secret' pop3://127.0.0.1:$POP3/1       (message 1)
  talk POP3 by hand       nc -C 127.0.0.1 $POP3     then: USER bob@demo.example / PASS bob secret / STAT / RETR 1 / QUIT
  deliver one by LMTP     swaks --protocol LMTP --server 127.0.0.1:$LMTP --to ann@demo.example
  a new account           echo 'a password' | $BIN --config $DEMO/penfold.yaml account add eve@demo.example --password-stdin
  look inside             $BIN --config $DEMO/penfold.yaml stats
  read mail by IMAP       curl -s -u 'ann@demo.example:ann secret' "imap://127.0.0.1:$IMAP/INBOX;MAILINDEX=1"
  talk IMAP by hand       nc -C 127.0.0.1 $IMAP     then: a LOGIN bob@demo.example "bob secret" / b SELECT INBOX / c FETCH 1 (FLAGS ENVELOPE) / d IDLE

TEXT
wait $SERVER || status=$?
exit ${status:-0}

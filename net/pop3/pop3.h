/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3.h - POP3: RFC 1939 with all its optional commands, 2449 (CAPA, response codes), 3206 (AUTH, SYS), 5034 (AUTH) and
 * 6856 (UTF8, LANG).
 *
 * Beside them what a provider's older clients use: SDPS's *ENV on logins to an SDPS host, XTND XLST and XTND XMIT where a tenant allows them.
 *
 * For net/server, which names pop3_proto in a listener.  A session sees INBOX as it was at login (view_open), holds the
 * maildrop alone (invariant 5), and deletes only by QUIT, whose +OK comes after the store has made the deletion durable
 * (invariant 1).  What is sent is what is stored: sizes are exact, messages leave as file ranges.
 *
 * What follows from RFC 6856: a message that came in as SMTPUTF8 and has bytes above 127 in its header is refused with
 * -ERR [UTF8] until the client has said UTF8 (section 2.1 of the RFC leaves the choice between that and a surrogate, whose
 * size LIST could not tell).  Other messages leave as they came, 8-bit or not: they belong to the mail of before that RFC.
 */
#ifndef PENFOLD_NET_POP3_POP3_H
#define PENFOLD_NET_POP3_POP3_H

#include "net/relay.h"
#include "net/session.h"

/* XTND XMIT, for tenants that allow it. */
struct pop3_xmit_config {
	struct relay relay;           /* address.len 0: nothing can be sent from here */
	uint64_t message_bytes_max;
	uint32_t rcpts_max;           /* of a message */
	uint32_t rcpts_per_hour_max;  /* of an account */
};

struct pop3_config {
	const char *host_name;      /* in the greeting and APOP's timestamp */
	const char *implementation; /* CAPA IMPLEMENTATION, one word: "Penfold-0.1" */
	const char *language;       /* what LANG * chooses; a tag that LANG lists */
	uint32_t login_idle_ms_max; /* before login */
	uint32_t idle_ms_max;       /* auto-logout; RFC 1939 wants 10 minutes at least */
	uint32_t auth_tries_max;    /* wrong passwords in one connection, then it is closed */
	uint32_t bad_commands_max;  /* senseless lines in a row, then it is closed */
	uint32_t expire_day_s;      /* a day of EXPIRE: 86,400; less to try it out */
	struct pop3_xmit_config xmit;
};
void pop3_config_default(struct pop3_config *config_out);
/* Copies; strings are kept by pointer.  Before the shards start. */
void pop3_configure(const struct pop3_config *config);

extern const struct proto pop3_proto;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h - what a directory answers: counted, immutable facts about an account, a domain or an SDPS host.
 *
 * Private to this room.  A back end makes them, the cache keeps them, login.c reads them, and the `struct subject` that
 * protocols hold is the face of a record.  All strings lie in the same allocation; the last fact_unref frees it, on any
 * thread.  Stored passwords are wiped when they go.
 */
#ifndef PENFOLD_TENANCY_RECORD_H
#define PENFOLD_TENANCY_RECORD_H

#include "core/base/rc.h"
#include "core/base/limits.h"
#include "tenancy/directory.h"

enum fact_kind { FACT_DOMAIN, FACT_ACCOUNT, FACT_HOST };

struct fact {
	struct rc rc;
	uint8_t kind;
	uint32_t bytes; /* of the allocation */
};
struct fact *fact_ref(struct fact *fact);
void fact_unref(struct fact *fact); /* NULL is harmless */

/* What is known of a password beside its hash. */
struct credential {
	uint64_t id;       /* 0: its directory gives none */
	uint8_t protocols; /* bits 1 << enum auth_protocol for which it is good */
	bool app;          /* an application password: a long random secret, kept by a fast hash */
};
#define CREDENTIAL_ALL_PROTOCOLS 7

/* Whom an account may act for, see auth.h. The numbers are those of the table. */
enum master { MASTER_NONE, MASTER_TENANT, MASTER_SERVER };

/* An account with its passwords, "{SCHEME}hash" each. */
struct record {
	struct fact fact;
	struct subject subject;
	enum master master;
	const struct credential *credentials; /* of each password */
	uint32_t passwords_count;
	struct slice passwords[];
};
struct record *record_new(const struct subject *subject, const struct slice *passwords, uint32_t count);
/* The same; credentials may be NULL: passwords for everything. */
struct record *record_new_with(const struct subject *subject, enum master master, const struct slice *passwords, const struct credential *credentials,
			       uint32_t count);
/* The same account as one user of a host's maildrop sees it. It cannot log in again: it has no passwords. */
struct record *record_for_user(const struct record *record, struct slice user);
static inline struct record *record_of(struct subject *subject) { return CONTAINER_OF(subject, struct record, subject); }

/* A served domain. */
struct domain_facts {
	struct fact fact;
	struct slice name;     /* canonical: of an alias, the domain it stands for */
	uint64_t tenant_id;
	char subaddress_separator; /* 0 = off */
	bool plaintext_login;  /* false: its tenant lets nobody log in without TLS */
	bool plain_passwords;  /* its tenant keeps reversible secrets */
	enum sdps_mode sdps;   /* the domain is an SDPS host's */
	/* guard.h, of its tenant: the longest delay behind failed logins, and networks from which there is none, as text with blanks between them */
	bool has_guess_delay;
	uint32_t guess_delay_max_s;
	struct slice trusted_networks;
	/* A stored password of some account here, or empty: what an unknown name is checked against, so that it costs what its
	 * neighbours cost (invariant 11). */
	struct slice sample;
};
struct domain_facts *domain_facts_new(const struct domain_facts *facts);

/* A host by its short or full name. */
struct host_facts {
	struct fact fact;
	struct slice domain; /* canonical */
	enum sdps_mode sdps;
};
struct host_facts *host_facts_new(const struct host_facts *facts);

#endif

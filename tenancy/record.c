/* SPDX-License-Identifier: Apache-2.0 */
/* record.c - facts in one allocation each. */
#include "tenancy/record.h"

#include <stdlib.h>

struct fact *fact_ref(struct fact *fact)
{
	rc_get(&fact->rc);
	return fact;
}

void fact_unref(struct fact *fact)
{
	if (!fact || !rc_put(&fact->rc))
		return;
	explicit_bzero(fact, fact->bytes); /* stored passwords */
	free(fact);
}

static void *fact_alloc(enum fact_kind kind, size_t bytes)
{
	ASSERT(bytes <= UINT32_MAX);
	struct fact *fact = xcalloc(1, bytes);
	rc_init(&fact->rc);
	fact->kind = (uint8_t)kind;
	fact->bytes = (uint32_t)bytes;
	return fact;
}

/* Copies a string behind the struct. */
static struct slice put(char **at_io, struct slice s)
{
	struct slice copy = slice_of(*at_io, s.len);
	if (s.len)
		memcpy(*at_io, s.ptr, s.len);
	*at_io += s.len;
	return copy;
}

struct record *record_new(const struct subject *subject, const struct slice *passwords, uint32_t count)
{
	return record_new_with(subject, MASTER_NONE, passwords, NULL, count);
}

struct record *record_new_with(const struct subject *subject, enum master master, const struct slice *passwords, const struct credential *credentials,
			       uint32_t count)
{
	ASSERT(count <= CREDENTIALS_PER_ACCOUNT_MAX);
	size_t slices = sizeof(struct record) + count * sizeof(struct slice), head = slices + count * sizeof(struct credential);
	size_t bytes = head + subject->name.len + subject->tenant.len + subject->sdps_user.len;
	for (uint32_t i = 0; i < count; i++)
		bytes += passwords[i].len;
	struct record *record = fact_alloc(FACT_ACCOUNT, bytes);
	char *at = (char *)record + head;
	record->subject = *subject;
	record->subject.name = put(&at, subject->name);
	record->subject.tenant = put(&at, subject->tenant);
	record->subject.sdps_user = put(&at, subject->sdps_user);
	struct credential *kept = (struct credential *)((char *)record + slices);
	for (uint32_t i = 0; i < count; i++)
		kept[i] = credentials ? credentials[i] : (struct credential){ .protocols = CREDENTIAL_ALL_PROTOCOLS };
	record->credentials = kept;
	record->master = master;
	record->passwords_count = count;
	for (uint32_t i = 0; i < count; i++)
		record->passwords[i] = put(&at, passwords[i]);
	return record;
}

struct record *record_for_user(const struct record *record, struct slice user)
{
	struct subject subject = record->subject;
	char name[LOGIN_BYTES_MAX + NAME_BYTES_MAX];
	ASSERT(subject.maildrop && user.len && user.len <= LOGIN_BYTES_MAX && subject.name.len <= NAME_BYTES_MAX);
	memcpy(name, user.ptr, user.len);
	memcpy(name + user.len, subject.name.ptr, subject.name.len); /* "@host" */
	subject.name = slice_of(name, user.len + subject.name.len);
	subject.sdps_user = user;
	return record_new(&subject, NULL, 0);
}

struct domain_facts *domain_facts_new(const struct domain_facts *facts)
{
	struct domain_facts *d = fact_alloc(FACT_DOMAIN, sizeof(*d) + facts->name.len + facts->sample.len + facts->trusted_networks.len);
	struct fact fact = d->fact;
	char *at = (char *)(d + 1);
	*d = *facts;
	d->fact = fact;
	d->name = put(&at, facts->name);
	d->sample = put(&at, facts->sample);
	d->trusted_networks = put(&at, facts->trusted_networks);
	return d;
}

struct host_facts *host_facts_new(const struct host_facts *facts)
{
	struct host_facts *h = fact_alloc(FACT_HOST, sizeof(*h) + facts->domain.len);
	struct fact fact = h->fact;
	char *at = (char *)(h + 1);
	*h = *facts;
	h->fact = fact;
	h->domain = put(&at, facts->domain);
	return h;
}

struct subject *subject_ref(struct subject *subject)
{
	fact_ref(&record_of(subject)->fact);
	return subject;
}

void subject_unref(struct subject *subject)
{
	if (subject)
		fact_unref(&record_of(subject)->fact);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sasl_fuzz.c - any messages in any SASL exchange.
 *
 * The first byte chooses the mechanism and whether there is a channel binding; the rest is messages, cut at line feeds, each
 * given as it is (as base64 would be) or, behind a '!', encoded first.  Checked: nothing crashes or leaks, an exchange that
 * is over has a reason or a subject, a challenge is base64 of at most what a line may hold, and a bound exchange never ends well with
 * these proofs.
 */
#include "tests/unit/support/fake_house.h"

#include "core/base/log.h"
#include "net/sasl_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum sasl_outcome step(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice line, bool initial)
{
	struct slice challenge = slice_of(NULL, 0), text = line, back;
	struct subject *subject;
	enum err why;
	if (line.len && line.ptr[0] == '!' && !sasl_encode(command, slice_from(line, 1), &text))
		return SASL_FAILED;
	enum sasl_outcome o = sasl_step(x, peer, command, text, initial, &challenge, &subject, &why);
	ASSERT((o == SASL_DONE) == (subject != NULL));
	if (o == SASL_PASSWORD)
		ASSERT((x->mechanism == SASL_PLAIN || x->mechanism == SASL_LOGIN) && sasl_login(x).len);
	ASSERT(o != SASL_FAILED || (why != OK && why != ERR_AGAIN));
	if (o == SASL_CONTINUE)
		ASSERT(challenge.len < 2 * SASL_MESSAGE_BYTES_MAX && (challenge.len > SASL_MESSAGE_BYTES_MAX || sasl_decode(command, challenge, &back)));
	if (o == SASL_DONE) {
		ASSERT(x->mechanism >= SASL_OAUTHBEARER);
		subject_unref(subject);
	}
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena session, command;
	struct slice rest = slice_of(data, size), line, challenge;
	struct sasl_peer peer = { .protocol = AUTH_POP3, .address = SLICE_LIT("192.0.2.1") };
	log_set_level(LOG_ALARM);
	if (size < 2)
		return 0;
	fake_begin();
	arena_init(&session, NET_SESSION_ARENA_BYTES_MAX);
	arena_init(&command, NET_COMMAND_ARENA_BYTES_MAX);
	peer.bindings[data[1] % SASL_BINDING_COUNT].len = data[0] & 0x80 ? 32 : 0;
	if (data[0] & 0x20)
		peer.certificate = SLICE_LIT("ann@demo.example");
	struct sasl *x = sasl_begin(&session, (enum sasl_mechanism)(data[0] % SASL_MECHANISM_COUNT));
	bool initial = data[0] & 0x40;
	if (!initial)
		ASSERT(sasl_first(x, &command, &challenge) == OK);
	rest = slice_from(rest, 1);
	enum sasl_outcome o = SASL_CONTINUE;
	for (; o == SASL_CONTINUE && slice_next(&rest, '\n', &line); initial = false)
		o = step(x, &peer, &command, line, initial);
	sasl_end(x);
	arena_release(&session);
	arena_release(&command);
	fake_end();
	return 0;
}

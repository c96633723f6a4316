/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_junk.c - mail that a spam filter beside the MTA has marked goes to the folder whose special use is \Junk (RFC 6154).
 *
 * What counts is one header field (lmtp.junk_header, "X-Spam: Yes"); the MTA takes it out of what strangers send.  Nothing here refuses or
 * loses mail: whatever stands in the way of that folder, INBOX takes it.
 */
#include "net/lmtp/lmtp_private.h"

#include "storage/folder.h"

#define JUNK SLICE_LIT("Junk")

/* The value begins with the wanted words, and they end there: "Yes" is in "Yes, score=7.1", not in "Yesterday". */
static bool value_matches(struct slice value, struct slice wanted)
{
	while (value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t' || value.ptr[0] == '\r' || value.ptr[0] == '\n'))
		value = slice_from(value, 1);
	if (!slice_starts_nocase(value, wanted))
		return false;
	char next = value.len > wanted.len ? value.ptr[wanted.len] : ' ';
	bool word = (next >= '0' && next <= '9') || ((next | 0x20) >= 'a' && (next | 0x20) <= 'z');
	return !wanted.len || !word;
}

bool lmtp_marked(struct slice header)
{
	struct slice field, name = slice_str(lmtp_settings.junk_name ? lmtp_settings.junk_name : "");
	struct slice wanted = slice_str(lmtp_settings.junk_value ? lmtp_settings.junk_value : "");
	if (!name.len)
		return false;
	while (lmtp_next_field(&header, &field)) {
		size_t colon = slice_find(field, ':');
		if (colon == name.len && slice_starts_nocase(field, name) && value_matches(slice_from(field, colon + 1), wanted))
			return true;
	}
	return false;
}

/* The folder with that use, else the one of that name; 0: neither. */
static uint32_t find(struct account *account)
{
	struct folder_info info;
	uint32_t cursor = 0, named = 0;
	while (folder_next(account, &cursor, &info)) {
		if (info.noselect || info.id == FOLDER_INBOX)
			continue;
		if (info.special_use == FOLDER_USE_JUNK)
			return info.id;
		if (slice_eq(info.name, JUNK))
			named = info.id;
	}
	return named;
}

uint32_t lmtp_junk_folder(struct account *account)
{
	uint32_t folder = find(account);
	if (folder)
		return folder;
	enum err e = folder_create(account, JUNK, FOLDER_USE_JUNK, &folder);
	if (e == OK) /* clients that show only what is subscribed */
		(void)folder_subscribe(account, JUNK, true);
	else if (e == ERR_EXISTS) /* another delivery was faster */
		folder = find(account);
	return e == OK || folder ? folder : FOLDER_INBOX;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* handed.c - see handed.h. */
#include "tenancy/handed.h"

#include "tenancy/record.h"

enum { HANDED_VERSION = 1, FIXED_BYTES = 1 + 4 + 4 * 8 + 4 * 4 + 8 + 3 };
enum { FLAG_SUSPENDED = 1, FLAG_POP3 = 2, FLAG_IMAP = 4, FLAG_LMTP = 8, FLAG_PERMANENT = 16, FLAG_APOP = 32, FLAG_MAILDROP = 64, FLAG_TRASH = 128,
       FLAG_JUNK = 256, FLAGS_ALL = 511 };

static uint32_t flags_of(const struct subject *s)
{
	return (s->suspended ? FLAG_SUSPENDED : 0) | (s->pop3 ? FLAG_POP3 : 0) | (s->imap ? FLAG_IMAP : 0) | (s->lmtp ? FLAG_LMTP : 0) |
	       (s->over_quota == OVER_QUOTA_PERMANENT ? FLAG_PERMANENT : 0) | (s->apop ? FLAG_APOP : 0) | (s->maildrop ? FLAG_MAILDROP : 0) |
	       (s->delete_to_trash ? FLAG_TRASH : 0) | (s->junk ? FLAG_JUNK : 0);
}

size_t subject_pack(const struct subject *s, char *to, size_t room)
{
	const struct slice texts[] = { s->name, s->tenant, s->sdps_user };
	size_t need = FIXED_BYTES;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (texts[i].len > UINT16_MAX)
			return 0;
		need += 2 + texts[i].len;
	}
	if (need > room)
		return 0;
	char *p = to;
	*p++ = HANDED_VERSION;
	put_le32(p, flags_of(s));
	p += 4;
	const uint64_t wide[] = { s->account_id, s->tenant_id, s->quota_bytes, s->quota_messages };
	for (size_t i = 0; i < ARRAY_LEN(wide); i++, p += 8)
		put_le64(p, wide[i]);
	const uint32_t words[] = { s->login_delay_s, (uint32_t)s->expire_days, s->sessions_max, s->tenant_sessions_max };
	for (size_t i = 0; i < ARRAY_LEN(words); i++, p += 4)
		put_le32(p, words[i]);
	put_le64(p, s->credential_version);
	p += 8;
	*p++ = (char)s->xtnd;
	*p++ = s->subaddress_separator;
	*p++ = (char)s->sdps;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		put_le16(p, (uint16_t)texts[i].len);
		if (texts[i].len)
			memcpy(p + 2, texts[i].ptr, texts[i].len);
		p += 2 + texts[i].len;
	}
	return need;
}

static void read_fixed(const char *p, struct subject *s)
{
	uint32_t flags = get_le32(p + 1);
	*s = (struct subject){
		.suspended = flags & FLAG_SUSPENDED, .pop3 = flags & FLAG_POP3, .imap = flags & FLAG_IMAP, .lmtp = flags & FLAG_LMTP,
		.over_quota = flags & FLAG_PERMANENT ? OVER_QUOTA_PERMANENT : OVER_QUOTA_TEMPORARY, .apop = flags & FLAG_APOP,
		.maildrop = flags & FLAG_MAILDROP, .delete_to_trash = flags & FLAG_TRASH, .junk = flags & FLAG_JUNK,
		.account_id = get_le64(p + 5), .tenant_id = get_le64(p + 13), .quota_bytes = get_le64(p + 21), .quota_messages = get_le64(p + 29),
		.login_delay_s = get_le32(p + 37), .expire_days = (int32_t)get_le32(p + 41), .sessions_max = get_le32(p + 45),
		.tenant_sessions_max = get_le32(p + 49), .credential_version = get_le64(p + 53),
		.xtnd = (uint8_t)p[61], .subaddress_separator = p[62], .sdps = (enum sdps_mode)(uint8_t)p[63],
	};
}

static bool read_text(struct slice *rest, struct slice *text_out)
{
	size_t len = rest->len >= 2 ? get_le16(rest->ptr) : SIZE_MAX;
	if (rest->len < 2 || rest->len - 2 < len)
		return false;
	*text_out = slice_of(rest->ptr + 2, len);
	*rest = slice_from(*rest, 2 + len);
	return true;
}

enum err subject_unpack(struct slice bytes, struct subject **subject_out)
{
	struct subject s;
	static_assert_c(FIXED_BYTES == 64, "read_fixed");
	*subject_out = NULL;
	if (bytes.len < FIXED_BYTES || bytes.ptr[0] != HANDED_VERSION || get_le32(bytes.ptr + 1) & ~(uint32_t)FLAGS_ALL)
		return ERR_SYNTAX;
	read_fixed(bytes.ptr, &s);
	struct slice rest = slice_from(bytes, FIXED_BYTES);
	if (!s.account_id || s.sdps > SDPS_MAILDROP || !read_text(&rest, &s.name) || !read_text(&rest, &s.tenant) || !read_text(&rest, &s.sdps_user) || rest.len)
		return ERR_SYNTAX;
	*subject_out = &record_new(&s, NULL, 0)->subject;
	return OK;
}

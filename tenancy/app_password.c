/* SPDX-License-Identifier: Apache-2.0 */
/* app_password.c - making and keeping them. */
#include "tenancy/app_password.h"

#include "tenancy/password.h"

#include <sys/random.h>

enum err app_password_make(char out[APP_SECRET_TEXT_BYTES])
{
	static const char digits[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* without what people confuse: l o 0 1 */
	static_assert_c(sizeof(digits) == 33, "five bits a letter");
	unsigned char random[APP_SECRET_BYTES];
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return ERR_IO;
	size_t len = 0;
	for (size_t i = 0; i < sizeof(random); i++) {
		if (i && i % 6 == 0)
			out[len++] = '-';
		out[len++] = digits[random[i] & 31];
	}
	out[len] = 0;
	explicit_bzero(random, sizeof(random));
	return OK;
}

enum err app_password_store(struct slice secret, char stored_out[STORED_PASSWORD_BYTES_MAX])
{
	if (secret.len < APP_SECRET_BYTES_MIN)
		return ERR_SYNTAX;
	return password_make("SSHA256", secret, stored_out) ? ERR_SYNTAX : OK;
}

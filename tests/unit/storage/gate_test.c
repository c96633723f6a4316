/* SPDX-License-Identifier: Apache-2.0 */
/* Two processes on one folder: the other one is an open file of its own, which is all that the kernel goes by. */
#include "tests/unit/storage/store_help.h"

#include "core/run/claim.h"
#include "storage/gate.h"

#include <errno.h>
#include <unistd.h>

#define ID 7u

/* A process has one data folder in its life. */
static const char *one_folder(void)
{
	static char name[256];
	if (!name[0])
		strcpy(name, test_folder());
	return name;
}

static int other_open(const char *folder)
{
	char path[512];
	sprintf(path, "%s/upgrade.lock", folder);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

FIBER_TEST(what_is_in_memory_is_claimed_until_it_is_let_go)
{
	const char *folder = one_folder();
	help_begin(folder);
	struct account *a = help_open(ID);
	assert_int_equal(help_deliver(a, FOLDER_INBOX, "x\r\n"), 1);
	assert_false(gate_is_open());
	assert_int_equal(gate_open(folder), OK);
	assert_int_equal(gate_open(folder), ERR_IN_USE);
	assert_int_equal(gate_claim_here(), OK);
	int other = other_open(folder);
	assert_int_equal(claim_take(other, ID), -EAGAIN);
	/* a session holds it: leaving does not take it away */
	gate_leave_here();
	assert_int_equal(gate_accounts_here(), 1);
	assert_int_equal(claim_take(other, ID), -EAGAIN);
	account_close(a);
	while (gate_accounts_here()) /* a keeper seals it */
		fiber_sleep(1);
	assert_int_equal(claim_take(other, ID), 0);
	close(other);
	gate_close();
	help_end();
}

static int giver_fd;
static void giver(void *arg)
{
	(void)arg;
	fiber_sleep(50);
	claim_give(giver_fd, ID);
}

static enum err destroyed = OK;
static void destroyer(void *arg)
{
	(void)arg;
	destroyed = account_destroy(ID + 2);
}

FIBER_TEST(what_the_other_has_is_waited_for_then_refused)
{
	const char *folder = one_folder();
	struct account *a;
	help_begin(folder);
	assert_int_equal(gate_open(folder), OK);
	giver_fd = other_open(folder);
	assert_int_equal(claim_take(giver_fd, ID), 0);
	assert_int_equal(fiber_start("giver", giver, NULL), OK);
	a = help_open(ID);
	assert_int_equal(claim_take(giver_fd, ID), -EAGAIN);
	account_close(a);
	assert_int_equal(claim_take(giver_fd, ID + 1), 0);
	assert_int_equal(claim_take(giver_fd, ID + 2), 0);
	assert_int_equal(fiber_start("destroyer", destroyer, NULL), OK);
	assert_int_equal(account_open(ID + 1, &a), ERR_TEMP);
	while (destroyed == OK)
		fiber_sleep(1);
	assert_int_equal(destroyed, ERR_TEMP);
	/* the other has gone, however it did */
	close(giver_fd);
	a = help_open(ID + 1);
	account_close(a);
	gate_close();
	int other = other_open(folder);
	assert_int_equal(claim_take(other, ID), 0);
	assert_int_equal(claim_take(other, ID + 1), 0);
	close(other);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_in_memory_is_claimed_until_it_is_let_go),
		cmocka_unit_test(what_the_other_has_is_waited_for_then_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

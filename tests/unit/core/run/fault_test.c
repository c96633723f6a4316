/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the door makes of a kernel that misbehaves within its rules: short counts, EINTR, EAGAIN, late and duplicate
 * completions must not be seen above; ENOSPC, EIO, ENOMEM must be, once, and a failed sync is never tried again.
 * And completions that overflow a tiny ring are counted, not lost.
 */
#include "tests/unit/support/faults.h"
#include "tests/unit/support/fiber_main.h"

#include "core/base/log.h"
#include "core/run/shard_private.h"
#include "core/run/uring_private.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What misbehaves: every test runs on both. */
static const struct io_backend *inner = &io_backend_uring;

static int on_epoll(void **state)
{
	(void)state;
	inner = &io_backend_epoll;
	return 0;
}

static int on_uring(void **state)
{
	(void)state;
	inner = &io_backend_uring;
	return 0;
}
#define ON_BOTH(test) { #test, test, on_uring, NULL, NULL }, { #test "_on_epoll", test, on_epoll, NULL, NULL }

static void with_faults(void (*body)(void *arg), void *arg)
{
	faults.inner = inner;
	if (!test_backend_works(inner))
		skip();
	struct shard_options o = { .backend = &faults_backend };
	assert_int_equal(shard_run_alone_with(&o, body, arg), OK);
}

static int make_file(void)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/f", test_folder());
	int fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	return fd;
}

/* ---- what must not be seen ---- */

#define BYTES 300000
static char text[BYTES], back[BYTES];

static void fill(void)
{
	for (size_t i = 0; i < BYTES; i++)
		text[i] = (char)(i * 131 >> 3);
}

static void write_and_read(void *arg)
{
	struct iovec v[4] = { { text, 10 }, { text + 10, 0 }, { text + 10, 70000 }, { text + 70010, BYTES - 70010 } };
	int fd = make_file();
	(void)arg;
	for (int i = 0; i < 20; i++) {
		memset(back, 0, BYTES);
		if (i % 2)
			assert_int_equal(file_write(fd, v, 4, 7), 0);
		else
			assert_int_equal(file_commit(fd, v, 4, 7), 0);
		assert_int_equal(file_read(fd, back, BYTES, 7), BYTES);
		assert_memory_equal(text, back, BYTES);
	}
	file_close(fd);
}

static void *collect(void *arg)
{
	size_t have = 0;
	for (ssize_t n; have < BYTES && (n = read(*(int *)arg, back + have, BYTES - have)) > 0;)
		have += (size_t)n;
	return (void *)have;
}

static void send_and_collect(void *arg)
{
	struct iovec v = { text, BYTES };
	int fd = make_file();
	(void)arg;
	assert_int_equal(file_write(fd, &v, 1, 0), 0);
	for (int i = 0; i < 20; i++) {
		int s[2];
		pthread_t thread;
		void *have;
		struct io_op op;
		/* text, small range, large range, text */
		struct io_piece pieces[4] = { { text, 1000, -1, 0 }, { NULL, 40000, fd, 1000 }, { NULL, 200000, fd, 41000 }, { text + 241000, BYTES - 241000, -1, 0 } };
		memset(back, 0, BYTES);
		test_tcp_pair(s);
		assert_int_equal(pthread_create(&thread, NULL, collect, &s[1]), 0);
		io_await_prepare(&op);
		io_send(&op, s[0], pieces, 4);
		assert_int_equal(io_await(&op, 0), BYTES);
		pthread_join(thread, &have);
		assert_int_equal((size_t)have, BYTES);
		assert_memory_equal(text, back, BYTES);
		close(s[1]);
		io_close(s[0]);
	}
	file_close(fd);
}

static void receive_in_order(void *arg)
{
	int s[2];
	size_t have = 0;
	(void)arg;
	test_tcp_pair(s);
	for (int i = 0; i < 2000; i++) {
		struct io_op op;
		size_t n = (size_t)(i * 37 % 100 + 1);
		assert_int_equal(write(s[1], text + have % 1000, n), (ssize_t)n);
		for (size_t got = 0; got < n;) {
			io_await_prepare(&op);
			io_recv_into(&op, s[0], back, n - got);
			int64_t r = io_await(&op, 0);
			assert_true(r > 0);
			assert_memory_equal(back, text + have % 1000 + got, (size_t)r);
			got += (size_t)r;
		}
		have += n;
	}
	close(s[1]);
	io_close(s[0]);
}

static void all_three(void *arg)
{
	write_and_read(arg);
	send_and_collect(arg);
	receive_in_order(arg);
}

static void short_counts_are_finished(void **state)
{
	(void)state;
	fill();
	faults = (struct faults){ .seed = 1, .short_percent = 50 };
	with_faults(all_three, NULL);
	assert_true(faults.shortened > 100);
}

static void interrupted_calls_are_begun_again(void **state)
{
	(void)state;
	fill();
	faults = (struct faults){ .seed = 2, .retry_percent = 40 };
	with_faults(all_three, NULL);
	assert_true(faults.retried > 100);
}

static void stale_is(void *arg)
{
	all_three(NULL);
	*(uint64_t *)arg = shard_current->requests.stale;
}

static void late_and_duplicate_completions_hit_nobody(void **state)
{
	uint64_t stale = 0;
	(void)state;
	fill();
	faults = (struct faults){ .seed = 3, .late_percent = 30, .duplicate_percent = 50 };
	with_faults(stale_is, &stale);
	assert_true(faults.delayed > 100 && faults.duplicated > 100);
	assert_true(stale > 0 && stale <= faults.duplicated); /* the last may still be on its way */
}

static void all_at_once(void **state)
{
	(void)state;
	fill();
	for (uint64_t seed = 10; seed < 20; seed++) {
		faults = (struct faults){ .seed = seed, .short_percent = 20, .retry_percent = 20, .late_percent = 20, .duplicate_percent = 20 };
		with_faults(all_three, NULL);
	}
}

/* ---- what must be seen ---- */

static void plan(enum io_kind kind, unsigned after, int error)
{
	memset(faults.begun, 0, sizeof(faults.begun));
	faults.fail_kind = kind;
	faults.fail_after = after;
	faults.fail_error = error;
}

static void failures(void *arg)
{
	struct iovec v[2] = { { text, 100 }, { text + 100, 200 } };
	int fd = make_file();
	(void)arg;
	plan(IO_WRITE, 0, -ENOSPC);
	assert_int_equal(file_write(fd, v, 2, 0), -ENOSPC);
	assert_int_equal(faults.begun[IO_WRITE], 1);
	/* a clean descriptor: one synced write; its failure is not tried again, nor covered up by another sync */
	assert_int_equal(file_sync(fd), 0);
	plan(IO_WRITE, 0, -EIO);
	assert_int_equal(file_commit(fd, v, 2, 0), -EIO);
	assert_int_equal(faults.begun[IO_WRITE], 1);
	assert_int_equal(faults.begun[IO_SYNC], 0);
	/* a descriptor with unsynced writes: write, then sync of all */
	assert_int_equal(file_write(fd, v, 2, 0), 0);
	plan(IO_SYNC, 0, -EIO);
	assert_int_equal(file_commit(fd, v, 2, 300), -EIO);
	assert_int_equal(faults.begun[IO_WRITE], 1);
	assert_int_equal(faults.begun[IO_SYNC], 1);
	plan(IO_READ, 0, -EIO);
	assert_int_equal(file_read(fd, back, 10, 0), -EIO);
	plan(IO_OPEN, 0, -ENOMEM);
	assert_int_equal(file_open(AT_FDCWD, "/", O_RDONLY, 0), -ENOMEM);
	assert_int_equal(faults.begun[IO_OPEN], 1);
	file_close(fd);
}

static void errors_reach_the_caller_once(void **state)
{
	(void)state;
	faults = (struct faults){ .seed = 4 };
	with_faults(failures, NULL);
}

/* A commit that the disk takes in two parts is made durable by a sync of the whole. */
static void short_commit(void *arg)
{
	struct iovec v = { text, 1000 };
	int fd = make_file();
	(void)arg;
	assert_int_equal(file_sync(fd), 0);
	memset(faults.begun, 0, sizeof(faults.begun));
	faults.short_percent = 100;
	assert_int_equal(file_commit(fd, &v, 1, 0), 0);
	faults.short_percent = 0;
	assert_true(faults.begun[IO_WRITE] >= 2);
	assert_int_equal(faults.begun[IO_SYNC], 1);
	file_close(fd);
}

static void a_short_commit_is_synced_whole(void **state)
{
	(void)state;
	faults = (struct faults){ .seed = 5 };
	with_faults(short_commit, NULL);
}

static void send_failures(void *arg)
{
	struct iovec v = { text, 1000 };
	int fd = make_file(), s[2];
	struct io_op op;
	struct io_piece pieces[2] = { { "+OK\r\n", 5, -1, 0 }, { NULL, 1000, fd, 0 } };
	char buf[8];
	(void)arg;
	assert_int_equal(file_write(fd, &v, 1, 0), 0);
	test_tcp_pair(s);
	plan(IO_READ, 0, -EIO);
	io_await_prepare(&op);
	io_send(&op, s[0], pieces, 2);
	assert_int_equal(io_await(&op, 0), -EIO);
	assert_int_equal(op.progress_bytes, 0);
	plan(IO_SENDMSG, 0, -ENOMEM);
	io_await_prepare(&op);
	io_send(&op, s[0], pieces, 2);
	assert_int_equal(io_await(&op, 0), -ENOMEM);
	plan(IO_SEND, 0, -ENOMEM);
	io_await_prepare(&op);
	io_send(&op, s[0], pieces, 1);
	assert_int_equal(io_await(&op, 0), -ENOMEM);
	plan(IO_RECV_INTO, 0, -ENOMEM);
	io_await_prepare(&op);
	io_recv_into(&op, s[0], buf, sizeof(buf));
	assert_int_equal(io_await(&op, 0), -ENOMEM);
	assert_int_equal(shard_current->sends.open, 0);
	close(s[1]);
	io_close(s[0]);
	file_close(fd);
}

static void failed_sends_say_so(void **state)
{
	(void)state;
	faults = (struct faults){ .seed = 6 };
	with_faults(send_failures, NULL);
}

/* ---- overflow ---- */

static unsigned overflow_done;
static int64_t overflow_sum;
static void overflow_one(struct io_op *op)
{
	overflow_done++;
	overflow_sum += op->result;
}

static void overflow_body(void *arg)
{
	enum { COUNT = 400 };
	struct io_op *op = calloc(COUNT, sizeof(*op));
	int(*fd)[2] = calloc(COUNT, sizeof(*fd));
	(void)arg;
	overflow_done = 0;
	overflow_sum = 0;
	for (int i = 0; i < COUNT; i++) {
		test_tcp_pair(fd[i]);
		io_op_init(&op[i], overflow_one);
		io_recv(&op[i], fd[i][0]);
	}
	fiber_sleep(2);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(write(fd[i][1], "x", 1), 1);
	while (overflow_done < COUNT)
		fiber_sleep(1);
	assert_int_equal(overflow_sum, COUNT);
	struct shard_stats st;
	shard_stats(0, &st);
	assert_true(st.cq_overflows > 0);
	for (int i = 0; i < COUNT; i++) {
		io_close(fd[i][0]);
		close(fd[i][1]);
	}
	free(op);
	free(fd);
}

static void overflowing_completions_are_not_lost(void **state)
{
	struct shard_options o = { .backend = &io_backend_uring, .sq_entries = 4, .cq_entries = 8 };
	(void)state;
	if (!test_backend_works(o.backend))
		skip();
	assert_int_equal(shard_run_alone_with(&o, overflow_body, NULL), OK);
}

/* ---- why there is no ring ---- */

static void says(struct uring_facts f, const char *word)
{
	char why[512];
	f.step = "io_uring_setup";
	f.kernel = f.kernel ? f.kernel : "6.1.0";
	f.kernel_major = f.kernel_major ? f.kernel_major : 6;
	uring_reason(&f, why, sizeof(why));
	assert_non_null(strstr(why, word));
	assert_null(strchr(why, '\n'));
}

static void refusals_are_explained(void **state)
{
	(void)state;
	says((struct uring_facts){ .error = EPERM, .sysctl_disabled = 2 }, "kernel.io_uring_disabled=2");
	says((struct uring_facts){ .error = EPERM, .seccomp_filtered = true }, "seccomp");
	says((struct uring_facts){ .error = ENOSYS, .seccomp_filtered = true }, "seccomp");
	says((struct uring_facts){ .error = ENOMEM, .memlock_bytes = 64 << 10 }, "64 KiB");
	says((struct uring_facts){ .error = ENOSYS, .kernel = "5.10.0", .kernel_major = 5, .kernel_minor = 10 }, "too old");
	says((struct uring_facts){ .error = EINVAL, .kernel = "5.15.0", .kernel_major = 5, .kernel_minor = 15 }, "5.15.0");
	says((struct uring_facts){ .error = EPERM, .sysctl_disabled = -1 }, "security module");
}

/* Real refusals, each in a process of its own: filters as containers have them, and a limit. */
static unsigned warnings, alarms;
static bool named; /* the cause, in a line of the log */
static const char *cause;

static bool count_line(void *arg, enum log_level level, struct slice line)
{
	(void)arg;
	warnings += level == LOG_WARN;
	alarms += level == LOG_ALARM;
	named = named || memmem(line.ptr, line.len, cause, strlen(cause));
	return true;
}

static void refuse_call(int number)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { .len = ARRAY_LEN(f), .filter = f };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		_exit(2);
}

static void ran(void *arg) { *(unsigned *)arg += 1; }
static void serve_a_moment(void *arg)
{
	(void)arg;
	shards_stop();
}

static enum err start_a_moment(void *arg, unsigned index)
{
	(void)index;
	__atomic_add_fetch((unsigned *)arg, 1, __ATOMIC_SEQ_CST);
	return fiber_start("moment", serve_a_moment, NULL);
}

/* In a child where the ring is refused: auto runs on epoll after one warning however often it starts; forced, it does not start. */
static void refused_child(void)
{
	unsigned times = 0;
#ifdef __SANITIZE_THREAD__
	enum { COUNT = 1 }; /* it does not see that a refused ring's memory was unmapped before another thread's lies there */
#else
	enum { COUNT = 3 };
#endif
	struct shards_config shards = { .count = COUNT, .offload_threads = 1, .start = start_a_moment, .arg = &times };
	log_set_sink(count_line, NULL);
	bool good = shard_set_backend("auto") == OK && shards_run(&shards) == OK && times == COUNT;
	good = good && shard_run_alone(ran, &times) == OK && shards_run(&shards) == OK && times == 2 * COUNT + 1;
	good = good && warnings == 1 && alarms == 0 && named && strcmp(shard_backend(), "epoll") == 0;
	good = good && shard_set_backend("io_uring") == OK && shard_run_alone(ran, &times) == ERR_CONFIG && alarms == 1;
	good = good && shards_run(&shards) == ERR_CONFIG && alarms == 2 && times == 2 * COUNT + 1;
	_exit(good ? 42 : 1);
}

static void in_a_child(void (*refuse)(void), const char *word)
{
	int status = 0;
	pid_t child = fork();
	if (child == 0) {
		cause = word;
		refuse();
		refused_child();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void no_setup(void) { refuse_call(SYS_io_uring_setup); }
static void no_enter(void) { refuse_call(SYS_io_uring_enter); }
static void no_register(void) { refuse_call(SYS_io_uring_register); }

static void a_profile_that_forbids_rings_falls_back(void **state)
{
	(void)state;
	in_a_child(no_setup, "seccomp profile (io_uring_setup)");
	in_a_child(no_enter, "seccomp profile (io_uring_enter)");
	in_a_child(no_register, "seccomp profile (io_uring_register");
}

/* As an ordinary user: root's rings are not counted. */
static void no_memory(void)
{
	struct rlimit little = { 4096, 4096 };
	if (setrlimit(RLIMIT_MEMLOCK, &little) || (geteuid() == 0 && (setgid(65534) || setuid(65534))))
		_exit(2);
}

static bool memory_is_counted(void)
{
	int status = 0;
	pid_t child = fork();
	if (child == 0) {
		no_memory();
		_exit(test_backend_works(&io_backend_uring) ? 1 : 0);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void too_little_locked_memory_falls_back(void **state)
{
	(void)state;
	if (!memory_is_counted())
		skip(); /* kernels 5.12 to 6.12 charge rings to the memory cgroup */
	in_a_child(no_memory, "RLIMIT_MEMLOCK is 4 KiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(short_counts_are_finished),
		ON_BOTH(interrupted_calls_are_begun_again),
		ON_BOTH(late_and_duplicate_completions_hit_nobody),
		ON_BOTH(all_at_once),
		ON_BOTH(errors_reach_the_caller_once),
		ON_BOTH(a_short_commit_is_synced_whole),
		ON_BOTH(failed_sends_say_so),
		cmocka_unit_test(overflowing_completions_are_not_lost),
		cmocka_unit_test(refusals_are_explained),
		cmocka_unit_test(a_profile_that_forbids_rings_falls_back),
		cmocka_unit_test(too_little_locked_memory_falls_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* log_ring_test.c - many threads log, one writes: nothing is lost unsaid, nothing is torn, each thread's order holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/limits.h"
#include "core/base/log_ring.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 4
#define EACH 20000

static int woken;
static void count_wakes(void *arg)
{
	assert_ptr_equal(arg, &woken);
	woken++;
}

static size_t read_pipe(int fd, char *out, size_t bytes)
{
	ssize_t n = read(fd, out, bytes - 1);
	out[n < 0 ? 0 : n] = '\0';
	return n < 0 ? 0 : (size_t)n;
}

static void full_and_empty(void **state)
{
	(void)state;
	int fds[2];
	char text[4096];
	assert_int_equal(pipe(fds), 0);
	struct log_ring *r = log_ring_open(3, count_wakes, &woken); /* four */
	log_set_sink(log_ring_sink, r);
	for (int round = 0; round < 5; round++) {
		woken = 0;
		uint64_t was = log_dropped();
		for (unsigned i = 0; i < 6; i++)
			log_event(LOG_INFO, "x", LOG_U64("n", i));
		assert_int_equal(woken, 1);
		assert_true(log_dropped() == was + 2);
		assert_int_equal(log_ring_drain(r, fds[1]), 4);
		read_pipe(fds[0], text, sizeof(text));
		assert_string_equal(text, "level=info event=x n=0\nlevel=info event=x n=1\nlevel=info event=x n=2\n"
					  "level=info event=x n=3\nlevel=warn event=log.dropped lines=2\n");
		assert_int_equal(log_ring_drain(r, fds[1]), 0);
	}
	log_set_sink(NULL, NULL);
	log_ring_close(r);
	close(fds[0]);
	close(fds[1]);
}

static void a_descriptor_that_fails(void **state)
{
	(void)state;
	struct log_ring *r = log_ring_open(64, NULL, NULL);
	log_set_sink(log_ring_sink, r);
	for (unsigned i = 0; i < 50; i++)
		log_event(LOG_INFO, "x");
	log_set_sink(NULL, NULL);
	assert_int_equal(log_ring_drain(r, -1), 50); /* comes back */
	log_ring_close(r);
}

struct writer {
	struct log_ring *ring;
	sem_t sem;
	int fd;
	bool stop;
	size_t lines;
};

static void post(void *arg) { sem_post(&((struct writer *)arg)->sem); }

static void *write_out(void *arg)
{
	struct writer *w = arg;
	for (;;) {
		while (sem_wait(&w->sem) != 0)
			;
		bool stop = __atomic_load_n(&w->stop, __ATOMIC_ACQUIRE);
		w->lines += log_ring_drain(w->ring, w->fd);
		if (stop)
			return NULL;
	}
}

static void *log_much(void *arg)
{
	for (unsigned i = 0; i < EACH; i++)
		log_event(LOG_INFO, "t", LOG_U64("thread", (uintptr_t)arg), LOG_U64("n", i));
	return NULL;
}

/* Reads the file back: counts lines, told losses, and checks order. */
static void check_file(FILE *f, uint64_t *lines_out, uint64_t *lost_out)
{
	unsigned next[THREADS] = { 0 };
	char line[256];
	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned thread, n, lost;
		if (sscanf(line, "level=warn event=log.dropped lines=%u", &lost) == 1) {
			*lost_out += lost;
			continue;
		}
		assert_int_equal(sscanf(line, "level=info event=t thread=%u n=%u\n", &thread, &n), 2);
		assert_true(thread < THREADS && n >= next[thread] && n < EACH);
		next[thread] = n + 1;
		++*lines_out;
	}
}

static void many_threads(size_t ring_lines)
{
	pthread_t writer, threads[THREADS];
	FILE *f = tmpfile();
	assert_non_null(f);
	struct writer w = { .fd = fileno(f) };
	uint64_t lines = 0, lost = 0, was = log_dropped();
	assert_int_equal(sem_init(&w.sem, 0, 0), 0);
	w.ring = log_ring_open(ring_lines, post, &w);
	log_set_sink(log_ring_sink, w.ring);
	assert_int_equal(pthread_create(&writer, NULL, write_out, &w), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, log_much, (void *)i), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	__atomic_store_n(&w.stop, true, __ATOMIC_RELEASE);
	sem_post(&w.sem);
	pthread_join(writer, NULL);
	log_set_sink(NULL, NULL);
	check_file(f, &lines, &lost);
	assert_int_equal(lines, w.lines);
	assert_int_equal(lines + lost, THREADS * EACH);
	assert_true(lost == log_dropped() - was);
	log_ring_close(w.ring);
	sem_destroy(&w.sem);
	fclose(f);
}

static void a_large_ring(void **state)
{
	(void)state;
	many_threads(4096);
}

static void a_tiny_ring(void **state)
{
	(void)state;
	many_threads(2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_and_empty),
		cmocka_unit_test(a_descriptor_that_fails),
		cmocka_unit_test(a_large_ring),
		cmocka_unit_test(a_tiny_ring),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* log_writer.c - see log_writer.h. */
#include "net/server/log_writer.h"

#include "core/base/limits.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static struct {
	struct log_ring *ring;
	sem_t lines_came;
	pthread_t thread;
	bool running, stop; /* stop: atomic */
} writer;

static void wake(void *arg)
{
	(void)arg;
	sem_post(&writer.lines_came);
}

static void *write_lines(void *arg)
{
	(void)arg;
	const struct timespec burst = { 0, LOG_BURST_MS * 1000000L };
	while (!__atomic_load_n(&writer.stop, __ATOMIC_ACQUIRE)) {
		while (sem_wait(&writer.lines_came) != 0 && errno == EINTR)
			;
		if (!__atomic_load_n(&writer.stop, __ATOMIC_ACQUIRE))
			nanosleep(&burst, NULL); /* more of the burst: one write for all of it */
		log_ring_drain(writer.ring, STDERR_FILENO);
	}
	return NULL;
}

bool log_writer_start(void)
{
	sigset_t all, before;
	ASSERT(!writer.running);
	writer.ring = log_ring_open(LOG_RING_LINES, wake, NULL);
	writer.stop = false;
	sem_init(&writer.lines_came, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before); /* signals belong to the shards */
	writer.running = pthread_create(&writer.thread, NULL, write_lines, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (writer.running) {
		log_set_sink(log_ring_sink, writer.ring);
	} else {
		log_ring_close(writer.ring);
		sem_destroy(&writer.lines_came);
	}
	return writer.running;
}

void log_writer_stop(void)
{
	if (!writer.running)
		return;
	__atomic_store_n(&writer.stop, true, __ATOMIC_RELEASE);
	sem_post(&writer.lines_came);
	pthread_join(writer.thread, NULL);
	log_set_sink(NULL, NULL);
	log_ring_drain(writer.ring, STDERR_FILENO);
	log_ring_close(writer.ring);
	sem_destroy(&writer.lines_came);
	writer.running = false;
}

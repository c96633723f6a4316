/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_writer.h - the thread that writes the log while the server runs, so that a slow pipe or disk behind standard error never
 * holds a shard (invariant 8).
 *
 * Lines queue in a log_ring of LOG_RING_LINES; what finds it full is dropped and counted, and the next line written says how
 * many.  log_writer_stop writes what is left and puts the direct way back.  Both complete now, on the main thread.
 */
#ifndef PENFOLD_NET_SERVER_LOG_WRITER_H
#define PENFOLD_NET_SERVER_LOG_WRITER_H

#include "core/base/log_ring.h"

/* False: no thread could be made; lines go on being written directly. */
bool log_writer_start(void);
void log_writer_stop(void);

#endif

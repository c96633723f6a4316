/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.h - the server's life: checked, bound, locked, served, stopped in order.
 *
 * The one place where rooms meet: it hands each its part of the configuration and starts them from the ground up, and
 * stops them the other way round.  What is wrong is found before anything is served (DESIGN: nothing half started).
 */
#ifndef PENFOLD_NET_SERVER_SERVE_H
#define PENFOLD_NET_SERVER_SERVE_H

#include "net/server/config.h"

/* Serves until SIGTERM or SIGINT; returns the process's exit status: 0 after an orderly stop, 2 when the configuration or the machine
 * does not allow a start, 1 otherwise. Blocking. */
int serve(const struct config *config);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* sim_private.h - the simulated disk as its back end (sim.c) uses it; see sim.h and sim_disk.c. */
#ifndef PENFOLD_CORE_RUN_SIM_PRIVATE_H
#define PENFOLD_CORE_RUN_SIM_PRIVATE_H

#include "core/run/sim.h"

/* All take inode numbers; results >= 0 or -errno. */
int disk_find(const struct sim_disk *d, int dir, const char *path);               /* inode, or -ENOENT */
int disk_open(struct sim_disk *d, int dir, const char *path, int flags);          /* inode */
int disk_mkdir(struct sim_disk *d, int dir, const char *path);
int disk_link(struct sim_disk *d, int from_dir, const char *from, int to_dir, const char *to);
int disk_rename(struct sim_disk *d, int from_dir, const char *from, int to_dir, const char *to);
int disk_unlink(struct sim_disk *d, int dir, const char *path, bool is_dir);
int64_t disk_read(const struct sim_disk *d, int inode, void *out, size_t bytes, uint64_t offset);
/* Pending until synced; *write_out names it for disk_write_durable. */
void disk_write(struct sim_disk *d, int inode, const void *from, size_t bytes, uint64_t offset, uint64_t *write_out);
void disk_write_durable(struct sim_disk *d, int inode, uint64_t write);
void disk_truncate(struct sim_disk *d, int inode, uint64_t bytes);
void disk_sync(struct sim_disk *d, int inode);
void disk_sync_all(struct sim_disk *d);
void disk_info(const struct sim_disk *d, int inode, struct file_info *info_out);
bool disk_is_dir(const struct sim_disk *d, int inode);
int disk_list(const struct sim_disk *d, int inode, bool (*each)(void *arg, const char *name, bool is_dir), void *arg);
void disk_hold(struct sim_disk *d, int inode);    /* an open descriptor keeps an unlinked inode */
void disk_release(struct sim_disk *d, int inode);

#endif

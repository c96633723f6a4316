/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant_class.h - the class (core/base/fair.h) of a tenant: in whose line its work stands.
 *
 * For this room and the protocols.  Ids are given by us, one after another, so they spread by themselves; nobody outside chooses them.
 */
#ifndef PENFOLD_TENANCY_TENANT_CLASS_H
#define PENFOLD_TENANCY_TENANT_CLASS_H

#include "core/base/fair.h"

static inline fair_class_t tenant_class(uint64_t tenant_id) { return fair_class(tenant_id); }

#endif

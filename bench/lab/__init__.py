# SPDX-License-Identifier: Apache-2.0
"""lab: what the comparison scripts share: control groups, servers, the generator, tables."""

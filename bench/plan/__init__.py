# SPDX-License-Identifier: Apache-2.0
"""plan: how many accounts a server holds, and what a provider must buy. See __main__.py and bench/README.md."""

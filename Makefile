# SPDX-License-Identifier: Apache-2.0
#
# Penfold. Two commands do everything from a clean clone on a bare Debian 12:
#     make run      install what it needs, build, start a server with a sample tenant and mail
#     make test     install what the tests need, build, run every test; ends with "N passed, N failed"
# Others: all deps test-deps unit asan tsan fuzz bench plan lint clean. README.md says more.

SHELL := /bin/bash
.DEFAULT_GOAL := all
BUILD ?= build
# Short lines instead of commands; V=1 shows the commands.
Q := $(if $(V),,@)
CC := gcc
CLANG := clang
CXX := g++

# ---- packages (Debian 12) -------------------------------------------------------------------------------------------
DEPS := build-essential pkg-config liburing-dev libjemalloc-dev libcyaml-dev libyaml-dev libsqlite3-dev libxxhash-dev \
        libcrypt-dev libargon2-dev libidn2-dev libjansson-dev libmicrohttpd-dev nettle-dev android-libboringssl-dev libhiredis-dev libkrb5-dev libidn-dev libutf8proc-dev zlib1g-dev
TEST_DEPS := $(DEPS) libcmocka-dev libbenchmark-dev python3 python3-pytest clang libclang-rt-14-dev llvm redis-server isync gsasl \
             python3-prometheus-client curl swaks fetchmail mpop getmail6 postfix libpython3.11-testsuite procps openssl \
             libnet-ssleay-perl spin krb5-kdc krb5-admin-server krb5-user haproxy dovecot-imapd chromium chromium-driver \
             podman crun nginx libnginx-mod-stream rspamd prometheus python3-yaml python3-kubernetes systemd \
             offlineimap3 neomutt tmux

LINT_DEPS := $(DEPS) libcmocka-dev python3 clang-tidy clang-format

# ---- flags ----------------------------------------------------------------------------------------------------------
WARN := -Wall -Wextra -Werror -Wconversion -Wshadow -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
        -Wold-style-definition -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wimplicit-fallthrough -Wnull-dereference
WARN_CLANG := $(WARN)
HARDEN := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -fPIE
LDHARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack
OPT ?= -O2
SAN ?=
ifneq ($(SAN),)
SANFLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
HARDEN := -fPIE -fstack-protector-strong
endif
ifeq ($(DEBUG),1)
CPPFLAGS_DEBUG := -DPENFOLD_DEBUG
endif
# BoringSSL: Debian keeps it apart from OpenSSL's names. Another build of it: both variables, its rpath included.
BORINGSSL_DIR := /usr/lib/$(shell $(CC) -print-multiarch)/android
BORINGSSL_CFLAGS ?= -isystem /usr/include/android
BORINGSSL_LIBS ?= -L$(BORINGSSL_DIR) -Wl,-rpath,$(BORINGSSL_DIR) -lssl -lcrypto
CPPFLAGS := -I. -D_GNU_SOURCE $(BORINGSSL_CFLAGS) $(CPPFLAGS_DEBUG)
CFLAGS := -std=gnu11 $(OPT) -g $(WARN) $(HARDEN) $(SANFLAGS)
LDFLAGS := $(LDHARDEN) $(SANFLAGS)
# jemalloc stays out of sanitizer builds
ifeq ($(SAN),)
LIB_JEMALLOC := -ljemalloc
CPPFLAGS += -DPENFOLD_JEMALLOC
endif
LIBS := $(BORINGSSL_LIBS) -luring -lcyaml -lyaml -lsqlite3 -lxxhash -lcrypt -largon2 -lidn2 -lnettle -ljansson -lmicrohttpd -lhiredis -lgssapi_krb5 -lidn -lutf8proc -lz $(LIB_JEMALLOC) -lpthread

# ---- sources: one static library per room, lower floors last --------------------------------------------------------
ROOMS := net/server net/pop3 net/imap net/lmtp net/peer net/fleet net storage tenancy core/run core/base
room_lib = $(BUILD)/lib/$(subst /,_,$(1)).a
room_src = $(wildcard $(1)/*.c) $(wildcard $(1)/*.S)
room_obj = $(patsubst %,$(BUILD)/obj/%.o,$(basename $(call room_src,$(1))))
MAIN_OBJ := $(BUILD)/obj/net/server/main.o

define room_rule
$(call room_lib,$(1)): $(filter-out $(MAIN_OBJ),$(call room_obj,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	@ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))

.PHONY: all
all: $(BUILD)/penfold

$(BUILD)/penfold: $(MAIN_OBJ) $(foreach r,$(ROOMS),$(call room_lib,$(r)))
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(MAIN_OBJ) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/obj/%.o: %.S Makefile
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- unit tests: tests/unit/<room>/<module>_test.c, linked with its own floor and below ------------------------------
UNIT_SRC := $(shell find tests/unit -name '*_test.c' 2>/dev/null)
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
UNIT_HELP := $(wildcard tests/unit/support/*.c)
UNIT_HELP_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(UNIT_HELP))
# an archive: who brings a cardboard house (fake_house.h) must not get the real shards with it
UNIT_HELP_LIB := $(BUILD)/lib/unit_support.a
$(UNIT_HELP_LIB): $(UNIT_HELP_OBJ)
	@mkdir -p $(@D)
	@rm -f $@
	@ar rcs $@ $^
libs_below_core/base := core/base
libs_below_core/run := core/run core/base
libs_below_storage := storage core/run core/base
libs_below_tenancy := tenancy core/run core/base
libs_below_net := net storage tenancy core/run core/base
libs_below_net/peer := net/peer net/fleet net storage tenancy core/run core/base
libs_below_net/fleet := net/fleet storage tenancy core/run core/base
libs_below_net/pop3 := net/pop3 net/peer net/fleet net storage tenancy core/run core/base
libs_below_net/lmtp := net/lmtp net/peer net/fleet net storage tenancy core/run core/base
libs_below_net/imap := net/imap net/peer net/fleet net storage tenancy core/run core/base
libs_below_net/server := $(ROOMS)
unit_room = $(patsubst %/,%,$(dir $(1)))
# objects of tests are made on the way to programs: keep them
.PRECIOUS: $(BUILD)/obj/%.o
.SECONDEXPANSION:
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(UNIT_HELP_LIB) $$(foreach r,$$(libs_below_$$(call unit_room,$$*)),$$(call room_lib,$$r))
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lcmocka $(LIBS)

.PHONY: unit unit-build
ifdef T
unit: $(BUILD)/tests/$(T)_test
	ulimit -n $$(ulimit -Hn); $(BUILD)/tests/$(T)_test
else
unit: unit-build
	@set -e; ulimit -n $$(ulimit -Hn); for t in $(UNIT_BIN); do echo "== $$t"; $$t; done
endif
unit-build: $(UNIT_BIN)

# ---- fuzz targets ---------------------------------------------------------------------------------------------------
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ_BUILD := $(BUILD)/fuzz
# as above
.PRECIOUS: $(BUILD)/fuzz/obj/%.o
FUZZ_BIN := $(patsubst tests/fuzz/%_fuzz.c,$(FUZZ_BUILD)/%,$(FUZZ_SRC))
FUZZ_FLAGS := -std=gnu11 -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZ_ROOMS := net/pop3 net/imap net/lmtp net/peer net/fleet net storage tenancy core/run core/base net/server
FUZZ_OBJ := $(patsubst %,$(FUZZ_BUILD)/obj/%.o,$(basename $(filter-out net/server/main.c,$(foreach r,$(FUZZ_ROOMS),$(call room_src,$(r))))))
SECONDS ?= 60
$(FUZZ_BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  FUZZ  $<"
	$(Q)$(CLANG) $(CPPFLAGS) -UPENFOLD_JEMALLOC $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<
$(FUZZ_BUILD)/obj/%.o: %.S Makefile
	@mkdir -p $(@D)
	@echo "  FUZZ  $<"
	$(Q)$(CLANG) -I. -c -o $@ $<
$(FUZZ_BUILD)/lib.a: $(FUZZ_OBJ)
	@rm -f $@
	@ar rcs $@ $^
$(FUZZ_BUILD)/%: $(FUZZ_BUILD)/obj/tests/fuzz/%_fuzz.o $(FUZZ_BUILD)/lib.a
	@echo "  LINK  $@"
	$(Q)$(CLANG) -fsanitize=fuzzer,address,undefined -o $@ $< $(FUZZ_BUILD)/lib.a $(filter-out -ljemalloc,$(LIBS))
.PHONY: fuzz fuzz-build
fuzz-build: $(FUZZ_BIN)
fuzz: $(if $(F),$(FUZZ_BUILD)/$(F),$(FUZZ_BIN))
	@set -e; for t in $(if $(F),$(FUZZ_BUILD)/$(F),$(FUZZ_BIN)); do n=$$(basename $$t); mkdir -p $(FUZZ_BUILD)/corpus/$$n tests/fuzz/corpus/$$n; \
	  echo "== fuzz $$n for $(SECONDS) s"; $$t -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
	  -artifact_prefix=$(FUZZ_BUILD)/$$n- $(FUZZ_BUILD)/corpus/$$n tests/fuzz/corpus/$$n; done

# ---- bench: load generator, floor, micro benchmarks; bench/README.md -------------------------------------------------
# A capacity plan: make plan PROFILE=modern [OUT=folder] [PLAN="--accounts 2000000"]; make plan-compare A=folder B=folder
PROFILE ?= modern
OUT ?= $(BUILD)/plan-$(basename $(notdir $(PROFILE)))
.PHONY: plan plan-compare
plan: $(BUILD)/penfold $(BUILD)/bench/load
	@$(PYTHON) bench/plan run --profile $(PROFILE) --build $(BUILD) --out $(OUT) $(PLAN)
plan-compare:
	@$(PYTHON) bench/plan compare $(A) $(B) --out $(or $(OUT_HTML),$(BUILD)/plan-compare.html)

BENCH_DEPS := $(DEPS) libbenchmark-dev python3 dovecot-core dovecot-pop3d dovecot-imapd dovecot-lmtpd
bench_obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard bench/$(1)/*.c))
BENCH_MICRO_OBJ := $(patsubst %.cc,$(BUILD)/obj/%.o,$(wildcard bench/micro/*.cc))
BENCH_ROOMS := net storage tenancy core/run core/base
BENCH_BIN := $(BUILD)/bench/load $(BUILD)/bench/floor $(if $(BENCH_MICRO_OBJ),$(BUILD)/bench/micro)
$(BUILD)/bench/load: $(call bench_obj,load)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(BORINGSSL_LIBS) -lxxhash -lm
$(BUILD)/bench/floor: $(call bench_obj,floor) $(BUILD)/obj/bench/load/message.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ -luring -lxxhash -lpthread
$(BUILD)/obj/bench/micro/%.o: bench/micro/%.cc Makefile
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) -std=gnu++17 $(OPT) -g -Wall -Wextra -Werror $(HARDEN) -MMD -MP -c -o $@ $<
$(BUILD)/bench/micro: $(BENCH_MICRO_OBJ) $(foreach r,$(BENCH_ROOMS),$(call room_lib,$(r)))
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lbenchmark $(LIBS)
.PHONY: bench bench-build bench-deps
bench-build: $(BENCH_BIN)
bench: bench-build $(BUILD)/penfold
	python3 bench/compare.py --build $(BUILD) --quick --out $(BUILD)/bench/results
bench-deps:
	@dpkg -s $(BENCH_DEPS) >/dev/null 2>&1 || { s=; [ $$(id -u) = 0 ] || s=sudo; \
	  $$s env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(BENCH_DEPS); }

-include $(shell find $(BUILD)/obj $(BUILD)/fuzz/obj -name '*.d' 2>/dev/null)

# ---- installing, running, testing -----------------------------------------------------------------------------------
# These call make again where packages had to come first: what this make found out about the tools may be old by then.
PYTHON := /usr/bin/python3
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 5
RUN_TESTS = $(PYTHON) tests/run.py --make "$(MAKE)" --jobs $(JOBS)

.PHONY: deps test-deps lint-deps run test test-epoll asan tsan models lint
deps:
	@deploy/install-deps.sh $(DEPS)
test-deps:
	@deploy/install-deps.sh $(TEST_DEPS)
lint-deps:
	@deploy/install-deps.sh $(LINT_DEPS)

# The container image, build/image/penfold.tar; IMAGE_FROM=build/penfold takes the program built here instead of building it in a Debian of its own.
.PHONY: image image-deps print-deps
IMAGE_DEPS := buildah mmdebstrap ca-certificates git
image-deps:
	@deploy/install-deps.sh $(IMAGE_DEPS)
image: image-deps
	deploy/image/build.sh --out $(BUILD)/image $(if $(IMAGE_FROM),--from-host $(IMAGE_FROM))
# Builds the image in a Debian of its own, then runs it, and README's container, line by line.
.PHONY: image-test
image-test: image test-deps all
	PENFOLD=$(abspath $(BUILD))/penfold PENFOLD_IMAGE=$(abspath $(BUILD))/image/penfold.tar $(PYTHON) -m pytest -q -rs -p no:cacheprovider tests/e2e/test_container.py tests/e2e/test_readme.py
# The snippet for Exim with Debian's Exim, which is unpacked, not installed.
.PHONY: exim-test
exim-test: test-deps all
	EXIM=$$(tests/e2e/unpacked_exim.sh $(BUILD)/exim) PENFOLD=$(abspath $(BUILD))/penfold $(PYTHON) -m pytest -q -rs -p no:cacheprovider tests/e2e/test_mta.py -k Exim
# The manifests against the newest published types of the API (npm packages; in `test` against those that Debian has).
.PHONY: kubernetes-test
kubernetes-test: test-deps all
	@command -v npm >/dev/null || deploy/install-deps.sh nodejs npm
	@mkdir -p $(BUILD)/npm && cd $(BUILD)/npm && npm install --silent --no-audit --no-fund --prefix . kubernetes-models@5 @kubernetes-models/prometheus-operator@6
	KUBERNETES_MODELS=$(abspath $(BUILD))/npm PENFOLD=$(abspath $(BUILD))/penfold $(PYTHON) -m pytest -q -rs -p no:cacheprovider tests/e2e/test_kubernetes.py
print-deps:
	@echo $(DEPS)

run: deps
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@PENFOLD=$(BUILD)/penfold deploy/run-demo.sh

# Three nodes on this machine, Redis between them, HAProxy in front.
.PHONY: fleet fleet-deps
fleet-deps: deps
	@deploy/install-deps.sh redis-server haproxy
fleet: fleet-deps
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@PENFOLD=$(BUILD)/penfold deploy/run-fleet.sh

# All of it; the last line is "N passed, N failed".
test: test-deps
	@$(RUN_TESTS) --build $(BUILD) --fuzz-seconds $(FUZZ_SECONDS)

# The unit and end-to-end tests again, all of them, on the epoll back end (a choice of them is in `test`).
test-epoll: test-deps
	@$(RUN_TESTS) --build $(BUILD) --backend epoll --only build,unit,e2e

# The models of ownership, searched to the end: minutes each, up to 5 GB (tests/model/README.md).
models: test-deps
	MODELS=long $(PYTHON) -m pytest -q -p no:cacheprovider tests/model

# The unit tests again, in builds of their own, with AddressSanitizer and UndefinedBehaviorSanitizer, and with ThreadSanitizer.
asan: test-deps
	@$(RUN_TESTS) --build $(BUILD)/asan --make-arg SAN=address,undefined --only build,unit
tsan: test-deps
	@$(RUN_TESTS) --build $(BUILD)/tsan --make-arg SAN=thread --only build,unit --rooms core/run,storage,net

# The plan of the house and the headers (in `test` too); then form and clang-tidy's findings of the rooms named here.
LINT_ROOMS := core/base
LINT_FILES = $(filter-out core/base/limits.h,$(foreach r,$(LINT_ROOMS),$(wildcard $(r)/*.c $(r)/*.h)))
lint: lint-deps
	@$(RUN_TESTS) --build $(BUILD) --only lint
	clang-format --dry-run -Werror $(LINT_FILES)
	@printf '%s\n' $(filter %.c,$(LINT_FILES)) | xargs -P $(JOBS) -n 2 \
	  sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$$@" -- -std=gnu11 $(CPPFLAGS) 2>&1 | grep -v " generated\.$$" && exit 1; :' tidy

# ENVELOPE and BODYSTRUCTURE of the corpus beside Cyrus's, too. Its packages exclude Dovecot's: unpack them (apt-get download cyrus-imapd
# cyrus-common; dpkg -x) and name the folder as CYRUS_ROOT; sasl2-bin is needed.
.PHONY: structures
structures: $(BUILD)/penfold
	PENFOLD_CYRUS=1 PENFOLD=$(abspath $(BUILD)/penfold) python3 -m pytest -q tests/e2e/test_structures.py

.PHONY: clean
clean:
	rm -rf $(BUILD)

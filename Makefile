# Makefile - what people type. It only calls: the compiling is in .ci/compile.mk, the rest in .ci/ and in
# build/servelab itself. Nothing is asked of the machine while this file is read, so that
# `make deps experiment TRACE=chat.json` works where only make is installed.
#
# Variants, each with its own objects: CC=clang, SAN=1 (ASan and UBSan), DEBUG=1 (checks every step).
# Others: WERROR=1, V=1 (show commands), CUDA=auto|yes|no.
.NOTPARALLEL:
.DEFAULT_GOAL := all
SHELL = /bin/sh
CUDA ?= auto

# Where the variant's binaries are; .ci/compile.mk says the same.
include .ci/variant.mk

compile = +@$(MAKE) --no-print-directory -f .ci/compile.mk \
	$(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc 2>/dev/null || echo 2))
# Safe words for the shell from what was typed after make: spaces, quotes and $ stay as they are.
typed = $(if $(filter command,$(firstword $(origin $1))),$(value $1))
quote = '$(subst ','\'',$(1))'
option = $(if $(call typed,$1),--$2 $(call quote,$(call typed,$1)))
db = $(call option,DB,db)
# What make experiment reads, and what the build does; a slip of the finger is refused by its name.
known = TRACE DEVICE PROFILE MODEL STRATEGY RATE LIMIT REPEATS SEED NAME DB KV SLO SLO_SHARE PACE SCALES CHAT EXPERIMENT \
	CC CXX CFLAGS CXXFLAGS EXTRA_CFLAGS LDFLAGS LIBS SAN TSAN DEBUG WERROR V CUDA NVCC NVFLAGS ARCH SHELL \
	FILTER OUT CALL SECONDS
given = $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))

all: gen                 ## build the program: build/servelab (and the cuda device where nvcc and a GPU are)
	$(compile) bin || .ci/deps why
	@CUDA='$(CUDA)' .ci/plugin auto

cuda: gen                ## build the cuda device, build/device_cuda.so, for all architectures (nvcc; no GPU needed)
	@CUDA='$(CUDA)' .ci/plugin all

help:                    ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo 'Variants: CC=clang  SAN=1 (ASan, UBSan)  DEBUG=1 (checks each step)  WERROR=1  V=1  CUDA=auto|yes|no'

deps:                    ## install what is missing to build, test and plot (Debian, Ubuntu)
	@.ci/deps

deps-dev:                ## also what the checks of .ci/run need: clang, OpenMP, sanitizers
	@.ci/deps dev

typed:
	@.ci/typed '$(known)' $(call quote,$(given))

experiment: typed        ## replay a trace: TRACE=chat.json [DEVICE= ...]; a paper's: EXPERIMENT=01-memory
ifneq ($(call typed,EXPERIMENT),)
	@$(MAKE) --no-print-directory all
	@$(BIN) experiment $(call quote,$(call typed,EXPERIMENT))
else ifeq ($(call typed,TRACE),)
	@echo 'usage: make experiment TRACE=chat.json [DEVICE=sim|cpu|ref] [MODEL=name] [STRATEGY=a,b] [RATE=1,2]' >&2
	@echo '       [PROFILE=h200] [LIMIT=n] [REPEATS=n] [SEED=n] [NAME=text] [DB=file] [KV=bytes] [SLO=ttft:200,tpot:50] [SLO_SHARE=90] [PACE=skip|wall] [SCALES=file] [CHAT=yes]' >&2
	@echo 'TRACE is a path or a file under workloads/; "build/servelab run --help" explains the rest.' >&2
	@echo '   or: make experiment EXPERIMENT=01-memory   (a folder under results/)' >&2
	@exit 2
else
	@$(MAKE) --no-print-directory all
	@$(BIN) run $(call option,TRACE,trace) $(call option,DEVICE,device) $(call option,PROFILE,profile) \
	    $(call option,MODEL,model) \
	    $(call option,STRATEGY,strategy) $(call option,RATE,rate) $(call option,LIMIT,limit) \
	    $(call option,REPEATS,repeats) $(call option,SEED,seed) $(call option,NAME,name) $(db) \
	    $(call option,KV,kv) $(call option,SLO,slo) $(call option,SLO_SHARE,slo-share) $(call option,PACE,pace) $(call option,SCALES,scales) \
	    $(if $(call typed,CHAT),--chat)
endif

test: gen                ## run the tests: [FILTER=suite or suite/test]; TAP here, JUnit in build/junit.xml
	$(compile) tests || .ci/deps why
	@$(TEST_BIN) --junit build/junit.xml $(call quote,$(call typed,FILTER))

test-emu: gen            ## run the GPU's kernels on the CPU, emulated: [FILTER=] [SAN=1 | TSAN=1]
	+@$(MAKE) --no-print-directory -f .ci/emu.mk $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc 2>/dev/null || echo 2)) run

test-cuda: all cuda      ## the same comparisons on this machine's GPU, sanitizer runs, strategies bit for bit
	@.ci/test-cuda

on-gpu:                  ## all that needs a GPU: build, test, bench; CALL=2, 3: profile, traces: [OUT=]
	@CALL=$(call quote,$(or $(call typed,CALL),1)) .ci/on-gpu $(call quote,$(call typed,OUT))

model:                   ## fetch a real model: MODEL=smollm2-135m
	@.ci/model $(call quote,$(call typed,MODEL))

fuzz:                    ## fuzz the readers of files from outside: [SECONDS=60 each]
	@.ci/fuzz $(call quote,$(call typed,SECONDS))

mutants:                 ## plant known defects one by one: do the tests notice? (minutes)
	@.ci/mutants

emu-mutants:             ## plant two races in the emulated kernels: does TSan notice?
	@.ci/emu-mutants

layers:                  ## check who includes whom
	@.ci/layers

doctor: all              ## what was built and what this machine can run
	@$(BIN) doctor

bench: all               ## measure kernels against the machine's roof
	@$(BIN) bench

plots: all               ## draw the figures of the recorded runs: [DB=]
	@$(BIN) plot $(db)

report: all              ## write the self-contained report: [DB=]
	@$(BIN) report $(db)

trace: all               ## describe a trace: TRACE=chat.json
	@$(BIN) trace info $(call quote,$(call typed,TRACE))

clean:                   ## remove everything that was built (recorded runs stay)
	rm -rf build

gen:
	@CUDA='$(CUDA)' .ci/gen

.PHONY: all cuda help deps deps-dev experiment test test-emu test-cuda on-gpu model fuzz mutants emu-mutants layers doctor bench plots report trace clean gen typed

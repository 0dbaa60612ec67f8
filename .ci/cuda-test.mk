# cuda-test.mk - the device suites of tests/emu linked with what nvcc built instead of the emulator, for a machine with a GPU;
# and the suites of primitives, weights, products, cache and attention (C++), compiled by nvcc. Run by .ci/test-cuda after `make cuda`; `build` alone
# links anywhere that nvcc is.
MAKEFLAGS += -r
include .ci/variant.mk
.DEFAULT_GOAL := build
ifeq ($(origin CC),default)
CC := cc
endif
NVCC := $(or $(NVCC),$(shell sed -n '1s/^[a-z]* //p' build/gen/cuda.txt 2>/dev/null))
O := build/cuda-test
BIN := $(O)/servelab-cuda-test
CU_SUITES := emu_prims emu_halves emu_weight emu_matmul emu_kv emu_attend
SUITES := emu_device emu_device_steps emu_device_graphs emu_device_faults emu_bench
X86 := $(filter x86_64 amd64,$(shell uname -m))
C_SRC := $(filter-out harness/main.c kernels/cuda/%,$(wildcard $(C_DIRS:%=%/*.c))) \
         $(filter-out tests/test_%.c,$(wildcard tests/*.c)) $(SUITES:%=tests/emu/test_%.c)
ifeq ($(X86),)
C_SRC := $(filter-out %_avx2.c %_avx512.c,$(C_SRC))
endif
GPU := $(patsubst %.cu,build/plugin/%.o,$(wildcard kernels/cuda/*.cu))
OBJ := $(C_SRC:%.c=$(O)/%.o) $(O)/gen/registry.o $(O)/gen/tests.o $(O)/tests/emu/emu_device.o $(CU_SUITES:%=$(O)/tests/emu/test_%.o)
# For the GPU that is here; elsewhere the least that the kernels need.
SM := $(or $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | grep -x '[0-9]*\.[0-9]*' | tr -d .),80)
LIB_DIR := $(firstword $(wildcard $(patsubst %/bin/nvcc,%/lib64,$(NVCC)) $(patsubst %/bin/nvcc,%/lib,$(NVCC))))
NVFLAGS := -x cu -std=c++17 -O2 -arch=sm_$(SM) -I. $(EXTRA_CFLAGS)
DEFS := -D_GNU_SOURCE -DSERVELAB_CHECK=1 $(if $(X86),-DSERVELAB_X86=1) -DSERVELAB_SOURCE='"$(CURDIR)"' \
        -DSERVELAB_BIN='"$(CURDIR)/build/servelab"'
PLACE := -I$(O) -I. -Ibuild/gen -I$(O)/build/gen
CFLAGS := -std=c11 -O2 -g -fopenmp -ffp-contract=off $(DEFS) $(EXTRA_CFLAGS)
isa = $(if $(filter %_avx2.o,$@),-mavx2 -mfma -mf16c)$(if $(filter %_avx512.o,$@),-mavx512f -mavx512bw \
      -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c)
say = @$(if $(V),,echo "  $1";)

build: $(BIN)
	@:
$(shell mkdir -p $(O)/gen $(O)/build/gen; .ci/version $(O)/build/gen/version.h 'cuda-test'; \
        .ci/keep $(O)/flags.txt '$(CC) $(CFLAGS) $(NVFLAGS) $(OBJ)')
$(O)/gen/tests.c: $(O)/flags.txt
	@{ echo '#include "tests/test.h"'; for s in $(CU_SUITES) $(SUITES); do echo "extern const struct suite suite_$$s;"; done; \
	   echo 'const struct suite *const suite_registry[] = {'; for s in $(CU_SUITES) $(SUITES); do echo "    &suite_$$s,"; done; \
	   echo '    NULL'; echo '};'; } >$@
$(O)/gen/%.o: $(O)/gen/%.c
	$(call say,CC $<)$(CC) $(CFLAGS) $(PLACE) -c -o $@ $<
$(O)/gen/registry.o: build/gen/registry.c
	$(call say,CC $<)$(CC) $(CFLAGS) $(PLACE) -c -o $@ $<
$(O)/tests/emu/%.o: tests/emu/%.cc $(O)/flags.txt
	@mkdir -p $(@D)
	$(call say,NVCC $<)$(NVCC) $(NVFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
$(O)/%.o: %.c $(O)/flags.txt
	@mkdir -p $(@D)
	$(call say,CC $<)$(CC) $(CFLAGS) $(isa) $(PLACE) -MMD -MP -c -o $@ $<
$(BIN): $(OBJ) $(GPU)
	$(call say,LD $@)$(NVCC) -cudart static -Xcompiler -fopenmp -o $@ $(OBJ) $(GPU) $(LDFLAGS) $(LIB_DIR:%=-Xlinker -rpath -Xlinker %) -lcublas -ljansson -lsqlite3 -lz \
	    -lmd -lm -lpthread -ldl -lcunit

-include $(OBJ:.o=.d)
.DELETE_ON_ERROR:
.PHONY: build

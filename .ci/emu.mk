# emu.mk - the GPU's kernels on this machine's CPU: kernels/cuda/*.cu compiled as C++ against tests/emu, linked with the
# rest of the project and the suites tests/emu/test_*.{c,cc}, run like the other tests. Run after .ci/gen:
#   make -f .ci/emu.mk [SAN=1 | TSAN=1] [CC=clang] [FILTER=suite or suite/test]
# While kernels are being written: CU_SRC='some.cu others.cu' and SUITES='names' build and run only those.
# Needs the CUDA toolkit's headers, neither its compiler nor a GPU; without them it says so and runs nothing.
# SAN and TSAN instrument the C++ (kernels, emulator, their tests), not the project's C, which has its own suite.
MAKEFLAGS += -r
include .ci/variant.mk
.DEFAULT_GOAL := run
ifeq ($(origin CC),default)
CC := cc
endif
ifeq ($(origin CXX),default)
CXX := $(if $(findstring clang,$(notdir $(firstword $(CC)))),clang++,c++)
endif
CUDA_HEADERS := $(shell for d in "$$CUDA_HOME" "$$CUDA_PATH" /usr/local/cuda \
    "$$(dirname "$$(dirname "$$(readlink -f "$$(command -v nvcc || echo /x/x/x)")")")" /usr; do \
    [ -n "$$d" ] && [ -e "$$d/include/cuda_fp8.h" ] && [ -e "$$d/include/cublas_v2.h" ] && echo "$$d/include" && break; done)
O := build/emu/$(notdir $(firstword $(CC)))$(if $(SAN),-san)$(if $(TSAN),-tsan)
# C objects are the same in all variants: only what runs as a kernel is instrumented.
CO := build/emu/$(notdir $(firstword $(CC)))
BIN := $(O)/servelab-emu

SUITES := $(sort $(patsubst test_%,%,$(basename $(notdir $(wildcard tests/emu/test_*.c tests/emu/test_*.cc)))))
suites := $(subst -,_,$(SUITES))
suite_file = $(foreach s,$(SUITES),$(wildcard tests/emu/test_$s.$1))
X86 := $(filter x86_64 amd64,$(shell uname -m))
C_SRC := $(filter-out harness/main.c kernels/cuda/%,$(wildcard $(C_DIRS:%=%/*.c))) \
         $(filter-out tests/test_%.c,$(wildcard tests/*.c)) $(filter-out tests/emu/test_%,$(wildcard tests/emu/*.c)) $(call suite_file,c)
ifeq ($(X86),)
C_SRC := $(filter-out %_avx2.c %_avx512.c,$(C_SRC))
endif
CU_SRC := $(wildcard kernels/cuda/*.cu)
CXX_SRC := $(CU_SRC) $(filter-out tests/emu/test_%,$(wildcard tests/emu/*.cc)) $(call suite_file,cc)
OBJ := $(C_SRC:%.c=$(CO)/%.o) $(CXX_SRC:%=$(O)/%.o) $(CO)/gen/registry.o $(O)/gen/tests.o
# The scheduler of the threads is not to be watched by what watches the threads.
RUNTIME := $(addprefix $(O)/tests/emu/,emu_fiber.cc.o emu_block.cc.o emu_calls.cc.o emu_mma.cc.o)
$(O)/tests/emu/emu_mma.cc.o: CXXFLAGS += -O3

comma := ,
ASAN := -fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CXX_SAN := $(if $(SAN),$(ASAN))$(if $(TSAN),-fsanitize=thread)
DEFS := -D_GNU_SOURCE -DSERVELAB_CHECK=1 $(if $(X86),-DSERVELAB_X86=1) -DSERVELAB_SOURCE='"$(CURDIR)"' \
        -DSERVELAB_BIN='"$(CURDIR)/build/servelab"'
PLACE := -I$(CO) -I. -Ibuild/gen -I$(CO)/build/gen
F16C := $(if $(X86),-mf16c)
CFLAGS := -std=c11 -O2 -g -Wall -Wextra -fopenmp -ffp-contract=off $(DEFS) $(EXTRA_CFLAGS)
CXXFLAGS := -std=c++17 $(if $(SAN)$(TSAN),-O1,-O2) -g $(F16C) -Wall -Wextra -Wshadow -Wno-unknown-pragmas \
            $(if $(WERROR),-Werror) $(DEFS) -isystem $(CUDA_HEADERS) -include tests/emu/emu.h
isa = $(if $(filter %_avx2.o,$@),-mavx2 -mfma -mf16c)$(if $(filter %_avx512.o,$@),-mavx512f -mavx512bw \
      -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c)
LIBS := -ljansson -lsqlite3 -lz -lmd -lm -lpthread -ldl -lcunit
say = @$(if $(V),,echo "  $1";)

ifeq ($(CUDA_HEADERS),)
run build:
	@echo 'emulation: the CUDA toolkit headers (cuda_fp8.h, cublas_v2.h) were not found; set CUDA_HOME to the folder'
	@echo 'above include/ to test the kernels without a GPU. Nothing was run.'
	@echo '0 passed, 0 failed'
else
build: $(BIN)
	@:
run: $(BIN)
	@SERVELAB_TEST_SLOWER=$(if $(TSAN),10,$(if $(SAN),4,1)) OMP_THREAD_LIMIT=$(if $(TSAN),1,$${OMP_THREAD_LIMIT:-64}) TSAN_OPTIONS="$$TSAN_OPTIONS atexit_sleep_ms=0 report_signal_unsafe=0" \
	    $(BIN) --junit $(O)/junit.xml $(FILTER)
endif

# Suites found by file name, as .ci/gen does it for tests/.
define tests_text
/* Written by .ci/emu.mk from the names of the files; do not edit. */
#include <stddef.h>
#include "tests/test.h"
$(foreach s,$(suites),extern const struct suite suite_$(s);
)const struct suite *const suite_registry[] = {
$(foreach s,$(suites),    &suite_$(s),
)    NULL
};
endef
export tests_text
ifneq ($(CUDA_HEADERS),)
$(shell mkdir -p $(O)/gen $(CO)/gen $(CO)/build/gen; .ci/version $(CO)/build/gen/version.h '$(CC) emu'; \
        .ci/keep $(CO)/c_flags.txt '$(CC) $(CFLAGS)'; .ci/keep $(O)/flags.txt '$(CXX) $(CXXFLAGS) $(CXX_SAN)'; \
        .ci/keep $(O)/objects.txt '$(OBJ)')
endif

$(O)/gen/tests.c: $(O)/objects.txt
	@printf '%s\n' "$$tests_text" >$@
$(O)/gen/%.o: $(O)/gen/%.c
	$(call say,CC $<)$(CC) $(CFLAGS) $(PLACE) -c -o $@ $<
$(CO)/gen/registry.o: build/gen/registry.c
	$(call say,CC $<)$(CC) $(CFLAGS) $(PLACE) -c -o $@ $<
$(RUNTIME): CXX_SAN :=
$(CO)/%.o: %.c $(CO)/c_flags.txt
	@mkdir -p $(@D)
	$(call say,CC $<)$(CC) $(CFLAGS) $(isa) $(PLACE) -MMD -MP -c -o $@ $<
$(O)/%.cc.o: %.cc $(O)/flags.txt
	@mkdir -p $(@D)
	$(call say,CXX $<)$(CXX) $(CXXFLAGS) $(CXX_SAN) $(PLACE) -MMD -MP -c -o $@ $<
$(O)/%.cu.o: %.cu $(O)/flags.txt
	@mkdir -p $(@D)
	$(call say,CXX $<)$(CXX) $(CXXFLAGS) $(CXX_SAN) $(PLACE) -MMD -MP -x c++ -c -o $@ $<
$(BIN): $(OBJ) $(O)/objects.txt
	$(call say,LD $@)$(CXX) -fopenmp $(CXX_SAN) -o $@ $(OBJ) $(LDFLAGS) $(LIBS)

-include $(OBJ:.o=.d)
.DELETE_ON_ERROR:
.PHONY: run build

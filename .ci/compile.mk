# compile.mk - from sources to binaries; run by the Makefile after .ci/gen has written build/gen.
# Every .c file in the folders below is found by itself; a new strategy needs no line here.
MAKEFLAGS += -r
ifeq ($(origin CC),default)
CC := cc
endif
include .ci/variant.mk
ifeq ($(MAKECMDGOALS),tests)
VARIANT := $(TEST_VARIANT)
DEBUG := 1
endif
O := build/$(VARIANT)

SRC := $(wildcard $(C_DIRS:%=%/*.c))
X86 := $(filter x86_64 amd64,$(shell uname -m))
ifeq ($(X86),)
SRC := $(filter-out %_avx2.c %_avx512.c,$(SRC))
endif
OBJ := $(SRC:%.c=$(O)/%.o) $(O)/build/gen/registry.o
TEST_OBJ := $(filter-out $(O)/harness/main.o,$(OBJ)) $(patsubst %.c,$(O)/%.o,$(wildcard tests/*.c)) \
            $(O)/build/gen/tests.o

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-overlength-strings \
        -Werror=implicit-function-declaration $(if $(WERROR),-Werror)
CFLAGS := $(if $(SAN),-O1,-O2) -g
comma := ,
SANFLAGS := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
DEFS := -D_GNU_SOURCE $(if $(X86),-DSERVELAB_X86=1) $(if $(DEBUG),-DSERVELAB_CHECK=1)
FLAGS := -std=c11 $(CFLAGS) $(WARN) -fopenmp -ffp-contract=off $(SANFLAGS) $(DEFS) $(EXTRA_CFLAGS)
# Generated headers are included as "build/gen/X.h" or "X.h"; version.h is the variant's own.
PLACE := -I$(O) -I. -I$(O)/build/gen -Ibuild/gen -DSERVELAB_SOURCE='"$(CURDIR)"'
LIBS := -ljansson -lsqlite3 -lz -lmd -lm -lpthread -ldl
isa = $(if $(filter %_avx2.o,$@),-mavx2 -mfma -mf16c)$(if $(filter %_avx512.o,$@),-mavx512f -mavx512bw \
      -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c)
say = @$(if $(V),,echo "  $1";)
show = $(if $(V),set -x;)

bin: $(BIN)
	@:
tests: $(TEST_BIN) $(O)/servelab
	@:

# A dropped file that does not define the name its own name promises is only noticed here.
link = $(CC) $(FLAGS) -o $@ $1 $(LDFLAGS) $2 $(LIBS) || { echo 'hint: undefined sched_X, kv_X, prec_X, \
device_X, verb_X, bench_X or suite_X: the file X.c must define it (CONTRIBUTING.md)' >&2; exit 1; }

# Files that are rewritten only when their text changes, so that what depends on them is redone then.
$(shell .ci/keep $(O)/flags.txt '$(CC) $(FLAGS) $(CURDIR)' && .ci/keep $(O)/objects.txt '$(OBJ)' && \
        .ci/keep $(O)/tests.txt '$(TEST_OBJ)' && .ci/version $(O)/build/gen/version.h '$(CC) $(FLAGS)')

$(BIN): $(OBJ) $(O)/objects.txt
	$(call say,LD $@)$(show)$(call link,$(OBJ))

ifneq ($(BIN),$(O)/servelab)
$(O)/servelab: $(OBJ) $(O)/objects.txt
	$(call say,LD $@)$(show)$(call link,$(OBJ))
endif

$(TEST_BIN): $(TEST_OBJ) $(O)/tests.txt
	$(call say,LD $@)$(show)$(call link,$(TEST_OBJ),-lcunit)

$(O)/tests/%.o: PLACE += -DSERVELAB_BIN='"$(CURDIR)/$(O)/servelab"'
$(O)/%.o: %.c $(O)/flags.txt
	@mkdir -p $(@D)
	$(call say,CC $<)$(show)$(CC) $(FLAGS) $(isa) $(PLACE) -MMD -MP -c -o $@ $<

-include $(sort $(OBJ:.o=.d) $(TEST_OBJ:.o=.d))
.DELETE_ON_ERROR:
.PHONY: bin tests

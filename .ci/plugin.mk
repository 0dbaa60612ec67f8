# plugin.mk - the CUDA device: kernels/cuda/*.cu and the C files that they call, compiled by nvcc into
# build/device_cuda.so, which the program opens at run time. Run after .ci/gen and .ci/cuda:
#   make -f .ci/plugin.mk [-j2] [ARCH="90"] [WERROR=1] [V=1]
# Code for those of 80 86 89 90 100 120 that this nvcc knows, and PTX of the highest for what comes later;
# ARCH names others (while developing, one builds in a sixth of the time). What ptxas says of each kernel stays
# in build/plugin/ptxas.txt; kernels that spill registers are named, and fail the build with WERROR=1.
MAKEFLAGS += -r
.DEFAULT_GOAL := plugin
ifeq ($(origin CC),default)
CC := cc
endif
NVCC := $(or $(NVCC),$(shell sed -n '1s/^[a-z]* //p' build/gen/cuda.txt 2>/dev/null))
O := build/plugin
SO := build/device_cuda.so

KNOWN := $(if $(NVCC),$(shell $(NVCC) --list-gpu-code 2>/dev/null))
ARCH := $(or $(ARCH),$(foreach a,80 86 89 90 100 120,$(if $(filter sm_$a,$(KNOWN)),$a)))
HIGHEST := $(lastword $(ARCH))
CODE := $(foreach a,$(ARCH),-gencode arch=compute_$a,code=sm_$a) -gencode arch=compute_$(HIGHEST),code=compute_$(HIGHEST)

CU := $(wildcard kernels/cuda/*.cu)
C := base/err.c base/plain.c kernels/format.c
OBJ := $(CU:%.cu=$(O)/%.o) $(C:%.c=$(O)/%.o)
LIB_DIR := $(firstword $(wildcard $(patsubst %/bin/nvcc,%/lib64,$(NVCC)) $(patsubst %/bin/nvcc,%/lib,$(NVCC))))
comma := ,
HIDE := -fvisibility=hidden
NVFLAGS := -std=c++17 -O3 -lineinfo $(CODE) -I. -Xcompiler -fPIC,$(HIDE),-Wall,-Wextra,-Wshadow -Xptxas -v \
           $(if $(WERROR),-Werror all-warnings)
CFLAGS := -std=c11 -O2 -g -D_GNU_SOURCE -I. -fPIC $(HIDE) -ffp-contract=off -Wall -Wextra
say = @$(if $(V),,echo "  $1";)

ifeq ($(ARCH),)
plugin:
	@echo 'no CUDA compiler: build/device_cuda.so is not built (CUDA_HOME names the folder above bin/nvcc)'
else
plugin: $(SO)
	@:
$(shell .ci/keep $(O)/flags.txt '$(NVCC) $(NVFLAGS) $(CC) $(CFLAGS) $(OBJ)')
endif

# nvcc's own remarks end in the report too; on failure they are shown.
$(O)/%.o: %.cu $(O)/flags.txt
	@mkdir -p $(@D)
	$(call say,NVCC $<)$(NVCC) $(NVFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $< >$(@:.o=.txt) 2>&1 || \
	    { cat $(@:.o=.txt) >&2; exit 1; }
	@grep -i 'warning' $(@:.o=.txt) >&2 || :
$(O)/%.o: %.c $(O)/flags.txt
	@mkdir -p $(@D)
	$(call say,CC $<)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(O)/ptxas.txt: $(CU:%.cu=$(O)/%.o) .ci/spills
	@cat $(CU:%.cu=$(O)/%.txt) >$@.new && { .ci/spills $@.new$(if $(WERROR),, || :); } && mv $@.new $@
$(SO): $(OBJ) $(O)/ptxas.txt
	$(call say,LD $@)$(NVCC) -shared -cudart static -o $@.new $(OBJ) -lcublas -Xlinker \
	    --no-undefined$(comma)--exclude-libs$(comma)ALL$(if $(LIB_DIR),$(comma)-rpath$(comma)$(LIB_DIR)) && mv $@.new $@

-include $(OBJ:.o=.d)
.DELETE_ON_ERROR:
.PHONY: plugin

# variant.mk - names of what is built: plain `make` and `make test` write build/servelab and
# build/servelab-test; every other variant has its own folder, so that none clobbers another.
# The tests always use the checking variant, and its own command line program.
VARIANT := $(notdir $(firstword $(CC)))$(if $(DEBUG),-check)$(if $(SAN),-san)
TEST_VARIANT := $(notdir $(firstword $(CC)))-check$(if $(SAN),-san)
PLAIN := $(filter default file undefined,$(origin CC))
BIN := build/$(if $(and $(PLAIN),$(if $(DEBUG)$(SAN),,1)),,$(VARIANT)/)servelab
TEST_BIN := build/$(if $(and $(PLAIN),$(if $(SAN),,1)),,$(TEST_VARIANT)/)servelab-test
# Where the program's C files lie; every .c in them is built.
C_DIRS := base text workloads workloads/import kernels kernels/* models strategies strategies/* results harness

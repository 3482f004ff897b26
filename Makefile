# orchestrator-agent: `make` alone prints what there is.
export RIG := $(CURDIR)/target/rig
export PATH := $(HOME)/.cargo/bin:$(PATH)
export CARGO_TARGET_DIR := $(CURDIR)/target
HOST = $(shell rustc -vV | sed -n 's|^host: ||p')
MUSL := x86_64-unknown-linux-musl
STATIC := $(CARGO_TARGET_DIR)/$(MUSL)/release/orchestrator-agent

help:
	@echo 'make build    release binary: target/release/orchestrator-agent'
	@echo 'make static   the same for every x86-64 Linux, with no library: target/$(MUSL)/release/'
	@echo 'make demo     seed a replica between two scratch servers on this machine and prove the copy (Debian, root);'
	@echo '              make demo SERVER=mysql does it with MySQL 9.7 instead of MariaDB 10.11'
	@echo 'make test     all tests, against real servers unpacked into target/rig (Debian)'
	@echo 'make test-all the same with a clean seed after each row of each matrix of faults, and prints the rows'
	@echo 'make lint     rustfmt and clippy, warnings are errors'
	@echo 'make numbers  count lines, imports, long functions and the like in src'
	@echo 'make fuzz     fuzz each parser of foreign bytes for five minutes (FUZZ_SECONDS); needs g++'
	@echo 'make bench    the measurements, on MariaDB 10.11; make bench SERVER=mysql: on MySQL 9.7'
	@echo 'make clean    remove target/, the scratch servers included'

rust:
	@rustc --version 2>/dev/null | awk '{ split($$2, v, "."); found = v[1] > 1 || v[2] >= 89 } END { exit !found }' && command -v cargo >/dev/null || \
		{ echo 'Rust 1.89 or later is needed: https://rustup.rs (this finds: '"$$(rustc --version 2>/dev/null || echo no rustc)"')' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'a C compiler is needed: apt-get install gcc libc6-dev' >&2; exit 1; }

build: rust
	cargo build --release --locked

# ring has some C and assembly: without musl-gcc the host's gcc compiles it as well, as it uses no libc header at run time.
static: rust
	@[ -d "$$(rustc --print target-libdir --target $(MUSL))" ] || rustup target add $(MUSL) || \
		{ echo 'the Rust target $(MUSL) is missing and could not be added: rustup target add $(MUSL)' >&2; exit 1; }
	@command -v musl-gcc >/dev/null || export CC_x86_64_unknown_linux_musl=gcc; \
		export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS='-C link-arg=-Wl,-z,pack-relative-relocs'; \
		set -x; cargo build --release --locked --target $(MUSL)
	@ldd $(STATIC) 2>&1 | grep -Eq 'statically linked|not a dynamic executable' || { echo '$(STATIC) is not static' >&2; exit 1; }
	@echo "$(STATIC): $$(stat -c %s $(STATIC)) bytes, statically linked"

SERVER := mariadb
demo: build
	SERVER=$(SERVER) contrib/demo.sh

# Tests of whole servers mostly wait, so there are more of them at a time than cores; what is measured has the machine to itself.
TEST_THREADS := $(shell n=$$(nproc); echo $$((n > 6 ? n : 6)))
TEST := cargo test --locked --no-fail-fast
TEST_OPTIONS :=
MEASURED := performance:: security::storm
test: rust
	tests/rig/fetch.sh mariadb mysql
	cargo build --locked
	@tests/rig/count.sh '$(TEST) -- --test-threads $(TEST_THREADS) $(TEST_OPTIONS) $(MEASURED:%=--skip %)' \
		'$(TEST) --test it -- --test-threads 1 $(TEST_OPTIONS) $(MEASURED)'

test-all: export EVERY_ROW := 1
test-all: TEST_OPTIONS += --show-output
test-all: test

lint: rust
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

numbers: rust
	@mkdir -p target && rustc -O tests/it/structure/numbers.rs -o target/numbers && target/numbers . -v

bench: build
	SERVER=$(SERVER) tests/performance/bench.sh
	tests/performance/physical.sh
	SERVER=mariadb tests/performance/locks.sh
	SERVER=mysql tests/performance/locks.sh
	cargo bench --locked --bench stream

# libFuzzer (crate libfuzzer-sys, built with g++) on stable Rust: these are the flags that cargo-fuzz gives, without a sanitizer.
FUZZ_SECONDS := 300
FUZZ_TARGETS := request certificate hello frames binlog coordinates gtid config
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
fuzz: rust
	@command -v c++ >/dev/null || { echo 'c++ is missing: apt-get install g++' >&2; exit 1; }
	RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --release --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz --target $(HOST)
	@set -e; for t in $(FUZZ_TARGETS); do \
		mkdir -p target/fuzz/corpus/$$t; seeds=tests/fuzz/seeds/$$t; [ $$t != coordinates ] || seeds="tests/fixtures/coordinates tests/fixtures/coordinates/invalid"; \
		[ $$t != config ] || seeds=conf; \
		echo "fuzz $$t for $(FUZZ_SECONDS) s"; \
		target/fuzz/$(HOST)/release/$$t -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 -verbosity=0 \
			-artifact_prefix=target/fuzz/$$t- target/fuzz/corpus/$$t $$seeds; done
	@echo 'fuzz: no finding'

clean:
	rm -rf target

.PHONY: help rust build static demo numbers test test-all lint bench fuzz clean

# One command each; every target installs what it needs.
.PHONY: demo test format lint rust-test loom neon python-test flink kcl wheel venv bench setup clean

export CARGO_INCREMENTAL := 0
VENV := target/venv
PYTHON := $(VENV)/bin/python
# Always with the whole workspace: a choice of packages would choose other features, and build all they depend on again.
WORKSPACE := --release --workspace

demo: setup
	cargo build $(WORKSPACE) --example fraud
	target/release/examples/fraud

# The model of the rings shares the processor with the tests in Python, which mostly wait for brokers.
test: format rust-test
	$(MAKE) --jobs=2 --output-sync=target loom python-test

format: setup
	cargo fmt --all --check

# What is tested is looked at by clippy while it is compiled; `lint` does that alone.
test rust-test python-test wheel: export RUSTC_WORKSPACE_WRAPPER := $(abspath tests/lint)
loom: export RUSTC_WORKSPACE_WRAPPER :=

lint: format
	cargo clippy $(WORKSPACE) --all-targets -- -D warnings

# What is tested against services (see tests/services) may not be left out.
test rust-test python-test: export THALWEG_REQUIRE_SERVICES := 1

# GPU kernels run on a software device if there is no other; without any their tests show as ignored.
rust-test: setup
	cargo test $(WORKSPACE)

# The rings under every interleaving of their atomic operations.
loom: setup
	RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/loom/Cargo.toml --target-dir target/loom

# The kernels for NEON on an emulated processor, where this one has none. Not part of `test`: it needs a compiler for aarch64 and takes ten
# minutes.
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := qemu-aarch64-static -L /usr/aarch64-linux-gnu
neon:
	tests/setup neon
	cargo test --release --package thalweg-kernels --target aarch64-unknown-linux-gnu

python-test: wheel
	$(VENV)/bin/ruff check python tests/python tests/golden examples
	$(VENV)/bin/mypy
	$(PYTHON) -m pytest

# What Flink makes of the windows that tests/python/test_flink.py holds ours against, written anew. Not part of `test`: it needs Java 17
# and some hundred megabytes of packages.
flink: setup
	test -x target/flink/bin/python || python3 -m venv target/flink
	target/flink/bin/python -m pip install --quiet apache-flink
	target/flink/bin/python tests/golden/flink/make.py

# Amazon's own client library for Kinesis, versions 2 and 3, beside ours at one lease table. Not part of `test`: it needs Java 17 and some
# hundred megabytes of packages.
kcl: setup
	cargo test $(WORKSPACE) --test kinesis -- --ignored beside_kcl

# OpenSSL goes into the wheel, for which maturin looks for patchelf. It changes the library where cargo has put it, which therefore is linked
# anew each time.
wheel: venv
	rm -rf target/wheels target/maturin target/release/lib_native.so target/release/deps/lib_native*.so
	PATH="$(abspath $(VENV))/bin:$$PATH" $(VENV)/bin/maturin build --release --interpreter $(PYTHON) --out target/wheels
	$(PYTHON) -m pip install --quiet --force-reinstall --no-deps target/wheels/*.whl

venv: setup
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement tests/python/requirements.txt

bench: setup venv
	$(PYTHON) -m pip install --quiet --requirement benches/peers/requirements.txt
	cargo build $(WORKSPACE) --bin thalweg-bench
	target/release/thalweg-bench all --python $(PYTHON)

setup:
	@tests/setup

clean:
	cargo clean

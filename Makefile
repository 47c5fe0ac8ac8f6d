# Everything starts here; "make help" lists the targets.
SHELL := /bin/sh
PREFIX ?= $(HOME)/.local
VERSION ?= 0.1.0-dev
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
STAMP := -X banger/internal/base/version.number=$(VERSION) -X banger/internal/base/version.commit=$(COMMIT)
GO := CGO_ENABLED=0 go
INIT := internal/guestbin/bin/banger-init
TEST_FLAGS ?=

.PHONY: run build install test fast bench-boot bench-ext4 bench-import check generate setup setup-test clean help

run: setup build ## set up, build, and open a shell in a new VM (without a terminal: print its uname)
	@if [ -t 0 ]; then exec bin/banger vm run; else exec bin/banger vm run --rm -- uname -a </dev/null; fi

build: ## build bin/banger
	@$(GO) build -trimpath -ldflags '-s -w $(STAMP)' -o $(INIT) ./cmd/banger-init
	@$(GO) build -trimpath -ldflags '-s -w $(STAMP)' -o bin/banger ./cmd/banger

install: build ## install the one host binary to $(PREFIX)/bin
	install -D -m 0755 bin/banger '$(DESTDIR)$(PREFIX)/bin/banger'

setup: ## install the host packages that banger needs, if any are missing
	@tools/setup run

setup-test:
	@tools/setup run test

# One package after another: a mount namespace that mmdebstrap makes in one package's
# tests would hold on to the loop mounts of another's.
test: setup-test build ## run every test, real guests included
	@BANGER_TEST_BIN=$(CURDIR)/bin/banger BANGER_TEST_REQUIRE=guest,tools,host \
		go tool -modfile=tools/go.mod gotestsum --format pkgname-and-test-fails -- \
		-p 1 -race -shuffle=on -timeout 35m $(TEST_FLAGS) ./...

fast: ## run the tests that need no guest
	@go test -race -shuffle=on ./...

bench-boot: setup build ## boot time and command latency, side by side with bare QEMU and debvm
	@tools/setup bench
	@go run ./bench/boot

bench-ext4: ## the ext4 library, side by side with cat, tar2ext4, mke2fs, debugfs, resize2fs
	@tools/setup run test
	@go run ./bench/ext4 $(BENCH_FLAGS)

bench-import: ## layers of an image to a disk, side by side with umoci, tar2ext4, buildah (as root)
	@tools/setup run test
	@go run ./bench/import $(BENCH_FLAGS)

check: ## formatting, vet, generated code
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	@go vet ./...

generate: ## regenerate api/ from its .proto files
	@tools/generate

clean: ## remove what was built
	rm -rf bin $(INIT) .cache

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

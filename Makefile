# Each target is a step of .ci/run or one command; `.ci/run help` says what the steps do.

.PHONY: all test lint links race builds newest modules user-check browser-check waterfall hotrod collector-check interop fuzz-short bench

all: ; .ci/run
test: ; .ci/run test
lint: ; .ci/run lint modules
links: ; .ci/run links
race: ; .ci/run race
builds: ; .ci/run builds
newest: ; .ci/run newest
modules: ; .ci/run modules
user-check: ; .ci/run user
browser-check: ; .ci/run tools browser
waterfall: ; internal/browsercheck/run --only hotrod --screenshot examples/hotrod/waterfall.png
hotrod: ; go run ./examples/hotrod
interop: ; cd internal/interop && go run . install all && MESHTRACE_INTEROP=1 go test -v -count=1 -timeout 1h .
collector-check: ; cd internal/interop && go run . install collector && go run . collector-check
fuzz-short: ; .ci/fuzz 20s
bench: ; .ci/bench

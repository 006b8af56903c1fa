# What takes more than one word; everything else is `go test`.

.PHONY: test sim judge sbom fuzz pictures

test:
	go test ./...

# make sim SEEDS=10000          that many scripts, from SEED on
# make sim SEED=773 COUNT=100   one script, again and again: goroutines are scheduled anew each time
# make sim TX=1                 with transactional handlers; SEQUENCED=1: with keys that are parked and released
SEEDS ?= $(if $(SEED),1,1000)
sim:
	EVENTBUS_SIM_SEEDS=$(SEEDS) EVENTBUS_SIM_SEED=$(or $(SEED),0) EVENTBUS_SIM_COUNT=$(or $(COUNT),1) \
		go test -count=1 -timeout 0 $(if $(TX)$(SEQUENCED),-tags synctests )\
		-run '$(if $(TX),^TestTransactionSimulation$$,$(if $(SEQUENCED),^TestSequenceSimulation$$,^TestSimulation$$))'

# make judge HISTORY=file       what `make sim` kept of a failure, judged again
judge:
	go run ./internal/ledger/judge $(HISTORY)

# make sbom FILE=file           what the package is made of, as CycloneDX
FILE ?= sbom.cdx.json
sbom:
	scripts/sbom $(FILE)

# make fuzz TIME=60s            every fuzz target in turn, for so long each
TIME ?= 60s
fuzz:
	scripts/fuzz $(TIME)

# make pictures                 README's pictures of the console, by Chromium
pictures:
	cd internal/browser && GOWORK=off EVENTBUS_REQUIRE_BROWSER=1 EVENTBUS_SCREENSHOTS=$(CURDIR)/console/pictures go test -count=1 -run Picture .

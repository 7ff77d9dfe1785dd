# Aegis: set up, run, test. Everything else is plain cargo, which works once `make setup` ran.

.DEFAULT_GOAL := help
.PHONY: help setup build quick run demo test bench-proxy bench-faults bench-memory bench-simulator bench-crosscheck bench-backend bench-batching bench-costs bench-tune bench-loadtest mutants fmt lint doc deny clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: compilers and cmake (apt), libtorch (.libtorch/)
	@scripts/setup.sh

build: setup ## Build the programs as they ship: optimized as a whole, which takes its time
	cargo build --release

quick: setup
	@echo "build: optimized lightly, some minutes the first time; 'make build' builds what ships"
	cargo build --profile quick --bins -p aegis-proxy -p aegis-backend -p aegis-e2e

run: quick ## Start the whole stack on free ports, and print how to ask it
	target/quick/aegis-stack run

demo: quick ## Tell the story in a minute: split, crash, canary down, with numbers
	target/quick/aegis-stack demo

test: ## Run every check and test
	@scripts/setup.sh test
	@scripts/test.sh

bench-proxy: setup ## Measure what Aegis costs while all is well, beside its peers (CHECK=1 fails on a missed bound)
	@scripts/setup.sh bench
	cargo build --release -p aegis-proxy --bins --example bare
	cargo build --profile quick -p aegis-e2e --bin aegis-bench
	target/quick/aegis-bench proxy --bin target/release --bin target/release/examples --bin .tools/bench/bin \
		--json target/bench-proxy.json $(if $(CHECK),--check) $(BENCH_ARGS)

bench-faults: setup ## Let pods misbehave under load, before Aegis and its peers (CHECK=1 fails on a missed bound)
	@scripts/setup.sh bench
	cargo build --release -p aegis-proxy
	cargo build --profile quick -p aegis-e2e --bin aegis-bench
	target/quick/aegis-bench faults --bin target/release --bin .tools/bench/bin \
		--json target/bench-faults.json $(if $(CHECK),--check) $(BENCH_ARGS)
	target/quick/aegis-bench bystanders --bin target/release \
		--json target/bench-bystanders.json $(if $(CHECK),--check)

bench-memory: setup ## Ten minutes of faults, reloads and replays: whether memory stays flat (CHECK=1 fails where not)
	cargo build --release -p aegis-proxy
	cargo build --profile quick -p aegis-e2e --bin aegis-bench
	target/quick/aegis-bench memory --bin target/release --json target/bench-memory.json \
		$(if $(CHECK),--check) $(BENCH_ARGS)

bench-simulator: ## Measure decisions among 10,000 endpoints, and a large simulation (CHECK=1 fails on a missed bound)
	cargo bench -p aegis-simulator --bench decisions -- \
		--json "$(CURDIR)/target/bench-simulator.json" $(if $(CHECK),--check) $(BENCH_ARGS)

bench-crosscheck: ## Hold the simulator to the real proxy, row by row (CHECK=1 fails where they are more than 2 x apart)
	cargo build --release -p aegis-proxy
	cargo build --profile quick -p aegis-e2e --bin aegis-bench
	target/quick/aegis-bench crosscheck --bin target/release --json target/bench-crosscheck.json \
		$(if $(CHECK),--check) $(BENCH_ARGS)

bench-backend: setup ## Measure what the server makes of two cores, beside Triton and mosec (CHECK=1 fails on a missed bound)
	@scripts/setup.sh bench-backend
	cargo build --release -p aegis-backend
	cargo build --profile quick -p aegis-e2e --bin aegis-bench -p aegis-torch --example bench_models
	target/quick/examples/bench_models target/bench-models
	target/quick/aegis-bench backend --bin target/release --models target/bench-models --peers .tools/serving \
		--json target/bench-backend.json $(if $(CHECK),--check) $(BENCH_ARGS)

bench-batching: setup ## Measure what batching brings, and what is answered under overload (CHECK=1 fails on a missed bound)
	@scripts/setup.sh bench-backend
	cargo build --release -p aegis-backend
	cargo build --profile quick -p aegis-e2e --bin aegis-bench -p aegis-torch --example bench_models
	target/quick/examples/bench_models target/bench-models
	target/quick/aegis-bench batching --bin target/release --models target/bench-models \
		--json target/bench-batching.json $(if $(CHECK),--check) $(BENCH_ARGS)

bench-tune: setup ## Hold the tuner to a sweep over every setting of a real backend (CHECK=1 fails on a missed bound)
	cargo build --release -p aegis-backend
	cargo build --profile quick -p aegis-e2e --bin aegis-bench -p aegis-torch --example bench_models -p aegis-loadtest \
		--bin aegis-loadtest
	target/quick/examples/bench_models target/bench-models
	target/quick/aegis-bench tune --bin target/release --bin target/quick --models target/bench-models \
		--json target/bench-tune.json $(if $(CHECK),--check) $(BENCH_ARGS)

bench-costs: setup ## Measure what metrics and safety checks cost, and whether the backend's memory stays flat for ten minutes
	@scripts/setup.sh bench-backend
	cargo build --release -p aegis-backend
	cargo build --profile quick -p aegis-e2e --bin aegis-bench -p aegis-torch --example bench_models
	target/quick/examples/bench_models target/bench-models
	target/quick/aegis-bench costs --bin target/release --models target/bench-models \
		--json target/bench-costs.json $(if $(CHECK),--check) $(BENCH_ARGS)
	target/quick/aegis-bench backend-memory --bin target/release --models target/bench-models \
		--json target/bench-backend-memory.json $(if $(CHECK),--check)

bench-loadtest: setup ## Measure what the load tester sends, how punctually, and at what cost beside wrk (CHECK=1 fails on a missed bound)
	@scripts/setup.sh bench-loadtest
	cargo build --release -p aegis-loadtest
	cargo build --profile quick -p aegis-e2e --bin aegis-bench
	target/quick/aegis-bench loadtest --bin target/release \
		--json target/bench-loadtest.json $(if $(CHECK),--check) $(BENCH_ARGS)

mutants: ## Break policy and batcher a thousand times, a little each time: their tests have to notice (hours; MUTANTS_ARGS="--shard 0/8")
	@scripts/setup.sh mutants
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo mutants --package aegis-policy --output target $(MUTANTS_ARGS)
	mkdir -p target/batcher
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo mutants --config .cargo/mutants-backend.toml --package aegis-backend \
		--output target/batcher $(MUTANTS_ARGS)

fmt: ## Format the sources
	cargo fmt

lint: setup ## Check with clippy, warnings refused
	cargo clippy --workspace --all-targets -- -D warnings

doc: setup ## Build the documentation, warnings refused
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny: ## Check licences, bans and sources of the dependencies
	@scripts/setup.sh test
	.tools/bin/cargo-deny check --hide-inclusion-graph licenses bans sources

clean: ## Remove what was built; libtorch and tools stay
	cargo clean

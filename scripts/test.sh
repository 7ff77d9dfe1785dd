#!/usr/bin/env bash
# Everything that has to hold before a change is taken, cheapest first.
#
# Each step is announced and timed; the first that fails ends the run with the command that repeats
# it. The tests come last, so that the output ends with their summary.
set -euo pipefail
cd "$(dirname "$0")/.."

# Runs a command under a name: step NAME COMMAND [ARGUMENTS]
step() {
    local name=$1 started=$SECONDS
    shift
    echo "==> $name"
    if ! "$@"; then
        echo "==> $name failed; to repeat it: $(printf '%q ' "$@")" >&2
        exit 1
    fi
    echo "==> $name: $((SECONDS - started)) s"
}

step "format" cargo fmt --check
step "licences, bans and sources of dependencies" \
    .tools/bin/cargo-deny --log-level error check licenses bans sources
step "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
# The server without its `torch` feature: everything but the executor builds with no libtorch.
step "lints without libtorch" \
    cargo clippy --workspace --exclude aegis-torch --no-default-features --all-targets --quiet -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
step "build of the tests" cargo test --workspace --no-run --quiet
step "build of the programs" cargo build -p aegis-proxy -p aegis-backend -p aegis-loadtest --bins --quiet
step "the Helm chart and its alerts" scripts/check_charts.sh
step "clients that others wrote" scripts/check_clients.sh

echo "==> tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace 2>&1 | tee "$log" || {
    echo "==> tests failed; to repeat them: cargo test --workspace" >&2
    exit 1
}
# Every test program has told its own summary; this is their sum.
awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0 " passed, " failed + 0 " failed" }' "$log"

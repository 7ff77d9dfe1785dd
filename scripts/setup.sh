#!/usr/bin/env bash
# Installs what is missing to build Aegis, and only that.
#
#   scripts/setup.sh            compilers and cmake (with apt), libtorch
#   scripts/setup.sh test       the same, and cargo-deny, which only `make test` needs
#
# Everything but the apt packages lands in two git-ignored folders, .libtorch/ and .tools/. Run it
# as often as you like: what is there already is left alone. Each failure ends with one sentence
# that says what to do.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DENY=0.20.2

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Finds the commands that are missing and installs their packages in one go.
system_packages() {
    local missing=() pair
    for pair in cc:gcc c++:g++ make:make cmake:cmake pkg-config:pkg-config; do
        have "${pair%%:*}" || missing+=("${pair##*:}")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "compilers and cmake are in place"
        return
    fi
    have apt-get || fail "no apt-get here: install ${missing[*]} by hand, then run \`make setup\` again"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "only root can install packages: run \`apt-get install ${missing[*]}\` as root"
        root=(sudo)
    fi
    say "installing ${missing[*]} with apt"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet
        --no-install-recommends "${missing[@]}")
    # The package lists may be absent, as in a fresh container, or too old.
    "${root[@]}" "${install[@]}" >/dev/null 2>&1 && return
    "${root[@]}" apt-get update --quiet >/dev/null ||
        fail "apt-get update failed: check the network and /etc/apt/sources.list"
    "${root[@]}" "${install[@]}" >/dev/null ||
        fail "apt could not install ${missing[*]}: run \`apt-get install ${missing[*]}\` and see what it says"
}

rust() {
    have cargo || fail "there is no cargo: install Rust from https://rustup.rs, then run \`make setup\` again"
}

libtorch() {
    have python3 || fail "there is no python3: install it, as with \`apt-get install python3 python3-pip\`"
    python3 scripts/setup_libtorch.py
}

# Checks licences, bans and sources of dependencies. Compiled here, because a compiled one would
# have to be fetched from a host that not every network reaches.
cargo_deny() {
    if [ "$(.tools/bin/cargo-deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY" ]; then
        say "cargo-deny $CARGO_DENY is in place"
        return
    fi
    say "building cargo-deny $CARGO_DENY (some minutes, once)"
    # The build folder stays when this is cut off, so that the next run goes on from there.
    cargo install --quiet --locked --root .tools --target-dir .tools/build \
        --version "$CARGO_DENY" cargo-deny ||
        fail "cargo could not build cargo-deny: check the network, then run \`make setup\` again"
    rm -rf .tools/build
}

# Runs a step and says how long it took, when that is worth saying.
timed() {
    local started=$SECONDS
    "$@"
    local took=$((SECONDS - started))
    [ "$took" -lt 5 ] || say "${1//_/ } took $took s"
}

main() {
    case "${1:-}" in
        "" | test) ;;
        *) fail "unknown argument \`$1\`: expected nothing, or \`test\`" ;;
    esac
    timed system_packages
    timed rust
    timed libtorch
    [ "${1:-}" != test ] || timed cargo_deny
}

main "$@"

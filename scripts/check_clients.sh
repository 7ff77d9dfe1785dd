#!/usr/bin/env bash
# Has programs that others wrote use ours: each test in tests/clients/ starts the real aegis-backend,
# with libtorch.
#
#   scripts/check_clients.sh             needs aegis-backend, built in any profile
#   scripts/check_clients.sh --install   only installs what the tests need
#
# What is missing is installed into .tools/clients, a virtual environment with pinned versions.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS=.tools/clients
REQUIREMENTS=tests/clients/requirements.txt

say() { echo "clients: $*"; }
fail() { echo "clients: $*" >&2; exit 1; }

install() {
    cmp --silent "$REQUIREMENTS" "$TOOLS/stamp" && return
    command -v python3 >/dev/null || fail "there is no python3: install it, as with \`apt-get install python3 python3-venv\`"
    say "installing what $REQUIREMENTS pins into $TOOLS"
    python3 -m venv "$TOOLS" >/dev/null ||
        fail "python3 makes no virtual environment: install it, as with \`apt-get install python3-venv\`"
    "$TOOLS/bin/pip" install --quiet --disable-pip-version-check --requirement "$REQUIREMENTS" ||
        fail "pip could not install what $REQUIREMENTS pins: check the network and pip's index (\`pip config list\`)"
    cp "$REQUIREMENTS" "$TOOLS/stamp"
}

# Exports the program that was built last.
program() {
    local folder newest=
    for folder in "${CARGO_TARGET_DIR:-target}"/{debug,release}; do
        [ -x "$folder/aegis-backend" ] || continue
        [ -z "$newest" ] || [ "$folder/aegis-backend" -nt "$newest" ] || continue
        newest=$folder/aegis-backend
    done
    [ -n "$newest" ] || fail "aegis-backend is not built: run \`cargo build -p aegis-backend\`"
    AEGIS_BACKEND=$(realpath "$newest")
    export AEGIS_BACKEND
}

main() {
    case "${1:-}" in
        "" | --install) ;;
        *) fail "unknown argument \`$1\`: expected nothing or --install" ;;
    esac
    mkdir -p "$TOOLS"
    # One at a time installs; a second one waits, and finds the work done.
    exec 9>"$TOOLS/lock"
    flock 9
    install
    exec 9>&-
    [ "${1:-}" != --install ] || return 0
    program
    local file
    # Each in a process of its own: some clients cannot share one.
    for file in tests/clients/test_*.py; do
        say "$(basename "$file")"
        PYTHONDONTWRITEBYTECODE=1 "$TOOLS/bin/python" -m unittest discover --start-directory tests/clients \
            --pattern "$(basename "$file")" --buffer
    done
}

main "$@"

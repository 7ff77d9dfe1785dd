#!/usr/bin/env bash
# Builds one program as it ships and assembles the root file system of its image.
#
#   charts/images/build.sh aegis-proxy ROOT
#
# Runs anywhere where `make setup` has run; the Dockerfiles beside this one run it in theirs. PROFILE chooses another
# profile of cargo than release, as `quick`.
set -euo pipefail
cd "$(dirname "$0")/../.."

main() {
    [ $# -eq 2 ] || { echo "build: expected PROGRAM ROOT, got: $*" >&2; exit 1; }
    local profile=${PROFILE:-release} folder
    folder=$([ "$profile" = dev ] && echo debug || echo "$profile")
    cargo build --locked --profile "$profile" --package "$1" --bin "$1"
    charts/images/rootfs.sh program "${CARGO_TARGET_DIR:-target}/$folder/$1" "$2"
}

main "$@"

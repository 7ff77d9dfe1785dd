#!/usr/bin/env bash
# Signs the bundled model anew, with a key that is made for it and thrown away.
#
#   scripts/sign_digits.sh      needs openssl, and aegis-backend, built in any profile
#
# To be run when config/models/digits/ has changed. It describes each version by what model.toml says,
# without its comments (the folder of a version is what a signature covers), fits what its safety checks
# compare images with, signs all of it, and writes the public half to config/keys/demo.pub. Nobody can sign in its name later: the private half is gone.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "sign: $*" >&2; exit 1; }

command -v openssl >/dev/null || fail "there is no openssl: install it, as with \`apt-get install openssl\`"
backend=
for folder in "${CARGO_TARGET_DIR:-target}"/{debug,quick,release}; do
    [ -x "$folder/aegis-backend" ] || continue
    [ -z "$backend" ] || [ "$folder/aegis-backend" -nt "$backend" ] || continue
    backend=$folder/aegis-backend
done
[ -n "$backend" ] || fail "aegis-backend is not built: run \`cargo build -p aegis-backend\`"

keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$keys/demo.pem" 2>/dev/null ||
    fail "openssl could not make a key: run \`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256\`"
mkdir -p config/keys
openssl pkey -in "$keys/demo.pem" -pubout -out config/keys/demo.pub

model=config/models/digits
data=loadtest/data/digits
for version in "$model"/*/; do
    {
        echo "# What ../model.toml says, signed with the weights; scripts/sign_digits.sh writes it."
        sed -e '/^[[:space:]]*#/d' -e '/^[[:space:]]*$/d' -e 's/[[:space:]]*#.*$//' "$model/model.toml"
    } >"$version/model.toml"
    rm -f "$version/model.sig"
    # What is held out stays out, so that false alarms can be measured on it.
    "$backend" fit "$version" --data "$data/digits.csv.gz" --exclude "$data/test.csv"
    "$backend" sign "$version" --key "$keys/demo.pem"
    "$backend" verify "$version" --key config/keys/demo.pub
done

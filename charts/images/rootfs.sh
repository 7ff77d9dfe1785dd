#!/usr/bin/env bash
# Assembles the root file system of an image, from what was built.
#
#   charts/images/rootfs.sh program FILE ROOT    one program, and what it needs of the system
#   charts/images/rootfs.sh libraries DIR ROOT   shared libraries, as libtorch's, into a layer of their own
#
# The Dockerfiles beside this one run it, and the checks do, without Docker. An image has the program, the shared
# libraries that the linker names, the certificates of public authorities, and one user who is not root: no shell, no
# package manager, nothing to run but the program. Libraries of a second call are found in ../lib of the program.
set -euo pipefail

# The user of all images, and of the chart's pods.
readonly ID=65532

fail() { echo "rootfs: $*" >&2; exit 1; }

main() {
    [ $# -eq 3 ] || fail "expected \`program FILE ROOT\` or \`libraries DIR ROOT\`, got: $*"
    case $1 in
        program) program "$2" "$3" ;;
        libraries) libraries "$2" "$3" ;;
        *) fail "unknown step \`$1\`: expected program or libraries" ;;
    esac
}

program() {
    local file=$1 root=$2
    [ -x "$file" ] || fail "there is no program $file: build it first"
    mkdir -p "$root"/{etc/aegis,etc/ssl/certs,usr/local/bin,usr/local/lib,tmp,proc,dev,sys}
    chmod 1777 "$root/tmp"
    cp "$file" "$root/usr/local/bin/"
    linked "$file" "$root"
    # Where names are looked up, and what for: glibc has both built in.
    echo "hosts: files dns" >"$root/etc/nsswitch.conf"
    echo "nonroot:x:$ID:$ID:nonroot:/tmp:/nonexistent" >"$root/etc/passwd"
    echo "nonroot:x:$ID:" >"$root/etc/group"
    # What scanners of images ask for first.
    cp -L /etc/os-release "$root/etc/os-release"
    local certificates=/etc/ssl/certs/ca-certificates.crt
    [ -e "$certificates" ] || fail "there is no $certificates: install the package ca-certificates"
    cp -L "$certificates" "$root$certificates"
}

# Copies the system's libraries that a program or a library is linked with, each to the place where it is here. What
# lies elsewhere, as libtorch where it was built with it, comes by `libraries`; the GPU's driver is the node's.
linked() {
    local file=$1 root=$2 line library missing=()
    while read -r line; do
        case $line in
            *libcuda.so.1*) ;;
            *"=> not found"*) missing+=("${line%% *}") ;;
            *"=> /lib"* | *"=> /usr/lib"*)
                library=${line#*=> }
                copy "${library%% *}" "$root"
                ;;
            # The loader itself, by the path that is written into the program.
            /lib*) copy "${line%% *}" "$root" ;;
        esac
    done < <(ldd "$file")
    [ ${#missing[@]} -eq 0 ] || fail "$file needs ${missing[*]}, which are not here"
}

copy() {
    mkdir -p "$2$(dirname "$1")"
    cp -L "$1" "$2$1"
}

libraries() {
    local folder=$1 root=$2
    compgen -G "$folder/*.so*" >/dev/null || fail "there are no shared libraries in $folder"
    mkdir -p "$root/usr/local/lib"
    # Links as links: two names of one library are to stay one file.
    cp -P "$folder"/*.so* "$root/usr/local/lib/"
    local library
    for library in "$folder"/*.so*; do
        LD_LIBRARY_PATH=$folder linked "$library" "$root"
    done
}

main "$@"

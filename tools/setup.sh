#!/bin/sh
# Looks whether this machine can build Strata, installs by apt what is missing on Debian 12 (as root, or with sudo), and says
# what it installs.
#   tools/setup.sh build   what the build and the demo need
#   tools/setup.sh test    also what the tests need
set -eu

rust_min=1.95
node_major_min=18
# Room on the disk of target/ that a first build takes, MiB (measured: 1.7 GB for the demo, 2.5 GB for the tests, and reserve);
# a later one takes a part of it.
room_first_build=2500
room_first_test=4000
room_again=1000

packages='pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-x gstreamer1.0-alsa fonts-dejavu-core ffmpeg'
purpose=${1:-}
case "$purpose" in
build) room=$room_first_build ;;
test)
    room=$room_first_test
    packages="$packages rist-tools chromium iproute2 nftables gir1.2-gst-rtsp-server-1.0 python3-gi"
    ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
# at_least HAVE WANT: both as 1.95 or 1.95.0
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# What apt does not bring comes first: nobody should wait for packages, only to be told then.
has cargo || fail 'Rust is missing. Install it by rustup (https://rustup.rs), version '"$rust_min"' or newer; a shell that was open' \
    'before does not find it: open a new one, or run: . "$HOME/.cargo/env"'
rust=$(rustc --version 2>&1) || fail "rustc does not run: $rust"
rust_version=$(echo "$rust" | cut -d ' ' -f 2)
at_least "$rust_version" "$rust_min" || fail "Rust $rust_version is too old; version $rust_min or newer is needed: rustup update stable"
if [ "$purpose" = test ]; then
    for component in clippy fmt; do
        cargo "$component" --version >/dev/null 2>&1 ||
            fail "cargo $component is missing, which the tests run: rustup component add clippy rustfmt"
    done
fi

# A full disk shows as an internal error of the compiler or as a test that fails: better now, in words.
target=${CARGO_TARGET_DIR:-target}
for built in "$target"/debug/deps/libgstreamer-*.rlib; do
    [ ! -e "$built" ] || room=$room_again
done
place=$target
while [ ! -d "$place" ]; do place=$(dirname "$place"); done
free=$(($(df -Pk "$place" | awk 'NR == 2 { print $4 }') / 1024))
[ "$free" -ge "$room" ] || fail "The disk of $target has $free MiB free, and about $room MiB are needed: make room first." \
    '`cargo clean` gives back what earlier builds took; target/ may also be a link to a directory on another disk.'

missing=''
if has dpkg-query; then
    # shellcheck disable=SC2086  # a list of words
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages 2>/dev/null) || true
    for package in $packages; do
        case "$installed" in *"$package installed"*) ;; *) missing="$missing $package" ;; esac
    done
    # Programs that may also have come another way than by apt.
    { has cc && has c++; } || missing="$missing build-essential"
    has node || missing="$missing nodejs"
    has npm || missing="$missing npm"
    python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
else
    echo "This is no Debian system; see to it that these are installed:" $packages "a C compiler, node, npm, pip" >&2
fi

if [ -n "$missing" ]; then
    as_root=''
    if [ "$(id -u)" != 0 ]; then
        has sudo || fail 'Some packages are missing, and only root can install them. As root, run:' \
            "  apt-get update && apt-get install --no-install-recommends$missing"
        as_root=sudo
    fi
    echo "Installing:$missing"
    # shellcheck disable=SC2086  # lists of words
    $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $missing || fail 'apt could not install what is missing; see above.'
fi

node=$(node --version) || fail 'node does not run.'
node=${node#v}
at_least "$node" "$node_major_min" || fail "node $node is too old; version $node_major_min or newer is needed."

#!/bin/sh
# Installs by apt what is missing on Debian 12 (as root, or with sudo), and says what it installs.
#   tools/setup.sh build   what the build and the demo need
#   tools/setup.sh test    also what the tests need
set -eu

packages='pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-x gstreamer1.0-alsa fonts-dejavu-core ffmpeg'
case "${1:-}" in
build) ;;
test) packages="$packages rist-tools chromium iproute2" ;;
*) echo "usage: $0 build|test" >&2; exit 2 ;;
esac

missing=''
installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
if command -v dpkg-query >/dev/null; then
    for package in $packages; do
        installed "$package" || missing="$missing $package"
    done
    # Programs that may also have come another way than by apt.
    command -v cc >/dev/null || missing="$missing build-essential"
    command -v node >/dev/null || missing="$missing nodejs"
    command -v npm >/dev/null || missing="$missing npm"
    python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
else
    echo "This is no Debian system; see to it that these are installed: $packages, a C compiler, node, npm, pip" >&2
fi

if [ -n "$missing" ]; then
    echo "Installing:$missing"
    as_root=''
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "Become root, or install by hand:$missing" >&2; exit 1; }
        as_root=sudo
    fi
    $as_root apt-get update -q
    # shellcheck disable=SC2086  # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi

if ! command -v cargo >/dev/null; then
    echo 'Rust is missing: install it (rustup), version 1.95 or newer.' >&2
    exit 1
fi

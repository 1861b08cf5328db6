# What flextrace needs on Debian 12, in one place: sourced by quickstart and check.
# install_packages NAME… installs those that are missing, with one line that says so.

FT_BUILD_PACKAGES="gcc libc6-dev cmake ninja-build pkg-config libmicrohttpd-dev liblmdb-dev libxxhash-dev
libjansson-dev libpcre2-dev libutf8proc-dev libarchive-dev libzstd-dev zlib1g-dev libsodium-dev libcyaml-dev libyaml-dev
libopenblas-dev"
FT_DEMO_PACKAGES="man-db bible-kjv perl-base gzip"
FT_CHECK_PACKAGES="clang clang-tidy libclang-rt-14-dev libcmocka-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross
chromium curl git man-db libcurl4-openssl-dev openssl"
# A Python or a node that does not come from Debian serves as well.
command -v npm >/dev/null || FT_CHECK_PACKAGES="$FT_CHECK_PACKAGES nodejs npm"
python3 -c 'import venv, ensurepip' 2>/dev/null || FT_CHECK_PACKAGES="$FT_CHECK_PACKAGES python3 python3-venv"

install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local sudo=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "flextrace: needs root or sudo to install: ${missing[*]}" >&2; return 4; }
        sudo=sudo
    fi
    echo "installing ${#missing[@]} Debian packages: ${missing[*]}" >&2
    local log
    log=$(mktemp)
    if ! { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -5 "$log" >&2
        echo "flextrace: apt-get could not install the packages above; the whole log is $log" >&2
        return 4
    fi
    rm -f "$log"
}

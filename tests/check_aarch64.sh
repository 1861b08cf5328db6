#!/usr/bin/env bash
# Compiles every source for aarch64. Only objects are made: the libraries' headers are the host's, which serve as
# well, after the target's own C headers.
set -eu
cd "$(dirname "$0")/.."
out=build/aarch64
mkdir -p "$out"
export out
compile() {
    aarch64-linux-gnu-gcc -std=c17 -O1 -Wall -Wextra -Werror -ffp-contract=off -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE \
        -DFT_VERSION='"check"' -I. -Ibuild/dev/generated -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu \
        -c "$1" -o "$out/$(basename "$1").o" || { echo "$1 does not compile for aarch64" >&2; return 1; }
}
export -f compile
git ls-files --cached --others --exclude-standard 'base/*.c' 'text/*.c' 'index/*.c' 'model/*.c' 'tracer/*.c' 'api/*.c' |
    grep -vE '_avx2\.c$|_avx512\.c$' | sort -u | xargs -P 2 -I{} bash -c 'compile {}'

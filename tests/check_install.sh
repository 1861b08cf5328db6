#!/usr/bin/env bash
# Installs the release build into a fresh prefix and compiles and runs a program against it, shared and static.
set -eu
cd "$(dirname "$0")/.."
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install build/release --prefix "$prefix" >/dev/null
cat >"$prefix/program.c" <<'C'
#include <flextrace.h>
int main(void)
{
    ft_tokenizer *t;
    ft_status st;
    return ft_tokenizer_open(&t, "/nowhere", &st) == FT_ERR_NOT_FOUND ? 0 : 1;
}
C
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(find "$prefix" -type d -name pkgconfig)
# The file is relocated as distributions do it: with the prefix defined from outside.
flags="--define-variable=prefix=$prefix flextrace"
gcc "$prefix/program.c" -o "$prefix/shared" $(pkg-config --cflags --libs $flags)
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH") "$prefix/shared"
library=$(find "$prefix" -name libflextrace.a)
# Our own library static, Debian's shared: not all of those have a complete static form.
gcc "$prefix/program.c" -o "$prefix/static" $(pkg-config --cflags $flags) "$library" \
    $(pkg-config --libs $(pkg-config --print-requires --print-requires-private $flags)) -lm -lpthread
"$prefix/static"
"$prefix/bin/flextrace" --version
MANPATH="$prefix/share/man" man -P cat flextrace >/dev/null
bash -n "$prefix/share/bash-completion/completions/flextrace"
exported=$(nm -D --defined-only "$(dirname "$PKG_CONFIG_PATH")/libflextrace.so" | awk '{print $3}' | grep -v '^ft_' || true)
[ -z "$exported" ] || { echo "libflextrace.so exports names that are not ours: $exported" >&2; exit 1; }

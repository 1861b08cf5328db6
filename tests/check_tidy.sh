#!/usr/bin/env bash
# clang-tidy over every source of the library and the command line; .clang-tidy says which checks.
set -eu
cd "$(dirname "$0")/.."
[ -f build/clang/compile_commands.json ] || CC=clang cmake --preset dev -B build/clang >/dev/null
git ls-files --cached --others --exclude-standard 'base/*.c' 'text/*.c' 'index/*.c' 'model/*.c' 'tracer/*.c' 'api/*.c' |
    sort -u | xargs -P 2 -n 4 clang-tidy --quiet -p build/clang 2>&1 | { grep -vE '^[0-9]+ warnings? generated|^$' || true; } >build/tidy.log
if grep -qE 'warning:|error:' build/tidy.log; then
    grep -E 'warning:|error:' build/tidy.log | sort -u
    exit 1
fi

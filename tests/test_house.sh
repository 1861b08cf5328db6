#!/usr/bin/env bash
# What docs/architecture.md promises about the tree: rooms include only from below, files stay readable,
# the project names no machine. Prints a line a promise and ends with "N passed, N failed, N skipped".
cd "$(dirname "$0")/.." || exit 4
passed=0 failed=0
promise() { # NAME OFFENDERS
    if [ -z "$2" ]; then
        passed=$((passed + 1)); echo "ok: $1"
    else
        failed=$((failed + 1)); echo "FAILED: $1"; echo "$2" | sed 's/^/    /'
    fi
}
files() { git ls-files --cached --others --exclude-standard "$@"; }

upward() { # ROOM FORBIDDEN-ROOMS
    files "$1/*.c" "$1/*.h" | xargs -r grep -nE "^#include \"($2)/"
}
promise "base includes no other room" "$(upward base 'text|index|model|tracer|api')"
promise "text includes base alone" "$(upward text 'index|model|tracer|api')"
promise "index knows neither model nor what stands above" "$(upward index 'model|tracer|api')"
promise "model knows neither index nor what stands above" "$(upward model 'index|tracer|api')"
promise "tracer does not know the api" "$(upward tracer 'api')"
promise "the library does not know the command line" \
    "$(files '*.c' '*.h' | grep -v '^api/cli/' | xargs grep -nE '^#include "api/cli/')"
promise "no source file is longer than 1,200 lines" \
    "$(files '*.c' '*.h' '*.js' '*.css' '*.py' '*.sh' | xargs wc -l | awk '$2 != "total" && $1 > 1200')"
promise "file names are unique across the tree" \
    "$(files '*.c' '*.h' | sed 's|.*/||' | sort | uniq -d)"
promise "every header has a guard and a comment that says what it is" \
    "$(for h in $(files '*.h'); do head -1 "$h" | grep -q '^/\*' && grep -q '^#ifndef FT_\|^#ifndef FLEXTRACE_H' "$h" || echo "$h"; done)"
promise "the library neither prints nor exits" \
    "$(files 'base/*.c' 'text/*.c' 'index/*.c' 'model/*.c' 'tracer/*.c' 'api/*.c' | grep -v '^api/cli/' |
       xargs grep -nE '(^|[^_a-z])(printf|puts|putchar|perror|exit|abort)\(|fprintf\(std|fputs\([^;]*std(out|err)' | grep -v '/\* allowed')"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]

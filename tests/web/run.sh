#!/usr/bin/env bash
# The page in headless Chromium, against the real server with the demo model and small indexes made here; where
# the binary or demo/model is absent, against mock.mjs. Everything that it makes lies under build/web.
# The last line is "N passed, N failed, N skipped".
#   tests/web/run.sh [WORDS OF A TEST'S NAME]      FLEXTRACE=path/to/flextrace, WEB_MOCK=1 for the mock
set -u
cd "$(dirname "$0")/../.." || exit 4
root=$PWD
here=$root/tests/web work=$root/build/web
skip() { echo "skipped: web ($1)"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
broken() { echo "FAILED: $1"; [ -f "${2:-}" ] && tail -5 "$2" | sed 's/^/    /'; echo "0 passed, 1 failed, 0 skipped"; exit 1; }

CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
[ -n "$CHROMIUM" ] || skip "no chromium"
command -v node >/dev/null && command -v npm >/dev/null || skip "no npm"
mkdir -p "$work"
if [ ! -d "$work/node_modules/playwright-core" ]; then
    npm install --prefix "$work" --no-audit --no-fund --loglevel=error playwright-core@1.49.1 >"$work/npm.log" 2>&1 ||
        skip "npm cannot fetch playwright-core; $work/npm.log says why"
fi

binary=${FLEXTRACE:-}
for candidate in build/release/flextrace build/dev/flextrace build/flextrace; do
    [ -z "$binary" ] && [ -x "$candidate" ] && binary=$root/$candidate
done
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; wait 2>/dev/null' EXIT

# Waits for the first http:// address in a log.
address() {
    for _ in $(seq 150); do
        URL=$(grep -oE 'http://[0-9.:]+' "$1" | head -1)
        [ -n "$URL" ] && return 0
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.2
    done
    return 1
}

if [ -z "${WEB_MOCK:-}" ] && [ -n "$binary" ] && [ -f demo/model/model.safetensors ] && "$binary" serve --help >/dev/null 2>&1; then
    echo "against $binary serve"
    rm -rf "$work/federation"
    "$binary" generate demo/model -p "And it came to pass" -n 40 --temperature 0 --json >"$work/echo.json" 2>"$work/log" ||
        broken "the demo model does not generate" "$work/log"
    node -e 'process.stdout.write(JSON.parse(require("fs").readFileSync(0, "utf8")).text)' <"$work/echo.json" |
        node "$here/fixture.mjs" "$work/federation" "$root/demo/model" || broken "no fixture"
    for corpus in "$work"/federation/*.jsonl; do
        owner=$(basename "$corpus" .jsonl)
        "$binary" index build "$work/federation/$owner" -t demo/model --owner "$owner" "$corpus" >"$work/log" 2>&1 ||
            broken "no index of $owner" "$work/log"
    done
    "$binary" serve "$work/federation/federation.yaml" --listen 127.0.0.1:0 --chat-template chatml >"$work/server.log" 2>&1 &
else
    echo "against the mock: no flextrace with serve, or no demo/model"
    node "$here/mock.mjs" >"$work/server.log" 2>&1 &
fi
server=$!
address "$work/server.log" || broken "the server did not start" "$work/server.log"
export URL CHROMIUM FT_WEB_MODULES=$work
node "$here/page.mjs" "$@"

#!/usr/bin/env bash
# Real clients from PyPI against `flextrace serve`: openai, prometheus_client's parser, securesystemslib, and
# lm-evaluation-harness. Needs the demo model and PyPI; without either it says what it skipped. The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/../.." || exit 4
binary=${FLEXTRACE:-build/dev/flextrace}
venv=build/clients-venv

skip() {
    echo "skipped: openai and lm-eval ($1)"
    echo "0 passed, 0 failed, 2 skipped"
    exit 0
}

[ -f demo/model/model.safetensors ] || skip "demo/model is not there"
[ -x "$binary" ] || { echo "no $binary: build it first"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
if ! "$venv/bin/python" -c 'import openai, prometheus_client' 2>/dev/null; then
    { python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check openai prometheus_client; } >build/clients-pip.log 2>&1 ||
        skip "pip could not install openai; build/clients-pip.log says why"
fi

folder=$(mktemp -d)
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server"; rm -rf "$folder"' EXIT
cat >"$folder/scripture.jsonl" <<'JSON'
{"id":"gen-1","text":"In the beginning God created the heaven and the earth. And the earth was without form, and void."}
{"id":"gen-2","text":"Thus the heavens and the earth were finished, and all the host of them."}
JSON
cat >"$folder/public.jsonl" <<'JSON'
{"id":"man-1","text":"The manual page describes every option of the command in turn."}
JSON
cat >"$folder/federation.yaml" <<YAML
name: demo
model: $PWD/demo/model
store: store
signing_key: signing.pem
owners:
  - {name: public, expert: 0, index: [public.index]}
  - {name: scripture, expert: 1, index: [scripture.index]}
YAML
for owner in public scripture; do
    "$binary" index build "$folder/$owner.index" -t demo/model --owner $owner "$folder/$owner.jsonl" >"$folder/build.log" 2>&1 ||
        { cat "$folder/build.log"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
done
"$binary" key new --signing "$folder/signing.pem" >/dev/null || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
"$binary" serve "$folder" --listen 127.0.0.1:0 --chat-template chatml --quiet >"$folder/out" 2>"$folder/err" &
server=$!
until grep -q serving "$folder/out"; do
    kill -0 $server 2>/dev/null || { cat "$folder/err"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
    sleep 0.1
done
address=$(sed -n 's/^flextrace: serving //p' "$folder/out")
passed=0 failed=0 skipped=0
count() { # NAME LOG: adds up what a script printed last
    local p f s
    if read -r p f s < <(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$2" | tail -1 | tr -cd '0-9 \n'); then
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    else
        echo "FAILED: $1 did not come to its end"
        failed=$((failed + 1))
    fi
}

timeout 600 "$venv/bin/python" tests/clients/test_openai.py "$address" 2>&1 | tee "$folder/openai.log"
count openai "$folder/openai.log"

if "$venv/bin/python" -c 'import cryptography, securesystemslib' 2>/dev/null ||
    "$venv/bin/pip" install -q --disable-pip-version-check cryptography securesystemslib >>build/clients-pip.log 2>&1; then
    timeout 600 "$venv/bin/python" tests/clients/test_receipt.py "$address" "$(realpath "$binary")" "$folder" 2>&1 | tee "$folder/receipt.log"
    count receipt "$folder/receipt.log"
else
    echo "skipped: receipt (pip could not install cryptography; build/clients-pip.log says why)"
    skipped=$((skipped + 1))
fi

if "$venv/bin/python" -c 'import numpy' 2>/dev/null ||
    "$venv/bin/pip" install -q --disable-pip-version-check numpy >>build/clients-pip.log 2>&1; then
    timeout 600 "$venv/bin/python" tests/clients/test_numpy.py "$address" "$(realpath "$binary")" "$folder" 2>&1 | tee "$folder/numpy.log"
    count numpy "$folder/numpy.log"
else
    echo "skipped: numpy (pip could not install it; build/clients-pip.log says why)"
    skipped=$((skipped + 1))
fi

if "$venv/bin/python" -c 'import lm_eval, aiohttp, tenacity' 2>/dev/null ||
    timeout 900 "$venv/bin/pip" install -q --disable-pip-version-check 'lm-eval[api]' >>build/clients-pip.log 2>&1; then
    HF_HUB_OFFLINE=1 HF_HOME=$folder/hf TQDM_DISABLE=1 timeout 900 \
        "$venv/bin/python" tests/clients/test_lm_eval.py "$address" "$binary" demo/model >"$folder/lm_eval.log" 2>&1
    grep -vE 'INFO|WARNING|Task:|it/s|examples/s|^$' "$folder/lm_eval.log"
    count lm-eval "$folder/lm_eval.log"
else
    echo "skipped: lm-eval (pip could not install it; build/clients-pip.log says why)"
    skipped=$((skipped + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

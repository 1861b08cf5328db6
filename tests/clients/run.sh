#!/usr/bin/env bash
# The real `openai` Python client against `flextrace serve`. Needs the demo model and PyPI;
# without either it says what it skipped. The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/../.." || exit 4
binary=${FLEXTRACE:-build/dev/flextrace}
venv=build/clients-venv

skip() {
    echo "skipped: openai client ($1)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

[ -f demo/model/model.safetensors ] || skip "demo/model is not there"
[ -x "$binary" ] || { echo "no $binary: build it first"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
if ! "$venv/bin/python" -c 'import openai' 2>/dev/null; then
    { python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check openai; } >build/clients-pip.log 2>&1 ||
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
owners:
  - {name: public, expert: 0, index: [public.index]}
  - {name: scripture, expert: 1, index: [scripture.index]}
YAML
for owner in public scripture; do
    "$binary" index build "$folder/$owner.index" -t demo/model --owner $owner "$folder/$owner.jsonl" >"$folder/build.log" 2>&1 ||
        { cat "$folder/build.log"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
done
"$binary" serve "$folder" --listen 127.0.0.1:0 --quiet >"$folder/out" 2>"$folder/err" &
server=$!
until grep -q serving "$folder/out"; do
    kill -0 $server 2>/dev/null || { cat "$folder/err"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
    sleep 0.1
done
address=$(sed -n 's/^flextrace: serving //p' "$folder/out")
timeout 600 "$venv/bin/python" tests/clients/test_openai.py "$address"

#!/usr/bin/env bash
# Compares flextrace with its peers on fresh random input: Hugging Face tokenizers and transformers,
# infini-gram, lm-evaluation-harness.
# Uses a Python that has them ($PYTHON, build/peers, or python3); FLEXTRACE_PEERS=install makes build/peers first.
# What is not installed is skipped by name. Last line: "N passed, N failed, N skipped".
cd "$(dirname "$0")/../.." || exit 4
if [ "${FLEXTRACE_PEERS:-}" = install ] && [ ! -x build/peers/bin/python ]; then
    python3 -m venv build/peers &&
        { build/peers/bin/pip install -q torch==2.13.0 || build/peers/bin/pip install -q torch; } &&
        build/peers/bin/pip install -q transformers==5.23.0 tokenizers infini-gram numpy safetensors jinja2 'lm-eval[api]' || exit 4
fi
python=${PYTHON:-python3}
[ -x build/peers/bin/python ] && python=build/peers/bin/python
export FLEXTRACE=${FLEXTRACE:-$PWD/build/release/flextrace}
[ -x "$FLEXTRACE" ] || FLEXTRACE=$PWD/build/dev/flextrace
exec "$python" tests/peers/run.py "$@"

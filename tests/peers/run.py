"""Runs the comparisons and counts them. An argument chooses those whose name holds it; SEED fixes the input."""
import importlib
import os
import random
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.dirname(__file__))
MODULES = [("peer_tokenizers", ["tokenizers"]), ("peer_transformers", ["torch", "transformers", "numpy"]),
           ("peer_eval", ["torch", "transformers", "numpy"]), ("peer_train", ["torch", "transformers", "numpy"]),
           ("peer_infinigram", ["infini_gram", "numpy"]), ("peer_trace", []), ("peer_chat", ["jinja2"]),
           ("peer_lm_eval", ["lm_eval", "aiohttp", "tenacity", "torch", "transformers", "numpy"])]


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"seed {seed} (SEED={seed} repeats this run)")
    passed = failed = skipped = 0
    for name, needs in MODULES:
        missing = [n for n in needs if importlib.util.find_spec(n) is None]
        if missing:
            skipped += 1
            print(f"skipped: {name}: {', '.join(missing)} not installed (./check --peers installs)")
            continue
        module = importlib.import_module(name)
        for test in [t for t in vars(module) if t.startswith("test_") and wanted in t]:
            random.seed(seed)
            with tempfile.TemporaryDirectory() as folder:
                try:
                    vars(module)[test](folder, seed)
                    passed += 1
                    print(f"ok: {test[5:].replace('_', ' ')}", flush=True)
                except Exception:
                    failed += 1
                    print(f"FAILED: {test[5:].replace('_', ' ')}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    import importlib.util
    sys.exit(main())

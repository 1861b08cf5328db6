"""What the scripts of foreign clients share: running their tests one after another, each a sentence."""

import sys
import traceback


def run_tests(client, tests):
    """Runs all, tells each by name, ends the script with "N passed, N failed, N skipped". A test that
    returns a text was skipped, for that reason."""
    failed = skipped = 0
    for test in tests:
        name = f"{client}: {test.__name__.replace('_', ' ')}"
        try:
            why = test()
        except Exception:
            failed += 1
            print("FAILED", name)
            traceback.print_exc()
            continue
        skipped += why is not None
        print(f"skipped {name} ({why})" if why else f"ok {name}")
    print(f"{len(tests) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)

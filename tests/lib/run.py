"""Runs the functions named subject__situation__expectation of a module against one cluster, and says which failed."""
import sys
import traceback


def run(module, *arguments):
    tests = [(name, item) for name, item in vars(module).items() if callable(item) and name.count("__") == 2]
    assert tests, "a module without tests"
    failed = 0
    for name, test in tests:
        try:
            test(*arguments)
            print("ok      %s" % name, flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("FAILED  %s" % name, flush=True)
            traceback.print_exc()
    print("%d tests, %d failed" % (len(tests), failed))
    if failed:
        raise SystemExit(1)
    sys.stdout.flush()

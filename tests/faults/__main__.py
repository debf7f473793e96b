"""`ops/drill`: the program is drill.py."""

import signal
import sys
from importlib.util import find_spec

if __name__ == "__main__":
    if find_spec("psutil") is None:
        sys.stderr.write("ops/drill: the development dependencies are missing: run ops/test first\n")
        raise SystemExit(1)
    # Ctrl-C while all this is imported ends it without a word, like any program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tests.faults.drill import main

    main()

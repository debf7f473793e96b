"""`ops/drill`: the program is drill.py."""

import signal

if __name__ == "__main__":
    # Ctrl-C while all this is imported ends it without a word, like any program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tests.faults.drill import main

    main()

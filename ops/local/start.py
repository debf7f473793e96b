"""First thing of `ops/up`, `ops/test` and `ops/docs`: run one of them.

Ctrl-C ends it without a word until it listens itself. The shell had it ignored, since Python answers a Ctrl-C
while it starts with a traceback.
"""

import signal
import sys


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command, *arguments = sys.argv[1:]
    if command == "up":
        from .up import main as run
    elif command == "docs":
        from .site import main as run
    else:
        from .gate import main as run
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())

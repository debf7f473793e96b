# Sourced by ops/up and ops/test: find a Python and hand over to a module that needs nothing installed.

fail() {
    echo "ops/$(basename "$0"): $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or newer"
        echo "$PYTHON"
        return
    fi
    for candidate in .venv/bin/python python3 python3.13 python3.12 python3.11 python3.14 python; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer: install it, or say where it is with PYTHON=/path/to/python3"
}

start() {
    # Tests and demos start some hundred processes; without bytecode each of them compiles the whole checkout.
    unset PYTHONDONTWRITEBYTECODE
    python=$(find_python) || exit 1
    trap '' INT
    exec "$python" -m ops.local.start "$@"
}

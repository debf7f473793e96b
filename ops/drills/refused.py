"""Why a drill does not run: one sentence, for whoever asked for it on the command line or by a task."""


class Refused(ValueError):
    """It is not done, and asking again changes nothing: `str()` says what would."""


class UnderWay(Refused):
    """Another drill has the database; later it can be done."""


class Unreachable(RuntimeError):
    """MongoDB or Redis does not answer."""

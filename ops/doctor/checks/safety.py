"""Are reads and writes what they should be, and the way to the servers safe?"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import names

Record = Mapping[str, Any]


def retries(facts: Facts) -> Iterator[Finding]:
    """The driver's own retries are off."""
    for option, variable in (("retryWrites", "MONGODB_RETRY_WRITES"), ("retryReads", "MONGODB_RETRY_READS")):
        nodes = _where(facts, lambda record, option=option: _option(record, option) is False)  # type: ignore[misc] # a lambda's default has no type
        if nodes:
            yield Finding(
                "retries-off",
                Severity.DEGRADED,
                f"{option} is off: every failover is an error in whatever runs.",
                (f"{option}=false on {names(nodes)}",),
                "The driver would repeat the operation once, on the new primary, and nobody would notice.",
                (f"{variable}=true  # and no {option} in the URI",),
                where=frozenset(nodes),
            )


def write_concern(facts: Facts) -> Iterator[Finding]:
    """Writes that count before a majority has them."""
    nodes = _where(facts, lambda record: str(_option(record, "w")) in ("0", "1"))
    if nodes:
        w = {str(_option(node.record, "w")) for node in facts.living if node.name in nodes}
        yield Finding(
            "write-concern",
            Severity.NOTE,
            f"Writes count with w={', '.join(sorted(w))}: a failover may undo them.",
            (f"w={', '.join(sorted(w))} on {names(nodes)}",),
            "A task whose message is acknowledged may have written what the next primary does not have.",
            ("MONGODB_WRITE_CONCERN=majority",),
            where=frozenset(nodes),
        )


def read_preference(facts: Facts) -> Iterator[Finding]:
    """Reads from members that may lag."""
    nodes = _where(
        facts, lambda record: str(_option(record, "readPreference") or "primary").lower() != "primary"
    )
    if nodes:
        modes = {str(_option(node.record, "readPreference")) for node in facts.living if node.name in nodes}
        yield Finding(
            "read-preference",
            Severity.NOTE,
            f"Reads may be answered by a secondary ({', '.join(sorted(modes))}): a task may not see what "
            "the one before it wrote.",
            (f"readPreference {', '.join(sorted(modes))} on {names(nodes)}",),
            "That is right for reports and wrong for a task that goes on where another ended.",
            ("MONGODB_READ_PREFERENCE=primary  # and with_options() where a stale read does no harm",),
            where=frozenset(nodes),
        )


def no_login(facts: Facts) -> Iterator[Finding]:
    """Servers on the network that ask for no login."""
    for key, server, fix in (
        ("mongodb", "MongoDB", "give the app a user with readWrite on its database, in MONGODB_URI"),
        ("redis", "Redis", "an ACL user or requirepass, in REDIS_URL"),
    ):
        nodes = _where(facts, lambda record, key=key: _is_open(record.get(key) or {}, "login"))  # type: ignore[misc] # a lambda's default has no type
        if nodes:
            yield Finding(
                "no-login",
                Severity.NOTE,
                f"{server} is used over the network without a login.",
                (f"no user in the URI, a host that is not this one, on {names(nodes)}",),
                "Whoever reaches its port may read and delete everything"
                + (", and send tasks to run." if key == "redis" and facts.is_redis_the_broker else "."),
                (fix,),
                where=frozenset(nodes),
            )


def no_tls(facts: Facts) -> Iterator[Finding]:
    """Connections over the network in clear text."""
    for key, server, fix in (
        ("mongodb", "MongoDB", "MONGODB_TLS=true  # with MONGODB_TLS_CA_FILE for a CA of your own"),
        ("redis", "Redis", "rediss:// in REDIS_URL"),
    ):
        nodes = _where(facts, lambda record, key=key: _is_open(record.get(key) or {}, "tls"))  # type: ignore[misc] # a lambda's default has no type
        if nodes:
            yield Finding(
                "no-tls",
                Severity.NOTE,
                f"What is said to {server} goes over the network in clear text.",
                (f"no TLS to a host that is not this one, on {names(nodes)}",),
                "Documents, and the proof of the password, can be read and changed on the way.",
                (fix,),
                where=frozenset(nodes),
            )


def unverified(facts: Facts) -> Iterator[Finding]:
    """TLS that trusts whoever answers."""
    for key, server, fix in (
        ("mongodb", "MongoDB", "take tlsInsecure and tlsAllowInvalid… out of the URI; MONGODB_TLS_CA_FILE"),
        ("redis", "Redis", "take ssl_cert_reqs=none out of REDIS_URL; ssl_ca_certs=FILE"),
    ):
        nodes = _where(facts, lambda record, key=key: (record.get(key) or {}).get("verified") is False)  # type: ignore[misc] # a lambda's default has no type
        if nodes:
            yield Finding(
                "tls-unverified",
                Severity.DEGRADED,
                f"TLS to {server} does not check whose certificate it is.",
                (f"verification is off on {names(nodes)}",),
                "Whoever gets between can read and change everything, and take the password.",
                (fix,),
                where=frozenset(nodes),
            )


def _is_open(way: Record, what: str) -> bool:
    return way.get("local") is False and way.get(what) is False


def _option(record: Record, name: str) -> Any:
    return (record.get("options") or {}).get(name)


def _where(facts: Facts, is_so: Callable[[Record], bool]) -> set[str]:
    return {node.name for node in facts.living if node.record and is_so(node.record)}


CHECKS = (
    Check(
        "retries-off",
        "Does the driver retry?",
        retries,
        needs=("nodes",),
        practice="Enable retryWrites and retryReads",
    ),
    Check("tls-unverified", "Are certificates checked?", unverified, needs=("nodes",)),
    Check("no-login", "Do the servers ask for a login?", no_login, needs=("nodes",)),
    Check("no-tls", "Is the way encrypted?", no_tls, needs=("nodes",)),
    Check(
        "write-concern",
        "Does a write survive a failover?",
        write_concern,
        needs=("nodes",),
        practice="Adjust write concern as needed",
    ),
    Check(
        "read-preference",
        "Does a task see what was written?",
        read_preference,
        needs=("nodes",),
        practice="Use appropriate read preferences",
    ),
)

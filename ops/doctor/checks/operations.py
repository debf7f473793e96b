"""What MongoDB answers to operations of tasks: denied for want of a role, or refused for another reason."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ...text import count, count_of
from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import names, seconds


def operations_denied(facts: Facts) -> Iterator[Finding]:
    """The user lacks a role for what tasks do."""
    found = {each.member: each.part("denied") for each in facts.present if each.part("denied")}
    if not found:
        return
    tasks = {task: what for told in found.values() for task, what in told["tasks"].items()}
    commands = {what.partition(" ")[0] for what in tasks.values() if what}
    has_login = not any(what.endswith(_NO_LOGIN) for what in tasks.values())
    lasted = max(told["for"] for told in found.values())
    last = min(told["ago"] for told in found.values())
    codes = ", ".join(sorted({str(told["code"]) for told in found.values()}))
    times = sum(told["n"] for told in found.values())
    databases = {what.partition(" on ")[2].partition(".")[0] for what in tasks.values()} - {""}
    title = "MongoDB denies operations of tasks: the user lacks a role"
    if not has_login:
        title = "MongoDB asks for a login, and MONGODB_URI has none: operations are denied"
    elif commands and commands <= _WRITES:
        title = "Writes are refused: the MongoDB user may not write"
    yield Finding(
        "operations-denied",
        Severity.DEGRADED,
        f"{title} (code {codes}).",
        (
            *(f"{task}: {what or 'not said which operation'}" for task, what in sorted(tasks.items())[:5]),
            f"{count(times, 'time')} in {count_of(len(found), len(facts.present), 'process')}, for "
            f"{seconds(lasted)}, the last {seconds(last)} ago",
        ),
        "Each of these tasks fails at once, and trying again cannot help.",
        (_grant(facts, databases) if has_login else "put user and password into MONGODB_URI",),
        where=frozenset(found),
    )


_NO_LOGIN = " without a login"
_WRITES = frozenset(
    {"insert", "update", "delete", "findAndModify", "bulkWrite", "createIndexes", "create", "drop"}
)


def _grant(facts: Facts, databases: set[str]) -> str:
    login = facts.login or {}
    user, source = login.get("user") or "USER", login.get("source") or "admin"
    roles = ", ".join(f"{{role: 'readWrite', db: '{name}'}}" for name in sorted(databases) or ["DATABASE"])
    return f"db.getSiblingDB('{source}').grantRolesToUser('{user}', [{roles}])"


@dataclass(frozen=True)
class _Refusal:
    """What a code means for whoever writes, and what ends it."""

    title: str
    why: str
    fix: str
    is_of_server: bool = False


_SPACE = "df -h and du -sh on the server's dbPath; make room, or a larger disk: writes go on by themselves"
_SCHEMA = (
    "db.getCollectionInfos({name: 'COLLECTION'})[0].options.validator  # what it asks for; change the "
    "document, or the rule by collMod"
)
_BY_CODE = {
    14_031: _Refusal(
        "The disk of the MongoDB server is full: it takes no writes",
        "Reads go on; every write fails, whoever makes it, until there is room.",
        _SPACE,
        is_of_server=True,
    ),
    12_501: _Refusal(
        "The database has used up its quota",
        "Every write that needs room fails, until something is deleted or the quota is raised.",
        "db.stats()  # delete, or raise the quota of the hosting plan",
        is_of_server=True,
    ),
    371: _Refusal(
        "Writes are blocked on the MongoDB server (setUserWriteBlockMode)",
        "Somebody blocked them, as for a migration or a backup: all writes of users fail.",
        "db.adminCommand({setUserWriteBlockMode: 1, global: false})  # once whoever set it is done",
        is_of_server=True,
    ),
    121: _Refusal(
        "Documents do not pass the collection's validator",
        "A rule of the collection, new or stricter, and the documents of these tasks do not agree.",
        _SCHEMA,
    ),
    50: _Refusal(
        "Operations end at their own time limit (maxTimeMS)",
        "The server gave them up after the time that they were given: they take too long.",
        "explain() the query of the task: an index is the usual cure; else a longer limit",
    ),
    64: _Refusal(
        "Writes are not confirmed by as many members as the write concern asks for (wtimeout)",
        "Members lag or are away; the write may be done on the primary all the same.",
        "rs.printSecondaryReplicationInfo() on the primary: which member is behind?",
        is_of_server=True,
    ),
    79: _Refusal(
        "The write concern names what the replica set does not know",
        "No write with it can be confirmed.",
        "compare w in MONGODB_URI with rs.conf().settings.getLastErrorModes",
    ),
    100: _Refusal(
        "The write concern asks for more members than the replica set has",
        "No write with it can be confirmed.",
        "w=majority in MONGODB_URI, or as many members as it names",
    ),
}
_OTHER = _Refusal(
    "MongoDB refuses operations of tasks",
    "The server answers and refuses these: trying again gives the same.",
    "the log of the node at ERROR has the task's traceback with the server's words",
)

ENOUGH = 3
"""Refusals that one process met in two minutes: fewer are single documents, as in the best of fleets."""


def operations_refused(facts: Facts) -> Iterator[Finding]:
    """The server refuses what tasks do, and not for want of a role."""
    found = {each.member: each.part("refused") for each in facts.present if each.part("refused")}
    by_code = Counter[int]()
    for told in found.values():
        by_code[told["code"]] += told["n"]
    for code, times in by_code.most_common():
        of_code = {member: told for member, told in found.items() if told["code"] == code}
        known = _BY_CODE.get(code, _OTHER)
        if max(told["n"] for told in of_code.values()) < ENOUGH and not known.is_of_server:
            continue
        tasks = {task: what for told in of_code.values() for task, what in told["tasks"].items()}
        word = next((what for what in tasks.values() if what), "")
        lasted, last = (
            pick(told[key] for told in of_code.values()) for pick, key in ((max, "for"), (min, "ago"))
        )
        yield Finding(
            "operations-refused",
            Severity.DEGRADED,
            f"{known.title} (code {code}{f', {word}' if word else ''}).",
            (
                f"{count(times, 'operation')} of {names(tasks)} in "
                f"{count_of(len(of_code), len(facts.present), 'process')}, for {seconds(lasted)}, the last "
                f"{seconds(last)} ago",
            ),
            known.why,
            (known.fix,),
            where=frozenset(of_code),
        )


CHECKS = (
    Check("operations-denied", "May the user do what tasks do?", operations_denied, needs=("nodes",)),
    Check(
        "operations-refused",
        "Does MongoDB do what tasks ask of it?",
        operations_refused,
        needs=("nodes",),
        explains=("dead-letters", "history-refused"),
    ),
)

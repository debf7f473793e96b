"""MongoDB is there and does not let us in: the login, TLS or the options are wrong, everywhere or here."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...text import count_of
from ..facts import Facts, Process
from ..finding import Check, Finding, Severity
from ..words import names
from .outage import SYMPTOMS

_READ_AGAIN = "celery -A APP mongo reconnect --replace  # reads it at once; processes do so by themselves"
_HERE = "The fleet is not affected. From this machine nothing can be said of MongoDB."


@dataclass(frozen=True)
class _Mistake:
    """What the driver's reason begins with after the server's address, what that is, and what ends it."""

    words: str
    title: str
    fix: str


# The first that fits. SERVER is the address of the one that was met.
_MISTAKES = (
    _Mistake(
        "client certificate missing",
        "MongoDB asks for a client certificate, and none is set",
        "MONGODB_TLS_CERTIFICATE_KEY_FILE=FILE  # or tlsCertificateKeyFile in the URI, with a certificate "
        "that the server's authority has signed and its key",
    ),
    _Mistake(
        "client certificate expired",
        "The client certificate has expired",
        "put a new one where MONGODB_TLS_CERTIFICATE_KEY_FILE points: processes take it up by themselves",
    ),
    _Mistake(
        "client certificate not accepted",
        "MongoDB asks for a client certificate and closes the connection with ours",
        "openssl verify -CAfile THE-SERVERS-CA.pem CLIENT.pem: was it signed by the authority that the "
        "server trusts (net.tls.CAFile)? The server's log has its reason",
    ),
    _Mistake(
        "certificate expired",
        "The server's certificate has expired",
        "renew the server's certificate; openssl s_client -connect SERVER </dev/null | openssl x509 -noout "
        "-dates shows until when it is valid",
    ),
    _Mistake(
        "certificate not valid",
        "The server's certificate is not valid yet",
        "date -u, here and on the server: which clock is wrong? openssl s_client -connect SERVER "
        "</dev/null | openssl x509 -noout -dates shows from when it is valid",
    ),
    _Mistake(
        "certificate is of another host",
        "The server's certificate is for another host name",
        "name the server in MONGODB_URI as its certificate does (openssl s_client -connect SERVER "
        "</dev/null | openssl x509 -noout -ext subjectAltName), or have the certificate name it",
    ),
    _Mistake(
        "certificate not trusted",
        "The server's certificate is not signed by an authority that is trusted here",
        "MONGODB_TLS_CA_FILE=FILE  # or tlsCAFile in the URI, with the certificate of the authority that "
        "signed it; openssl s_client -connect SERVER -CAfile FILE </dev/null shows whether it does",
    ),
    _Mistake(
        "the server speaks TLS and this client does not",
        "MongoDB speaks TLS only, and TLS is off in the settings",
        "MONGODB_TLS=true  # or tls=true in the URI, and MONGODB_TLS_CA_FILE where the authority is your own",
    ),
    _Mistake(
        "this client speaks TLS and the server does not",
        "TLS is on in the settings, and MongoDB speaks none",
        "MONGODB_TLS=false  # and no tls option in the URI, or net.tls.mode=requireTLS on the server",
    ),
)
_OTHER = _Mistake(
    "",
    "The connection's settings do not fit the server: TLS, certificates or options",
    "compare MONGODB_TLS, MONGODB_TLS_CA_FILE and the URI's options with what the server serves; openssl "
    "s_client -connect SERVER -CAfile FILE </dev/null shows whether its certificate is trusted",
)


def login_refused(facts: Facts) -> Iterator[Finding]:
    """The login is refused: to all, to some processes, or to this machine alone."""
    refused, is_here = _refused(facts, "auth")
    if not (refused or is_here):
        return
    is_ours = _is_ours(facts, refused)
    who = "the login" if is_ours else "the login of this machine"
    yield Finding(
        "login-refused",
        _severity(facts, refused),
        f"MongoDB refuses {who}: the user, the password or the database that knows the user is wrong.",
        (*_evidence(facts, refused), *_here(facts, is_here)),
        "No task reaches the database. Tasks wait in the broker until a login works; nothing is lost."
        if is_ours
        else _HERE,
        (
            "put the right user, password and authSource into MONGODB_URI (or MONGODB_URI_FILE), with "
            "reserved characters escaped (%40 for @)",
            *([_READ_AGAIN] if is_ours else []),
        ),
        where=_where(facts, refused),
    )


def configuration_refused(facts: Facts) -> Iterator[Finding]:
    """TLS or the options keep the client from the server: all, some processes, or this machine alone."""
    refused, is_here = _refused(facts, "config")
    if not (refused or is_here):
        return
    is_ours = _is_ours(facts, refused)
    met = _met(facts, refused)
    if _ANOTHER_SET in met:
        return
    mistake = next((one for one in _MISTAKES if one.words in met), _OTHER)
    fix = mistake.fix.replace("SERVER", _server(met))
    yield Finding(
        "configuration-refused",
        _severity(facts, refused),
        f"{mistake.title}{'' if is_ours else ', on this machine alone'}.",
        (*_evidence(facts, refused), *_here(facts, is_here)),
        "No new connection can be made, however often it is tried. Tasks wait in the broker until it can; "
        "nothing is lost."
        if is_ours
        else _HERE,
        (fix,),
        where=_where(facts, refused),
    )


def replica_set_name(facts: Facts) -> Iterator[Finding]:
    """The settings name another replica set than the server's."""
    refused, is_here = _refused(facts, "config")
    met = _met(facts, refused)
    if not (refused or is_here) or _ANOTHER_SET not in met:
        return
    is_ours = _is_ours(facts, refused)
    found = _SET_NAMES.search(met)
    theirs, own = (found["theirs"], found["own"]) if found else ("THE-SETS-NAME", "")
    yield Finding(
        "replica-set-name",
        _severity(facts, refused),
        f"The replica set is named {theirs!r}, and the settings say {own!r}"
        f"{'' if is_ours else ', on this machine alone'}."
        if found
        else "The replica set has another name than the settings say.",
        (*_evidence(facts, refused), *_here(facts, is_here)),
        "The driver takes no server of another set, so it sends nothing, though the server is well. Tasks "
        "wait in the broker until the name is right; nothing is lost."
        if is_ours
        else _HERE,
        (
            f"replicaSet={theirs} in MONGODB_URI, in place of replicaSet={own or 'NAME'}; without the option "
            "the driver takes the set as it is. If the name in the settings is right, the host is not",
            f"mongosh mongodb://{_server(met)}/?directConnection=true --eval 'db.hello().setName'",
            *([_READ_AGAIN] if is_ours else []),
        ),
        where=_where(facts, refused),
    )


_ANOTHER_SET = "the replica set is named"
_SET_NAMES = re.compile(rf"{_ANOTHER_SET} '(?P<theirs>[^']+)', and the settings say '(?P<own>[^']+)'")


def _met(facts: Facts, refused: Sequence[Process]) -> str:
    return next((str(process.report.get("error")) for process in refused), None) or _reason_here(facts)


def _refused(facts: Facts, cause: str) -> tuple[list[Process], bool]:
    """Return the processes that are cut off for this cause, and whether this machine is."""
    found = [
        process for process in facts.present if process.is_cut_off and process.report.get("cause") == cause
    ]
    return found, facts.ping is not None and facts.ping.get("error_class") == cause


def _is_ours(facts: Facts, refused: Sequence[Process]) -> bool:
    """Say whether it is the fleet's trouble, too: a process has met it, or there is none that is well."""
    return bool(refused) or all(process.is_cut_off for process in facts.present)


def _severity(facts: Facts, refused: Sequence[Process]) -> Severity:
    if all(process.is_cut_off for process in facts.present):
        return Severity.DOWN
    # A fleet that is well is not worse for a machine that looks at it.
    return Severity.DEGRADED if refused else Severity.NOTE


def _where(facts: Facts, refused: Sequence[Process]) -> frozenset[str]:
    """Return the processes, and the nodes of which each process is one of them; nothing where it is all."""
    if all(process.is_cut_off for process in facts.present):
        return frozenset()
    members = frozenset(process.member for process in refused)
    whole = (node.members for node in facts.living if {each.member for each in node.present} <= members)
    return members.union(*whole)


def _evidence(facts: Facts, refused: Sequence[Process]) -> Iterator[str]:
    if refused:
        who = count_of(len(refused), len(facts.present), "process")
        yield f"{who}: {names({process.member for process in refused})}"
        told = {str(process.report["error"]) for process in refused if process.report.get("error")}
        yield from (f"the driver says: {error}" for error in sorted(told)[:2])
    elif facts.present:
        yield f"{count_of(0, len(facts.present), 'process')} of the fleet met it"


def _here(facts: Facts, is_here: bool) -> Iterator[str]:
    if not is_here:
        return
    login = facts.login or {}
    who = [
        f"{name} {login[key]}"
        for name, key in (("user", "user"), ("authSource", "source"), ("mechanism", "mechanism"))
        if login.get(key)
    ]
    is_login = (facts.ping or {}).get("error_class") == "auth"
    yield f"this machine: {_reason_here(facts)}" + (f"; {', '.join(who)}" if is_login and who else "")


def _reason_here(facts: Facts) -> str:
    return "; ".join(str(reason) for reason in (facts.ping or {}).get("reasons") or ()) or "no answer"


def _server(met: str) -> str:
    """Return the address in a reason, fit to be pasted."""
    words = (word.removesuffix(":") for word in met.split() if word.endswith(":"))
    return next((word for word in words if word.rpartition(":")[2].isdigit()), "HOST:PORT")


CHECKS = (
    Check(
        "login-refused",
        "Does MongoDB let us in?",
        login_refused,
        explains=("no-primary", "mongodb-down", "configuration-refused", *SYMPTOMS),
    ),
    Check(
        "replica-set-name",
        "Is the replica set's name right?",
        replica_set_name,
        explains=("no-primary", "mongodb-down", *SYMPTOMS),
    ),
    Check(
        "configuration-refused",
        "Do TLS and options fit the server?",
        configuration_refused,
        explains=("no-primary", "mongodb-down", *SYMPTOMS),
    ),
)

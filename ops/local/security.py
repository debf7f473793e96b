"""What a local mongod takes to ask for logins and to speak TLS: its options, a key, a certificate."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

from .servers import ServerError


def with_logins(data: Path) -> list[str]:
    """Options for a replica set that asks for a login: its members know each other by a key."""
    data.mkdir(parents=True, exist_ok=True)
    key = data / "key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32))
    return ["--auth", "--keyFile", str(key)]


def with_tls(certificate: Path) -> list[str]:
    """Options for TLS alone, with this certificate and the key beside it; clients need no certificate."""
    both = certificate.with_name("server.pem")
    both.write_text(certificate.read_text() + certificate.with_suffix(".key").read_text())
    both.chmod(0o600)
    # Members are clients of each other: the certificate signs itself.
    authority = ["--tlsCAFile", str(certificate), "--tlsAllowConnectionsWithoutCertificates"]
    return ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(both), *authority]


def certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself; its key lies beside it as `.key`.

    Raises:
        ServerError: there is no openssl to make it with.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ServerError("no openssl here to make a certificate with")
    path = folder / "ca.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path

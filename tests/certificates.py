"""Certificates for tests, made by the `openssl` program: an authority, and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

_LOCAL = "IP:127.0.0.1,DNS:localhost"
_CONFIG = """
[ca]
default_ca = here
[here]
database = {folder}/database
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


class Authority:
    """Signs certificates. `certificate` is its own; all files are in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("no openssl here to make certificates with")
        self._openssl = openssl
        self._folder = folder
        folder.mkdir(parents=True)
        self.certificate = folder / "authority.pem"
        self._key = folder / "authority.key"
        own = [
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
        ]
        self._run("req", *own, *self._new_key(self._key), "-out", self.certificate)
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))

    def sign(
        self,
        name: str,
        *,
        hosts: str = _LOCAL,
        begins: timedelta = timedelta(hours=-1),
        lasts: timedelta = timedelta(days=2),
    ) -> Path:
        """Return a file with a certificate and its key; `begins` counts from now, `lasts` from then on."""
        key, request, signed = (self._folder / f"{name}.{part}" for part in ("key", "csr", "crt"))
        self._run("req", "-subj", f"/CN={name}", *self._new_key(key), "-out", request)
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName = {hosts}\n")
        (self._folder / "database").write_text("")
        since = datetime.now(UTC) + begins
        until = since + lasts
        dates = ["-startdate", _written(since), "-enddate", _written(until)]
        config = self._folder / "openssl.cnf"
        own: list[str | Path] = ["-cert", self.certificate, "-keyfile", self._key, "-config", config]
        files: list[str | Path] = ["-in", request, "-out", signed, "-extfile", extensions]
        self._run("ca", "-batch", "-notext", *own, *files, *dates)
        both = self._folder / f"{name}.pem"
        both.write_text(signed.read_text() + key.read_text())
        both.chmod(0o600)
        return both

    @staticmethod
    def _new_key(path: Path) -> list[str | Path]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path]

    def _run(self, command: str, *arguments: str | Path) -> None:
        subprocess.run([self._openssl, command, *map(str, arguments)], check=True, capture_output=True)


def _written(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%SZ")

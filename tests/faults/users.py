"""The workers' login on a MongoDB that asks for one, and the password that it is changed to."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from ops.local.replica_set import ReplicaSet

USER = "app"
PASSWORD, NEXT_PASSWORD = "first", "second"


def create_user(mongo: ReplicaSet) -> None:
    """Make a user who may read and write every database."""
    with mongo.client() as client:
        client.admin.command("createUser", USER, pwd=PASSWORD, roles=["readWriteAnyDatabase"])


def as_user(uri: str, password: str) -> str:
    """This URI with the user's login in the place of root's."""
    parts = urlsplit(uri)
    place = parts.netloc.rpartition("@")[2]
    query = f"{parts.query}&authSource=admin".lstrip("&")
    return urlunsplit(parts._replace(netloc=f"{USER}:{password}@{place}", query=query))

"""What people are told about a setting: derived from its field, so that it cannot be outdated."""

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from .types import Setting


@dataclass(frozen=True)
class SettingDescription:
    """One row of the table of settings; `file_variable` names the file to read a secret from."""

    field: str
    variable: str
    unit: str
    default: str
    allowed: str
    reason: str
    file_variable: str | None


def describe_setting(name: str, field: FieldInfo) -> SettingDescription:
    """Return the description of the field `name`."""
    setting = setting_of(field)
    return SettingDescription(
        field=name,
        variable=setting.variable,
        unit=setting.unit,
        default=_default(field.default),
        allowed=setting.allowed or _allowed(field),
        reason=f"{setting.reason} Only the service reads it." if setting.instead else setting.reason,
        file_variable=f"{setting.variable}_FILE" if is_secret(field) else None,
    )


def setting_of(field: FieldInfo) -> Setting:
    """Return the metadata of ours that a field carries."""
    return next(item for item in field.metadata if isinstance(item, Setting))


def is_secret(field: FieldInfo) -> bool:
    """Say whether a field holds a secret, or a URI with one in it."""
    return any(isinstance(kind, type) and issubclass(kind, SecretStr) for kind in _kinds(field.annotation))


def _kinds(annotation: Any) -> list[Any]:
    inner = [kind for argument in get_args(annotation) for kind in _kinds(argument)]
    return [annotation, *inner]


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: FieldInfo) -> str:
    if field.annotation is bool:
        return "true or false"
    if get_origin(field.annotation) is Literal:
        return _either([str(choice) for choice in get_args(field.annotation)])
    low = next(item.ge for item in field.metadata if isinstance(item, Ge))
    high = next(item.le for item in field.metadata if isinstance(item, Le))
    number = "whole number" if field.annotation is int else "number"
    return f"a {number} from {low} to {high}"


def _either(choices: list[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"

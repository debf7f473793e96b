"""From a file to the reader of its rows: which format it is, and which types its columns have."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from ..problems import InputProblem, UsageProblem
from ..text import names as some
from .columns import Guess, converters, infer
from .csv_rows import CsvRows
from .json_rows import JsonLines, JsonValues
from .rows import Reader
from .source import Source, Survey

FORMATS = ("csv", "tsv", "json", "jsonl")
_BY_SUFFIX = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_PACKED = (".gz", ".zst")


@dataclass(frozen=True)
class Opened:
    """A reader, what it reads, its columns if it has a header, their types, and a note on each that is not
    what it seemed."""

    reader: Reader
    format: str
    types: Mapping[str, str]
    notes: Sequence[str] = ()
    columns: Sequence[str] | None = None


def open_rows(source: Source, survey: Survey, *, format: str | None, types: Mapping[str, str]) -> Opened:
    """Return the reader of a source's rows. Reads a CSV once more where `types` leaves columns open."""
    format = format or detect(source.name, survey.head)
    try:
        if format in ("csv", "tsv"):
            return _open_csv(source, format, types)
        make = JsonLines if format == "jsonl" else JsonValues
        return Opened(make(source.open(), converters(types)), format, types)
    except InputProblem as problem:
        raise InputProblem(f"{source.name}: {problem.message}") from None


def detect(name: str, head: bytes) -> str:
    """Return the format that a file's name says, or else its first bytes; UsageProblem where neither do."""
    path = PurePath(name)
    suffix = (path.with_suffix("") if path.suffix.lower() in _PACKED else path).suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"["):
        return "jsonl" if _is_json_lines(text) else "json"
    if suffix == ".json":
        return "json"
    if not suffix or name == "-":
        return "csv"
    raise UsageProblem(f"{name}: cannot tell its format; say --format {'|'.join(FORMATS)}")


def _is_json_lines(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text.partition(b"\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _open_csv(source: Source, format: str, types: Mapping[str, str]) -> Opened:
    delimiter = "\t" if format == "tsv" else ","
    reader = CsvRows(source.open(), delimiter=delimiter)
    unknown = [name for name in types if name not in reader.columns]
    if unknown:
        known = some(reader.columns)
        raise UsageProblem(f"{source.name}: --types names the column {unknown[0]}; it has {known}")
    notes: list[str] = []
    if set(types) < set(reader.columns):
        guesses = infer(reader.columns, _cells(reader))
        notes = [_note(name, guess) for name, guess in guesses.items() if guess.was and name not in types]
        types = {name: guess.kind or "string" for name, guess in guesses.items()} | dict(types)
        reader = CsvRows(source.open(), delimiter=delimiter)
    reader.convert(converters(types))
    return Opened(reader, format, types, notes, reader.columns)


def _cells(reader: CsvRows) -> Iterator[tuple[int, list[str]]]:
    for row in reader.rows():
        if row.problem is None and isinstance(row.text, list):
            yield row.line, row.text


def _note(name: str, guess: Guess) -> str:
    return (
        f"column {name} is taken for strings, since the row in line {guess.broken_at} has no {guess.was}; "
        f"--types {name}={guess.was} rejects such rows instead"
    )

"""What the mutation sample changes in a module, and what it leaves as it is."""

import pytest

from tests.mutation.mutants import mutants


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("x = a < b", ["a <= b"]),
        ("x = a is None", ["a is not None"]),
        ("x = a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("x = a and b", ["a or b"]),
        ("x = not a", ["a"]),
        ("x = base * 2.0 ** failures", ["base + 2.0 ** failures", "2.0 * failures", "3.0"]),
        ("x = True", ["False"]),
        ("x = a + 'text'", []),
        ("x: Literal[1]", []),
        ("x = f'{a + 1}'", []),
    ],
)
def test_each_expression_that_decides_is_changed_by_itself(source: str, after: list[str]) -> None:
    assert [mutant.after for mutant in mutants(source)] == after


def test_the_rest_of_the_source_stays_as_it_is() -> None:
    source = "# é\nx = [\n    1,\n    a == b,  # why\n]\n"
    assert [(mutant.line, mutant.source) for mutant in mutants(source)] == [
        (3, source.replace("1,", "(2),")),
        (4, source.replace("a == b", "(a != b)")),
    ]

"""What the count of instructions is compared with, and what is said about it. Nothing is counted here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.instructions import baseline
from bench.instructions.callgrind import count, parts, totals
from bench.instructions.catalogue import WORKLOADS
from bench.instructions.cli import NOT_COUNTED, main
from bench.instructions.comparison import LIMIT, compare
from bench.instructions.errors import CannotCount
from bench.instructions.inside import LAYOUTS
from bench.instructions.report import as_json, table, verdict
from bench.instructions.subject import builders, compiled_modules, signature

KEY = "cpython 3.11.2, cython 3.3.1, gcc 12.2.0"
ACCEPT = "python -m bench.instructions --update"
COUNTS = st.integers(min_value=1, max_value=10**9)
FIGURES = st.dictionaries(st.text("abcdef-", min_size=1, max_size=8), COUNTS, max_size=5)


@given(FIGURES, FIGURES)
def test_exactly_what_is_more_than_the_limit_above_its_baseline_has_grown(
    counted: dict[str, int], figures: dict[str, int]
) -> None:
    comparison = compare(KEY, counted, figures)
    both = counted.keys() & figures.keys()
    assert {row.name for row in comparison.rows} == counted.keys() | figures.keys()
    assert {row.name for row in comparison.grown} == {
        name for name in both if (counted[name] - figures[name]) / figures[name] * 100 > LIMIT
    }
    assert {row.name for row in comparison.shrunk} == {
        name for name in both if (counted[name] - figures[name]) / figures[name] * 100 < -LIMIT
    }


@given(FIGURES)
def test_nothing_grows_against_itself_or_under_a_new_key(counted: dict[str, int]) -> None:
    for figures in (counted, None):
        comparison = compare(KEY, counted, figures)
        assert not comparison.grown
        assert not comparison.shrunk


@pytest.mark.parametrize(("counted", "grown"), [(1049, False), (1050, False), (1051, True), (949, False), (900, False)])
def test_the_limit_is_five_percent(counted: int, grown: bool) -> None:
    assert bool(compare(KEY, {"get": counted}, {"get": 1000}).grown) is grown


def test_growth_is_named_with_its_figures_and_how_to_accept_it() -> None:
    text = verdict(compare(KEY, {"get": 1100, "post": 2000}, {"get": 1000, "post": 2000}), ACCEPT)
    assert "FAILED: get went from 1,000 to 1,100 instructions per request (+10.0 %), more than 5 % up." in text
    assert ACCEPT in text
    assert "post" not in text


def test_an_improvement_asks_for_a_new_baseline() -> None:
    text = verdict(compare(KEY, {"get": 900}, {"get": 1000}), ACCEPT)
    assert "Better: get went from 1,000 to 900 instructions per request (-10.0 %)." in text
    assert ACCEPT in text
    assert "FAILED" not in text


def test_a_new_key_is_said_to_be_new() -> None:
    text = verdict(compare(KEY, {"get": 900}, None), ACCEPT)
    assert f"no baseline for {KEY}" in text
    assert ACCEPT in text


def test_workloads_that_come_and_go_are_named() -> None:
    text = verdict(compare(KEY, {"get": 900}, {"post": 1000}), ACCEPT)
    assert "New: get " in text
    assert "Gone: post " in text


def test_the_table_has_every_figure() -> None:
    lines = table(compare(KEY, {"get": 1234567, "new": 5}, {"get": 1234567, "old": 6})).splitlines()
    assert [line.split() for line in lines] == [
        ["workload", "instructions", "baseline", "change"],
        ["get", "1,234,567", "1,234,567", "+0.0", "%"],
        ["new", "5", "-"],
        ["old", "-", "6"],
    ]


def test_as_json_it_has_the_same() -> None:
    found = json.loads(json.dumps(as_json(compare(KEY, {"get": 1100}, {"get": 1000}))))
    assert found["key"] == KEY
    assert found["grown"] == ["get"]
    assert found["workloads"] == {"get": {"instructions": 1100, "baseline": 1000, "change": 10.0}}


# The file


def test_an_update_leaves_other_keys_alone(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.write(path, "one", {"get": 1, "post": 2})
    baseline.write(path, "two", {"get": 3})
    baseline.write(path, "one", {"get": 4})
    assert baseline.read(path) == {"one": {"get": 4}, "two": {"get": 3}}


def test_no_file_is_an_empty_baseline(tmp_path: Path) -> None:
    assert baseline.read(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["", "[]", '{"key": 1}', '{"key": {"get": "1"}}', '{"key": {"get": 0}}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(CannotCount, match=r"baseline\.json"):
        baseline.read(path)


def test_the_committed_baseline_is_about_the_workloads_that_there_are() -> None:
    committed = baseline.read(baseline.COMMITTED)
    assert committed
    for figures in committed.values():
        assert figures.keys() == {workload.name for workload in WORKLOADS}


# The key


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"..\0_cython_3_3_1\0..GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0", ("cython 3.3.1", "gcc 12.2.0")),
        (b"_cython_3_3_1.x _cython_3_3_1\0Debian clang version 14.0.6\0", ("cython 3.3.1", "clang 14.0.6")),
        # The start-up files of the C library are from another release.
        (b"_cython_3_4_0a1\0GCC: (GNU) 9.4.0\0GCC: (GNU) 12.2.0\0", ("cython 3.4.0a1", "gcc 12.2.0")),
        # clang links those of gcc.
        (b"_cython_3_3_1\0GCC: (GNU) 12.2.0\0clang version 19.1.7\0", ("cython 3.3.1", "clang 19.1.7")),
        (b"\x7fELF", ()),
    ],
)
def test_a_module_says_what_made_it(content: bytes, found: tuple[str, ...]) -> None:
    assert signature(content) == found


def test_modules_of_two_builds_have_no_key(tmp_path: Path) -> None:
    paths = [tmp_path / "a.cpython-311.so", tmp_path / "b.cpython-311.so"]
    for path, compiler in zip(paths, (b"12.2.0", b"13.1.0"), strict=True):
        path.write_bytes(b"_cython_3_3_1\0GCC: (GNU) %b\0" % compiler)
    assert builders(paths[:1]) == ["cython 3.3.1", "gcc 12.2.0"]
    with pytest.raises(CannotCount, match="different builds"):
        builders(paths)


def test_a_module_that_does_not_say_what_made_it_has_no_key(tmp_path: Path) -> None:
    path = tmp_path / "a.cpython-311.so"
    path.write_bytes(b"_cython_3_3_1\0")
    with pytest.raises(CannotCount, match="does not say"):
        builders([path])


def test_one_module_that_is_not_compiled_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wire").mkdir()
    for name in ("timers.pxd", "timers.cpython-311.so", "wire/body.pxd", "wire/body.py"):
        (tmp_path / name).touch()
    with pytest.raises(CannotCount, match=r"vsproxy\.wire\.body .*is not compiled"):
        compiled_modules(tmp_path)
    (tmp_path / "wire" / "body.cpython-311.so").touch()
    assert len(compiled_modules(tmp_path)) == 2


# What callgrind leaves


def test_the_parts_are_those_between_the_marks(tmp_path: Path) -> None:
    for number in range(1, 3 * LAYOUTS + 1):
        (tmp_path / f"7.{number}").write_text(f"events: Ir\nfn=(1)\n1 2\ntotals: {number}\n")
    (tmp_path / "7").touch()
    (tmp_path / "77.1").touch()
    pairs = parts(tmp_path, "get", 7)
    assert [(totals(once), totals(twice)) for once, twice in pairs] == [
        (3 * layout + 2, 3 * layout + 3) for layout in range(LAYOUTS)
    ]


def test_a_missing_mark_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "7.1").touch()
    with pytest.raises(CannotCount, match="get: 1 parts"):
        parts(tmp_path, "get", 7)


def test_without_valgrind_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotCount, match="apt-get install valgrind"):
        count("python", WORKLOADS)


def test_a_python_that_does_not_run_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--python", "/bin/false"]) == NOT_COUNTED
    assert "/bin/false does not run" in capsys.readouterr().err


def test_a_python_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--python", str(tmp_path / "python")]) == NOT_COUNTED
    assert str(tmp_path / "python") in capsys.readouterr().err

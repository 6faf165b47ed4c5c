"""Reading a file: TOML, environment variables, and the one way from there to a Config."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsproxy.config.model import Config
from vsproxy.errors import ConfigError

MINIMAL = '[[listeners]]\nbind = "127.0.0.1:0"\n'


def loaded(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "lb.toml"
    file.write_text(text)
    return Config.load(file, environ)


def mistakes(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """Every mistake in `text`, without the directory of the file."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, **environ)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_a_minimal_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, MINIMAL)
    assert str(config.listeners[0].bind) == "127.0.0.1:0"
    assert config.admin is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file or directory"):
        Config.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[proxy]\nworkers =\n", "lb.toml:2: not TOML: Invalid value, at column 10"),
        ('[proxy]\nworkers = "auto\n\n\n', "lb.toml:2: not TOML: Illegal character"),
        ("[log]\n[log]\n", "lb.toml:2: not TOML: Cannot declare"),
        ("x = [\n1,\n\n", "lb.toml:2: not TOML: "),
    ],
)
def test_not_toml(tmp_path: Path, text: str, message: str) -> None:
    [mistake] = mistakes(tmp_path, text)
    assert mistake.startswith(message)


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "lb.toml"
    file.write_bytes(b'# one\n[log]\nlevel = "\xff"\n')
    with pytest.raises(
        ConfigError, match=r"lb\.toml:3: found a byte that is not UTF-8; accepted TOML in UTF-8"
    ):
        Config.load(file)


def test_variables_are_put_in(tmp_path: Path) -> None:
    text = """
[log]
access_path = "${DIR}/$$HOME/${NAME:-access}.log"
[[listeners]]
bind = "127.0.0.1:${PORT}"
via = "${VIA:-false}"
trusted_proxies = ["${NET:-10.0.0.0/8}"]
max_requests = "${MAX}"
"""
    config = loaded(tmp_path, text, DIR="/logs", PORT="0", VIA="true", MAX="7", NAME="")
    assert config.log.access_path == "/logs/$HOME/access.log"
    assert config.listeners[0].via is True
    assert config.listeners[0].max_requests == 7
    assert str(config.listeners[0].trusted_proxies[0]) == "10.0.0.0/8"


def test_a_variable_cannot_bring_in_another(tmp_path: Path) -> None:
    config = loaded(tmp_path, MINIMAL + '[log]\naccess_path = "${A}"\n', A="${B}", B="no")
    assert config.log.access_path == "${B}"


def test_the_environment_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSPROXY_TEST_BIND", "127.0.0.1:0")
    file = tmp_path / "lb.toml"
    file.write_text('[[listeners]]\nbind = "${VSPROXY_TEST_BIND}"\n')
    assert str(Config.load(file).listeners[0].bind) == "127.0.0.1:0"


def test_a_variable_that_is_not_set_is_one_mistake_among_others(tmp_path: Path) -> None:
    text = '[[listeners]]\nbind = "${WHERE}"\nidle_timeout = "${IDLE:-soon}"\n[log]\nlevel = "${1x}"\n'
    assert mistakes(tmp_path, text) == [
        'lb.toml:2: listeners[0].bind: found "${WHERE}", but WHERE is not set; '
        'accepted a variable that is set, or "${WHERE:-default}"',
        'lb.toml:3: listeners[0].idle_timeout: found "soon" (not a duration); accepted a duration such as '
        '"10s", "500ms", "1m30s", "1h", "7d", or a number of seconds, more than 0',
        'lb.toml:5: log.level: found "${1x}"; accepted "${NAME}", "${NAME:-default}", '
        'or "$$" for a plain "$"',
    ]


def test_an_unclosed_variable(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path, MINIMAL + '[log]\naccess_path = "${DIR/x"\n', DIR="/tmp")
    assert mistake.startswith('lb.toml:4: log.access_path: found "${DIR/x"; accepted')

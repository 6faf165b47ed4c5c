"""Pipes: bounded, used again only when empty, gone at the end."""

from __future__ import annotations

import os
import resource

import pytest

from vsproxy.pipes import MAX_IDLE, MIN_SIZE, SIZES, Pipe, Pipes


def is_open(pipe: Pipe) -> bool:
    try:
        os.fstat(pipe.reader)
    except OSError:
        return False
    return True


def take(pipes: Pipes) -> Pipe:
    pipe = pipes.take()
    assert pipe is not None
    return pipe


def test_a_pipe_is_large_and_does_not_block() -> None:
    pipe = Pipe()
    assert pipe.size >= MIN_SIZE
    assert not os.get_blocking(pipe.reader)
    assert not os.get_blocking(pipe.writer)
    assert not os.get_inheritable(pipe.reader)
    pipe.close()
    assert not is_open(pipe)


def test_no_more_than_the_limit_are_in_use() -> None:
    pipes = Pipes(2)
    first, second = take(pipes), take(pipes)
    assert pipes.take() is None
    pipes.give_back(first, empty=True)
    assert take(pipes) is first
    for pipe in (first, second):
        pipes.give_back(pipe, empty=True)
    assert pipes.used == 0
    pipes.close()


def test_many_are_smaller() -> None:
    pipes = Pipes(64)
    taken = [take(pipes) for _ in range(64)]
    assert [pipe.size for pipe in taken] == sorted((pipe.size for pipe in taken), reverse=True)
    assert taken[0].size == SIZES[0]
    assert taken[-1].size == SIZES[-1]
    assert sum(pipe.size for pipe in taken) == 24 << 20
    for pipe in taken:
        pipes.give_back(pipe, empty=True)
    pipes.close()


def test_a_pipe_with_bytes_in_it_is_never_used_again() -> None:
    pipes = Pipes(2)
    pipe = take(pipes)
    os.write(pipe.writer, b"somebody's")
    pipes.give_back(pipe, empty=False)
    assert not is_open(pipe)
    assert (pipes.idle, pipes.used) == (0, 0)


def test_only_a_few_are_kept() -> None:
    pipes = Pipes(MAX_IDLE + 3)
    taken = [take(pipes) for _ in range(MAX_IDLE + 3)]
    for pipe in taken:
        pipes.give_back(pipe, empty=True)
    assert pipes.idle == MAX_IDLE
    assert sum(is_open(pipe) for pipe in taken) == MAX_IDLE
    pipes.close()
    assert not any(is_open(pipe) for pipe in taken)


def test_after_the_end_none_is_given_out_or_kept() -> None:
    pipes = Pipes(2)
    pipe = take(pipes)
    pipes.close()
    assert pipes.take() is None
    pipes.give_back(pipe, empty=True)
    assert not is_open(pipe)


def test_without_descriptors_there_is_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pipes = Pipes(2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert pipes.take() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pipes.used == 0


def test_a_user_with_too_many_pages_gets_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    sizes = {"got": 65536}

    def fcntl(descriptor: int, command: int, value: int = 0) -> int:
        if not value:
            return sizes["got"]
        asked.append(value)
        raise PermissionError

    monkeypatch.setattr("vsproxy.pipes.fcntl.fcntl", fcntl)
    pipes = Pipes(2)
    pipe = take(pipes)
    assert asked == sorted(asked, reverse=True)
    assert pipe.size == 65536
    pipes.give_back(pipe, empty=False)
    # What the kernel makes for a user who has far too many.
    sizes["got"] = 8192
    assert pipes.take() is None
    assert pipes.used == 0

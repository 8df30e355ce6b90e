"""Described calls as methods of an object that stands for a record: its id is what each call takes first."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from websockets.typing import Subprotocol

from wellhead.client.calls import Call
from wellhead.client.sockets import AsyncSocket, Socket

T = TypeVar("T")
P = ParamSpec("P")


class Line(Protocol):
    """What a client lends to the objects that it gives out."""

    def send(self, call: Call[T], /) -> T: ...

    def stream(self, call: Call[None], /) -> AbstractContextManager[Iterator[bytes]]: ...

    def socket(
        self, path: str, query: Mapping[str, str], protocol: Subprotocol, /, *, patient: bool = True
    ) -> Socket: ...


class AsyncLine(Protocol):
    def send(self, call: Call[T], /) -> Coroutine[Any, Any, T]: ...

    def stream(self, call: Call[None], /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...

    def socket(
        self, path: str, query: Mapping[str, str], protocol: Subprotocol, /, *, patient: bool = True
    ) -> Coroutine[Any, Any, AsyncSocket]: ...


class Thing:
    """A record whose calls are sent at once."""

    def __init__(self, line: Line, id: str) -> None:
        self._line = line
        self.id = id

    def _learn(self, answer: T) -> T:
        """Take notice of an answer."""
        return answer


class AsyncThing:
    """A record whose calls are awaited."""

    def __init__(self, line: AsyncLine, id: str) -> None:
        self._line = line
        self.id = id

    def _learn(self, answer: T) -> T:
        return answer


class Own(Generic[P, T]):
    """A described call as a method: a ``Thing``'s gives the record, an ``AsyncThing``'s is awaited."""

    def __init__(self, describe: Callable[Concatenate[str, P], Call[T]]) -> None:
        self._describe = describe

    @overload
    def __get__(self, thing: None, kind: type) -> Callable[Concatenate[str, P], Call[T]]: ...
    @overload
    def __get__(self, thing: Thing, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, thing: AsyncThing, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, thing: Thing | AsyncThing | None, kind: type) -> Callable[..., Any]:
        describe = self._describe
        if thing is None:
            return describe
        if isinstance(thing, Thing):
            return _sent(thing, describe)
        return _awaited(thing, describe)


def _sent(thing: Thing, describe: Callable[Concatenate[str, P], Call[T]]) -> Callable[P, T]:
    @functools.wraps(describe, assigned=("__doc__", "__name__"))
    def method(*args: P.args, **kwargs: P.kwargs) -> T:
        return thing._learn(thing._line.send(describe(thing.id, *args, **kwargs)))

    return method


def _awaited(
    thing: AsyncThing, describe: Callable[Concatenate[str, P], Call[T]]
) -> Callable[P, Coroutine[Any, Any, T]]:
    @functools.wraps(describe, assigned=("__doc__", "__name__"))
    async def method(*args: P.args, **kwargs: P.kwargs) -> T:
        return thing._learn(await thing._line.send(describe(thing.id, *args, **kwargs)))

    return method

"""A few requests on the way to a Phoenix server at a time, and their answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tracetune.phoenix_rest import PhoenixServer

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    server: PhoenixServer,
    concurrency: int,
    function: Callable[[Item], Result],
    items: Iterable[Item],
) -> Iterator[Result]:
    """Results of ``function`` in the order of the items.

    Args:
        server: Stopped when one of them fails.
        concurrency: How many are asked for at the same time.
        function: Asks the server for one item.
        items: What is asked for.
    """
    with ThreadPoolExecutor(concurrency) as pool:
        running: deque[Future[Result]] = deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > concurrency:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BaseException:
            # Else the others would go on trying for a minute before the error is seen.
            server.stop()
            raise
        finally:
            for future in running:
                future.cancel()


def batches(items: list[Item], size: int) -> Iterator[list[Item]]:
    """``items`` in lists of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

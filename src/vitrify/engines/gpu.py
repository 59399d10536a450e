"""What a GPU is to the rest of the room: facts, and the few calls that a worker needs.

Everything is a plain integer (an address or a handle), so that a stand-in on host memory is a few lines.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        name: As the driver says it.
        compute_capability: Such as `9.0`.
        memory_bytes: In all.
        driver: The newest CUDA that the driver knows, such as `13.0`.
    """

    name: str
    compute_capability: str
    memory_bytes: int
    driver: str


class Cuda(Protocol):
    """What a session needs of a GPU. Addresses and handles are integers; sizes are bytes.

    Attributes:
        memory_kinds: DLPack's numbers of the memory that an array may lie in.
    """

    memory_kinds: ClassVar[tuple[int, ...]]

    def gpu(self) -> Gpu:
        """The device."""

    def bytes_in_use(self) -> int:
        """Of the device's memory, by all processes."""

    def current(self) -> contextlib.AbstractContextManager[None]:
        """Makes it the calling thread's device in the block: each thread has one of its own, and may use another."""

    def allocate(self, size: int) -> int:
        """Device memory."""

    def free(self, address: int) -> None:
        """Gives device memory back."""

    def allocate_pinned(self, size: int) -> int:
        """Page-locked host memory, which copies at full speed and asynchronously."""

    def free_pinned(self, address: int) -> None:
        """Gives page-locked memory back."""

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Ends a stream."""

    def synchronize(self, stream: int) -> None:
        """Waits until all work of a stream is done."""

    def create_event(self) -> int:
        """An event, for `wait_for`."""

    def destroy_event(self, event: int) -> None:
        """Ends an event."""

    def wait_for(self, stream: int, other: int, event: int) -> None:
        """Makes a stream wait, on the device, for what another has been given so far."""

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copies on a stream between any two memories."""

    def capture(self, stream: int) -> contextlib.AbstractContextManager[list[int]]:
        """Records what a stream is given in the block; the list then holds the executable graph."""

    def launch(self, graph: int, stream: int) -> None:
        """Runs a graph on a stream."""

    def destroy_graph(self, graph: int) -> None:
        """Ends a graph."""

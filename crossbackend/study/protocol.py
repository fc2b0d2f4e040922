"""Messages between the study and a worker: pickles with their length in front, over the worker's pipes.

Only a worker that this process has started is listened to, and nothing of it is stored.
"""

from __future__ import annotations

import pickle
import struct
from typing import IO, Any

import cloudpickle

_LENGTH = struct.Struct(">Q")


class Closed(Exception):
    """The other side is gone."""


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message.

    Raises
    ------
    Closed
        If the other side is gone.
    """
    content = cloudpickle.dumps(message)
    try:
        stream.write(_LENGTH.pack(len(content)) + content)
        stream.flush()
    except (BrokenPipeError, ValueError, OSError) as error:
        raise Closed from error


def receive(stream: IO[bytes]) -> Any:
    """Read one message.

    Raises
    ------
    Closed
        If the other side is gone, also in the middle of a message.
    """
    head = _exactly(stream, _LENGTH.size)
    return pickle.loads(_exactly(stream, _LENGTH.unpack(head)[0]))


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        try:
            part = stream.read(count)
        except (OSError, ValueError) as error:
            raise Closed from error
        if not part:
            raise Closed
        parts.append(part)
        count -= len(part)
    return b"".join(parts)

"""Readers that do what damaged files make decoders do; the name of the file says what. Workers import this file."""

import ctypes
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pneumoseg.pipeline.reading.facts import read_facts
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

kept: list[object] = []


def refuse() -> None:
    raise RadiographError(Reason.NO_PIXELS, "it was asked for")


def fail() -> None:
    raise KeyError("a defect")


def eat() -> None:
    while True:
        kept.append(bytearray(2**26))


DEEDS: dict[str, Callable[[], object]] = {
    "refuse": refuse,
    "hang": lambda: re.match("(a+)+$", "a" * 60 + "b"),  # no other thread of the process runs meanwhile
    "wait": lambda: time.sleep(0.3),
    "abort": os.abort,
    "crash": lambda: ctypes.string_at(0),
    "leave": lambda: os._exit(7),
    "fail": fail,
    "eat": eat,
    "leak": lambda: kept.append(bytearray(2**27)),
    "poison": lambda: kept.append("poison"),
    "talk": lambda: os.write(1, b"one thing") + os.write(2, b"or another"),
}


def read(path: Path, *, acceptance: AcceptanceFilters) -> str:
    """Give the name of the file, unless the name asks for something worse."""
    if "poison" in kept:
        os.abort()
    DEEDS.get(path.name.rstrip("0123456789"), lambda: None)()
    return path.name


def process(path: Path, *, acceptance: AcceptanceFilters) -> int:
    """Give the id of the process that reads."""
    return os.getpid()


def loaded(path: Path, *, acceptance: AcceptanceFilters) -> set[str]:
    """Give what the process has loaded after reading a radiograph."""
    read_facts(path, acceptance=acceptance)
    return set(sys.modules)

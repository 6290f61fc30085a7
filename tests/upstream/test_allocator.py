"""The memory allocator is configured if the C library has such settings."""

import ctypes
from types import SimpleNamespace

from gateway.upstream.allocator import give_memory_back


def test_every_setting_is_taken_by_glibc(monkeypatch):
    real, results = ctypes.CDLL(None), []

    def mallopt(parameter, value):
        results.append(real.mallopt(parameter, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    give_memory_back()
    assert results == [1, 1, 1]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    give_memory_back()

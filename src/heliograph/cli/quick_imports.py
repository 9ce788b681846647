"""Importing a server's modules in less time than they take by themselves.

Libraries do at once what most servers never need, or need once a client asks. What is put off is
done when it is first used. Where a library is not as it is known here, it does what it does.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pydantic
from pydantic import BaseModel

# How a field of FastAPI's calls what validates its value.
ADAPTER = "_type_adapter"


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Have what is imported meanwhile take less time.

    Pydantic's models, most of which are FastAPI's and describe OpenAPI, are built when they are
    first used: a start in eight. So is what reads the parameters of FastAPI's routes.
    """
    BaseModel.model_config["defer_build"] = True
    try:
        with _left_out():
            _import_fastapi()
            with _fields_put_off():
                yield
    finally:
        del BaseModel.model_config["defer_build"]


@contextlib.contextmanager
def _left_out() -> Iterator[None]:
    """Have what is not for a server left out, unless it is loaded: a start in twelve.

    By rich structlog would draw tracebacks, which the log has as text or JSON. FastAPI looks
    whether a model is one of pydantic's first version, of which there is none.
    """
    first = ModuleType("pydantic.v1")
    vars(first)["BaseModel"] = type("BaseModel", (), {})
    # None stands for a module that is not installed.
    stand_ins = {"rich": None, first.__name__: first}
    names = [name for name in stand_ins if name not in sys.modules]
    sys.modules.update({name: stand_ins[name] for name in names})  # type: ignore[misc] # typeshed: modules only
    if first.__name__ in names:
        vars(pydantic)["v1"] = first
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        if first.__name__ in names:
            del vars(pydantic)["v1"]


def _import_fastapi() -> None:
    """Import FastAPI, whose models of OpenAPI ask to be built although they have been put off."""
    rebuild = BaseModel.__dict__["model_rebuild"]

    def asked(model: type[BaseModel], /, **how: Any) -> bool | None:
        # When one is used pydantic asks, and says how.
        built: bool | None = rebuild.__get__(None, model)(**how) if how else None
        return built

    BaseModel.model_rebuild = classmethod(asked)  # type: ignore[assignment,method-assign] # put back below
    try:
        import fastapi  # noqa: F401, PLC0415 - before its routes
    finally:
        BaseModel.model_rebuild = rebuild  # type: ignore[method-assign] # as it was


@contextlib.contextmanager
def _fields_put_off() -> Iterator[None]:
    """Have FastAPI's fields make what validates a value when they are first asked to."""
    from fastapi import _compat  # noqa: PLC0415 - FastAPI is imported in its turn

    field: Any = getattr(_compat, "ModelField", None)
    make = getattr(field, "__post_init__", None)
    if make is None or hasattr(field, "__getattr__"):
        yield
        return

    def asked(self: Any, name: str) -> Any:
        if name == ADAPTER:
            make(self)
            return self.__dict__[name]
        raise AttributeError(name)

    field.__getattr__ = asked
    field.__post_init__ = lambda _: None
    try:
        yield
    finally:
        field.__post_init__ = make

"""Members of bodies: one that a route does not know is refused by name, nothing is left alone.

What only the server sets is taken where it is what it is, so that what GET gave can be sent back.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from heliograph.http.records import Representation, descriptions
from heliograph.nearest import hint

MOST_NAMED = 10


class Body(BaseModel):
    """The members of a body."""

    model_config = ConfigDict(extra="forbid")

    # What else a member is called by, and its name.
    other_names: ClassVar[Mapping[str, str]] = {}
    # Members that are no fields, and are taken as they come.
    others: ClassVar[Collection[str]] = ()
    # What GET gives of the same record, which describes the members that say nothing else.
    representation: ClassVar[type[Representation] | None] = None
    # Whether it may be sent back: then what of it is no member is read-only.
    is_change: ClassVar[bool] = False
    # Those that never change. A body that has them all is what GET gave: what else is read-only
    # in it may have moved on since.
    fixed: ClassVar[frozenset[str]] = frozenset()

    _read_only: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def _descriptions(cls) -> dict[str, str]:
        return {} if cls.representation is None else descriptions(cls.representation)

    @classmethod
    def _read_only_members(cls) -> set[str]:
        if not cls.is_change:
            return set()
        return cls._descriptions().keys() - cls.model_fields.keys() - set(cls.others)

    @model_validator(mode="wrap")
    @classmethod
    def _known(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, dict):
            return handler(given)
        members, read_only = dict(given), {}
        for name, own in cls.other_names.items():
            if name in members and own not in members:
                members[own] = members.pop(name)
        for name in members.keys() & cls._read_only_members():
            read_only[name] = members.pop(name)
        if cls.others or cls.model_config.get("extra") == "forbid":
            known = [*cls.model_fields, *cls.others]
            if unknown := [name for name in members if name not in known]:
                raise unknown_members(cls.__name__, unknown, known)
        made = handler(members)
        made._read_only = read_only  # noqa: SLF001 - one's own
        return made

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe what is taken beside the fields, too."""
        schema = handler(core_schema)
        described = handler.resolve_ref_schema(schema)
        properties = described.setdefault("properties", {})
        for name, own in cls.other_names.items():
            properties[name] = {**properties[own], "description": f"The same as `{own}`"}
            if own in described.get("required", ()):
                described["required"].remove(own)
                described["anyOf"] = [{"required": [own]}, {"required": [name]}]
        read_only = cls._read_only_members()
        for name, description in cls._descriptions().items():
            if name in read_only:
                properties[name] = {"readOnly": True, "description": description}
            elif name in properties:
                properties[name].setdefault("description", description)
        return schema

    @property
    def has_read_only(self) -> bool:
        """Whether there is something to compare with what it is."""
        return bool(self._read_only)

    def check_read_only(self, shown: Representation) -> None:
        """Check that what is read-only is what GET shows, or has shown a moment ago.

        Raises:
            RequestValidationError: it is not.
        """
        known = msgspec.to_builtins(shown)
        wrong = [name for name, value in self._read_only.items() if value != known[name]]
        if self.fixed and self._read_only.keys() >= self.fixed:
            wrong = [name for name in wrong if name in self.fixed]
        if wrong:
            message = "is not what it is: the server alone sets it"
            raise RequestValidationError(
                [{"loc": ("body", name), "type": "read_only", "msg": message} for name in wrong]
            )


def unknown_members(title: str, unknown: Sequence[str], known: Collection[str]) -> ValidationError:
    """Return what a validator raises that has found members nobody knows."""
    problems: list[InitErrorDetails] = []
    for name in unknown[:MOST_NAMED]:
        context = {"hint": hint(name, known)}
        error = PydanticCustomError("extra_forbidden", "unknown member{hint}", context)
        problems.append(InitErrorDetails(type=error, loc=(name,), input=None))
    return ValidationError.from_exception_data(title, problems)

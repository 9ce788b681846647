"""Which sensors a list has, and in which order: one table for all that list sensors."""

import dataclasses
from typing import Annotated, Any, Literal

from fastapi import Depends, Query

from heliograph.web.schemas import Text

Sort = Literal[
    "created_at",
    "-created_at",
    "device_id",
    "-device_id",
    "sensor_name",
    "-sensor_name",
    "name",
    "-name",
    "serial_number",
    "-serial_number",
    "manufacturer",
    "-manufacturer",
    "model",
    "-model",
    "modality",
    "-modality",
    "last_seen_at",
    "-last_seen_at",
    "last_measurement_at",
    "-last_measurement_at",
]


def _only(which: str) -> Any:
    return Query(description=f"Only those {which}")


@dataclasses.dataclass
class SensorFilters:
    """The filters of a list of sensors, as FastAPI collects them."""

    serial_number: Annotated[Text | None, _only("of this serial number")] = None
    manufacturer: Annotated[Text | None, _only("of this maker")] = None
    model: Annotated[Text | None, _only("of this model")] = None
    modality: Annotated[Text | None, _only("that measure this")] = None
    node_id: Annotated[Text | None, _only("that this node carries, by its UUID")] = None
    text: Annotated[
        Text | None,
        _only(
            "with this text, in any case, in `id`, `device_id`, `sensor_name`, `name`,"
            " `serial_number`, `manufacturer`, `model` or `modality`"
        ),
    ] = None
    connected: Annotated[bool | None, _only("that are connected; false: all others")] = None
    late: Annotated[
        bool | None,
        _only(
            "of which nothing was seen for longer than their `expected_interval`; false: all others"
        ),
    ] = None
    sort: Annotated[
        Sort | None,
        Query(
            description="In the order of this member, with `-` from the greatest on; those"
            " without it come last. By default in the order of their creation"
        ),
    ] = None

    @property
    def which(self) -> dict[str, Any]:
        """What is asked for, as the store takes it."""
        members = dict(vars(self))
        node = members.pop("node_id")
        return {**members, "node_identifier": None if node is None else node.lower()}


Filters = Annotated[SensorFilters, Depends()]

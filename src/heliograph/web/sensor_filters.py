"""Which sensors a list has, and in which order: one table for all that list sensors."""

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


class SensorFilters:
    """The filters of a list of sensors, as FastAPI collects them: `which` is what is asked for."""

    def __init__(
        self,
        serial_number: Annotated[
            Text | None, Query(description="Only those of this serial number")
        ] = None,
        manufacturer: Annotated[Text | None, Query(description="Only those of this maker")] = None,
        model: Annotated[Text | None, Query(description="Only those of this model")] = None,
        modality: Annotated[Text | None, Query(description="Only those that measure this")] = None,
        node_id: Annotated[
            Text | None, Query(description="Only those that this node carries, by its UUID")
        ] = None,
        text: Annotated[
            Text | None,
            Query(
                description="Only those with this text, in any case, in `id`, `device_id`,"
                " `sensor_name`, `name`, `serial_number`, `manufacturer`, `model` or `modality`"
            ),
        ] = None,
        connected: Annotated[
            bool | None,
            Query(description="Only those that are connected; false: all others"),
        ] = None,
        late: Annotated[
            bool | None,
            Query(
                description="Only those of which nothing was seen for longer than their"
                " `expected_interval`; false: all others"
            ),
        ] = None,
        sort: Annotated[
            Sort | None,
            Query(
                description="In the order of this member, with `-` from the greatest on; those"
                " without it come last. By default in the order of their creation"
            ),
        ] = None,
    ) -> None:
        self.which: dict[str, Any] = {
            "serial_number": serial_number,
            "manufacturer": manufacturer,
            "model": model,
            "modality": modality,
            "node_identifier": None if node_id is None else node_id.lower(),
            "text": text,
            "connected": connected,
            "late": late,
            "sort": sort,
        }


Filters = Annotated[SensorFilters, Depends()]

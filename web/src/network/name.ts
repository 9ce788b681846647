import type { Schemas } from "../api/client";

/** What people call a sensor. */
export function nameOf(sensor: Schemas["SensorRepresentation"]): string {
  return sensor.name ?? sensor.sensor_name ?? sensor.device_id ?? sensor.sensor_identifier;
}

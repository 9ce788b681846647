/** What is known of a sensor: its name, where it is, when it is late, what its attributes are called. */
import { useState } from "preact/hooks";
import { api, ask } from "../api/client";
import type { PageProps } from "../pages";
import { type Latest, useLatest } from "../sensor/newest";
import "../styles/network.css";
import { texts } from "../texts";
import { Check } from "../ui/controls";
import { mayEdit, type Sensor, SensorHead, useNetwork, useSensor } from "../ui/network-head";
import { PackedText, usePackedOf } from "../ui/packed";
import { Field, Form, Notice, Show } from "../ui/parts";

const words = texts.sensorSettings;

type Label = Sensor["attributes"][string];

export default function SensorSettingsPage({ params }: PageProps) {
  const identifier = params.sensor ?? "";
  const network = useNetwork(params.network ?? "");
  const sensor = useSensor(identifier);
  const latest = useLatest(identifier);
  const isRead = network.data && latest.data;
  return (
    <>
      <SensorHead network={network.data} sensor={sensor} />
      <Show loaded={isRead || sensor.failure ? sensor : { ...sensor, data: undefined }}>
        {(found) =>
          mayEdit(network.data) ? (
            <Settings
              sensor={found}
              latest={latest.data}
              update={(said) => sensor.update((before) => ({ ...before, ...said }))}
            />
          ) : (
            <Notice kind="warning">
              <p>{words.nobody}</p>
            </Notice>
          )
        }
      </Show>
    </>
  );
}

function Settings(props: {
  sensor: Sensor;
  latest: Latest | undefined;
  update: (said: Sensor) => void;
}) {
  const { sensor, latest, update } = props;
  const textOf = (value: unknown) => (value === null || value === undefined ? "" : String(value));
  const [typed, setTyped] = useState({
    name: textOf(sensor.name),
    place: textOf(sensor.place),
    latitude: textOf(sensor.latitude),
    longitude: textOf(sensor.longitude),
    tags: sensor.tags.join(", "),
    expected_interval: textOf(sensor.expected_interval),
  });
  const [labels, setLabels] = useState<Record<string, Label>>(sensor.attributes);
  const [isPacked, setPacked] = useState(sensor.packing);
  const [isDone, setDone] = useState(false);
  const packed = usePackedOf(sensor.sensor_identifier);
  // Of what it has sent, and of what it is still to send.
  const attributes = [
    ...new Set([...Object.keys(latest?.attributes ?? {}), ...Object.keys(labels)]),
  ];
  async function send() {
    setDone(false);
    const changed = await ask(
      api.PATCH("/api/v1/sensors/{identifier}", {
        params: { path: { identifier: sensor.sensor_identifier } },
        body: {
          name: typed.name.trim() || null,
          place: typed.place.trim() || null,
          latitude: numberIn(typed.latitude),
          longitude: numberIn(typed.longitude),
          tags: typed.tags
            .split(",")
            .map((tag) => tag.trim())
            .filter(Boolean),
          expected_interval: numberIn(typed.expected_interval),
          attributes: Object.fromEntries(
            Object.entries(labels).filter(([, label]) => label.unit || label.display_name),
          ),
          packing: isPacked,
        },
      }),
    );
    update(changed);
    packed.reload();
    setDone(true);
  }
  return (
    <section class="panel settings-panel">
      <Form submit={texts.save} send={send}>
        {(problems) => {
          const field = (name: keyof typeof typed, hint?: string) => (
            <Field
              label={words.members[name]}
              value={typed[name]}
              onInput={(value) => setTyped({ ...typed, [name]: value })}
              hint={hint}
              problem={problems[name]}
              autocomplete="off"
            />
          );
          return (
            <>
              {isDone && <Notice kind="done">{texts.settings.saved}</Notice>}
              {field("name", words.nameHint)}
              {field("place", words.placeHint)}
              <div class="pair">
                {field("latitude", words.latitudeHint)}
                {field("longitude", words.longitudeHint)}
              </div>
              {field("tags", words.tagsHint)}
              {field("expected_interval", words.intervalHint)}
              {attributes.map((attribute) => {
                const label = labels[attribute] ?? { unit: null, display_name: null };
                const change = (part: Partial<Label>) =>
                  setLabels({ ...labels, [attribute]: { ...label, ...part } });
                return (
                  <div class="pair" key={attribute}>
                    <Field
                      label={words.labelOf(attribute)}
                      value={label.display_name ?? ""}
                      onInput={(value) => change({ display_name: value || null })}
                      placeholder={attribute}
                      autocomplete="off"
                    />
                    <Field
                      label={words.unitOf(attribute)}
                      value={label.unit ?? ""}
                      onInput={(value) => change({ unit: value || null })}
                      autocomplete="off"
                    />
                  </div>
                );
              })}
              <Check label={words.packing} value={isPacked} onInput={setPacked} />
              <p class="field-hint">{words.packingHint}</p>
              <p class="field-hint">
                {texts.packed.label}: <PackedText packed={packed.data} />
              </p>
            </>
          );
        }}
      </Form>
    </section>
  );
}

/** Return the number that was typed, by the point or the comma; what is none the server refuses by name. */
function numberIn(text: string): number | null {
  const trimmed = text.trim().replace(",", ".");
  if (trimmed === "") return null;
  const number = Number(trimmed);
  return Number.isNaN(number) ? (text as never) : number;
}

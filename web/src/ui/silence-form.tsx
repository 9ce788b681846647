/** The form of a new silence, of what an alert is about or of what one chooses. */
import { useState } from "preact/hooks";
import { api, ask } from "../api/client";
import { useLoad } from "../load";
import { texts } from "../texts";
import { fullTime, now } from "../time";
import { Area, type Option, Select } from "./controls";
import { Field, Form } from "./parts";

const DURATIONS = Object.entries(texts.silences.durations)
  .filter(([seconds]) => seconds !== "0")
  .sort(([one], [other]) => Number(one) - Number(other));
const STARTS: Option[] = [
  ["0", texts.silences.now],
  ...DURATIONS.map(([seconds, label]): Option => [seconds, texts.silences.inTime(label)]),
];

export function SilenceForm(props: {
  /** Null: all networks, and the server's own alerts. */
  network: string | null;
  sensor?: string;
  rule?: string;
  ruleName?: string;
  done: () => void;
  cancel: () => void;
}) {
  const { network } = props;
  const [sensor, setSensor] = useState(props.sensor ?? "");
  const [tag, setTag] = useState("");
  const [rule, setRule] = useState(props.rule ?? "");
  const [start, setStart] = useState("0");
  const [duration, setDuration] = useState("3600");
  const [comment, setComment] = useState("");
  const rules = useLoad(`rules of ${network}`, async (signal) => {
    if (network === null) return [];
    return ask(
      api.GET("/api/v1/rules", { params: { query: { network_identifier: network } }, signal }),
    );
  });
  const choices: Option[] = [
    ["", texts.silences.anyRule],
    ...(rules.data ?? []).map((each): Option => [each.id, each.name]),
  ];
  if (props.rule && !choices.some(([id]) => id === props.rule)) {
    choices.push([props.rule, props.ruleName ?? props.rule]);
  }
  const startsAt = now.value / 1000 + Number(start);
  async function send() {
    const begins = Date.now() / 1000 + Number(start);
    await ask(
      api.POST("/api/v1/silences", {
        body: {
          network_identifier: network,
          sensor: sensor.trim() || null,
          tag: tag.trim() || null,
          rule: rule || null,
          starts_at: start === "0" ? null : begins,
          ends_at: begins + Number(duration),
          comment: comment.trim() || null,
        },
      }),
    );
    props.done();
  }
  return (
    <Form submit={texts.silences.submit} send={send} cancel={props.cancel}>
      {(problems) => (
        <>
          <p class="quiet">{texts.silences.hint}</p>
          {network !== null && (
            <div class="pair">
              <Field
                label={texts.silences.sensor}
                hint={texts.silences.sensorHint}
                value={sensor}
                onInput={setSensor}
                problem={problems.sensor}
                maxLength={255}
                autocomplete="off"
              />
              <Field
                label={texts.silences.tag}
                hint={texts.silences.tagHint}
                value={tag}
                onInput={setTag}
                problem={problems.tag}
                maxLength={64}
                autocomplete="off"
              />
            </div>
          )}
          <Select
            label={texts.alerts.rule}
            value={rule}
            options={choices}
            onInput={setRule}
            problem={problems.rule}
          />
          <div class="pair">
            <Select
              label={texts.silences.in}
              value={start}
              options={STARTS}
              onInput={setStart}
              problem={problems.starts_at}
            />
            <Select
              label={texts.silences.duration}
              value={duration}
              options={DURATIONS}
              onInput={setDuration}
              problem={problems.ends_at}
            />
          </div>
          <p class="quiet">
            {texts.silences.until(fullTime((startsAt + Number(duration)) * 1000))}
          </p>
          <Area
            label={texts.alerts.comment}
            value={comment}
            onInput={setComment}
            rows={2}
            maxLength={1000}
            problem={problems.comment}
          />
        </>
      )}
    </Form>
  );
}

/** What can be done with an open alert: acknowledge, silence, clear. */
import { useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { texts } from "../texts";
import { Area } from "./controls";
import { Dialog, Form } from "./parts";
import { SilenceForm } from "./silence-form";

type Alert = Schemas["AlertRepresentation"];
type Deed = "acknowledge" | "silence" | "clear";

export function AlertActions({ alert, done }: { alert: Alert; done: () => void }) {
  const [deed, setDeed] = useState<Deed>();
  const close = () => setDeed(undefined);
  const finish = () => {
    close();
    done();
  };
  const deeds: Deed[] = alert.acknowledged_at
    ? ["silence", "clear"]
    : ["acknowledge", "silence", "clear"];
  const sensor = alert.sensor_name ?? alert.device_id;
  const about = `${alert.name}${sensor ? ` · ${sensor}` : ""}`;
  return (
    <>
      {deeds.map((each) => (
        <button
          key={each}
          type="button"
          class="button button-small"
          aria-label={`${texts.alerts[each]}: ${about}`}
          onClick={() => setDeed(each)}
        >
          {texts.alerts[each]}
        </button>
      ))}
      {deed === "acknowledge" && (
        <Dialog title={texts.alerts.acknowledge} close={close}>
          <Acknowledge alert={alert} about={about} done={finish} cancel={close} />
        </Dialog>
      )}
      {deed === "clear" && (
        <Dialog title={texts.alerts.clearTitle} close={close}>
          <Clear alert={alert} about={about} done={finish} cancel={close} />
        </Dialog>
      )}
      {deed === "silence" && (
        <Dialog title={texts.silences.create} close={close}>
          <SilenceForm
            network={alert.network_identifier}
            sensor={alert.device_id ?? alert.sensor_identifier ?? ""}
            rule={alert.rule}
            ruleName={alert.name}
            done={finish}
            cancel={close}
          />
        </Dialog>
      )}
    </>
  );
}

interface Doing {
  alert: Alert;
  about: string;
  done: () => void;
  cancel: () => void;
}

function Acknowledge({ alert, about, done, cancel }: Doing) {
  const [comment, setComment] = useState("");
  async function send() {
    await ask(
      api.POST("/api/v1/alerts/{alert_id}/acknowledge", {
        params: { path: { alert_id: alert.id } },
        body: { comment: comment.trim() || null },
      }),
    );
    done();
  }
  return (
    <Form submit={texts.alerts.acknowledge} send={send} cancel={cancel}>
      {(problems) => (
        <>
          <p>
            <strong>{about}</strong>
          </p>
          <p class="quiet">{texts.alerts.acknowledgeHint}</p>
          <Area
            label={texts.alerts.comment}
            hint={texts.alerts.commentHint}
            value={comment}
            onInput={setComment}
            maxLength={1000}
            problem={problems.comment}
          />
        </>
      )}
    </Form>
  );
}

function Clear({ alert, about, done, cancel }: Doing) {
  async function send() {
    await ask(
      api.POST("/api/v1/alerts/{alert_id}/clear", { params: { path: { alert_id: alert.id } } }),
    );
    done();
  }
  return (
    <Form submit={texts.alerts.clear} send={send} cancel={cancel}>
      {() => (
        <>
          <p>
            <strong>{about}</strong>
          </p>
          <p class="quiet">{texts.alerts.clearHint}</p>
        </>
      )}
    </Form>
  );
}

/** An alert, and what has happened to it. */
import { useCallback } from "preact/hooks";
import { Link } from "wouter-preact";
import { api, ask } from "../api/client";
import { type Event, useEvents } from "../live";
import { useLoad } from "../load";
import type { PageProps } from "../pages";
import { texts } from "../texts";
import { fullTime } from "../time";
import { AlertActions } from "../ui/alert-actions";
import { PageHead, Show } from "../ui/parts";
import { Severity, useRights } from "../ui/section";

export default function AlertPage({ params }: PageProps) {
  const path = { alert_id: params.alert ?? "" };
  const rights = useRights();
  const alert = useLoad(`alert ${path.alert_id}`, (signal) =>
    ask(api.GET("/api/v1/alerts/{alert_id}", { params: { path }, signal })),
  );
  const { reload } = alert;
  useEvents(
    ["alert"],
    useCallback(
      (events: Event[]) => {
        if (events.some(({ data }) => data.id === path.alert_id)) reload();
      },
      [path.alert_id, reload],
    ),
  );
  const found = alert.data;
  return (
    <>
      <PageHead title={found?.name ?? "…"} above={<Link href="/alerts">{texts.alerts.title}</Link>}>
        {found && !found.cleared_at && rights.mayEdit(found.network_identifier) && (
          <AlertActions alert={found} done={reload} />
        )}
      </PageHead>
      <Show loaded={alert}>
        {(shown) => (
          <>
            <section class="panel">
              <p>{shown.summary}</p>
              <dl class="facts">
                <dt>{texts.alerts.severity}</dt>
                <dd>
                  <Severity severity={shown.severity} />
                </dd>
                <dt>{texts.alerts.state}</dt>
                <dd>
                  {texts.alerts.events[shown.state] ?? shown.state}
                  {shown.silenced && `, ${texts.alerts.silenced}`}
                  {shown.count > 1 && `, ${texts.alerts.times(shown.count)}`}
                </dd>
                <dt>{texts.alerts.since}</dt>
                <dd>{fullTime(shown.raised_at)}</dd>
                {shown.cleared_at && (
                  <>
                    <dt>{texts.alerts.cleared}</dt>
                    <dd>{fullTime(shown.cleared_at)}</dd>
                  </>
                )}
                {shown.sensor_identifier && (
                  <>
                    <dt>{texts.alerts.sensor}</dt>
                    <dd>
                      <Link
                        href={`/networks/${shown.network_identifier}/sensors/${shown.sensor_identifier}`}
                      >
                        {shown.sensor_name ?? shown.device_id ?? shown.sensor_identifier}
                      </Link>
                    </dd>
                  </>
                )}
                <dt>{texts.alerts.network}</dt>
                <dd>{rights.nameOf(shown.network_identifier)}</dd>
              </dl>
            </section>
            <section class="panel">
              <h2>{texts.alerts.history}</h2>
              <ol class="events">
                {shown.events.map((event, index) => (
                  <li key={index}>
                    <time dateTime={event.timestamp} class="quiet">
                      {fullTime(event.timestamp)}
                    </time>
                    <span>
                      {texts.alerts.events[event.event] ?? event.event}
                      {event.actor && ` ${texts.alerts.by(event.actor)}`}
                      {event.detail && `: ${event.detail}`}
                    </span>
                  </li>
                ))}
              </ol>
            </section>
          </>
        )}
      </Show>
    </>
  );
}

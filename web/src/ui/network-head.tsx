/** The heads of a network's and a sensor's pages, with their tabs. */
import type { ComponentChildren } from "preact";
import { Link, useLocation, useRoute } from "wouter-preact";
import { api, ask, type Schemas } from "../api/client";
import { useNetworkEvents } from "../live";
import { type Loaded, useLoad } from "../load";
import { nameOf } from "../network/name";
import { pages } from "../pages";
import { session } from "../session";
import { texts } from "../texts";
import { PageHead, useTabInSight } from "./parts";

export { nameOf };
export type Network = Schemas["NetworkRepresentation"];
export type Sensor = Schemas["SensorRepresentation"];

/** Whether one may make and change what belongs to a network. */
export function mayEdit(network: Network | undefined): boolean {
  return mayManage(network) || network?.role === "editor";
}

/** Whether one may rename a network, manage its members, and delete it. */
export function mayManage(network: Network | undefined): boolean {
  if (!network) return false;
  return (session.value.account?.is_admin ?? false) || network.role === "owner";
}

/** Read a network, and follow its events while it is shown. */
export function useNetwork(network: string): Loaded<Network> {
  const path = { network_identifier: network };
  const loaded = useLoad(`network ${network}`, (signal) =>
    ask(api.GET("/api/v1/networks/{network_identifier}", { params: { path }, signal })),
  );
  useNetworkEvents(loaded.failure?.status === 404 ? "" : network);
  return loaded;
}

/** Read a sensor, by its id or name. */
export function useSensor(identifier: string): Loaded<Schemas["FullSensor"]> {
  const path = { identifier };
  return useLoad(`sensor ${identifier}`, (signal) =>
    ask(api.GET("/api/v1/sensors/{identifier}", { params: { path }, signal })),
  );
}

type Shown<T> = Pick<Loaded<T>, "data" | "failure">;

/** Return what a page is called: by its subject, once that is read. */
function titleOf<T>({ data, failure }: Shown<T>, name: (data: T) => string): string {
  if (data !== undefined) return name(data);
  return failure?.status === 404 ? texts.notFound.title : "…";
}

/** The head of a network's page. */
export function NetworkHead(props: { network: Shown<Network>; children?: ComponentChildren }) {
  const { children } = props;
  const title = titleOf(props.network, (network) => network.network_name);
  return (
    <>
      <PageHead title={title} above={<Link href="/">{texts.networks.title}</Link>}>
        {children}
      </PageHead>
      <Tabs place="network" label={title} />
    </>
  );
}

/** The head of a sensor's page. */
export function SensorHead(props: {
  network: Network | undefined;
  sensor: Shown<Sensor>;
  children?: ComponentChildren;
}) {
  const { network, sensor, children } = props;
  const title = titleOf(sensor, nameOf);
  return (
    <>
      <PageHead
        title={title}
        above={
          <>
            <Link href="/">{texts.networks.title}</Link>
            {network && (
              <Link href={`/networks/${network.network_identifier}`}>{network.network_name}</Link>
            )}
          </>
        }
      >
        {children}
      </PageHead>
      <Tabs place="sensor" label={title} />
    </>
  );
}

/** Whether a tab's page is shown, or one below it; the first tab's path is above all others. */
function isAt(path: string, href: string): boolean {
  const below = /\/networks\/[^/]+\/boards$/.test(href) && path.startsWith(`${href}/`);
  return path === href || below;
}

function Tabs({ place, label }: { place: "network" | "sensor"; label: string }) {
  const [path] = useLocation();
  const tabs = pages.filter((page) => page.place === place);
  const row = useTabInSight(path, label);
  const [, params] = useRoute("/networks/:network/*?");
  const [, sensor] = useRoute("/networks/:network/sensors/:sensor/*?");
  if (tabs.length < 2) return null;
  const filled = tabs.map((page) => ({
    href: page.path
      .replace(":network", params?.network ?? "")
      .replace(":sensor", sensor?.sensor ?? ""),
    label: page.label,
  }));
  return (
    <nav class="tabs" aria-label={label} ref={row}>
      {filled.map((tab) => (
        <Link
          key={tab.href}
          href={tab.href}
          aria-current={isAt(path, tab.href) ? "page" : undefined}
        >
          {tab.label}
        </Link>
      ))}
    </nav>
  );
}

/** All pages: one entry each. What has a label stands in a navigation, in this order. */
import type { ComponentType } from "preact";
import { texts } from "./texts";
import type { IconName } from "./ui/parts";

/** What a page gets: the parts of its path that have a name. */
export interface PageProps {
  params: Record<string, string>;
}

export type Section = "alerts" | "system";

export interface Page {
  /** As wouter writes it, below `/dashboard`. */
  path: string;
  load: () => Promise<{ default: ComponentType<PageProps> }>;
  /** What it is called in the navigation of its `place`; without one it stands in none. */
  label?: string;
  icon?: IconName;
  /** main: beside all pages. network, sensor: tabs of `NetworkHead` and `SensorHead`. */
  place?: "main" | "network" | "sensor";
  /** Pages whose `SectionHead` shows each other as tabs, by `tab` or the label. */
  section?: Section;
  tab?: string;
}

export const pages: Page[] = [
  {
    path: "/",
    place: "main",
    label: texts.networks.title,
    icon: "networks",
    load: () => import("./pages/networks"),
  },
  { path: "/account", load: () => import("./pages/account") },
  {
    path: "/networks/:network",
    place: "network",
    label: texts.sensors.tab,
    load: () => import("./pages/sensors"),
  },
  {
    path: "/networks/:network/map",
    place: "network",
    label: texts.map.tab,
    load: () => import("./pages/map"),
  },
  {
    path: "/networks/:network/boards",
    place: "network",
    label: texts.boards.tab,
    load: () => import("./pages/boards"),
  },
  { path: "/networks/:network/boards/:board", load: () => import("./pages/board") },
  {
    path: "/networks/:network/settings",
    place: "network",
    label: texts.settings.tab,
    load: () => import("./pages/network-settings"),
  },
  { path: "/networks/:network/add", load: () => import("./pages/add-sensor") },
  {
    path: "/networks/:network/sensors/:sensor",
    place: "sensor",
    label: texts.sensor.tab,
    load: () => import("./pages/sensor"),
  },
  {
    path: "/networks/:network/sensors/:sensor/logs",
    place: "sensor",
    label: texts.logs.title,
    load: () => import("./pages/sensor-logs"),
  },
  {
    path: "/networks/:network/sensors/:sensor/configuration",
    place: "sensor",
    label: texts.configuration.title,
    load: () => import("./pages/sensor-configuration"),
  },
  {
    path: "/networks/:network/sensors/:sensor/heartbeats",
    place: "sensor",
    label: texts.heartbeats.title,
    load: () => import("./pages/sensor-heartbeats"),
  },
  {
    path: "/networks/:network/sensors/:sensor/messages",
    place: "sensor",
    label: texts.messages.title,
    load: () => import("./pages/sensor-messages"),
  },
  {
    path: "/networks/:network/sensors/:sensor/access",
    place: "sensor",
    label: texts.access.title,
    load: () => import("./pages/sensor-access"),
  },
  {
    path: "/networks/:network/sensors/:sensor/settings",
    place: "sensor",
    label: texts.sensorSettings.title,
    load: () => import("./pages/sensor-settings"),
  },
  {
    path: "/alerts",
    place: "main",
    label: texts.alerts.title,
    icon: "alerts",
    section: "alerts",
    load: () => import("./pages/alerts"),
  },
  {
    path: "/alerts/silences",
    section: "alerts",
    tab: texts.silences.title,
    load: () => import("./pages/silences"),
  },
  {
    path: "/alerts/rules",
    section: "alerts",
    tab: texts.rules.title,
    load: () => import("./pages/rules"),
  },
  {
    path: "/alerts/channels",
    section: "alerts",
    tab: texts.channels.title,
    load: () => import("./pages/channels"),
  },
  {
    path: "/alerts/actions",
    section: "alerts",
    tab: texts.actions.title,
    load: () => import("./pages/actions"),
  },
  { path: "/alerts/rules/:rule", load: () => import("./pages/rule") },
  {
    path: "/system",
    place: "main",
    label: texts.system.title,
    icon: "system",
    section: "system",
    tab: texts.system.overview,
    load: () => import("./pages/system"),
  },
  {
    path: "/system/retention",
    section: "system",
    tab: texts.retention.title,
    load: () => import("./pages/retention"),
  },
  {
    path: "/system/audit",
    section: "system",
    tab: texts.audit.title,
    load: () => import("./pages/audit"),
  },
  {
    path: "/networks/:network/import",
    place: "network",
    label: texts.imports.title,
    load: () => import("./pages/import"),
  },
  { path: "/alerts/:alert", load: () => import("./pages/alert") },
];

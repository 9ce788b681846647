/** What pages that belong to no single network share: their head, rights, and filters in the URL. */
import type { ComponentChildren } from "preact";
import { Link, useLocation, useSearchParams } from "wouter-preact";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { pages, type Section } from "../pages";
import { session } from "../session";
import { texts } from "../texts";
import { Filter, type Option } from "./controls";
import { PageHead, useTabInSight } from "./parts";

type Network = Schemas["NetworkRepresentation"];

/** The head of a page of a section, with the tabs of the section. */
export function SectionHead(props: {
  section: Section;
  title: string;
  children?: ComponentChildren;
}) {
  const [path] = useLocation();
  const tabs = pages.filter((page) => page.section === props.section);
  const row = useTabInSight(path, props.section);
  return (
    <>
      <PageHead title={props.title}>{props.children}</PageHead>
      <nav class="tabs" aria-label={texts.sections[props.section]} ref={row}>
        {tabs.map((page) => (
          <Link
            key={page.path}
            href={page.path}
            aria-current={
              page.path === path ||
              (page.path !== `/${props.section}` && path.startsWith(page.path))
                ? "page"
                : undefined
            }
          >
            {page.tab ?? page.label}
          </Link>
        ))}
      </nav>
    </>
  );
}

export interface Rights {
  networks: Network[];
  nameOf: (network: string | null | undefined) => string;
  /** Whether one may change what belongs to a network; null: to the server. */
  mayEdit: (network: string | null) => boolean;
  mayDelete: (network: string | null) => boolean;
  isAdmin: boolean;
}

/** Read the networks that one sees, and what one may do in them. */
export function useRights(): Rights {
  const isAdmin = session.value.account?.is_admin ?? false;
  const networks = useLoad("networks", (signal) => ask(api.GET("/api/v1/networks", { signal })));
  const list = networks.data ?? [];
  const roleIn = (network: string | null) =>
    list.find((each) => each.network_identifier === network)?.role;
  return {
    networks: list,
    isAdmin,
    nameOf: (network) =>
      network
        ? (list.find((each) => each.network_identifier === network)?.network_name ?? "…")
        : texts.sections.server,
    mayEdit: (network) => isAdmin || ["owner", "editor"].includes(roleIn(network) ?? ""),
    mayDelete: (network) => isAdmin || roleIn(network) === "owner",
  };
}

/** A filter that stands in the URL, so that what is shown can be sent to somebody. */
export function useFilter(name: string): [string, (value: string) => void] {
  const [search, setSearch] = useSearchParams();
  const set = (value: string) =>
    setSearch(
      (before) => {
        const after = new URLSearchParams(before);
        if (value) after.set(name, value);
        else after.delete(name);
        return after;
      },
      { replace: true },
    );
  return [search.get(name) ?? "", set];
}

/** The choice of one network, or all. */
export function NetworkFilter(props: {
  rights: Rights;
  value: string;
  onInput: (value: string) => void;
}) {
  const options: Option[] = [
    ["", texts.sections.allNetworks],
    ...props.rights.networks.map(
      (network): Option => [network.network_identifier, network.network_name],
    ),
  ];
  if (options.length < 3) return null;
  return (
    <Filter
      label={texts.sections.network}
      value={props.value}
      options={options}
      onInput={props.onInput}
    />
  );
}

/** A button below a list that is longer than what is shown. */
export function More(props: { shown: number; total: number; more: () => void }) {
  if (props.shown >= props.total) return null;
  return (
    <p class="more">
      <span class="quiet">{texts.sections.shown(props.shown, props.total)}</span>
      <button type="button" class="button" onClick={props.more}>
        {texts.sections.more}
      </button>
    </p>
  );
}

/** A severity as a dot and a word. */
export function Severity({ severity }: { severity: string }) {
  return <span class={`state state-${severity}`}>{texts.severities[severity] ?? severity}</span>;
}

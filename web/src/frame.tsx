/** What stands around all pages: navigation, the account, and how the connection is. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { isReachable } from "./connection";
import { liveState } from "./live";
import { pages } from "./pages";
import { logOut, session } from "./session";
import { texts } from "./texts";
import { Icon } from "./ui/parts";

export function Frame({ children }: { children: ComponentChildren }) {
  const [path] = useLocation();
  const menu = useRef<HTMLDetailsElement>(null);
  // Another page closes the menu.
  useEffect(() => {
    if (menu.current) menu.current.open = false;
  }, [path]);
  return (
    <div class="frame">
      <a class="skip" href={`${location.pathname}#content`} onClick={toContent}>
        {texts.skip}
      </a>
      <header class="bar">
        <Link href="/" class="mark">
          <img
            src={new URL("./mark.svg", document.baseURI).pathname}
            alt=""
            width="24"
            height="24"
          />
          {texts.product}
        </Link>
        <nav class="rail" aria-label={texts.navigation}>
          <Navigation path={path} />
        </nav>
        <details class="menu" ref={menu}>
          <summary aria-label={texts.menu}>
            <Icon name="menu" />
          </summary>
          <nav aria-label={texts.navigation}>
            <Navigation path={path} />
          </nav>
        </details>
      </header>
      <main id="content" tabIndex={-1}>
        {!isReachable.value && (
          <div class="notice notice-warning" role="status">
            {texts.connection.unreachable}
          </div>
        )}
        {children}
      </main>
    </div>
  );
}

function Navigation({ path }: { path: string }) {
  const { account } = session.value;
  return (
    <>
      <ul class="nav">
        {pages
          .filter((page) => page.place === "main")
          .map((page) => (
            <li key={page.path}>
              <Item href={page.path} isCurrent={isWithin(path, page.path)}>
                {page.icon && <Icon name={page.icon} />}
                {page.label}
              </Item>
            </li>
          ))}
      </ul>
      <ul class="nav nav-foot">
        <li>
          <LiveMark />
        </li>
        <li>
          <Item href="/account" isCurrent={path === "/account"}>
            <Icon name="account" />
            <span class="clip">{account?.username}</span>
          </Item>
        </li>
        <li>
          <button type="button" class="nav-item nav-plain" onClick={() => void logOut()}>
            {texts.account.logOut}
          </button>
        </li>
      </ul>
    </>
  );
}

function isWithin(path: string, page: string): boolean {
  if (page === "/") return path === "/" || path.startsWith("/networks/");
  return path === page || path.startsWith(`${page}/`);
}

function Item(props: { href: string; isCurrent: boolean; children: ComponentChildren }) {
  return (
    <Link href={props.href} class="nav-item" aria-current={props.isCurrent ? "page" : undefined}>
      {props.children}
    </Link>
  );
}

function LiveMark() {
  const state = isReachable.value ? liveState.value : "interrupted";
  if (state === "off") return null;
  return (
    <span class={`live live-${state}`} role="status">
      {texts.connection[state]}
    </span>
  );
}

function toContent(event: Event): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

/** The frame of what is shown to those who are not logged in. */
export function Narrow({ children }: { children: ComponentChildren }) {
  return (
    <main class="narrow">
      <p class="mark">
        <img src={new URL("./mark.svg", document.baseURI).pathname} alt="" width="32" height="32" />
        {texts.product}
      </p>
      {!isReachable.value && (
        <div class="notice notice-warning" role="status">
          {texts.connection.unreachable}
        </div>
      )}
      {children}
    </main>
  );
}

import { Component, type ComponentChildren, type ComponentType, render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Route, Router, Switch } from "wouter-preact";
import { root } from "./api/client";
import { epoch } from "./connection";
import { Frame, Narrow } from "./frame";
import { startLive, stopLive } from "./live";
import { type Page, type PageProps, pages } from "./pages";
import { Entrance } from "./pages/entrance";
import { NotFound } from "./pages/not-found";
import { findSession, session } from "./session";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/rows.css";
import "./styles/frame.css";
import { texts } from "./texts";
import { Skeleton } from "./ui/parts";

// A file of a build that is no more: this tab is older than the server.
window.addEventListener("vite:preloadError", (event) => {
  const RELOADED = "heliograph.reloaded";
  const before = Number(sessionStorage.getItem(RELOADED) ?? 0);
  if (Date.now() - before < 60_000) return;
  event.preventDefault();
  sessionStorage.setItem(RELOADED, String(Date.now()));
  location.reload();
});

function App() {
  const { account } = session.value;
  const since = epoch.value;
  // It is asked again after an outage.
  useEffect(() => {
    if (account === undefined) findSession().catch(() => {});
  }, [since]);
  const identifier = account?.user_identifier;
  useEffect(() => {
    if (!identifier) return;
    startLive();
    return stopLive;
  }, [identifier]);
  if (account === undefined) {
    return (
      <Narrow>
        <Skeleton />
      </Narrow>
    );
  }
  if (account === null) return <Entrance />;
  return (
    <Router base={`${root}/dashboard`}>
      <Frame>
        <Switch>
          {pages.map((page) => (
            <Route key={page.path} path={page.path}>
              {(params: Record<string, string>) => (
                <Stop key={page.path}>
                  <Lazy page={page} params={params} />
                </Stop>
              )}
            </Route>
          ))}
          <Route>
            <NotFound />
          </Route>
        </Switch>
      </Frame>
    </Router>
  );
}

const loaded = new Map<string, ComponentType<PageProps>>();

/** A page that is fetched when it is first shown. */
function Lazy({ page, params }: PageProps & { page: Page }) {
  const [, setCount] = useState(0);
  const [error, setError] = useState<unknown>();
  useEffect(() => {
    if (loaded.has(page.path)) return;
    page.load().then((module) => {
      loaded.set(page.path, module.default);
      setCount((count) => count + 1);
    }, setError);
  }, [page]);
  if (error) throw error;
  const Shown = loaded.get(page.path);
  return Shown ? <Shown params={params} /> : <Skeleton />;
}

/** Keeps a page that fails from taking the frame with it. */
class Stop extends Component<{ children: ComponentChildren }, { error?: unknown }> {
  static override getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override componentDidCatch(error: unknown) {
    console.error(error);
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <div class="notice notice-error" role="alert">
        <p>{texts.failures.crashed}</p>
        <button type="button" class="button" onClick={() => location.reload()}>
          {texts.failures.reload}
        </button>
      </div>
    );
  }
}

const app = document.getElementById("app");
if (app) render(<App />, app);

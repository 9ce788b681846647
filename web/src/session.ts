/** Who is logged in. The session is a cookie that no script can read. */
import { signal } from "@preact/signals";
import { api, ask, onUnauthenticated, type Schemas } from "./api/client";

export type Account = Schemas["UserRepresentation"];

interface Session {
  /** undefined: it is not known yet. null: nobody is logged in. */
  account: Account | null | undefined;
  /** Whether a session was there and has ended without a log-out. */
  hasEnded: boolean;
  /** Whether the server has an administrator; without one it is its first start. */
  hasAdministrator: boolean;
  signupIsOpen: boolean;
}

export const session = signal<Session>({
  account: undefined,
  hasEnded: false,
  hasAdministrator: true,
  signupIsOpen: false,
});

onUnauthenticated.call = () => {
  if (session.value.account) void findSession().catch(() => {});
};

/** Find out who is logged in. Throws a `Failure` while the server can't say. */
export async function findSession(): Promise<void> {
  const found = await ask(api.GET("/api/v1/session"));
  const before = session.value;
  session.value = {
    account: found.account,
    hasEnded: !found.account && (before.hasEnded || Boolean(before.account)),
    hasAdministrator: found.has_administrator,
    signupIsOpen: found.signup_is_open,
  };
}

export async function logIn(username: string, password: string): Promise<void> {
  await ask(api.POST("/api/v1/authentication", { body: { username, password, cookie: true } }));
  await findSession();
}

export async function signUp(username: string, password: string): Promise<void> {
  await ask(api.POST("/api/v1/users", { body: { username, password, cookie: true } }));
  await findSession();
}

/** Make the first administrator. `code` is what the server printed, or the admin key. */
export async function setUp(code: string, username: string, password: string): Promise<void> {
  try {
    await ask(api.POST("/api/v1/setup", { body: { code, username, password, cookie: true } }));
  } finally {
    // Somebody else may have been first.
    await findSession();
  }
}

export async function logOut(): Promise<void> {
  await ask(api.DELETE("/api/v1/authentication"));
  session.value = { ...session.value, account: null, hasEnded: false };
  await findSession();
}

/** The server's interface, typed by its OpenAPI document. */
import createClient from "openapi-fetch";
import { reached, unreached } from "../connection";
import { texts } from "../texts";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

/** Where the server is shown: the folder of a proxy's site, or nothing. */
export const root = new URL("..", document.baseURI).pathname.replace(/\/$/, "");

/** An answer that refuses, or none: `sentence` is for people, `code` for programs. */
export class Failure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly sentence: string,
    /** By the member of the body that is wrong, what is wrong with it. */
    readonly members: Record<string, string> = {},
  ) {
    super(sentence);
  }
}

/** What is called when the session has ended. */
export const onUnauthenticated: { call: () => void } = { call: () => {} };

export const api = createClient<paths>({ baseUrl: root, fetch: answered });

async function answered(request: Request): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    unreached();
    throw new Failure(0, "UNREACHABLE", texts.failures.unreachable);
  }
  // A proxy in front of a server that is gone answers in its place.
  const isJson = response.headers.get("content-type")?.includes("json") ?? false;
  if (response.status >= 502 && !isJson) {
    unreached();
    throw new Failure(response.status, "UNREACHABLE", texts.failures.unreachable);
  }
  reached();
  return response;
}

interface Result<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** Return what an answer holds, JSON always and never CSV. Throws a `Failure` if it refuses. */
export async function ask<T>(asked: Promise<Result<T>>): Promise<Exclude<T, string>> {
  const { data, error, response } = await asked;
  if (response.ok) return data as Exclude<T, string>;
  const failure = failureOf(response.status, error);
  if (failure.code === "INVALID_API_KEY" || failure.code === "INVALID_TOKEN") {
    onUnauthenticated.call();
  }
  throw failure;
}

/** Return what an answer holds, as `ask` does, and whether damaged chunks are missing from it. */
export async function askWhole<T>(
  asked: Promise<Result<T>>,
): Promise<{ found: Exclude<T, string>; isDamaged: boolean }> {
  const found = await ask(asked);
  return { found, isDamaged: (await asked).response.headers.has("x-damaged-chunks") };
}

/** One page of a list, and how long the whole is. */
export interface Listed<T> {
  rows: T[];
  total: number;
}

/** Return a page of a list, as `ask` does. */
export async function askList<T>(asked: Promise<Result<T[]>>): Promise<Listed<T>> {
  const rows = await ask(asked);
  const total = (await asked).response.headers.get("x-total-count");
  return { rows, total: total === null ? rows.length : Number(total) };
}

/** Return all entries of a list, page by page. Throws a `Failure` if one refuses. */
export async function askAll<T>(page: (offset: number) => Promise<Result<T[]>>): Promise<T[]> {
  const all: T[] = [];
  for (;;) {
    const { rows, total } = await askList(page(all.length));
    all.push(...rows);
    if (rows.length === 0 || all.length >= total) return all;
  }
}

function failureOf(status: number, error: unknown): Failure {
  const { detail, code } = (error ?? {}) as { detail?: unknown; code?: unknown };
  const members: Record<string, string> = {};
  let sentence = typeof detail === "string" ? detail : "";
  if (Array.isArray(detail)) {
    for (const { loc, msg } of detail as { loc: (string | number)[]; msg: string }[]) {
      const name = String(loc.at(-1));
      members[name] ??= msg.replace(/^Value error, /, "");
    }
    sentence = Object.entries(members)
      .map(([name, message]) => `${name}: ${message}`)
      .join("; ");
  }
  return new Failure(
    status,
    typeof code === "string" ? code : "",
    asSentence(sentence || texts.failures.unexpected(status)),
    members,
  );
}

function asSentence(text: string): string {
  const sentence = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(sentence) ? sentence : `${sentence}.`;
}

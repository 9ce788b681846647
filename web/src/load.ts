/** Reading what a page shows. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Failure } from "./api/client";
import { epoch } from "./connection";
import { isOpen } from "./live";

/**
 * Return a turn that rises when the stream of events opens after something was read: what has
 * happened in between was not told. Call `noted` with each answer.
 */
export function useOpening(): [turn: number, noted: () => void] {
  const [turn, setTurn] = useState(0);
  const isEarly = useRef(false);
  useEffect(
    () =>
      isOpen.subscribe((is) => {
        if (is && isEarly.current) setTurn((before) => before + 1);
      }),
    [],
  );
  const noted = useCallback(() => {
    isEarly.current = !isOpen.value;
  }, []);
  return [turn, noted];
}

export interface Loaded<T> {
  /** What was read last; it stays while it is read again. */
  data: T | undefined;
  failure: Failure | undefined;
  /** Read it again. */
  reload: () => void;
  /** Show this from now on: what an answer or an event has told already. */
  update: (change: (data: T) => T) => void;
}

/**
 * Read what a page shows, and again when `key` changes, when the server is back after an outage,
 * and after events were missed: also those before the stream of events was open.
 */
export function useLoad<T>(key: string, read: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<{ key: string; data?: T; failure?: Failure }>({ key });
  const [turn, setTurn] = useState(0);
  const since = epoch.value;
  const [opening, noted] = useOpening();
  // `key` stands for what `read` reads.
  useEffect(() => {
    const ending = new AbortController();
    read(ending.signal).then(
      (data) => {
        if (ending.signal.aborted) return;
        noted();
        setState({ key, data });
      },
      (error: unknown) => {
        if (ending.signal.aborted) return;
        if (!(error instanceof Failure)) throw error;
        setState((old) => ({ ...(old.key === key ? old : { key }), failure: error }));
      },
    );
    return () => ending.abort();
  }, [key, turn, since, opening]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  const update = useCallback(
    (change: (data: T) => T) =>
      setState((old) =>
        old.key === key && old.data !== undefined ? { key, data: change(old.data) } : old,
      ),
    [key],
  );
  const isCurrent = state.key === key;
  return {
    data: isCurrent ? state.data : undefined,
    failure: isCurrent ? state.failure : undefined,
    reload,
    update,
  };
}

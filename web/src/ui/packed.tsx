/** How much of what was measured is packed, in words. */
import { api, ask, type Schemas } from "../api/client";
import { type Loaded, useLoad } from "../load";
import { bytes, count } from "../numbers";
import { texts } from "../texts";
import { fullTime } from "../time";

type Packed = Schemas["PackedRepresentation"];

/** Read how much is packed of a network; without one of all that one may see. */
export function usePacked(network?: string): Loaded<Packed> {
  const query = network === undefined ? {} : { network_identifier: network };
  return useLoad(`packed ${network ?? ""}`, (signal) =>
    ask(api.GET("/api/v1/packed", { params: { query }, signal })),
  );
}

/** Read how much is packed of a sensor. */
export function usePackedOf(identifier: string): Loaded<Packed> {
  const path = { identifier };
  return useLoad(`packed of ${identifier}`, (signal) =>
    ask(api.GET("/api/v1/sensors/{identifier}/packed", { params: { path }, signal })),
  );
}

/** What is packed: how many rows, until when, and what they take. */
export function PackedText({ packed }: { packed: Packed | undefined }) {
  const words = texts.packed;
  if (!packed) return <span class="quiet">…</span>;
  const { rows, last } = packed;
  const told = last === null ? [] : [words.rows(count(rows), bytes(packed.bytes), fullTime(last))];
  if (last === null) told.push(packed.packing ? words.nothing : words.off);
  else if (!packed.packing) told.push(words.noMore);
  return <>{told.join(" ")}</>;
}

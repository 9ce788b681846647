/** Rows of which only those in sight are drawn, while the whole page scrolls. */
import {
  observeWindowOffset,
  observeWindowRect,
  type VirtualItem,
  Virtualizer,
  windowScroll,
} from "@tanstack/virtual-core";
import { useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";

export interface Seen {
  /** For the element that holds the rows. */
  holder: { current: HTMLDivElement | null };
  items: VirtualItem[];
  /** Pixels of all rows, drawn or not. */
  height: number;
  /** Where the holder begins on the page, in pixels. */
  margin: number;
}

/** Return which of `count` rows, each `height` pixels high, are in sight. */
export function useSeenRows(count: number, height: number): Seen {
  const holder = useRef<HTMLDivElement>(null);
  const [margin, setMargin] = useState(0);
  const [, redraw] = useReducer((before: number, _: undefined) => before + 1, 0);
  const options = {
    count,
    getScrollElement: () => window,
    estimateSize: () => height,
    scrollToFn: windowScroll,
    observeElementRect: observeWindowRect,
    observeElementOffset: observeWindowOffset,
    initialRect: { width: window.innerWidth, height: window.innerHeight },
    initialOffset: () => window.scrollY,
    overscan: 6,
    scrollMargin: margin,
    onChange: () => redraw(undefined),
  };
  const [virtualizer] = useState(() => new Virtualizer<Window, Element>(options));
  virtualizer.setOptions(options);
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer]);
  useLayoutEffect(() => {
    virtualizer._willUpdate();
    const top = holder.current?.getBoundingClientRect().top ?? 0;
    setMargin(Math.round(top + window.scrollY));
  });
  useLayoutEffect(() => virtualizer.measure(), [virtualizer, height]);
  return {
    holder,
    items: virtualizer.getVirtualItems(),
    height: virtualizer.getTotalSize(),
    margin,
  };
}

/** The bar between the answer and its X-ray: dragged with a pointer, moved with the arrow keys. */

import type { KeyboardEvent, PointerEvent } from "react";

const LEAST = 15;
const MOST = 85;
const STEP = 5;

interface SplitterProps {
  /** Of the height of what is split, the part below. */
  percent: number;
  /** What is split. */
  measured(): Element | null | undefined;
  onChange(percent: number): void;
}

export function Splitter({ percent, measured, onChange }: SplitterProps) {
  const move = (to: number) => onChange(Math.round(Math.min(Math.max(to, LEAST), MOST)));

  function drag(event: PointerEvent<HTMLDivElement>) {
    const whole = measured()?.getBoundingClientRect();
    if (whole && event.currentTarget.hasPointerCapture(event.pointerId)) {
      move((100 * (whole.bottom - event.clientY)) / whole.height);
    }
  }

  function press(event: KeyboardEvent) {
    const to = { ArrowUp: percent + STEP, ArrowDown: percent - STEP, Home: LEAST, End: MOST }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  }

  return (
    <div
      role="separator"
      aria-label="Height of the X-ray"
      aria-orientation="horizontal"
      aria-valuemin={LEAST}
      aria-valuemax={MOST}
      aria-valuenow={percent}
      tabIndex={0}
      className="xray-splitter"
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={drag}
      onKeyDown={press}
    />
  );
}

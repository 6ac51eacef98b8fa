/** Changes: what one commit writes to the maps, in the order in which packets may see it. */
import type { KernelError } from "../../kernel/errno.ts";
import type { PlannedChange } from "../driver.ts";
import type { StateValue } from "./layout.ts";

/** What is refused as one: `set ID`, `policy KEY`, `endpoint ID`, or `settings`. */
export type UnitId = string;

export interface Write {
  readonly unit: UnitId;
  /** Throws KernelError. */
  readonly run: () => void;
}

/** What the kernel refuses of one unit. */
export interface RefusedUnit {
  readonly unit: UnitId;
  readonly error: KernelError;
}

export class Changes {
  /** One line each. */
  readonly lines: PlannedChange[] = [];
  /** Before the switch: what no packet sees yet. */
  readonly prepare: Write[] = [];
  /** After the switch: what says of what is in force whose it is. No packet sees it. */
  readonly describe: (() => void)[] = [];
  /** After the switch, when no packet is judged by the old generation any more. */
  readonly clean: (() => void)[] = [];
  /** The image as it is then. */
  readonly apply: (() => void)[] = [];
  /** The generation changes. */
  isSwitched = false;
  state: StateValue;

  constructor(state: StateValue) {
    this.state = { ...state, generation: state.generation + 1 };
  }

  note(sign: PlannedChange["sign"], what: string): void {
    this.lines.push({ sign, what, lines: [] });
  }

  /** The generation from which on they hold. */
  get next(): number {
    return this.state.generation;
  }
}

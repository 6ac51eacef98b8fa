/** FlowSource: where the established flows of a node are found and cut: the kernel's table of connections, or that of the eBPF path. */
import type { Program } from "../../program/program.ts";

/** What flows are judged by. */
export interface Judged {
  readonly program: Program;
  /** Whether a rule does, of whatever policy. */
  readonly looksAtSourcePorts: boolean;
  /** Another one whenever the program has changed. */
  readonly version: number;
}

export interface FlowSource {
  /** False: there is none. Throws KernelError. */
  hasFlows(): boolean;
  /** Begins to read all of them. Throws KernelError. */
  open(program: Program): FlowPass;
  /** When to look next for what answers flows that were cut; Infinity: never. Monotonic milliseconds. */
  readonly dueMs: number;
  /** Looks for it, and cuts it. Throws KernelError. */
  cutAnswers(nowMs: number): void;
}

export interface FlowPass {
  /** Reads some hundred more and judges them; true: there are no others. Throws KernelError. */
  read(judged: Judged): boolean;
  /** Cuts those that were found denied since the last call; how many there still were. Throws KernelError. */
  cut(nowMs: number): number;
  /** The kernel has kept some of them, because they are in a flowtable. */
  readonly isHeld?: boolean;
  close(): void;
}

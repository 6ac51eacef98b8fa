/**
 * ConntrackFlows: the flows of the kernel's table of connections.
 *
 * The kernel would take a TCP packet in the middle of a connection for the first of a new one, so that an answer of the other end
 * could revive a flow that was cut, in the other direction, in which policy may allow it. So that such packets are invalid instead, which no
 * workload may send or receive, the setting nf_conntrack_tcp_loose is switched off before the first flow is cut.
 */
import type { Sys } from "../../host/sys.ts";
import { ConntrackTable, countConnections, withoutHeld } from "../../kernel/conntrack.ts";
import { type Answering, type Entry } from "../../kernel/conntrack-entry.ts";
import { readSysctl, writeSysctl } from "../../kernel/sysctl.ts";
import type { Program } from "../../program/program.ts";
import { answeringOf, Answers } from "./answers.ts";
import { FlowJudge, KernelSurroundings } from "./judge.ts";
import type { FlowPass, FlowSource, Judged } from "./source.ts";

const TCP_LOOSE = "net/netfilter/nf_conntrack_tcp_loose";
const WHAT = "this node";

/** To be cut. */
interface Flow {
  readonly entry: Entry;
  readonly answering: Answering | undefined;
}

export class ConntrackFlows implements FlowSource {
  readonly #sys: Sys;
  readonly #answers = new Answers();

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** Where nothing is tracked there is nothing to do. */
  hasFlows(): boolean {
    return (countConnections(this.#sys) ?? 0) > 0;
  }

  open(program: Program): FlowPass {
    return new ConntrackPass(this.#sys, program, this.#answers);
  }

  get dueMs(): number {
    return this.#answers.dueMs;
  }

  cutAnswers(nowMs: number): void {
    const due = this.#answers.take(nowMs);
    const table = new ConntrackTable(this.#sys);
    try {
      withoutHeld(WHAT, table.delete(WHAT, table.begunBy(WHAT, due)));
    } finally {
      table.close();
    }
  }
}

class ConntrackPass implements FlowPass {
  readonly #sys: Sys;
  readonly #answers: Answers;
  readonly #table: ConntrackTable;
  readonly #around: KernelSurroundings;
  readonly #steps: Generator<undefined, void>;
  #judge: FlowJudge | undefined;
  #version: number | undefined;
  #denied: Flow[] = [];
  #isHeld = false;
  #undecided: { readonly flow: Flow; readonly isDenied: () => boolean }[] = [];

  constructor(sys: Sys, program: Program, answers: Answers) {
    this.#sys = sys;
    this.#answers = answers;
    this.#table = new ConntrackTable(sys);
    try {
      this.#around = new KernelSurroundings(sys, program);
    } catch (error) {
      this.#table.close();
      throw error;
    }
    this.#steps = this.#table.reading(WHAT, (entry) => {
      const verdict = this.#judge?.denies(entry) ?? false;
      if (verdict === false) return;
      const flow = { entry: entry.entry(), answering: answeringOf(entry) };
      if (verdict === true) this.#denied.push(flow);
      else this.#undecided.push({ flow, isDenied: verdict });
    });
  }

  /** One datagram: some 100 entries. */
  read({ program, looksAtSourcePorts, version }: Judged): boolean {
    if (version !== this.#version) this.#judge = new FlowJudge(program, this.#around, looksAtSourcePorts);
    this.#version = version;
    const isDone = this.#steps.next().done === true;
    for (const { flow, isDenied } of this.#undecided.splice(0)) if (isDenied()) this.#denied.push(flow);
    return isDone;
  }

  cut(nowMs: number): number {
    const flows = this.#denied.splice(0);
    if (flows.length === 0) return 0;
    if (readSysctl(this.#sys, TCP_LOOSE) === "1") writeSysctl(this.#sys, TCP_LOOSE, "0");
    const { deleted, held } = this.#table.delete(
      WHAT,
      flows.map(({ entry }) => entry),
    );
    this.#isHeld ||= held > 0;
    const answering = flows.flatMap((flow) => flow.answering ?? []);
    this.#answers.await(answering, nowMs);
    return deleted;
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  close(): void {
    this.#table.close();
    this.#around.close();
  }
}

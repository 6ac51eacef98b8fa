/**
 * Graph: the whole calculation on one screen, from the state of the cluster to what this node's kernel should be doing.
 *
 * A short list of operators, stepped once a batch in a fixed order: each line sees complete inputs and yields one complete change. They
 * hold an index of the current state and no history, so the result depends on the state and not on how it came about; the
 * from-scratch calculation (`from-scratch.ts`) computes the same, naively. No promises, no time, no input or output.
 */
import { invariant } from "../lib/bug.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { CniRecord } from "../model/endpoint.ts";
import type { Bgp } from "../model/bgp.ts";
import type { KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import type { Program, ProgramDelta } from "../program/program.ts";
import { Active } from "./active.ts";
import { BgpTable } from "./bgp.ts";
import { Endpoints } from "./endpoints.ts";
import { HostBindings } from "./host-bindings.ts";
import { Inputs } from "./inputs.ts";
import { Lower } from "./lower.ts";
import { Matches } from "./matches.ts";
import { Order, type Withheld } from "./order.ts";
import { Profiles } from "./profiles.ts";
import { Routes } from "./routes.ts";
import { Services } from "./services.ts";
import { Sets, type SetsDelta } from "./sets.ts";
import { type GivenSettings, NodeSettings } from "./settings.ts";
import { Tables } from "./tables.ts";
import { Wires } from "./wires.ts";

export interface GraphOptions {
  readonly node: string;
  /** Whatever FelixConfigurations say. */
  readonly given?: GivenSettings | undefined;
}

export class Graph {
  #inputs = new Inputs();
  #isFlushing = false;
  readonly #wires: Wires;
  readonly #endpoints: Endpoints;
  readonly #hosts = new HostBindings();
  readonly #profiles = new Profiles();
  readonly #matches = new Matches();
  readonly #order = new Order();
  readonly #active = new Active();
  readonly #lower = new Lower();
  readonly #sets = new Sets();
  readonly #services = new Services();
  readonly #routes: Routes;
  readonly #settings: NodeSettings;
  readonly #tables = new Tables();
  readonly #bgp: BgpTable;
  /** Objects that cannot be read as rows, and why. */
  readonly #unreadable = new Map<KeyText, string>();
  /** Number of changes of `bgp` so far: `bgp` has changed if and only if this has. */
  bgpChanges = 0;

  constructor({ node, given = {} }: GraphOptions) {
    this.#wires = new Wires(node);
    this.#endpoints = new Endpoints(node);
    this.#routes = new Routes(node);
    this.#settings = new NodeSettings(node, given);
    this.#bgp = new BgpTable(node);
  }

  /** Records the updates; nothing is calculated before `flush`. */
  update(updates: readonly RowUpdate[]): void {
    for (const update of updates) this.#inputs.put(update);
  }

  /** A pod was wired on this node. It becomes an endpoint as soon as its Pod is known too. */
  setCniRecord(record: CniRecord): void {
    this.#inputs.records.set(record.interface, record);
  }

  removeCniRecord(interfaceName: string): void {
    this.#inputs.records.set(interfaceName, undefined);
  }

  /** Addresses of an interface of the node that is no workload's; undefined: it is gone. */
  setInterface(name: string, addresses: readonly Addr[] | undefined): void {
    this.#inputs.interfaces.set(name, addresses);
  }

  /** The change of the program since the last call. */
  flush(): ProgramDelta {
    const steps = this.flushing();
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
    }
  }

  /**
   * As `flush`, but that it may be stopped at each `yield`, while a new set of many members is filled. The program is as before until the end. What is
   * recorded meanwhile is for the next one, which may not begin before this one has ended.
   */
  *flushing(): Generator<undefined, ProgramDelta> {
    invariant(!this.#isFlushing, "a calculation began before another had ended");
    this.#isFlushing = true;
    const inputs = this.#inputs;
    this.#inputs = new Inputs();
    for (const [key, problem] of inputs.problems)
      if (problem === undefined) this.#unreadable.delete(key);
      else this.#unreadable.set(key, problem);
    const settings = this.#settings.step(inputs.felixConfigurations, inputs.nodeLabels);
    const wires = this.#wires.step(inputs.endpoints, inputs.records, settings);
    const rows = this.#endpoints.step({ ...inputs, wires });
    const { parents } = this.#endpoints.groups;
    const relatives = [...inputs.namespaces.keys(), ...inputs.serviceAccounts.keys()];
    const profiles = this.#profiles.step(rows.rows, inputs.profiles, relatives, (key) => parents.exists(key));
    const bound = this.#hosts.step(rows.rows, inputs.interfaces, settings);
    const dirty = new Set([...this.#matches.step(rows, inputs.policies), ...bound]);
    const endpoints = this.#order.step(dirty, inputs.tiers, this.#matches, this.#hosts, settings);
    const active = this.#active.step(endpoints, new Map([...inputs.policies, ...profiles]));
    const lowered = this.#lower.step(active);
    const members = yield* this.#sets.step(lowered.sets, rows);
    const sets = merge(members, this.#services.step(lowered.sets, inputs.endpointSlices));
    const routes = this.#routes.step(wires, inputs.blocks);
    if (this.#bgp.step({ ...inputs, wires })) this.bgpChanges++;
    this.#isFlushing = false;
    return this.#tables.apply({ sets, policies: lowered.policies, endpoints, routes, settings });
  }

  /** Everything as of the last flush. Live: it changes with the next one. */
  get program(): Program {
    return this.#tables;
  }

  /** What BIRD needs to know, as of the last flush. Also live. */
  get bgp(): Bgp {
    return this.#bgp;
  }

  /** WorkloadEndpoints of this node that have no interface, and why. Live. */
  get refusals(): ReadonlyMap<KeyText, string> {
    return this.#wires.refusals;
  }

  /** Workloads of this node that ask for source prefixes and do not get them, and why. Live. */
  get withheld(): ReadonlyMap<KeyText, Withheld> {
    return this.#order.withheld;
  }

  /** Objects that have no effect, or are closed, because they cannot be read, and why. */
  get problems(): ReadonlyMap<KeyText, string> {
    return this.#unreadable;
  }
}

/** A set is of one of the two. */
function merge(a: SetsDelta, b: SetsDelta): SetsDelta {
  if (b.sets.size === 0) return a;
  return { sets: new Map([...a.sets, ...b.sets]), members: new Map([...a.members, ...b.members]) };
}

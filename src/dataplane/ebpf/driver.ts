/**
 * EbpfDriver: policy in the maps of the data path, and its programs at the interfaces.
 *
 * A commit writes what the next generation has besides the present one, switches to it by one write, waits until no packet is judged by
 * the old one, and then takes away what only that had. A packet is judged by one generation throughout.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import { KernelError } from "../../kernel/errno.ts";
import { Attachments, type Side } from "../../kernel/bpf/attach.ts";
import { type Link, RouteClient } from "../../kernel/route/client.ts";
import { invariant } from "../../lib/bug.ts";
import { bytesFromHex, bytesToHex } from "../../lib/bytes.ts";
import { equal } from "../../lib/equal.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import type { Addr } from "../../net/addr.ts";
import type { Prefix } from "../../net/prefix.ts";
import { isWorkloadInterface } from "../../program/path.ts";
import type { AddrPort, PolicyId, Rule, SetId, SetMembers, Stage } from "../../program/policy.ts";
import {
  DIRECTIONS,
  type Endpoint,
  type EndpointId,
  EVERY_INTERFACE,
  HOOKS,
  policiesNamedBy,
  type Program,
  type ProgramDelta,
} from "../../program/program.ts";
import { formatKey, formatName, type Key } from "../../model/key.ts";
import type { Direction } from "../../model/policy.ts";
import type { Driver, PlannedChange, RowStatus, Steps } from "../driver.ts";
import {
  type Block,
  type BlockKind,
  contentOf,
  freeRanges,
  type Image,
  type ImageSet,
  readImage,
  setText,
  ZERO,
} from "./image.ts";
import {
  encodeAddressKey,
  encodeFailsafeKeys,
  encodeMemberKey,
  encodeNetKey,
  encodeRecords,
  encodeState,
  type EndpointStages,
  EVERY_INDEX,
  NO_STAGES,
  RECORD_BYTES,
  type StateValue,
  words,
} from "./layout.ts";
import { adoptFlows } from "./flows.ts";
import { Gate } from "./gate.ts";
import { DataplaneMaps, type ProgramName } from "./maps.ts";
import { hasOf, lowerRules, lowerStage, type SetReference } from "./records.ts";

export interface EbpfOptions {
  readonly clock: Pick<Clock, "wallMs">;
  /** bpf/path.o. */
  readonly object: Uint8Array;
  /** A directory of a bpffs. */
  readonly pins: string;
}

/** Where our classifiers are among others of an interface. */
const PLACE = { priority: 0xca11, handle: 1 } as const;

/** What a commit writes, in four parts. */
interface Changes {
  /** One line each. */
  readonly lines: readonly PlannedChange[];
  /** Before the switch: what no packet sees yet. */
  readonly prepare: readonly (() => void)[];
  /** The generation changes. */
  readonly isSwitched: boolean;
  readonly state: StateValue;
  /** After the switch, when no packet is judged by the old generation any more. */
  readonly clean: readonly (() => void)[];
  /** The image as it is then. */
  readonly apply: readonly (() => void)[];
  /** What cannot be lowered, and without an error what is closed for that, as their user calls them. */
  readonly refused: ReadonlyMap<string, { readonly object: Key; readonly error: KernelError | undefined }>;
}

export class EbpfDriver implements Driver {
  readonly name = "ebpf";
  readonly #sys: Sys;
  readonly #routes: RouteClient;
  readonly #attachments: Attachments;
  readonly #maps: DataplaneMaps;
  readonly #gate: Gate;
  #program: Program | undefined;
  #image: Image | undefined;
  #hasGate = false;
  #failures: readonly RowStatus[] = [];
  readonly #clock: Pick<Clock, "wallMs">;
  readonly #lowered: Lowered = new WeakMap();
  #isFresh = false;
  #pending = 0;

  /** In the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys, { object, pins, clock }: EbpfOptions) {
    this.#clock = clock;
    this.#sys = sys;
    this.#maps = new DataplaneMaps(sys, object, pins);
    this.#routes = new RouteClient(sys);
    this.#attachments = new Attachments(sys, PLACE);
    this.#gate = new Gate(sys, this.#maps);
  }

  close(): void {
    this.#gate.close();
    this.#attachments.close();
    this.#routes.close();
    this.#maps.close();
  }

  get maps(): DataplaneMaps {
    return this.#maps;
  }

  /** What the maps hold, as last read or written. */
  get image(): Image | undefined {
    return this.#image;
  }

  get isFresh(): boolean {
    return this.#isFresh;
  }

  get pending(): number {
    return this.#pending;
  }

  get writes(): number {
    return this.#maps.writes + this.#attachments.writes + this.#gate.writes;
  }

  /** A policy that cannot be lowered closes the endpoints that run it; it is tried again whenever something changes. */
  get failures(): readonly RowStatus[] {
    return this.#failures;
  }

  readonly dueMs = undefined;

  lower(program: Program, delta: ProgramDelta): void {
    this.#program = program;
    const changed = delta.sets.size + delta.policies.size + delta.endpoints.size;
    if (changed === 0 && delta.settings === undefined) return;
    this.#isFresh = true;
    this.#pending += changed;
  }

  *reading(): Steps {
    this.#image = readImage(this.#maps);
    this.#hasGate = this.#gate.isThere;
    yield undefined;
  }

  plan(): readonly PlannedChange[] {
    if (this.#program === undefined || this.#image === undefined) return [];
    const { lines } = planChanges(this.#program, this.#image, this.#maps, this.#routes.links(), this.#lowered);
    return this.#hasGate ? lines : [...lines, { sign: "+", what: "table inet calico-ebpf", lines: [] }];
  }

  *committing(): Steps {
    yield undefined;
    const program = this.#program;
    if (program === undefined) return;
    const image = this.#image ?? readImage(this.#maps);
    this.#isFresh = false;
    // A commit that fails on its way leaves what only reading shows.
    this.#image = undefined;
    for (const repair of image.repairs.splice(0)) {
      repair();
      this.#maps.writes++;
    }
    const links = this.#routes.links();
    const changes = planChanges(program, image, this.#maps, links, this.#lowered);
    for (const run of changes.prepare) run();
    // Without host endpoints the path does not know the node's own flows.
    if (changes.state.hasHostEndpoints && !image.state.hasHostEndpoints) adoptFlows(this.#sys, this.#maps);
    if (changes.isSwitched) {
      image.state = changes.state;
      this.#maps.writeAll(this.#maps.state, [{ key: ZERO, value: encodeState(changes.state) }]);
    }
    // Flows that another dataplane has let through go on.
    const adopts = !this.#hasGate;
    if (adopts) this.#gate.put({ adopts });
    // A workload's interface has its programs only when its stages are there; what leaves somewhere has come in through a program.
    for (const side of ["ingress", "egress"] as const) for (const link of links) this.#attach(program, link, side);
    if (adopts) {
      adoptFlows(this.#sys, this.#maps);
      this.#gate.put();
    }
    this.#hasGate = true;
    if (changes.isSwitched) this.#maps.wait();
    for (const run of changes.clean) run();
    for (const run of changes.apply) run();
    this.#image = image;
    this.#pending = 0;
    this.#report(changes.refused);
  }

  #report(refused: Changes["refused"]): void {
    const since = formatTimestamp(this.#clock.wallMs());
    this.#failures = [...refused].map(([row, { object, error }]) => {
      const before = this.#failures.find((failure) => failure.row === row);
      const state = error === undefined ? "closed" : "failed";
      return {
        row,
        object,
        state,
        error: error?.message ?? "a policy of it is not programmed",
        errno: error?.errno,
        since: before?.since ?? since,
        attempts: (before?.attempts ?? 0) + 1,
      };
    });
  }

  #attach(program: Program, { index, name }: Link, only: Side): void {
    if (name === "lo") return;
    const isWorkload = isWorkloadInterface(name, program.settings);
    const wanted: readonly (readonly [Side, ProgramName])[] = isWorkload
      ? [
          ["ingress", "from_workload"],
          ["egress", "to_workload"],
        ]
      : [
          ["ingress", "from_network"],
          ["egress", "to_network"],
        ];
    const attached = this.#attachments.attached(index);
    for (const { side } of attached)
      if (!wanted.some(([wantedSide]) => wantedSide === side)) this.#attachments.detach(index, side);
    for (const [side, programName] of wanted) {
      const wantedProgram = this.#maps.programs.get(programName);
      invariant(wantedProgram !== undefined, `no program ${programName}`);
      if (side !== only) continue;
      const label = `calico ${programName} ${this.#maps.digest}`;
      if (attached.some((each) => each.side === side && each.programId === wantedProgram.id)) continue;
      this.#attachments.attach(index, side, wantedProgram.fd, label);
    }
  }

  isProgrammed(endpoint: EndpointId): boolean {
    if (this.#pending > 0 || this.#image === undefined || this.#refusalOf(endpoint) !== undefined) return false;
    return [...this.#image.endpoints.values()].some(({ text }) => text?.split("\0")[0] === endpoint);
  }

  explain(endpoint: EndpointId): string | undefined {
    if (this.isProgrammed(endpoint) || this.#pending > 0) return undefined;
    return this.#refusalOf(endpoint)?.error ?? `interface ${endpoint} does not exist`;
  }

  #refusalOf(endpoint: EndpointId): RowStatus | undefined {
    const source = this.#program?.endpoints.get(endpoint)?.source;
    return source === undefined ? undefined : this.#failures.find(({ object }) => equal(object, source));
  }
}

/** Records of rules and their block's content, as long as the sets that they name are the same. */
type Lowered = WeakMap<
  readonly Rule[],
  { readonly records: Uint8Array; readonly content: string; readonly sets: ReadonlyMap<SetId, SetReference> }
>;

/** Compares the program with what the maps hold. */
function planChanges(
  program: Program,
  image: Image,
  maps: DataplaneMaps,
  links: readonly Link[],
  lowered: Lowered,
): Changes {
  const planner = new Planner(program, image, maps, lowered);
  planner.sets();
  planner.policies();
  planner.endpoints(links);
  planner.settings();
  planner.rest();
  return planner;
}

class Planner implements Changes {
  readonly lines: PlannedChange[] = [];
  readonly prepare: (() => void)[] = [];
  readonly clean: (() => void)[] = [];
  readonly apply: (() => void)[] = [];
  readonly refused = new Map<string, { readonly object: Key; readonly error: KernelError | undefined }>();
  isSwitched = false;
  state: StateValue;
  readonly #program: Program;
  readonly #image: Image;
  readonly #maps: DataplaneMaps;
  readonly #lowered: Lowered;
  readonly #next: number;
  readonly #setNumbers = new Map<SetId, SetReference>();
  readonly #policyStarts = new Map<string, number>();
  readonly #usedSets = new Set<number>();
  /** Contents of blocks that stay or come. */
  readonly #usedBlocks = new Set<string>();
  readonly #usedEndpoints = new Set<number>();
  readonly #newBlocks = new Map<string, Block>();
  readonly #free: { from: number; readonly to: number }[];

  constructor(program: Program, image: Image, maps: DataplaneMaps, lowered: Lowered) {
    this.#lowered = lowered;
    this.#program = program;
    this.#image = image;
    this.#maps = maps;
    this.#next = image.state.generation + 1;
    this.state = { ...image.state, generation: this.#next };
    this.#free = freeRanges(image, maps.records.definition.maxEntries);
  }

  #change(sign: PlannedChange["sign"], what: string): void {
    this.lines.push({ sign, what, lines: [] });
  }

  /** The element holds from the next generation on. */
  get #born(): Uint8Array {
    return words(this.#next, 0);
  }
  /** The element holds up to the next generation. */
  get #dying(): Uint8Array {
    return words(0, this.#next);
  }

  sets(): void {
    const byId = new Map([...this.#image.sets.values()].map((set) => [`${set.type} ${set.id}`, set]));
    let last = 0;
    for (const number of this.#image.sets.keys()) last = Math.max(last, number);
    for (const [id, members] of this.#program.sets) {
      const found = byId.get(`${members.type} ${id}`);
      const isKept = found !== undefined && isSame(found.nets, netsOf(members));
      const number = isKept ? found.number : ++last;
      this.#setNumbers.set(id, { number, has: hasOf(members) });
      this.#usedSets.add(number);
      if (isKept) this.#changeMembers(found, hostsOf(members));
      else this.#addSet(id, number, members);
    }
  }

  #changeMembers(set: ImageSet, wanted: ReadonlySet<Addr | AddrPort>): void {
    const added = [...wanted].filter((member) => !set.members.has(member));
    const removed = [...set.members].filter((member) => !wanted.has(member));
    if (added.length === 0 && removed.length === 0) return;
    this.#change("~", `set ${set.id} (${added.length} members more, ${removed.length} less)`);
    this.isSwitched = true;
    const keys = (members: readonly (Addr | AddrPort)[]): Uint8Array[] =>
      members.map((member) => encodeMemberKey(set.number, member));
    const { members } = this.#maps;
    this.prepare.push(() =>
      this.#maps.writeAll(members, [
        ...keys(added).map((key) => ({ key, value: this.#born })),
        ...keys(removed).map((key) => ({ key, value: this.#dying })),
      ]),
    );
    this.clean.push(() => this.#maps.removeAll(members, keys(removed)));
    this.apply.push(() => {
      for (const member of added) set.members.add(member);
      for (const member of removed) set.members.delete(member);
    });
  }

  /** Nobody refers to it before the switch. */
  #addSet(id: SetId, number: number, wanted: SetMembers): void {
    // Hosts change in place.
    const [members, nets] = [new Set(hostsOf(wanted)), netsOf(wanted)];
    this.#change("+", `set ${id} (${members.size + nets.size} members)`);
    this.prepare.push(() => {
      this.#maps.writeObject("set", number, setText(id, wanted.type), 0);
      this.#maps.writeAll(
        this.#maps.members,
        [...members].map((member) => ({ key: encodeMemberKey(number, member), value: words(0, 0) })),
      );
      this.#maps.writeAll(
        this.#maps.nets,
        [...nets].map((net) => ({ key: encodeNetKey(number, net), value: words(1) })),
      );
    });
    this.apply.push(() => this.#image.sets.set(number, { id, type: wanted.type, number, members, nets }));
  }

  policies(): void {
    for (const [id, { source, tier, error, ...policy }] of this.#program.policies)
      for (const direction of DIRECTIONS) {
        const rules = policy[direction];
        if (rules === undefined) continue;
        const text = [formatKey(source), tier, ...(error === undefined ? [] : [error])].join("\0");
        try {
          const kind = `policy-${direction}` as const;
          const { records, content } = this.#rules(rules, kind, text);
          this.#policyStarts.set(`${direction} ${id}`, this.#block(kind, text, records, content));
        } catch (refusal) {
          if (!(refusal instanceof KernelError)) throw refusal;
          this.refused.set(`policy ${formatName(source)}`, { object: source, error: refusal });
        }
      }
  }

  #rules(rules: readonly Rule[], kind: BlockKind, text: string): { records: Uint8Array; content: string } {
    const known = this.#lowered.get(rules);
    const prefix = `${kind}\0${text}\0`;
    if (
      known?.content.startsWith(prefix) === true &&
      [...known.sets].every(([id, reference]) => equal(reference, this.#setNumbers.get(id)))
    )
      return known;
    const sets = new Map<SetId, SetReference>();
    const bytes = encodeRecords(
      lowerRules(rules, (id) => {
        const found = this.#setNumbers.get(id);
        invariant(found !== undefined, `no set ${id}`);
        sets.set(id, found);
        return found;
      }),
    );
    const lowered = { records: bytes, content: contentOf(kind, text, bytes), sets };
    this.#lowered.set(rules, lowered);
    return lowered;
  }

  /** First record of the block. */
  #block(kind: BlockKind, text: string, records: Uint8Array, content: string = contentOf(kind, text, records)): number {
    this.#usedBlocks.add(content);
    const known = this.#image.blocks.get(content) ?? this.#newBlocks.get(content);
    if (known !== undefined) return known.start;
    const start = this.#allocate(records.length / RECORD_BYTES);
    const block = { kind, start, text, records, since: this.#next };
    this.#newBlocks.set(content, block);
    this.#change("+", `${kind} ${text.split("\0")[0]} (${records.length / RECORD_BYTES} records)`);
    this.prepare.push(() => {
      this.#maps.writeRecords(start, records);
      this.#maps.writeObject(kind, start, text, records.length / RECORD_BYTES);
    });
    this.apply.push(() => this.#image.blocks.set(content, block));
    return start;
  }

  #allocate(count: number): number {
    const range = this.#free.find(({ from, to }) => to - from >= count);
    if (range === undefined) throw new KernelError("find room for", `${count} records`, ENOSPC);
    range.from += count;
    return range.from - count;
  }

  endpoints(links: readonly Link[]): void {
    const indexOf = new Map<string, number>(links.map(({ name, index }) => [name, index]));
    indexOf.set(EVERY_INTERFACE, EVERY_INDEX);
    for (const [id, endpoint] of this.#program.endpoints) {
      const index = indexOf.get(id);
      if (index === undefined || isWorkloadInterface(id, this.#program.settings) !== (endpoint.kind === "workload"))
        continue;
      this.#usedEndpoints.add(index);
      this.#endpoint(id, endpoint, index);
    }
  }

  #endpoint(id: EndpointId, endpoint: Endpoint, index: number): void {
    const { kind } = endpoint;
    const first = HOOKS.flatMap((hook) =>
      DIRECTIONS.map((direction) => this.#stage(endpoint.stages[hook]?.[direction], direction, endpoint)),
    );
    const after: EndpointStages = { kind, first };
    const own = kind === "host" ? endpoint.addresses : [];
    const text = [id, formatKey(endpoint.source), ...own].join("\0");
    const accepted = kind === "host" ? [] : endpoint.addresses;
    const found = this.#image.endpoints.get(index);
    // It describes what is in force.
    if (found?.text !== text) this.clean.push(() => this.#maps.writeObject("endpoint", index, text, 0));
    const before = found?.stages ?? NO_STAGES;
    if (!equal(before, after)) {
      this.isSwitched = true;
      this.#change(found === undefined ? "+" : "~", `endpoint ${id}`);
      this.prepare.push(() => this.#maps.writeEndpoint(index, { since: this.#next, before, after }));
    }
    const had = found?.addresses ?? new Set<Addr>();
    const added = accepted.filter((addr) => !had.has(addr));
    this.#addresses(
      index,
      added,
      [...had].filter((addr) => !accepted.includes(addr)),
    );
    this.apply.push(() => this.#image.endpoints.set(index, { text, stages: after, addresses: new Set(accepted) }));
  }

  #addresses(index: number, added: readonly Addr[], removed: readonly Addr[]): void {
    if (added.length + removed.length === 0) return;
    this.isSwitched = true;
    this.#change("~", `addresses of interface ${index} (${added.length} more, ${removed.length} less)`);
    const { addresses } = this.#maps;
    const gone = removed.map((addr) => encodeAddressKey(index, addr));
    this.prepare.push(() =>
      this.#maps.writeAll(addresses, [
        ...added.map((addr) => ({ key: encodeAddressKey(index, addr), value: this.#born })),
        ...gone.map((key) => ({ key, value: this.#dying })),
      ]),
    );
    this.clean.push(() => this.#maps.removeAll(addresses, gone));
  }

  /** First record of the stage; 0: there is none. One that names a policy that is refused drops everything. */
  #stage(given: Stage | undefined, direction: Direction, { kind, source }: Endpoint): number {
    if (given === undefined) return 0;
    const isOpen = policiesNamedBy(given).every((id) => this.#policyStarts.has(`${direction} ${id}`));
    if (!isOpen)
      this.refused.set(`${kind === "host" ? "host endpoint" : "pod"} ${formatName(source)}`, {
        object: source,
        error: undefined,
      });
    const stage: Stage = isOpen ? given : { tiers: [], profiles: [], otherwise: "deny" };
    const records = lowerStage(stage, (id: PolicyId) => {
      const start = this.#policyStarts.get(`${direction} ${id}`);
      invariant(start !== undefined, `no ${direction} policy ${id}`);
      return start;
    });
    return this.#block(`stage-${direction}`, stage.tiers.map(({ tier }) => tier).join("\0"), encodeRecords(records));
  }

  settings(): void {
    const { settings, endpoints } = this.#program;
    const { state, failsafes } = this.#image;
    const keysOf = (version: number): Uint8Array[] =>
      DIRECTIONS.flatMap((direction) =>
        settings.failsafes[direction].flatMap((entry) => encodeFailsafeKeys(version, direction, entry)),
      );
    const dropsForHost = settings.endpointToHost === "drop";
    const hasHostEndpoints = [...endpoints.values()].some(({ kind }) => kind === "host");
    this.state = { ...this.state, dropsForHost, hasHostEndpoints };
    if (state.generation === 0 || !equal(this.state, { ...state, generation: this.#next })) {
      this.isSwitched = true;
      this.#change("~", "settings");
    }
    if (isSame(new Set(keysOf(state.failsafes).map((key) => bytesToHex(key))), failsafes)) return;
    this.isSwitched = true;
    this.#change("~", "failsafe ports");
    const version = this.#next;
    this.state = { ...this.state, failsafes: version };
    this.prepare.push(() =>
      this.#maps.writeAll(
        this.#maps.failsafes,
        keysOf(version).map((key) => ({ key, value: words(1) })),
      ),
    );
    this.clean.push(() =>
      this.#maps.removeAll(
        this.#maps.failsafes,
        [...failsafes].flatMap((hex) => bytesFromHex(hex) ?? []),
      ),
    );
    this.apply.push(() => {
      this.#image.failsafes = new Set(keysOf(version).map((key) => bytesToHex(key)));
    });
  }

  /** What is there and not wanted. */
  rest(): void {
    const image = this.#image;
    for (const [index, { text, stages, addresses }] of image.endpoints) {
      if (this.#usedEndpoints.has(index)) continue;
      this.isSwitched = true;
      this.#change("-", `endpoint ${text?.split("\0")[0] ?? index}`);
      this.prepare.push(() => this.#maps.writeEndpoint(index, { since: this.#next, before: stages, after: NO_STAGES }));
      this.#addresses(index, [], [...addresses]);
      this.clean.push(() => {
        this.#maps.removeAll(this.#maps.endpoints, [words(index)]);
        this.#maps.removeObject("endpoint", index, text ?? "");
      });
      this.apply.push(() => image.endpoints.delete(index));
    }
    for (const [content, { kind, start, text }] of image.blocks) {
      if (this.#usedBlocks.has(content)) continue;
      this.isSwitched = true;
      this.#change("-", `${kind} ${text.split("\0")[0]}`);
      this.clean.push(() => this.#maps.removeObject(kind, start, text));
      this.apply.push(() => image.blocks.delete(content));
    }
    for (const set of image.sets.values()) if (!this.#usedSets.has(set.number)) this.#removeSet(set);
  }

  #removeSet({ id, type, number, members, nets }: ImageSet): void {
    this.isSwitched = true;
    this.#change("-", `set ${id}`);
    this.clean.push(() => {
      this.#maps.removeAll(
        this.#maps.members,
        [...members].map((member) => encodeMemberKey(number, member)),
      );
      this.#maps.removeAll(
        this.#maps.nets,
        [...nets].map((net) => encodeNetKey(number, net)),
      );
      this.#maps.removeObject("set", number, setText(id, type));
    });
    this.apply.push(() => this.#image.sets.delete(number));
  }
}

const ENOSPC = 28;

function hostsOf(set: SetMembers): ReadonlySet<Addr | AddrPort> {
  return set.type === "address" ? set.hosts : set.type === "address-port" ? set.members : new Set();
}

function netsOf(set: SetMembers): ReadonlySet<Prefix> {
  return set.type === "address-port" ? new Set() : set.nets;
}

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((each) => b.has(each));
}

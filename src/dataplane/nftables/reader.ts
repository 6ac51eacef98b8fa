/**
 * reader: what the kernel has of our table, taken into the state in steps, between which the table may be written: what was written
 * since a part was asked for is known better than the part tells.
 */
import type { NftablesClient } from "../../kernel/nftables/client.ts";
import type { DecodedSet } from "../../kernel/nftables/decode.ts";
import { KeyDigest } from "../../kernel/nftables/key-digest.ts";
import type { NftChainState, NftElement } from "../../kernel/nftables/objects.ts";
import type { Steps, Touched } from "../driver.ts";
import type { PendingElements } from "./pending-elements.ts";
import type { Devices } from "./devices.ts";
import { FLOWTABLE } from "./names.ts";
import { chainId, elementId, flowtableId, type NftRow, setId, TABLE_ROW } from "./rows.ts";
import { elementText, type WantedElements } from "./sets.ts";
import type { TableState } from "../table-state.ts";

export interface Reading {
  readonly client: NftablesClient;
  readonly state: TableState<NftRow>;
  readonly elements: PendingElements;
  readonly devices: Devices;
  /** What the program wants in the kernel set, if that is one of its sets. */
  readonly wanted: (set: string) => WantedElements | undefined;
  /** Ids of the rows that were written to the kernel since it was last emptied, of a set also when its elements were. */
  readonly written: Set<string>;
  /** Kernel sets whose wanted elements changed since it was last emptied. */
  readonly changed: Set<string>;
  /** For digests. */
  readonly seed: number;
}

/** Rows compared in one step. */
const ROWS_PER_STEP = 64;
/** Elements compared in one step. */
const ELEMENTS_PER_STEP = 1_000;

/** Everything, or only the chains and sets that are named. Throws KernelError. */
export function* readTable(reading: Reading, only: Touched | undefined): Steps {
  const { client, state } = reading;
  if (only === undefined) client.beginRead();
  const hold = client.hold();
  const owner = hold?.owner !== undefined && hold.owner === client.portId ? "us" : hold?.owner;
  state.setHave(TABLE_ROW, hold === undefined ? undefined : { type: "table", flags: hold.flags, owner });
  if (hold === undefined) return forgetTable(reading);
  if (only === undefined) readFlowtables(reading);
  yield* readChains(reading, only && namesOf(only, chainId("")));
  yield* readSets(reading, only && namesOf(only, setId("")));
}

/** Of the ids that begin so, the rest. */
function namesOf(ids: Touched, prefix: string): ReadonlySet<string> {
  return new Set([...ids].flatMap((id) => (id.startsWith(prefix) ? [id.slice(prefix.length)] : [])));
}

/** They are few, and read at once. */
function readFlowtables({ client, state, devices }: Reading): void {
  const found = client.steps.flowtables();
  const before = [...state.have.values()].flatMap((row) => (row.type === "flowtable" ? [row.flowtable] : []));
  for (const flowtable of new Set([...found.keys(), ...before])) {
    const is = found.get(flowtable);
    const row = is && ({ type: "flowtable", flowtable, priority: is.priority } as const);
    state.setHave(flowtableId(flowtable), row);
  }
  devices.found(found.get(FLOWTABLE)?.devices ?? []);
}

/** There is no table. */
export function forgetTable({
  state,
  elements,
  devices,
  wanted: wantedOf,
}: Pick<Reading, "state" | "elements" | "devices" | "wanted">): void {
  devices.found([], true);
  for (const id of state.have.keys()) state.setHave(id, undefined);
  for (const [id, row] of state.want) {
    if (row.type !== "set" || row.is === undefined) continue;
    const wanted = wantedOf(row.set);
    const unit = state.ownerOf(id);
    if (wanted !== undefined && unit !== undefined) elements.fill(row.set, unit.id, row.is, wanted.filling());
  }
}

function* readChains({ client, state, written }: Reading, only: ReadonlySet<string> | undefined): Steps {
  if (only?.size === 0) return;
  const [single] = only?.size === 1 ? only : [];
  const chains = yield* client.steps.chains(single);
  // What was read is as of now.
  written.clear();
  const names = only ?? new Set([...chains.keys(), ...chainsOf(state)]);
  let count = 0;
  for (const name of names) {
    const id = chainId(name);
    const found = chains.get(name);
    if (!written.has(id)) state.setHave(id, found === undefined ? undefined : chainRow(name, found));
    if (++count % ROWS_PER_STEP === 0) yield;
  }
}

function chainsOf({ have }: TableState<NftRow>): string[] {
  return [...have.values()].flatMap((row) => (row.type === "chain" ? [row.chain] : []));
}

function chainRow(chain: string, { base, rules, unknownBase }: NftChainState): NftRow {
  return { type: "chain", chain, base: unknownBase ? "unknown" : base, rules: rules.map(({ rule }) => rule) };
}

function* readSets(reading: Reading, only: ReadonlySet<string> | undefined): Steps {
  if (only?.size === 0) return;
  const { client, state, written } = reading;
  const sets = yield* client.steps.sets();
  const before = new Set([...state.have.values()].flatMap((row) => (row.type === "set" ? [row.set] : [])));
  for (const name of only ?? new Set([...sets.keys(), ...before])) {
    const found = sets.get(name);
    if (found === undefined) {
      if (!written.has(setId(name))) forgetSet(reading, name);
    } else yield* readSet(reading, found);
    yield;
  }
}

function forgetSet({ state, elements, wanted: wantedOf }: Reading, name: string): void {
  for (const id of elementRowsOf(state, name)) state.setHave(id, undefined);
  state.setHave(setId(name), undefined);
  const want = state.want.get(setId(name));
  const unit = state.ownerOf(setId(name));
  const wanted = wantedOf(name);
  if (want?.type === "set" && want.is !== undefined && wanted !== undefined && unit !== undefined)
    elements.fill(name, unit.id, want.is, wanted.filling());
}

/** Ids of the rows that are elements of the set. */
function elementRowsOf({ have }: TableState<NftRow>, set: string): string[] {
  return [...have].flatMap(([id, row]) => (row.type === "element" && row.set === set ? [id] : []));
}

/** The declaration of one set and its elements, as of one moment. */
function* readSet(reading: Reading, declared: DecodedSet): Steps {
  const { client, state, written } = reading;
  const { set, is } = declared;
  if (yield* isAsWanted(reading, declared)) return;
  const found = yield* client.steps.elements(declared);
  // We, or others of whom we shall hear, have removed it since it was listed.
  if (found === "gone") return;
  written.clear();
  const row: NftRow = { type: "set", set, is: found === undefined ? undefined : is };
  state.setHave(setId(set), row);
  if (is === undefined || found === undefined) return;
  if (reading.wanted(set) === undefined) return setElementRows(reading, set, is, found);
  yield* compareElements(reading, set, is, found);
}

/** Most sets of a table that is adopted: told without looking at single elements. False: they have to be looked at. */
function* isAsWanted(
  { client, state, elements, written, changed, wanted: wantedOf, seed }: Reading,
  declared: DecodedSet,
): Generator<undefined, boolean> {
  const { set, is } = declared;
  const unit = state.ownerOf(setId(set));
  if (is === undefined || is.interval || is.verdictMap || unit === undefined) return false;
  if (wantedOf(set)?.digest === undefined) return false;
  const found = yield* client.steps.digest(declared, seed);
  const wanted = wantedOf(set);
  if (found === undefined || wanted?.digest === undefined) return false;
  written.clear();
  changed.clear();
  const own = new KeyDigest(seed);
  yield* wanted.digest(own);
  if (!own.isSame(found) || changed.has(set) || written.has(setId(set)) || state.ownerOf(setId(set)) !== unit)
    return false;
  state.setHave(setId(set), { type: "set", set, is });
  elements.settle(set, unit.id, is);
  return true;
}

/** Elements that are rows: of dispatch, and of lists of ports. Of a set that nobody wants they go with it. */
function setElementRows(
  { state, written }: Reading,
  set: string,
  is: DecodedSet["is"],
  found: readonly NftElement[],
): void {
  if (is === undefined || !state.want.has(setId(set))) return;
  const ids = new Set<string>();
  for (const element of found) {
    const id = elementId(set, element);
    ids.add(id);
    if (!written.has(id)) state.setHave(id, { type: "element", set, is, element });
  }
  for (const id of elementRowsOf(state, set)) if (!ids.has(id) && !written.has(id)) state.setHave(id, undefined);
}

/** What the kernel lacks and has too many of what the program wants. */
function* compareElements(
  { state, elements, written, changed, wanted: wantedOf }: Reading,
  set: string,
  is: NonNullable<DecodedSet["is"]>,
  found: readonly NftElement[],
): Steps {
  for (let attempt = 0; ; attempt++) {
    changed.clear();
    const wanted = wantedOf(set);
    const unit = state.ownerOf(setId(set));
    if (wanted === undefined || unit === undefined) return;
    const surplus: NftElement[] = [];
    const missing: NftElement[] = [];
    let count = 0;
    // It is compared in one go if it changed while it was compared in steps.
    const isDue = (): boolean => attempt === 0 && ++count % ELEMENTS_PER_STEP === 0;
    for (const element of found) {
      if (!wanted.has(element)) surplus.push(element);
      if (isDue()) yield;
    }
    // No element is found twice, so if as many were found as are wanted, none is missing.
    if (found.length - surplus.length !== wanted.count()) {
      const seen = new Set(found.map(elementText));
      for (const element of wanted.elements()) {
        if (!seen.has(elementText(element))) missing.push(element);
        if (isDue()) yield;
      }
    }
    // What was found is out of date then, and what we know is right.
    if (written.has(setId(set))) return;
    if (changed.has(set) && attempt === 0) continue;
    const entry = elements.settle(set, unit.id, is);
    for (const element of surplus) entry.remove.set(elementText(element), element);
    for (const element of missing) entry.add.set(elementText(element), element);
    return;
  }
}

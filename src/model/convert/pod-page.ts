/**
 * Pod page: rows of many pods as plain JSON, small and cheap to read again, for a thread that converts them for another. It is made of columns, as a
 * number costs less to read than an object, and a text that is split a tenth of many (the parser of JSON looks each up among all it has seen). What
 * pods have in common, their shape, and names of nodes are written once for many pages.
 */
import { invariant } from "../../lib/bug.ts";
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";
import type { Addr } from "../../net/addr.ts";
import type { EndpointRow, NamedPort } from "../endpoint.ts";
import { formatKey, type Key, type KeyText } from "../key.ts";
import type { Revision } from "../revision.ts";
import type { RowUpdate } from "./rows.ts";

/** Each column has an entry for each pod, but `others`; those that are one text have `SEPARATOR` between them. */
export interface PodPage {
  readonly count: number;
  /** Shapes and nodes are numbered anew. */
  readonly isReset: boolean;
  /** The next ones, by number. */
  readonly shapes: readonly PageShape[];
  readonly nodes: readonly string[];
  /** Texts of the keys. */
  readonly ids: string;
  readonly revisions: readonly Revision[];
  /** 0: none is known. */
  readonly generations: readonly number[];
  /** By number; -1: the pod is among `others`. */
  readonly shape: readonly number[];
  readonly node: readonly number[];
  /** Of each pod, with commas between them. */
  readonly addresses: string;
  /** By index, whole: what is no live pod of another node, with its addresses in its status. */
  readonly others: readonly (readonly [number, OtherPod])[];
}

/** In no address, and in no name that is among the columns. JSON does not escape it: escapes are slow to read. */
const SEPARATOR = " ";

/** Of the text of a pod's key. */
const KEY_PREFIX = "Pod/";

/** Of pods of a namespace and service account: labels, and named ports. */
interface PageShape {
  readonly namespace: string;
  readonly serviceAccount: string | null;
  readonly labels: readonly (readonly [string, string])[];
  readonly ports: readonly NamedPort[];
}

interface OtherPod {
  readonly namespace: string;
  readonly name: string;
  readonly endpoint: Result<Omit<EndpointRow, "labels"> & { readonly labels: PageShape["labels"] }, ParseError>;
  readonly here: { readonly uid: string; readonly annotations: Readonly<Record<string, string>> } | null;
}

/** Numbers of either after which they begin anew, so that neither side keeps all of a list. */
const MOST_NUMBERS = 4_096;

export class PodPageWriter {
  readonly #shapes = new Map<EndpointRow["labels"], number>();
  readonly #nodes = new Map<string, number>();

  /** Of pods that exist. */
  write(updates: readonly RowUpdate<"Pod">[]): PodPage {
    const isReset = this.#shapes.size > MOST_NUMBERS || this.#nodes.size > MOST_NUMBERS;
    if (isReset) this.#shapes.clear();
    if (isReset) this.#nodes.clear();
    const shapes: PageShape[] = [];
    const nodes: string[] = [];
    const others: (readonly [number, OtherPod])[] = [];
    const shape: number[] = [];
    const node: number[] = [];
    const addresses: string[] = [];
    for (const [i, update] of updates.entries()) {
      const row = plainRowOf(update);
      if (row === undefined) others.push([i, otherOf(update)]);
      shape.push(row === undefined ? -1 : this.#shapeOf(row, shapes));
      node.push(row === undefined ? -1 : numberOf(this.#nodes, row.node, nodes));
      addresses.push(row?.addresses.join() ?? "");
    }
    return {
      count: updates.length,
      isReset,
      shapes,
      nodes,
      ids: updates.map(({ id }, i) => (shape[i] === -1 ? "" : id)).join(SEPARATOR),
      revisions: updates.map(({ origin }) => origin.revision),
      generations: updates.map(({ origin }) => origin.generation ?? 0),
      shape,
      node,
      addresses: addresses.join(SEPARATOR),
      others,
    };
  }

  #shapeOf({ labels, namespace, serviceAccount, ports }: PlainRow, added: PageShape[]): number {
    const known = this.#shapes.get(labels);
    if (known !== undefined) return known;
    const number = this.#shapes.size;
    this.#shapes.set(labels, number);
    added.push({ namespace, serviceAccount: serviceAccount ?? null, labels: [...labels], ports });
    return number;
  }
}

function numberOf(numbers: Map<string, number>, name: string, added: string[]): number {
  const known = numbers.get(name);
  if (known !== undefined) return known;
  numbers.set(name, numbers.size);
  added.push(name);
  return numbers.size - 1;
}

type PlainRow = EndpointRow & { readonly namespace: string; readonly node: string };

/** The row if the columns hold all that is asked about it: nobody asks for the uid of a pod elsewhere. */
function plainRowOf({ key, value }: RowUpdate<"Pod">): PlainRow | undefined {
  if (value?.endpoint.ok !== true || value.here !== undefined) return undefined;
  const { namespace, node, state, addressesFrom, sources } = value.endpoint.value;
  if (namespace === undefined || namespace !== key.namespace || node === undefined || sources !== undefined)
    return undefined;
  if (key.name.includes(SEPARATOR)) return undefined;
  return state === "live" && addressesFrom === "status" ? { ...value.endpoint.value, namespace, node } : undefined;
}

function otherOf({ key, value }: RowUpdate<"Pod">): OtherPod {
  const { namespace = "", name } = key;
  const endpoint: OtherPod["endpoint"] =
    value === undefined
      ? fail({ what: "pod", found: key.name, wanted: "must exist" })
      : value.endpoint.ok
        ? ok({ ...value.endpoint.value, labels: [...value.endpoint.value.labels] })
        : value.endpoint;
  const here = value?.here;
  return {
    namespace,
    name,
    endpoint,
    here: here === undefined ? null : { uid: here.uid, annotations: here.annotations },
  };
}

/** A shape as rows have it. */
interface ReadShape extends Pick<EndpointRow, "labels" | "ports" | "serviceAccount"> {
  readonly namespace: string;
}

/** Reads the pages of one writer, in their order, each to its end. */
export class PodPageReader {
  #shapes: ReadShape[] = [];
  #nodes: string[] = [];

  /** Rows as they were written, but for the uid of a pod elsewhere; `seenAt` is when they came to be known. */
  *read(page: PodPage, seenAt: number): Generator<RowUpdate<"Pod">> {
    if (page.isReset) [this.#shapes, this.#nodes] = [[], []];
    this.#nodes.push(...page.nodes);
    for (const { namespace, serviceAccount, labels, ports } of page.shapes)
      this.#shapes.push({ namespace, serviceAccount: serviceAccount ?? undefined, labels: new Map(labels), ports });
    if (page.count === 0) return;
    const others = new Map(page.others);
    const addresses = page.addresses.split(SEPARATOR);
    const ids = page.ids.split(SEPARATOR);
    const { revisions } = page;
    invariant(
      ids.length === page.count && revisions.length === page.count,
      `a page of pods has ${ids.length} keys and ${revisions.length} revisions of ${page.count}`,
    );
    for (const [i, revision] of revisions.entries()) {
      const origin = { revision, generation: page.generations[i] || undefined, seenAt };
      const shape = this.#shapes[page.shape[i] ?? -1];
      const node = this.#nodes[page.node[i] ?? -1];
      if (shape !== undefined && node !== undefined) {
        yield plainUpdate((ids[i] ?? "") as KeyText, origin, shape, node, addresses[i]);
        continue;
      }
      const other = others.get(i);
      invariant(other !== undefined, `a page of pods lacks the one at ${i} of ${page.count}`);
      yield otherUpdate(origin, other);
    }
  }
}

function plainUpdate(
  id: KeyText,
  origin: RowUpdate<"Pod">["origin"],
  { namespace, serviceAccount, labels, ports }: ReadShape,
  node: string,
  addresses = "",
): RowUpdate<"Pod"> {
  const key: Key<"Pod"> = { kind: "Pod", namespace, name: id.slice(KEY_PREFIX.length + namespace.length + 1) };
  const endpoint: EndpointRow = {
    uid: undefined,
    node,
    namespace,
    serviceAccount,
    labels,
    state: "live",
    addresses: addressesOf(addresses),
    addressesFrom: "status",
    ports,
  };
  return { kind: "Pod", key, id, value: { endpoint: ok(endpoint), here: undefined }, origin };
}

/** As they were written. */
function addressesOf(text: string): readonly Addr[] {
  if (text === "") return [];
  return (text.includes(",") ? text.split(",") : [text]) as Addr[];
}

function otherUpdate(
  origin: RowUpdate<"Pod">["origin"],
  { namespace, name, endpoint, here }: OtherPod,
): RowUpdate<"Pod"> {
  const key: Key<"Pod"> = { kind: "Pod", namespace, name };
  const revision = String(origin.revision);
  const value = {
    endpoint: endpoint.ok ? ok(rowOf(endpoint.value)) : endpoint,
    here: here === null ? undefined : { uid: here.uid, revision, annotations: here.annotations },
  };
  return { kind: "Pod", key, id: formatKey(key), value, origin };
}

/** JSON leaves out what is undefined. */
function rowOf(row: Omit<EndpointRow, "labels"> & { readonly labels: PageShape["labels"] }): EndpointRow {
  const { uid, node, namespace, serviceAccount, labels, state, addresses, addressesFrom, ports, sources } = row;
  const read = {
    uid,
    node,
    namespace,
    serviceAccount,
    labels: new Map(labels),
    state,
    addresses,
    addressesFrom,
    ports,
  };
  return sources === undefined ? read : { ...read, sources };
}

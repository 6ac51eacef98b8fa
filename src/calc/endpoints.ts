/**
 * Endpoints: the join of Pod, Namespace, ServiceAccount, IPAMBlock and CNI record into one row a pod, for every pod of the cluster.
 *
 * Labels of namespace and service account are not copied into the rows: a row refers to its parents, and a relabelled parent is told
 * as such, so that only selectors that mention the label need work. A row is immutable; a changed pod is a new row.
 */
import { formatKey, type KeyText } from "../model/key.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import type { BlockRow } from "../model/convert/block.ts";
import type { CniRecord } from "../model/endpoint.ts";
import { inheritedLabels, podOf, type PodModel } from "../model/kubernetes/pod.ts";
import type { ObjectMeta, Resource } from "../model/resource.ts";
import { formatParseError } from "../lib/result.ts";
import type { Addr } from "../net/addr.ts";
import type { Delta } from "../program/program.ts";
import { Recorded } from "./recorded.ts";

/** A namespace or service account, known or only referred to. One object for its whole life; `labels` is replaced, prefix included. */
export interface Parent {
  readonly id: KeyText;
  readonly prefix: typeof NAMESPACE_PREFIX | typeof SERVICE_ACCOUNT_PREFIX;
  labels: ReadonlyMap<string, string>;
  /** Rows that refer to it; forgotten at none, unless its object exists. */
  rows: number;
  exists: boolean;
}

export interface PodRow {
  readonly key: KeyText;
  readonly pod: PodModel;
  readonly parents: readonly Parent[];
  readonly labels: RowLabels;
  /** Members that the pod contributes to sets. */
  readonly addresses: readonly Addr[];
  /** Its endpoints on this node, by interface; empty for pods elsewhere and for those that are not wired, finished or gone. */
  readonly local: readonly CniRecord[];
}

export interface EndpointsDelta {
  readonly rows: Delta<KeyText, PodRow>;
  /** Parents whose labels changed, and the names of those labels. */
  readonly relabelled: ReadonlyMap<Parent, ReadonlySet<string>>;
}

export interface EndpointInputs {
  readonly pods: Delta<KeyText, Resource<"Pod">>;
  readonly namespaces: Delta<KeyText, Resource<"Namespace">>;
  readonly serviceAccounts: Delta<KeyText, Resource<"ServiceAccount">>;
  readonly blocks: Delta<KeyText, BlockRow>;
  /** By interface. */
  readonly records: Delta<string, CniRecord>;
}

/** The labels of a row as selectors see them: its own, and those of its parents as they are now. */
export class RowLabels {
  readonly own: ReadonlyMap<string, string>;
  readonly #parents: readonly Parent[];

  constructor(own: ReadonlyMap<string, string>, parents: readonly Parent[]) {
    this.own = own;
    this.#parents = parents;
  }

  get(label: string): string | undefined {
    for (const parent of this.#parents) if (label.startsWith(parent.prefix)) return parent.labels.get(label);
    return this.own.get(label);
  }
}

/**
 * What a pod contributes, given the CNI records of this node that name it, and whether a block records an address for it. Shared with the
 * from-scratch calculation.
 */
export function wiringOf(
  pod: PodModel,
  records: readonly CniRecord[],
  node: string,
  isRecorded: (addr: Addr) => boolean,
): Pick<PodRow, "addresses" | "local"> {
  const local = records.filter(({ uid }) => uid === undefined || pod.uid === undefined || uid === pod.uid);
  const isHere = pod.state === "live" && pod.node === node && local.length > 0;
  if (!isHere)
    return {
      addresses: pod.addressesFrom === "annotation" ? pod.addresses.filter(isRecorded) : pod.addresses,
      local: [],
    };
  return { addresses: [...new Set(local.flatMap((record) => record.addresses))], local };
}

export class Endpoints {
  readonly #node: string;
  readonly #pods = new Map<KeyText, PodModel>();
  readonly #rows = new Map<KeyText, PodRow>();
  readonly #records = new Map<string, CniRecord>();
  /** Interfaces of the records that name a pod, by pod. */
  readonly #interfaces = new Map<KeyText, Set<string>>();
  readonly #parents = new Map<KeyText, Parent>();
  readonly #recorded = new Recorded();
  /** Pods that claim the address by annotation. */
  readonly #claims = new Map<Addr, Set<KeyText>>();
  /** Pods that cannot be read, and why: they have no row. */
  readonly problems = new Map<KeyText, string>();

  constructor(node: string) {
    this.#node = node;
  }

  step(inputs: EndpointInputs): EndpointsDelta {
    const relabelled = new Map<Parent, ReadonlySet<string>>();
    for (const [key, namespace] of inputs.namespaces)
      this.#relabel(this.#parent(key, NAMESPACE_PREFIX), namespace, relabelled);
    for (const [key, account] of inputs.serviceAccounts)
      this.#relabel(this.#parent(key, SERVICE_ACCOUNT_PREFIX), account, relabelled);
    const touched = new Set<KeyText>();
    for (const [name, record] of inputs.records) this.#setRecord(name, record, touched);
    for (const addr of this.#recorded.step(inputs.blocks))
      for (const key of this.#claims.get(addr) ?? []) touched.add(key);
    for (const [key, resource] of inputs.pods) {
      this.#readPod(key, resource);
      touched.add(key);
    }
    const rows = new Map<KeyText, PodRow | undefined>();
    for (const key of touched) {
      const before = this.#rows.get(key);
      const row = this.#rowOf(key);
      if (row !== undefined) this.#rows.set(key, row);
      else this.#rows.delete(key);
      if (before !== undefined || row !== undefined) rows.set(key, row);
      for (const parent of row?.parents ?? []) parent.rows++;
      for (const parent of before?.parents ?? []) this.#forget(parent, 1);
    }
    for (const parent of relabelled.keys()) this.#forget(parent, 0);
    return { rows, relabelled };
  }

  #forget(parent: Parent, rows: number): void {
    parent.rows -= rows;
    if (parent.rows === 0 && !parent.exists) this.#parents.delete(parent.id);
  }

  #readPod(key: KeyText, resource: Resource<"Pod"> | undefined): void {
    for (const addr of claimsOf(this.#pods.get(key))) {
      const claiming = this.#claims.get(addr);
      claiming?.delete(key);
      if (claiming?.size === 0) this.#claims.delete(addr);
    }
    this.#pods.delete(key);
    this.problems.delete(key);
    if (resource === undefined) return;
    const pod = podOf(resource);
    if (pod.ok) {
      this.#pods.set(key, pod.value);
      for (const addr of claimsOf(pod.value)) this.#claims.set(addr, (this.#claims.get(addr) ?? new Set()).add(key));
    } else this.problems.set(key, formatParseError(pod.error));
  }

  #setRecord(name: string, record: CniRecord | undefined, touched: Set<KeyText>): void {
    const before = this.#records.get(name);
    if (before !== undefined) {
      const key = formatKey(before.pod);
      const names = this.#interfaces.get(key);
      names?.delete(name);
      if (names?.size === 0) this.#interfaces.delete(key);
      touched.add(key);
      this.#records.delete(name);
    }
    if (record === undefined) return;
    const key = formatKey(record.pod);
    this.#records.set(name, record);
    this.#interfaces.set(key, (this.#interfaces.get(key) ?? new Set()).add(name));
    touched.add(key);
  }

  #rowOf(key: KeyText): PodRow | undefined {
    const pod = this.#pods.get(key);
    if (pod === undefined) return undefined;
    const records = [...(this.#interfaces.get(key) ?? [])].sort().flatMap((name) => this.#records.get(name) ?? []);
    const parents = [this.#parent(namespaceId(pod.namespace), NAMESPACE_PREFIX)];
    if (pod.serviceAccount !== undefined)
      parents.push(this.#parent(serviceAccountId(pod.namespace, pod.serviceAccount), SERVICE_ACCOUNT_PREFIX));
    return {
      key,
      pod,
      parents,
      labels: new RowLabels(pod.labels, parents),
      ...wiringOf(pod, records, this.#node, (addr) => this.#recorded.has(addr, key)),
    };
  }

  /** A parent that is only referred to has just its name. */
  #parent(id: KeyText, prefix: Parent["prefix"]): Parent {
    const known = this.#parents.get(id);
    if (known !== undefined) return known;
    const parent = { id, prefix, labels: inheritedLabels(prefix, nameOf(id), undefined), rows: 0, exists: false };
    this.#parents.set(id, parent);
    return parent;
  }

  #relabel(
    parent: Parent,
    object: { readonly metadata: ObjectMeta } | undefined,
    into: Map<Parent, ReadonlySet<string>>,
  ): void {
    const before = parent.labels;
    const now = inheritedLabels(parent.prefix, nameOf(parent.id), object?.metadata.labels);
    const changed = [...before.keys(), ...now.keys()].filter((label) => before.get(label) !== now.get(label));
    parent.labels = now;
    parent.exists = object !== undefined;
    if (changed.length > 0) into.set(parent, new Set(changed));
    else this.#forget(parent, 0);
  }
}

function claimsOf(pod: PodModel | undefined): readonly Addr[] {
  return pod?.addressesFrom === "annotation" ? pod.addresses : [];
}

function namespaceId(name: string): KeyText {
  return formatKey({ kind: "Namespace", namespace: undefined, name });
}

function serviceAccountId(namespace: string, name: string): KeyText {
  return formatKey({ kind: "ServiceAccount", namespace, name });
}

function nameOf(id: KeyText): string {
  return id.slice(id.lastIndexOf("/") + 1);
}

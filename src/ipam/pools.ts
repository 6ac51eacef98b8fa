/** Pools: which pools can serve a node, and why the others cannot. */
import type { Store } from "../datastore/store.ts";
import { type PoolRow, poolRowOf } from "../model/convert/pool.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import { evaluateSelector } from "../model/selector/evaluate.ts";
import type { Family } from "../net/addr.ts";
import { parsePrefix, type Prefix } from "../net/prefix.ts";
import { IpamError } from "./errors.ts";

export interface PoolList {
  /** In name order. */
  readonly valid: readonly PoolRow[];
  /** Errors by name of the invalid pool. */
  readonly invalid: ReadonlyMap<string, string>;
}

export async function readPools(store: Store): Promise<PoolList> {
  const valid: PoolRow[] = [];
  const invalid = new Map<string, string>();
  for (const resource of (await store.list("IPPool")).items) {
    const pool = poolRowOf(resource);
    if (pool.ok) valid.push(pool.value);
    else invalid.set(resource.metadata.name, formatFieldError(pool.error));
  }
  valid.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { valid, invalid };
}

/** Whether the pool's nodeSelector selects a node with these labels. */
export function selectsNode(pool: PoolRow, labels: Readonly<Record<string, string>>): boolean {
  return evaluateSelector(pool.nodeSelector, labels);
}

/** True when pods get addresses of the pool whatever their namespace. */
export function servesAllNamespaces(pool: PoolRow): boolean {
  return pool.namespaceSelector === undefined;
}

/** Whether pods of the node in a namespace with these labels (undefined: of any namespace that the pool serves) get addresses of the pool without naming it. */
export function serves(
  pool: PoolRow,
  labels: Readonly<Record<string, string>>,
  namespaceLabels: Readonly<Record<string, string>> | undefined,
): boolean {
  return whyNot(pool, labels, namespaceLabels) === undefined;
}

/** Why the pool gives such pods no address unless they name it; undefined: it does. */
function whyNot(
  pool: PoolRow,
  labels: Readonly<Record<string, string>>,
  namespaceLabels: Readonly<Record<string, string>> | undefined,
): string | undefined {
  if (pool.disabled) return `${pool.name} is disabled`;
  if (!pool.forWorkloads) return `the allowedUses of ${pool.name} lack Workload`;
  if (pool.manual) return `the assignmentMode of ${pool.name} is Manual`;
  if (
    namespaceLabels !== undefined &&
    pool.namespaceSelector !== undefined &&
    !evaluateSelector(pool.namespaceSelector, namespaceLabels)
  )
    return `the namespaceSelector of ${pool.name} does not select the pod's namespace`;
  return selectsNode(pool, labels) ? undefined : `the nodeSelector of ${pool.name} does not select the node`;
}

/** Pools of the family that serve pods of the node in such a namespace; throws `no-pool` with the reason for each pool. */
export function choosePools(
  pools: PoolList,
  family: Family,
  node: string,
  labels: Readonly<Record<string, string>>,
  namespaceLabels: Readonly<Record<string, string>>,
): PoolRow[] {
  const chosen = pools.valid.filter((pool) => pool.family === family && serves(pool, labels, namespaceLabels));
  if (chosen.length > 0) return chosen;
  const reasons = pools.valid.flatMap((pool) =>
    pool.family === family ? (whyNot(pool, labels, namespaceLabels) ?? []) : `${pool.name} is IPv${pool.family}`,
  );
  for (const [name, error] of pools.invalid) reasons.push(`${name} is invalid (${error})`);
  const why = reasons.length === 0 ? "there is no IPPool" : reasons.join(", ");
  throw new IpamError("no-pool", `no IPPool serves node ${JSON.stringify(node)} with IPv${family}: ${why}`);
}

/** The pools requested by name, in that order. Selectors are ignored, as the request is explicit; each must exist, be enabled and be for pods. */
export function requestedPools(pools: PoolList, family: Family, names: readonly string[]): PoolRow[] {
  return names.map((name) => {
    const pool = pools.valid.find((candidate) => candidate.name === name || candidate.prefix === rangeOf(name));
    const error = pools.invalid.get(name);
    const no = (why: string): IpamError =>
      new IpamError("no-pool", `IPPool ${JSON.stringify(name)}, which was requested, ${why}`);
    if (error !== undefined) throw no(`is invalid: ${error}`);
    if (pool === undefined) throw no("does not exist");
    if (pool.family !== family) throw no(`is IPv${pool.family}, must be IPv${family}`);
    if (pool.disabled) throw no("is disabled");
    if (!pool.forWorkloads) throw no("is not for pods: its allowedUses lack Workload");
    return pool;
  });
}

/** A pool may also be requested by its range. */
function rangeOf(text: string): Prefix | undefined {
  const prefix = parsePrefix(text);
  return prefix.ok ? prefix.value : undefined;
}

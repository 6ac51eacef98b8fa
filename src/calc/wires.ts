/**
 * Wires: whose each workload's interface of this node is: the pod's that the CNI plugin wired there, else the WorkloadEndpoint's that names it, of
 * several the first by its key.
 *
 * A WorkloadEndpoint never gets a pod's interface, nor one whose name does not begin as a workload's does: then it is refused, with the reason.
 */
import { formatKey, formatName, keyOfText, type KeyText } from "../model/key.ts";
import type { CniRecord, EndpointRow, Wire } from "../model/endpoint.ts";
import { isWorkloadInterface } from "../program/path.ts";
import type { Delta, Settings } from "../program/program.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";

type Naming = Pick<Settings, "workloadPrefixes">;

/** What a WorkloadEndpoint of this node asks for. */
export interface Claim {
  readonly key: KeyText;
  readonly device: string;
  readonly addresses: Wire["addresses"];
}

/** undefined: an object of another kind, or of another node. Shared with the from-scratch calculation. */
export function claimOf(key: KeyText, row: EndpointRow | undefined, node: string): Claim | undefined {
  if (row?.device === undefined || row.node !== node) return undefined;
  return { key, device: row.device, addresses: row.addresses };
}

/** Who has the interface that these claim. Shared with the from-scratch calculation. */
export function wireOf(record: CniRecord | undefined, claims: readonly Claim[], naming: Naming): Wire | undefined {
  if (record !== undefined) {
    const { pod: workload, uid, interface: name, addresses } = record;
    return { workload, uid, interface: name, addresses };
  }
  const first = firstOf(claims);
  if (first === undefined || !isWorkloadInterface(first.device, naming)) return undefined;
  const { key, device, addresses } = first;
  return { workload: keyOfText("WorkloadEndpoint", key), interface: device, addresses };
}

function firstOf(claims: readonly Claim[]): Claim | undefined {
  return claims.reduce<Claim | undefined>((a, b) => (a === undefined || b.key < a.key ? b : a), undefined);
}

/** Why a claim of the interface fails; undefined: it does not. */
function refusalOf(claim: Claim, wire: Wire | undefined, { workloadPrefixes }: Naming): string | undefined {
  if (wire === undefined)
    return `the name of interface ${claim.device} begins as no workload's does (${workloadPrefixes.join(", ")})`;
  const { workload } = wire;
  return formatKey(workload) === claim.key
    ? undefined
    : `interface ${claim.device} is that of ${workload.kind} ${formatName(workload)}`;
}

export class Wires {
  readonly #node: string;
  readonly #records = new Map<string, CniRecord>();
  readonly #claims = new Map<KeyText, Claim>();
  /** By interface. */
  readonly #claiming = new Map<string, Map<KeyText, Claim>>();
  #prefixes = DEFAULT_SETTINGS.workloadPrefixes;
  /** WorkloadEndpoints of this node that have no interface, and why. Live. */
  readonly refusals = new Map<KeyText, string>();

  constructor(node: string) {
    this.#node = node;
  }

  step(endpoints: Delta<KeyText, EndpointRow>, records: Delta<string, CniRecord>, naming: Naming): Delta<string, Wire> {
    const touched = new Set(records.keys());
    if (naming.workloadPrefixes !== this.#prefixes) for (const name of this.#claiming.keys()) touched.add(name);
    this.#prefixes = naming.workloadPrefixes;
    for (const [name, record] of records)
      if (record === undefined) this.#records.delete(name);
      else this.#records.set(name, record);
    for (const [key, row] of endpoints) this.#setClaim(key, claimOf(key, row, this.#node), touched);
    const delta = new Map<string, Wire | undefined>();
    for (const name of touched) {
      const claims = [...(this.#claiming.get(name)?.values() ?? [])];
      const wire = wireOf(this.#records.get(name), claims, naming);
      delta.set(name, wire);
      for (const claim of claims) {
        const refusal = refusalOf(claim, wire, naming);
        if (refusal === undefined) this.refusals.delete(claim.key);
        else this.refusals.set(claim.key, refusal);
      }
    }
    return delta;
  }

  #setClaim(key: KeyText, claim: Claim | undefined, touched: Set<string>): void {
    const before = this.#claims.get(key);
    if (before !== undefined) {
      const claiming = this.#claiming.get(before.device);
      claiming?.delete(key);
      if (claiming?.size === 0) this.#claiming.delete(before.device);
      this.#claims.delete(key);
      this.refusals.delete(key);
      touched.add(before.device);
    }
    if (claim === undefined) return;
    this.#claims.set(key, claim);
    this.#claiming.set(claim.device, (this.#claiming.get(claim.device) ?? new Map<KeyText, Claim>()).set(key, claim));
    touched.add(claim.device);
  }
}

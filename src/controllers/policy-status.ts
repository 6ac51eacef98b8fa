/**
 * policy-status: keeps the conditions of policies: follows policies, tiers, nodes and what nodes say of policies, and writes the conditions
 * that are not stored as they should be. Its work is proportional to what changed; at rest it writes nothing.
 */
import { type Store, StoreError } from "../datastore/store.ts";
import { startSyncer } from "../datastore/syncer.ts";
import { Breath } from "../host/breath.ts";
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import type { Report } from "../lib/report.ts";
import { Retry } from "../lib/retry.ts";
import { formatTimestampSeconds } from "../lib/timestamp.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import { type NodeReport, readReport } from "../model/kinds/node-policy-status.ts";
import type { Update } from "../model/update.ts";
import { factsOf, POLICY_KINDS, type PolicyFacts } from "./acceptance.ts";
import { PolicyTable } from "./policy-table.ts";

export interface PolicyStatusOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly report: Report;
}

/** What is kept of an update. */
type Reduced =
  | { readonly kind: "policy"; readonly id: KeyText; readonly value: PolicyFacts | undefined }
  | { readonly kind: "report"; readonly name: string; readonly value: NodeReport | undefined }
  | { readonly kind: "tier" | "node"; readonly name: string; readonly value: true | undefined };

/** What nodes say soon after a change is gathered into one write. */
const GATHER_MS = 500;
/** Between two writes. */
const WRITE_MS = 20;
const RETRY = { baseMs: 1_000, maxMs: 60_000 } as const;

/** Until the signal aborts. */
export async function keepPolicyStatus(
  { store, clock, random, report }: PolicyStatusOptions,
  signal: AbortSignal,
): Promise<void> {
  const table = new PolicyTable();
  let isInSync = false;
  let wake = (): void => {};
  const syncer = startSyncer({
    store,
    kinds: [...POLICY_KINDS, "Tier", "Node", "NodePolicyStatus"],
    clock,
    random,
    reduce,
    sink: (event) => {
      if (event.type === "status") isInSync = event.status === "in-sync";
      else for (const update of event.updates) take(table, update);
      wake();
    },
    log: report,
    role: "calico-controllers",
  });
  const retry = new Retry(RETRY, clock);
  signal.addEventListener("abort", () => wake(), { once: true });
  while (!signal.aborted) {
    if (!isInSync || table.dirty.size === 0) {
      await new Promise<void>((resolve) => (wake = resolve));
      continue;
    }
    await clock.sleep(retry.waitMs ?? GATHER_MS, signal);
    if (isInSync) await writeDirty(table, { store, clock, report, retry }, signal);
  }
  await syncer.stop();
}

function reduce(update: Update, id: KeyText): Reduced {
  const { name } = update.key;
  switch (update.kind) {
    case "NetworkPolicy":
    case "GlobalNetworkPolicy":
    case "ClusterNetworkPolicy":
    case "AdminNetworkPolicy":
    case "BaselineAdminNetworkPolicy":
    case "StagedNetworkPolicy":
    case "StagedGlobalNetworkPolicy":
    case "StagedKubernetesNetworkPolicy": {
      const { value } = update;
      return { kind: "policy", id, value: value && factsOf({ ...update, value } as Parameters<typeof factsOf>[0]) };
    }
    case "NodePolicyStatus":
      return { kind: "report", name, value: update.value && readReport(update.value.spec) };
    default:
      return { kind: update.kind === "Tier" ? "tier" : "node", name, value: update.value && true };
  }
}

function take(table: PolicyTable, update: Reduced): void {
  if (update.kind === "policy") table.setPolicy(update.id, update.value);
  else if (update.kind === "report") table.setReport(update.name, update.value);
  else if (update.kind === "tier") table.setTier(update.name, update.value === true);
  else table.setNode(update.name, update.value === true);
}

interface Writing extends Pick<PolicyStatusOptions, "store" | "clock" | "report"> {
  readonly retry: Retry;
}

/** One after the other. What another wrote first comes again by the watch. */
async function writeDirty(table: PolicyTable, writing: Writing, signal: AbortSignal): Promise<void> {
  const { store, clock, report, retry } = writing;
  const ids = [...table.dirty];
  const breath = new Breath(clock);
  for (const id of ids) {
    await breath.after(1);
    if (signal.aborted) return;
    table.dirty.delete(id);
    const policy = table.policy(id);
    const conditions = table.conditions(id, formatTimestampSeconds(clock.wallMs()));
    if (policy === undefined || conditions === undefined) continue;
    try {
      await store.updateStatus(policy.key, { conditions: [...conditions] }, policy.revision, { signal });
      if (retry.succeeded()) report("the conditions of policies are written again", {});
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof StoreError)) throw error;
      if (error.reason === "conflict" || error.reason === "not-found") continue;
      if (error.reason !== "invalid") table.dirty.add(id);
      if (retry.failed(error.reason))
        report("cannot write the conditions of a policy: will retry", {
          policy: formatKey(policy.key),
          error: error.message,
        });
      if (error.reason !== "invalid") return;
    }
    await clock.sleep(WRITE_MS, signal);
  }
}

/**
 * observe: what the daemon would write to the kernel if it started now, computed from the cluster and compared with the kernel. It writes
 * nothing: no setting, no table, no file, nothing to the datastore.
 */
import { Graph } from "../calc/graph.ts";
import type { GivenSettings } from "../calc/settings.ts";
import { backendFor, type BackendName } from "../dataplane/backends.ts";
import { awaitSteps, type Driver, type PlannedChange } from "../dataplane/driver.ts";
import { EbpfDriver } from "../dataplane/ebpf/driver.ts";
import { IptablesDriver } from "../dataplane/iptables/driver.ts";
import { LinksDriver } from "../dataplane/links/driver.ts";
import { NftablesDriver } from "../dataplane/nftables/driver.ts";
import { RoutesDriver } from "../dataplane/routes/driver.ts";
import type { ReducedLists } from "../datastore/reduced-lists.ts";
import { type Store, StoreError } from "../datastore/store.ts";
import { startSyncer } from "../datastore/syncer.ts";
import type { Host } from "../host/host.ts";
import type { Family } from "../net/addr.ts";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import { DatastoreGate } from "./datastore-gate.ts";
import { Expected } from "./expected.ts";
import { isWired, readAttachments } from "./journal.ts";
import { nodePaths } from "./paths.ts";
import type { Report } from "../lib/report.ts";
import { ROLE, WATCHED } from "./pipeline.ts";
import { readFamilies } from "./sysctls.ts";

export interface ObserveOptions {
  readonly node: string;
  readonly root: string;
  readonly store: Store;
  /** Who reads large lists of the store, for this node; absent: the daemon's own thread does. */
  readonly lists?: ReducedLists<RowUpdate> | undefined;
  readonly host: Host;
  readonly report: Report;
  /** What the start says, before FelixConfigurations. */
  readonly given?: GivenSettings | undefined;
  /** bpf/path.o. */
  readonly bpfObject: () => Uint8Array;
}

export interface ObservedChange extends PlannedChange {
  readonly driver: string;
}

/** How long the datastore may take to tell everything. */
const SYNC_MS = 60_000;

/** Rejects with KernelError, FileError, or StoreError when the datastore does not tell everything in time or is marked not ready. */
export async function observe(options: ObserveOptions): Promise<readonly ObservedChange[]> {
  const { node, root, store, lists, host, report } = options;
  const { sys, clock, files, processes } = host;
  const graph = new Graph(options);
  const expected = new Expected(graph, node);
  for (const attachment of await readAttachments(files, nodePaths(root).journal, report))
    if (isWired(attachment)) expected.attach(attachment.record);
  await readCluster(graph, expected, { node, root, store, lists, host, report });
  const delta = graph.flush();
  const { program } = graph;
  const families = readFamilies(sys);
  const drivers: readonly Driver[] = [
    new LinksDriver(sys, clock, families),
    new RoutesDriver(sys, clock, families),
    openBackend(await backendFor(program.settings.dataplane, processes, clock), options, families),
  ];
  const found: ObservedChange[] = [];
  for (const driver of drivers) {
    driver.lower(program, delta);
    await awaitSteps(driver.reading());
    found.push(...driver.plan().map((change) => ({ driver: driver.name, ...change })));
    driver.close();
  }
  return found;
}

/** One that only looks. */
function openBackend(
  name: BackendName,
  { host: { sys, clock, processes }, root, bpfObject: object }: ObserveOptions,
  families: ReadonlySet<Family>,
): Driver {
  if (name === "nftables") return new NftablesDriver(sys, { ownsTable: undefined, clock });
  if (name === "ebpf")
    return new EbpfDriver(sys, { object, pins: nodePaths(root).pins, ownsTable: undefined, clock, report: () => {} });
  const variant = name === "iptables-legacy" ? "legacy" : "nft";
  return new IptablesDriver(sys, { processes, variant, families, clock });
}

/** Takes in what the cluster is once. */
async function readCluster(
  graph: Graph,
  expected: Expected,
  { node, store, lists, host, report }: Omit<ObserveOptions, "bpfObject">,
): Promise<void> {
  const gate = new DatastoreGate(report);
  const inSync = new AbortController();
  const syncer = startSyncer({
    store,
    kinds: WATCHED,
    clock: host.clock,
    random: host.random,
    reduce: rowsFor(node),
    lists,
    sink: (event) => {
      if (event.type === "updates") {
        const updates = gate.pass(event.updates);
        graph.update(updates);
        expected.observe(updates);
      } else if (event.status === "in-sync") inSync.abort();
    },
    log: report,
    role: ROLE,
  });
  await host.clock.sleep(SYNC_MS, inSync.signal);
  const { errors } = syncer;
  await syncer.stop();
  if (!inSync.signal.aborted)
    throw new StoreError(
      "unavailable",
      "cluster",
      undefined,
      `Cannot read the cluster within ${SYNC_MS} ms: ${errors.length === 0 ? "no answer" : errors.join("; ")}`,
    );
  if (gate.reason !== undefined)
    throw new StoreError(
      "unavailable",
      "cluster",
      undefined,
      `Cannot read the cluster: the datastore is ${gate.reason}`,
    );
}

/** One line a change, and below it, indented, what it consists of. */
export function formatChanges(changes: readonly ObservedChange[]): string {
  return changes
    .map(({ sign, what, lines }) =>
      [`${sign} ${what}`, ...lines.map((line) => `    ${line}`)].map((line) => `${line}\n`).join(""),
    )
    .join("");
}

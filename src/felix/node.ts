/**
 * node: the per-node daemon, wired together: `calico node`.
 *
 * Any moment may be its last: kernel state stands without it, and the next start adopts it. Start order: journal, datastore,
 * kernel (after in-sync), then the CNI server answers.
 */
import { parentOf } from "../lib/path.ts";
import type { GivenSettings } from "../calc/settings.ts";
import { backendsOf, removeUpstreamTables } from "../dataplane/backends.ts";
import { ChosenDriver } from "../dataplane/chosen.ts";
import { FlowCutter } from "../dataplane/flows/cutter.ts";
import { type DriverStatus, Loop } from "../dataplane/loop.ts";
import { LinksDriver } from "../dataplane/links/driver.ts";
import { droppingOthers } from "../dataplane/others.ts";
import { beginTracking } from "../dataplane/nftables/tracking.ts";
import { RoutesDriver } from "../dataplane/routes/driver.ts";
import type { ReducedLists } from "../datastore/reduced-lists.ts";
import type { Store } from "../datastore/store.ts";
import { KernelError } from "../kernel/errno.ts";
import { canOwnTables } from "../kernel/nftables/client.ts";
import { inTurns } from "../host/breath.ts";
import { FileError, type Files } from "../host/files.ts";
import type { Host } from "../host/host.ts";
import type { Thread, ThreadEvents } from "../host/threads.ts";
import { Retry } from "../lib/retry.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import { formatKey } from "../model/key.ts";
import type { Kind } from "../model/kind.ts";
import { Ipam } from "../ipam/ipam.ts";
import type { KnownBlocks } from "../ipam/known-blocks.ts";
import { PoolLevels } from "../ipam/levels.ts";
import { AddressReserve } from "../ipam/reserve.ts";
import { AddRequests } from "./add-requests.ts";
import type { AddressRules } from "./address-detection.ts";
import { Addresses } from "./addresses.ts";
import { BirdConfigurator } from "./bird.ts";
import { serveBirdFront } from "./bird-front.ts";
import { CniServer } from "./cni-server.ts";
import { FaultReporter } from "./events.ts";
import { isFailure } from "./failures.ts";
import { poolsWithoutFamily } from "./families.ts";
import { serveHealth } from "./health.ts";
import { Interfaces } from "./interfaces.ts";
import { isWired, Journal } from "./journal.ts";
import { LeakCollector } from "./leaks.ts";
import { nodePaths } from "./paths.ts";
import { DatastoreGate, gatedStore } from "./datastore-gate.ts";
import type { Report } from "../lib/report.ts";
import { Pipeline } from "./pipeline.ts";
import { PolicyReporter } from "./policy-reporter.ts";
import { PolicyVersions } from "./policy-versions.ts";
import { PodRequestIndex } from "./pod-requests.ts";
import { Registration } from "./registration.ts";
import { enableForwarding } from "./sysctls.ts";
import { Wiring } from "./wiring.ts";

export interface NodeOptions {
  readonly node: string;
  /** Of the product. */
  readonly version: string;
  /** All files of the node are below this directory. */
  readonly root: string;
  readonly store: Store;
  /** Who reads large lists of the store, for this node; absent: the daemon's own thread does. */
  readonly lists?: ReducedLists<RowUpdate> | undefined;
  readonly host: Host;
  readonly report: Report;
  /** Health and metrics. */
  readonly health: { readonly host: string; readonly port: number };
  readonly auditIntervalMs: number;
  /** Established flows that policy denies after a change are cut (POL-52); else they go on. */
  readonly cutsFlows: boolean;
  /** What the start says, before FelixConfigurations. */
  readonly given?: GivenSettings | undefined;
  /** bpf/path.o; undefined: eBPF cannot be chosen. */
  readonly bpfObject?: (() => Uint8Array) | undefined;
  /** Starts `src/call-thread.ts`; absent: the daemon's own thread waits for the kernel. */
  readonly startCallThread?: ((events: ThreadEvents) => Thread) | undefined;
  /** By which addresses other nodes reach this one; absent: by those that its Node says. */
  readonly addresses?: AddressRules | undefined;
}

/** How often blocks that became empty are looked at; and how soon a refill that failed is tried again, at first. */
const TIDY_INTERVAL_MS = 30_000;
const TIDY_RETRY_MS = 500;
/** What decides which addresses this node may have. */
const POOL_KINDS: readonly Kind[] = ["IPPool", "IPReservation", "IPAMConfiguration"];
/** How long an unrouted host end may wait for its deletion. */
const SWEEP_INTERVAL_MS = 5_000;
const SWEEP_MOST_MS = 60_000;

/** Runs until the signal aborts; rejects when the node cannot start. */
export async function runNode(options: NodeOptions, signal: AbortSignal): Promise<void> {
  const { node, host, report } = options;
  const gate = new DatastoreGate(report);
  const store = gatedStore(options.store, gate);
  const { clock, random, files, sockets, sys } = host;
  const paths = nodePaths(options.root);
  await files.makeDirectory(parentOf(paths.cniSocket));
  await writeNodename(files, paths.nodename, node, report);
  const families = enableForwarding(sys);
  if (!families.has(6)) report("this kernel has no IPv6: going on with IPv4 alone", {});
  const ownsTable = canOwnTables(sys);
  if (!ownsTable)
    report(
      "this kernel cannot keep others from changing the table inet calico (Linux 6.9 and later can): what they change is put back",
      {},
    );
  try {
    beginTracking(sys, families, ownsTable);
  } catch (error) {
    // The driver will say so again, and until when.
    if (!(error instanceof KernelError)) throw error;
    report("cannot begin to track connections", { error: error.message });
  }
  const journal = await Journal.open(files, paths.journal, report);
  const wiring: Wiring = new Wiring(sys, (link) => policy.guard(link.index, link.name));
  const { bpfObject: object } = options;
  const policy: ChosenDriver = new ChosenDriver({
    backends: backendsOf({
      sys,
      clock,
      processes: host.processes,
      families,
      ownsTable,
      report,
      ebpf: object && { files, object, pins: paths.pins, startThread: options.startCallThread },
    }),
    removeForeign: () => removeUpstreamTables(sys),
    processes: host.processes,
    clock,
    report,
  });
  const loop = new Loop({
    drivers: [new LinksDriver(sys, clock, families), new RoutesDriver(sys, clock, families), policy],
    clock,
    watcher: host.watcher,
    auditIntervalMs: options.auditIntervalMs,
    report,
    refused: (row) => faults.tellRefused(row),
    written: () => {
      cutter?.written();
      policyReporter.written();
    },
  });
  const cutter = options.cutsFlows
    ? new FlowCutter({
        sys,
        flows: () => policy.flows,
        suspendOffload: policy.suspendOffload.bind(policy),
        clock,
        isWritten: () => loop.isWritten,
        report,
      })
    : undefined;
  const policies = new PolicyVersions();
  const policyReporter = new PolicyReporter({
    node,
    store,
    clock,
    report,
    policies,
    program: () => pipeline.program,
    failures: () => loop.status().flatMap(({ rows }) => rows),
    isCurrent: () => pipeline.isCurrent && loop.isWritten,
  });
  const requests = new PodRequestIndex();
  const faults = new FaultReporter({ node, store, clock, report });
  const bird = new BirdConfigurator({ node, paths, files, sockets, clock, report });
  const levels = new PoolLevels(node);
  // While the watch is lost, the datastore is asked.
  const knownBlocks: KnownBlocks = () => (pipeline.status === "in-sync" ? levels.blocks() : undefined);
  const ipam = new Ipam({ store, node, clock, random, knownBlocks, report });
  const reserve = new AddressReserve({ ipam, node, clock, inUse: journal.holders(), levels });
  const addresses = new Addresses({
    node,
    store,
    ipam,
    reserve,
    journal,
    clock,
    annotationsOf: (pod) => requests.written(pod),
    endFlows: (gone) => wiring.endFlows(gone),
    closeLoser: (attachment, why) => server.closeLoser(attachment, why),
    report,
  });
  const leaks = new LeakCollector({ node, store, clock, addresses, report });
  const registration = new Registration({
    node,
    version: options.version,
    store,
    clock,
    random,
    localNetwork: () => wiring.localNetwork(),
    addresses: options.addresses ?? {},
    report,
  });
  const tolerate =
    (message: string) =>
    (error: unknown): void => {
      if (!isFailure(error)) throw error;
      report(message, { error: error.message });
    };
  // Pools or labels changed: addresses whose pool serves this node no more go back. Before in-sync the first filling does it.
  const refill = (): void => {
    if (!pipeline.inSync) return;
    reserve.refill().catch(tolerate("cannot refill the reserve of addresses: will retry"));
  };
  const pipeline: Pipeline = new Pipeline({
    node,
    given: options.given,
    store,
    lists: options.lists,
    loop,
    clock,
    random,
    report,
    gate,
    onBgp: (bgp) => bird.observe(bgp),
    observe: (updates) => {
      interfaces.observe(updates);
      faults.observe(updates);
      for (const fault of poolsWithoutFamily(updates, node, families)) faults.tell(fault);
      requests.observe(updates);
      leaks.observe(updates);
      registration.observe(updates);
      policyReporter.observe(updates);
      reserve.observe(updates).catch(tolerate("cannot give up addresses of the reserve yet: will retry"));
      if (updates.some(({ kind, key }) => POOL_KINDS.includes(kind) || (kind === "Node" && key.name === node)))
        refill();
    },
    onRefusal: (key, message) =>
      faults.tell({
        key,
        metadata: { name: key.name },
        reason: "EndpointRefused",
        message: `It is closed on this node: ${message}`,
      }),
    onWithheld: ({ workload, why }) =>
      faults.tell({
        key: workload,
        metadata: { name: workload.name },
        reason: "WithoutEffect",
        message: why,
      }),
    onMissing: (missing) => faults.tellMissing(missing),
    policies,
    onStep: (program, delta) => {
      cutter?.changed(program, delta);
      policyReporter.changed(delta);
    },
    onInSync: () => {
      const { endpoints, policies } = pipeline.program;
      report(describeStart(loop.status()), {
        endpoints: endpoints.size,
        policies: policies.size,
        commits: loop.commits,
      });
      // Each begins with much to do.
      void inTurns(
        clock,
        [
          () => addresses.resume(),
          () => void bird.run(signal),
          () => void keepReserve(reserve, options, signal),
          () => void keepSwept(wiring, options, signal),
          () => void leaks.run(signal),
          () => void registration.run(signal),
          // Without Kubernetes nobody gathers what the nodes say.
          () => void (store.isStandalone || policyReporter.run(signal)),
          () => void cutter?.run(signal),
        ],
        signal,
      );
    },
  });
  const interfaces = new Interfaces({
    sys,
    watcher: host.watcher,
    clock,
    report,
    changed: (changes) => pipeline.setInterfaces(changes),
  });
  pipeline.attachAll(
    journal
      .all()
      .filter(isWired)
      .map(({ record }) => record),
  );
  pipeline.start();
  const asked = new AddRequests({
    node,
    index: requests,
    pipeline,
    report,
    warn: ({ key, metadata, reason, message }) =>
      faults.tell({ key, metadata: { name: key.name, ...metadata }, reason, message }),
  });
  const server = new CniServer({ pipeline, journal, addresses, wiring, requests: asked, random, report });
  const listener = await server.listen(sockets, paths.cniSocket);
  const birdFront = await serveBirdFront(sockets, paths);
  const health = await serveHealth(sockets, options.health, {
    pipeline,
    loop,
    birdIsCurrent: () => bird.current,
    birdError: () => bird.error,
    backlog: () => addresses.backlog,
    attachments: () => journal.all().length,
    withoutEffect: () => [
      ...faults.withoutEffect,
      ...pipeline.withheld.map(({ workload, why }) => `${formatKey(workload)} ${why}`),
    ],
    flows: () => cutter?.status,
    counters: async () => ({
      ...(await policy.counters(pipeline.program)),
      unknown: pipeline.missing.flatMap(({ kind, error }) => (kind.startsWith("Staged") ? [error] : [])),
    }),
    denied: () => policy.denied,
    others: () =>
      droppingOthers({
        sys,
        processes: host.processes,
        clock,
        families,
        dataplane: policy.name,
        prefixes: pipeline.program.settings.workloadPrefixes,
        hasSources: [...pipeline.program.endpoints.values()].some(({ sources }) => sources !== undefined),
      }),
  });
  report("calico node started", {
    root: options.root,
    attachments: journal.all().length,
    sys: sys.implementation,
    health: `${options.health.host}:${health.port}`,
  });
  await loop.run(signal);
  addresses.stop();
  interfaces.stop();
  // The store last, so that nobody takes its end for a failure, but in the same breath: whoever waits for an answer waits no longer.
  await Promise.all([listener.close(), birdFront.close(), health.close(), pipeline.stop(), store.close()]);
  wiring.close();
}

/** Upstream's tools read the file; the daemon does without it, so that a disk that takes nothing does not keep pods from the network. */
export async function writeNodename(files: Files, path: string, node: string, report: Report): Promise<void> {
  try {
    if ((await files.readText(path)) === node) return;
    await files.makeDirectory(parentOf(path));
    await files.writeText(path, node, 0o644);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    report("cannot write the node's name for other tools: going on without", { error: error.message });
  }
}

/** What is true of the kernel when the datastore is in sync for the first time. */
export function describeStart(drivers: readonly DriverStatus[]): string {
  const behind = drivers.filter(({ pending, error }) => pending > 0 || error !== undefined);
  if (behind.length === 0) return "in sync: the kernel agrees with the datastore";
  return `in sync with the datastore, but not yet the kernel: ${behind.map((driver) => `${driver.name}: ${whyBehind(driver)}`).join("; ")}`;
}

function whyBehind({ pending, error, rows }: DriverStatus): string {
  if (error !== undefined) return error;
  const refused = rows.filter(({ state }) => state === "failed");
  if (refused.length > 0) return refused.map(({ row, error: why }) => `${row}: ${why}`).join(", ");
  return `${pending} rows wait for their interfaces`;
}

/** Fills the reserve at start, so that the first ADD finds addresses (afterwards what ADD takes is replaced), and keeps the node's addresses in order. */
async function keepReserve(reserve: AddressReserve, { host, report }: NodeOptions, signal: AbortSignal): Promise<void> {
  const retry = new Retry({ baseMs: TIDY_RETRY_MS, maxMs: TIDY_INTERVAL_MS }, host.clock);
  while (!signal.aborted) {
    try {
      await reserve.tidy();
      retry.succeeded();
    } catch (error) {
      if (!isFailure(error)) throw error;
      if (retry.failed(error.message))
        report("cannot put the addresses of this node in order: will retry", { error: error.message });
    }
    await host.clock.sleep(retry.waitMs ?? TIDY_INTERVAL_MS, signal);
  }
}

async function keepSwept(wiring: Wiring, { host, report }: NodeOptions, signal: AbortSignal): Promise<void> {
  const retry = new Retry({ baseMs: SWEEP_INTERVAL_MS, maxMs: SWEEP_MOST_MS }, host.clock);
  while (!signal.aborted) {
    try {
      wiring.sweep();
      retry.succeeded();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (retry.failed(error.message))
        report("cannot delete the host ends of pods that are gone: will retry", { error: error.message });
    }
    await host.clock.sleep(retry.waitMs ?? SWEEP_INTERVAL_MS, signal);
  }
}

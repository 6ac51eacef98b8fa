/**
 * health: what the node says of itself over HTTP: `/liveness`, `/readiness`, `/metrics` (Prometheus text) and `/status` (JSON), and what the rules
 * of policy have seen: `/metrics/policies` and `/counters` (JSON). `/others`: what else drops packets here. `/denied`: what policy has denied lately.
 *
 * Live: the process answers. Ready: the datastore was in sync once, and the kernel can be programmed. Objects that the kernel refuses
 * (`refused`, by their own names) do not make the node unready: nobody else's pods pay for them. What the datastore refuses at present is
 * told in any case, in its words (`datastoreErrors`). Not ready: the datastore is marked not ready (`datastoreReady`).
 */
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { Listener, Sockets } from "../host/sockets.ts";
import type { CutterStatus } from "../dataplane/flows/cutter.ts";
import type { Loop } from "../dataplane/loop.ts";
import type { NodeCounters } from "../dataplane/counters.ts";
import type { Denied } from "../dataplane/denied.ts";
import { KernelError } from "../kernel/errno.ts";
import type { EndpointId, Program } from "../program/program.ts";
import { policyMetrics } from "./counters.ts";
import type { Pipeline } from "./pipeline.ts";

export interface HealthSources {
  readonly pipeline: Pipeline;
  readonly loop: Loop;
  readonly birdIsCurrent: () => boolean;
  /** Why it is not, as far as that is known. */
  readonly birdError: () => string | undefined;
  readonly backlog: () => number;
  readonly attachments: () => number;
  /** Settings of the cluster's objects that have no effect on this node, in words. */
  readonly withoutEffect: () => readonly string[];
  /** Of established flows that policy denies after a change; undefined: they are not cut. */
  readonly flows: () => CutterStatus | undefined;
  /** Reads the kernel. */
  readonly counters: () => Promise<NodeCounters>;
  /** Throws KernelError. */
  readonly denied: () => Denied;
  /** Looks for what else on the node drops what policy allows (`dataplane/others.ts`). */
  readonly others: () => Promise<readonly string[]>;
}

const PATHS = [
  "/liveness",
  "/readiness",
  "/status",
  "/metrics",
  "/metrics/policies",
  "/counters",
  "/others",
  "/denied",
];

/** Names as upstream's where it has one (felix_…). */
function metrics(sources: HealthSources): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });
  const gauge = (name: string, help: string, read: () => number): void => {
    const made: Gauge = new Gauge({ name, help, registers: [registry], collect: () => made.set(read()) });
  };
  const { pipeline, loop } = sources;
  gauge(
    "felix_active_local_endpoints",
    "Local endpoints that are programmed or to be programmed.",
    () => endpointsOf(pipeline.program).length,
  );
  gauge("felix_active_local_policies", "Policies that select a local endpoint.", () => pipeline.program.policies.size);
  gauge("felix_ipsets_calico", "IP sets in use.", () => pipeline.program.sets.size);
  gauge("felix_calc_graph_updates_processed", "Datastore updates taken in since start.", () => pipeline.updates);
  gauge("felix_int_dataplane_apply_commits", "Commits that changed the kernel since start.", () => loop.commits);
  gauge(
    "felix_int_dataplane_repairs",
    "Rows that an audit found changed behind our back and repaired.",
    () => loop.repairs,
  );
  gauge("calico_cni_attachments", "CNI attachments on this node.", sources.attachments);
  gauge("calico_datastore_backlog", "Containers with unfinished writes to the datastore.", sources.backlog);
  gauge("calico_bird_current", "1 when BIRD has loaded the newest configuration.", () =>
    sources.birdIsCurrent() ? 1 : 0,
  );
  gauge("calico_dataplane_refused", "Objects that the kernel refuses, or that wait for one that it refuses.", () =>
    loop.status().reduce((sum, { rows }) => sum + rows.length, 0),
  );
  gauge(
    "calico_datastore_missing_kinds",
    "Kinds that the node cannot read and goes on without: what staged policies would do is not counted in full.",
    () => pipeline.missing.length,
  );
  for (const [name, help, field] of FLOW_METRICS) gauge(name, help, () => sources.flows()?.[field] ?? 0);
  gauge("calico_flows_failing", "1 when the last pass failed, so that denied flows may go on.", () =>
    sources.flows()?.error === undefined ? 0 : 1,
  );
  for (const field of ["pending", "writes"] as const) {
    const made: Gauge<"driver"> = new Gauge({
      name: `calico_dataplane_${field}`,
      help: field === "pending" ? "Rows that differ from the kernel." : "Kernel transactions or requests since start.",
      labelNames: ["driver"] as const,
      registers: [registry],
      collect: () => loop.status().forEach((status) => made.set({ driver: status.name }, status[field])),
    });
  }
  return registry;
}

const FLOW_METRICS = [
  ["calico_flows_cut", "Established flows cut since start because policy denies them now.", "cut"],
  ["calico_flows_passes", "Passes through the table of connections since start.", "passes"],
  ["calico_flows_pass_milliseconds", "Thread time of all passes since start.", "spentMs"],
  ["calico_flows_last_pass_milliseconds", "Thread time of the last pass.", "lastMs"],
] as const;

/** Listens on `host:port`; port 0 picks a free one. */
export function serveHealth(
  sockets: Sockets,
  address: { readonly host: string; readonly port: number },
  sources: HealthSources,
): Promise<Listener & { readonly port: number | undefined }> {
  // Made when somebody asks: the platform's own metrics watch the event loop from then on.
  let registry: Registry | undefined;
  const json = (status: number, body: unknown): Response =>
    new Response(`${JSON.stringify(body)}\n`, { status, headers: { "content-type": "application/json" } });
  return sockets.serve(address, async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/liveness") return json(200, { live: true });
    const drivers = sources.loop.status();
    const status = {
      datastore: sources.pipeline.status,
      datastoreReady: sources.pipeline.datastoreReady,
      datastoreErrors: sources.pipeline.datastoreErrors,
      inSync: sources.pipeline.inSync,
      drivers,
      refused: drivers.flatMap(({ rows }) => rows.map(({ row, state, error }) => `${row} is ${state}: ${error}`)),
      bird: sources.birdIsCurrent(),
      birdError: sources.birdError(),
      backlog: sources.backlog(),
    };
    if (pathname === "/readiness") {
      const ready = sources.pipeline.inSync && status.drivers.every((driver) => driver.error === undefined);
      return json(ready ? 200 : 503, { ready, ...status });
    }
    if (pathname === "/status")
      return json(200, {
        ...status,
        commits: sources.loop.commits,
        repairs: sources.loop.repairs,
        withoutEffect: sources.withoutEffect(),
        flows: sources.flows() ?? "kept",
        endpoints: endpointsOf(sources.pipeline.program),
      });
    if (pathname === "/metrics") {
      registry ??= metrics(sources);
      return new Response(await registry.metrics(), { headers: { "content-type": registry.contentType } });
    }
    if (pathname === "/others" || pathname === "/denied") {
      try {
        return json(200, pathname === "/denied" ? sources.denied() : await sources.others());
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        return json(503, { error: error.message });
      }
    }
    if (pathname === "/counters" || pathname === "/metrics/policies") {
      try {
        const counters = await sources.counters();
        if (pathname === "/counters") return json(200, counters);
        const { text, type } = await policyMetrics(counters);
        return new Response(text, { headers: { "content-type": type } });
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        return json(503, { error: error.message });
      }
    }
    return json(404, { error: "not found", paths: PATHS });
  });
}

/** Not pods that have no network yet, or no more. */
function endpointsOf({ endpoints }: Program): readonly EndpointId[] {
  return [...endpoints].flatMap(([id, { kind, addresses }]) => (kind === "host" || addresses.length > 0 ? [id] : []));
}

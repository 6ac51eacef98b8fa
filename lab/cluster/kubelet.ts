/**
 * kubelet: the part of a kubelet and its container runtime that the network needs: for each Pod bound to this node, creates a network
 * namespace, executes the CNI plugin, starts the first container's command in it, and reports status and Events.
 *
 * Containers are processes of this machine in the pod's network namespace; `image` is ignored, which an Event reports.
 */
import { closeSync, existsSync, openSync } from "node:fs";
import { type ApiError, type LabApi } from "./api.ts";
import { killCgroup, spawnIn } from "./cgroup.ts";
import { cniAdd, cniDel, cniStatus, type PortMapping, type Sandbox } from "./cni.ts";
import { identify, isAlive } from "./daemon.ts";
import type { Resource } from "../../src/model/resource.ts";
import { type Layout, netnsPath, type NodeLayout, podNetns } from "./layout.ts";
import { addressesOf, forgetPod, loadPods, type PodState, savePod } from "./pod-state.ts";
import { run } from "./run.ts";

type Pod = Resource<"Pod">;

const RETRY_MS = 500;

export class Kubelet {
  readonly #layout: Layout;
  readonly #node: NodeLayout;
  readonly #api: LabApi;
  readonly #pods = new Map<string, Pod>();
  readonly #states = new Map<string, PodState>();
  readonly #busy = new Set<string>();
  readonly #notBefore = new Map<string, number>();
  readonly #reported = new Map<string, string>();
  #ready: boolean | undefined;
  #nextStatusMs = 0;

  constructor(layout: Layout, node: NodeLayout, api: LabApi) {
    this.#layout = layout;
    this.#node = node;
    this.#api = api;
    for (const state of loadPods(layout.podsDirectory))
      if (state.node === node.name) this.#states.set(state.sandbox.uid, state);
  }

  get name(): string {
    return this.#node.name;
  }

  /** Registers the Node; idempotent. */
  async register(): Promise<void> {
    await this.#api.ensure("/api/v1/nodes", {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: this.#node.name, labels: { "kubernetes.io/hostname": this.#node.name } },
    });
    await this.#reportNode(false, "NetworkPluginNotReady", "not asked yet");
  }

  /** All pods bound to this node, as of the watch. */
  setPods(pods: readonly Pod[]): void {
    this.#pods.clear();
    for (const pod of pods) this.#pods.set(pod.metadata.uid ?? "", pod);
  }

  /** Starts the work that is due; one task per pod at a time. */
  step(): void {
    const now = performance.now();
    if (now >= this.#nextStatusMs) {
      this.#nextStatusMs = now + (this.#ready === true ? 5_000 : 250);
      void this.#guard("node", () => this.#checkNetwork());
    }
    for (const [uid, pod] of this.#pods) {
      const state = this.#states.get(uid);
      if (pod.metadata.deletionTimestamp !== undefined) void this.#guard(uid, () => this.#tearDown(uid, pod));
      else if (state?.result === undefined && !isFinished(pod)) void this.#guard(uid, () => this.#setUp(uid, pod));
      else if (state !== undefined) void this.#guard(uid, () => this.#observe(uid, pod, state));
    }
    for (const uid of this.#states.keys())
      if (!this.#pods.has(uid)) void this.#guard(uid, () => this.#tearDown(uid, undefined));
  }

  async #guard(id: string, work: () => Promise<void>): Promise<void> {
    if (this.#busy.has(id) || performance.now() < (this.#notBefore.get(id) ?? 0)) return;
    this.#busy.add(id);
    try {
      await work();
      this.#notBefore.delete(id);
    } catch (error) {
      this.#notBefore.set(id, performance.now() + RETRY_MS);
      const message = error instanceof Error ? error.message : String(error);
      if (this.#reported.get(id) !== message) console.error(`${this.#node.name} ${id}: ${message}`);
      this.#reported.set(id, message);
    } finally {
      this.#busy.delete(id);
    }
  }

  async #checkNetwork(): Promise<void> {
    let problem: string | undefined;
    try {
      await cniStatus(this.#node);
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    const ready = problem === undefined;
    if (ready === this.#ready) return;
    await this.#reportNode(
      ready,
      ready ? "KubeletReady" : "NetworkPluginNotReady",
      problem ?? "the network plugin is ready",
    );
    this.#ready = ready;
  }

  async #reportNode(ready: boolean, reason: string, message: string): Promise<void> {
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const status = {
      addresses: [
        ...this.#node.addresses.map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: this.#node.name },
      ],
      conditions: [
        {
          type: "Ready",
          status: ready ? "True" : "False",
          reason,
          message,
          lastHeartbeatTime: now,
          lastTransitionTime: now,
        },
      ],
      nodeInfo: {
        kubeletVersion: "lab",
        containerRuntimeVersion: "lab",
        operatingSystem: "linux",
        architecture: "amd64",
        osImage: "Linux",
        kernelVersion: "",
        kubeProxyVersion: "",
        machineID: "",
        systemUUID: "",
        bootID: "",
      },
    };
    await this.#api.request(
      "PATCH",
      `/api/v1/nodes/${this.#node.name}/status`,
      { status },
      "application/merge-patch+json",
    );
  }

  async #setUp(uid: string, pod: Pod): Promise<void> {
    const namespace = pod.metadata.namespace ?? "default";
    const name = pod.metadata.name ?? "";
    const netns = podNetns(this.#layout.config, namespace, name, uid);
    const containerId = this.#states.get(uid)?.sandbox.containerId ?? crypto.randomUUID().replaceAll("-", "");
    const sandbox: Sandbox = {
      containerId,
      netnsPath: netnsPath(netns),
      namespace,
      pod: name,
      uid,
      portMappings: portMappingsOf(pod),
    };
    let state: PodState = {
      sandbox,
      node: this.#node.name,
      netns,
      cgroup: `${this.#layout.cgroup}/${this.#node.name}/pods/${uid}`,
      restarts: 0,
      startedAt: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
    };
    this.#keep(state);
    if (!(await Bun.file(sandbox.netnsPath).exists())) run(["ip", "netns", "add", netns]);
    try {
      state = { ...state, result: await cniAdd(this.#node, sandbox) };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      await this.#event(pod, "Warning", "FailedCreatePodSandBox", `Failed to create pod sandbox: ${message}`);
      throw error;
    }
    this.#keep(state);
    await this.#start(pod, state);
  }

  #keep(state: PodState): void {
    this.#states.set(state.sandbox.uid, state);
    savePod(this.#layout.podsDirectory, state);
  }

  async #start(pod: Pod, state: PodState): Promise<void> {
    const [container] = pod.spec?.containers ?? [];
    const command = [...(container?.command ?? []), ...(container?.args ?? [])];
    let current = state;
    if (container?.command !== undefined) {
      const log = openSync(`${this.#layout.logs}/pod-${state.sandbox.namespace}-${state.sandbox.pod}.log`, "a", 0o644);
      try {
        const env = {
          PATH: process.env["PATH"] ?? "",
          HOME: "/",
          ...Object.fromEntries((container.env ?? []).map((entry) => [entry.name, entry.value ?? ""])),
        };
        const child = spawnIn(state.cgroup, () =>
          Bun.spawn(["nsenter", `--net=${state.sandbox.netnsPath}`, "--", ...command], {
            stdin: "ignore",
            stdout: log,
            stderr: log,
            detached: true,
            env,
          }),
        );
        child.unref();
        const id = identify(child.pid);
        current = id === undefined ? state : { ...state, process: id };
      } finally {
        closeSync(log);
      }
      await this.#event(
        pod,
        "Normal",
        "Started",
        `Started container ${container.name} as a process of this machine; image ${JSON.stringify(container.image ?? "")} is ignored by the lab`,
      );
    } else {
      await this.#event(
        pod,
        "Normal",
        "Created",
        `Created the network of the pod; the lab ignores image ${JSON.stringify(container?.image ?? "")} and starts only a container's command, of which there is none`,
      );
    }
    this.#keep(current);
    await this.#reportPod(pod, current, "Running", undefined);
  }

  /** Restarts a container that ended, or finishes the pod, according to restartPolicy. */
  async #observe(uid: string, pod: Pod, state: PodState): Promise<void> {
    if (isFinished(pod)) return;
    if (!existsSync(state.sandbox.netnsPath)) {
      // Its network namespace was removed: the pod gets a new sandbox, as from a kubelet.
      await this.#tearDown(uid, undefined);
      return;
    }
    if (state.process !== undefined && !isAlive(state.process)) {
      const policy = pod.spec?.restartPolicy ?? "Always";
      if (policy === "Always") {
        const { process: _ended, ...rest } = state;
        this.#notBefore.set(uid, performance.now() + Math.min(10_000, 250 * 2 ** state.restarts));
        await this.#start(pod, { ...rest, restarts: state.restarts + 1 });
        return;
      }
      await this.#reportPod(pod, state, policy === "Never" ? "Succeeded" : "Failed", "Completed");
      return;
    }
    const shown = (pod.status?.podIPs ?? []).map((entry) => entry.ip).join();
    if (pod.status?.phase !== "Running" || shown !== addressesOf(state).join())
      await this.#reportPod(pod, state, "Running", undefined);
  }

  async #tearDown(uid: string, pod: Pod | undefined): Promise<void> {
    const state = this.#states.get(uid);
    if (state !== undefined) {
      await killCgroup(state.cgroup);
      await cniDel(this.#node, state.sandbox, state.result);
      if (await Bun.file(state.sandbox.netnsPath).exists()) run(["ip", "netns", "del", state.netns]);
      forgetPod(this.#layout.podsDirectory, uid);
      this.#states.delete(uid);
    }
    if (pod === undefined) return;
    const path = `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}`;
    try {
      await this.#api.request("DELETE", path, {
        apiVersion: "v1",
        kind: "DeleteOptions",
        gracePeriodSeconds: 0,
        preconditions: { uid },
      });
    } catch (error) {
      const status = (error as ApiError).status;
      if (status !== 404 && status !== 409) throw error;
    }
  }

  async #reportPod(
    pod: Pod,
    state: PodState,
    phase: "Running" | "Succeeded" | "Failed",
    ended: string | undefined,
  ): Promise<void> {
    const ready = phase === "Running" ? "True" : "False";
    const addresses = addressesOf(state);
    const [container] = pod.spec?.containers ?? [];
    const condition = (type: string, status: string): object => ({ type, status, lastTransitionTime: state.startedAt });
    const status = {
      phase,
      hostIP: this.#node.addresses[0],
      podIP: addresses[0],
      podIPs: addresses.map((ip) => ({ ip })),
      startTime: state.startedAt,
      conditions: [
        condition("Initialized", "True"),
        condition("Ready", ready),
        condition("ContainersReady", ready),
        condition("PodScheduled", "True"),
      ],
      containerStatuses: [
        {
          name: container?.name ?? "",
          image: container?.image ?? "",
          imageID: "",
          ready: phase === "Running",
          restartCount: state.restarts,
          state:
            ended === undefined
              ? { running: { startedAt: state.startedAt } }
              : { terminated: { exitCode: phase === "Succeeded" ? 0 : 1, reason: ended } },
        },
      ],
    };
    await this.#api.request(
      "PATCH",
      `/api/v1/namespaces/${state.sandbox.namespace}/pods/${state.sandbox.pod}/status`,
      { metadata: { uid: state.sandbox.uid }, status },
      "application/merge-patch+json",
    );
  }

  async #event(pod: Pod, type: "Normal" | "Warning", reason: string, message: string): Promise<void> {
    const namespace = pod.metadata.namespace ?? "default";
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const id = `${pod.metadata.uid}/${reason}`;
    if (this.#reported.get(id) === message) return;
    this.#reported.set(id, message);
    await this.#api.request("POST", `/api/v1/namespaces/${namespace}/events`, {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: `${pod.metadata.name}.${crypto.randomUUID().slice(0, 13).replace("-", "")}`, namespace },
      involvedObject: { apiVersion: "v1", kind: "Pod", namespace, name: pod.metadata.name, uid: pod.metadata.uid },
      type,
      reason,
      message,
      source: { component: "kubelet", host: this.#node.name },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    });
  }
}

function portMappingsOf(pod: Pod): PortMapping[] {
  return (pod.spec?.containers ?? []).flatMap(({ ports = [] }) =>
    ports.flatMap(({ hostPort = 0, containerPort, protocol = "TCP", hostIP }) =>
      hostPort === 0
        ? []
        : [{ hostPort, containerPort, protocol: protocol.toLowerCase(), ...(hostIP === undefined ? {} : { hostIP }) }],
    ),
  );
}

function isFinished(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

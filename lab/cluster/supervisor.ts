/**
 * supervisor: one process per lab: keeps the API, the node daemons and BIRD running, and is the kubelet of every node and the scheduler.
 * Its death does not affect them; the next supervisor adopts what is running.
 */
import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { kubernetesCredentials } from "../../src/datastore/kubernetes/credentials.ts";
import { openKubernetesStore } from "../../src/datastore/kubernetes/store.ts";
import { openHost } from "../../src/host/bun/host.ts";
import { LabApi } from "./api.ts";
import { controlPlane, prepareControlPlane } from "./control-plane.ts";
import { Daemon, type DaemonSpec, prepareDirectories } from "./daemon.ts";
import { nodeExecutable } from "./executables.ts";
import { replaceFile } from "./files.ts";
import { hostEnvironment, machineDaemons } from "./hosts.ts";
import { Kubelet } from "./kubelet.ts";
import { inNetns, type Layout, type NodeLayout } from "./layout.ts";
import { CommandError } from "./run.ts";
import { Scheduler } from "./scheduler.ts";
import { Mirror } from "./watch.ts";

const TICK_MS = 100;
const RENEWAL_CHECK_MS = 3_600_000;

export function nodeDaemons(layout: Layout, node: NodeLayout): DaemonSpec[] {
  const isOnEtcd = layout.config.datastore !== undefined;
  return [
    {
      name: `${node.name}-calico`,
      cgroup: `${layout.cgroup}/${node.name}/calico`,
      ready: () => isOnEtcd || existsSync(layout.nodeKubeconfig),
      environment: isOnEtcd ? hostEnvironment(layout) : {},
      // Under this name upstream's `calicoctl node status` finds the process.
      command: inNetns(node.netnsPath, [
        "env",
        `PATH=${links(layout)}:${process.env["PATH"] ?? ""}`,
        "calico-node",
        "--node-name",
        node.name,
        "--root",
        node.root,
        ...(isOnEtcd ? [] : ["--kubeconfig", layout.nodeKubeconfig]),
      ]),
    },
    {
      name: `${node.name}-bird`,
      cgroup: `${layout.cgroup}/${node.name}/bird`,
      ready: () => existsSync(node.birdConfiguration),
      // -R: restarted after a crash, it keeps its own routes in the kernel until its peers have announced theirs.
      command: inNetns(node.netnsPath, [
        "bird",
        "-f",
        "-R",
        "-c",
        node.birdConfiguration,
        "-s",
        node.birdSocket,
        "-P",
        `${node.root}/var/run/calico/bird.pid`,
      ]),
    },
    ...machineDaemons(layout, node),
  ];
}

/** The state that `status` reads, written when it changes. */
export interface SupervisorState {
  readonly daemons: Readonly<Record<string, { readonly pid: number | undefined; readonly restarts: number }>>;
}

export function stateFile(layout: Layout): string {
  return `${layout.directory}/state.json`;
}

/** The lab's directory with links to the node's executable. */
function links(layout: Layout): string {
  return `${layout.directory}/bin`;
}

export async function supervise(layout: Layout): Promise<never> {
  mkdirSync(links(layout), { recursive: true });
  rmSync(`${links(layout)}/calico-node`, { force: true });
  symlinkSync(nodeExecutable(), `${links(layout)}/calico-node`);
  prepareDirectories(layout.logs, layout.pids, layout.podsDirectory, layout.apiDirectory);
  const daemons = [...controlPlane(layout), ...layout.nodes.flatMap((node) => nodeDaemons(layout, node))].map(
    (spec) => new Daemon(spec, layout),
  );
  let saved = "";
  const keepRunning = (): void => {
    for (const daemon of daemons) daemon.step();
    const state: SupervisorState = {
      daemons: Object.fromEntries(
        daemons.map((daemon) => [daemon.spec.name, { pid: daemon.pid, restarts: daemon.restarts }]),
      ),
    };
    const text = JSON.stringify(state);
    if (text !== saved) replaceFile(stateFile(layout), text);
    saved = text;
  };
  keepRunning();
  setInterval(keepRunning, TICK_MS);
  setInterval(() => renewCertificates(layout), RENEWAL_CHECK_MS);
  await runKubelets(layout);
  throw new CommandError("the supervisor ended by itself");
}

/** A failure is reported and retried by the next check: certificates are renewed long before they expire. */
function renewCertificates(layout: Layout): void {
  try {
    prepareControlPlane(layout);
  } catch (error) {
    console.error(`cannot renew certificates yet: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function runKubelets(layout: Layout): Promise<void> {
  // Without Kubernetes there are none.
  if (layout.config.datastore !== undefined) return new Promise(() => {});
  while (!existsSync(layout.kubeconfig)) await Bun.sleep(20);
  let api = new LabApi(layout.kubeconfig);
  while (!(await api.ready())) {
    await Bun.sleep(20);
    api = new LabApi(layout.kubeconfig);
  }
  const host = openHost();
  const credentials = await kubernetesCredentials(layout.kubeconfig, host.files, {});
  if (!credentials.ok) throw new CommandError(`the API's kubeconfig is unusable: ${JSON.stringify(credentials.error)}`);
  const kubelets = layout.nodes.map((node) => new Kubelet(layout, node, api));
  const scheduler = new Scheduler(api);
  for (const kubelet of kubelets) await kubelet.register();
  const step = (): void => {
    if (!mirror.inSync) return;
    const pods = mirror.all("Pod");
    scheduler.step(pods, mirror.all("Node"));
    for (const kubelet of kubelets) {
      kubelet.setPods(pods.filter((pod) => pod.spec?.nodeName === kubelet.name));
      kubelet.step();
    }
  };
  const mirror: Mirror = new Mirror(openKubernetesStore(credentials.value, host), host, ["Pod", "Node"], () =>
    queueMicrotask(step),
  );
  for (;;) {
    step();
    await Bun.sleep(TICK_MS);
  }
}

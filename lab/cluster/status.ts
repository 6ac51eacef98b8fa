/** status: what a lab consists of, for people and as JSON for tests and scripts. */
import { existsSync } from "node:fs";
import { ApiError, LabApi } from "./api.ts";
import { calicoctlConfig } from "./calicoctl.ts";
import { CALICO_CONTROLLERS, controlPlane } from "./control-plane.ts";
import { identify } from "./daemon.ts";
import { readJson } from "./files.ts";
import { hostProblems } from "./hosts.ts";
import { BRIDGE, type Layout, netnsPath, NODE_INTERFACE, SUBNET4, SUBNET6 } from "./layout.ts";
import { addressesOf, hostInterfaceOf, loadPods } from "./pod-state.ts";
import { CommandError } from "./run.ts";
import { nodeDaemons, stateFile, type SupervisorState } from "./supervisor.ts";
import { runningSupervisor, sessionsUp, unreadyNodes } from "./up.ts";

/** How long the API may take, as an operator is waiting for the status. */
const API_TIMEOUT_MS = 3_000;

export interface LabStatus {
  readonly name: string;
  readonly kubeconfig: string;
  /** Of a lab without Kubernetes, which has no kubeconfig: how calicoctl finds its etcd. */
  readonly calicoctlConfig: string | undefined;
  readonly api: string;
  readonly supervisor: { readonly pid: number | undefined };
  readonly fabric: {
    readonly netns: string;
    readonly bridge: string;
    readonly subnet: string | undefined;
    readonly subnet6: string | undefined;
  };
  readonly nodes: readonly {
    readonly name: string;
    readonly netns: string;
    readonly addresses: readonly string[];
    readonly interface: string;
    readonly pid: number | undefined;
    readonly birdPid: number | undefined;
    readonly restarts: number;
    readonly birdSocket: string;
    readonly root: string;
    readonly cniBinDir: string;
    readonly cniConfDir: string;
  }[];
  readonly apiPid: number | undefined;
  readonly controllersPid: number | undefined;
  /** What is missing or not ready, one text each; `lab up` restores what is missing. */
  readonly problems: readonly string[];
  /** Of a lab without Kubernetes. */
  readonly machines: readonly {
    readonly name: string;
    readonly node: string;
    readonly netns: string;
    readonly interface: string;
    readonly addresses: readonly string[];
  }[];
  readonly pods: readonly {
    readonly namespace: string;
    readonly name: string;
    readonly node: string;
    readonly netns: string;
    readonly interface: string | undefined;
    readonly addresses: readonly string[];
  }[];
}

export async function statusOf(layout: Layout): Promise<LabStatus> {
  const { daemons } = readJson<SupervisorState>(stateFile(layout)) ?? { daemons: {} };
  return {
    name: layout.config.name,
    kubeconfig: layout.kubeconfig,
    calicoctlConfig: layout.config.datastore === undefined ? undefined : calicoctlConfig(layout),
    api: layout.apiAddress,
    apiPid: daemons["api"]?.pid,
    controllersPid: daemons[CALICO_CONTROLLERS]?.pid,
    supervisor: { pid: runningSupervisor(layout)?.pid },
    problems: [
      ...missingParts(layout, daemons),
      ...(layout.config.datastore === undefined ? await apiProblems(layout) : hostProblems(layout)),
    ],
    fabric: {
      netns: netnsPath(layout.fabricNetns),
      bridge: BRIDGE,
      subnet: layout.config.ipv4 ? SUBNET4 : undefined,
      subnet6: layout.config.ipv6 ? SUBNET6 : undefined,
    },
    nodes: layout.nodes.map((node) => ({
      name: node.name,
      netns: node.netnsPath,
      addresses: node.addresses,
      interface: NODE_INTERFACE,
      pid: daemons[`${node.name}-calico`]?.pid,
      birdPid: daemons[`${node.name}-bird`]?.pid,
      restarts: daemons[`${node.name}-calico`]?.restarts ?? 0,
      birdSocket: node.birdSocket,
      root: node.root,
      cniBinDir: node.cniBinDir,
      cniConfDir: node.cniConfDir,
    })),
    machines: layout.nodes.flatMap((node) =>
      node.machine === undefined
        ? []
        : [
            {
              name: node.machine.name,
              node: node.name,
              netns: node.machine.netnsPath,
              interface: node.machine.interface,
              addresses: node.machine.addresses,
            },
          ],
    ),
    pods: loadPods(layout.podsDirectory).map((pod) => ({
      namespace: pod.sandbox.namespace,
      name: pod.sandbox.pod,
      node: pod.node,
      netns: pod.sandbox.netnsPath,
      interface: hostInterfaceOf(pod),
      addresses: addressesOf(pod),
    })),
  };
}

function missingParts(layout: Layout, daemons: SupervisorState["daemons"]): string[] {
  const problems: string[] = [];
  if (runningSupervisor(layout) === undefined)
    problems.push("the supervisor is not running: whatever ends is not started again");
  if (!existsSync(netnsPath(layout.fabricNetns)))
    problems.push(`network namespace ${layout.fabricNetns} of the fabric is gone`);
  for (const node of layout.nodes) {
    if (!existsSync(node.netnsPath)) problems.push(`network namespace ${node.netns} of node ${node.name} is gone`);
    else if (layout.nodes.length > 1 && !sessionsUp(layout, node))
      problems.push(`BIRD of node ${node.name} has not all its BGP sessions established`);
  }
  for (const { name } of [...controlPlane(layout), ...layout.nodes.flatMap((node) => nodeDaemons(layout, node))]) {
    const pid = daemons[name]?.pid;
    if (pid === undefined || identify(pid) === undefined)
      problems.push(`${name} is not running; see ${layout.logs}/${name}.log`);
  }
  for (const { sandbox } of loadPods(layout.podsDirectory)) {
    if (!existsSync(sandbox.netnsPath))
      problems.push(`the network namespace of pod ${sandbox.namespace}/${sandbox.pod} is gone`);
  }
  return problems;
}

/** The lab's objects that the API lacks, or why it cannot be read. */
async function apiProblems(layout: Layout): Promise<readonly string[]> {
  if (!existsSync(layout.kubeconfig)) return [`${layout.kubeconfig} is gone`];
  const api = new LabApi(layout.kubeconfig, API_TIMEOUT_MS);
  try {
    const pools = await api.request<{ items: readonly { readonly spec: { readonly cidr: string } }[] }>(
      "GET",
      "/apis/projectcalico.org/v3/ippools",
    );
    const missing = layout.config.pools.filter((cidr) => !pools.items.some(({ spec }) => spec.cidr === cidr));
    return [...(await unreadyNodes(layout, api)), ...missing.map((cidr) => `no IPPool has the range ${cidr}`)];
  } catch (error) {
    if (!(error instanceof ApiError || error instanceof CommandError)) throw error;
    return [`the API does not answer as it should: ${error.message}`];
  }
}

export function printStatus(status: LabStatus): string {
  const { calicoctlConfig: config } = status;
  const lines = [
    `lab ${status.name}: ${config === undefined ? `API ${status.api}` : "etcd"}, supervisor ${status.supervisor.pid ?? 'not running: run "calico-lab up" again'}`,
    config === undefined ? `kubeconfig ${status.kubeconfig}` : `calicoctl -c ${config}`,
    "",
  ];
  const table = [
    ["NODE", "ADDRESSES", "DAEMON", "RESTARTS", "BIRD"],
    ...status.nodes.map((node) => [
      node.name,
      node.addresses.join(","),
      String(node.pid ?? "-"),
      String(node.restarts),
      String(node.birdPid ?? "-"),
    ]),
  ];
  lines.push(...columns(table));
  if (status.machines.length > 0)
    lines.push(
      "",
      ...columns([
        ["MACHINE", "NODE", "INTERFACE", "ADDRESSES"],
        ...status.machines.map((each) => [each.name, each.node, each.interface, each.addresses.join(",")]),
      ]),
    );
  if (status.pods.length > 0)
    lines.push(
      "",
      ...columns([
        ["POD", "NODE", "INTERFACE", "ADDRESSES"],
        ...status.pods.map((pod) => [
          `${pod.namespace}/${pod.name}`,
          pod.node,
          pod.interface ?? "-",
          pod.addresses.join(","),
        ]),
      ]),
    );
  if (status.problems.length > 0) {
    const name = status.name === "lab" ? "" : ` --name ${status.name}`;
    lines.push(
      "",
      "Missing or not ready:",
      ...status.problems.map((problem) => `  ${problem}`),
      `"calico-lab up${name}", with the settings of its making, brings back what is missing.`,
    );
  }
  return lines.join("\n");
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? "").length)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("   ")
      .trimEnd(),
  );
}

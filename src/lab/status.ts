/** status: what a lab consists of, for people and as JSON for tests and scripts. */
import { existsSync, readFileSync } from "node:fs";
import { BRIDGE, type Layout, netnsPath, NODE_INTERFACE, SUBNET4, SUBNET6 } from "./layout.ts";
import { addressesOf, hostInterfaceOf, loadPods } from "./pod-state.ts";
import { stateFile, type SupervisorState } from "./supervisor.ts";
import { runningSupervisor } from "./up.ts";

export interface LabStatus {
  readonly name: string;
  readonly kubeconfig: string;
  readonly api: string;
  readonly supervisor: { readonly pid: number | undefined };
  readonly fabric: { readonly netns: string; readonly bridge: string; readonly subnet: string | undefined; readonly subnet6: string | undefined };
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
  readonly pods: readonly { readonly namespace: string; readonly name: string; readonly node: string; readonly netns: string; readonly interface: string | undefined; readonly addresses: readonly string[] }[];
}

export function statusOf(layout: Layout): LabStatus {
  const { daemons }: SupervisorState = existsSync(stateFile(layout)) ? (JSON.parse(readFileSync(stateFile(layout), "utf8")) as SupervisorState) : { daemons: {} };
  return {
    name: layout.config.name,
    kubeconfig: layout.kubeconfig,
    api: layout.apiAddress,
    apiPid: daemons["api"]?.pid,
    supervisor: { pid: runningSupervisor(layout)?.pid },
    fabric: { netns: netnsPath(layout.fabricNetns), bridge: BRIDGE, subnet: layout.config.ipv4 ? SUBNET4 : undefined, subnet6: layout.config.ipv6 ? SUBNET6 : undefined },
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

export function printStatus(status: LabStatus): string {
  const lines = [`lab ${status.name}: API ${status.api}, supervisor ${status.supervisor.pid ?? "not running: run \"calico lab up\" again"}`, `kubeconfig ${status.kubeconfig}`, ""];
  const table = [["NODE", "ADDRESSES", "DAEMON", "RESTARTS", "BIRD"], ...status.nodes.map((node) => [node.name, node.addresses.join(","), String(node.pid ?? "-"), String(node.restarts), String(node.birdPid ?? "-")])];
  lines.push(...columns(table));
  if (status.pods.length > 0) lines.push("", ...columns([["POD", "NODE", "INTERFACE", "ADDRESSES"], ...status.pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod.node, pod.interface ?? "-", pod.addresses.join(",")])]));
  return lines.join("\n");
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? "").length)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("   ").trimEnd());
}

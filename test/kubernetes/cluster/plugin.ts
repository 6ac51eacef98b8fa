/** plugin: calls `calico-ipam`, the CNI plugin that only gives addresses, as a container runtime does; so ADD can be had without a sandbox. */
import { readFileSync } from "node:fs";
import { inNetns, type NodeLayout } from "./layout.ts";
import { type Output, tryRun } from "./run.ts";

export interface PluginCall {
  readonly command: "ADD" | "DEL";
  readonly namespace: string;
  readonly pod: string;
  readonly containerId: string;
}

/** What the plugin prints and its exit code; quotes in the text of an error are not escaped. */
export async function callPlugin(
  node: NodeLayout,
  { command, namespace, pod, containerId }: PluginCall,
): Promise<Output> {
  const { name, cniVersion, plugins } = JSON.parse(readFileSync(`${node.cniConfDir}/10-calico.conflist`, "utf8")) as {
    name: string;
    cniVersion: string;
    plugins: readonly object[];
  };
  const variables = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerId,
    // This plugin makes no interface: any name of a namespace will do.
    CNI_NETNS: "/proc/self/ns/net",
    CNI_IFNAME: "eth0",
    CNI_PATH: node.cniBinDir,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${pod}`,
  };
  const environment = Object.entries(variables).map(([key, value]) => `${key}=${value}`);
  const output = await tryRun(
    inNetns(node.netns, ["env", ...environment, `${node.cniBinDir}/calico-ipam`]),
    JSON.stringify({ ...plugins[0], name, cniVersion }),
  );
  return { ...output, stdout: output.stdout.replaceAll('\\"', '"') };
}

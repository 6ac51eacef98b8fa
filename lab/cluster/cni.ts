/** cni: executes CNI plugins as a container runtime does: environment, configuration on standard input, result chained. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { NodeLayout } from "./layout.ts";

export interface CniResult {
  readonly ips?: readonly { readonly address: string }[];
  readonly interfaces?: readonly { readonly name: string; readonly sandbox?: string }[];
}

class CniFailure extends Error {
  override readonly name = "CniFailure";
}

interface ConfigList {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly Readonly<Record<string, unknown>>[];
}

export interface Sandbox {
  readonly containerId: string;
  readonly netnsPath: string;
  readonly namespace: string;
  readonly pod: string;
  readonly uid: string;
  /** What its containers' host ports mean, for the plugin that asks for it. Absent: none. */
  readonly portMappings?: readonly PortMapping[];
}

/** Of `runtimeConfig`. Source: CNI conventions, "portMappings". */
export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: string;
  readonly hostIP?: string;
}

function configList(node: NodeLayout): ConfigList {
  const files = existsSync(node.cniConfDir)
    ? readdirSync(node.cniConfDir)
        .filter((file) => file.endsWith(".conflist"))
        .sort()
    : [];
  const [first] = files;
  if (first === undefined)
    throw new CniFailure(`cni plugin not initialized: no network configuration in ${node.cniConfDir}`);
  return JSON.parse(readFileSync(`${node.cniConfDir}/${first}`, "utf8")) as ConfigList;
}

async function execute(
  node: NodeLayout,
  command: string,
  plugin: Readonly<Record<string, unknown>>,
  environment: Record<string, string>,
  config: object,
): Promise<unknown> {
  const path = `${node.cniBinDir}/${String(plugin["type"])}`;
  if (!existsSync(path))
    throw new CniFailure(`failed to find plugin ${JSON.stringify(plugin["type"])} in ${node.cniBinDir}`);
  const child = Bun.spawn(["nsenter", `--net=${node.netnsPath}`, "--", path], {
    stdin: Buffer.from(JSON.stringify(config)),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "", CNI_COMMAND: command, CNI_PATH: node.cniBinDir, ...environment },
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (exitCode === 0) return stdout.trim() === "" ? undefined : JSON.parse(stdout);
  let words = stderr.trim() || stdout.trim();
  try {
    const error = JSON.parse(stdout) as { msg?: string; details?: string };
    words = [error.msg, error.details].filter((text) => text !== undefined && text !== "").join("; ");
  } catch {
    // The plugin died without an error object: its own words must do.
  }
  throw new CniFailure(`plugin type=${JSON.stringify(plugin["type"])} failed (${command.toLowerCase()}): ${words}`);
}

function environmentOf(sandbox: Sandbox): Record<string, string> {
  const args = {
    IgnoreUnknown: "1",
    K8S_POD_NAMESPACE: sandbox.namespace,
    K8S_POD_NAME: sandbox.pod,
    K8S_POD_INFRA_CONTAINER_ID: sandbox.containerId,
    K8S_POD_UID: sandbox.uid,
  };
  return {
    CNI_CONTAINERID: sandbox.containerId,
    CNI_NETNS: sandbox.netnsPath,
    CNI_IFNAME: "eth0",
    CNI_ARGS: Object.entries(args)
      .map(([key, value]) => `${key}=${value}`)
      .join(";"),
  };
}

/** The plugin's entry of the list, as a runtime completes it: what it asks for by its capabilities, and the result before it. */
function configOf(
  list: ConfigList,
  plugin: Readonly<Record<string, unknown>>,
  sandbox: Sandbox,
  previous: unknown,
): object {
  const capabilities = plugin["capabilities"] as { readonly portMappings?: boolean } | undefined;
  const { portMappings = [] } = sandbox;
  const runtimeConfig =
    capabilities?.portMappings === true && portMappings.length > 0 ? { runtimeConfig: { portMappings } } : {};
  return {
    ...plugin,
    name: list.name,
    cniVersion: list.cniVersion,
    ...runtimeConfig,
    ...(previous === undefined ? {} : { prevResult: previous }),
  };
}

export async function cniAdd(node: NodeLayout, sandbox: Sandbox): Promise<CniResult> {
  const list = configList(node);
  let result: unknown;
  for (const plugin of list.plugins)
    result = await execute(node, "ADD", plugin, environmentOf(sandbox), configOf(list, plugin, sandbox, result));
  return result as CniResult;
}

export async function cniDel(node: NodeLayout, sandbox: Sandbox, previous: CniResult | undefined): Promise<void> {
  const list = configList(node);
  for (const plugin of [...list.plugins].reverse()) {
    await execute(node, "DEL", plugin, environmentOf(sandbox), configOf(list, plugin, sandbox, previous));
  }
}

/** Of the network's own plugin: those chained after it may be older than the verb. */
export async function cniStatus(node: NodeLayout): Promise<void> {
  const list = configList(node);
  const [plugin] = list.plugins;
  if (plugin !== undefined)
    await execute(node, "STATUS", plugin, {}, { ...plugin, name: list.name, cniVersion: list.cniVersion });
}

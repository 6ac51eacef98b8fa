/** command: `calico node` on the command line: options and environment into `runNode`. */
import { Command } from "commander";
import pino from "pino";
import { openKubernetesStore } from "../datastore/kubernetes/store.ts";
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import { openHost } from "../host/bun/host.ts";
import { onTermination } from "../host/bun/termination.ts";
import { SocketError } from "../host/sockets.ts";
import { fail, ok, type Result } from "../lib/result.ts";
import { isRefusal } from "./failures.ts";
import { runNode } from "./node.ts";

interface CommandOptions {
  readonly nodeName: string | undefined;
  readonly root: string;
  readonly kubeconfig: string | undefined;
  readonly healthHost: string;
  readonly healthPort: string;
  readonly auditSeconds: string;
}

export async function runNodeCommand(args: readonly string[], environment: Readonly<Record<string, string | undefined>>): Promise<number> {
  const program = new Command("calico node")
    .description("Run the node daemon: it programs policy and routes, answers the CNI plugin and configures BIRD.")
    .option("--node-name <name>", "name of this Node in the API (NODENAME)", environment["NODENAME"])
    .option("--root <dir>", "directory below which all files of the node lie", environment["CALICO_ROOT"] ?? "/")
    .option("--kubeconfig <file>", "credentials for the Kubernetes API (KUBECONFIG); default: in-cluster", environment["KUBECONFIG"])
    .option("--health-host <address>", "address of health and metrics", "127.0.0.1")
    .option("--health-port <port>", "port of health and metrics; 0 picks a free one", "9099")
    .option("--audit-seconds <n>", "how often the kernel is compared with the program", "30")
    .exitOverride();
  try {
    program.parse([...args], { from: "user" });
  } catch (error) {
    return error instanceof Error && "exitCode" in error && error.exitCode === 0 ? 0 : 2;
  }
  const options = program.opts<CommandOptions>();
  const log = pino({ name: "calico-node", base: { node: options.nodeName } });
  if (options.nodeName === undefined || options.nodeName === "") {
    log.fatal("the node's name is unknown: give --node-name or set NODENAME");
    return 2;
  }
  const health = numberIn("--health-port", options.healthPort, 0, 65535);
  const audit = numberIn("--audit-seconds", options.auditSeconds, 1, 86_400);
  if (!health.ok || !audit.ok) {
    for (const checked of [health, audit]) if (!checked.ok) log.fatal(checked.error);
    return 2;
  }
  const host = openHost();
  const credentials = await kubernetesCredentials(options.kubeconfig, host.files, environment);
  if (!credentials.ok) {
    log.fatal({ error: credentials.error }, "no credentials for the Kubernetes API");
    return 2;
  }
  const store = openKubernetesStore(credentials.value, host);
  const stop = onTermination();
  const running = runNode(
    {
      node: options.nodeName,
      root: options.root,
      store,
      host,
      report: (message, fields) => log.info(fields, message),
      health: { host: options.healthHost, port: health.value },
      auditIntervalMs: audit.value * 1000,
    },
    stop,
  );
  try {
    await running;
  } catch (error) {
    // The disk, the kernel or somebody who listens on our socket: nothing that a stack trace would explain.
    if (!isRefusal(error) && !(error instanceof SocketError)) throw error;
    log.fatal({ error: error.message }, "cannot start, or go on");
    return 1;
  }
  return 0;
}

function numberIn(option: string, text: string, least: number, most: number): Result<number, string> {
  const value = Number(text);
  if (text.trim() !== "" && Number.isInteger(value) && value >= least && value <= most) return ok(value);
  return fail(`${option} is ${JSON.stringify(text)}, must be an integer from ${least} to ${most}`);
}

/** command: `calico node` on the command line: options and environment into `runNode`. */
import pino from "pino";
import { openKubernetesStore } from "../datastore/kubernetes/store.ts";
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import { openHost } from "../host/bun/host.ts";
import { onTermination } from "../host/bun/termination.ts";
import { SocketError } from "../host/sockets.ts";
import { newProgram, runProgram, UsageError } from "../lib/command-line.ts";
import { formatParseError } from "../lib/result.ts";
import { VERSION } from "../lib/version.ts";
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

export async function runNodeCommand(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const program = newProgram(
    "calico node",
    "Run the node daemon: it programs policy and routes, answers the CNI plugin and configures BIRD.",
  )
    .option("--node-name <name>", "name of this Node in the API (NODENAME)", environment["NODENAME"])
    .option(
      "--root <dir>",
      "directory below which all files of the node lie (CALICO_ROOT)",
      environment["CALICO_ROOT"] ?? "/",
    )
    .option(
      "--kubeconfig <file>",
      "credentials for the Kubernetes API (KUBECONFIG); default: in-cluster",
      environment["KUBECONFIG"],
    )
    .option(
      "--health-host <address>",
      "address of health and metrics; pods may reach any but a loopback address, as policy says",
      "127.0.0.1",
    )
    .option("--health-port <port>", "port of health and metrics; 0 picks a free one", "9099")
    .option("--audit-seconds <n>", "how often everything is compared with the kernel; what others change is heard at once", "600");
  // The disk, the kernel, or somebody who listens on our socket: nothing that a stack trace would explain.
  const isExpected = (error: unknown): boolean => isRefusal(error) || error instanceof SocketError;
  return runProgram(
    program.action((options: CommandOptions) => run(options, environment)),
    args,
    isExpected,
  );
}

async function run(options: CommandOptions, environment: Readonly<Record<string, string | undefined>>): Promise<void> {
  const { nodeName: node } = options;
  if (node === undefined || node === "")
    throw new UsageError("the node's name is unknown: give --node-name or set NODENAME");
  const healthPort = numberIn("--health-port", options.healthPort, 0, 65535);
  const auditSeconds = numberIn("--audit-seconds", options.auditSeconds, 1, 86_400);
  const host = openHost();
  const credentials = await kubernetesCredentials(options.kubeconfig, host.files, environment);
  if (!credentials.ok)
    throw new UsageError(`no credentials for the Kubernetes API: ${formatParseError(credentials.error)}`);
  const log = openLog(node);
  await runNode(
    {
      node,
      version: VERSION,
      root: options.root,
      store: openKubernetesStore(credentials.value, host),
      host,
      report: (message, fields) =>
        "error" in fields || "reason" in fields ? log.warn(fields, message) : log.info(fields, message),
      health: { host: options.healthHost, port: healthPort },
      auditIntervalMs: auditSeconds * 1000,
    },
    onTermination(),
  );
}

/** One JSON object a line: `time` as RFC 3339, `level` in words: a warning where something failed or has no effect. */
function openLog(node: string): pino.Logger {
  return pino({
    name: "calico-node",
    base: { node },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
}

function numberIn(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${option} is ${JSON.stringify(text)}, must be an integer from ${least} to ${most}`);
}

/**
 * command: `calico controllers`: what is done once for a whole cluster: the conditions of policies. Several may run; one of them leads.
 */
import pino from "pino";
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import { openKubernetesStore } from "../datastore/kubernetes/store.ts";
import { openHost } from "../host/bun/host.ts";
import { onTermination } from "../host/bun/termination.ts";
import { newProgram, runProgram, UsageError } from "../lib/command-line.ts";
import type { Report } from "../lib/report.ts";
import { formatParseError } from "../lib/result.ts";
import { leadInTurn } from "./leadership.ts";
import { keepPolicyStatus } from "./policy-status.ts";

interface CommandOptions {
  readonly kubeconfig: string | undefined;
  readonly namespace: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const LEASE = "calico-controllers";

export async function runControllersCommand(args: readonly string[], environment: Environment): Promise<number> {
  const program = newProgram(
    "calico controllers",
    "Do what is done once for a cluster: write the conditions of policies. One of several such processes leads.",
  )
    .option(
      "--kubeconfig <file>",
      "credentials for the Kubernetes API (KUBECONFIG); default: in-cluster",
      environment["KUBECONFIG"],
    )
    .option("--namespace <name>", `namespace of the Lease ${LEASE}`, "kube-system");
  return runProgram(
    program.action((options: CommandOptions) => run(options, environment)),
    args,
  );
}

async function run({ kubeconfig, namespace }: CommandOptions, environment: Environment): Promise<void> {
  const host = openHost();
  const { clock, random } = host;
  const credentials = await kubernetesCredentials(kubeconfig, host.files, environment);
  if (!credentials.ok)
    throw new UsageError(`no credentials for the Kubernetes API: ${formatParseError(credentials.error)}`);
  const store = openKubernetesStore(credentials.value, host);
  const logger = pino();
  const report: Report = (message, fields) => logger.info(fields, message);
  const lease = { kind: "Lease", namespace, name: LEASE } as const;
  const identity = `${environment["HOSTNAME"] ?? "calico"}_${random.uuid()}`;
  report("calico controllers started", { identity });
  await leadInTurn(
    { store, clock, report, lease, identity },
    (signal) => keepPolicyStatus({ store, clock, random, report }, signal),
    onTermination(),
  );
  await store.close();
}

/** Command: `calico-lab apiserver`: options, files, signals around `runApiServer`. */
import { readFileSync } from "node:fs";
import { newProgram, runProgram, UsageError } from "../../src/lib/command-line.ts";
import { formatParseError } from "../../src/lib/result.ts";
import { parsePrefix, type Prefix } from "../../src/net/prefix.ts";
import { CALICO_ADMISSION, CALICO_ADVICE, CALICO_RETENTION } from "./admission.ts";
import { parseTokenFile } from "./http/authenticate.ts";
import { writeKubeconfig } from "../pki/kubeconfig.ts";
import { type ListenAddress, parseListenAddress } from "./listen.ts";
import { inNetworkNamespace } from "../netns/namespace.ts";
import { type ApiServerOptions, runApiServer, type RunningApiServer } from "./server.ts";

interface Options {
  readonly dataDir: string;
  readonly listen: readonly string[];
  readonly kubeconfigOut: readonly string[];
  readonly tokenFile?: string;
  readonly serviceClusterIpRange?: string;
}

const DESCRIPTION =
  "The embedded Kubernetes-compatible API of the lab: core kinds, NetworkPolicy, EndpointSlice and CustomResourceDefinitions, on SQLite.";

/** Runs until SIGTERM or SIGINT; returns the exit code: 0 after a signal, 1 when it cannot start, 2 for wrong options. */
export async function runApiServerCommand(args: readonly string[]): Promise<number> {
  const program = newProgram("calico-lab apiserver", DESCRIPTION)
    .requiredOption(
      "--data-dir <dir>",
      "directory of the state, the certificates and the admin token; made when absent",
    )
    .option(
      "--listen <address>",
      "ADDRESS:PORT, [ADDRESS6]:PORT or netns:PATH@ADDRESS:PORT; port 0 takes a free one; may be repeated",
      append,
      [],
    )
    .option(
      "--kubeconfig-out <file>",
      "write the administrator's kubeconfig for the first listener, or FILE=N for the N-th (from 0); may be repeated",
      append,
      [],
    )
    .option("--token-file <file>", 'further bearer tokens, lines token,user,uid[,"group1,group2"]')
    .option("--service-cluster-ip-range <cidr>", "range of service addresses (default 10.96.0.0/16)")
    .action(serve);
  try {
    return await runProgram(program, args);
  } catch (error) {
    console.error(`calico-lab apiserver: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

async function serve(options: Options): Promise<void> {
  const server = await start(options);
  // A reader of this line may end the server at once.
  const signal = awaitSignal();
  for (const url of server.urls) console.log(`Serving ${url}`);
  await signal;
  server.stop();
}

function append(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

async function start(options: Options): Promise<RunningApiServer> {
  const listen = (options.listen.length === 0 ? ["127.0.0.1:6443"] : options.listen).map(listenAddress);
  const outputs = options.kubeconfigOut.map((text) => kubeconfigOutput(text, listen.length));
  const inNamespace = listen.some((entry) => entry.namespacePath !== undefined) ? await namespaceEntry() : undefined;
  const tokens = options.tokenFile === undefined ? [] : parseTokenFile(readFileSync(options.tokenFile, "utf8"));
  const server = await runApiServer({
    dataDirectory: options.dataDir,
    listen,
    tokens,
    admission: CALICO_ADMISSION,
    retention: CALICO_RETENTION,
    advice: CALICO_ADVICE,
    report: (message) => console.error(message),
    ...(options.serviceClusterIpRange === undefined
      ? {}
      : { serviceRange: serviceRange(options.serviceClusterIpRange) }),
    ...(inNamespace === undefined ? {} : { inNamespace }),
  });
  for (const { path, index } of outputs)
    writeKubeconfig(path, { server: server.urls[index] ?? "", authority: server.authority, token: server.adminToken });
  return server;
}

function listenAddress(text: string): ListenAddress {
  const parsed = parseListenAddress(text);
  if (!parsed.ok) throw new UsageError(formatParseError(parsed.error));
  return parsed.value;
}

function serviceRange(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (!parsed.ok) throw new UsageError(formatParseError(parsed.error));
  return parsed.value;
}

function kubeconfigOutput(text: string, listeners: number): { readonly path: string; readonly index: number } {
  const match = /^(.*)=(\d+)$/.exec(text);
  const output = match === null ? { path: text, index: 0 } : { path: match[1] ?? "", index: Number(match[2]) };
  if (output.index >= listeners)
    throw new UsageError(
      `Cannot write the kubeconfig ${JSON.stringify(text)}: there is no listener ${output.index}, only 0 to ${listeners - 1}`,
    );
  return output;
}

/** The system calls are loaded only when a listener needs them. */
async function namespaceEntry(): Promise<NonNullable<ApiServerOptions["inNamespace"]>> {
  const { openSys } = await import("../../src/host/bun/sys.ts");
  const sys = openSys();
  return (path, action) => inNetworkNamespace(sys, path, action);
}

function awaitSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
}

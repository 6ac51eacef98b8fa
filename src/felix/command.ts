/** command: `calico node` on the command line: options and environment into `runNode`. */
import pino from "pino";
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import {
  DATASTORE_HELP,
  type DatastoreAccess,
  datastoreChoice,
  type Environment,
  openDatastore,
} from "../datastore/open.ts";
import { ThreadLists } from "../datastore/thread-lists.ts";
import type { Clock } from "../host/clock.ts";
import type { Files } from "../host/files.ts";
import { readBpfObject } from "../host/bun/bpf-object.ts";
import { openHost } from "../host/bun/host.ts";
import { openServiceHosts } from "../host/bun/names.ts";
import { writeStdout } from "../host/bun/install.ts";
import { onTermination } from "../host/bun/termination.ts";
import { startCallThread, startListThread } from "../host/bun/threads.ts";
import { SocketError } from "../host/sockets.ts";
import { EXIT_FAILED, EXIT_USAGE, newProgram, numberIn, once, runProgram, UsageError } from "../lib/command-line.ts";
import { formatParseError } from "../lib/result.ts";
import { VERSION } from "../lib/version.ts";
import type { GivenSettings } from "../calc/settings.ts";
import { PAGED_KINDS } from "../model/convert/row-pages.ts";
import { interfacePrefixesOf } from "../model/convert/felix-configuration.ts";
import { addressRules } from "./address-detection.ts";
import { isFailure } from "./failures.ts";
import { runNode } from "./node.ts";
import { formatChanges, observe } from "./observe.ts";
import { nodePaths } from "./paths.ts";
import type { Report } from "../lib/report.ts";
import { BPF_SUBJECTS, BpfError, type BpfSubject, dumpBpf } from "./bpf.ts";
import { askCounters } from "./counters.ts";
import { askDenied } from "./denied.ts";
import { InUseError, removeNode } from "./remove.ts";
import { readStatus } from "./status.ts";

const ADDRESS_HELP = `
Addresses by which other nodes reach this one (environment; default: those of the Node):
  IP, IP6                           an address, autodetect or none
  IP_AUTODETECTION_METHOD, IP6_…    first-found, can-reach=ADDRESS, interface=REGEX,…, skip-interface=REGEX,…, cidr=NET,…, kubernetes-internal-ip
`;

interface CommandOptions {
  readonly nodeName: string | undefined;
  readonly root: string;
  readonly kubeconfig: string | undefined;
  readonly healthHost: string;
  readonly healthPort: string;
  readonly auditSeconds: string;
  readonly establishedFlows: string;
  readonly interfacePrefix: string | undefined;
  readonly bpfEnabled: string | undefined;
  readonly nftablesMode: string | undefined;
  readonly iptablesBackend: string | undefined;
  readonly nftablesFlowTableOffload: string | undefined;
  readonly bpfRedirectToPeer: string | undefined;
  readonly observe: boolean | undefined;
  readonly once: boolean | undefined;
  readonly status: boolean | undefined;
  readonly remove: boolean | undefined;
  readonly counters: boolean | undefined;
  readonly denied: boolean | undefined;
  readonly bpf: string | undefined;
  readonly output: string;
}

/** As upstream's users type it: `-bpf conntrack dump`, `-bpf ipsets dump`. */
function withoutUpstreamForms(args: readonly string[]): readonly string[] {
  const [first, subject = "", ...rest] = args;
  if (first !== "-bpf") return args;
  return ["--bpf", UPSTREAM_SUBJECTS.get(subject) ?? subject, ...(rest[0] === "dump" ? rest.slice(1) : rest)];
}

const UPSTREAM_SUBJECTS: ReadonlyMap<string, string> = new Map([
  ["ipsets", "sets"],
  ["ifstate", "endpoints"],
]);

export async function runNodeCommand(given: readonly string[], environment: Environment): Promise<number> {
  const args = withoutUpstreamForms(given);
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
    .addOption(
      once(
        "--established-flows <what>",
        "what becomes of flows that policy denies after a change (CALICO_ESTABLISHED_FLOWS)",
        ["cut", "keep"],
      ).default(environment["CALICO_ESTABLISHED_FLOWS"] ?? "cut"),
    )
    .option(
      "--interface-prefix <list>",
      "how the names of workloads' interfaces begin, besides cali: cali,tap (FELIX_INTERFACEPREFIX); default: FelixConfiguration's interfacePrefix",
      environment["FELIX_INTERFACEPREFIX"],
    )
    .option(
      "--bpf-enabled <bool>",
      "true: eBPF programs policy, whatever the next options say (FELIX_BPFENABLED); default: FelixConfiguration's bpfEnabled",
      environment["FELIX_BPFENABLED"],
    )
    .option(
      "--bpf-redirect-to-peer <way>",
      "with eBPF, Enabled: packets in the middle of flows go past the host stack; Disabled: through it (FELIX_BPFREDIRECTTOPEER); default: FelixConfiguration's bpfRedirectToPeer",
      environment["FELIX_BPFREDIRECTTOPEER"],
    )
    .option(
      "--nftables-mode <mode>",
      `Auto or Enabled: nftables programs policy; Disabled: iptables does (FELIX_NFTABLESMODE); default: FelixConfiguration's nftablesMode`,
      environment["FELIX_NFTABLESMODE"],
    )
    .option(
      "--iptables-backend <variant>",
      "of iptables: Auto, Legacy or NFT (FELIX_IPTABLESBACKEND); default: FelixConfiguration's iptablesBackend",
      environment["FELIX_IPTABLESBACKEND"],
    )
    .option(
      "--nftables-flow-table-offload <flows>",
      "with nftables, All: established flows between workloads bypass the chains by a flowtable; Disabled: they do not (FELIX_NFTABLESFLOWTABLEOFFLOAD); default: FelixConfiguration's nftablesFlowTableOffload",
      environment["FELIX_NFTABLESFLOWTABLEOFFLOAD"],
    )
    .addOption(
      once("-o, --output <format>", "of --status, --counters, --denied, --bpf and --observe", ["text", "json"]).default(
        "text",
      ),
    )
    .option("--counters", "ask the daemon that runs what each rule of policy has seen, and end")
    .option("--denied", "ask the daemon that runs which packets policy has denied lately, and end (eBPF alone tells)")
    .addOption(
      once("--bpf <what>", "print what the maps of the eBPF dataplane hold, whether a daemon runs or not, and end", [
        ...BPF_SUBJECTS,
        "denied",
      ]),
    )
    .option("--status", "ask the daemon that runs how it is, and end: 0 all is programmed, 1 it is not, 2 no answer")
    .option(
      "--observe",
      "with --once: print what would be written to the kernel and end, writing nothing: 0 nothing, 1 something, 2 it cannot be told",
    )
    .option("--once", "look once")
    .option(
      "--remove",
      "take everything that the daemon made out of the kernel and off the disk, and end; not while a daemon or a pod of Calico is here: 0 all is gone, 1 it is not",
    )
    .option(
      "--audit-seconds <n>",
      "how often everything is compared with the kernel; what others change is heard at once",
      "600",
    )
    .addHelpText("after", `${ADDRESS_HELP}${DATASTORE_HELP}`);
  // The disk, the kernel, or somebody who listens on our socket: nothing that a stack trace would explain.
  const isExpected = (error: unknown): boolean =>
    isFailure(error) || error instanceof SocketError || error instanceof BpfError || error instanceof InUseError;
  let looked: number | undefined;
  let isLook = false;
  const code = await runProgram(
    program.action(async (options: CommandOptions) => {
      const look = options.status === true ? askStatus : lookOf(options);
      isLook = look !== undefined || options.observe === true;
      if (options.remove === true) looked = await remove(options);
      else looked = look === undefined ? await run(options, environment) : await look(options);
    }),
    args,
    isExpected,
  );
  // As diff(1): 1 is a difference, 2 is trouble.
  return isLook && code !== 0 ? EXIT_USAGE : (looked ?? code);
}

/** undefined: it is no look. */
function lookOf({ counters, denied, bpf }: CommandOptions): ((options: CommandOptions) => Promise<number>) | undefined {
  const subject = BPF_SUBJECTS.find((each) => each === bpf);
  if (subject !== undefined) return (options) => showBpf(subject, options);
  const ask = counters === true ? askCounters : denied === true || bpf === "denied" ? askDenied : undefined;
  if (ask === undefined) return undefined;
  return async ({ healthHost, healthPort, output }) => {
    const port = numberIn("--health-port", healthPort, 1, 65535);
    writeStdout(await ask(openHost().sockets, { host: healthHost, port }, output === "json"));
    return 0;
  };
}

async function showBpf(subject: BpfSubject, { root, output }: CommandOptions): Promise<number> {
  const of = { host: openHost(), pins: nodePaths(root).pins, object: readBpfObject };
  writeStdout(await dumpBpf(subject, of, output === "json"));
  return 0;
}

async function remove({ root }: CommandOptions): Promise<number> {
  const report: Report = (message, fields) => console.error(message, JSON.stringify(fields));
  const { lines, isComplete } = await removeNode({ root, host: openHost(), report, bpfObject: readBpfObject });
  writeStdout(`${lines.join("\n")}\n`);
  return isComplete ? 0 : EXIT_FAILED;
}

async function askStatus({ healthHost, healthPort, output }: CommandOptions): Promise<number> {
  const port = numberIn("--health-port", healthPort, 1, 65535);
  const { text, isWell } = await readStatus(openHost().sockets, { host: healthHost, port }, output === "json");
  writeStdout(text);
  return isWell ? 0 : EXIT_FAILED;
}

/** The daemon, or with `--observe` one look; that one's exit code. */
async function run(options: CommandOptions, environment: Environment): Promise<number | undefined> {
  const { nodeName: node } = options;
  if ((options.observe === true) !== (options.once === true))
    throw new UsageError("--observe and --once are given together: the daemon itself always writes");
  if (node === undefined || node === "")
    throw new UsageError("the node's name is unknown: give --node-name or set NODENAME");
  if (options.establishedFlows !== "cut" && options.establishedFlows !== "keep")
    throw new UsageError(
      `CALICO_ESTABLISHED_FLOWS is ${JSON.stringify(options.establishedFlows)}, must be cut or keep`,
    );
  const given: GivenSettings = {
    interfacePrefixes: readInterfacePrefixes(options.interfacePrefix),
    bpfEnabled: readBoolean("option bpf-enabled", options.bpfEnabled),
    bpfRedirectToPeer: readWord("redirection to the peer", options.bpfRedirectToPeer, [
      "Enabled",
      "L2Only",
      "Disabled",
    ]),
    nftablesMode: readWord("nftables mode", options.nftablesMode, ["Auto", "Enabled", "Disabled"]),
    iptablesBackend: readWord("iptables backend", options.iptablesBackend, ["Auto", "Legacy", "NFT"]),
    nftablesFlowTableOffload: readWord("offload to the flowtable", options.nftablesFlowTableOffload, [
      "All",
      "Disabled",
    ]),
  };
  const addresses = addressRules(environment);
  if (!addresses.ok) throw new UsageError(addresses.error);
  const healthPort = numberIn("--health-port", options.healthPort, 0, 65535);
  const auditSeconds = numberIn("--audit-seconds", options.auditSeconds, 1, 86_400);
  const host = openHost();
  const access = await accessOf(options, environment, host.files);
  const store = await openDatastore(access, host);
  if (options.observe === true) {
    const report: Report = (message, fields) => console.error(message, JSON.stringify(fields));
    const changes = await observe({
      node,
      root: options.root,
      store,
      lists: listsOf(access, node, host.clock, report),
      host,
      report,
      given,
      bpfObject: readBpfObject,
    });
    await store.close();
    writeStdout(options.output === "json" ? `${JSON.stringify({ changes }, null, 2)}\n` : formatChanges(changes));
    return changes.length === 0 ? 0 : EXIT_FAILED;
  }
  const log = openLog(node);
  const report: Report = (message, fields) =>
    "error" in fields || "reason" in fields ? log.warn(fields, message) : log.info(fields, message);
  await runNode(
    {
      node,
      version: VERSION,
      root: options.root,
      store,
      host,
      lists: listsOf(access, node, host.clock, report),
      report,
      health: { host: options.healthHost, port: healthPort },
      auditIntervalMs: auditSeconds * 1000,
      cutsFlows: options.establishedFlows === "cut",
      given,
      bpfObject: readBpfObject,
      startCallThread,
      addresses: addresses.value,
    },
    onTermination(),
  );
  return undefined;
}

/** What Kubernetes has is read by a thread of its own where there is much of it. */
function listsOf(datastore: DatastoreAccess, node: string, clock: Clock, report: Report): ThreadLists | undefined {
  const of = { start: startListThread, node, clock, report };
  if (datastore.type === "kubernetes") {
    const { access, group } = datastore;
    return new ThreadLists({ ...of, access, group, kinds: PAGED_KINDS });
  }
  // Calico's objects are in etcd then.
  const { kubernetes: access } = datastore;
  return access && new ThreadLists({ ...of, access, group: "projectcalico.org/v3", kinds: ["Pod"] });
}

/** In lower case; undefined: it is not given. */
function readWord(what: string, text: string | undefined, words: readonly string[]): string | undefined {
  if (text === undefined || text === "") return undefined;
  if (!words.some((word) => word.toLowerCase() === text.toLowerCase()))
    throw new UsageError(`the ${what} is ${JSON.stringify(text)}, must be one of ${words.join(", ")}`);
  return text.toLowerCase();
}

/** undefined: it is not given. */
function readBoolean(what: string, text: string | undefined): boolean | undefined {
  const word = readWord(what, text, ["true", "false"]);
  return word === undefined ? undefined : word === "true";
}

/** undefined: none are given. */
function readInterfacePrefixes(text: string | undefined): readonly string[] | undefined {
  if (text === undefined || text === "") return undefined;
  const prefixes = interfacePrefixesOf(text);
  if (prefixes === undefined)
    throw new UsageError(
      `the interface prefix is ${JSON.stringify(text)}, must be names of at most 15 letters, digits, - and _, with commas between them`,
    );
  return prefixes;
}

/** On etcd, a machine that has no credentials for Kubernetes is one without it. Rejects with UsageError. */
async function accessOf(options: CommandOptions, environment: Environment, files: Files): Promise<DatastoreAccess> {
  const choice = await datastoreChoice({}, environment, files, openServiceHosts());
  if (!choice.ok) throw new UsageError(`cannot use the datastore: ${choice.error}`);
  const isInPod = (environment["KUBERNETES_SERVICE_HOST"] ?? "") !== "";
  if (choice.value.type === "etcdv3" && (options.kubeconfig ?? "") === "" && !isInPod) return choice.value;
  const credentials = await kubernetesCredentials(options.kubeconfig, files, environment);
  if (!credentials.ok)
    throw new UsageError(`no credentials for the Kubernetes API: ${formatParseError(credentials.error)}`);
  return choice.value.type === "etcdv3"
    ? { ...choice.value, kubernetes: credentials.value }
    : { ...choice.value, access: credentials.value };
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

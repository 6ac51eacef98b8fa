/** command: `calico-lab` on the command line. */
import { existsSync, readdirSync } from "node:fs";
import { commandOf, newProgram, runProgram, subcommandOf, UsageError } from "../../src/lib/command-line.ts";
import { versionText } from "../../src/lib/version.ts";
import { formatParseError, unwrap } from "../../src/lib/result.ts";
import { parsePrefix, type Prefix, prefixCovers, prefixFamily, prefixLength } from "../../src/net/prefix.ts";
import { SERVICES4, SERVICES6 } from "./control-plane.ts";
import { down } from "./down.ts";
import { forward } from "./forward.ts";
import { hostSteps } from "./hosts.ts";
import {
  DEFAULT_POOL4,
  DEFAULT_POOL6,
  type LabConfig,
  type Layout,
  layoutOf,
  NAME_PATTERN,
  STATE_ROOT,
  SUBNET4,
  SUBNET6,
} from "./layout.ts";
import { loadPods } from "./pod-state.ts";
import { CommandError } from "./run.ts";
import { printStatus, statusOf } from "./status.ts";
import { supervise } from "./supervisor.ts";
import { readConfig, up } from "./up.ts";

interface UpOptions {
  readonly nodes: string;
  readonly name: string;
  readonly ipv6: boolean;
  readonly dualStack: boolean;
  readonly pool: readonly string[];
  readonly api: string;
  readonly datastore: string;
}

const NAME_OPTION = ["--name <name>", "name of the lab", "lab"] as const;

export async function runLabCommand(args: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = newProgram(
    "calico-lab",
    "A whole cluster on this machine: nodes and pods are network namespaces, the programs are the real ones.",
  )
    .version(versionText().trimEnd(), "-v, --version", "print the version")
    .enablePositionalOptions();
  subcommandOf(program, "up", "Make the lab and wait until it works. May be repeated.")
    .option("--nodes <n>", "number of nodes, 1 to 50", "3")
    .option(...NAME_OPTION)
    .option("--ipv6", "IPv6 only", false)
    .option("--dual-stack", "IPv4 and IPv6", false)
    .option(
      "--pool <cidr>",
      "range of pod addresses; may be repeated, once for each family",
      (value: string, before: readonly string[]) => [...before, value],
      [],
    )
    .option(
      "--api <api>",
      "embedded, or kubernetes: etcd, kube-apiserver and kube-controller-manager from PATH",
      "embedded",
    )
    .option(
      "--datastore <datastore>",
      "kubernetes, or etcd: hosts without Kubernetes, each with a machine behind a tap interface, on etcd from PATH",
      "kubernetes",
    )
    .action(async (options: UpOptions) => {
      const config = configOf(options);
      const layout = await withoutInterruption(config.name, () =>
        up(config, (text) => console.error(`lab ${config.name}: ${text}`)),
      );
      console.log(`${printStatus(await statusOf(layout))}\n\n${nextSteps(layout)}`);
    });
  subcommandOf(program, "down", "Remove every trace of the lab.")
    .option(...NAME_OPTION)
    .action(async (options: { name: string }) => {
      console.log(
        (await down(checkName(options.name))) ? `lab ${options.name} is removed` : `there is no lab ${options.name}`,
      );
    });
  subcommandOf(program, "status", "Show the lab's nodes and pods.")
    .option(...NAME_OPTION)
    .option("-o, --output <format>", "table or json", "table")
    .action(async (options: { name: string; output: string }) => {
      if (options.output !== "table" && options.output !== "json")
        throw new UsageError(`-o is ${JSON.stringify(options.output)}, must be table or json`);
      const status = await statusOf(existing(options.name));
      console.log(options.output === "json" ? JSON.stringify(status, undefined, 2) : printStatus(status));
    });
  subcommandOf(program, "exec", "Run a command in a pod's network namespace, or in a machine's (vm1).")
    .argument("<namespace/pod>")
    .argument("<command...>")
    .option(...NAME_OPTION)
    .passThroughOptions()
    .action(async (pod: string, command: string[], options: { name: string }) => {
      exitCode = await enter(podNetnsPath(existing(options.name), pod), command);
    });
  subcommandOf(program, "node-exec", "Run a command in a node's network namespace.")
    .argument("<node>")
    .argument("<command...>")
    .option(...NAME_OPTION)
    .passThroughOptions()
    .action(async (node: string, command: string[], options: { name: string }) => {
      const layout = existing(options.name);
      const found = layout.nodes.find((entry) => entry.name === node);
      if (found === undefined)
        throw new CommandError(
          `there is no node ${JSON.stringify(node)} in lab ${options.name}, only ${layout.nodes.map((entry) => entry.name).join(", ")}`,
        );
      exitCode = await enter(found.netnsPath, command);
    });
  // `main` starts it; here only its name is known.
  program.addCommand(commandOf("calico-lab apiserver", "The embedded Kubernetes-compatible API of the lab."));
  subcommandOf(program, "supervise", "", { hidden: true })
    .option(...NAME_OPTION)
    .action((options: { name: string }) => supervise(existing(options.name)));
  subcommandOf(program, "forward", "", { hidden: true })
    .option(...NAME_OPTION)
    .action((options: { name: string }) => forward(existing(options.name)));
  return (await runProgram(program, args, (error) => error instanceof CommandError)) || exitCode;
}

/** On Ctrl-C, reports what is left and how to remove it, and exits as a shell expects: 128 plus the signal's number. */
async function withoutInterruption<T>(name: string, work: () => Promise<T>): Promise<T> {
  const interrupted = (signal: "SIGINT" | "SIGTERM"): void => {
    const option = name === "lab" ? "" : ` --name ${name}`;
    console.error(
      `\ncalico-lab up: interrupted. What is made of lab ${name} so far stays, and may be running: "calico-lab down${option}" removes it, "calico-lab up${option}" with the same settings goes on.`,
    );
    process.exit(signal === "SIGINT" ? 130 : 143);
  };
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    return await work();
  } catch (error) {
    // The signal also ended a running command: let its output come first.
    await Bun.sleep(10);
    throw error;
  } finally {
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
  }
}

/** Ranges that the lab itself uses, or that pods cannot have. */
const TAKEN: readonly (readonly [string, string])[] = [
  [SUBNET4, "the lab's fabric"],
  [SUBNET6, "the lab's fabric"],
  [SERVICES4, "the lab's service addresses"],
  [SERVICES6, "the lab's service addresses"],
  ["0.0.0.0/8", "the unspecified network"],
  ["127.0.0.0/8", "loopback"],
  ["169.254.0.0/16", "link-local addresses"],
  ["224.0.0.0/3", "multicast and reserved addresses"],
  ["::/64", "loopback and the unspecified address"],
  ["fe80::/10", "link-local addresses"],
  ["ff00::/8", "multicast addresses"],
];

/** Refuses early what the API would refuse when the lab is half created, or what would break the lab. */
function checkPools(pools: readonly Prefix[]): void {
  const overlap = (a: Prefix, b: Prefix): boolean =>
    prefixFamily(a) === prefixFamily(b) && (prefixCovers(a, b) || prefixCovers(b, a));
  pools.forEach((pool, i) => {
    for (const [text, what] of TAKEN)
      if (overlap(pool, unwrap(parsePrefix(text)))) throw new UsageError(`--pool ${pool} overlaps ${text}, ${what}`);
    const other = pools.slice(0, i).find((earlier) => overlap(earlier, pool));
    if (other !== undefined) throw new UsageError(`--pool ${pool} overlaps the pool ${other}`);
    const most = prefixFamily(pool) === 4 ? 26 : 122;
    if (prefixLength(pool) > most)
      throw new UsageError(`--pool ${pool} is smaller than one block: its length must be at most ${most}`);
  });
}

function checkName(name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new UsageError(`--name is ${JSON.stringify(name)}, must be at most 20 lower-case letters, digits and "-"`);
}

function configOf(options: UpOptions): LabConfig {
  const nodes = Number(options.nodes);
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 50)
    throw new UsageError(`--nodes is ${JSON.stringify(options.nodes)}, must be 1 to 50`);
  if (options.ipv6 && options.dualStack) throw new UsageError("--ipv6 and --dual-stack exclude each other");
  const { api, datastore } = options;
  if (datastore !== "kubernetes" && datastore !== "etcd")
    throw new UsageError(`--datastore is ${JSON.stringify(datastore)}, must be kubernetes or etcd`);
  if (datastore === "etcd" && api !== "embedded")
    throw new UsageError("--api and --datastore etcd exclude each other: that lab has no Kubernetes");
  if (api !== "embedded" && api !== "kubernetes")
    throw new UsageError(`--api is ${JSON.stringify(api)}, must be embedded or kubernetes`);
  const ipv6 = options.ipv6 || options.dualStack;
  const ipv4 = !options.ipv6;
  const given = options.pool.map((text) => {
    const prefix = parsePrefix(text);
    if (!prefix.ok) throw new UsageError(`--pool: ${formatParseError(prefix.error)}`);
    if (!(prefixFamily(prefix.value) === 6 ? ipv6 : ipv4))
      throw new UsageError(`--pool ${text} is IPv${prefixFamily(prefix.value)}, but the lab is not`);
    return prefix.value;
  });
  const has = (family: 4 | 6): boolean => given.some((prefix) => prefixFamily(prefix) === family);
  const defaults = [...(ipv4 && !has(4) ? [DEFAULT_POOL4] : []), ...(ipv6 && !has(6) ? [DEFAULT_POOL6] : [])];
  const pools = [...given, ...defaults.map((text) => unwrap(parsePrefix(text)))];
  checkPools(pools);
  return {
    name: checkName(options.name),
    nodes,
    ipv4,
    ipv6,
    pools,
    api,
    ...(datastore === "etcd" ? { datastore } : {}),
  };
}

function existing(name: string): Layout {
  const config = readConfig(checkName(name));
  if (config !== undefined) return layoutOf(config);
  const others = existsSync(STATE_ROOT) ? readdirSync(STATE_ROOT) : [];
  throw new CommandError(
    `there is no lab ${name}${others.length > 0 ? `, only ${others.join(", ")}` : ""}: run "calico-lab up" first`,
  );
}

function podNetnsPath(layout: Layout, pod: string): string {
  const machine = layout.nodes.find((node) => node.machine?.name === pod)?.machine;
  if (machine !== undefined) return machine.netnsPath;
  const [namespace = "", name] = pod.includes("/") ? pod.split("/") : ["default", pod];
  const found = loadPods(layout.podsDirectory).find(
    (state) => state.sandbox.namespace === namespace && state.sandbox.pod === name,
  );
  if (found?.result === undefined)
    throw new CommandError(
      `there is no running pod ${namespace}/${name} in lab ${layout.config.name}; see "kubectl get pods -A"`,
    );
  return found.sandbox.netnsPath;
}

async function enter(netns: string, command: readonly string[]): Promise<number> {
  const words = command[0] === "--" ? command.slice(1) : command;
  if (words.length === 0) throw new UsageError("there is no command to run: give one after --");
  const child = Bun.spawn(["nsenter", `--net=${netns}`, "--", ...words], {
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  });
  return child.exited;
}

function nextSteps(layout: Layout): string {
  const name = layout.config.name === "lab" ? "" : ` --name ${layout.config.name}`;
  if (layout.config.datastore !== undefined) return hostSteps(layout, name).join("\n");
  return [
    "Try next:",
    `  export KUBECONFIG=${layout.kubeconfig}`,
    "  kubectl get nodes",
    "  kubectl apply -f examples/guestbook.yaml",
    "  kubectl get pods -A -o wide",
    `  bin/calico-lab exec${name} guestbook/client -- wget -qO- http://REDIS-ADDRESS:6379`,
    "  kubectl apply -f examples/frontend-only.yaml",
    "  bin/calicoctl why guestbook/client guestbook/redis:6379/tcp",
  ].join("\n");
}

/** calicoctl: the command line: subcommands, their options and their help. Each is implemented in its own file. */
import { CommanderError } from "commander";
import { DATASTORE_HELP } from "../datastore/open.ts";
import { StoreError } from "../datastore/store.ts";
import { FileError } from "../host/files.ts";
import { InputError } from "./inventory.ts";
import { addCommon } from "./common.ts";
import { commandOf, many, once } from "../lib/command-line.ts";
import { addVerbs } from "./verbs/commands.ts";
import { type CommandResult, runWhy, warningLines } from "./why.ts";

const WHY_HELP = `
SRC and DST are NAMESPACE/POD, POD, NAMESPACE/ (every pod of it), KIND/NAME or
NAMESPACE/KIND/NAME (the pods of a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or
CronJob), host/NODE, or an address. DST may also be a Service, svc/NAME or one of its addresses: then
the answer is about each pod behind it. An IPv6 address with a port stands in brackets.
Without a port all traffic is explained; DST/icmp, DST/icmp:8 and DST/47 ask for a protocol.

  calicoctl why guestbook/client guestbook/redis:6379/tcp
  calicoctl why 192.0.2.1 guestbook/svc/redis:6379
  calicoctl why guestbook/client [fd00::1]:53/udp
  calicoctl why -f cluster/ -f policies.yaml default/ guestbook/
  helm template shop chart/ | calicoctl why -f - deploy/web deploy/db:5432

With -f, files are read as kubectl reads them. One pod stands for the template of each
controller whose pods are not in the files.

Exit code: 0 all of it is allowed, 1 some or all of it is denied, 2 it could not be told, or
not with certainty: something that may decide is not known or not understood.`;

interface WhyFlags {
  readonly output: "text" | "json";
  readonly namespace: string;
  readonly filename?: readonly string[];
  readonly recursive?: boolean;
  readonly kubeconfig?: string;
  readonly config?: string;
}

/** Runs one command and returns its exit code. Errors in the input are reported on standard error with exit code 2. */
export async function runCalicoctl(argv: readonly string[]): Promise<number> {
  let code = 0;
  let running = "calicoctl";
  const why = commandOf("calicoctl why", "explain whether traffic passes, and which rule of which policy decides")
    .argument("<src>", "who sends")
    .argument("<dst[:port[/proto]]>", "who gets it; the protocol is tcp, udp or sctp")
    .addOption(once("-o, --output <format>", "how to print", ["text", "json"]).default("text"))
    .addOption(once("-n, --namespace <name>", "namespace of what is named without one").default("default"))
    .addOption(
      many(
        "-f, --filename <path>",
        "read manifests, not the API: a file, a folder, or - for standard input; may be repeated",
      ),
    )
    .option("-R, --recursive", "with -f, read the folders below a folder too")
    .addOption(
      once(
        "--kubeconfig <file>",
        "how to reach the API (default: KUBECONFIG, ~/.kube/config, then the pod's service account)",
      ),
    )
    .addOption(once("-c, --config <file>", "a CalicoAPIConfig (default: /etc/calico/calicoctl.cfg, if it exists)"))
    .addHelpText("after", WHY_HELP)
    .action(async (source: string, destination: string, options: WhyFlags) => {
      running = "calicoctl why";
      code = await askWhy(source, destination, options);
    });
  const program = commandOf("calicoctl", "Ask and explain what Calico does, and manage its policies.").addHelpText(
    "after",
    DATASTORE_HELP.trimEnd(),
  );
  addVerbs(program, (verbCode) => (code = verbCode));
  program.addCommand(why);
  program.addCommand(
    commandOf("calicoctl bpf", "print what the maps of this node's eBPF dataplane hold, as calico node --bpf does")
      .argument(
        "<what>",
        "conntrack, policy, sets, endpoints, counters or denied; also ipsets and ifstate, as upstream calls them",
      )
      .argument("[verb]", "dump, which is the only one")
      .addOption(once("-o, --output <format>", "how to print", ["text", "json"]).default("text"))
      .action(async (what: string, verb: string | undefined, { output }: { readonly output: string }) => {
        running = "calicoctl bpf";
        if (verb !== undefined && verb !== "dump")
          throw new InputError(`${JSON.stringify(verb)} is unknown: dump is the only verb`);
        const { runNodeCommand } = await import("../felix/command.ts");
        code = await runNodeCommand(["-bpf", what, "-o", output], process.env);
      }),
  );
  addCommon(program, "calicoctl");
  try {
    await program.parseAsync([...argv], { from: "user" });
    return code;
  } catch (error) {
    // commander has printed the error, or the help.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof InputError || error instanceof StoreError || error instanceof FileError)) throw error;
    const notes = error instanceof InputError ? error.notes : [];
    process.stderr.write(`${warningLines(notes)}${running}: ${error.message}\n`);
    return 2;
  }
}

async function askWhy(source: string, destination: string, options: WhyFlags): Promise<CommandResult["code"]> {
  const environment = process.env;
  const { filename: files = [], recursive = false, namespace, output } = options;
  if (files.length > 0 && options.kubeconfig !== undefined)
    throw new InputError("--kubeconfig and -f exclude each other: the cluster is read from one place");
  if (files.length > 0 && options.config !== undefined)
    throw new InputError("--config and -f exclude each other: the cluster is read from one place");
  // What is said here comes before what the environment says.
  const kubeconfig = options.kubeconfig ?? (options.config === undefined ? environment["KUBECONFIG"] : undefined);
  const result = await runWhy({
    source,
    destination,
    namespace,
    output,
    files,
    recursive,
    stdin: () => Bun.stdin.bytes(),
    kubeconfig,
    config: options.config,
    environment,
  });
  process.stderr.write(result.error);
  process.stdout.write(result.out);
  return result.code;
}

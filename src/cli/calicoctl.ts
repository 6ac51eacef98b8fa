/** calicoctl: the command line: which subcommands there are, their options and their help. Each runs in a file of its own. */
import { Command, CommanderError, Option } from "commander";
import manifest from "../../package.json" with { type: "json" };
import { StoreError } from "../datastore/store.ts";
import { FileError } from "../host/files.ts";
import { InputError } from "./manifests.ts";
import { runWhy } from "./why.ts";

const WHY_HELP = `
SRC and DST are NAMESPACE/POD, POD, NAMESPACE/ (every pod of it) or an address; an IPv6
address with a port stands in brackets. Without a port all traffic is explained.

  calicoctl why guestbook/client guestbook/redis:6379/tcp
  calicoctl why 192.0.2.1 guestbook/redis:6379
  calicoctl why guestbook/client [fd00::1]:53/udp
  calicoctl why -f cluster/ default/ guestbook/

Exit code: 0 all of it is allowed, 1 some or all of it is denied, 2 it could not be told.`;

/** Runs one command; answers its exit code. Everything the operator did wrong is told on standard error with exit code 2. */
export async function runCalicoctl(argv: readonly string[]): Promise<number> {
  let code = 0;
  const program = new Command("calicoctl").description("Ask and explain what Calico does.").exitOverride();
  program
    .command("why")
    .description("explain whether traffic passes, and which rule of which policy decides")
    .argument("<src>", "who sends")
    .argument("<dst[:port[/proto]]>", "who gets it; the protocol is tcp, udp or sctp")
    .addOption(new Option("-o, --output <format>", "how to print").choices(["text", "json"]).default("text"))
    .option("-n, --namespace <name>", "namespace of pods that are named without one", "default")
    .option("-f, --filename <path>", "read the cluster from a file or directory of YAML instead of the API")
    .option("--kubeconfig <file>", "how to reach the API (default: KUBECONFIG, ~/.kube/config, then the pod's service account)")
    .addHelpText("after", WHY_HELP)
    .action(async (source: string, destination: string, options: WhyFlags) => {
      const environment = process.env;
      const kubeconfig = options.kubeconfig ?? environment["KUBECONFIG"];
      const result = await runWhy({ source, destination, namespace: options.namespace, output: options.output, files: options.filename, kubeconfig, environment });
      process.stderr.write(result.error);
      process.stdout.write(result.out);
      code = result.code;
    });
  program
    .command("version")
    .description("print the version")
    .action(() => void process.stdout.write(`${manifest.version}\n`));
  try {
    await program.parseAsync([...argv], { from: "user" });
    return code;
  } catch (error) {
    // commander has printed what was wrong, or the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof InputError || error instanceof StoreError || error instanceof FileError)) throw error;
    process.stderr.write(`calicoctl: ${error.message}\n`);
    return 2;
  }
}

interface WhyFlags {
  readonly output: "text" | "json";
  readonly namespace: string;
  readonly filename?: string;
  readonly kubeconfig?: string;
}

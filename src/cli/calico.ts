/** calico: the top level of the command line: help, version, tab completion, and the error for an unknown command. */
import { CommanderError } from "commander";
import { versionText } from "../lib/version.ts";
import { addCommon } from "./common.ts";
import { commandOf } from "../lib/command-line.ts";

/** The commands that `main` starts, each in its own file; here only their names are known. */
const STARTED = [
  ["node", "run the node daemon: policy, routes, CNI server, BIRD's configuration"],
  ["cni", "put the CNI plugins and their configuration in place"],
  ["ctl", "ask and explain what Calico does; also installed as calicoctl"],
  ["controllers", "do what is done once for a cluster: write the conditions of policies"],
  ["webhooks", "serve admission of Calico's kinds to a Kubernetes API server"],
  ["lab", "a whole cluster on this machine (by the executable calico-lab)"],
  ["apiserver", "the embedded Kubernetes-compatible API of the lab (by calico-lab)"],
] as const;

/** Returns the exit code: 2 for a usage error, which is reported on standard error. */
export async function runCalico(args: readonly string[]): Promise<number> {
  const program = commandOf("calico", "Networking and network policy for Kubernetes.").version(
    versionText().trimEnd(),
    "-v, --version",
    "print the version",
  );
  for (const [name, description] of STARTED) program.addCommand(commandOf(`calico ${name}`, description));
  addCommon(program, "calico").addHelpText("after", '\nRun "calico COMMAND --help" for the options of one command.');
  try {
    await program.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    throw error;
  }
}

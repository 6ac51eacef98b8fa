/** calico: the top of the command line: its help, its version, its tab completion, and what to say to a command that does not exist. */
import { CommanderError } from "commander";
import { versionText } from "../lib/version.ts";
import { addCommon } from "./common.ts";
import { commandOf } from "../lib/command-line.ts";

/** Those that `main` starts, each in a file of its own; here they are known by name alone. */
const STARTED = [
  ["node", "run the node daemon: policy, routes, CNI server, BIRD's configuration"],
  ["cni", "put the CNI plugins and their configuration in place"],
  ["ctl", "ask and explain what Calico does; also installed as calicoctl"],
  ["lab", "a whole cluster on this machine (by the executable calico-lab)"],
  ["apiserver", "the embedded Kubernetes-compatible API of the lab (by calico-lab)"],
] as const;

/** Answers the exit code: 2 for wrong usage, which is told on standard error. */
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

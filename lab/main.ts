/** main: picks the embedded API or the cluster by the first argument of calico-lab, and loads it lazily. */
import { endOnBug } from "../src/host/bun/bug.ts";

async function main(args: readonly string[]): Promise<number> {
  const [command, ...rest] = args;
  if (command === "apiserver") return (await import("./apiserver/command.ts")).runApiServerCommand(rest);
  return (await import("./cluster/command.ts")).runLabCommand(args);
}

endOnBug();
process.exitCode = await main(process.argv.slice(2));

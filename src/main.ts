/**
 * main: picks the application by the name of the executable or the subcommand, and loads it lazily; only the CNI plugin, which every pod
 * waits for, is part of the first module.
 */
import { runPluginProcess } from "./cni/process.ts";
import { endOnBug } from "./host/bun/bug.ts";

const name = process.execPath.slice(process.execPath.lastIndexOf("/") + 1);
const args = process.argv.slice(2);

async function main(): Promise<number> {
  const environment = process.env;
  if (name === "loopback") return (await import("./cni/loopback-process.ts")).runLoopbackProcess(environment);
  if (name === "calico-ipam" || (args.length === 0 && environment["CNI_COMMAND"] !== undefined))
    return runPluginProcess(name === "calico-ipam" ? "calico-ipam" : "calico", environment);
  // A link with which a supervisor starts the daemon: upstream's `calicoctl node status` finds the process by this name.
  if (process.argv0.slice(process.argv0.lastIndexOf("/") + 1) === "calico-node") return runNode(args);
  if (name === "calicoctl") return (await import("./cli/calicoctl.ts")).runCalicoctl(args);
  // `calico help node` means `calico node --help`.
  const words = args[0] === "help" ? [...args.slice(1), "--help"] : args;
  const [command, ...rest] = words;
  switch (command) {
    case "node":
      return runNode(rest);
    case "cni":
      return (await import("./cni/install.ts")).runCniCommand(rest, environment);
    case "ctl":
      return (await import("./cli/calicoctl.ts")).runCalicoctl(rest);
    case "webhooks":
      return (await import("./controllers/webhooks.ts")).runWebhooksCommand(rest, process.env);
    case "controllers":
      return (await import("./controllers/command.ts")).runControllersCommand(rest, environment);
    case "apiserver":
      return (await import("./cli/lab.ts")).runCalicoLab(command, words);
    case "lab":
      return (await import("./cli/lab.ts")).runCalicoLab(command, rest);
    default:
      return (await import("./cli/calico.ts")).runCalico(words);
  }
}

async function runNode(options: readonly string[]): Promise<number> {
  (await import("./host/bun/runtime.ts")).applyRuntimeSettings(process.env);
  return (await import("./felix/command.ts")).runNodeCommand(options, process.env);
}

endOnBug();
process.exitCode = await main();

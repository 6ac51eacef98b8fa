/** main: name of the executable or of the subcommand → application, loaded lazily; nothing else. */
import { endOnBug } from "./host/bun/bug.ts";

const name = process.execPath.slice(process.execPath.lastIndexOf("/") + 1);
const args = process.argv.slice(2);

async function main(): Promise<number> {
  const environment = process.env;
  if (name === "loopback") return (await import("./cni/loopback-process.ts")).runLoopbackProcess(environment);
  if (name === "calico-ipam" || (args.length === 0 && environment["CNI_COMMAND"] !== undefined)) {
    const { runPluginProcess } = await import("./cni/process.ts");
    return runPluginProcess(name === "calico-ipam" ? "calico-ipam" : "calico", environment);
  }
  if (name === "calicoctl") return (await import("./cli/calicoctl.ts")).runCalicoctl(args);
  const [command, ...rest] = args;
  switch (command) {
    case "node":
      return (await import("./felix/command.ts")).runNodeCommand(rest, environment);
    case "cni":
      return (await import("./cni/install.ts")).runCniCommand(rest, environment);
    case "ctl":
      return (await import("./cli/calicoctl.ts")).runCalicoctl(rest);
    case "apiserver":
      return (await import("./apiserver/command.ts")).runApiServerCommand(rest);
    case "lab":
      return (await import("./lab/command.ts")).runLabCommand(rest);
    case "version":
    case "--version":
    case "-v":
      console.log((await import("./version.ts")).VERSION);
      return 0;
    default:
      return usage(command);
  }
}

const USAGE = `calico: networking and network policy for Kubernetes

Usage: calico COMMAND [OPTIONS]

  node         run the node daemon: policy, routes, CNI server, BIRD's configuration
  cni install  put the CNI plugins and their configuration in place
  ctl          the command line, also installed as calicoctl
  lab          a whole cluster on this machine: up, down, status, exec, node-exec
  apiserver    the embedded Kubernetes-compatible API of the lab
  version      print the version

Run "calico COMMAND --help" for the options of one command.
`;

function usage(command: string | undefined): number {
  if (command === undefined || command === "help" || command === "--help" || command === "-h") {
    console.log(USAGE);
    return command === undefined ? 2 : 0;
  }
  console.error(`calico: unknown command ${JSON.stringify(command)}\n\n${USAGE}`);
  return 2;
}

endOnBug();
process.exitCode = await main();

/** install: `calico cni install`: the plugins and their network configuration put where the container runtime looks. */
import { Command, CommanderError } from "commander";
import { installLinks, installUnlessForeign, isSystemError, writeStderr, writeStdout } from "../host/bun/install.ts";
import { openFiles } from "../host/bun/files.ts";
import { openProcesses } from "../host/bun/processes.ts";
import { type Chain, findChain } from "./chain.ts";
import { isSupported, SUPPORTED_VERSIONS } from "./versions.ts";

interface InstallOptions {
  readonly root: string;
  readonly binDir: string;
  readonly confDir: string;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly mtu: string;
  readonly cniVersion: string;
  readonly pluginsFrom: string;
}

interface ListOptions {
  readonly root: string;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly mtuBytes: number;
  readonly cniVersion: string;
  readonly chain: Pick<Chain, "plugins" | "unserved">;
}

/** The configuration list as upstream's manifest has it; `daemon_socket` is ours. */
function networkConfiguration(options: ListOptions): object {
  const { plugins, unserved } = options.chain;
  const root = options.root.replace(/\/+$/, "");
  return {
    name: "k8s-pod-network",
    cniVersion: options.cniVersion,
    plugins: [
      {
        type: "calico",
        daemon_socket: `${root}/var/run/calico/cni.sock`,
        nodename_file: `${root}/var/lib/calico/nodename`,
        mtu: options.mtuBytes,
        ipam: { type: "calico-ipam", assign_ipv4: String(options.ipv4), assign_ipv6: String(options.ipv6) },
        ...(unserved.length === 0 ? {} : { capabilities: Object.fromEntries(unserved.map((capability) => [capability, true])) }),
      },
      ...plugins,
    ],
  };
}

export async function runCniCommand(args: readonly string[], environment: Readonly<Record<string, string | undefined>>): Promise<number> {
  const program = new Command("calico cni").exitOverride();
  let exitCode = 0;
  program
    .command("install")
    .description("Put the CNI plugins and their configuration in place. May be repeated.")
    .option("--root <dir>", "root directory of the node's files", "/")
    .option("--bin-dir <dir>", "where the container runtime looks for plugins", "/opt/cni/bin")
    .option("--conf-dir <dir>", "where the container runtime looks for network configuration", "/etc/cni/net.d")
    .option("--mtu <bytes>", "MTU of pods; 0 is automatic", "0")
    // containerd 1 refuses results of 1.1.0; containerd 2 asks STATUS of it only from 1.1.0 on.
    .option("--cni-version <version>", `version of the configuration: ${SUPPORTED_VERSIONS.join(", ")}`, "1.0.0")
    .option("--plugins-from <dir>", "where portmap and bandwidth are copied from unless --bin-dir has them", "/usr/lib/cni")
    .option("--ipv6", "also assign an IPv6 address to each pod", false)
    .option("--no-ipv4", "assign no IPv4 address")
    .action(async (options: InstallOptions) => {
      try {
        exitCode = await install(options, (environment["PATH"] ?? "").split(":"));
      } catch (error) {
        if (!isSystemError(error)) throw error;
        writeStderr(`calico cni install: ${error.message}\n`);
        exitCode = 1;
      }
    });
  try {
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : 2;
  }
  return exitCode;
}

/** `path`: directories of programs. */
async function install(options: InstallOptions, path: readonly string[]): Promise<number> {
  const mtuBytes = Number(options.mtu);
  if (!Number.isInteger(mtuBytes) || mtuBytes < 0 || mtuBytes > 65535) {
    writeStderr(`calico cni install: --mtu is ${JSON.stringify(options.mtu)}, must be an integer from 0 to 65535\n`);
    return 2;
  }
  if (!isSupported(options.cniVersion)) {
    writeStderr(`calico cni install: --cni-version is ${JSON.stringify(options.cniVersion)}, must be one of ${SUPPORTED_VERSIONS.join(", ")}\n`);
    return 2;
  }
  const files = openFiles();
  await files.makeDirectory(options.binDir);
  await files.makeDirectory(options.confDir);
  // The reference plugin starts faster than ours: whoever has it keeps it.
  const loopback = await installUnlessForeign(options.binDir, "loopback", "calico");
  await installLinks(options.binDir, ["calico", "calico-ipam"]);
  const { cniVersion, binDir } = options;
  const chain = await findChain({ files, processes: openProcesses(), binDir, source: options.pluginsFrom, cniVersion, path });
  const configuration = networkConfiguration({ root: options.root, ipv4: options.ipv4, ipv6: options.ipv6, mtuBytes, cniVersion, chain });
  await files.writeText(`${options.confDir}/10-calico.conflist`, `${JSON.stringify(configuration, undefined, 2)}\n`, 0o644);
  const what = loopback ? `calico, calico-ipam and loopback in ${options.binDir}` : `calico and calico-ipam in ${options.binDir}, kept the loopback that is there`;
  writeStdout(`installed ${what}, network configuration in ${options.confDir}/10-calico.conflist\n`);
  for (const note of chain.notes) writeStdout(`${note}\n`);
  return 0;
}

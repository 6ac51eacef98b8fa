/** install: `calico cni install`: installs the plugins and their network configuration where the container runtime looks. */
import { installLinks, installUnlessForeign, writeStdout } from "../host/bun/install.ts";
import { openFiles } from "../host/bun/files.ts";
import { openProcesses } from "../host/bun/processes.ts";
import { FileError } from "../host/files.ts";
import { newProgram, runProgram, subcommandOf, UsageError } from "../lib/command-line.ts";
import { type Chain, findChain } from "./chain.ts";
import { isSupported, SUPPORTED_VERSIONS } from "./versions.ts";

interface InstallOptions extends Directories {
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
        ...(unserved.length === 0
          ? {}
          : { capabilities: Object.fromEntries(unserved.map((capability) => [capability, true])) }),
      },
      ...plugins,
    ],
  };
}

export function runCniCommand(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const program = newProgram("calico cni", "The CNI plugins on this node.");
  subcommandOf(program, "install", "Put the CNI plugins and their configuration in place. May be repeated.")
    .option(
      "--root <dir>",
      "directory below which all files of the node lie (CALICO_ROOT)",
      environment["CALICO_ROOT"] ?? "/",
    )
    .option("--bin-dir <dir>", "where the container runtime looks for plugins (default: opt/cni/bin below the root)")
    .option(
      "--conf-dir <dir>",
      "where the container runtime looks for network configuration (default: etc/cni/net.d below the root)",
    )
    .option("--mtu <bytes>", "MTU of pods; 0 is automatic", "0")
    // containerd 1 refuses results of 1.1.0; containerd 2 calls STATUS only from 1.1.0 on.
    .option("--cni-version <version>", `version of the configuration: ${SUPPORTED_VERSIONS.join(", ")}`, "1.0.0")
    .option(
      "--plugins-from <dir>",
      "where portmap and bandwidth are copied from unless --bin-dir has them",
      "/usr/lib/cni",
    )
    .option("--ipv6", "also assign an IPv6 address to each pod", false)
    .option("--no-ipv4", "assign no IPv4 address")
    .action((options: InstallOptions) => install(options, (environment["PATH"] ?? "").split(":")));
  subcommandOf(program, "uninstall", "Remove what install has put in place, but for plugins that others may use.")
    .option(
      "--root <dir>",
      "directory below which all files of the node lie (CALICO_ROOT)",
      environment["CALICO_ROOT"] ?? "/",
    )
    .option("--bin-dir <dir>", "where the plugins are (default: opt/cni/bin below the root)")
    .option("--conf-dir <dir>", "where the network configuration is (default: etc/cni/net.d below the root)")
    .action(uninstall);
  return runProgram(program, args, (error) => error instanceof FileError);
}

const PLUGINS = ["calico", "calico-ipam"];
const CONFIGURATION = "10-calico.conflist";

interface Directories {
  readonly root: string;
  readonly binDir?: string;
  readonly confDir?: string;
}

function directoriesOf({ root, binDir, confDir }: Directories): { readonly binDir: string; readonly confDir: string } {
  const below = (directory: string): string => `${root.replace(/\/+$/, "")}/${directory}`;
  return { binDir: binDir ?? below("opt/cni/bin"), confDir: confDir ?? below("etc/cni/net.d") };
}

/** The configuration first, so that nobody calls a plugin that is gone. */
async function uninstall(options: Directories): Promise<void> {
  const { binDir, confDir } = directoriesOf(options);
  const files = openFiles();
  for (const path of [`${confDir}/${CONFIGURATION}`, ...PLUGINS.map((name) => `${binDir}/${name}`)])
    await files.remove(path);
  writeStdout(`removed ${PLUGINS.join(" and ")} in ${binDir}, and ${confDir}/${CONFIGURATION}\n`);
}

/** `path`: directories of programs. */
async function install(options: InstallOptions, path: readonly string[]): Promise<void> {
  const mtuBytes = Number(options.mtu);
  if (!Number.isInteger(mtuBytes) || mtuBytes < 0 || mtuBytes > 65535) {
    throw new UsageError(`--mtu is ${JSON.stringify(options.mtu)}, must be an integer from 0 to 65535`);
  }
  if (!isSupported(options.cniVersion)) {
    throw new UsageError(
      `--cni-version is ${JSON.stringify(options.cniVersion)}, must be one of ${SUPPORTED_VERSIONS.join(", ")}`,
    );
  }
  const { root, ipv4, ipv6, cniVersion, pluginsFrom: source } = options;
  const { binDir, confDir } = directoriesOf(options);
  const files = openFiles();
  await files.makeDirectory(binDir);
  await files.makeDirectory(confDir);
  // The reference plugin starts faster than ours, so an existing one is kept.
  const loopback = await installUnlessForeign(binDir, "loopback", "calico");
  await installLinks(binDir, PLUGINS);
  const chain = await findChain({ files, processes: openProcesses(), binDir, source, cniVersion, path });
  const configuration = networkConfiguration({ root, ipv4, ipv6, mtuBytes, cniVersion, chain });
  await files.writeText(`${confDir}/${CONFIGURATION}`, `${JSON.stringify(configuration, undefined, 2)}\n`, 0o644);
  const what = loopback
    ? `calico, calico-ipam and loopback in ${binDir}`
    : `calico and calico-ipam in ${binDir}, kept the loopback that is there`;
  writeStdout(`installed ${what}, network configuration in ${confDir}/${CONFIGURATION}\n`);
  for (const note of chain.notes) writeStdout(`${note}\n`);
}

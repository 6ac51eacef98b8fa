/**
 * chain: the reference plugins that follow ours in upstream's list: portmap implements the host ports of pods, bandwidth limits their rates.
 *
 * Each is used from the directory of plugins if it is there, or else copied into it from where the distribution installs it, and must
 * support the version of the list: a runtime would refuse every pod for one that does not.
 */
import type { Files } from "../host/files.ts";
import type { Processes } from "../host/processes.ts";

export interface Chain {
  /** Entries of the configuration list, after ours. */
  readonly plugins: readonly object[];
  /** Capabilities that no plugin in the list serves: ours declares them, so that a pod that needs them gets a report. */
  readonly unserved: readonly string[];
  /** Messages for the operator, one line each. */
  readonly notes: readonly string[];
}

export interface ChainOptions {
  readonly files: Pick<Files, "exists" | "copy">;
  readonly processes: Processes;
  /** Where the container runtime looks for plugins. */
  readonly binDir: string;
  /** Where the distribution installs them. */
  readonly source: string;
  readonly cniVersion: string;
  /** Directories of programs. */
  readonly path: readonly string[];
}

const CHAINED = [
  { type: "portmap", serves: "host ports", capability: "portMappings", settings: { snat: true } },
  { type: "bandwidth", serves: "bandwidth limits", capability: "bandwidth", settings: {} },
] as const;

const ANSWER_MS = 5_000;

export async function findChain(options: ChainOptions): Promise<Chain> {
  const plugins: object[] = [];
  const unserved: string[] = [];
  const notes: string[] = [];
  for (const { type, serves, capability, settings } of CHAINED) {
    const why = await whyNot(type, options);
    if (why === undefined) {
      plugins.push({ type, ...settings, capabilities: { [capability]: true } });
      notes.push(`${type} comes after it and serves ${serves}`);
    } else {
      unserved.push(capability);
      notes.push(`left out ${type} (${serves}): ${why}`);
    }
  }
  const firewall = await Promise.all(options.path.map((directory) => options.files.exists(`${directory}/iptables`)));
  if (!unserved.includes("portMappings") && !firewall.includes(true))
    notes.push("portmap needs iptables, which is not on PATH here: a pod with a host port will not start without it");
  return { plugins, unserved, notes };
}

/** Installs the plugin if necessary; returns why it cannot be used, or undefined. */
async function whyNot(
  type: string,
  { files, processes, binDir, source, cniVersion }: ChainOptions,
): Promise<string | undefined> {
  const path = `${binDir}/${type}`;
  if (!(await files.exists(path))) {
    if (!(await files.exists(`${source}/${type}`)))
      return `it is neither in ${binDir} nor in ${source}; Debian's package containernetworking-plugins has it`;
    await files.copy(`${source}/${type}`, path, 0o755);
  }
  const versions = await askVersions(path, processes);
  if (versions === undefined) return "it does not answer VERSION";
  return versions.includes(cniVersion) ? undefined : `it speaks ${versions.join(", ")}, not ${cniVersion}`;
}

async function askVersions(path: string, processes: Processes): Promise<readonly string[] | undefined> {
  try {
    const { exitCode, stdout } = await processes.run([path], {
      input: "{}",
      environment: { CNI_COMMAND: "VERSION" },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const { supportedVersions } = JSON.parse(stdout) as { supportedVersions?: unknown };
    return exitCode === 0 && Array.isArray(supportedVersions) ? supportedVersions.map(String) : undefined;
  } catch {
    // It cannot be executed, its output is not JSON, or it did not answer in time.
    return undefined;
  }
}

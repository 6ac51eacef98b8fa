/** versions: the CNI specification versions that the plugin supports, and results in the format of each. */
import type { CniResult } from "../podnet/protocol.ts";

export const SUPPORTED_VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

export function isSupported(version: string): boolean {
  return SUPPORTED_VERSIONS.some((supported) => supported === version);
}

/** The result as that version prints it: before 1.0.0 each address names its family; `mtu` of an interface came with 1.1.0. */
export function formatResult(result: CniResult, version: string): object {
  const old = version.startsWith("0.");
  return {
    cniVersion: version,
    interfaces: result.interfaces.map(({ mtu, ...rest }) =>
      version === "1.1.0" && mtu !== undefined ? { ...rest, mtu } : rest,
    ),
    ips: result.ips.map((ip) => (old ? { version: ip.address.includes(":") ? "6" : "4", ...ip } : ip)),
    routes: result.routes,
    dns: result.dns,
  };
}

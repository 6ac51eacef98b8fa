/** names: services of a domain, asked of the machine's name servers. */
import { Resolver } from "node:dns/promises";
import { NameError, type ServiceHosts } from "../names.ts";

/** A name server that does not answer delays the start of a program. */
const OPTIONS = { timeout: 3_000, tries: 2 };
/** There is no such name, or it has no records of the kind. */
const NONE: readonly string[] = ["ENOTFOUND", "ENODATA", "NXDOMAIN"];

/** `servers`: other than the machine's, as `127.0.0.1:53`. */
export function openServiceHosts(servers: readonly string[] = []): ServiceHosts {
  return async (name) => {
    const resolver = new Resolver(OPTIONS);
    if (servers.length > 0) resolver.setServers(servers);
    try {
      const records = await resolver.resolveSrv(name);
      return [...records]
        .sort((a, b) => a.priority - b.priority || b.weight - a.weight)
        .map(({ name: host, port }) => ({ host: host.replace(/\.$/, ""), port }));
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      if (NONE.includes(code.replace(/^DNS_/, ""))) return [];
      throw new NameError(name, error instanceof Error ? error.message : String(error));
    }
  };
}

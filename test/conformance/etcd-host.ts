/** etcd-host: an etcd of this machine that a network namespace reaches over a link of its own, by TLS with a client certificate. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEtcdStore, type EtcdStore } from "../../src/datastore/etcd/store.ts";
import { Proxy } from "../datastore/proxy.ts";
import { answering, dependencies, Etcd, makeParties } from "../datastore/servers.ts";
import { execute } from "./fixture.ts";

export interface EtcdHost {
  readonly etcd: Etcd;
  /** What the namespace reaches. */
  readonly proxy: Proxy;
  /** Reaches etcd itself. */
  readonly store: EtcdStore;
  /** For `calico node` and `calicoctl`. */
  readonly environment: Readonly<Record<string, string>>;
  /** The client's key, which no output may have. */
  readonly secret: string;
  close(): Promise<void>;
}

/** `name`: of the test's names; its last six characters are hexadecimal. The namespace gets an interface of that name. */
export async function openEtcdHost(name: string, netns: string, device: string): Promise<EtcdHost> {
  const directory = mkdtempSync(join(tmpdir(), "calico-etcd-host-"));
  const must = async (...command: readonly string[]): Promise<void> => {
    const { exitCode, stderr } = await execute(command);
    if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  };
  // A prefix of its own, so that runs beside this one do not meet it.
  const prefix = `fd${name.slice(-6, -4)}:${name.slice(-4)}`;
  const uplink = `c${name.slice(-6)}`;
  await must("ip", "link", "add", uplink, "type", "veth", "peer", "name", device, "netns", netns);
  await must("ip", "-n", netns, "addr", "add", `${prefix}::2/64`, "dev", device, "nodad");
  await must("ip", "-n", netns, "link", "set", device, "up");
  await must("ip", "addr", "add", `${prefix}::1/64`, "dev", uplink, "nodad");
  await must("ip", "link", "set", uplink, "up");
  const { server, client } = makeParties(directory, ["127.0.0.1", `${prefix}::1`]);
  const etcd = new Etcd(server);
  await etcd.start();
  const proxy = new Proxy(etcd.port, `${prefix}::1`);
  await proxy.start();
  const read = (path: string): string => readFileSync(path, "utf8");
  const tls = { ca: read(client.ca), cert: read(client.cert), key: read(client.key) };
  const store = openEtcdStore({ endpoints: [etcd.endpoint], tls }, dependencies);
  await answering(store);
  return {
    etcd,
    proxy,
    store,
    secret: tls.key.split("\n")[1] ?? "",
    environment: {
      DATASTORE_TYPE: "etcdv3",
      ETCD_ENDPOINTS: `https://[${prefix}::1]:${proxy.port}`,
      ETCD_CA_CERT_FILE: client.ca,
      ETCD_CERT_FILE: client.cert,
      ETCD_KEY_FILE: client.key,
    },
    close: async () => {
      await store.close();
      await proxy.stop();
      await etcd.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** forward: forwards the nodes' connections from the API's address on the fabric to the API server on this machine's loopback. */
import { connect, createServer, type Server } from "node:net";
import { inNetworkNamespace } from "../netns/namespace.ts";
import { openSys } from "../../src/host/bun/sys.ts";
import { hostPort } from "./control-plane.ts";
import { type Layout, API_PORT, netnsPath } from "./layout.ts";

/** Runs until the process ends. Rejects when it cannot listen on the address. */
export async function forward(layout: Layout): Promise<never> {
  const port = hostPort(layout);
  const server = createServer({ noDelay: true }, (incoming) => {
    const outgoing = connect({ host: "127.0.0.1", port, noDelay: true });
    // The end of either side, normal or not, ends both.
    incoming.on("error", () => outgoing.destroy()).on("close", () => outgoing.destroy());
    outgoing.on("error", () => incoming.destroy()).on("close", () => incoming.destroy());
    incoming.pipe(outgoing).pipe(incoming);
  });
  await listenIn(server, netnsPath(layout.fabricNetns), layout.apiHost);
  console.log(`forwarding ${layout.apiAddress} to 127.0.0.1:${port}`);
  return new Promise<never>(() => undefined);
}

function listenIn(server: Server, namespace: string, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject).once("listening", resolve);
    inNetworkNamespace(openSys(), namespace, () => server.listen(API_PORT, host));
  });
}

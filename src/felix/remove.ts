/**
 * remove: takes from a node what its daemon has put there, in the kernel and on the disk: `calico node --remove`. While a daemon runs, or a pod that
 * it has wired is there, nothing is touched: without rules the pod would be open.
 */
import { type Backend, backendsOf } from "../dataplane/backends.ts";
import { awaitSteps } from "../dataplane/driver.ts";
import { ROUTE_PROTOCOL } from "../dataplane/routes/rows.ts";
import type { Host } from "../host/host.ts";
import { SocketError } from "../host/sockets.ts";
import { ENOENT, KernelError } from "../kernel/errno.ts";
import { canOwnTables } from "../kernel/nftables/client.ts";
import { MAIN_TABLE, RouteClient } from "../kernel/route/client.ts";
import type { Report } from "../lib/report.ts";
import { formatName } from "../model/key.ts";
import { removeGateway } from "../podnet/gateway.ts";
import { REMOVED_GROUP } from "../podnet/podnet.ts";
import { type Attachment, isWired, readAttachments } from "./journal.ts";
import { type NodePaths, nodePaths } from "./paths.ts";
import { readFamilies } from "./sysctls.ts";

export interface RemoveOptions {
  /** All files of the node are below this directory. */
  readonly root: string;
  readonly host: Pick<Host, "sys" | "clock" | "processes" | "files" | "sockets">;
  readonly report: Report;
  /** bpf/path.o. */
  readonly bpfObject: () => Uint8Array;
}

export interface Removal {
  /** A line for each thing: what became of it. */
  readonly lines: readonly string[];
  /** Nothing is left that could not be removed. */
  readonly isComplete: boolean;
}

/** The node is in use. */
export class InUseError extends Error {
  override readonly name = "InUseError";
}

/** May be repeated. Rejects with InUseError, SocketError where it cannot be told whether a daemon runs, FileError, or KernelError where links and routes cannot be read. */
export async function removeNode(options: RemoveOptions): Promise<Removal> {
  const { host, root, report } = options;
  const paths = nodePaths(root);
  await refuseWhileRunning(host, paths);
  const routes = new RouteClient(host.sys);
  try {
    const attachments = await readAttachments(host.files, paths.journal, report);
    refuseWhileWired(attachments, routes);
    const lines: string[] = [];
    let isComplete = true;
    for (const backend of backendsIn(options)) {
      const why = await removeBackend(backend);
      if (why !== undefined) isComplete = false;
      lines.push(`${backend.name}: ${why === undefined ? "nothing of Calico is left" : `not removed: ${why}`}`);
    }
    lines.push(...removeLinks(routes), ...(await removeFiles(host, paths, attachments)));
    return { lines, isComplete };
  } finally {
    routes.close();
  }
}

const NOBODY_LISTENS: ReadonlySet<string> = new Set(["ENOENT", "ECONNREFUSED"]);

async function refuseWhileRunning({ sockets }: RemoveOptions["host"], { cniSocket }: NodePaths): Promise<void> {
  try {
    (await sockets.connect(cniSocket)).end();
  } catch (error) {
    if (error instanceof SocketError && NOBODY_LISTENS.has(error.code)) return;
    throw error;
  }
  throw new InUseError(`calico node runs here (it answers at ${cniSocket}): stop it first`);
}

/** Throws InUseError, or KernelError. */
function refuseWhileWired(attachments: readonly Attachment[], routes: RouteClient): void {
  const wired = attachments.filter(
    (attachment) => isWired(attachment) && routes.linkByName(attachment.record.interface) !== undefined,
  );
  if (wired.length === 0) return;
  const [first, ...others] = wired.map(({ record }) => `${formatName(record.pod)} (${record.interface})`);
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  throw new InUseError(
    `pods of Calico are on this node: ${first}${more}: drain it first, they would be without policy`,
  );
}

function backendsIn({ host, root, report, bpfObject }: RemoveOptions): readonly Backend[] {
  const { sys, clock, processes, files } = host;
  return backendsOf({
    sys,
    clock,
    processes,
    families: readFamilies(sys),
    ownsTable: canOwnTables(sys),
    report,
    ebpf: { files, object: bpfObject, pins: nodePaths(root).pins },
  });
}

/** Why it could not, in words. */
async function removeBackend(backend: Backend): Promise<string | undefined> {
  let driver: ReturnType<Backend["open"]> | undefined;
  try {
    driver = backend.open();
    await awaitSteps(driver.removing(false));
    await backend.sweep?.(false);
    return undefined;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    // A program that is not there has left nothing that it could take out.
    return error.errno === ENOENT ? undefined : error.message;
  } finally {
    driver?.close();
  }
}

/** Routes to pods and blocks of this node, host ends of pods that are gone, and the pair to which the pods' gateway leads. */
function removeLinks(routes: RouteClient): readonly string[] {
  const own = routes.routes({ table: MAIN_TABLE }).filter(({ protocol }) => protocol === ROUTE_PROTOCOL);
  for (const route of own) routes.deleteRoute(route);
  routes.deleteLinkGroup(REMOVED_GROUP);
  removeGateway(routes);
  return [`routes of protocol ${ROUTE_PROTOCOL}: ${own.length} removed`, "caligateway: nothing is left"];
}

async function removeFiles(
  { files }: RemoveOptions["host"],
  paths: NodePaths,
  attachments: readonly Attachment[],
): Promise<readonly string[]> {
  const { cniSocket, journal, nodename, birdConfiguration, birdFront } = paths;
  for (const name of await files.list(journal)) await files.remove(`${journal}/${name}`);
  const own = [cniSocket, nodename, birdConfiguration, birdFront];
  for (const path of own) await files.remove(path);
  const lost = attachments.filter(({ state }) => state === "releasing").flatMap(({ record }) => record.addresses);
  const removed = `${[journal, ...own].join(", ")}: nothing is left`;
  if (lost.length === 0) return [removed];
  return [removed, `addresses that the datastore did not take back before: ${lost.join(", ")}`];
}

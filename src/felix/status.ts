/** status: what a running daemon says of itself (`/status` of health), for people or as it is. */
import { SocketError, type Sockets } from "../host/sockets.ts";

const TIMEOUT_MS = 5_000;

/** Of `/status`, what is shown. */
interface NodeStatus {
  readonly datastore: string;
  readonly inSync: boolean;
  readonly datastoreErrors: readonly string[];
  readonly endpoints: readonly string[];
  readonly withoutEffect: readonly string[];
  /** What else on the node may drop what policy allows. */
  readonly others?: readonly string[];
  readonly flows?: "kept" | { readonly cut: number; readonly error?: string };
  readonly drivers: readonly {
    readonly name: string;
    readonly pending: number;
    readonly error?: string;
    readonly rows: readonly {
      readonly row: string;
      readonly state: string;
      readonly error: string;
      readonly since: string;
      readonly attempts: number;
    }[];
  }[];
}

export interface StatusAnswer {
  /** With a line end. */
  readonly text: string;
  /** In sync, and everything is programmed. */
  readonly isWell: boolean;
}

/** Rejects with SocketError when no daemon answers there. */
export async function readStatus(
  sockets: Pick<Sockets, "fetch">,
  { host, port }: { readonly host: string; readonly port: number },
  asJson: boolean,
): Promise<StatusAnswer> {
  const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  let body: string;
  let others: readonly string[];
  try {
    const ask = (path: string): Promise<Response> =>
      sockets.fetch(`http://${address}${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    body = await (await ask("/status")).text();
    others = await readOthers(await ask("/others"));
  } catch (error) {
    throw new SocketError("ask the daemon at", address, error instanceof Error ? error.message : String(error));
  }
  const decoded = decodeStatus(body);
  const status = decoded && { ...decoded, others };
  if (status === undefined) throw new SocketError("ask the daemon at", address, "the answer is not a status");
  const flowsError = typeof status.flows === "object" ? status.flows.error : undefined;
  const isWell =
    status.inSync &&
    flowsError === undefined &&
    status.drivers.every(({ error, rows }) => error === undefined && rows.length === 0);
  return { text: asJson ? `${JSON.stringify(status, null, 2)}\n` : formatStatus(status), isWell };
}

async function readOthers(answer: Response): Promise<readonly string[]> {
  const text = await answer.text();
  return answer.ok ? (JSON.parse(text) as readonly string[]) : [`not known: ${text.trim()}`];
}

function decodeStatus(body: string): NodeStatus | undefined {
  try {
    const value = JSON.parse(body) as NodeStatus;
    return typeof value.datastore === "string" && Array.isArray(value.drivers) ? value : undefined;
  } catch {
    return undefined;
  }
}

function formatStatus({
  datastore,
  drivers,
  datastoreErrors,
  endpoints,
  withoutEffect,
  others = [],
  flows,
}: NodeStatus): string {
  const lines = [`datastore: ${datastore}`, ...datastoreErrors.map((error) => `  ${error}`)];
  lines.push(`endpoints: ${endpoints.length}`);
  for (const { name, pending, error, rows } of drivers) {
    const state = error ?? (pending === 0 ? "the kernel agrees" : `${pending} rows differ from the kernel`);
    lines.push(`${name}: ${state}`);
    for (const row of rows) {
      const attempts = row.attempts === 0 ? "" : ` (${row.attempts} ${row.attempts === 1 ? "attempt" : "attempts"})`;
      lines.push(`  ${row.row} ${row.state} since ${row.since}${attempts}: ${row.error}`);
    }
  }
  if (flows === "kept") lines.push("established flows: kept when policy denies them");
  else if (flows !== undefined)
    lines.push(`established flows: ${flows.error ?? `${flows.cut} cut because policy denies them`}`);
  for (const setting of withoutEffect) lines.push(`without effect: ${setting}`);
  for (const other of others) lines.push(`others: ${other}`);
  return `${lines.join("\n")}\n`;
}

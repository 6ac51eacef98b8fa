/**
 * webhooks: `calico webhooks`: serves admission reviews over HTTPS to an API server that does not validate Calico's kinds by itself, and
 * prints the configuration that makes the API server ask.
 *
 * Certificate and key are read again when they change, so that whoever renews them need not restart anything.
 */
import pino from "pino";
import { openKubernetesStore } from "../datastore/kubernetes/store.ts";
import { kubernetesCredentials } from "../datastore/kubernetes/credentials.ts";
import type { Store } from "../datastore/store.ts";
import { FileError, type Files } from "../host/files.ts";
import { openHost } from "../host/bun/host.ts";
import { writeStdout } from "../host/bun/install.ts";
import { onTermination } from "../host/bun/termination.ts";
import type { Clock } from "../host/clock.ts";
import type { Listener, Sockets } from "../host/sockets.ts";
import { newProgram, numberIn, runProgram, UsageError } from "../lib/command-line.ts";
import type { Report } from "../lib/report.ts";
import { formatParseError } from "../lib/result.ts";
import { type Kind, KINDS } from "../model/kind.ts";
import { VALIDATORS } from "../model/kinds/validation/validators.ts";
import { review } from "./review.ts";

interface CommandOptions {
  readonly host: string;
  readonly port: string;
  readonly kubeconfig: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly printConfiguration: boolean | undefined;
  readonly url: string | undefined;
  readonly caFile: string | undefined;
}

const PATH = "/admission";
const RENEWAL_MS = 30_000;

export async function runWebhooksCommand(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const program = newProgram(
    "calico webhooks",
    "Serve admission of Calico's kinds to a Kubernetes API server, over HTTPS.",
  )
    .option("--host <address>", "address to listen on", "0.0.0.0")
    .option("--port <port>", "port to listen on; 0 picks a free one", "6443")
    .option("--kubeconfig <file>", "how to reach the API; default: the service account of the pod")
    .option("--cert-file <file>", "certificate, PEM; read again when it changes")
    .option("--key-file <file>", "its key, PEM")
    .option("--print-configuration", "print the ValidatingWebhookConfiguration for --url, and end")
    .option("--url <url>", "with --print-configuration: where the API server reaches this server, https://HOST:PORT")
    .option("--ca-file <file>", "with --print-configuration: the authority of the certificate, PEM");
  return runProgram(
    program.action((options: CommandOptions) =>
      options.printConfiguration === true ? printConfiguration(options) : run(options, environment),
    ),
    args,
    (error) => error instanceof FileError || error instanceof IdentityError,
  );
}

async function printConfiguration({ url, caFile }: CommandOptions): Promise<void> {
  if (url === undefined || !/^https:\/\/[^/]+$/.test(url))
    throw new UsageError(`--url is ${JSON.stringify(url ?? "")}, must be https://HOST:PORT`);
  if (caFile === undefined) throw new UsageError("--ca-file is missing: without it the API server trusts nobody");
  const authority = await readExisting(openHost().files, "--ca-file", caFile);
  writeStdout(`${JSON.stringify(webhookConfiguration(url, authority), null, 2)}\n`);
}

/**
 * What makes an API server ask. When the server does not answer, objects are taken: nodes close what an invalid policy selects, and an
 * operator must be able to change policy while the server is away.
 */
export function webhookConfiguration(url: string, authority: string): object {
  const kinds = Object.keys(VALIDATORS) as Kind[];
  const rules = kinds.map((kind) => {
    const [group, version] = KINDS[kind].apiVersion.split("/");
    return {
      apiGroups: [group],
      apiVersions: [version],
      operations: kind === "Tier" ? ["CREATE", "UPDATE", "DELETE"] : ["CREATE", "UPDATE"],
      resources: [KINDS[kind].plural],
    };
  });
  return {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name: "calico" },
    webhooks: [
      {
        name: "policy.projectcalico.org",
        clientConfig: { url: `${url}${PATH}`, caBundle: Buffer.from(authority).toString("base64") },
        rules,
        admissionReviewVersions: ["v1"],
        sideEffects: "None",
        failurePolicy: "Ignore",
        timeoutSeconds: 5,
      },
    ],
  };
}

async function run(
  { host: address, port, kubeconfig, certFile, keyFile }: CommandOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  if (certFile === undefined || keyFile === undefined)
    throw new UsageError("--cert-file and --key-file are needed: API servers ask over HTTPS alone");
  const host = openHost();
  const { files, sockets, clock } = host;
  const credentials = await kubernetesCredentials(kubeconfig, files, environment);
  if (!credentials.ok)
    throw new UsageError(`no credentials for the Kubernetes API: ${formatParseError(credentials.error)}`);
  const store = openKubernetesStore(credentials.value, host);
  const logger = pino();
  const report: Report = (message, fields) => logger.info(fields, message);
  await serveReviews({
    files,
    sockets,
    clock,
    store,
    address: { host: address, port: numberIn("--port", port, 0, 65535) },
    certFile,
    keyFile,
    report,
    signal: onTermination(),
  });
  await store.close();
}

export interface WebhookOptions {
  readonly files: Pick<Files, "readText">;
  readonly sockets: Pick<Sockets, "serve">;
  readonly clock: Clock;
  readonly store: Pick<Store, "pages" | "get">;
  readonly address: { readonly host: string; readonly port: number };
  readonly certFile: string;
  readonly keyFile: string;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** Until the signal aborts. Rejects when certificate or key cannot be read at first. */
export async function serveReviews(options: WebhookOptions): Promise<void> {
  const { clock, signal, report } = options;
  let tls = await readIdentity(options);
  let listener = await listen(options, tls);
  report("serving admission reviews", { host: options.address.host, port: listener.port });
  while (!signal.aborted) {
    await clock.sleep(RENEWAL_MS, signal);
    if (signal.aborted) break;
    try {
      const now = await readIdentity(options);
      if (now.cert === tls.cert && now.key === tls.key) continue;
      // What does not serve must not take the place of what does.
      await (await listen({ ...options, address: { ...options.address, port: 0 } }, now)).close();
      await listener.close();
      [tls, listener] = [
        now,
        await listen({ ...options, address: { ...options.address, port: listener.port ?? 0 } }, now),
      ];
      report("certificate and key were renewed", {});
    } catch (error) {
      if (!(error instanceof FileError) && !(error instanceof IdentityError)) throw error;
      report("cannot use certificate and key: going on with the old ones", { error: error.message });
    }
  }
  await listener.close();
}

interface Identity {
  readonly cert: string;
  readonly key: string;
}

async function readIdentity({ files, certFile, keyFile }: WebhookOptions): Promise<Identity> {
  return {
    cert: await readExisting(files, "--cert-file", certFile),
    key: await readExisting(files, "--key-file", keyFile),
  };
}

async function readExisting(files: Pick<Files, "readText">, option: string, path: string): Promise<string> {
  const text = await files.readText(path);
  if (text === undefined) throw new FileError("read", path, `ENOENT (${option})`);
  return text;
}

/** Rejects with IdentityError when certificate and key do not serve. */
async function listen(
  { sockets, store, address, certFile, keyFile }: WebhookOptions,
  tls: Identity,
): Promise<Listener & { readonly port: number | undefined }> {
  try {
    return await sockets.serve(address, (request) => answer(request, store), tls);
  } catch (error) {
    if (!(error instanceof Error) || !/PEM|SSL|X509|key/i.test(error.message)) throw error;
    throw new IdentityError(`${certFile} and ${keyFile} are no certificate in PEM and its key: ${error.message}`);
  }
}

class IdentityError extends Error {
  override readonly name = "IdentityError";
}

async function answer(request: Request, store: Pick<Store, "pages" | "get">): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/readiness") return new Response("ready\n");
  if (pathname !== PATH || request.method !== "POST")
    return new Response(`not found: POST ${PATH}, GET /readiness\n`, { status: 404 });
  let body: unknown;
  try {
    body = await request.json();
  } catch {
    return new Response("the body must be JSON\n", { status: 400 });
  }
  const reviewed = await review(body, store);
  if (!reviewed.ok) return new Response(`${reviewed.error}\n`, { status: 400 });
  return new Response(JSON.stringify(reviewed.body), { headers: { "content-type": "application/json" } });
}

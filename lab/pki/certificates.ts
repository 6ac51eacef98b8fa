/**
 * Certificates: an API server's own authority, serving certificate and admin token, created with `openssl` and stored in the data directory.
 *
 * The serving certificate is renewed when the names or addresses that it must contain change, and after two thirds of its lifetime.
 * The authority outlives every lab; its key and the token stay, so that kubeconfigs stay valid.
 */
import { X509Certificate } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAddr } from "../../src/net/addr.ts";

export interface Credentials {
  /** PEM. */
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
  readonly adminToken: string;
  /** When to call `openCredentials` again, in ms since 1970: it then renews what expires soon. */
  readonly renewAtMs: number;
}

const AUTHORITY_DAYS = "36500";
const SERVING_DAYS = "365";
const AUTHORITY = "/CN=calico-apiserver-ca";
const FIXED_NAMES = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "::1"];

/** Reads the credentials in the directory, creating what is missing or expires soon. Throws with openssl's output when it fails. */
export function openCredentials(directory: string, hosts: readonly string[], nowMs: number): Credentials {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = (name: string): string => join(directory, name);
  if (!existsSync(path("ca.crt"))) {
    openssl([
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      path("ca.key"),
      "-out",
      path("ca.crt.new"),
      "-subj",
      AUTHORITY,
      "-days",
      AUTHORITY_DAYS,
    ]);
    adopt(path("ca.crt"));
    rmSync(path("serving.names"), { force: true });
  } else if (isDue(path("ca.crt"), nowMs)) {
    // With the same name and key, so that clients with the old certificate trust what the new one signs.
    openssl([
      "req",
      "-x509",
      "-key",
      path("ca.key"),
      "-out",
      path("ca.crt.new"),
      "-subj",
      AUTHORITY,
      "-days",
      AUTHORITY_DAYS,
    ]);
    adopt(path("ca.crt"));
  }
  const names = [...new Set([...FIXED_NAMES, ...hosts])].sort();
  const wanted = `subjectAltName=${names.map(alternativeName).join(",")}\nextendedKeyUsage=serverAuth\n`;
  if (!existsSync(path("serving.names")) || readFileSync(path("serving.names"), "utf8") !== wanted)
    makeServing(path, wanted);
  else if (isDue(path("serving.crt"), nowMs)) makeServing(path, wanted);
  if (!existsSync(path("admin.token")))
    writePrivate(path("admin.token"), Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url"));
  for (const name of ["ca.key", "serving.key"]) chmodSync(path(name), 0o600);
  const read = (name: string): string => readFileSync(path(name), "utf8");
  const renewAtMs = Math.min(dueMs(path("ca.crt")), dueMs(path("serving.crt")));
  return {
    authority: read("ca.crt"),
    certificate: read("serving.crt"),
    key: read("serving.key"),
    adminToken: read("admin.token").trim(),
    renewAtMs,
  };
}

function makeServing(path: (name: string) => string, extensions: string): void {
  writePrivate(path("serving.ext"), extensions);
  if (!existsSync(path("serving.key")))
    openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path("serving.key")]);
  openssl(["req", "-new", "-key", path("serving.key"), "-out", path("serving.csr"), "-subj", "/CN=calico-apiserver"]);
  openssl([
    "x509",
    "-req",
    "-in",
    path("serving.csr"),
    "-CA",
    path("ca.crt"),
    "-CAkey",
    path("ca.key"),
    "-CAcreateserial",
    "-out",
    path("serving.crt.new"),
    "-days",
    SERVING_DAYS,
    "-extfile",
    path("serving.ext"),
  ]);
  adopt(path("serving.crt"));
  writePrivate(path("serving.names"), extensions);
}

/** The time after two thirds of the certificate's lifetime. */
function dueMs(path: string): number {
  const { validFrom, validTo } = new X509Certificate(readFileSync(path, "utf8"));
  const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
  return from + ((to - from) * 2) / 3;
}

/** Also when the certificate begins in the future, because the clock was wrong when it was created. */
function isDue(path: string, nowMs: number): boolean {
  const { validFrom } = new X509Certificate(readFileSync(path, "utf8"));
  return nowMs >= dueMs(path) || nowMs < Date.parse(validFrom);
}

/** The complete file is renamed last, so that a crash leaves no partial file. */
function adopt(path: string): void {
  writePrivate(path, readFileSync(`${path}.new`, "utf8"));
  rmSync(`${path}.new`);
}

function writePrivate(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 });
}

function alternativeName(host: string): string {
  return parseAddr(host).ok ? `IP:${host}` : `DNS:${host}`;
}

function openssl(args: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  if (exitCode !== 0)
    throw new Error(`Cannot make certificates: openssl ${args[0]} ended with ${exitCode}: ${stderr.toString().trim()}`);
}

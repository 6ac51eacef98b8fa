/**
 * Certificates: an API server's own authority, serving certificate and admin token, made once with `openssl` and kept in the data directory.
 *
 * The serving certificate is made anew when the names or addresses that it must carry change; the authority and the token stay.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAddr } from "../net/addr.ts";

export interface Credentials {
  /** PEM. */
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
  readonly adminToken: string;
}

const DAYS = "3650";
const FIXED_NAMES = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "::1"];

/** Reads the credentials in the directory, making what is missing. Throws with openssl's words when it fails. */
export function openCredentials(directory: string, hosts: readonly string[]): Credentials {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = (name: string): string => join(directory, name);
  if (!existsSync(path("ca.crt"))) {
    openssl(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path("ca.key"), "-out", path("ca.crt.new"), "-subj", "/CN=calico-apiserver-ca", "-days", DAYS]);
    adopt(path("ca.crt"));
    rmSync(path("serving.names"), { force: true });
  }
  const names = [...new Set([...FIXED_NAMES, ...hosts])].sort();
  const wanted = `subjectAltName=${names.map(alternativeName).join(",")}\nextendedKeyUsage=serverAuth\n`;
  if (!existsSync(path("serving.names")) || readFileSync(path("serving.names"), "utf8") !== wanted) {
    writePrivate(path("serving.ext"), wanted);
    openssl(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path("serving.key"), "-out", path("serving.csr"), "-subj", "/CN=calico-apiserver"]);
    openssl(["x509", "-req", "-in", path("serving.csr"), "-CA", path("ca.crt"), "-CAkey", path("ca.key"), "-CAcreateserial", "-out", path("serving.crt.new"), "-days", DAYS, "-extfile", path("serving.ext")]);
    adopt(path("serving.crt"));
    writePrivate(path("serving.names"), wanted);
  }
  if (!existsSync(path("admin.token"))) writePrivate(path("admin.token"), Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url"));
  for (const name of ["ca.key", "serving.key"]) chmodSync(path(name), 0o600);
  const read = (name: string): string => readFileSync(path(name), "utf8");
  return { authority: read("ca.crt"), certificate: read("serving.crt"), key: read("serving.key"), adminToken: read("admin.token").trim() };
}

/** The finished file takes its name last, so that a crash leaves none that is half written. */
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
  const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args], { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`Cannot make certificates: openssl ${args[0]} ended with ${exitCode}: ${stderr.toString().trim()}`);
}

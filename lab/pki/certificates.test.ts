import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { type Credentials, openCredentials } from "./certificates.ts";

const DAY_MS = 86_400_000;
let directory = "";
let now = 0;

beforeEach(() => {
  directory = mkdtempSync(`${tmpdir()}/certificates-`);
  now = Date.now();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = (days: number, hosts: readonly string[] = ["10.0.0.1"]): Credentials =>
  openCredentials(directory, hosts, now + days * DAY_MS);
const serving = ({ certificate }: Credentials): X509Certificate => new X509Certificate(certificate);

describe("certificates of an API server", () => {
  test("stay while two thirds of their life are not over, and the serving certificate is renewed then", () => {
    const first = open(0);
    expect(Math.round((first.renewAtMs - now) / DAY_MS)).toBe(Math.round((365 * 2) / 3));
    expect(open(243)).toEqual(first);
    const renewed = open(244);
    expect(serving(renewed).serialNumber).not.toBe(serving(first).serialNumber);
    expect({ ...renewed, certificate: "", renewAtMs: 0 }).toEqual({ ...first, certificate: "", renewAtMs: 0 });
    expect(serving(renewed).verify(new X509Certificate(first.authority).publicKey)).toBe(true);
  });

  test("an authority that ends soon is renewed with its key: old kubeconfigs trust what it signs", () => {
    const first = open(0);
    const renewed = open(30_000);
    expect(renewed.authority).not.toBe(first.authority);
    const [before, after] = [new X509Certificate(first.authority), new X509Certificate(renewed.authority)];
    expect([after.subject, after.publicKey.equals(before.publicKey)]).toEqual([before.subject, true]);
    expect(serving(renewed).checkIssued(before)).toBe(true);
    expect(renewed.adminToken).toBe(first.adminToken);
  });

  test("made while the clock was ahead, they are made anew", () => {
    const first = open(0);
    expect(serving(open(-1)).serialNumber).not.toBe(serving(first).serialNumber);
  });

  test("carry new names at once", () => {
    const first = open(0);
    const other = open(0, ["10.0.0.2", "fd00::2"]);
    expect(serving(other).checkIP("10.0.0.2")).toBe("10.0.0.2");
    expect(serving(first).checkIP("10.0.0.2")).toBeUndefined();
  });
});

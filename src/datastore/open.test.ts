/** Which datastore the settings of a file and the environment name, and what an error says of them. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFiles } from "../host/bun/files.ts";
import { NameError, type ServiceHost } from "../host/names.ts";
import type { JsonObject } from "../model/schema/json.ts";
import { datastoreChoice, type Environment } from "./open.ts";

const directory = mkdtempSync(join(tmpdir(), "calico-open-"));
afterAll(() => rmSync(directory, { recursive: true }));

const PEM = "-----BEGIN CERTIFICATE-----\n";
const pem = join(directory, "pem");
const other = join(directory, "other");
writeFileSync(pem, PEM);
writeFileSync(other, "hunter2");

const choice = (environment: Environment, file: JsonObject = {}) =>
  datastoreChoice(file, environment, openFiles(), (name) => {
    if (name.endsWith(".down.example")) return Promise.reject(new NameError(name, "timeout"));
    return Promise.resolve(RECORDS[name] ?? []);
  });
const RECORDS: Readonly<Record<string, readonly ServiceHost[]>> = {
  "_etcd-client-ssl._tcp.example.org": [
    { host: "a.example.org", port: 2379 },
    { host: "b.example.org", port: 2381 },
  ],
  "_etcd-client._tcp.example.org": [{ host: "plain.example.org", port: 2379 }],
  "_etcd-client._tcp.plain.example": [{ host: "c.plain.example", port: 2379 }],
};
const ETCD = { DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: "https://10.0.0.1:2379" };

test.each<[string, Environment, JsonObject, string]>([
  ["nothing", {}, {}, "kubernetes"],
  ["empty variables", { DATASTORE_TYPE: "", ETCD_ENDPOINTS: "" }, {}, "kubernetes"],
  ["endpoints alone", { ETCD_ENDPOINTS: "http://a:2379" }, {}, "etcdv3"],
  ["a type against endpoints", { DATASTORE_TYPE: "kubernetes", ETCD_ENDPOINTS: "http://a:2379" }, {}, "kubernetes"],
  [
    "the variables with a prefix",
    { CALICO_DATASTORE_TYPE: "etcdv3", CALICO_ETCD_ENDPOINTS: "http://a:1" },
    {},
    "etcdv3",
  ],
  ["the file before the environment", ETCD, { datastoreType: "kubernetes" }, "kubernetes"],
  ["endpoints of the file", {}, { etcdEndpoints: "http://a:2379" }, "etcdv3"],
])("%s", async (_, environment, file, type) => {
  expect(await choice(environment, file)).toMatchObject({ ok: true, value: { type } });
});

test("everything about etcd is read: addresses, files, what the file has inline, name and password", async () => {
  const environment = {
    ...ETCD,
    ETCD_ENDPOINTS: "https://10.0.0.1:2379, https://[fd00::1]:2379/",
    ETCD_CA_CERT_FILE: pem,
    ETCD_CERT_FILE: pem,
    ETCD_KEY_FILE: pem,
    ETCD_USERNAME: "root",
    ETCD_PASSWORD: "hunter2",
  };
  const access = {
    endpoints: ["https://10.0.0.1:2379", "https://[fd00::1]:2379/"],
    tls: { ca: PEM, cert: PEM, key: PEM },
    user: { name: "root", password: "hunter2" },
  };
  expect(await choice(environment)).toEqual({ ok: true, value: { type: "etcdv3", access } });
  const inline = { etcdCACert: PEM, etcdCert: PEM, etcdKey: PEM };
  expect(await choice(ETCD, inline)).toMatchObject({ ok: true, value: { access: { tls: access.tls } } });
});

test.each<[string, Environment, JsonObject, string]>([
  ["a type", { DATASTORE_TYPE: "consul" }, {}, 'DATASTORE_TYPE is "consul", must be kubernetes or etcdv3'],
  ["a type of the file", {}, { datastoreType: "etcd" }, 'datastoreType is "etcd", must be kubernetes or etcdv3'],
  [
    "no endpoints",
    { DATASTORE_TYPE: "etcdv3" },
    {},
    "ETCD_ENDPOINTS is not set, must list etcd's addresses, as https://10.0.0.1:2379",
  ],
  [
    "an address with a password",
    { ETCD_ENDPOINTS: "http://root:hunter2@a:1" },
    {},
    "ETCD_ENDPOINTS has an address that is not of the form https://10.0.0.1:2379",
  ],
  [
    "an address without a port",
    { CALICO_ETCD_ENDPOINTS: "https://a" },
    {},
    "CALICO_ETCD_ENDPOINTS has an address that is not of the form https://10.0.0.1:2379",
  ],
  [
    "a file that is missing",
    { ...ETCD, ETCD_CA_CERT_FILE: "/nowhere" },
    {},
    'ETCD_CA_CERT_FILE is "/nowhere", which does not exist',
  ],
  [
    "a file that is no certificate",
    { ...ETCD, ETCD_CA_CERT_FILE: other },
    {},
    `ETCD_CA_CERT_FILE is "${other}", which is not a PEM file`,
  ],
  [
    "half a client certificate",
    { ...ETCD, ETCD_CERT_FILE: pem },
    {},
    "ETCD_CERT_FILE is set, but ETCD_KEY_FILE is not: a client certificate needs both",
  ],
  [
    "inline and a file",
    { ...ETCD, ETCD_KEY_FILE: pem },
    { etcdKey: PEM },
    "etcdKey and ETCD_KEY_FILE exclude each other",
  ],
  [
    "half a login",
    { ...ETCD, ETCD_PASSWORD: "hunter2" },
    {},
    "ETCD_PASSWORD is set, but ETCD_USERNAME is not: a login needs both",
  ],
  [
    "discovery beside endpoints",
    { ...ETCD, ETCD_DISCOVERY_SRV: "example.org" },
    {},
    "ETCD_DISCOVERY_SRV and ETCD_ENDPOINTS exclude each other",
  ],
  [
    "a domain without records",
    { ETCD_DISCOVERY_SRV: "none.example" },
    {},
    'ETCD_DISCOVERY_SRV is "none.example", which has no SRV records _etcd-client-ssl._tcp or _etcd-client._tcp',
  ],
  [
    "a name server that is down",
    {},
    { etcdDiscoverySrv: "x.down.example" },
    'etcdDiscoverySrv is "x.down.example", which cannot be looked up: Cannot look up _etcd-client-ssl._tcp.x.down.example: timeout',
  ],
  ["no domain", { ETCD_DISCOVERY_SRV: "a b" }, {}, 'ETCD_DISCOVERY_SRV is "a b", must be a domain, as example.org'],
])("an error says what is wrong with %s, and no secret", async (_, environment, file, error) => {
  expect(await choice(environment, file)).toEqual({ ok: false, error });
  expect(error).not.toContain("hunter2");
});

test.each([
  ["example.org", ["https://a.example.org:2379", "https://b.example.org:2381"]],
  ["plain.example", ["http://c.plain.example:2379"]],
])("etcd's members by DNS, by TLS alone where some are: %s", async (domain, endpoints) => {
  expect(await choice({ ETCD_DISCOVERY_SRV: domain })).toEqual({
    ok: true,
    value: { type: "etcdv3", access: { endpoints, tls: {} } },
  });
});

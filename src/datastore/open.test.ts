/** Which datastore the settings of a file and the environment name, and what an error says of them. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFiles } from "../host/bun/files.ts";
import type { JsonObject } from "../model/schema/json.ts";
import { datastoreChoice, type Environment } from "./open.ts";

const directory = mkdtempSync(join(tmpdir(), "calico-open-"));
afterAll(() => rmSync(directory, { recursive: true }));

const PEM = "-----BEGIN CERTIFICATE-----\n";
const pem = join(directory, "pem");
const other = join(directory, "other");
writeFileSync(pem, PEM);
writeFileSync(other, "hunter2");

const choice = (environment: Environment, file: JsonObject = {}) => datastoreChoice(file, environment, openFiles());
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
    "discovery",
    { DATASTORE_TYPE: "etcdv3", ETCD_DISCOVERY_SRV: "example.org" },
    {},
    "ETCD_DISCOVERY_SRV is set, but etcd is not looked up by DNS here: list it in ETCD_ENDPOINTS",
  ],
])("an error says what is wrong with %s, and no secret", async (_, environment, file, error) => {
  expect(await choice(environment, file)).toEqual({ ok: false, error });
  expect(error).not.toContain("hunter2");
});

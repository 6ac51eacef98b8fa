import { expect, test } from "bun:test";
import { inClusterAccess, parseKubeconfig } from "./kubeconfig.ts";

const OPTIONS = { directory: "/etc/calico" };

function config(cluster: string, user: string): string {
  return `apiVersion: v1
kind: Config
current-context: here
contexts:
- name: other
  context: { cluster: nowhere, user: nobody }
- name: here
  context: { cluster: lab, user: me }
clusters:
- name: lab
  cluster: { ${cluster} }
users:
- name: me
  user: { ${user} }
`;
}

test.each([
  ["server: 'https://10.0.0.1:6443/'", "token: abc", { server: "https://10.0.0.1:6443", token: "abc" }],
  [
    "server: 'https://[fd00::1]:6443', insecure-skip-tls-verify: true",
    "token: abc",
    { server: "https://[fd00::1]:6443", token: "abc", tls: { insecure: true } },
  ],
  [
    "server: 'https://a', certificate-authority: ca.crt",
    "tokenFile: /run/token, token: old",
    { server: "https://a", tls: { caFile: "/etc/calico/ca.crt" }, tokenFile: "/run/token" },
  ],
  [
    "server: 'https://a', certificate-authority: ignored, certificate-authority-data: Q0E=",
    "client-certificate-data: Q1JU, client-key: pki/me.key",
    { server: "https://a", tls: { ca: "CA", cert: "CRT", keyFile: "/etc/calico/pki/me.key" } },
  ],
  ["server: 'http://a:8080'", "", { server: "http://a:8080" }],
])("cluster {%s} user {%s}", (cluster, user, wanted) => {
  expect(parseKubeconfig(config(cluster, user), OPTIONS)).toEqual({ ok: true, value: wanted });
});

test.each([
  ["server: 'https://a'", "exec: { command: aws }", "exec", "not supported"],
  ["server: 'https://a'", "username: admin", "username", "not supported"],
  ["server: 'https://a', proxy-url: 'http://p'", "token: t", "proxy-url", "not supported"],
  ["server: 'https://a'", "client-certificate-data: Q1JU", "client-certificate", "together"],
  ["server: 'https://a', certificate-authority-data: '%%%'", "token: t", "%%%", "base64"],
  ["server: 'ftp://a'", "token: t", "ftp://a", "URL"],
])("refused: cluster {%s} user {%s}", (cluster, user, found, wanted) => {
  const result = parseKubeconfig(config(cluster, user), OPTIONS);
  if (result.ok) throw new Error("it was accepted");
  expect(result.error.found).toContain(found);
  expect(result.error.wanted).toContain(wanted);
});

test.each([
  ["current-context: x", undefined, "one of contexts"],
  ["{}", undefined, "current-context is missing"],
  ["- a", undefined, "mapping"],
  ["a: [", undefined, "must be YAML"],
  [config("server: 'https://a'", "token: t"), "other", "one of clusters"],
  [config("server: 'https://a'", "token: t"), "third", "one of contexts"],
])("refused: %p in context %p", (text, context, wanted) => {
  const result = parseKubeconfig(text, context === undefined ? OPTIONS : { ...OPTIONS, context });
  if (result.ok) throw new Error("it was accepted");
  expect(result.error.wanted).toContain(wanted);
});

test("inside a pod, both families", () => {
  expect(inClusterAccess({ KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" })).toMatchObject({
    ok: true,
    value: { server: "https://10.96.0.1:443" },
  });
  expect(inClusterAccess({ KUBERNETES_SERVICE_HOST: "fd00::1" })).toMatchObject({
    ok: true,
    value: { server: "https://[fd00::1]:443", tokenFile: expect.stringContaining("/token") },
  });
  expect(inClusterAccess({}).ok).toBe(false);
});

import { expect, test } from "bun:test";
import { type CniRequest, parseRequest } from "./protocol.ts";

const REQUEST: CniRequest = {
  command: "ADD",
  plugin: "calico",
  containerId: "c",
  netns: "/run/netns/n",
  interface: "eth0",
  args: { K8S_POD_NAME: "p" },
  config: { name: "net", mtu: 0 },
};

test("a request is read unchanged; unknown fields are ignored", () => {
  expect(parseRequest(JSON.stringify({ ...REQUEST, more: 1 }))).toEqual({ request: REQUEST });
});

test.each([
  ["{", "request is not one line of JSON"],
  ["null", "request must be an object"],
  ["[]", "request must be an object"],
])("malformed requests are refused with a message: %s", (text, error) => {
  expect(parseRequest(text)).toEqual({ error });
});

test.each([
  ["command", undefined, "request field command is missing, must be one of ADD, DEL, CHECK, STATUS, GC"],
  ["command", "MOVE", 'request field command is "MOVE", must be one of ADD, DEL, CHECK, STATUS, GC'],
  ["command", ["ADD"], 'request field command is ["ADD"], must be one of ADD, DEL, CHECK, STATUS, GC'],
  ["plugin", ["calico"], 'request field plugin is ["calico"], must be one of calico, calico-ipam'],
  ["containerId", 7, "request field containerId is 7, must be a string"],
  ["netns", null, "request field netns is null, must be a string"],
  ["interface", {}, "request field interface is {}, must be a string"],
  ["args", [], "request field args is [], must be an object"],
  ["args", { K8S_POD_NAME: 1 }, "request field args.K8S_POD_NAME is 1, must be a string"],
  ["config", "x", 'request field config is "x", must be an object'],
])("a wrong field is refused by name: %s = %j", (field, value, error) => {
  expect(parseRequest(JSON.stringify({ ...REQUEST, [field]: value }))).toEqual({ error });
});
